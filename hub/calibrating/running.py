"""Calibrates one workspace: asks its tree what it can answer itself, bends and certifies its confidence, stores it.

Every answer is kept as it comes, so that a run that was stopped goes on where it was. The index is written at the very
end and for a moment only; until then searching, asking and indexing go on beside it. Prints nothing.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path

from hub import evaluation, wiring
from hub.calibrating.adapting import MISSING_SHARE, adapted
from hub.calibrating.card import MIDDLE, Card, card_of, markdown
from hub.calibrating.examples import BUDGETS, Example, examples
from hub.calibrating.journal import Journal, digest_of
from hub.calibrating.questions import QuestionSet, question_set
from hub.confidence import SHIPPED
from hub.confidence.certifying import ALPHAS, DELTA
from hub.confidence.drift import shifts, spreads
from hub.confidence.recent import recent
from hub.confidence.stored import Record, store
from hub.config import Settings
from hub.errors import EvaluationError
from hub.model import Tier
from hub.retrieval import GLOBAL, Weights, stored_weights
from hub.standing import taken_now, unlike
from indexer.errors import DataFolderError
from indexer.index import Index, Workspace
from indexer.pipeline import Progress

MOST_ASKED = 600  # questions of a tree by default. 200 to 2,000: each takes 0.3 to 1 s of one core.
LEAST_KNOWN = 20  # held-in questions of either kind, found and not found; of fewer nothing is learnt. 10 to 50.
_FOLDER = "calibration"  # in the folder of the workspace
_CARD = "card"


@dataclass(frozen=True, slots=True)
class Options:
    """``most`` questions in all, as many of each kind as there are; ``anew`` forgets what was found before."""

    most: int = MOST_ASKED
    alphas: tuple[float, ...] = ALPHAS
    delta: float = DELTA
    seed: int = evaluation.SEED
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What came of it. ``stored`` is False where there was nothing to learn from; ``folder`` holds the card."""

    card: Card
    stored: bool
    folder: Path


