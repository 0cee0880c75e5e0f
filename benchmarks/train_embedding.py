"""Makes the static C++ embedding again from scratch, on a CPU, and prints its scores beside MiniLM's and BM25's.

    python benchmarks/train_embedding.py --folder /tmp/train --score ~/src/glog ~/src/jsoncpp

It fetches Debian's source packages (some 2 GB under --folder), mines pairs, counts a vocabulary, starts each word at
its MiniLM vector, learns vectors and weights by contrast within batches, writes the three files of
indexer/static_embedding.py and prints the digest that belongs there. Needs ``pip install -e .[train]``. Equal packages
and libraries give equal files. --score names trees to measure on; none may hold what was learnt from.
"""

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy
import scipy.sparse as sp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cpp_pairs
from cpp_pairs import Pair, View

from hub.labels import LabelKind, hide_comments
from indexer import static_embedding
from indexer.embedding import MiniLmEmbedder
from indexer.files import FileRules, check_root, read, scan
from indexer.model import Chunk, Embedder, Language, SourceFile, Span
from indexer.pipeline import embedded_text, parse_file
from indexer.static_embedding import (
    BUCKETS,
    DIMENSIONS,
    FILES,
    FOLDER,
    TITLE_GAIN,
    Pieces,
    StaticEmbedder,
    read_model,
)
from indexer.words import query_words, words

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

SEED = 11

# The vocabulary: words that several projects use. 10,000 to 40,000; 256 bytes each.
MOST_WORDS = 26_000
LONGEST_WORD = 24
_COMMON = ((3, 8), (2, 30))  # (packages, occurrences) that are enough

# Learning. Batches of pairs from few packages, neighbours together: answers that are hard to tell apart.
BATCH = 640  # 256 to 2,048
NEIGHBOURS = 8  # pairs of one stretch of a package that stay together
OF_ONE_PACKAGE = 160  # pairs of one package in a batch, at least
EPOCHS = 5.0
RATE = 0.02
VECTOR_RATE = 0.15  # times RATE, for vectors
WEIGHT_RATE = 0.5  # times RATE, for the logarithms of weights
SHARPNESS = 18.0  # cosine times this is what the softmax sees; 10 to 30
BACKWARDS = 0.3  # share of the loss that asks for the question, given the code
SHARES = {View.SENTENCE: 1.0, View.COMMENT: 0.6, View.INNER: 1.0, View.NAME: 0.5, View.TEXT: 0.5}  # of pairs an epoch


LEAST_QUESTIONS = 10  # of a kind; a tree with fewer has no say in the mean


class Vocabulary(NamedTuple):
    words: list[str]
    rows: dict[str, int]


class Learnt(NamedTuple):
    vectors: Floats  # shape (words + BUCKETS, DIMENSIONS)
    document: Floats  # shape (words + BUCKETS,): logarithm of a word's weight in a document
    question: Floats  # the same in a question


class Data(NamedTuple):
    """Pairs as sparse rows over the vocabulary: what of the training they are, and what they must not be told from."""

    questions: sp.csr_matrix
    documents: sp.csr_matrix
    packages: Ints
    views: npt.NDArray[np.float32]  # share of an epoch
    chunks: Ints
    same_question: Ints


