"""Reads what the features of a prompt need to know of the index. The only module of the package that sees one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hub.confidence.features import of_prompt, of_search
from hub.confidence.heads import Features
from hub.model import Hit, Prompt
from hub.retrieval import Retrieval
from indexer.index import Index


@dataclass(frozen=True, slots=True)
class Search:
    """What was observed of a search, for any number of prompts made of it."""

    features: Mapping[str, float]
    retrieval: Retrieval
    hits: tuple[Hit, ...]  # offered to the prompt
    chunks: int  # of the tree

    def packed(self, prompt: Prompt | None, budget: int) -> Features:
        """The features of a prompt of at most ``budget`` tokens; without one the first hits stand for it."""
        told = {**self.features, **of_prompt(replace(self.retrieval, hits=self.hits), prompt, budget, self.chunks)}
        return tuple((name, round(value, 4)) for name, value in sorted(told.items()))


def search_observed(index: Index, retrieval: Retrieval) -> Search:
    """What makes observing several prompts of one search cheap: all that they share is observed once."""
    told = of_search(retrieval, index.text.stem_set, index.facts.has)
    return Search(told, retrieval, retrieval.hits, index.text.size())


def observe(index: Index, retrieval: Retrieval, prompt: Prompt | None, budget: int) -> Features:
    """The features of a prompt of at most ``budget`` tokens; without one the first hits stand for it."""
    return search_observed(index, retrieval).packed(prompt, budget)
