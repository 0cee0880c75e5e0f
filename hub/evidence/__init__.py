"""What is shown as evidence beyond the first hits: more of them, in pieces of many sizes, and the tree in outline."""

# Hits that are offered to a prompt: one for so many of its tokens, between two bounds. 50 to 200; 20 to 60; 100 to 500.
TOKENS_A_HIT = 80
LEAST_HITS, MOST_HITS = 40, 400


def hits_for(budget: int) -> int:
    """How many hits are offered to a prompt of so many tokens."""
    return min(MOST_HITS, max(LEAST_HITS, budget // TOKENS_A_HIT))
