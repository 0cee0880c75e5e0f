"""Backups: made while others write, read back before they are believed, and restored whole or not at all."""

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub import backup as backups
from hub import wiring
from hub.auth.audit import FILE as AUDIT
from hub.auth.audit import AuditLog
from hub.auth.model import ALL_WORKSPACES, LOCAL, Grant, Scope
from hub.auth.store import FILE as KEYS
from hub.auth.store import KeyRing
from hub.backup import Archive, backup, restore, verify
from hub.config import Settings
from hub.errors import BackupError
from indexer.errors import Cancelled
from indexer.index import DataFolder, Index
from indexer.pipeline import EmbedderSource, Options, refresh
from indexer.static_embedding import STATIC_NAME, StaticEmbedder
from tests.support.command import run_here
from tests.support.formats import to_format_3
from tests.support.trees import COUNTER, contents, index_of, write_tree

SOURCE = EmbedderSource(STATIC_NAME, StaticEmbedder)


def quiet(_stage: str, _done: int, _total: int) -> None:
    pass


def never() -> bool:
    return False


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Archive]:
    """A data folder with an index, keys and a record, and its backup."""
    base = tmp_path_factory.mktemp("kept")
    data = base / "data"
    index_of(write_tree(base / "tree", dict(COUNTER)), data, SOURCE)
    ring = KeyRing(data / KEYS)
    ring.create("somebody", (Grant(ALL_WORKSPACES, frozenset({Scope.READ})),), None)
    ring.close()
    log = AuditLog(data / AUDIT)
    log.append(LOCAL, "index", "w", "done", {"files": 4})
    (data / "paces.json").write_text("{}", encoding="utf-8")
    (data / "server.json").write_text("{}", encoding="utf-8")
    (data / "background.log").write_text("noise", encoding="utf-8")
    word = "pa55" + "word"
    made = Settings(data, openai_url=f"http://user:{word}@127.0.0.1:1", openai_key=word, webhooks_gitlab_token=word)
    archive = backup(made, base / "backups", quiet, never)
    assert word.encode() not in archive.path.read_bytes()
    with zipfile.ZipFile(archive.path) as opened:
        assert word not in opened.read("settings.json").decode()
        assert "127.0.0.1:1" in opened.read("settings.json").decode()
    return made, archive


def test_what_is_restored_equals_what_was_kept_and_answers_alike(
    tmp_path: Path, kept: tuple[Settings, Archive]
) -> None:
    made, archive = kept
    told = restore(archive.path, tmp_path / "new", quiet, never)
    assert [(w.name, w.files) for w in told.workspaces] == [("w", 4)]
    there = Index.for_reading(DataFolder(made.data), "w")
    with there as before, Index.for_reading(DataFolder(tmp_path / "new"), "w") as after:
        assert contents(after) == contents(before)
        assert after.root == before.root
    found = []
    for data in (made.data, tmp_path / "new"):
        with wiring.open_service(Settings(data), "w", tmp_path) as service:
            found.append(service.search("who increments the counter", 5))
    assert found[0] == found[1]
    assert found[0].hits
    ring = KeyRing(tmp_path / "new" / KEYS)
    assert [record.owner for record in ring.records()] == ["somebody"]
    ring.close()
    assert AuditLog(tmp_path / "new" / AUDIT).verify().entries == 1
    assert AuditLog(tmp_path / "new" / AUDIT).verify().broken_at is None


def test_nothing_that_is_made_again_or_belongs_to_one_process_is_kept(kept: tuple[Settings, Archive]) -> None:
    _, archive = kept
    names = {entry.name for entry in archive.files}
    assert names == {
        *("workspaces/w/index.db", "workspaces/w/workspace.json", "keys.db"),
        *("audit.jsonl", "audit.head", "paces.json", "settings.json"),
    }


def test_a_backup_and_what_comes_out_of_it_are_for_their_owner_alone(
    tmp_path: Path, kept: tuple[Settings, Archive]
) -> None:
    _, archive = kept
    assert stat.S_IMODE(archive.path.stat().st_mode) == 0o600
    restore(archive.path, tmp_path / "new", quiet, never)
    for path in [tmp_path / "new", *(tmp_path / "new").rglob("*")]:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077 or path.is_dir()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_restored_index_has_its_vectors_in_chroma_again_after_the_next_writer(
    tmp_path: Path, kept: tuple[Settings, Archive]
) -> None:
    _, archive = kept
    restore(archive.path, tmp_path / "new", quiet, never)
    data = DataFolder(tmp_path / "new")
    with data.owned(), Index.for_adding(data, "w") as index:
        assert index.lost_chroma()
        index.reconcile()
        assert index.drift(STATIC_NAME).missing == 0


