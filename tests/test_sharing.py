"""What the readers of one index in one process have in common, and what they must not."""

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from hub import wiring
from hub.backup import backup, restore
from hub.config import Settings
from hub.service import SearchResult, Service
from indexer import sharing
from indexer.index import DataFolder, Index
from indexer.pipeline import EmbedderSource, Options, refresh
from indexer.sharing import Commons
from indexer.static_embedding import STATIC_NAME, StaticEmbedder
from tests.support.trees import COUNTER, contents, index_of, write_tree

SOURCE = EmbedderSource(STATIC_NAME, StaticEmbedder)
QUESTIONS = ("who increments the counter", "Counter::Increment", "limits that matter", "value never overflows", "main")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("shared")
    index_of(write_tree(base / "tree", dict(COUNTER)), base / "data", SOURCE)
    return base / "data"


def services(data: Path, number: int, stack: ExitStack) -> list[Service]:
    settings = Settings(data, backend="none")
    return [stack.enter_context(wiring.open_service(settings, "w", data)) for _ in range(number)]


def test_a_thing_is_made_once_for_a_version_whoever_asks() -> None:
    commons, made = Commons(), []

    def make(before: object) -> list[object]:
        made.append(before)
        return [before]

    first = commons.of("thing", 1, make)
    assert commons.of("thing", 1, make) is first
    second = commons.of("thing", 2, make)
    assert second == [first]  # the one before is there to be made use of
    assert commons.of("other", 1, make) == [None]
    assert made == [None, first, None]


def test_many_threads_that_want_the_same_wait_for_the_one_that_makes_it() -> None:
    commons, made, all_there = Commons(), [], threading.Barrier(8, timeout=60)

    def make(_before: object) -> object:
        made.append(threading.get_ident())
        return object()

    def want(_number: int) -> object:
        all_there.wait()
        return commons.of("thing", 1, make)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(want, range(8)))
    assert len(made) == 1
    assert len(set(map(id, found))) == 1


def test_what_could_not_be_made_is_made_by_the_next() -> None:
    commons = Commons()

    def fail(_before: object) -> object:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        commons.of("thing", 1, fail)
    assert commons.of("thing", 1, lambda _before: 7) == 7


def test_readers_of_one_index_have_one_copy_of_its_vectors_and_it_goes_with_the_last(kept: Path) -> None:
    data = DataFolder(kept)
    one, other = Index.for_reading(data, "w"), Index.for_reading(data, "w")
    assert one._exact_vectors(STATIC_NAME) is other._exact_vectors(STATIC_NAME)
    file = next(key for key, commons in sharing._READ.items() if commons is one._database.commons)
    one.close()
    del one
    gc.collect()
    assert file in sharing._READ
    other.close()
    del other
    gc.collect()
    assert file not in sharing._READ


def test_a_writer_shares_with_nobody_what_it_has_not_committed(kept: Path) -> None:
    data = DataFolder(kept)
    with data.owned(), Index.for_adding(data, "w") as writer, Index.for_reading(data, "w") as reader:
        assert writer._database.commons is not reader._database.commons


def test_what_was_shared_goes_with_the_last_open_reader_though_a_closed_one_is_kept(tmp_path: Path) -> None:
    """Another index may get the number of a file that was deleted, and its count of changes too."""
    index_of(write_tree(tmp_path / "tree", dict(COUNTER)), tmp_path / "data")
    data = DataFolder(tmp_path / "data")
    with Index.for_reading(data, "w") as closed, Index.for_reading(data, "w") as other:
        assert closed.shared("thing", 1, lambda: "old") == other.shared("thing", 1, lambda: "new") == "old"
    with Index.for_reading(data, "w") as later:
        assert later.shared("thing", 1, lambda: "new") == "new"
    assert closed is not other


def test_an_index_that_was_replaced_is_another_one(tmp_path: Path) -> None:
    """As `codehub repair --rebuild` does: a new file in the place of one that readers still have open."""
    for name, text in (("a", "int first();\n"), ("b", "int second();\n")):
        index_of(write_tree(tmp_path / name / "tree", {"x.h": text}), tmp_path / name / "data", SOURCE)
    data = DataFolder(tmp_path / "a" / "data")
    with Index.for_reading(data, "w") as before:
        assert before.text.search("first", 5)
        place = tmp_path / "a/data/workspaces/w/index.db"
        place.unlink()
        (tmp_path / "b/data/workspaces/w/index.db").rename(place)
        with Index.for_reading(data, "w") as after:
            assert before.generation() == after.generation()
            assert not after.text.search("first", 5)
            assert after.text.search("second", 5)
            assert before.text.search("first", 5)


