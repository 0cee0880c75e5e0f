"""What a question with a known answer shows at each size of prompt: the features of the prompt really packed there, and
whether all of the evidence is in it. Confidence is fitted to these rows and calibrated by them.

Searches once for a question and packs as often as there are sizes. Deterministic. Knows nothing of how questions are
made, nor of what is fitted.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hub.backends.evidence_only import EvidenceOnlyBackend
from hub.calibrating.questions import Asked, QuestionSet, Stratum, Variant, answered_by_any
from hub.confidence import Features, search_observed
from hub.errors import PromptTooLong
from hub.evidence import hits_for
from hub.evidence.pieces import pieces
from hub.evidence.widening import widen
from hub.labels import Gold
from hub.model import Prompt, Rendering, Tier
from hub.prompting import pack
from hub.retrieval import GLOBAL, Weights, retrieve, understand
from indexer.errors import Cancelled
from indexer.index import Index
from indexer.model import Embedder, Span
from indexer.pipeline import Progress

K = 1_024
# The sizes that are looked at, in tokens. A wide prompt holds what a second look found.
BUDGETS: tuple[tuple[Tier, int], ...] = (
    (Tier.RAG, 2 * K),
    (Tier.RAG, 4 * K),
    (Tier.RAG, 8 * K),
    (Tier.RAG, 16 * K),
    (Tier.WIDE, 32 * K),
    (Tier.WIDE, 64 * K),
)
MODERATE = 16 * K  # tokens of the prompt whose hits a second look starts from, where no size tells
# How much of a definition has to be shown: half of its lines, or so many of them. 20 to 100.
ENOUGH_SHARE = 0.5
ENOUGH_LINES = 40


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt. ``present`` says that it shows all the evidence of a right answer."""

    budget: int  # tokens it might have taken
    features: Features
    present: bool
    tier: Tier


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its prompts, in the order of the sizes asked for."""

    about: str
    stratum: Stratum
    variant: Variant
    missing: bool
    held_out: bool
    rows: tuple[Row, ...]

    def dumps(self) -> str:
        """One line of JSON. ``loads`` gives an equal example back."""
        rows = [
            {"budget": row.budget, "present": row.present, "tier": row.tier, "features": dict(row.features)}
            for row in self.rows
        ]
        return json.dumps(
            {
                "about": self.about,
                "stratum": self.stratum,
                "variant": self.variant,
                "missing": self.missing,
                "held_out": self.held_out,
                "rows": rows,
            }
        )


def loads(line: str) -> Example | None:
    """What ``dumps`` gave; None for anything else, such as a line that was cut off."""
    try:
        told = json.loads(line)
        rows = tuple(
            Row(
                int(row["budget"]),
                tuple((str(name), float(value)) for name, value in row["features"].items()),
                bool(row["present"]),
                Tier(row["tier"]),
            )
            for row in told["rows"]
        )
        return Example(
            str(told["about"]),
            Stratum(told["stratum"]),
            Variant(told["variant"]),
            bool(told["missing"]),
            bool(told["held_out"]),
            rows,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def examples(
    made: QuestionSet,
    embedders: Sequence[Embedder],
    budgets: Sequence[tuple[Tier, int]],
    progress: Progress,
    cancelled: Callable[[], bool],
    weights: Weights = GLOBAL,
    count: Callable[[str], int] | None = None,
) -> Iterator[Example]:
    """An example for each question of the set, the removed ones last. Raises Cancelled.

    ``budgets`` are sizes of the tiers RAG and WIDE, whose prompts hold what was found and nothing else; one that not
    even the question fits gives no row. ``count`` counts tokens; without it they are estimated as without a model.
    """
    counted = count or EvidenceOnlyBackend().count_tokens
    total = len(made.questions) + len(made.removed_questions)
    todo = [(made.present, asked) for asked in made.questions]
    todo += [(made.removed, asked) for asked in made.removed_questions]
    for done, (index, asked) in enumerate(todo):
        progress("ask", done, total)
        if cancelled():
            raise Cancelled("Stopped; what was learnt so far is kept.")
        yield example(index, asked, embedders, budgets, weights, counted)
    progress("ask", total, total)


def example(
    index: Index,
    asked: Asked,
    embedders: Sequence[Embedder],
    budgets: Sequence[tuple[Tier, int]],
    weights: Weights,
    count: Callable[[str], int],
) -> Example:
    """The prompts of one question."""
    most = {tier: max(hits_for(budget) for other, budget in budgets if other is tier) for tier, _ in budgets}
    first = retrieve(index, understand(asked.question), embedders, most.get(Tier.RAG, hits_for(MODERATE)), weights)
    found = {Tier.RAG: first}
    if Tier.WIDE in most:
        found[Tier.WIDE] = widen(index, first, embedders, most[Tier.WIDE])
    observed = {tier: search_observed(index, retrieval) for tier, retrieval in found.items()}
    passages = {tier: pieces(index, retrieval.hits) for tier, retrieval in found.items()}
    rows = []
    for tier, budget in budgets:
        offered = hits_for(budget)
        hits = found[tier].hits[:offered]
        try:
            prompt = pack(asked.question, passages[tier][:offered], budget, count)
        except PromptTooLong:
            continue
        told = replace(observed[tier], hits=hits).packed(prompt, budget)
        rows.append(Row(budget, told, is_shown(asked, prompt), tier))
    return Example(asked.about, asked.stratum, asked.variant, asked.missing, asked.held_out, tuple(rows))


def is_shown(asked: Asked, prompt: Prompt) -> bool:
    """Whether a prompt shows what answers the question: one definition well enough, or every place."""
    if asked.missing or not asked.gold:
        return False
    shown = lines_shown(prompt)
    met = (_is_met(part, shown) for part in asked.gold)
    return any(met) if answered_by_any(asked.stratum) else all(met)


def lines_shown(prompt: Prompt) -> Mapping[str, set[int]]:
    """The lines that stand in a prompt as they are in their files, by path."""
    shown: dict[str, set[int]] = {}
    renderings: Iterable[Rendering] = prompt.renderings or (Rendering.BODY,) * len(prompt.citations)
    for citation, rendering in zip(prompt.citations, renderings, strict=True):
        if rendering is not Rendering.NAME:
            span = citation.span
            shown.setdefault(span.path, set()).update(range(span.first_line, span.last_line + 1))
    return shown


def _is_met(part: Gold, shown: Mapping[str, set[int]]) -> bool:
    if not isinstance(part, Span):
        return part in shown
    lines = range(part.first_line, part.last_line + 1)
    enough = min(ENOUGH_LINES, max(1, round(len(lines) * ENOUGH_SHARE)))
    here = shown.get(part.path, set())
    return sum(line in here for line in lines) >= enough