def test_a_backup_that_is_made_while_an_index_is_written_holds_one_moment_of_it(tmp_path: Path) -> None:
    root, data = write_tree(tmp_path / "tree", dict(COUNTER)), tmp_path / "data"
    index_of(root, data)
    stop, failed = threading.Event(), []

    def write() -> None:
        number = 0
        folder = DataFolder(data)
        try:
            with folder.owned(), Index.for_writing(folder, "w", root) as index:
                while not stop.is_set():
                    number += 1
                    # Two files change together, in one batch: no reader may see one without the other.
                    for name in ("one.h", "two.h"):
                        (root / name).write_text(f"int value_{number}();\n" * number, encoding="utf-8")
                    refresh(index, Options(workers=1, commits=0), ())
        except BaseException as error:
            failed.append(error)
            raise

    thread = threading.Thread(target=write)
    thread.start()
    try:
        archives = [backup(Settings(data), tmp_path / f"{n}.zip", quiet, never) for n in range(4)]
    finally:
        stop.set()
        thread.join(timeout=120)
    assert not thread.is_alive()
    assert not failed
    for number, archive in enumerate(archives):
        restore(archive.path, tmp_path / f"new{number}", quiet, never)
        with Index.for_reading(DataFolder(tmp_path / f"new{number}"), "w") as index:
            known = index.table.known_files()
            assert index.problems() == []
            assert ("one.h" in known) == ("two.h" in known)
            if "one.h" in known:
                assert known["one.h"].digest == known["two.h"].digest


# Writes two notes in one transaction, again and again, and says so once it has begun.
_WRITING = """
import sys
from itertools import count
from pathlib import Path
from indexer.index import DataFolder, Index

data = DataFolder(Path(sys.argv[1]))
with data.owned(), Index.for_adding(data, "w") as index:
    for number in count():
        index.table.set_meta({"one": str(number), "other": str(number), "much": "x" * 20_000})
        if number == 3:
            print("begun", flush=True)
"""