def calibrate(
    settings: Settings,
    workspace: Workspace,
    options: Options,
    now: str,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> Calibrated:
    """Calibrates a workspace and stores what came of it in its index.

    ``now`` is written on the card. Raises what indexing raises, DataFolderError where the index cannot be written, and
    Cancelled after keeping what was found. A tree that can be asked nothing, or too little, keeps the confidence that
    ships, and its card says so.
    """
    data = wiring.data_folder(settings)
    folder = data.workspace_folder(workspace.name)
    _check_writable(folder)
    with Index.for_reading(data, workspace.name) as index:
        taken = taken_now(index)
        weights = (stored_weights(index) if settings.retrieval_adapt else None) or GLOBAL
        indexed_at = index.stamp().indexed_at
        embedders = sorted(index.table.embedders())
    key = {
        "commit": taken.commit or indexed_at,
        "facts": taken.facts,
        "heads": taken.heads,
        "weights": blake2b(weights.dumps().encode(), digest_size=8).hexdigest(),
        "embedders": embedders,
        "embeddings": settings.embeddings,
        "budgets": [f"{tier.value} {budget}" for tier, budget in BUDGETS],
        "most": options.most,
        "seed": options.seed,
    }
    journal = Journal(folder / _FOLDER, key)
    journal.forget_others()
    if options.anew:
        journal.forget()
    found, notes = _findings(settings, workspace, options, journal, weights, progress, cancelled)
    if journal.trouble:
        notes.append(journal.trouble)
    found.sort(key=lambda example: (example.stratum, example.variant, example.about, example.missing))
    enough = _teaches(found)
    heads = adapted(SHIPPED, found, options.alphas, options.delta) if enough else SHIPPED
    if enough:
        heads = replace(heads, origin=f"{heads.origin}; this tree, {len(found)} questions")
    else:
        notes.append(_too_little(found))
    spread = spreads(map(_numbers, found))
    if shifted := shifts(spread, [dict(entry.numbers) for entry in recent(folder)]):
        notes.append(unlike(shifted))
    card = card_of(workspace.name, taken.commit, now, SHIPPED, heads, found, notes)
    if enough:
        record = Record(now, taken, len(found), spread)
        progress("store", 0, 0)
        with data.owned_for_a_moment(), Index.for_adding(data, workspace.name) as index:
            store(index, heads, record)
    _write_card(folder / _FOLDER, card)
    return Calibrated(card, enough, folder / _FOLDER)


def _findings(
    settings: Settings,
    workspace: Workspace,
    options: Options,
    journal: Journal,
    weights: Weights,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> tuple[list[Example], list[str]]:
    """An example for each question, of the journal where it stands there, and notes on the questions."""
    kept = journal.read()
    if kept.notes is not None:
        return list(kept.findings.values()), list(kept.notes)
    try:
        with question_set(workspace.root, settings, progress, cancelled, options.seed) as made:
            asked = chosen(made, options.most)
            usable, said = evaluation.usable_embedders(made.present, settings)
            notes = [*made.notes, *said]
            digests = {digest_of(question) for question in (*asked.questions, *asked.removed_questions)}
            found = [example for digest, example in kept.findings.items() if digest in digests]
            left = _only(asked, lambda digest: digest not in kept.findings)
            answered = examples(left, usable, BUDGETS, progress, cancelled, weights)
            for question, example in zip((*left.questions, *left.removed_questions), answered, strict=True):
                journal.add(question, example)
                found.append(example)
    except OSError as error:  # of the copy of the tree; those of the index and the tree itself have their own
        raise EvaluationError(
            f"The tree could not be copied in order to ask it: {error.strerror}.",
            "Free some space and run it again; what was found out so far is kept.",
        ) from None
    journal.end(notes)
    return found, notes


def chosen(made: QuestionSet, most: int) -> QuestionSet:
    """At most so many of the questions, a quarter of them such as cannot be answered; of each kind as many as of the
    others, as far as there are, whichever.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for removed, questions in (("", made.questions), ("removed", made.removed_questions)):
        for asked in questions:
            group = (str(asked.missing), removed, asked.stratum.value, asked.variant.value)
            groups.setdefault(group, []).append(digest_of(asked))
    vain = {group: digests for group, digests in groups.items() if group[0] == str(True)}
    kept = _evenly(
        {group: digests for group, digests in groups.items() if group not in vain}, round(most * (1 - MISSING_SHARE))
    )
    kept |= _evenly(vain, round(len(kept) * MISSING_SHARE / (1 - MISSING_SHARE)))
    return _only(made, lambda digest: digest in kept)


def _evenly(groups: Mapping[tuple[str, ...], list[str]], most: int) -> set[str]:
    """What a small group leaves of its share goes to the larger ones."""
    kept: set[str] = set()
    for place, (_, digests) in enumerate(sorted(groups.items(), key=lambda item: (len(item[1]), item[0]))):
        kept.update(sorted(digests)[: (most - len(kept)) // (len(groups) - place)])
    return kept


def _only(made: QuestionSet, wanted: Callable[[str], bool]) -> QuestionSet:
    return replace(
        made,
        questions=tuple(asked for asked in made.questions if wanted(digest_of(asked))),
        removed_questions=tuple(asked for asked in made.removed_questions if wanted(digest_of(asked))),
    )


def _check_writable(folder: Path) -> None:
    """Now, before minutes are spent on what could then not be kept."""
    if not os.access(folder, os.W_OK) or not os.access(folder / "index.db", os.W_OK):
        raise DataFolderError(
            f"The index in {folder} cannot be written, so nothing that is found out could be kept.",
            "Check its owner, or index the tree into another folder with --data.",
        )


def _teaches(found: Iterable[Example]) -> bool:
    return min(_known(found)) >= LEAST_KNOWN


def _known(found: Iterable[Example]) -> tuple[int, int]:
    """How many questions may be fitted on whose moderate prompt holds the evidence, and whose does not."""
    largest = [
        max((row for row in example.rows if row.tier is Tier.RAG), key=lambda row: row.budget, default=None)
        for example in found
        if not example.held_out
    ]
    right = [row.present for row in largest if row is not None]
    return right.count(True), right.count(False)


def _too_little(found: Sequence[Example]) -> str:
    right, wrong = _known(found)
    return (
        f"Too little to learn from: of the questions that may be learnt from, the evidence of {right} was found and of"
        f" {wrong} was not, and it takes {LEAST_KNOWN} of each. The confidence that ships stays."
    )


def _numbers(example: Example) -> dict[str, float]:
    """The features of one question's middle prompt, as they would stand in the log of recent ones."""
    row = next((row for row in example.rows if row.tier is Tier.RAG and row.budget == MIDDLE), None)
    return {} if row is None else dict(row.features)


def _write_card(folder: Path, card: Card) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in ((f"{_CARD}.json", json.dumps(asdict(card), indent=2)), (f"{_CARD}.md", markdown(card))):
            written = folder / f"{name}.new"
            written.write_text(text, encoding="utf-8")
            written.replace(folder / name)
    except OSError as error:
        raise EvaluationError(
            f"The card cannot be written to {folder}: {error.strerror}.",
            "What was found out is in use already; free some space and run it again to get the card.",
        ) from None
