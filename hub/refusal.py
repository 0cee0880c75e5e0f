"""Why there is no answer: what is missing, what was looked at for it, and what would help. Pure: told, never guessed.

A refusal is worth as much as the way out of it, so that each thing that is missing comes with the names that may have
been meant, and each remedy with the command that applies it. Knows nothing of how anything was decided.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hub.model import Attempt, Confidence, Lack, Missing, Query, Refusal, Remedy, SignalSource, Tier
from hub.prompting import visible
from hub.retrieval import Retrieval

NEAREST = 3  # names that may have been meant, told for each that stands nowhere: 1 to 10
MOST_MISSING = 8  # things named as missing: 3 to 20
LONGEST_NAME = 120  # characters of a missing name or part that are shown: 60 to 400

_VECTORS = frozenset({SignalSource.STATIC, SignalSource.VECTOR})
_DEEP = (Tier.WIDE, Tier.FOCUS, Tier.FULL, Tier.ANALYSIS)
# Words that ask, and need not stand in what is asked about.
_ASKING = frozenset(
    """answer call called caller calls cause caused class code contain defined declared describe do does explain file
    find function happen happens implement implemented list made mean method name show tell used uses work works written
    """.split()
)
_NOUN = {
    Lack.NAME: "the name {} stands nowhere in this tree",
    Lack.WORD: "nothing in this tree says {}",
    Lack.PART: "nothing that was found speaks to: {}",
}


@dataclass(frozen=True, slots=True)
class Situation:
    """How things stand when an answer is refused, as far as it decides what would help."""

    attempts: tuple[Attempt, ...] = ()
    nearest: Callable[[str], Sequence[str]] = lambda _name: ()  # names of the tree like one that it does not have
    unanswered: tuple[str, ...] = ()  # parts of the question that no answer spoke to
    calibrated: bool = False  # whether the confidence was fitted to this tree
    stale: tuple[str, ...] = ()  # files that changed since they were indexed
    writes: bool = True  # whether there is a model that writes
    window: int = 0  # tokens that the model reads at once, 0 where there is none
    tree_tokens: int = 0  # about how many the whole tree has; 0 where it was not counted
    only: Tier | None = None  # the tier that was asked for, None where all were open


def explain(retrieval: Retrieval, confidence: Confidence, situation: Situation) -> Refusal:
    """Everything that can be said about a question without an answer. Equal arguments give an equal refusal."""
    names = [
        Missing(Lack.NAME, _short(name), tuple(dict.fromkeys(map(_short, situation.nearest(name))))[:NEAREST])
        for name in retrieval.unknown
    ]
    unknown = " ".join(retrieval.unknown).lower()  # whose words are no lack of their own
    words = [Missing(Lack.WORD, word) for word in _words_nowhere(retrieval) if word.lower() not in unknown]
    parts = [Missing(Lack.PART, _short(part)) for part in situation.unanswered]
    missing = (*names, *parts, *words)[:MOST_MISSING]
    return Refusal(confidence.reasons, missing, situation.attempts, tuple(_remedies(retrieval, missing, situation)))


def text(refusal: Refusal) -> str:
    """The refusal as a reader sees it; its first line alone says that there is no answer and why."""
    lines = [" ".join(("Not found.", *refusal.reasons))]
    if refusal.missing:
        lines += ["", "Missing:", *(f"- {_missing(missing)}" for missing in refusal.missing)]
    if refusal.looked_at:
        lines += ["", f"Looked at: {'; '.join(map(_looked_at, refusal.looked_at))}."]
    if refusal.remedies:
        lines += ["", "What may help:", *(f"- {_remedy(remedy)}" for remedy in refusal.remedies)]
    return "\n".join(lines)


def _words_nowhere(retrieval: Retrieval) -> list[str]:
    """The words of the question that nothing in the tree holds, in their order."""
    terms = retrieval.wording.terms if retrieval.wording else ()
    return [_short(term.word) for term in terms if not term.holding and term.word not in _ASKING]


def _remedies(retrieval: Retrieval, missing: Sequence[Missing], situation: Situation) -> list[Remedy]:
    remedies = []
    meant = [name for lack in missing for name in lack.nearest]
    if meant:
        remedies.append(Remedy("Ask with a name that the tree has.", f"codehub symbol {_word(meant[0])}"))
    elif any(lack.lack is Lack.NAME for lack in missing):
        remedies.append(Remedy("If the name belongs to generated code or to another library, index that, too."))
    elif not retrieval.query.identifiers and not _pasted(retrieval.query):
        remedies.append(Remedy("Name a function, class or file that the question is about."))
    if situation.stale:
        remedies.append(Remedy("Index again: files have changed since.", "codehub index"))
    if retrieval.unknown and not retrieval.named:
        return remedies  # however much is read, a name that stands nowhere is not found
    if _VECTORS.isdisjoint(retrieval.arms):
        remedies.append(Remedy("Search by meaning as well: there are no vectors yet.", "codehub index"))
    if situation.writes:
        remedies += _deeper(situation)
    elif retrieval.hits:
        remedies.append(Remedy("Let a language model read the evidence: start Ollama, or name a backend."))
    if not situation.calibrated and retrieval.hits:
        remedies.append(Remedy("Fit the confidence to this code base: it is not yet.", "codehub calibrate"))
    return remedies


def _deeper(situation: Situation) -> list[Remedy]:
    """What else could be read, where a model is there to read it."""
    if situation.only is not None:
        return [Remedy(f"Leave --tier away: only {situation.only.value} was tried.")]
    remedies = []
    tried = {attempt.tier for attempt in situation.attempts}
    if tried and not tried & {Tier.FULL, Tier.ANALYSIS}:
        further = next((tier for tier in _DEEP if tier not in tried), Tier.FULL)
        policy = "ask with --policy exhaustive" if further is not Tier.FULL else "ask with --tier full"
        remedies.append(Remedy(f"Have more of it read, which takes longer: {policy}."))
    if situation.tree_tokens > situation.window > 0:
        remedies.append(
            Remedy(
                f"A larger window: the model reads {situation.window:,} tokens at once, "
                f"the whole tree has about {situation.tree_tokens:,}.",
                "codehub extend-context",
            )
        )
    return remedies


def _missing(missing: Missing) -> str:
    said = _NOUN[missing.lack].format(missing.what)
    return f"{said}; near it are {', '.join(missing.nearest)}" if missing.nearest else said


def _looked_at(attempt: Attempt) -> str:
    tokens = f" {attempt.usage.prompt:,} tokens," if attempt.usage.prompt else ""
    sure = attempt.confidence if attempt.checked is None else attempt.checked
    return (
        f"{attempt.tier.value} ({tokens.strip()}{' ' if tokens else ''}{attempt.seconds:.1f} s, confidence {sure:.2f})"
    )


def _remedy(remedy: Remedy) -> str:
    return f"{remedy.text} `{remedy.command}`" if remedy.command else remedy.text


def _word(name: str) -> str:
    """A name as one word of a command line."""
    return name if name.replace("::", "").replace("_", "").isalnum() else f"'{name}'"


def _short(name: str) -> str:
    name = visible(name).replace("\n", "\\n")
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]} ..."


def _pasted(query: Query) -> bool:
    return query.paste is not None
