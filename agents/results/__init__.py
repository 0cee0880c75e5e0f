"""Outputs of builds and tests as findings: read, looked up in the index, remembered. Knows not how they were run."""

from agents.results.keeping import kept
from agents.results.linking import linked
from agents.results.reading import read, told

__all__ = ["kept", "linked", "read", "told"]
