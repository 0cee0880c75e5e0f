"""Searches narrowed to paths and kinds: whatever is found fits, and what fits is found however little it is."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.retrieval import Filters, Retrieval, retrieve, understand
from hub.retrieval.narrowing import MOST_PATHS, narrowed
from indexer.errors import QuestionError
from indexer.index import Index
from indexer.model import SymbolKind
from indexer.pipeline import EmbedderSource
from tests.support.fake_embedder import FakeEmbedder
from tests.support.library import library_index

QUESTIONS = ("evict the oldest entry", "Cache", "how is the size of a cache bounded", "test", "Cache::Get", "zzz")
SOME_PATHS = st.lists(
    st.sampled_from(["src", "src/", "*.h", "*.cc", "src/*", "tests", "README.md", "*cache*", "no", "[", "**", "*/*.h"]),
    max_size=3,
).map(tuple)
SOME_KINDS = st.lists(st.sampled_from(list(SymbolKind)), max_size=3).map(tuple)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    source = EmbedderSource(FakeEmbedder().name, FakeEmbedder)
    with library_index(tmp_path_factory.mktemp("narrowing"), source) as opened:
        yield opened


def found(index: Index, text: str, filters: Filters | None, limit: int = 20) -> Retrieval:
    return retrieve(index, understand(text), [FakeEmbedder()], limit, None, filters)


@given(text=st.sampled_from(QUESTIONS), paths=SOME_PATHS, kinds=SOME_KINDS)
@settings(max_examples=60, deadline=None)
def test_whatever_is_found_fits(index: Index, text: str, paths: tuple[str, ...], kinds: tuple[SymbolKind, ...]) -> None:
    filters = Filters(paths, kinds)
    retrieval = found(index, text, filters)
    assert all(filters.matches(hit.chunk.span.path) for hit in retrieval.hits)
    assert all(filters.matches(path) for path, _ in retrieval.files)
    if kinds:
        assert {hit.symbol_kind for hit in retrieval.hits} <= {kind.value for kind in kinds}
    for arm in retrieval.arms.values():
        assert {chunk for chunk, _ in arm} <= narrowed(index, filters).chunks


@given(text=st.sampled_from(QUESTIONS))
@settings(max_examples=10, deadline=None)
def test_a_filter_that_takes_nothing_away_changes_nothing(index: Index, text: str) -> None:
    everything = found(index, text, Filters(("*",)))
    plain = found(index, text, None)
    assert everything.hits == plain.hits
    assert everything.files == plain.files


def test_one_chunk_among_many_is_found_however_far_down_it_stands(index: Index) -> None:
    """Each chunk, narrowed to its file and asked for by a word of it, is among what is found."""
    for path in index.table.known_files():
        for chunk in index.table.chunks_of(path):
            words = [term.word for term in index.text.wording(chunk.text).terms][:3]
            if not words:
                continue
            hits = found(index, " ".join(words), Filters((path,))).hits
            assert chunk.id in {hit.chunk.id for hit in hits}


def test_how_rare_a_word_is_goes_by_the_whole_tree(index: Index) -> None:
    narrow = found(index, "evict the oldest entry", Filters(("src",)))
    assert narrow.wording == found(index, "evict the oldest entry", None).wording


@pytest.mark.parametrize(
    ("wanted", "path", "fits"),
    [
        ("src", "src/a.h", True),
        ("src/", "src/deep/a.h", True),
        ("src", "source/a.h", False),
        ("src/a.h", "src/a.h", True),
        ("./src", "src/a.h", True),
        ("a.h", "src/a.h", False),
        ("*.h", "src/deep/a.h", True),
        ("*.h", "src/a.hpp", False),
        ("src/*.h", "src/deep/a.h", True),
        ("src/?.h", "src/a.h", True),
        ("[ab].h", "src/b.h", True),
        ("SRC", "src/a.h", False),
        ("*", "a", True),
    ],
)
def test_a_path_is_a_file_a_folder_or_a_pattern(wanted: str, path: str, fits: bool) -> None:
    assert Filters((wanted,)).matches(path) is fits


def test_more_paths_than_make_sense_are_refused() -> None:
    for paths in (("a",) * (MOST_PATHS + 1), ("a" * 2_000,)):
        with pytest.raises(QuestionError, match="too much"):
            Filters(paths)


def test_a_pattern_of_many_asterisks_ends() -> None:
    """It would take until the end of time if each asterisk multiplied what the others cost."""
    assert not Filters(("*a" * 12 + "b",)).matches("a" * 60)
    assert not Filters(("*" * 900 + "b",)).matches("a" * 1_000)
