"""Measures retrieval on real C++ libraries and their histories, beside plain BM25 and MiniLM.

    make bench-retrieval        (or: python benchmarks/retrieval.py [--keep DIR] [--development] [--library NAME ...])

Each library is cloned with git, or taken from --repositories DIR, where it lies as OWNER+NAME/repo. It is then asked as
`codehub evaluate` asks a user's own tree: as it was at a split in its history, the comments of a sample of functions
hidden, no later commit known. Everything is measured with the weights that are shipped, of which nothing was fitted on
a library of TEST; the libraries of DEVELOPMENT are those that ranking was tuned on, and their figures are no evidence.
The embedding that is shipped was trained on neither. The baselines are of the same run, over the same index.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from end_to_end import machine  # noqa: E402 - the path is set above, so that a plain checkout works

from hub.config import Settings  # noqa: E402
from hub.evaluation import (  # noqa: E402
    DEPTH,
    FUSED,
    SEED,
    Interval,
    Snapshot,
    export,
    index_at,
    intervals,
    judged,
    rankings,
    score,
    snapshot,
    usable_embedders,
)
from hub.labels import Gold, Label, LabelKind  # noqa: E402
from hub.model import SignalSource  # noqa: E402
from hub.retrieval import GLOBAL, Candidates, retrieve, understand  # noqa: E402
from hub.tuning import adapt  # noqa: E402
from indexer import history  # noqa: E402
from indexer.embedding import MiniLmEmbedder  # noqa: E402
from indexer.files import FileRules, language_of  # noqa: E402
from indexer.index import DataFolder, Index, query_words, words  # noqa: E402
from indexer.model import Chunk, Embedder, Language, Matrix, Span  # noqa: E402
from indexer.pipeline import embedded_text, ignore_progress, never  # noqa: E402


class Library(NamedTuple):
    owner: str
    name: str


# What ranking was tuned on, and what it is measured on. The common judges of code search (fmt, nlohmann/json, Catch2,
# abseil, simdjson, rocksdb, cpp-httplib, curl, redis, libuv) stand in neither list, so that they stay fit to judge us.
DEVELOPMENT = (
    Library("google", "glog"),
    Library("google", "benchmark"),
    Library("open-source-parsers", "jsoncpp"),
    Library("oatpp", "oatpp"),
    Library("zeromq", "libzmq"),
    Library("taglib", "taglib"),
)
TEST = (
    Library("google", "leveldb"),
    Library("gabime", "spdlog"),
    Library("google", "re2"),
    Library("jbeder", "yaml-cpp"),
    Library("google", "googletest"),
    Library("drogonframework", "drogon"),
    Library("pocoproject", "poco"),
)

K1, B = 1.2, 0.75  # of the baselines' BM25: the customary values
HISTORY_COMMITS = 50  # whose files the history baseline lets vote
HISTORY_FILES = 30  # of a commit; with more it has no vote
HISTORY_SHARE = 0.5  # of their votes beside the files' own score, each divided by its best
DENSE_CHUNKS = 2_500  # that both encoders compete on; MiniLM embeds about a hundred a second
WARM_CHUNKS = 25_000
WARM_QUESTIONS = 100  # of each kind
SPEED_TEXTS = 2_000  # texts that an embedder's speed is told from; MiniLM gets a tenth

HALF, ADAPTED = "fused, held-out half", "fused as tuned, held-out half"

Score = tuple[float, float, float]
_Answer = Callable[[str], list[Gold]]


@dataclass
class Result:
    """Scores of one library, by what was asked and who answered."""

    library: str
    revision: str
    chunks: int
    scores: dict[tuple[LabelKind, str], list[Score]] = field(default_factory=lambda: defaultdict(list))
    dense: dict[tuple[LabelKind, str], list[Score]] = field(default_factory=lambda: defaultdict(list))
    dense_chunks: int = 0
    names_first: tuple[int, int] = (0, 0)  # bare and qualified names whose symbol stands at rank 1, of how many
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


class Bm25:
    """Okapi BM25 over bags of words, nothing else: what the arms have to beat."""

    def __init__(self, documents: Sequence[Sequence[str]]) -> None:
        postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, document in enumerate(documents):
            for word, count in Counter(document).items():
                postings[word].append((number, count))
        lengths = np.array([len(document) for document in documents], dtype=np.float64)
        self._size = len(documents)
        self._norm = K1 * (1 - B + B * lengths / max(1.0, lengths.mean() if len(lengths) else 1.0))
        self._postings = {word: np.array(entries, dtype=np.int64).T for word, entries in postings.items()}

    def scores(self, question: str) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        total = np.zeros(self._size)
        for word in query_words(question):
            if (found := self._postings.get(word)) is not None:
                numbers, counts = found
                weight = log(1 + (self._size - len(numbers) + 0.5) / (len(numbers) + 0.5))
                total[numbers] += weight * counts * (K1 + 1) / (counts + self._norm[numbers])
        return total

    def best(self, question: str, limit: int) -> list[int]:
        scores = self.scores(question)
        order = np.argsort(-scores, kind="stable")[:limit]
        return [int(number) for number in order if scores[number] > 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep clones and MiniLM's vectors here")
    parser.add_argument("--repositories", type=Path, metavar="DIR", help="clones that lie there as OWNER+NAME/repo")
    parser.add_argument("--library", action="append", metavar="NAME", help="measure this one; may be repeated")
    parser.add_argument("--development", action="store_true", help="measure what ranking was tuned on instead")
    parser.add_argument("--embeddings", help="the setting of this name (default: the product's)")
    parser.add_argument("--without-dense", action="store_true", help="leave out the comparison with MiniLM")
    parser.add_argument("--without-speed", action="store_true", help="leave out the warm queries")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON instead of tables")
    parser.add_argument("--warm", nargs=2, metavar=("DATA", "QUESTIONS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.warm:
        print(json.dumps(warm(Path(options.warm[0]), Path(options.warm[1]), options.embeddings)))
        return
    known = DEVELOPMENT if options.development else TEST
    chosen = [library for library in known if not options.library or library.name in options.library]
    if not chosen:
        raise SystemExit(f"None of {', '.join(library.name for library in known)} is meant.")
    with TemporaryDirectory() as scratch:
        keep: Path = options.keep or Path(scratch)
        results: list[Result] = []
        questions: list[Label] = []
        for library in chosen:
            found, asked = measure_library(library, keep, options)
            results.append(found)
            questions += asked
            print(f"{library.name}: {found.seconds:.0f} s", file=sys.stderr)
        speed = None if options.without_speed else measure_speed(chosen, results, keep, options, questions)
    shown = as_json(results, speed) if options.json else as_tables(results, speed, development=options.development)
    print(shown)


def repository_of(library: Library, keep: Path, given: Path | None) -> Path:
    """A clone with the whole history."""
    if given is not None:
        path = given / f"{library.owner}+{library.name}" / "repo"
        if not path.exists():
            raise SystemExit(f"{path} does not exist.")
        return path
    path = keep / "repositories" / f"{library.owner}+{library.name}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        url = f"https://github.com/{library.owner}/{library.name}"
        subprocess.run(["git", "clone", "--quiet", url, f"{path}.new"], check=True, timeout=3600)
        Path(f"{path}.new").rename(path)
    return path


def settings_for(data: Path, embeddings: str | None) -> Settings:
    given = {} if embeddings is None else {"embeddings": embeddings}
    return Settings(data=data, backend="none", **given)  # type: ignore[arg-type] # one known field


def measure_library(library: Library, keep: Path, options: argparse.Namespace) -> tuple[Result, tuple[Label, ...]]:
    """All figures of one library, and its questions."""
    root = repository_of(library, keep, options.repositories)
    settings = settings_for(keep / "data", options.embeddings)
    started = time.perf_counter()
    with snapshot(root, settings, ignore_progress, never) as made:
        index = made.index
        embedders, notes = usable_embedders(index, settings)
        result = Result(library.name, made.revision or "", index.table.counts().chunks, notes=(*made.notes, *notes))
        chunks = [chunk for path in sorted(index.table.known_files()) for chunk in index.table.chunks_of(path)]
        baselines = _baselines(made, root, chunks)
        first = 0
        pairs = []
        for label, candidates in judged(index, made.labels, embedders, never):
            ranked = rankings(label, candidates, GLOBAL)
            if label.kind is LabelKind.NAME:
                first += score(label.gold, ranked[FUSED][:1])[0] == 1
                continue
            pairs.append((label, candidates))
            for arm in (*(source.value for source in SignalSource), FUSED):
                result.scores[label.kind, arm].append(score(label.gold, ranked.get(arm, [])))
            for name, answer in baselines.get(label.kind, {}).items():
                result.scores[label.kind, name].append(score(label.gold, answer(label.question)))
        _adapt(result, pairs)
        result.names_first = (first, sum(label.kind is LabelKind.NAME for label in made.labels))
        if not options.without_dense:
            _compare_dense(result, made, chunks, keep / "minilm" / f"{library.name}-{result.revision[:12]}.npz")
        questions = made.labels
    result.seconds = time.perf_counter() - started
    return result, questions


def _adapt(result: Result, pairs: Sequence[tuple[Label, Candidates]]) -> None:
    """What `codehub tune` does: fits on two thirds of the older half, chooses by the third, and tells of the rest."""
    told = [pair for pair in pairs if not pair[0].held_out]
    fitting = [pair for number, pair in enumerate(told) if number % 3]
    weights, _ = adapt(fitting, told[::3], GLOBAL)
    for label, candidates in pairs:
        if label.held_out:
            for name, chosen in ((HALF, GLOBAL), (ADAPTED, weights)):
                ranked = rankings(label, candidates, chosen)[FUSED]
                result.scores[label.kind, name].append(score(label.gold, ranked))


def _baselines(made: Snapshot, root: Path, chunks: Sequence[Chunk]) -> dict[LabelKind, dict[str, _Answer]]:
    """What answers without us: plain BM25 over the C++ alone, and the use of history that takes twenty lines."""
    chunks = [chunk for chunk in chunks if language_of(chunk.span.path) is Language.CPP]
    per_chunk = Bm25([words(f"{chunk.title}\n{chunk.text}") for chunk in chunks])
    texts: dict[str, list[str]] = defaultdict(list)
    for chunk in chunks:
        texts[chunk.span.path].append(chunk.text)
    paths = sorted(texts)
    per_file = Bm25([words(f"{path}\n{''.join(texts[path])}") for path in paths])
    known = {path: number for number, path in enumerate(paths)}
    told: list[str] = []
    touched: list[list[int]] = []
    source = history.source_of(root, made.revision) if made.revision else None
    for entry in history.entries(source, _plain_commits(source)) if source else ():
        changed = [known[change.path] for change in entry.changes if change.path in known]
        if changed and entry.files <= HISTORY_FILES:
            told.append(f"{entry.subject}\n{entry.body}")
            touched.append(changed)
    per_commit = Bm25([words(text) for text in told])

    def functions(question: str) -> list[Gold]:
        return [chunks[number].span for number in per_chunk.best(question, DEPTH)]

    def files(question: str) -> list[Gold]:
        return [paths[number] for number in per_file.best(question, DEPTH)]

    def files_and_history(question: str) -> list[Gold]:
        own = per_file.scores(question)
        votes = np.zeros(len(paths))
        scores = per_commit.scores(question)
        for number in per_commit.best(question, HISTORY_COMMITS):
            votes[touched[number]] += scores[number] / len(touched[number])
        both = own / max(own.max(), 1e-9) + HISTORY_SHARE * votes / max(votes.max(), 1e-9)
        return [paths[number] for number in np.argsort(-both, kind="stable")[:DEPTH]]

    by_function: dict[str, _Answer] = {"BM25 per chunk": functions}
    return {
        LabelKind.DESCRIPTION: by_function,
        LabelKind.BODY: by_function,
        LabelKind.COMMIT: {"BM25 over files": files, "BM25 + history": files_and_history},
    }


def _plain_commits(source: history.HistorySource) -> list[str]:
    return [commit for commit, parents in history.commits(source, 20_000) if parents < 2]


def _compare_dense(result: Result, made: Snapshot, chunks: Sequence[Chunk], cache: Path) -> None:
    """Our static model and MiniLM, each alone, over the same chunks: all that hold an answer, and others by chance."""
    labels = [label for label in made.labels if label.kind in (LabelKind.DESCRIPTION, LabelKind.BODY)]
    static = _static()
    if not labels or static is None:
        return
    wanted: dict[str, list[Span]] = defaultdict(list)
    for label in labels:
        for span in label.gold:
            if isinstance(span, Span):
                wanted[span.path].append(span)
    golden = [chunk for chunk in chunks if any(_overlap(chunk.span, span) for span in wanted.get(chunk.span.path, ()))]
    taken = {chunk.id for chunk in golden}
    others = sorted((chunk for chunk in chunks if chunk.id not in taken), key=lambda chunk: chunk.id)
    random.Random(SEED).shuffle(others)
    sample = [*golden, *others[: max(0, DENSE_CHUNKS - len(golden))]]
    result.dense_chunks = len(sample)
    minilm = MiniLmEmbedder()
    sides: tuple[tuple[str, Embedder, Matrix], ...] = (
        ("static", static, static.embed_documents([embedded_text(chunk) for chunk in sample])),
        ("MiniLM", minilm, _minilm_vectors(minilm, sample, cache)),
    )
    for label in labels:
        for name, embedder, matrix in sides:
            near = np.argsort(-(matrix @ embedder.embed_query(label.question)), kind="stable")[:DEPTH]
            result.dense[label.kind, name].append(score(label.gold, [sample[number].span for number in near]))


def _overlap(one: Span, other: Span) -> bool:
    return one.first_line <= other.last_line and other.first_line <= one.last_line


def _static() -> Embedder | None:
    try:
        from indexer.static_embedding import StaticEmbedder  # noqa: PLC0415 - its model is read here
    except ImportError:
        return None
    made: Embedder = StaticEmbedder()
    return made


def _minilm_vectors(minilm: Embedder, sample: Sequence[Chunk], cache: Path) -> Matrix:
    ids = [chunk.id for chunk in sample]
    known: dict[str, Matrix] = {}
    if cache.exists():
        with np.load(cache) as kept:
            known = dict(zip(kept["ids"].tolist(), kept["vectors"], strict=True))
    missing = sorted((chunk for chunk in sample if chunk.id not in known), key=lambda chunk: len(chunk.text))
    for start in range(0, len(missing), 64):
        part = missing[start : start + 64]
        vectors = minilm.embed_documents([embedded_text(chunk) for chunk in part])
        known |= dict(zip([chunk.id for chunk in part], vectors, strict=True))
    if missing:
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez(cache, ids=np.array(list(known)), vectors=np.array(list(known.values())))
    return np.array([known[chunk] for chunk in ids])


# Speed


@dataclass
class Speed:
    library: str
    chunks: int
    p50_ms: float
    p95_ms: float
    cpu_p50_ms: float  # processor time, which others on the machine hardly change
    cpu_p95_ms: float
    memory_mib: float
    load: float  # of the machine meanwhile; above its cores the times are those of a busy machine
    arms: tuple[str, ...]
    texts_per_s: dict[str, float]


def measure_speed(
    chosen: Sequence[Library],
    results: Sequence[Result],
    keep: Path,
    options: argparse.Namespace,
    labels: Sequence[Label],
) -> Speed:
    """Warm queries in a process of their own, over the largest tree that was measured, with its history.

    Of a tree that is larger than the bars are for, the first files by path are taken.
    """
    library, result = max(zip(chosen, results, strict=True), key=lambda pair: pair[1].chunks)
    root = repository_of(library, keep, options.repositories)
    with TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        export(root, "HEAD", tree, FileRules())
        files = sorted(path for path in tree.rglob("*") if path.is_file())
        room = sum(path.stat().st_size for path in files) * min(1.0, WARM_CHUNKS / max(1, result.chunks))
        for path in files:
            room -= path.stat().st_size
            if room < 0:
                path.unlink()
        settings = settings_for(Path(folder) / "data", options.embeddings)
        data = DataFolder(settings.data)
        with data.owned(), Index.for_writing(data, "warm", tree) as index:
            index_at(index, settings, root, "HEAD", ignore_progress, never)
        asked = Path(folder) / "questions.json"
        asked.write_text(json.dumps(_mixed(labels)), encoding="utf-8")
        arguments = [sys.executable, str(Path(__file__).resolve()), "--warm", str(settings.data), str(asked)]
        arguments += ["--embeddings", options.embeddings] if options.embeddings else []
        done = subprocess.run(arguments, check=True, timeout=3600, capture_output=True, text=True)
        with Index.for_reading(data, "warm") as index:
            texts = [
                embedded_text(chunk)
                for path in sorted(index.table.known_files())
                for chunk in index.table.chunks_of(path)
            ]
    random.Random(SEED).shuffle(texts)
    return Speed(library.name, **json.loads(done.stdout), texts_per_s=_texts_per_second(texts[:SPEED_TEXTS]))


def _mixed(labels: Sequence[Label]) -> list[str]:
    """As many questions of each kind, in an order that is always the same."""
    chance = random.Random(SEED)
    mixed = []
    for kind in LabelKind:
        asked = sorted({label.question for label in labels if label.kind is kind})
        mixed += chance.sample(asked, min(len(asked), WARM_QUESTIONS))
    chance.shuffle(mixed)
    return mixed


def warm(data: Path, questions: Path, embeddings: str | None) -> dict[str, object]:
    settings = settings_for(data, embeddings)
    asked = json.loads(questions.read_text(encoding="utf-8"))
    seconds: list[float] = []
    busy: list[float] = []
    arms: set[str] = set()
    with Index.for_reading(DataFolder(data), "warm") as index:
        embedders, _ = usable_embedders(index, settings)
        for question in asked[: len(asked) // 5]:  # what is cached is then warm
            arms |= {arm.value for arm in retrieve(index, understand(question), embedders, DEPTH).arms}
        for question in asked:
            started, worked = time.perf_counter(), time.process_time()
            retrieve(index, understand(question), embedders, DEPTH)
            seconds.append(time.perf_counter() - started)
            busy.append(time.process_time() - worked)
        chunks = index.table.counts().chunks
    p50, p95 = (float(value) * 1000 for value in np.percentile(seconds, [50, 95]))
    cpu50, cpu95 = (float(value) * 1000 for value in np.percentile(busy, [50, 95]))
    told: dict[str, object] = {"chunks": chunks, "p50_ms": p50, "p95_ms": p95, "cpu_p50_ms": cpu50, "cpu_p95_ms": cpu95}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**told, "memory_mib": peak, "arms": sorted(arms), "load": os.getloadavg()[0]}


def _texts_per_second(texts: Sequence[str]) -> dict[str, float]:
    speeds = {}
    for name, embedder, part in (("static", _static(), texts), ("MiniLM", MiniLmEmbedder(), texts[: len(texts) // 10])):
        if embedder is not None and part:
            embedder.embed_documents(part[:16])
            started = time.perf_counter()
            embedder.embed_documents(part)
            speeds[name] = len(part) / (time.perf_counter() - started)
    return speeds


# Tables

# What is asked, which of (hit, reciprocal rank, NDCG) is shown, its name, the first bar and the goal.
ROWS = (
    (LabelKind.COMMIT, 2, "commit message -> changed files, NDCG@10", ".56", ".65"),
    (LabelKind.DESCRIPTION, 0, "description -> function, Hit@10", ".60", ".80"),
    (LabelKind.DESCRIPTION, 1, "description -> function, MRR@10", ".35", ".55"),
    (LabelKind.BODY, 0, "long description -> body, Hit@10", "", ""),
    (LabelKind.BODY, 2, "long description -> body, NDCG@10", "", ""),
)
ORDER = (
    FUSED,
    HALF,
    ADAPTED,
    *(source.value for source in SignalSource),
    "BM25 per chunk",
    "BM25 over files",
    "BM25 + history",
)


def as_tables(results: Sequence[Result], speed: Speed | None, *, development: bool) -> str:
    lines = [f"{machine()}", ""]
    if development:
        lines += ["**Ranking was tuned on these libraries: no evidence.**", ""]
    names = [result.library for result in results]
    lines += [
        f"| | bar | goal | **mean** | {' | '.join(names)} |",
        f"|---|---|---|---|{'---|' * len(names)}",
    ]
    for kind, column, title, bar, goal in ROWS:
        asked = " + ".join(str(len(result.scores[kind, FUSED])) for result in results)
        lines.append(f"| **{title}** ({asked} questions) | {bar} | {goal} | |{' |' * len(names)}")
        for arm in ORDER:
            told = [_mean(result.scores[kind, arm], column) for result in results]
            if any(value for value in told if value is not None):
                lines.append(f"| {arm} | | | {_row(told)} |")
    first = [result.names_first[0] / result.names_first[1] if result.names_first[1] else None for result in results]
    lines.append(f"| **exact identifier at rank 1** | 1 | 1 | {_row(first)} |")
    lines += ["", *_dense_lines(results), *_speed_lines(speed)]
    lines += [
        f"- {result.library} at {result.revision[:12]}: {result.chunks:,} chunks. {' '.join(result.notes)}"
        for result in results
    ]
    lines += ["", "Intervals of 95% over all questions of all libraries:"]
    for kind, column, title, _, _ in ROWS:
        rows = [row for result in results for row in result.scores[kind, FUSED]]
        lines.append(f"- {title}: {_interval(intervals(rows, SEED)[column])}")
    return "\n".join(lines)


def _dense_lines(results: Iterable[Result]) -> list[str]:
    told = [result for result in results if result.dense]
    if not told:
        return []
    lines = [
        f"Static model and MiniLM int8, each alone, over the same chunks (at most {DENSE_CHUNKS:,} a library):",
        "",
        "| | static | MiniLM | ratio |",
        "|---|---|---|---|",
    ]
    for kind, title in (
        (LabelKind.DESCRIPTION, "description -> function"),
        (LabelKind.BODY, "long description -> body"),
    ):
        for column, measure in ((0, "Hit@10"), (1, "MRR@10"), (2, "NDCG@10")):
            means = []
            for side in ("static", "MiniLM"):
                values = [_mean(result.dense[kind, side], column) for result in told]
                known = [value for value in values if value is not None]
                means.append(sum(known) / len(known) if known else 0.0)
            ratio = f"{means[0] / means[1]:.2f}x" if means[1] else ""
            lines.append(f"| {title}, {measure} | {means[0]:.3f} | {means[1]:.3f} | {ratio} |")
    return [*lines, ""]


def _speed_lines(speed: Speed | None) -> list[str]:
    if speed is None:
        return []
    rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in speed.texts_per_s.items())
    told = (
        f"Warm queries over {speed.library}, {speed.chunks:,} chunks (the bars are for {WARM_CHUNKS:,}), arms"
        f" {', '.join(speed.arms)}: p50 {speed.p50_ms:.1f} ms (bar 15, goal 10), p95 {speed.p95_ms:.1f} ms (bar 40,"
        f" goal 25), of processor time {speed.cpu_p50_ms:.1f} and {speed.cpu_p95_ms:.1f} ms, at a load of"
        f" {speed.load:.1f}. Peak memory of the process {speed.memory_mib:.0f} MiB (bar 500). Chunks embedded a second:"
        f" {rates}."
    )
    return [told, ""]


def _mean(rows: Sequence[Score], column: int) -> float | None:
    return sum(row[column] for row in rows) / len(rows) if rows else None


def _row(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    mean = f"**{sum(known) / len(known):.3f}**" if known else ""
    return " | ".join([mean, *("" if value is None else f"{value:.3f}" for value in values)])


def _interval(value: Interval) -> str:
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def as_json(results: Sequence[Result], speed: Speed | None) -> str:
    shown = []
    for result in results:
        figures = {
            f"{kind.value}/{arm}": dict(
                zip(("hit", "mrr", "ndcg"), (_mean(rows, column) for column in range(3)), strict=True)
            )
            for (kind, arm), rows in result.scores.items()
        }
        shown.append({"library": result.library, "revision": result.revision, "chunks": result.chunks, **figures})
    return json.dumps({"machine": machine(), "libraries": shown, "speed": speed and speed.__dict__}, indent=1)


if __name__ == "__main__":
    main()