def test_a_backup_beside_a_writer_in_another_process_is_of_one_moment(tmp_path: Path) -> None:
    index_of(write_tree(tmp_path / "tree", dict(COUNTER)), tmp_path / "data")
    command = [sys.executable, "-c", _WRITING, str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"begun\n"
            made = backup(Settings(tmp_path / "data"), tmp_path / "kept", quiet, never)
            assert writer.poll() is None, "it is still writing"
        finally:
            writer.kill()
    assert made.notes == ()
    restore(made.path, tmp_path / "again", quiet, never)
    with Index.for_reading(DataFolder(tmp_path / "again"), "w") as index:
        assert index.problems() == []
        assert index.table.note("one") == index.table.note("other")
        assert int(index.table.note("one") or 0) >= 3


def test_indexes_of_an_older_format_are_brought_up_while_they_are_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_of(write_tree(tmp_path / "tree", dict(COUNTER)), tmp_path / "data")
    to_format_3(tmp_path / "data" / "workspaces" / "w" / "index.db")
    with monkeypatch.context() as before:
        before.setattr(backups, "INDEX_FORMAT", 3)  # as the program before this one wrote it
        made = backup(Settings(tmp_path / "data"), tmp_path / "kept", quiet, never)
    assert restore(made.path, tmp_path / "again", quiet, never).notes == ()
    with Index.for_reading(DataFolder(tmp_path / "again"), "w") as index:
        assert index.table.counts().files == len(COUNTER)


def test_nothing_that_is_there_is_overwritten(tmp_path: Path, kept: tuple[Settings, Archive]) -> None:
    made, archive = kept
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for place in (tmp_path / "there", tmp_path / "there" / "file", tmp_path / "link"):
        with pytest.raises(BackupError, match=r"there already|cannot be written"):
            restore(archive.path, place, quiet, never)
    assert (tmp_path / "there" / "file").read_text(encoding="utf-8") == "mine"
    (tmp_path / "same.zip").write_text("mine", encoding="utf-8")
    with pytest.raises(BackupError, match="there already"):
        backup(made, tmp_path / "same.zip", quiet, never)
    (tmp_path / "empty").mkdir()
    restore(archive.path, tmp_path / "empty", quiet, never)
    assert (tmp_path / "empty/workspaces/w/index.db").exists()


def test_a_restore_that_is_stopped_leaves_nothing(tmp_path: Path, kept: tuple[Settings, Archive]) -> None:
    _, archive = kept
    for after in (0, len(archive.files) + 2):
        with pytest.raises(Cancelled):
            restore(archive.path, tmp_path / "new", quiet, counting(after))
        assert list(tmp_path.iterdir()) == []


def test_a_backup_that_is_stopped_leaves_the_folder_as_it_was(tmp_path: Path, kept: tuple[Settings, Archive]) -> None:
    made, _ = kept
    for after in (0, 3):
        with pytest.raises(Cancelled):
            backup(made, tmp_path, quiet, counting(after))
        assert list(tmp_path.iterdir()) == []


def test_of_a_folders_backups_the_newest_stay_and_other_files_are_left_alone(
    tmp_path: Path, kept: tuple[Settings, Archive]
) -> None:
    made, _ = kept
    (tmp_path / "codehub-mine.zip").write_text("mine", encoding="utf-8")
    for day in range(4):
        backup(made, tmp_path, quiet, never, keep=2, clock=lambda day=day: 1_700_000_000 + day * 86_400)  # type: ignore[misc]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["codehub-20231116T221320Z.zip", "codehub-20231117T221320Z.zip", "codehub-mine.zip"]
    note = made.data / backups.LAST
    assert json.loads(note.read_text(encoding="utf-8")) == {"at": 1_700_259_200, "path": str(tmp_path / names[1])}
    assert stat.S_IMODE(note.stat().st_mode) == 0o600


def test_a_damaged_index_is_left_out_with_a_note_and_the_rest_is_kept(tmp_path: Path) -> None:
    for name in ("good", "bad"):
        index_of(write_tree(tmp_path / name, dict(COUNTER)), tmp_path / name / "data")
    data = tmp_path / "good" / "data"
    (tmp_path / "bad/data/workspaces/w").rename(data / "workspaces/bad")
    damaged = data / "workspaces/bad/index.db"
    damaged.write_bytes(damaged.read_bytes()[:100] + os.urandom(8_192) + damaged.read_bytes()[8_292:])
    archive = backup(Settings(data), tmp_path / "out", quiet, never)
    assert [workspace.name for workspace in archive.workspaces] == ["w"]
    assert "workspaces/bad/index.db is left out" in archive.notes[0]


# Archives that somebody else made


@contextmanager
def remade(archive: Path, place: Path) -> Iterator[tuple[dict[str, bytes], dict[str, object]]]:
    """The members and the manifest of an archive, to be changed and written to another place."""
    with zipfile.ZipFile(archive) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    manifest: dict[str, object] = json.loads(members.pop("manifest.json"))
    yield members, manifest
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in members.items():
            written.writestr(name, content)
        written.writestr("manifest.json", json.dumps(manifest))


def _newer(_members: dict[str, bytes], manifest: dict[str, object]) -> None:
    manifest["index_format"] = 10_000


def _newer_form(_members: dict[str, bytes], manifest: dict[str, object]) -> None:
    manifest["format"] = 2


def _other_bytes(members: dict[str, bytes], _manifest: dict[str, object]) -> None:
    members["paces.json"] = b"[]"


def _missing(members: dict[str, bytes], _manifest: dict[str, object]) -> None:
    del members["keys.db"]


def _more(members: dict[str, bytes], _manifest: dict[str, object]) -> None:
    members["paces2.json"] = b"{}"


def _escaping(name: str) -> Callable[[dict[str, bytes], dict[str, object]], None]:
    def change(members: dict[str, bytes], manifest: dict[str, object]) -> None:
        members[name] = members.pop("paces.json")
        for entry in manifest["files"]:  # type: ignore[attr-defined]
            if entry["name"] == "paces.json":
                entry["name"] = name

    return change


def _not_a_database(members: dict[str, bytes], manifest: dict[str, object]) -> None:
    text = b"SQLite format 3\0" + b"x" * 5_000
    members["keys.db"] = text
    for entry in manifest["files"]:  # type: ignore[attr-defined]
        if entry["name"] == "keys.db":
            entry.update(bytes=len(text), sha256=hashlib.sha256(text).hexdigest())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_newer, "newer codehub"),
        (_newer_form, "newer codehub"),
        (_other_bytes, "another size|not what was written"),
        (_missing, "does not hold"),
        (_more, "does not hold"),
        (_escaping("../escaped.json"), "no backup holds"),
        (_escaping("/tmp/escaped.json"), "no backup holds"),
        (_escaping("workspaces/../../escaped/index.db"), "no backup holds"),
        (_escaping("workspaces/w/../x"), "no backup holds"),
        (_escaping("server.json"), "no backup holds"),
        (_escaping("keys.db-wal"), "no backup holds"),
        (_escaping("workspaces/w/chroma/chroma.sqlite3"), "no backup holds"),
        (_not_a_database, "cannot be opened|is damaged"),
    ],
)
def test_an_archive_that_is_not_as_we_write_it_is_refused_and_leaves_nothing(
    tmp_path: Path,
    kept: tuple[Settings, Archive],
    change: Callable[[dict[str, bytes], dict[str, object]], None],
    said: str,
) -> None:
    _, archive = kept
    with remade(archive.path, tmp_path / "odd.zip") as (members, manifest):
        change(members, manifest)
    with pytest.raises(BackupError, match=said):
        restore(tmp_path / "odd.zip", tmp_path / "new", quiet, never)
    assert [path.name for path in tmp_path.iterdir()] == ["odd.zip"]


