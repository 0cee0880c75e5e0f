"""Questions to which a tree itself knows the answer, and such as it certainly cannot answer.

A snapshot of the tree is asked for what was hidden in it: functions by their comments, files by later commits, what
stands in a relation to a symbol, names half remembered. Then some of these functions are taken out and the rest is
indexed again: of the same questions the evidence is missing now, exactly. So it is of those made from another
repository. Knows nothing of prompts and of confidence.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from hub.calibrating.changes import changed_places
from hub.calibrating.neutral import NEUTRAL
from hub.calibrating.relations import relation_questions
from hub.calibrating.removal import Removal, name_parts, spelling, take_out
from hub.calibrating.wording import about_name, mistyped, natural, partial
from hub.config import Settings
from hub.evaluation import SEED, Snapshot, changed_snapshot, patches, snapshot, text_of
from hub.labels import Gold, Label, LabelKind, is_held_out, order_of, words_of
from hub.retrieval import is_test_path
from indexer.index import Index
from indexer.model import Language, Symbol, SymbolKind
from indexer.pipeline import Progress

# Questions of each kind and variant at most, so that asking them all takes minutes. 50 to 1,000.
MOST_DESCRIPTIONS = 200
MOST_BODIES = 100
MOST_COMMITS = 150
MOST_NAMES = 40  # of each way to misremember one
MOST_FOREIGN = 120
MOST_CHANGED = 3  # places of a commit; of more nobody asks for all of them. 1 to 5


class Variant(StrEnum):
    NATURAL = "natural"  # as a user asks, the name of the thing in it where it would be
    STRIPPED = "stripped"  # what the thing does, without its name


class Stratum(StrEnum):
    DESCRIPTION = "description"  # what a function does: its definition
    BODY = "body"  # a long account of it: its definition
    COMMIT = "commit"  # a change: every function that it would be made in
    RELATION = "relation"  # callers, callees, derived classes, overriders: every place of the answer
    NAME = "name"  # a name mistyped or qualified in part: its definition


@dataclass(frozen=True, slots=True)
class Asked:
    """One question. Of a description, a body and a name any part of the ``gold`` answers it, of the others only all.

    ``missing`` says that the index it is asked of does not hold the answer; its gold is then empty.
    """

    question: str
    gold: tuple[Gold, ...]
    stratum: Stratum
    variant: Variant
    missing: bool
    about: str  # the qualified name or the commit that it was made from; what shares it is never parted
    held_out: bool  # nothing may be fitted on it


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """``questions`` are asked of ``present``, ``removed_questions``, all of them missing, of ``removed``."""

    present: Index
    questions: tuple[Asked, ...]
    removed: Index
    removed_questions: tuple[Asked, ...]
    notes: tuple[str, ...]
    revision: str | None  # None outside git


_DEFINED = frozenset(
    {SymbolKind.FUNCTION, SymbolKind.METHOD, SymbolKind.CLASS, SymbolKind.STRUCT, SymbolKind.ENUM, SymbolKind.MACRO}
)
_FUNCTIONS = frozenset({SymbolKind.FUNCTION, SymbolKind.METHOD})
_TOLD = {LabelKind.DESCRIPTION: Stratum.DESCRIPTION, LabelKind.BODY: Stratum.BODY}
_NO_QUESTION = re.compile(r"::=|^\W*(?:TODO|FIXME|XXX|HACK)\b")  # of a comment: a grammar, a note to oneself
_ANY = frozenset({Stratum.DESCRIPTION, Stratum.BODY, Stratum.NAME})


@contextmanager
def question_set(
    root: Path,
    settings: Settings,
    progress: Progress,
    cancelled: Callable[[], bool],
    seed: int = SEED,
    foreign: Sequence[Asked] = (),
) -> Iterator[QuestionSet]:
    """Two indexes and what to ask of them, in a folder that is removed afterwards. Equal arguments give equal
    questions.

    ``foreign`` are questions of another repository; without them some that ship are asked. Raises what indexing raises,
    and Cancelled. A tree without comments, functions or history gives fewer questions, and notes.
    """
    with snapshot(root, settings, progress, cancelled, seed) as made:
        symbols = list(made.index.facts.all_symbols())
        asked = [
            *_of_comments(made.labels, symbols, seed),
            *_of_commits(made, root, symbols),
            *_of_relations(made.index, symbols, seed, cancelled),
            *_of_names(symbols, seed),
        ]
        removal = _removal(made, asked, symbols, seed)
        gone = [
            replace(question, gold=(), missing=True)
            for question in asked
            if question.about in removal.names and question.stratum in _ANY
        ]
        strangers = foreign or _neutral(seed)
        asked += _of_others(strangers, symbols, seed)
        kept, notes = settled(asked)
        if all(question.missing for question in kept):
            notes = [*notes, "This tree has no comments, history or names that could be asked for."]
        if not gone:
            said = (
                *made.notes,
                *notes,
                "No function could be taken out exactly, so missing evidence is of others only.",
            )
            yield QuestionSet(made.index, tuple(kept), made.index, (), said, made.revision)
            return
        with changed_snapshot(made, removal.texts, settings, root, progress, cancelled) as removed:
            standing = {symbol.qualified_name for symbol in removed.facts.all_symbols()}
            left, more = settled([question for question in gone if question.about not in standing])
            notes.append(f"{len(removal.names - standing)} functions were taken out to ask for them in vain.")
            said = (*made.notes, *notes, *more)
            yield QuestionSet(made.index, tuple(kept), removed, tuple(left), said, made.revision)


def answered_by_any(stratum: Stratum) -> bool:
    """Whether one part of the gold is enough."""
    return stratum in _ANY


def settled(asked: Iterable[Asked]) -> tuple[list[Asked], list[str]]:
    """The questions without repeats, and without those of which the same words ask for different things; notes."""
    groups: dict[str, list[Asked]] = defaultdict(list)
    for question in asked:
        groups[words_of(question.question)].append(question)
    kept = []
    torn = 0
    for same in groups.values():
        if len({(question.about, question.missing) for question in same}) > 1:
            torn += len(same)
        else:
            kept.append(same[0])
    notes = [f"{torn} questions contradict each other and are not asked."] if torn else []
    return kept, notes


def _of_comments(labels: Iterable[Label], symbols: Sequence[Symbol], seed: int) -> Iterator[Asked]:
    """Both variants of each comment. What shares the function's name, its overloads, answers too."""
    places = _definitions(symbols)
    most = {LabelKind.DESCRIPTION: MOST_DESCRIPTIONS, LabelKind.BODY: MOST_BODIES}
    told = [label for label in labels if label.kind in most and not _NO_QUESTION.search(label.told)]
    asked: Counter[LabelKind] = Counter()
    for label in sorted(told, key=lambda label: (order_of(seed, label.about), label.about, label.question)):
        if asked[label.kind] == most[label.kind]:
            continue
        asked[label.kind] += 1
        gold: tuple[Gold, ...] = tuple(sorted({*label.gold, *places.get(label.about, ())}, key=str))
        stratum = _TOLD[label.kind]
        name = label.about.rpartition("::")[2]
        for variant, question in (
            (Variant.NATURAL, natural(label.told, name, seed, label.about)),
            (Variant.STRIPPED, label.question),
        ):
            yield Asked(question, gold, stratum, variant, missing=False, about=label.about, held_out=label.held_out)


