"""Measures retrieval on the user's own tree, with questions that the tree and its history answer.

A snapshot is made: the tree as it was at a split in its history, without the comments of a sample of functions. It is
indexed as the product does it, knowing nothing of later commits, and then asked for what was hidden: the functions by
their comments, the changed files by the later messages. Runs git, the pipeline and retrieval; prints nothing.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import log2
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from hub import indexing, wiring
from hub.config import Settings
from hub.errors import EvaluationError
from hub.labels import (
    MOST_CHANGED_FILES,
    MOST_CHANGED_SOURCES,
    MOST_COMMITS,
    Gold,
    Label,
    LabelKind,
    PastCommit,
    commit_labels,
    hide_comments,
    name_labels,
    says_something,
)
from hub.model import SignalSource
from hub.retrieval import GLOBAL, Candidates, Weights, fuse, gather, rank_files, understand
from indexer import history
from indexer.errors import Cancelled, DataFolderError, EmbedderError
from indexer.files import FileRules, check_root, language_of, scan
from indexer.index import DataFolder, Index
from indexer.model import Embedder, Language, Span, SymbolKind
from indexer.pipeline import Progress, refresh
from indexer.secrets import redact

SEED = 0  # of which functions and halves are chosen: fitting and measuring must choose the same
DEPTH = 10  # hits that count
RESAMPLES = 1_000  # of the bootstrap (Efron 1979); 200 to 10,000
COVERED = 0.95  # of an interval
FEW = 30  # questions; below, an interval says little
MOST_READ = 4_000  # commits looked through for questions; 1,000 to 20,000
ROOM = 1.3  # commits gone back for each label wanted: files that were renamed or came later cost some
EXPORT_BYTES = 32 << 20  # of files taken out of git at a time
FUSED = "fused"
ONLY_SHIPPED = MappingProxyType({FUSED: GLOBAL})

_FOLDER = "evaluation-"  # followed by a process id, in the data folder
_CHANGED = "changed"  # the workspace and the tree of a snapshot with other texts
_RULES_FILES = (".gitignore", ".codehubignore")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An index of a tree without what its labels ask for. ``notes`` say what was hidden and what could not be had."""

    index: Index
    labels: tuple[Label, ...]
    revision: str | None  # None outside git
    notes: tuple[str, ...]
    folder: Path  # that goes with it

    def languages(self) -> list[tuple[str, Language | None]]:
        """The files that it holds, by path."""
        return [(path, language_of(path)) for path in sorted(self.index.table.known_files())]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean in 0..1, and where 95% of its resamples lie."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Figure:
    """How well one ranking answers the questions of one kind."""

    kind: LabelKind
    arm: str  # a SignalSource, or "fused"
    questions: int
    hit: Interval  # share of questions with an answer among the first ten
    mrr: Interval  # mean reciprocal rank of the first answer, 0 beyond the tenth
    ndcg: Interval


@dataclass(frozen=True, slots=True)
class Evaluation:
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]
    revision: str | None = None


@contextmanager
def snapshot(
    root: Path, settings: Settings, progress: Progress, cancelled: Callable[[], bool], seed: int = SEED
) -> Iterator[Snapshot]:
    """A snapshot of a tree with its labels, in a folder that is removed afterwards.

    Raises what indexing raises, and Cancelled. A tree without git, or whose git cannot be read, gives labels of
    comments and names only.
    """
    root = check_root(root)
    with _scratch(settings.data) as folder:
        tree = folder / "tree"
        tree.mkdir()
        split = _choose_split(root)
        notes = list(split.notes)
        rules = indexing.file_rules(settings)
        revision = split.revision
        missing = None if revision is None else export(root, revision, tree, rules)
        if revision is not None and missing is None:
            notes.append("Git could not give the files of the split, so those of the work tree were taken.")
            revision = None
        elif missing:
            notes.append(f"Git could not give {missing} of the files of the split; they are left out.")
        if revision is None:
            _copy(root, tree, rules)
        data = DataFolder(folder / "data")
        plain = replace(settings, data=data.path, compiler_commands="none")
        with data.owned(), Index.for_writing(data, "snapshot", tree) as index:
            before = [] if revision is None else list(map(_message, _log(root, revision)))
            labels, said = _hide(index, plain, before, progress, cancelled, seed)
            index_at(index, plain, root, revision, progress, cancelled)
        notes += said
        with Index.for_reading(data, "snapshot") as index:
            if revision is not None:
                labels += _labels_of_commits(root, revision, before, index)
            yield Snapshot(index, tuple(labels), revision, tuple(notes), folder)


