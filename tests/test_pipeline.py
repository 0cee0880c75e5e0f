"""Bringing an index up to date: what is read again, what is kept, and what a run that is stopped leaves behind."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from indexer import parsing, pipeline
from indexer.carrying import Carrier
from indexer.errors import Cancelled, EmbedderError, FolderFullError, TreeError
from indexer.files import Candidate, FileRules, Scan, scan
from indexer.index import DataFolder, Index
from indexer.model import Chunk, Embedder, IndexReport, Matrix
from indexer.pipeline import EmbedderSource, Options, refresh
from tests.support.fake_embedder import FakeEmbedder
from tests.support.trees import COUNTER, contents, index_of, write_tree

SOURCE = EmbedderSource(FakeEmbedder().name, FakeEmbedder)


@contextmanager
def opened(base: Path, max_bytes: int | None = None) -> Iterator[Index]:
    data = DataFolder(base / "data")
    with data.owned(), Index.for_writing(data, "w", base / "tree", max_bytes) as index:
        yield index


def refreshed(base: Path, source: EmbedderSource | None = None) -> IndexReport:
    return index_of(base / "tree", base / "data", source)


def held(base: Path) -> dict[str, object]:
    with Index.for_reading(DataFolder(base / "data"), "w") as index:
        return contents(index)


def afresh(base: Path, source: EmbedderSource | None = None) -> dict[str, object]:
    index_of(base / "tree", base / "fresh", source)
    with Index.for_reading(DataFolder(base / "fresh"), "w") as index:
        return contents(index)


def many_files(number: int, size: int = 6_000) -> dict[str, str | bytes]:
    """Files of one chunk each, large enough together to be parsed in other processes."""
    return {f"f{n:03}.cc": f"/* {f'file {n} ' * (size // 10)}*/ int v{n};\n" for n in range(number)}


def no_embedder(*_: object) -> Embedder:
    raise AssertionError("the embedder was loaded although there was nothing to embed")


# An unchanged tree


def test_an_unchanged_tree_costs_no_parsing_no_embedding_and_no_chroma(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path / "tree", dict(COUNTER))
    first = refreshed(tmp_path, SOURCE)
    assert (first.changed, first.embedded, first.waiting_for_vectors) == (4, first.chunks, 0)
    monkeypatch.setattr(parsing, "parse_file", no_embedder)
    monkeypatch.setattr(Carrier, "chroma", no_embedder)
    again = refreshed(tmp_path, EmbedderSource(SOURCE.name, no_embedder))
    assert (again.changed, again.unchanged, again.removed, again.embedded) == (0, 4, 0, 0)
    assert (again.files, again.lines, again.chunks) == (first.files, first.lines, first.chunks)


def test_files_that_are_old_enough_are_not_even_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_tree(tmp_path / "tree", dict(COUNTER))
    for path in COUNTER:
        os.utime(root / path, ns=(10**18, 10**18))
    refreshed(tmp_path)
    monkeypatch.setattr(parsing, "read", no_embedder)
    assert refreshed(tmp_path).unchanged == 4


def test_a_change_that_keeps_size_and_time_is_seen_if_it_came_soon_after_the_index(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", {"a.cc": "int one;\n"})
    refreshed(tmp_path)
    time_ns = (root / "a.cc").stat().st_mtime_ns
    write_tree(root, {"a.cc": "int two;\n"})
    os.utime(root / "a.cc", ns=(time_ns, time_ns))
    with opened(tmp_path) as index:
        much_later = Options(workers=1, now=lambda: datetime(2100, 1, 1, tzinfo=UTC))
        assert refresh(index, much_later).changed == 1
        assert refresh(index, much_later).changed == 0
    assert held(tmp_path) == afresh(tmp_path)


def test_a_new_time_with_the_same_bytes_is_noted_and_nothing_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_tree(tmp_path / "tree", dict(COUNTER))
    refreshed(tmp_path)
    os.utime(root / "README.md", ns=(10**18, 10**18))
    monkeypatch.setattr(parsing, "parse_file", no_embedder)
    assert refreshed(tmp_path).changed == 0
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        assert index.changed_since(COUNTER) == []


def test_a_new_version_of_the_parser_reads_every_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_tree(tmp_path / "tree", dict(COUNTER))
    for path in COUNTER:
        os.utime(root / path, ns=(10**18, 10**18))
    refreshed(tmp_path, SOURCE)
    monkeypatch.setattr(pipeline, "FACTS_VERSION", pipeline.FACTS_VERSION + 1)
    again = refreshed(tmp_path, EmbedderSource(SOURCE.name, no_embedder))
    assert (again.changed, again.embedded) == (4, 0)
    assert refreshed(tmp_path).changed == 0


# What changed


def test_edits_renames_and_deletions_are_counted_and_leave_nothing_of_before(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", dict(COUNTER))
    refreshed(tmp_path, SOURCE)
    write_tree(root, {"src/counter.cc": "int other_content;\n"})
    (root / "README.md").unlink()
    (root / "src" / "main.cc").rename(root / "src" / "program.cc")
    report = refreshed(tmp_path, SOURCE)
    assert (report.files, report.changed, report.removed) == (3, 2, 2)
    assert held(tmp_path) == afresh(tmp_path, SOURCE)


def test_a_chunk_is_found_by_the_new_words_of_a_comment_that_stands_in_another_chunk(tmp_path: Path) -> None:
    comment = "/// A line of the long comment.\n" * 150
    function = "void lonely(int x) {\n  run(x);\n}\n"
    root = write_tree(tmp_path / "tree", {"a.cc": comment + function})
    refreshed(tmp_path)
    (before,) = (chunk for chunk in chunks_of(tmp_path, "a.cc") if "lonely" in chunk.text)
    write_tree(root, {"a.cc": "/// It is about giraffes.\n" + comment + function})
    refreshed(tmp_path)
    (after,) = (chunk for chunk in chunks_of(tmp_path, "a.cc") if "lonely" in chunk.text)
    assert (after.id, after.text, "giraffes" in after.text) == (before.id, before.text, False)
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        assert after.id in {chunk for chunk, _ in index.text.search("giraffes", 10)}
    assert held(tmp_path) == afresh(tmp_path)


def chunks_of(base: Path, path: str) -> list[Chunk]:
    with Index.for_reading(DataFolder(base / "data"), "w") as index:
        return index.table.chunks_of(path)


def test_a_file_that_turned_binary_or_generated_is_taken_out_with_its_reason(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", {"a.cc": "int a;\n", "b.cc": "int b;\n", "c.cc": "int c;\n"})
    refreshed(tmp_path, SOURCE)
    write_tree(root, {"a.cc": b"int a\0;\n", "b.cc": "// @generated\nint b;\n"})
    report = refreshed(tmp_path, SOURCE)
    assert (report.files, report.removed) == (1, 2)
    assert report.skipped == (("a.cc", "binary (NUL bytes)"), ("b.cc", "generated (it says so)"))
    assert held(tmp_path) == afresh(tmp_path, SOURCE)


def test_a_tree_without_a_file_to_index_is_refused_and_what_was_indexed_stays(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", {"a.cc": "int a;\n"})
    refreshed(tmp_path)
    before = held(tmp_path)
    (root / "a.cc").unlink()
    with pytest.raises(TreeError, match="holds no C"):
        refreshed(tmp_path)
    assert held(tmp_path) == before


def test_progress_never_goes_back_and_ends_at_its_total(tmp_path: Path) -> None:
    write_tree(tmp_path / "tree", many_files(70, 100))
    told: list[tuple[str, int, int]] = []
    with opened(tmp_path) as index:
        refresh(index, Options(workers=1), (SOURCE,), lambda *step: told.append(step))
    for stage, total in (("parse", 70), ("embed", 70)):
        steps = [(done, whole) for name, done, whole in told if name == stage]
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert {whole for _, whole in steps} == {total}
        assert steps[-1][0] == total
    assert list(dict.fromkeys(name for name, _, _ in told)) == ["scan", "parse", "link", "embed", "vectors"]


# Odd files, all in one tree


def test_odd_files_are_indexed_or_named_and_the_rest_is_never_lost(tmp_path: Path) -> None:
    root = write_tree(
        tmp_path / "tree",
        {
            "good.cc": "int good() { return 1; }\n",
            "nul.cc": b"int nul;\0\n",
            "latin1.cc": b"// caf\xe9\nint latin1;\n",
            "crlf.cc": b"int crlf_one;\r\nint crlf_two() {\r\n  return 2;\r\n}\r\n",
            "bom.cc": b"\xef\xbb\xbfint bom;\n",
            "unclosed.cc": "namespace broken {\nvoid before() {\n  if (x) {\nint after() { return 1; }\n",
            "parens.cc": "int parens = " + "(" * 5_000 + "1" + ")" * 5_000 + ";\nint after_parens;\n",
            "braces.cc": "{" * 5_000,
            "empty.cc": b"",
            "large.cc": b"int generated[] = {" + b"1,\n" * (50 << 20 >> 2) + b"1,\n" * (12 << 20) + b"};\n",
        },
    )
    (root / "loop").symlink_to(root)
    (root / "link.cc").symlink_to(root / "good.cc")
    report = refreshed(tmp_path, SOURCE)
    reasons = dict(report.skipped)
    assert reasons.keys() == {"nul.cc", "large.cc", "link.cc"}
    assert reasons["nul.cc"] == "binary (NUL bytes)"
    assert reasons["large.cc"].startswith("larger than 2048 KiB")
    assert report.files == 8
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        for name in ("good", "latin1", "crlf_two", "bom", "after_parens"):
            (symbol,) = index.facts.symbols_named(name, 5)
            assert (
                name in (root / symbol.span.path).read_text(encoding="latin-1").split("\n")[symbol.span.first_line - 1]
            )
        for path in ("good.cc", "latin1.cc", "crlf.cc", "unclosed.cc", "parens.cc", "braces.cc"):
            chunks = index.table.chunks_of(path)
            text = (root / path).read_bytes().decode("utf-8-sig", "replace")
            assert "".join(chunk.text for chunk in chunks) == text
            assert text.split("\n")[chunks[-1].span.first_line - 1] in chunks[-1].text
    assert held(tmp_path) == afresh(tmp_path, SOURCE)


# Vectors


class FailingEmbedder(FakeEmbedder):
    """Fails from its second call on."""

    def embed_documents(self, texts: Sequence[str]) -> Matrix:
        if self.calls:
            raise EmbedderError("The model is gone.", "Bring it back.")
        return super().embed_documents(texts)


def test_an_embedder_that_fails_half_way_costs_only_the_vectors_that_are_missing(tmp_path: Path) -> None:
    write_tree(tmp_path / "tree", many_files(pipeline.EMBED_BATCH + 10, 100))
    report = refreshed(tmp_path, EmbedderSource(SOURCE.name, FailingEmbedder))
    assert (report.files, report.waiting_for_vectors) == (pipeline.EMBED_BATCH + 10, 10)
    assert report.notes == ("No vectors for now: The model is gone. Bring it back.",)
    embedder = FakeEmbedder()
    again = refreshed(tmp_path, EmbedderSource(SOURCE.name, lambda: embedder))
    assert (again.changed, again.embedded, sum(map(len, embedder.calls))) == (0, 10, 10)
    assert held(tmp_path) == afresh(tmp_path, SOURCE)


def test_vectors_of_two_embedders_live_side_by_side_and_go_together(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", {"a.cc": "int a;\n", "b.cc": "int b;\n"})
    other = EmbedderSource("other", lambda: FakeEmbedder("other"))
    refreshed(tmp_path, SOURCE)
    assert refreshed(tmp_path, other).embedded == 2
    (root / "b.cc").unlink()
    refreshed(tmp_path, SOURCE)
    with opened(tmp_path) as index:
        for name in (SOURCE.name, "other"):
            drift = index.drift(name)
            assert (drift.in_table, drift.missing, drift.orphans) == (1, 0, 0)


def test_a_damaged_chroma_is_made_again_from_the_table_and_told(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", dict(COUNTER))
    refreshed(tmp_path, SOURCE)
    (tmp_path / "data" / "workspaces" / "w" / "chroma" / "chroma.sqlite3").write_bytes(b"rubbish" * 5_000)
    write_tree(root, {"new.cc": "int brand_new;\n"})
    report = refreshed(tmp_path, SOURCE)
    assert "made again from the table" in " ".join(report.notes)
    with opened(tmp_path) as index:
        drift = index.drift(SOURCE.name)
        assert (drift.in_table, drift.missing, drift.orphans) == (report.chunks, 0, 0)


def test_a_deleted_chroma_is_made_again_without_an_edit(tmp_path: Path) -> None:
    write_tree(tmp_path / "tree", dict(COUNTER))
    refreshed(tmp_path, SOURCE)
    pipeline_folder = tmp_path / "data" / "workspaces" / "w" / "chroma"
    pipeline_folder.rename(tmp_path / "gone")
    refreshed(tmp_path, EmbedderSource(SOURCE.name, no_embedder))
    with opened(tmp_path) as index:
        drift = index.drift(SOURCE.name)
        assert (drift.missing, drift.orphans) == (0, 0)
        assert drift.in_chroma > 0


# Runs that are stopped


def after_steps(stage: str, number: int) -> tuple[Callable[[str, int, int], None], Callable[[], bool]]:
    """A progress function and a cancel button that is pressed once so many steps of a stage are done."""
    reached = False

    def progress(name: str, done: int, _total: int) -> None:
        nonlocal reached
        reached = reached or (name == stage and done >= number)

    return progress, lambda: reached


@pytest.mark.parametrize(
    ("stage", "number", "workers"),
    [("parse", 1, 1), ("parse", 70, 1), ("embed", 1, 1), ("embed", 128, 1), ("parse", 1, 2), ("parse", 70, 2)],
)
def test_a_run_that_is_stopped_keeps_what_it_finished_and_the_next_goes_on_from_there(
    tmp_path: Path, stage: str, number: int, workers: int
) -> None:
    size = 100 if workers == 1 else 2_000  # small ones are parsed in this process
    write_tree(tmp_path / "tree", many_files(150, size))
    progress, cancelled = after_steps(stage, number)
    with opened(tmp_path) as index:
        with pytest.raises(Cancelled, match="finished so far is kept"):
            refresh(index, Options(workers=workers), (SOURCE,), progress, cancelled)
        kept = len(index.table.known_files())
        vectors = index.table.vector_count(SOURCE.name)
        assert kept >= number if stage == "parse" else kept == 150
        assert vectors == (0 if stage == "parse" else -(-number // pipeline.EMBED_BATCH) * pipeline.EMBED_BATCH)
        report = refresh(index, Options(workers=workers), (SOURCE,))
        drift = index.drift(SOURCE.name)
    assert (report.changed, report.embedded) == (150 - kept, 150 - vectors)
    assert (drift.in_chroma, drift.missing, drift.orphans) == (150, 0, 0)
    assert held(tmp_path) == afresh(tmp_path, SOURCE)


def test_a_bound_on_the_size_stops_the_run_and_keeps_the_files_before(tmp_path: Path) -> None:
    write_tree(tmp_path / "tree", many_files(140))
    with opened(tmp_path, 5 << 18) as index, pytest.raises(FolderFullError) as caught:
        refresh(index, Options(workers=1), (SOURCE,))
    assert "index.max_megabytes" in caught.value.hint
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        kept = len(index.table.known_files())
        assert kept % pipeline.WRITE_FILES == 0
        assert 0 < kept < 140
        assert index.problems() == []
        assert index.text.search("file 1", 3)
    report = refreshed(tmp_path, SOURCE)
    assert report.changed == 140 - kept
    assert held(tmp_path) == afresh(tmp_path, SOURCE)


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process by a signal")
def test_a_parser_process_that_is_killed_costs_no_file(tmp_path: Path) -> None:
    write_tree(tmp_path / "tree", many_files(200))
    killed: list[int] = []

    def kill_once(stage: str, _done: int, _total: int) -> None:
        if stage == "parse" and not killed:
            child = multiprocessing.active_children()[0]
            assert child.pid
            killed.append(child.pid)
            os.kill(child.pid, signal.SIGKILL)
            child.join(60)

    with opened(tmp_path) as index:
        report = refresh(index, Options(workers=2), (), kill_once)
    assert killed
    assert (report.files, report.problems) == (200, ())
    assert held(tmp_path) == afresh(tmp_path)


def test_a_file_that_kills_its_parser_is_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends while it receives the file, as a parser that overruns its stack does."""
    write_tree(tmp_path / "tree", many_files(80))

    def with_one_deadly(root: Path, rules: FileRules, _part: object) -> Scan:
        found = scan(root, rules)
        candidates = tuple(
            _DeadlyCandidate(c.path, c.language, c.size, c.mtime_ns) if c.path == "f040.cc" else c
            for c in found.candidates
        )
        return Scan(candidates, found.skipped, found.problems)

    monkeypatch.setattr(pipeline, "scan", with_one_deadly)
    with opened(tmp_path) as index:
        report = refresh(index, Options(workers=2))
    assert report.files == 79
    assert [(problem.path, problem.message) for problem in report.problems] == [
        ("f040.cc", "the parser crashed on it; the file is left out")
    ]


