"""Which models can be asked with a full load, and what of their window it takes. The same for every question, or the
load would not be.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hub.errors import BackendUnavailable, PromptTooLong, UnsupportedRequest
from hub.fullload.entries import SYSTEM
from hub.fullload.loading import FullLoad, Loader
from hub.fullload.log import Room
from hub.fullload.tree import tree_of
from hub.model import Backend, BackendInfo
from indexer.index import Index

# Tokens, each with its range.
EVIDENCE_TOKENS = 8_192  # evidence and question behind the load; 2K to 32K
EVIDENCE_SHARE = 0.125  # of a window, what these may take at most; 0.05 to 0.3
LEAST_WINDOW = 16_384  # below it a full load shows little that a prompt of evidence does not; 8K to 64K
SPARE_TOKENS = 256  # of a window, for the marks of turns and what is counted otherwise in one piece; 64 to 1,024
LEAST_TOKENS_A_SECOND = 50  # that a model which is asked to read a code base is waited for; 20 to 200

_HINT = "Leave --tier away: the evidence that search finds is read by any model, or quoted without one."


@dataclass(frozen=True, slots=True)
class FullLoads:
    """The full loads of an index, for whichever model is asked; ``loader`` has those of a model by its name.

    Every method raises BackendError for a model that is not there, or cannot read a code base.
    """

    index: Index
    loader: Callable[[str], Loader]
    answer_tokens: int

    def current(self, backend: Backend) -> FullLoad:
        """What to ask with now."""
        return self._loader(backend.info()).current(tree_of(self.index), self._room(backend))

    def prepared(self, backend: Backend) -> FullLoad | None:
        """What to ask with after ``adopt``, shorter where much of the current one no longer holds; None where nothing
        is due.
        """
        return self._loader(backend.info()).prepared(tree_of(self.index), self._room(backend))

    def adopt(self, backend: Backend) -> None:
        """Asks with what was prepared from here on."""
        self._loader(backend.info()).adopt()

    def budget(self, backend: Backend, load: FullLoad) -> int:
        """Tokens of a whole prompt with a load."""
        info = backend.info()
        most = info.context_window - self.answer_tokens - SPARE_TOKENS
        return min(most, backend.count_tokens(SYSTEM) + load.tokens + _evidence_tokens(info))

    def _room(self, backend: Backend) -> Room:
        info = backend.info()
        others = self.answer_tokens + SPARE_TOKENS + _evidence_tokens(info) + backend.count_tokens(SYSTEM)
        return Room(info.context_window - others, backend.count_tokens)

    def _loader(self, info: BackendInfo) -> Loader:
        if not info.writes:
            raise BackendUnavailable("There is no language model to read the whole code base.", _HINT)
        if info.context_window < LEAST_WINDOW:
            raise PromptTooLong(
                f"Tier full needs a window of at least {LEAST_WINDOW} tokens; {info.model} has {info.context_window}.",
                _HINT,
            )
        if info.evidence_first:
            raise UnsupportedRequest(f"{info.model} is too small to answer from a whole code base.", _HINT)
        return self.loader(info.model)


def patience_s(tokens: int) -> float:
    """How long a model may take to read a prompt of so many tokens."""
    return tokens / LEAST_TOKENS_A_SECOND


def _evidence_tokens(info: BackendInfo) -> int:
    return min(EVIDENCE_TOKENS, int(EVIDENCE_SHARE * info.context_window))