class Task(NamedTuple):
    """A tree to search: what is embedded of its chunks, and (kind, question, chunks that answer it)."""

    name: str
    texts: list[str]
    questions: list[tuple[LabelKind, str, frozenset[int]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, required=True, help="where packages are kept between runs")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the model's files go")
    parser.add_argument("--quick", action="store_true", help="eight packages and one epoch, to see that it works")
    parser.add_argument("--score", type=Path, nargs="*", default=[], help="trees to measure on")
    parser.add_argument("--only-score", action="store_true", help="measure the model that ships, and learn nothing")
    arguments = parser.parse_args()
    tasks = [task_of(path) for path in arguments.score]
    if not arguments.only_score:
        _make(arguments.folder.resolve(), arguments.out, quick=arguments.quick)
    if tasks:
        _print_scores(tasks, arguments.out)


def _make(folder: Path, out: Path, *, quick: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()

    def say(what: str) -> None:
        print(f"{time.perf_counter() - began:6.0f} s  {what}", flush=True)

    versions = cpp_pairs.fetch(folder, cpp_pairs.QUICK_PACKAGES if quick else cpp_pairs.PACKAGES)
    say("packages: " + ", ".join(f"{name} {version}" for name, version in sorted(versions.items())))
    pairs = list(cpp_pairs.mine(folder, versions))
    views = Counter(pair.view for pair in pairs)
    say(f"{len(pairs):,} pairs: " + ", ".join(f"{views[view]:,} by {view.value}" for view in View))
    vocabulary = vocabulary_of(pairs)
    say(f"{len(vocabulary.words):,} words")
    data = data_of(pairs, vocabulary)
    start = start_of(vocabulary, data)
    say("vectors to start from")
    learnt = learn(data, start, 1.0 if quick else EPOCHS, say)
    out.mkdir(parents=True, exist_ok=True)
    files = files_of(vocabulary, learnt)
    for name, content in zip(FILES, files, strict=True):
        (out / name).write_bytes(content)
    print(f"Python {sys.version.split()[0]}, numpy {np.__version__}, scipy {scipy.__version__}")
    print(f"{sum(map(len, files)):,} bytes in {out}; SHA256 = {static_embedding.digest(files)}")


def vocabulary_of(pairs: Sequence[Pair]) -> Vocabulary:
    """Letters, then words that several packages use, the most used first."""
    total: Counter[str] = Counter()
    spread: Counter[str] = Counter()
    by_package: dict[str, Counter[str]] = {}
    for pair in pairs:
        counts = by_package.setdefault(pair.package, Counter())
        counts.update(static_embedding.words_of(pair.question))
        counts.update(set(static_embedding.words_of(f"{pair.title} {pair.code}")))
    for counts in by_package.values():
        lower: Counter[str] = Counter()
        for word, times in counts.items():
            lower[word.lower()] += times
        for word, times in lower.items():
            total[word] += min(times, 2000)
            spread[word] += 1
    common = [
        word
        for word, times in total.items()
        if 1 < len(word) <= LONGEST_WORD and any(spread[word] >= least and times >= often for least, often in _COMMON)
    ]
    common.sort(key=lambda word: (-total[word] * math.sqrt(spread[word]), word))
    chosen = [*"abcdefghijklmnopqrstuvwxyz", *common[:MOST_WORDS]]
    return Vocabulary(chosen, {word: row for row, word in enumerate(chosen)})


def data_of(pairs: Sequence[Pair], vocabulary: Vocabulary) -> Data:
    pieces = Pieces(vocabulary.rows)
    kept = [(pair, rows) for pair in pairs for rows in [pieces.rows(pair.question)] if len(rows) > 1]
    questions = [np.array(rows, dtype=np.uint16) for _, rows in kept]
    titles = [np.array(pieces.rows(pair.title), dtype=np.uint16) for pair, _ in kept]
    bodies = [np.array(pieces.rows(pair.code), dtype=np.uint16) for pair, _ in kept]
    packages = {name: number for number, name in enumerate(sorted({pair.package for pair, _ in kept}))}
    texts = {text: number for number, text in enumerate(dict.fromkeys(rows.tobytes() for rows in questions))}
    size = len(vocabulary.words) + BUCKETS
    return Data(
        _bags([np.zeros(0, dtype=np.uint16)] * len(kept), questions, size),
        _bags(titles, bodies, size),
        np.array([packages[pair.package] for pair, _ in kept]),
        np.array([SHARES[pair.view] for pair, _ in kept], dtype=np.float32),
        np.array([pair.chunk for pair, _ in kept]),
        np.array([texts[rows.tobytes()] for rows in questions]),
    )


def _bags(titles: Sequence[Any], bodies: Sequence[Any], size: int) -> sp.csr_matrix:
    """The same sums as StaticEmbedder's, as sparse rows."""
    parts = []
    for start in range(0, len(bodies), 20_000):
        some = slice(start, start + 20_000)
        of_titles, of_bodies = _keys(titles[some], size), _keys(bodies[some], size)
        distinct, places = np.unique(np.concatenate((of_bodies, of_titles)), return_inverse=True)
        times = np.bincount(places[: len(of_bodies)], minlength=len(distinct))
        named = np.bincount(places[len(of_bodies) :], minlength=len(distinct)) > 0
        values = np.where(times > 0, 1 + np.log(np.maximum(times, 1)), 0) + TITLE_GAIN * named
        texts, columns = np.divmod(distinct, size)
        count = len(bodies[some])
        bounds = np.searchsorted(texts, np.arange(count + 1))
        parts.append(sp.csr_matrix((values.astype(np.float32), columns.astype(np.int32), bounds), shape=(count, size)))
    return sp.vstack(parts, format="csr")


def _keys(bags: Sequence[Any], size: int) -> Ints:
    texts = np.repeat(np.arange(len(bags), dtype=np.int64), [len(bag) for bag in bags])
    return texts * size + np.concatenate(bags).astype(np.int64)


def start_of(vocabulary: Vocabulary, data: Data) -> Learnt:
    """MiniLM's vectors of the words, in their main directions, any for the buckets; those of rare words longer.

    The weight a / (a + frequency) is that of Arora, Liang and Ma, "A simple but tough-to-beat baseline for sentence
    embeddings", 2017.
    """
    known = MiniLmEmbedder().embed_documents(vocabulary.words).astype(np.float64)
    known -= known.mean(axis=0)
    _, directions = np.linalg.eigh(known.T @ known)
    known = known @ directions[:, ::-1][:, :DIMENSIONS]
    others = np.random.default_rng(SEED).normal(size=(BUCKETS, DIMENSIONS))
    vectors = np.concatenate((known, others))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    size = len(vectors)
    frequency = np.bincount(data.documents.indices, minlength=size) / data.documents.shape[0]
    vectors *= (1e-3 / (1e-3 + frequency) + 0.02)[:, None]
    vectors[:26] *= 0.1  # letters are pieces of words, which say little
    return Learnt(vectors.astype(np.float32), np.zeros(size, np.float32), np.zeros(size, np.float32))


def learn(data: Data, start: Learnt, epochs: float, say: Callable[[str], None]) -> Learnt:
    """In each batch every question is told its own code from all others, by gradient descent (Adam's steps).

    The second moment is one number a row for vectors, and only the rows of a batch move.
    """
    chance = np.random.default_rng(SEED)
    vectors, document, question = (part.copy() for part in start)
    size = len(vectors)
    first, second = np.zeros_like(vectors), np.zeros(size, np.float32)
    moments = np.zeros((2, 2, size), np.float32)
    total = int(float(data.views.sum()) * epochs) // BATCH
    loss, step = 0.0, 0
    local = np.zeros(size, np.int32)
    while step < total:
        order = _order(data, chance)
        for at in range(0, len(order) - BATCH // 2, BATCH):
            if step >= total:
                break
            batch = order[at : at + BATCH]
            asked, answers = data.questions[batch], data.documents[batch]
            active = np.unique(np.concatenate((asked.indices, answers.indices)))
            local[active] = np.arange(len(active), dtype=np.int32)
            asked, answers = _local(asked, question, local, len(active)), _local(answers, document, local, len(active))
            table = vectors[active]
            gradients, one = _gradients(asked, answers, table, _excused(data, batch))
            loss = one if not step else 0.98 * loss + 0.02 * one
            step += 1
            rate = RATE * min(1.0, step / 50) * max(0.03, 1 - step / total)
            of_question, of_document = ((table * part).sum(axis=1) for part in gradients)
            change = gradients[0] + gradients[1]
            first[active] = 0.9 * first[active] + 0.1 * change
            second[active] = 0.99 * second[active] + 0.01 * (change * change).mean(axis=1)
            vectors[active] -= rate * VECTOR_RATE * first[active] / (np.sqrt(second[active]) + 1e-8)[:, None]
            for weight, slope, (mean, square) in (
                (question, of_question, moments[0]),
                (document, of_document, moments[1]),
            ):
                mean[active] = 0.9 * mean[active] + 0.1 * slope
                square[active] = 0.99 * square[active] + 0.01 * slope * slope
                weight[active] -= rate * WEIGHT_RATE * mean[active] / (np.sqrt(square[active]) + 1e-8)
            if not step % 100:
                say(f"step {step:,} of {total:,}: loss {loss:.3f}")
    return Learnt(vectors, document, question)


def _order(data: Data, chance: np.random.Generator) -> Ints:
    """An epoch: stretches of neighbours, shuffled within their package; then runs of one package, shuffled."""
    kept = np.flatnonzero(chance.random(len(data.views)) < data.views)
    runs: list[Ints] = []
    for package in np.unique(data.packages):
        own = kept[data.packages[kept] == package]
        stretches = [own[at : at + NEIGHBOURS] for at in range(0, len(own), NEIGHBOURS)]
        shuffled = [stretches[place] for place in chance.permutation(len(stretches))]
        many = OF_ONE_PACKAGE // NEIGHBOURS
        runs += [np.concatenate(shuffled[at : at + many]) for at in range(0, len(shuffled), many)]
    return np.concatenate([runs[place] for place in chance.permutation(len(runs))])


def _local(bags: sp.csr_matrix, weight: Floats, local: npt.NDArray[np.int32], columns: int) -> sp.csr_matrix:
    """The rows over the words of a batch alone, each word times its weight."""
    values = bags.data * np.exp(weight)[bags.indices]
    return sp.csr_matrix((values, local[bags.indices], bags.indptr), shape=(bags.shape[0], columns))


def _excused(data: Data, batch: Ints) -> npt.NDArray[np.bool_]:
    """Which codes are no wrong answers to which questions, beside each question's own."""
    chunks, texts = data.chunks[batch], data.same_question[batch]
    same: npt.NDArray[np.bool_] = (chunks[:, None] == chunks) | (texts[:, None] == texts)
    np.fill_diagonal(same, val=False)
    return same


def _gradients(
    asked: sp.csr_matrix, answers: sp.csr_matrix, table: Floats, excused: npt.NDArray[np.bool_]
) -> tuple[tuple[Floats, Floats], float]:
    """Those of the table through questions and through answers, and the loss: cross entropy over the batch."""
    count = asked.shape[0]
    question, question_length = _unit(asked @ table)
    answer, answer_length = _unit(answers @ table)
    scores = SHARPNESS * (question @ answer.T)
    scores[excused] = -1e9
    forwards = np.exp(scores - scores.max(axis=1, keepdims=True))
    forwards /= forwards.sum(axis=1, keepdims=True)
    backwards = np.exp(scores - scores.max(axis=0, keepdims=True))
    backwards /= backwards.sum(axis=0, keepdims=True)
    loss = float(-np.log(np.diag(forwards) + 1e-12).mean())
    slope = (1 - BACKWARDS) * forwards + BACKWARDS * backwards
    slope[np.arange(count), np.arange(count)] -= 1
    slope *= SHARPNESS / count
    to_question, to_answer = slope @ answer, slope.T @ question
    to_question = (to_question - question * (to_question * question).sum(axis=1, keepdims=True)) / question_length
    to_answer = (to_answer - answer * (to_answer * answer).sum(axis=1, keepdims=True)) / answer_length
    return (asked.T @ to_question, answers.T @ to_answer), loss


def _unit(rows: Floats) -> tuple[Floats, Floats]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True) + np.float32(1e-9)
    return rows / lengths, lengths


def files_of(vocabulary: Vocabulary, learnt: Learnt) -> list[bytes]:
    """The contents of FILES, in the format of model2vec: vectors in 8 bits, each with its own scale."""
    scale = np.maximum(np.abs(learnt.vectors).max(axis=1) / 127, 1e-12)
    vectors = np.rint(learnt.vectors / scale[:, None]).astype(np.int8)
    weights = [(scale * np.exp(weight)).astype(np.float32) for weight in (learnt.document, learnt.question)]
    tensors = {
        "embeddings": ("I8", vectors),
        "weights": ("F32", weights[0] / weights[0].max()),
        "query_weights": ("F32", weights[1] / weights[1].max()),
    }
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    numbers = b""
    for name, (kind, array) in tensors.items():
        content = array.tobytes()
        offsets = [len(numbers), len(numbers) + len(content)]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}
        numbers += content
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    config = {
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "hidden_dim": DIMENSIONS,
        "seq_length": 1_000_000,
        "normalize": True,
        "title_gain": TITLE_GAIN,
        "buckets": BUCKETS,
    }
    return [
        (json.dumps(config, indent=1) + "\n").encode(),
        json.dumps(_tokenizer(vocabulary), separators=(",", ":")).encode(),
        len(head).to_bytes(8, "little") + head + numbers,
    ]


def _tokenizer(vocabulary: Vocabulary) -> dict[str, Any]:
    """What Pieces does, for those who read the model with the tokenizers library."""
    borders = {"type": "Replace", "pattern": {"Regex": "(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"}, "content": " "}
    others = {"type": "Replace", "pattern": {"Regex": "[^A-Za-z]+"}, "content": " "}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [borders, others, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordPiece",
            "unk_token": "a",
            "continuing_subword_prefix": "",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary.rows,
        },
    }