@contextmanager
def changed_snapshot(
    made: Snapshot,
    texts: Mapping[str, str],
    settings: Settings,
    root: Path,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> Iterator[Index]:
    """An index of a snapshot's tree with other texts of some files, which it must hold; the snapshot stays as it is.

    ``root`` is the tree that it was made of. Raises what indexing raises, and Cancelled.
    """
    tree = made.folder / _CHANGED
    data = DataFolder(made.folder / "data")
    copied = data.workspace_folder(_CHANGED)
    try:
        shutil.copytree(made.index.root, tree)
        for path, text in texts.items():
            _write(tree / path, text.encode("utf-8", "surrogateescape"))
        copied.mkdir(parents=True)
        shutil.copyfile(data.workspace_folder(made.index.workspace) / "index.db", copied / "index.db")
    except OSError as error:
        raise DataFolderError(
            f"The snapshot could not be copied: {error.strerror or error}.",
            "Free some space, or give --data elsewhere.",
        ) from None
    plain = replace(settings, data=data.path, compiler_commands="none")
    with data.owned(), Index.for_writing(data, _CHANGED, tree) as index:
        index_at(index, plain, root, made.revision, progress, cancelled)
    with Index.for_reading(data, _CHANGED) as index:
        yield index


def export(root: Path, revision: str, folder: Path, rules: FileRules) -> int | None:
    """Writes the files of a revision that may be indexed. How many git could not give; None where it gave none."""
    wanted = [
        file
        for file in history.files_at(root, revision) or ()
        if file.size <= rules.max_bytes and (language_of(file.path) or file.path.rpartition("/")[2] in _RULES_FILES)
    ]
    missing = sum(file.size == history.NOT_THERE for file in wanted)
    wanted = [file for file in wanted if file.size != history.NOT_THERE]
    written = 0
    while wanted:
        size, number = 0, 0
        while number < len(wanted) and (not number or size + wanted[number].size <= EXPORT_BYTES):
            size += wanted[number].size
            number += 1
        for file, content in zip(wanted[:number], history.contents(root, wanted[:number]), strict=True):
            if content is None:
                missing += 1
            else:
                _write(folder / file.path, content)
                written += 1
        del wanted[:number]
    return missing if written else None


def index_at(
    index: Index,
    settings: Settings,
    root: Path,
    revision: str | None,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> None:
    """Indexes with all that the settings want, at once, and with the history up to a revision and no further.

    ``root`` is where git is asked, the index's own root holds the files. Without a revision no history is read.
    """
    options = indexing.index_options(settings, index.root)
    past = history.source_of(root, revision) if revision is not None else None
    options = replace(options, history=past, commits=options.commits if past else 0, carry=False)
    sources = indexing.instant_sources(settings)
    with suppress(EmbedderError):  # ``usable_embedders`` says so
        encoder = indexing.encoder_source(settings)
        sources = (*sources, encoder) if encoder else sources
    refresh(index, options, sources, progress, cancelled)


def patches(root: Path, revisions: Sequence[str]) -> Iterator[dict[str, str]]:
    """What each commit changed, by path, as unified diffs without context; nothing where git cannot tell."""
    source = history.source_of(root, "HEAD")
    yield from history.patches(source, revisions) if source else ({} for _ in revisions)


def own_labels(text: str, index: Index) -> tuple[list[Label], list[str]]:
    """Labels that the user wrote, one JSON object a line, and notes on those whose answer the index does not hold.

    ``gold`` holds paths, ``path:10``, ``path:10-20`` and names of symbols. Raises EvaluationError for a line of another
    form.
    """
    labels: list[Label] = []
    notes: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        question, written = _own_label(line, number)
        gold: set[Gold] = set()
        for entry in written:
            found = _gold(entry, index)
            if not found:
                notes.append(f"Line {number}: the index holds no file or symbol {entry!r}.")
            gold |= found
        if gold:
            labels.append(Label(LabelKind.OWN, question, tuple(sorted(gold, key=str)), f"line {number}"))
    return labels, notes


def usable_embedders(index: Index, settings: Settings) -> tuple[list[Embedder], list[str]]:
    """The configured embedders that can be loaded and that the index has vectors of, and a note on one that fails."""
    known = index.table.embedders()
    found: list[Embedder] = []
    try:
        for embedder in wiring.embedders(settings):
            if embedder.name in known:
                found.append(embedder)  # noqa: PERF401 - what came before one that fails counts
    except EmbedderError as error:
        which = "vectors of an encoder" if found else "vectors"
        return found, [f"Measured without {which}: {error.message} {error.hint}".strip()]
    return found, []


def judged(
    index: Index, labels: Sequence[Label], embedders: Sequence[Embedder], cancelled: Callable[[], bool]
) -> Iterator[tuple[Label, Candidates]]:
    """What every arm finds for each label. Raises Cancelled."""
    for label in labels:
        if cancelled():
            raise Cancelled("Stopped; the index of the tree is as it was.")
        yield label, gather(index, understand(label.question), embedders)


def telling(
    found: Iterable[tuple[Label, Candidates]], labels: Sequence[Label], progress: Progress
) -> Iterator[tuple[Label, Candidates]]:
    """What was found, and at each label how many are done."""
    for done, pair in enumerate(found, 1):
        progress("ask", done, len(labels))
        yield pair


def measure(
    found: Iterable[tuple[Label, Candidates]], weights: Mapping[str, Weights] = ONLY_SHIPPED, seed: int = SEED
) -> tuple[Figure, ...]:
    """The figures of every arm alone and of all fused, by kind of label. Equal arguments give equal figures.

    ``weights`` are those to fuse with, by the name that their figures get.
    """
    scores: dict[tuple[LabelKind, str], list[tuple[float, float, float]]] = {}
    questions: Counter[LabelKind] = Counter()
    for label, candidates in found:
        questions[label.kind] += 1
        for name, chosen in weights.items():
            ranked = rankings(label, candidates, chosen)
            fused = ranked.pop(FUSED)
            scores.setdefault((label.kind, name), []).append(score(label.gold, fused))
        for arm, places in ranked.items():
            scores.setdefault((label.kind, arm), []).append(score(label.gold, places))
    figures = []
    for (kind, arm), told in scores.items():
        # An arm that had nothing to say to a question did not find its answer.
        rows = [*told, *([(0.0, 0.0, 0.0)] * (questions[kind] - len(told)))]
        hit, mrr, ndcg = intervals(rows, seed)
        figures.append(Figure(kind, arm, len(rows), hit, mrr, ndcg))
    order = {arm: number for number, arm in enumerate([*(source.value for source in SignalSource), *weights])}
    return tuple(sorted(figures, key=lambda figure: (list(LabelKind).index(figure.kind), order[figure.arm])))


def rankings(label: Label, candidates: Candidates, weights: Weights) -> dict[str, list[Gold]]:
    """What each arm, and all of them fused, would show first: places, or paths where the label asks for files."""
    ranked: dict[str, list[Gold]]
    fused: list[Gold]
    if all(isinstance(gold, str) for gold in label.gold):
        ranked = {arm: _files(places) for arm, places in _arms(candidates)}
        if candidates.files:
            best = sorted(candidates.files.items(), key=lambda item: (-item[1], item[0]))
            ranked[SignalSource.HISTORY.value] = [path for path, _ in best]
        fused = [path for path, _ in rank_files(candidates, weights)]
    else:
        ranked = {arm: list(places) for arm, places in _arms(candidates)}
        fused = [candidates.places[entry.chunk] for entry in fuse(candidates, weights, DEPTH)]
    return {**ranked, FUSED: fused}


def score(gold: Sequence[Gold], ranked: Sequence[Gold]) -> tuple[float, float, float]:
    """(hit, reciprocal rank, NDCG) of the first ten. Each part of the gold counts once, where it is met first.

    NDCG with binary gains: Järvelin and Kekäläinen, TOIS 2002; the ideal has all parts of the gold on top.
    """
    missing = list(gold)
    gain, first, together = 0.0, 0, 0
    for rank, place in enumerate(ranked[:DEPTH], 1):
        met = [part for part in missing if meets(part, place)]
        if met:
            first = first or rank
            gain += 1 / log2(rank + 1)
            together += len(met) - 1  # several parts in one chunk can only be one good hit
            missing = [part for part in missing if part not in met]
    parts = min(DEPTH, len(gold) - together)
    ideal = sum(1 / log2(rank + 1) for rank in range(1, parts + 1))
    return float(first > 0), 1 / first if first else 0.0, gain / ideal if ideal else 0.0


def intervals(rows: Sequence[tuple[float, float, float]], seed: int) -> tuple[Interval, Interval, Interval]:
    """Mean and percentile bootstrap interval of each column; of no rows all is 0."""
    import numpy as np  # noqa: PLC0415 - 0.1 s that other commands should not wait for

    if not rows:
        return (Interval(0.0, 0.0, 0.0),) * 3
    table = np.array(rows)
    chance = np.random.default_rng(seed)
    # How often each question is drawn: that is all that a resample's mean depends on.
    drawn = chance.multinomial(len(table), [1 / len(table)] * len(table), size=RESAMPLES)
    means = drawn @ table / len(table)
    ends = np.percentile(means, [50 * (1 - COVERED), 50 * (1 + COVERED)], axis=0)
    columns = zip(table.mean(axis=0), ends[0], ends[1], strict=True)
    hit, mrr, ndcg = (Interval(*(round(float(value), 4) for value in column)) for column in columns)
    return hit, mrr, ndcg


def few(figures: Iterable[Figure]) -> list[str]:
    """A note for each kind of which there are too few questions to tell much."""
    counts = {figure.kind: figure.questions for figure in figures if figure.arm == FUSED}
    return [
        f"Only {number} questions of kind {kind.value}: read the intervals, not the means."
        for kind, number in counts.items()
        if number < FEW
    ]


# The snapshot


@dataclass(frozen=True, slots=True)
class _Split:
    revision: str | None
    notes: tuple[str, ...]


@contextmanager
def _scratch(data: Path) -> Iterator[Path]:
    """A folder of this process in the data folder; what a killed process left there goes too."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in data.glob(f"{_FOLDER}*"):
            if not _runs(left.name.removeprefix(_FOLDER).partition("-")[0]):
                shutil.rmtree(left, ignore_errors=True)
        made = TemporaryDirectory(prefix=f"{_FOLDER}{os.getpid()}-", dir=data)
    except OSError as error:
        raise DataFolderError(
            f"The data folder {data} cannot be written: {error.strerror}.", "Give another one with --data."
        ) from None
    with made as folder:
        yield Path(folder)


def _runs(process: str) -> bool:
    if not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _choose_split(root: Path) -> _Split:
    """A commit after which enough commits make questions, at most half of those that do."""
    head, _ = history.head(root)
    if head is None:
        return _Split(None, ("The tree has no commits of git, so nothing is asked of its history.",))
    logged = _log(root, head)
    if not logged:
        return _Split(head, ("Git could not read the history, so nothing is asked of it.",))
    notes = ("The clone is shallow, so only the end of its history is asked.",) if history.is_shallow(root) else ()
    telling = [entry for entry in logged if says_something(_message(entry)) and _may_be_asked(entry)]
    wanted = min(len(telling) // 2, int(MOST_COMMITS * ROOM))
    before = history.commit_before(root, telling[wanted - 1].time_s) if wanted else None
    if before is None:
        return _Split(head, (*notes, "The history is too short to be split, so nothing is asked of it."))
    return _Split(before, notes)


def _may_be_asked(entry: history.LogEntry) -> bool:
    sources = sum(language_of(change.path) is Language.CPP for change in entry.changes)
    return 1 <= sources <= MOST_CHANGED_SOURCES and entry.files <= MOST_CHANGED_FILES


def _log(root: Path, revisions: str) -> list[history.LogEntry]:
    """The commits of a revision or a range, newest first, without merges; at most MOST_READ are looked at."""
    source = history.source_of(root, revisions)
    if source is None:
        return []
    found = history.commits(source, MOST_READ)
    return list(history.entries(source, [commit for commit, parents in found if parents < 2]))


def _message(entry: history.LogEntry) -> str:
    return f"{entry.subject}\n\n{entry.body}".strip()


def _copy(root: Path, folder: Path, rules: FileRules) -> None:
    """Copies the files of the work tree that may be indexed; what cannot be read is left out, as indexing does."""
    for candidate in scan(root, rules).candidates:
        try:
            _write(folder / candidate.path, (root / candidate.path).read_bytes())
        except FileNotFoundError:
            continue  # it went meanwhile


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def _hide(
    index: Index,
    settings: Settings,
    messages: Iterable[str],
    progress: Progress,
    cancelled: Callable[[], bool],
    seed: int,
) -> tuple[list[Label], list[str]]:
    """Labels of comments and names. The files lose these comments; the index holds them until it is refreshed."""
    tree = index.root
    stage = ""

    def follow(name: str, done: int, total: int) -> None:
        nonlocal stage
        stage = name
        progress(name, done, total)

    try:
        # What uses mean is not asked for here, and linking takes as long as parsing.
        options = replace(indexing.index_options(settings, tree), commits=0, carry=False)
        refresh(index, options, (), follow, lambda: cancelled() or stage == "link")
    except Cancelled:
        if cancelled():
            raise
    symbols = list(index.facts.all_symbols())
    paths = sorted(index.table.known_files())
    hidden = hide_comments(symbols, lambda path: text_of(tree / path), paths, seed, ["\n".join(messages)])
    for path, text in hidden.texts.items():
        _write(tree / path, text.encode("utf-8", "surrogateescape"))
    told = f"{hidden.hidden} of {hidden.usable} comments that describe a function were hidden"
    if hidden.dropped:
        told += f"; {hidden.dropped} of them are not asked, for their words stand elsewhere too"
    return [*hidden.labels, *name_labels(symbols, seed)], [f"{told}."]


def text_of(file: Path) -> str | None:
    """The text of a file without its secrets, to be written back; None for what cannot be read or is no text."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    return None if b"\0" in content else redact(content.decode("utf-8", "surrogateescape"))[0]


def _labels_of_commits(root: Path, revision: str, before: Iterable[str], index: Index) -> list[Label]:
    sources = [path for path in index.table.known_files() if language_of(path) is Language.CPP]
    later = _as_called_then(_log(root, f"{revision}..HEAD"))
    return commit_labels(later, sources, before)


def _as_called_then(later: Sequence[history.LogEntry]) -> list[PastCommit]:
    """The commits oldest first, with the names that their files had at the split. Bulk commits only rename."""
    called: dict[str, str] = {}
    commits = []
    for entry in reversed(later):
        for change in entry.changes:
            if change.before is not None:
                called[change.path] = called.pop(change.before, change.before)
        if entry.files <= MOST_CHANGED_FILES:
            paths = tuple(called.get(change.path, change.path) for change in entry.changes)
            commits.append(PastCommit(entry.hash, _message(entry), paths))
    return commits


# Rankings


def _arms(candidates: Candidates) -> Iterator[tuple[str, list[Span]]]:
    """The places that each arm found, best first."""
    for source, found in candidates.arms.items():
        yield source.value, [candidates.places[chunk] for chunk, _ in found if chunk in candidates.places]


def _files(places: Iterable[Span]) -> list[Gold]:
    return list(dict.fromkeys(place.path for place in places))


def meets(part: Gold, place: Gold) -> bool:
    """Whether a place that was found shows a part of the gold: the file of a path, some of the lines of a span."""
    if isinstance(part, str):
        return part == (place if isinstance(place, str) else place.path)
    if isinstance(place, str):
        return False
    return part.path == place.path and part.first_line <= place.last_line and place.first_line <= part.last_line


# The user's own labels


def _own_label(line: str, number: int) -> tuple[str, list[str]]:
    form = 'Each line holds {"question": "...", "gold": ["path", "path:10-20", "ns::Class::function"]}.'
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise EvaluationError(f"Line {number} is no JSON: {error}.", form) from None
    question = entry.get("question") if isinstance(entry, dict) else None
    gold = entry.get("gold") if isinstance(entry, dict) else None
    if not isinstance(question, str) or not question.strip():
        raise EvaluationError(f"Line {number} has no question.", form)
    if not isinstance(gold, list) or not gold or not all(isinstance(part, str) and part for part in gold):
        raise EvaluationError(f"Line {number} has no gold.", form)
    return question, gold


def _gold(entry: str, index: Index) -> set[Gold]:
    path, colon, lines = entry.rpartition(":")
    first, _, last = lines.partition("-")
    if colon and index.table.known_file(path) and first.isdecimal() and (last or first).isdecimal():
        return {Span(path, int(first), int(last or first))}
    if index.table.known_file(entry):
        return {entry}
    symbols = index.facts.symbols_named(entry, MOST_COMMITS)
    return {symbol.span for symbol in symbols if symbol.kind is not SymbolKind.SECTION}