def told(result: SearchResult) -> tuple[object, ...]:
    return (result.hits, result.files, result.confidence, result.understood, result.notes)


def test_services_side_by_side_find_what_one_alone_finds(kept: Path) -> None:
    with ExitStack() as stack:
        (alone,) = services(kept, 1, stack)
        expected = {text: told(alone.search(text, 5)) for text in QUESTIONS}
    gc.collect()
    with ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        several = services(kept, 4, stack)

        def search(number: int) -> list[tuple[str, tuple[object, ...]]]:
            turned = QUESTIONS[number:] + QUESTIONS[:number]
            return [(text, told(several[number].search(text, 5))) for text in turned * 3]

        found = [pair for pairs in pool.map(search, range(4)) for pair in pairs]
    assert len(found) == 60
    assert all(answer == expected[text] for text, answer in found)


def test_a_question_that_was_asked_before_is_answered_anew_after_a_change(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", dict(COUNTER))
    index_of(root, tmp_path / "data", SOURCE)
    with ExitStack() as stack:
        one, other = services(tmp_path / "data", 2, stack)
        before = one.search("who increments the counter", 5)
        assert other.search("who increments the counter", 5).hits is before.hits  # kept, and for both
        assert other.search("who increments the counter", 3).hits == before.hits[:3]
        (root / "new.cc").write_text("// Increments the counter, who else.\nvoid IncrementTheCounter();\n")
        index_of(root, tmp_path / "data", SOURCE)
        after = one.search("who increments the counter", 5)
        assert "new.cc" in {hit.chunk.span.path for hit in after.hits}
        assert other.search("who increments the counter", 5) == after


def test_what_was_kept_of_a_search_still_says_which_files_have_changed(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", dict(COUNTER))
    index_of(root, tmp_path / "data", SOURCE)
    with ExitStack() as stack:
        (one,) = services(tmp_path / "data", 1, stack)
        assert not one.search("increment", 5).notes
        (root / "src/counter.cc").write_text("// other\n", encoding="utf-8")
        assert "src/counter.cc" in one.search("increment", 5).notes[0]


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[tuple[DataFolder, Callable[[], None]]]:
    """A tree that is indexed again and again, with other contents, and what ends that."""
    root = write_tree(tmp_path / "tree", dict(COUNTER))
    index_of(root, tmp_path / "data", SOURCE)
    stop, data, failed = threading.Event(), DataFolder(tmp_path / "data"), []

    def write() -> None:
        number = 0
        try:
            with data.owned(), Index.for_writing(data, "w", root) as index:
                while not stop.is_set():
                    number += 1
                    text = "".join(f"/// Counts {number}.\nint count_{number}_{n}();\n\n" for n in range(number % 9))
                    (root / "src/more.h").write_text(text or "int none();\n", encoding="utf-8")
                    refresh(index, replace(Options(workers=1, commits=0), carry=False), (SOURCE,))
        except BaseException as error:
            failed.append(error)
            raise

    def finish() -> None:
        stop.set()
        thread.join(timeout=120)
        assert not thread.is_alive()
        assert not failed

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield data, finish
    finally:
        finish()


def test_searches_beside_a_writer_see_whole_states_and_never_fail(
    changing: tuple[DataFolder, Callable[[], None]],
) -> None:
    data, finish = changing
    with ExitStack() as stack, ThreadPoolExecutor(3) as pool:
        several = services(data.path, 3, stack)
        texts = [f"{text} {number}" for number in range(12) for text in ("what counts", "Counter", "overflow")]
        found = list(pool.map(lambda service: [service.search(text, 5) for text in texts], several))
        finish()
    assert all(result.hits for results in found for result in results)


def test_caches_that_are_shared_hold_what_reading_afresh_gives(
    tmp_path: Path, changing: tuple[DataFolder, Callable[[], None]]
) -> None:
    data, finish = changing
    with Index.for_reading(data, "w") as reader:
        for _ in range(10):
            reader.text.search("count counter", 5)
            reader.walk.important(5)
        finish()
        shared = contents(reader)
    # Another file of the same contents, of which nothing has been read.
    archive = backup(Settings(data.path), tmp_path / "copy.zip", lambda *_: None, lambda: False)
    restore(archive.path, tmp_path / "copied", lambda *_: None, lambda: False)
    with Index.for_reading(DataFolder(tmp_path / "copied"), "w") as afresh:
        assert contents(afresh) == shared