def test_a_link_within_an_archive_is_refused(tmp_path: Path, kept: tuple[Settings, Archive]) -> None:
    _, archive = kept
    with zipfile.ZipFile(archive.path) as opened, zipfile.ZipFile(tmp_path / "odd.zip", "w") as written:
        for name in opened.namelist():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK if name == "paces.json" else stat.S_IFREG) << 16
            written.writestr(info, opened.read(name))
    with pytest.raises(BackupError, match="no backup holds"):
        restore(tmp_path / "odd.zip", tmp_path / "new", quiet, never)


@given(at=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_byte_of_an_archive_changes_it_is_refused_or_means_the_same(
    tmp_path: Path, kept: tuple[Settings, Archive], at: float, byte: int
) -> None:
    _, archive = kept
    content = bytearray(archive.path.read_bytes())
    content[int(at * len(content))] ^= byte
    odd = tmp_path / "odd.zip"
    odd.write_bytes(content)
    with suppress(BackupError):
        told = verify(odd)
        assert [(entry.name, entry.sha256) for entry in told.files] == [
            (entry.name, entry.sha256) for entry in archive.files
        ]


@given(st.binary(max_size=400))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_that_are_no_archive_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.zip").write_bytes(content)
    with pytest.raises(BackupError):
        verify(tmp_path / "odd.zip")


def test_an_archive_that_would_unpack_to_more_than_it_says_is_refused(tmp_path: Path) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("paces.json", b"0" * 1_000_000)
        entry = {"name": "paces.json", "bytes": 10, "sha256": "0" * 64}
        manifest = {"format": 1, "index_format": 1, "made_at": 0, "workspaces": [], "files": [entry]}
        written.writestr("manifest.json", json.dumps(manifest))
    (tmp_path / "bomb.zip").write_bytes(bomb.getvalue())
    with pytest.raises(BackupError, match="another size"):
        restore(tmp_path / "bomb.zip", tmp_path / "new", quiet, never)


# The commands


def test_the_commands_keep_a_folder_and_give_it_back(tmp_path: Path, kept: tuple[Settings, Archive]) -> None:
    made, _ = kept
    saved = run_here(["backup", tmp_path / "b", "--keep", "1", "--json"], made.data)
    assert saved.code == 0
    told = saved.json()
    assert [workspace["name"] for workspace in told["workspaces"]] == ["w"]
    back = run_here(["restore", told["path"]], tmp_path / "new")
    assert back.code == 0
    assert "w (4 files)" in back.out
    again = run_here(["restore", told["path"]], tmp_path / "new")
    assert again.code == 2
    assert "there already" in again.err


def test_a_data_folder_that_is_not_there_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="nothing to keep"):
        backup(Settings(tmp_path / "none"), tmp_path / "b", quiet, never)


def test_a_database_with_a_journal_beside_it_is_kept_with_what_stands_there(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    writer = apsw.Connection(str(data / "jobs.db"))
    writer.pragma("journal_mode", "wal")
    writer.execute("CREATE TABLE jobs(id)")
    writer.execute("INSERT INTO jobs VALUES(7)")
    assert (data / "jobs.db-wal").stat().st_size
    archive = backup(Settings(data), tmp_path / "b", quiet, never)
    writer.close()
    restore(archive.path, tmp_path / "new", quiet, never)
    reader = apsw.Connection(str(tmp_path / "new/jobs.db"))
    assert reader.execute("SELECT id FROM jobs").fetchall() == [(7,)]
    reader.close()


def counting(before: int) -> Callable[[], bool]:
    """Says to stop after so many looks."""
    looks = iter(range(before))
    return lambda: next(looks, None) is None
