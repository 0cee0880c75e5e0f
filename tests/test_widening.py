"""The second look: nothing of the first is lost, what it leads to comes along, and every score is a sum."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.evidence import widening
from hub.evidence.widening import FILE, LACKED, LINKED, OPEN, RELATION, widen
from hub.model import Hit, SignalSource
from hub.retrieval import GLOBAL, Retrieval, gather, retrieve, understand
from indexer.errors import EmbedderError
from indexer.index import DataFolder, Index
from indexer.model import Embedder, Vector
from indexer.pipeline import EmbedderSource
from tests.support.fake_embedder import FakeEmbedder
from tests.support.library import library_index
from tests.support.trees import index_of, write_tree

QUESTIONS = [
    "How does the cache throw the oldest entry out?",
    "EvictOldest",
    "Who calls `Counter::Increment`?",
    "Fix the cache when nothing is to be evicted",
    "Which tests are there of the cache?",
    "src/cache.cc:17: error: no member named 'capacity_'",
    "",
    "zzz qqq",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("widening")


@pytest.fixture(scope="module")
def index(folder: Path) -> Iterator[Index]:
    source = EmbedderSource(FakeEmbedder().name, FakeEmbedder)
    with library_index(folder, source) as opened:
        yield opened


def first(index: Index, text: str, limit: int = 40, embedders: tuple[Embedder, ...] = (FakeEmbedder(),)) -> Retrieval:
    return retrieve(index, understand(text), embedders, limit)


def widened(index: Index, text: str, limit: int = 40, found: int = 40, unresolved: tuple[str, ...] = ()) -> Retrieval:
    return widen(index, first(index, text, found), [FakeEmbedder()], limit, unresolved)


def at(hits: tuple[Hit, ...], path: str, line: int) -> Hit | None:
    return next(
        (h for h in hits if h.chunk.span.path == path and h.chunk.span.first_line <= line <= h.chunk.span.last_line),
        None,
    )


def named(hits: tuple[Hit, ...], symbol: str) -> Hit | None:
    return next((h for h in hits if h.symbol_name == symbol), None)


def features_of(hit: Hit | None) -> set[str]:
    return {name for name, _ in hit.contributions} if hit else set()


# Laws


@given(st.sampled_from(QUESTIONS), st.integers(0, 30), st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_nothing_that_the_first_look_found_is_lost_and_the_limit_is_kept_beside_it(
    index: Index, text: str, found: int, limit: int
) -> None:
    before = first(index, text, found)
    after = widen(index, before, [FakeEmbedder()], limit)
    kept = {hit.chunk.id for hit in after.hits}
    assert {hit.chunk.id for hit in before.hits} <= kept
    assert len(kept) == len(after.hits) <= max(limit, len(before.hits))


@given(st.sampled_from(QUESTIONS), st.sampled_from([(), ("LOG_ERROR",), ("DBImpl", "nowhere_at_all")]))
@settings(max_examples=30, deadline=None)
def test_the_order_is_total_and_every_score_is_the_sum_of_what_is_told(
    index: Index, text: str, unresolved: tuple[str, ...]
) -> None:
    hits = widened(index, text, unresolved=unresolved).hits
    assert [(-h.score, h.chunk.span, h.chunk.id) for h in hits] == sorted(
        (-h.score, h.chunk.span, h.chunk.id) for h in hits
    )
    for hit in hits:
        assert hit.score == pytest.approx(sum(value for _, value in hit.contributions))


@given(st.sampled_from(QUESTIONS))
@settings(max_examples=16, deadline=None)
def test_equal_questions_get_equal_hits_in_any_opening_of_the_index(index: Index, folder: Path, text: str) -> None:
    with Index.for_reading(DataFolder(folder / "data"), "w") as other:
        assert widened(index, text).hits == widened(other, text).hits


@given(st.sampled_from(QUESTIONS))
@settings(max_examples=16, deadline=None)
def test_what_was_understood_of_the_question_stays(index: Index, text: str) -> None:
    before = first(index, text)
    after = widen(index, before, [FakeEmbedder()], 40)
    assert (after.query, after.named, after.unknown, after.files) == (
        before.query,
        before.named,
        before.unknown,
        before.files,
    )


def test_behind_the_first_hits_what_the_second_look_prefers_takes_the_place_of_the_others(
    chain: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(widening, "KEPT", 2)
    found = retrieve(chain, understand("stale rows of the marsupial ledger"), [], 40)
    before = replace(found, hits=found.hits[-12:])  # a poor first look
    everything = widen(chain, before, [], 1_000).hits
    assert len(everything) > len(before.hits) == 12
    after = widen(chain, before, [], 12).hits
    first_two = {hit.chunk.id for hit in before.hits[:2]}
    others = [hit for hit in everything if hit.chunk.id not in first_two][:10]
    assert after == tuple(hit for hit in everything if hit.chunk.id in first_two or hit in others)
    assert {hit.chunk.id for hit in after} != {hit.chunk.id for hit in before.hits}


# What comes along


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """Something that is asked for, what it calls in words of its own, and much that looks like the question."""
    folder = tmp_path_factory.mktemp("chain")
    filler = "".join(
        f"int purge_{n}(int amount) {{\n  // purges the ledger of stale rows, variant {n}\n"
        f"  int stale = amount - {n};\n  return stale < 0 ? 0 : stale;\n}}\n\n"
        for n in range(30)
    )
    files: dict[str, str | bytes] = {
        "src/ledger.cc": '#include "ripple.h"\n\n'
        "void purge_ledger(int amount) {\n  // purges the ledger of stale rows\n  ripple(amount);\n}\n",
        "src/ripple.h": "#pragma once\nvoid ripple(int depth);\n",
        "src/ripple.cc": '#include "ripple.h"\n\n'
        "void ripple(int depth) {\n  while (depth > 0) {\n    --depth;\n  }\n}\n",
        "src/variants.cc": filler,
        "src/quokka.cc": "int wombat(int burrow) {\n  int marsupial = burrow + 1;\n  return marsupial;\n}\n",
    }
    index_of(write_tree(folder / "tree", files), folder / "data")
    with Index.for_reading(DataFolder(folder / "data"), "w") as opened:
        yield opened


def test_what_a_good_hit_calls_comes_along_and_says_so(chain: Index) -> None:
    before = retrieve(chain, understand("purge the ledger of stale rows"), [], 3)
    assert at(before.hits, "src/ripple.cc", 3) is None
    after = widen(chain, before, [], 60)
    assert LINKED in features_of(at(after.hits, "src/ripple.cc", 3))


def test_callers_of_what_the_question_names_come_along(chain: Index) -> None:
    after = widen(chain, retrieve(chain, understand("Who calls `ripple`?"), [], 5), [], 20)
    assert RELATION in features_of(named(after.hits, "purge_ledger"))


def test_a_name_that_an_answer_left_open_brings_its_definition_before_everything_new(chain: Index) -> None:
    before = retrieve(chain, understand("purge the ledger of stale rows"), [], 3)
    without = widen(chain, before, [], 40)
    assert named(without.hits, "wombat") is None
    brought = named(widen(chain, before, [], 40, ("wombat",)).hits, "wombat")
    assert OPEN in features_of(brought)


def test_words_that_the_first_hits_lack_are_asked_for_again(chain: Index) -> None:
    text = "purge the ledger of stale rows of a marsupial"
    before = retrieve(chain, understand(text), [], 40)
    first_hits = Retrieval(
        before.query,
        tuple(hit for hit in before.hits if "marsupial" not in hit.chunk.text),
        before.named,
        before.unknown,
        before.ambiguous,
        before.arms,
        wording=before.wording,
    )
    after = widen(chain, first_hits, [], 60)
    assert LACKED in features_of(named(after.hits, "wombat"))


def test_the_rest_of_the_best_file_comes_along(index: Index) -> None:
    before = first(index, "How does the cache throw the oldest entry out?", 1)
    after = widen(index, before, [FakeEmbedder()], 40)
    other = next(h for h in after.hits if h.chunk.span.path == before.files[0][0] and h not in before.hits)
    assert FILE in features_of(other)


# Little to look at


def test_an_empty_tree_gives_nothing(tmp_path: Path) -> None:
    index_of(write_tree(tmp_path / "tree", {"empty.txt": ""}), tmp_path / "data")
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as empty:
        assert widen(empty, retrieve(empty, understand("anything at all"), [], 10), [], 10).hits == ()


def test_a_tree_of_documents_only_is_widened_by_its_words(tmp_path: Path) -> None:
    pages: dict[str, str | bytes] = {
        "a.md": "# Locks\n\nA lock is taken before writing.\n\n## Order\n\nLocks are taken in order.\n",
        "b.md": "# Queues\n\nA queue waits.\n",
    }
    index_of(write_tree(tmp_path / "tree", pages), tmp_path / "data")
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as documents:
        hits = widen(documents, retrieve(documents, understand("when is a lock taken"), [], 10), [], 10).hits
        assert hits
        assert hits[0].chunk.span.path == "a.md"


def test_what_is_left_open_is_found_where_nothing_is_linked_and_where_the_graph_counts_nothing(tmp_path: Path) -> None:
    pages: dict[str, str | bytes] = {"a.md": "# Locks\n\nA lock.\n", "b.md": "# Wombats\n\nA wombat digs.\n"}
    index_of(write_tree(tmp_path / "tree", pages), tmp_path / "data")
    deaf = replace(GLOBAL, prose=(("lexical", 1.0),))
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as documents:
        for weights in (GLOBAL, deaf):
            before = retrieve(documents, understand("when is a lock taken"), [], 10, weights)
            assert [hit.chunk.span.path for hit in before.hits] == ["a.md"]
            after = widen(documents, before, [], 10, ("wombat",))
            assert [hit.chunk.span.path for hit in after.hits] == ["a.md", "b.md"]


def test_arms_are_asked_as_deep_as_is_wanted(index: Index) -> None:
    query = understand("the cache of the counter")
    shallow, deep = (gather(index, query, [FakeEmbedder()], depth) for depth in (2, 50))
    assert max(map(len, shallow.arms.values())) == 2
    assert max(map(len, deep.arms.values())) > 2
    assert list(deep.arms[SignalSource.LEXICAL])[:2] == list(shallow.arms[SignalSource.LEXICAL])


class Broken(FakeEmbedder):
    def embed_query(self, text: str) -> Vector:
        raise EmbedderError(f"The model is gone that should read {text!r}.", "Put it back.")


def test_an_embedder_that_fails_costs_its_arm_and_leaves_a_note(index: Index) -> None:
    before = first(index, "oldest entry", embedders=())
    after = widen(index, before, [Broken()], 40)
    assert any("The model is gone" in note for note in after.notes)
    assert {hit.chunk.id for hit in before.hits} <= {hit.chunk.id for hit in after.hits}