def task_of(tree: Path) -> Task:
    """The chunks of a tree with the comments of a sample of its functions hidden, and these as questions."""
    root = check_root(tree.expanduser())
    rules = FileRules()
    sources = {
        source.path: source
        for candidate in scan(root, rules).candidates
        for source in [read(root, candidate, rules)]
        if isinstance(source, SourceFile) and source.language is Language.CPP
    }
    symbols = [symbol for source in sources.values() for symbol in parse_file(source)[0].symbols]
    texts = {path: source.text for path, source in sources.items()}
    hidden = hide_comments(symbols, texts.get, sorted(texts), SEED)
    chunks: list[Chunk] = []
    for path, source in sorted(sources.items()):
        chunks += parse_file(replace(source, text=hidden.texts.get(path, source.text)))[1]
    places: dict[str, list[tuple[int, Span]]] = {}
    for number, chunk in enumerate(chunks):
        places.setdefault(chunk.span.path, []).append((number, chunk.span))
    questions = []
    for label in hidden.labels:
        gold = frozenset(
            number
            for span in label.gold
            if isinstance(span, Span)
            for number, place in places.get(span.path, [])
            if place.first_line <= span.last_line and span.first_line <= place.last_line
        )
        if gold:
            questions.append((label.kind, label.question, gold))
    return Task(root.name, [embedded_text(chunk) for chunk in chunks], questions)