def _definitions(symbols: Iterable[Symbol]) -> dict[str, tuple[Gold, ...]]:
    """Where functions are defined, by their qualified name."""
    found: dict[str, list[Gold]] = defaultdict(list)
    for symbol in symbols:
        if symbol.kind in _FUNCTIONS and symbol.is_definition:
            found[symbol.qualified_name].append(symbol.span)
    return {name: tuple(spans) for name, spans in found.items()}


def _of_commits(made: Snapshot, root: Path, symbols: Sequence[Symbol]) -> list[Asked]:
    """Commits of which it is known where in the snapshot they would be made; the latest half is held out."""
    labels = [label for label in made.labels if label.kind is LabelKind.COMMIT]
    here: dict[str, list[Symbol]] = defaultdict(list)
    for symbol in symbols:
        here[symbol.span.path].append(symbol)
    found = []
    for label, changed in zip(labels, patches(root, [label.about for label in labels]), strict=True):
        code = {path: patch for path, patch in changed.items() if path in here and path in label.gold}
        texts = {path: text_of(made.index.root / path) or "" for path in code}
        places = changed_places(code, texts, here)
        if places and len(places) <= MOST_CHANGED:
            found.append((label, places))
    step = max(1, -(-len(found) // MOST_COMMITS))
    return [
        Asked(label.question, places, Stratum.COMMIT, Variant.NATURAL, False, label.about, label.held_out)
        for label, places in found[::step]
    ]


def _of_relations(index: Index, symbols: Sequence[Symbol], seed: int, cancelled: Callable[[], bool]) -> Iterator[Asked]:
    for related in relation_questions(index, symbols, seed, cancelled):
        yield Asked(
            related.question,
            related.places,
            Stratum.RELATION,
            Variant.NATURAL,
            missing=False,
            about=related.about,
            held_out=is_held_out(seed, related.about),
        )


def _of_names(symbols: Sequence[Symbol], seed: int) -> Iterator[Asked]:
    places: dict[str, set[Gold]] = defaultdict(set)
    ends: dict[str, set[str]] = defaultdict(set)
    for symbol in symbols:
        named = symbol.kind in _DEFINED and symbol.name.isidentifier()
        if named and symbol.is_definition and not is_test_path(symbol.span.path):
            places[symbol.qualified_name].add(symbol.span)
        if symbol.kind is not SymbolKind.SECTION and (end := partial(symbol.qualified_name)):
            ends[end].add(symbol.qualified_name)
    taken = {spelling(symbol.name) for symbol in symbols}
    bare = Counter(name.rpartition("::")[2] for name in places)
    counts: Counter[str] = Counter()
    for name in sorted(places, key=lambda name: (order_of(seed, f"misremembered\0{name}"), name)):
        end = partial(name)
        ways = {
            "mistyped": mistyped(name, lambda slip: spelling(slip) in taken, seed)
            if bare[name.rpartition("::")[2]] == 1
            else None,
            "partial": end if end and ends[end] == {name} else None,
        }
        for way, typed in ways.items():
            if typed is not None and counts[way] < MOST_NAMES:
                counts[way] += 1
                yield Asked(
                    about_name(typed, seed),
                    tuple(sorted(places[name], key=str)),
                    Stratum.NAME,
                    Variant.NATURAL,
                    missing=False,
                    about=name,
                    held_out=is_held_out(seed, name),
                )


def _removal(made: Snapshot, asked: Iterable[Asked], symbols: Sequence[Symbol], seed: int) -> Removal:
    tree = made.index.root
    documents = [path for path, language in made.languages() if language is not Language.CPP]
    wanted = [question.about for question in asked if question.stratum is Stratum.DESCRIPTION]
    return take_out(wanted, symbols, lambda path: text_of(tree / path), documents, seed)


def _neutral(seed: int) -> Iterator[Asked]:
    for name, told in NEUTRAL:
        for variant, question in ((Variant.NATURAL, natural(told, name, seed, name)), (Variant.STRIPPED, told)):
            yield Asked(question, (), Stratum.DESCRIPTION, variant, True, name, is_held_out(seed, name))


def _of_others(strangers: Iterable[Asked], symbols: Iterable[Symbol], seed: int) -> list[Asked]:
    """Those of another repository's questions that ask for what this tree certainly does not have.

    Of what has its name here, in any spelling, or a name that says as much, nobody knows without reading.
    """
    spelt: set[str] = set()
    parts: set[frozenset[str]] = set()
    for symbol in symbols:
        if symbol.kind is not SymbolKind.SECTION and symbol.name and (key := spelling(symbol.name)) not in spelt:
            spelt.add(key)
            parts.add(name_parts(symbol.name))
    wanted = [question for question in strangers if question.stratum in (Stratum.DESCRIPTION, Stratum.BODY)]
    found: list[Asked] = []
    here: dict[str, bool] = {}
    for question in sorted(wanted, key=lambda one: (order_of(seed, one.about), one.about, one.variant, one.question)):
        name = question.about.rpartition("::")[2]
        if name not in here:
            meant = name_parts(name)
            here[name] = spelling(name) in spelt or any(meant <= others for others in parts)
        if not here[name]:
            found.append(replace(question, gold=(), missing=True))
    return found[:MOST_FOREIGN]