class _DeadlyCandidate(Candidate):
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return os._exit, (1,)


def test_static_vectors_are_made_while_files_are_written_and_those_of_another_version_go(tmp_path: Path) -> None:
    """Parsed in other processes, so that the embedder is handed to them."""
    write_tree(tmp_path / "tree", many_files(140))
    first, second = (EmbedderSource(f"static/{n}", partial(FakeEmbedder, f"static/{n}")) for n in (1, 2))
    report = refreshed(tmp_path, first)
    assert (report.embedded, report.waiting_for_vectors) == (0, 0), "none were left to do after writing"
    report = refreshed(tmp_path, second)
    assert (report.changed, report.embedded, report.waiting_for_vectors) == (0, report.chunks, 0)
    with opened(tmp_path) as index:
        assert list(index.table.embedders()) == [second.name]
        drift = index.drift(second.name)
        assert (drift.in_table, drift.missing, drift.orphans) == (report.chunks, 0, 0)


def test_vectors_of_chunks_that_stay_are_never_posted_again(tmp_path: Path) -> None:
    text = "".join(
        f"/// Does {n}.\nint function_{n}(int x) {{\n{'  x += 1;' * 60}\n  return x;\n}}\n\n" for n in range(9)
    )
    root = write_tree(tmp_path / "tree", {"a.cc": text})
    source = EmbedderSource("static/1", partial(FakeEmbedder, "static/1"))
    refreshed(tmp_path, source)
    write_tree(root, {"a.cc": text + "int another;\n"})
    with opened(tmp_path) as index:
        before = index.table.vector_ids(source.name)
        refresh(index, Options(workers=1, carry=False), (source,))
        posted = {entry.chunk for entry in index.table.outbox(1000) if entry.operation == "upsert"}
        assert posted == index.table.vector_ids(source.name) - before
        assert 0 < len(posted) < len(before)


def test_a_first_run_that_was_killed_leaves_its_indexes_to_the_next_opening(tmp_path: Path) -> None:
    write_tree(tmp_path / "tree", many_files(140))
    with opened(tmp_path) as index, index.table.filling():
        assert not indexes(index)
        index._database.make_indexes = lambda: None  # type: ignore[method-assign] # the process dies here
    with opened(tmp_path) as index:
        assert indexes(index)


def indexes(index: Index) -> list[str]:
    return [name for (name,) in index._database.rows("SELECT name FROM sqlite_master WHERE name LIKE 'refs_by_na%'")]