def _print_scores(tasks: Sequence[Task], folder: Path) -> None:
    """Hit@10 and the mean reciprocal rank, each the mean over the trees; the speed over all of them, on one core."""
    model = StaticEmbedder(read_model([(folder / name).read_bytes() for name in FILES]))
    arms: dict[str, tuple[list[Floats], float]] = {"BM25": ([bm25(task) for task in tasks], 0.0)}
    embedders: list[tuple[str, Embedder]] = [("static", model), ("MiniLM", MiniLmEmbedder(1))]
    for name, embedder in embedders:
        arms[name] = _cosines(embedder, tasks)
        arms[f"BM25 + {name}"] = ([_fused(*both) for both in zip(arms["BM25"][0], arms[name][0], strict=True)], 0.0)
    print(", ".join(f"{task.name}: {len(task.texts):,} chunks, {len(task.questions)} questions" for task in tasks))
    for kind in (LabelKind.DESCRIPTION, LabelKind.BODY):
        for name, (scores, speed) in arms.items():
            ranks = [
                [rank(row, gold) for row, (own, _, gold) in zip(of_task, task.questions, strict=True) if own is kind]
                for of_task, task in zip(scores, tasks, strict=True)
            ]
            rows = [figures(places) for places in ranks if len(places) >= LEAST_QUESTIONS]
            if rows:
                hit, reciprocal = np.mean(rows, axis=0)
                pace = f"   {speed:8,.0f} chunks/s" if speed else ""
                print(f"{kind.value:12} {name:14} Hit@10 {hit:.3f}   MRR@10 {reciprocal:.3f}{pace}")


