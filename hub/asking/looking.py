"""What is looked up before anything is read: the evidence of a question, and how sure it is. Loads embedders once."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property

from hub.confidence.breadth import breadth_of
from hub.confidence.certifying import ALPHA_OF, Certificate, certificate_for, guarantee
from hub.confidence.heads import Heads
from hub.confidence.observing import observe, stems_of
from hub.confidence.reasons import judge
from hub.confidence.shipped import SHIPPED
from hub.confidence.stored import stored_heads
from hub.model import Confidence, Policy, Prompt, Tier
from hub.retrieval import GLOBAL, Filters, Retrieval, retrieve, stored_weights, understand
from indexer.errors import EmbedderError
from indexer.index import Index
from indexer.model import Embedder


class Looking:
    """The search of one workspace, and the heads that judge it: those given, else the tree's own, else the shipped."""

    def __init__(
        self,
        index: Index,
        embedders: Callable[[], Iterable[Embedder]],
        *,
        adapt: bool,
        heads: Heads | None = None,
    ) -> None:
        self._index = index
        self._make_embedders = embedders
        self._embedders: list[Embedder] | None = None
        self._weights = None if adapt else GLOBAL
        self._given = heads

    def look(self, text: str, limit: int, filters: Filters | None = None) -> Retrieval:
        """The best ``limit`` hits of a question. An embedder that cannot be had costs its arm and leaves a note."""
        embedders, notes = self.embedders()
        with self._index.moment():
            retrieval = retrieve(self._index, understand(text), embedders, limit, self._weights, filters)
        return replace(retrieval, notes=(*notes, *retrieval.notes))

    def version(self) -> tuple[object, ...]:
        """Equal for two searches of one process only while equal questions have equal answers, heads left aside."""
        usable, _ = self.embedders()
        fitted = None if self._weights else stored_weights(self._index)
        return (*self._index.state(), tuple(embedder.name for embedder in usable), fitted)

    def confidence(
        self,
        retrieval: Retrieval,
        prompt: Prompt | None,
        budget: int,
        tier: Tier = Tier.RAG,
        policy: Policy = Policy.BALANCED,
    ) -> Confidence:
        """That a prompt of at most ``budget`` tokens shows the evidence for a right answer; without one, that the
        first hits do.
        """
        stems = stems_of(self._index)
        features = observe(self._index, retrieval, prompt, budget, stems)
        confidence = judge(retrieval, features, self.heads, tier, stems)
        certificate = self._certificate(retrieval, budget, policy)
        return replace(confidence, guarantee=guarantee(certificate, confidence.value)) if certificate else confidence

    def certified(self, retrieval: Retrieval, budget: int, tier: Tier, policy: Policy) -> tuple[float | None, bool]:
        """From which confidence on a prompt is certified, None for none; and whether that was tried."""
        certificate = self._certificate(retrieval, budget, policy)
        if certificate is None:
            return None, False
        threshold = certificate.accept if tier is Tier.RAG else certificate.accept_wide
        return (threshold if certificate.holds and threshold <= 1 else None), True

    @cached_property
    def heads(self) -> Heads:
        """What judges."""
        return self._given or stored_heads(self._index) or SHIPPED

    @property
    def adapted(self) -> bool:
        """Whether these were fitted to this tree."""
        return self.heads is not SHIPPED

    def arithmetic(self, confidence: Confidence) -> tuple[tuple[str, float], ...]:
        """What each feature adds to the log-odds of a confidence, largest first."""
        known = dict(confidence.features)
        parts = [(name, round(weight * known.get(name, 0.0), 3)) for name, weight in self.heads.evidence.weights]
        return tuple(sorted((part for part in parts if part[1]), key=lambda part: (-abs(part[1]), part[0])))

    def embedders(self) -> tuple[Sequence[Embedder], Sequence[str]]:
        """The embedders that can be had and that the index has vectors of; otherwise why not, as a note."""
        known = self._index.table.embedders()
        if not known:
            return [], []
        notes: list[str] = []
        embedders = self._embedders
        if embedders is None:
            embedders = []
            try:
                for embedder in self._make_embedders():
                    embedders.append(embedder)
            except EmbedderError as error:
                which = "vectors of an encoder" if embedders else "vectors"
                notes = [f"Searched without {which}: {error.message} {error.hint}".strip()]
            else:
                self._embedders = embedders
        usable = [embedder for embedder in embedders if embedder.name in known]
        if embedders and not usable:
            names = " or ".join(embedder.name for embedder in embedders)
            notes.append(f"Searched without vectors: there are none of {names}. Run `codehub index`.")
        return usable, notes

    def _certificate(self, retrieval: Retrieval, budget: int, policy: Policy) -> Certificate | None:
        breadth = breadth_of(retrieval.query)
        return certificate_for(self.heads.certificates, breadth.value, budget, ALPHA_OF[policy])
