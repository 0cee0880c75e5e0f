"""Who may do what: keys and their grants, approvals, and a record of what was done. Knows nothing of HTTP."""