def _cosines(embedder: Embedder, tasks: Sequence[Task]) -> tuple[list[Floats], float]:
    scores: list[Floats] = []
    spent = 0.0
    for task in tasks:
        began = time.process_time()
        documents = embedder.embed_documents(task.texts)
        spent += time.process_time() - began
        questions = np.array([embedder.embed_query(text) for _, text, _ in task.questions], dtype=np.float32)
        scores.append(questions.reshape(-1, embedder.dimensions) @ documents.T)
    return scores, sum(len(task.texts) for task in tasks) / spent


def bm25(task: Task) -> Floats:
    """Okapi BM25 with k1 1.2 and b 0.75, shape (questions, chunks)."""
    bags = [Counter(words(text)) for text in task.texts]
    lengths = np.array([sum(bag.values()) for bag in bags])
    relative = 0.25 + 0.75 * lengths / lengths.mean()
    postings: dict[str, list[tuple[int, int]]] = {}
    for number, bag in enumerate(bags):
        for word, times in bag.items():
            postings.setdefault(word, []).append((number, times))
    scores = np.zeros((len(task.questions), len(bags)), dtype=np.float32)
    for row, (_, question, _) in zip(scores, task.questions, strict=True):
        for word in query_words(question):
            if word in postings:
                numbers, times = np.array(postings[word]).T
                rarity = math.log(1 + (len(bags) - len(numbers) + 0.5) / (len(numbers) + 0.5))
                row[numbers] += rarity * times * 2.2 / (times + 1.2 * relative[numbers])
    return scores


def _fused(*arms: Floats) -> Floats:
    """By rank, arms alike: the sum of 1 / (20 + place)."""
    total = np.zeros_like(arms[0])
    for scores in arms:
        places = (-scores).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
        total += 1 / (20 + places)
    return total


def rank(scores: Floats, gold: Iterable[int]) -> int:
    """The place of the first answer, from 0; among equals in the middle."""
    best = max(scores[number] for number in gold)
    return int((scores > best).sum() + (int((scores == best).sum()) - 1) // 2)


def figures(ranks: Sequence[int]) -> tuple[float, float]:
    """Hit@10 and the mean reciprocal rank of the first ten."""
    return (
        float(np.mean([place < 10 for place in ranks])),
        float(np.mean([1 / (place + 1) if place < 10 else 0.0 for place in ranks])),
    )


if __name__ == "__main__":
    main()
