"""Indexes of older and newer formats: brought to the present one step by step, made anew, or refused."""

from pathlib import Path

import apsw
import pytest

from hub.confidence.stored import STORED
from hub.config import Settings
from hub.indexing import index_tree
from indexer.errors import FolderFullError, OldFormatError, SchemaError
from indexer.index import DataFolder, Index
from indexer.model import IndexReport
from indexer.pipeline import Options, ignore_progress, never, refresh
from indexer.symbol_table import database, migrations
from indexer.symbol_table.database import FORMAT, Database
from tests.laws.test_freshness_laws import rows_of
from tests.support.crashes import SOURCE
from tests.support.formats import to_format_3
from tests.support.trees import COUNTER, index_of, write_tree

SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite%' ORDER BY name"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """An index as the program before this one left it."""
    index_of(write_tree(tmp_path / "tree", dict(COUNTER)), tmp_path / "data", SOURCE)
    table = tmp_path / "data" / "workspaces" / "w" / "index.db"
    to_format_3(table)
    return table


def schema_of(table: Path) -> list[tuple[str, ...]]:
    connection = apsw.Connection(str(table))
    try:
        return [tuple(" ".join(str(value).split()) for value in row) for row in connection.execute(SCHEMA)]
    finally:
        connection.close()


def refreshed(base: Path) -> IndexReport:
    return index_of(base / "tree", base / "data", SOURCE)


def test_an_index_of_format_3_is_brought_to_the_present_one_and_nothing_is_read_again(
    table: Path, tmp_path: Path
) -> None:
    report = refreshed(tmp_path)
    assert (report.changed, report.removed, report.embedded) == (0, 0, 0)
    index_of(tmp_path / "tree", tmp_path / "fresh", SOURCE)
    assert schema_of(table) == schema_of(tmp_path / "fresh" / "workspaces" / "w" / "index.db")
    with (
        Index.for_reading(DataFolder(tmp_path / "data"), "w") as migrated,
        Index.for_reading(DataFolder(tmp_path / "fresh"), "w") as fresh,
    ):
        assert rows_of(migrated) == rows_of(fresh)


def test_every_format_since_the_oldest_has_a_step() -> None:
    assert sorted(migrations.STEPS) == list(range(min(migrations.STEPS), FORMAT))


def test_a_step_that_is_broken_off_leaves_the_format_before_and_is_tried_again(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = schema_of(table)
    whole = migrations.STEPS[3]
    monkeypatch.setattr(migrations, "STEPS", {3: f"{whole} INSERT INTO nowhere VALUES(1);"})
    with pytest.raises(apsw.SQLError):
        Database.create_or_open(table)
    assert schema_of(table) == before
    monkeypatch.setattr(migrations, "STEPS", {3: whole})
    Database.create_or_open(table).close()
    assert schema_of(table) != before
    assert refreshed(tmp_path).changed == 0


def test_a_disk_that_is_full_leaves_the_format_before(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = schema_of(table)
    filling = "CREATE TABLE much(x); INSERT INTO much SELECT zeroblob(1000000);"
    monkeypatch.setattr(migrations, "STEPS", {3: filling})
    with pytest.raises(FolderFullError):
        Database.create_or_open(table, table.stat().st_size)
    assert schema_of(table) == before


def test_a_reader_waits_for_whoever_is_bringing_it_up_to_date(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(_seconds: float) -> None:
        Database.create_or_open(table).close()

    monkeypatch.setattr(database, "sleep", meanwhile)
    Database.open_readonly(table).close()


def test_a_reader_of_an_older_format_is_told_the_way_out(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    monkeypatch.setattr(database, "sleep", looks.append)
    with pytest.raises(OldFormatError, match="has format 3") as caught:
        Database.open_readonly(table)
    assert "codehub index" in caught.value.hint
    assert 0.2 <= sum(looks) <= 5


@pytest.fixture
def indexed(tmp_path: Path) -> Settings:
    """A tree that was calibrated."""
    settings = Settings(tmp_path / "data", embeddings="none")
    index_tree(settings, write_tree(tmp_path / "tree", dict(COUNTER)), "w", ignore_progress, never)
    with Index.for_adding(DataFolder(settings.data), "w") as index:
        index.table.set_meta({STORED: "learnt"})
    return settings


def test_an_index_that_is_too_old_is_made_anew_with_what_was_learnt_of_its_tree(
    indexed: Settings, tmp_path: Path
) -> None:
    data = DataFolder(indexed.data)
    with Index.for_adding(data, "w") as index:
        index.table.set_meta({"format": "2", "of the old one": "alone"})
        index._database.run("DROP TABLE refs")
    with pytest.raises(OldFormatError, match="has format 2"):
        Index.for_reading(data, "w")
    report = index_tree(indexed, tmp_path / "tree", "w", ignore_progress, never)
    assert report.changed == len(COUNTER)
    with Index.for_reading(data, "w") as index:
        assert (index.table.note(STORED), index.table.note("of the old one")) == ("learnt", None)


def test_an_index_from_the_future_is_told_and_left_as_it_is(indexed: Settings, tmp_path: Path) -> None:
    data = DataFolder(indexed.data)
    with Index.for_adding(data, "w") as index:
        index.table.set_meta({"format": str(FORMAT + 1)})
    table = data.workspace_folder("w") / "index.db"
    before = table.read_bytes()
    with pytest.raises(SchemaError, match=f"has format {FORMAT + 1}") as caught:
        index_tree(indexed, tmp_path / "tree", "w", ignore_progress, never)
    assert not isinstance(caught.value, OldFormatError)
    assert table.read_bytes() == before


def test_a_copy_of_an_index_of_another_format_is_not_made(table: Path, tmp_path: Path) -> None:
    with pytest.raises(OldFormatError):
        Database.copy(table, tmp_path / "copy.db", {}, lambda: None)
    assert not list(tmp_path.glob("copy.db*"))


def test_an_index_that_is_up_to_date_is_opened_without_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index_of(write_tree(tmp_path / "tree", dict(COUNTER)), tmp_path / "data")
    monkeypatch.setattr(migrations, "STEPS", {3: "SELECT nothing"})
    with Index.for_adding(DataFolder(tmp_path / "data"), "w") as index:
        assert refresh(index, Options(workers=1)).changed == 0
