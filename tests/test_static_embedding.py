"""The static model: how it reads words, what it refuses, and that its files are what their format says."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from indexer import static_embedding
from indexer.errors import EmbedderError
from indexer.static_embedding import (
    BUCKETS,
    DIMENSIONS,
    FILES,
    FOLDER,
    MAX_CHARACTERS,
    SHA256,
    STATIC_NAME,
    TITLE_GAIN,
    Model,
    Pieces,
    StaticEmbedder,
    read_model,
    words_of,
)

SMALL = {"memory": 0, "table": 1, "make": 2, "room": 3, "s": 4, "ly": 5, "er": 6}


@pytest.fixture(scope="module")
def shipped() -> Model:
    return read_model([(FOLDER / name).read_bytes() for name in FILES])


@pytest.fixture(scope="module")
def embedder() -> StaticEmbedder:
    return StaticEmbedder()


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("MakeRoom_forHTTPWrite", ["Make", "Room", "for", "HTTP", "Write"]),
        ("leveldb::DBImpl::~DBImpl()", ["leveldb", "DB", "Impl", "DB", "Impl"]),
        ("utf8_to_utf16(0x1F)", ["utf", "to", "utf", "x", "F"]),
        ("größe", ["gr", "e"]),
        ("{ 12, +, 日本 }", []),
    ],
)
def test_names_and_prose_are_read_in_words_without_digits_and_marks(text: str, read: list[str]) -> None:
    assert words_of(text) == read


@pytest.mark.parametrize(
    ("word", "pieces"),
    [
        ("Table", ["table"]),
        ("MEMORY", ["memory"]),
        ("memorytables", ["memory", "table", "s"]),
        ("roomly", ["room", "ly"]),
    ],
)
def test_a_word_is_read_as_itself_or_in_few_pieces_that_make_sense(word: str, pieces: list[str]) -> None:
    assert Pieces(SMALL)[word] == tuple(SMALL[piece] for piece in pieces)


@pytest.mark.parametrize("word", ["zmq", "serly", "maketableroommemory", "x" * 100_000])
def test_any_other_word_has_a_bucket_whatever_its_case(word: str) -> None:
    pieces = Pieces(SMALL)
    (row,) = pieces[word]
    assert len(SMALL) <= row < len(SMALL) + BUCKETS
    assert pieces[word.upper()] == (row,)


def test_what_no_project_but_yours_calls_so_is_found_by_that_word(embedder: StaticEmbedder) -> None:
    documents = ["void start(Hwqzm* a);", "void start(Zkjvq* a);", "void start(Pfxbr* a);"]
    rows = embedder.embed_documents([f"start\n{document}" for document in documents])
    for place, word in enumerate(("hwqzm", "ZKJVQ", "Pfxbr")):
        assert int(np.argmax(rows @ embedder.embed_query(word))) == place


def test_the_model_finds_code_by_its_meaning(embedder: StaticEmbedder) -> None:
    code = embedder.embed_documents(
        [
            "Arena::MemoryUsage\nsize_t Arena::MemoryUsage() const { return memory_usage_.load(); }",
            "Mutex::Unlock\nvoid Mutex::Unlock() { mu_.unlock(); }",
            "ParseInteger\nbool ParseInteger(Slice* in, uint64_t* val);",
        ]
    )
    questions = ["how much memory is allocated", "release the lock", "convert text to a number"]
    for place, question in enumerate(questions):
        assert int(np.argmax(code @ embedder.embed_query(question))) == place


@given(st.text(max_size=400) | st.binary(max_size=400).map(lambda data: data.decode("latin-1")))
@settings(max_examples=200, deadline=None)
def test_whatever_is_asked_or_stored_has_a_vector_of_unit_length(embedder: StaticEmbedder, text: str) -> None:
    rows = np.stack([embedder.embed_query(text), *embedder.embed_documents([text])])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)


@given(st.lists(st.sampled_from(["lock", "MakeRoom", "arena", "zmq", "x"]), min_size=1, max_size=30), st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_order_of_words_below_the_title_changes_nothing(
    embedder: StaticEmbedder, body: list[str], chance: random.Random
) -> None:
    other = list(body)
    chance.shuffle(other)
    rows = embedder.embed_documents([f"Foo::bar\n{' '.join(order)}" for order in (body, other)])
    assert np.array_equal(rows[0], rows[1])


def test_a_word_in_the_title_counts_more_than_the_same_word_below(embedder: StaticEmbedder) -> None:
    asked = embedder.embed_query("compress")
    below, both = embedder.embed_documents(["\ncompress the block", "compress\ncompress the block"]) @ asked
    assert both > below


def test_texts_without_a_word_have_one_vector_in_common(embedder: StaticEmbedder) -> None:
    rows = embedder.embed_documents(["", "\n{ 1, 2 };", "日本"])
    assert np.array_equal(rows, np.repeat(rows[:1], 3, axis=0))
    assert np.array_equal(embedder.embed_query(""), rows[0])


def test_what_stands_behind_the_length_that_is_read_changes_nothing(embedder: StaticEmbedder) -> None:
    long = "lock the mutex " * MAX_CHARACTERS
    assert np.array_equal(embedder.embed_query(long), embedder.embed_query(long + "free the arena"))


def test_a_group_that_is_summed_at_once_changes_no_vector(embedder: StaticEmbedder) -> None:
    texts = [f"f{'x' * (n % 7)}\nint word{n} = read(lock, {'table ' * (n % 11)});" for n in range(150)]
    together = embedder.embed_documents(texts)
    assert all(np.array_equal(together[place], embedder.embed_documents([text])[0]) for place, text in enumerate(texts))


def test_the_name_stands_for_the_files(shipped: Model) -> None:
    content = [(FOLDER / name).read_bytes() for name in FILES]
    assert static_embedding.digest(content) == SHA256
    assert f"static-cpp/{SHA256[:12]}" == STATIC_NAME
    assert sum(map(len, content)) <= 16 << 20
    fixed = json.loads(content[0])
    assert (fixed["hidden_dim"], fixed["title_gain"], fixed["buckets"]) == (DIMENSIONS, TITLE_GAIN, BUCKETS)
    assert (
        len(shipped.weights) == len(shipped.query_weights) == len(shipped.vectors) == len(shipped.vocabulary) + BUCKETS
    )


def test_the_tokenizers_library_reads_known_words_alike(shipped: Model) -> None:
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    chance = random.Random(5)
    known = sorted(shipped.vocabulary)
    pieces = Pieces(shipped.vocabulary)
    for _ in range(200):
        words = chance.choices(known, k=5)
        text = f"{words[0]}_{words[1]}(12, {words[2].upper()}) {words[3]} {words[4].capitalize()}"
        assert tokenizer.encode(text, add_special_tokens=False).ids == pieces.rows(text), text


@pytest.mark.parametrize("name", FILES)
def test_a_changed_or_missing_file_is_refused(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for file in FILES:
        (tmp_path / file).write_bytes((FOLDER / file).read_bytes())
    monkeypatch.setattr(static_embedding, "FOLDER", tmp_path)
    StaticEmbedder()
    (tmp_path / name).write_bytes((FOLDER / name).read_bytes() + b" ")
    with pytest.raises(EmbedderError, match="not the expected one") as caught:
        StaticEmbedder()
    assert "pip install" in caught.value.hint
    (tmp_path / name).unlink()
    with pytest.raises(EmbedderError, match="cannot be read"):
        StaticEmbedder()


def test_files_that_do_not_belong_together_are_refused() -> None:
    config, tokenizer, weights = ((FOLDER / name).read_bytes() for name in FILES)
    shorter = json.loads(tokenizer)
    del shorter["model"]["vocab"]["the"]
    with pytest.raises(EmbedderError, match=rf"shape \(\d+, {DIMENSIONS}\)"):
        read_model([config, json.dumps(shorter).encode(), weights])


def test_knowing_the_name_loads_nothing_and_embedding_needs_numpy_alone() -> None:
    program = """
import sys
import indexer.static_embedding
before = "numpy" in sys.modules
indexer.static_embedding.StaticEmbedder().embed_query("x")
print(before, sorted({"onnxruntime", "tokenizers", "scipy", "safetensors"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False []\n"
    assert done.stderr == ""
