"""Reads what the features of a prompt need to know of the index. The only module of the package that sees one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from hub.confidence.features import of_prompt, of_search
from hub.confidence.heads import Features
from hub.model import Hit, Prompt
from hub.retrieval import Retrieval
from indexer.index import Index

_NAME_CHARS = 100  # texts up to this length, names and titles, come again in other searches; 40 to 200
_MOST_KEPT = 10_000  # of them, about 5 MB

Stems = Callable[[str], frozenset[str]]


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


def stems_of(index: Index) -> Stems:
    """The distinct stems of a text, for one search: it reads each of its texts once, and names that any has read, of
    any state of the tree, not again.
    """
    texts: dict[str, frozenset[str]] = {}
    names = index.shared("stems of names", None, dict[str, frozenset[str]])

    def stems(text: str) -> frozenset[str]:
        known = names if len(text) <= _NAME_CHARS else texts
        found = known.get(text)
        if found is None:
            if len(known) >= _MOST_KEPT:
                known.clear()
            found = known[text] = index.text.stem_set(text)
        return found

    return stems


def search_observed(index: Index, retrieval: Retrieval, stems: Stems | None = None) -> Search:
    """What makes observing several prompts of one search cheap: all that they share is observed once."""
    told = of_search(retrieval, stems or stems_of(index), index.facts.has)
    return Search(told, retrieval, retrieval.hits, index.text.size())


def observe(
    index: Index, retrieval: Retrieval, prompt: Prompt | None, budget: int, stems: Stems | None = None
) -> Features:
    """The features of a prompt of at most ``budget`` tokens; without one the first hits stand for it.

    ``stems`` are those of ``stems_of``, for whoever goes on to read the same texts.
    """
    return search_observed(index, retrieval, stems).packed(prompt, budget)
