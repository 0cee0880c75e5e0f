"""The audit log: every way of changing it is noticed, a crash is told and mended, and many may write at once."""

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from hub.auth import audit
from hub.auth.audit import FILE, MENDED, AuditLog
from hub.auth.model import LOCAL, Principal
from hub.cli import main
from indexer.errors import DataFolderError
from tests.support.command import ROOT

BOB = Principal("bobskey000", "Bob", ())


def written(folder: Path, number: int = 6) -> AuditLog:
    log = AuditLog(folder / FILE, iter(range(1_000, 9_000)).__next__)
    for place in range(number):
        log.append(BOB, f"job.{place}", "w", "done", {"place": place})
    return log


def lines_of(folder: Path) -> list[bytes]:
    return (folder / FILE).read_bytes().splitlines(keepends=True)


# The chain


def test_a_log_that_was_only_written_is_whole(tmp_path: Path) -> None:
    log = written(tmp_path)
    found = log.verify()
    assert (found.entries, found.broken_at, found.reason, found.mended, found.torn) == (6, None, "", (), False)
    assert found.digest == log.entries(1)[0].digest
    assert [entry.number for entry in log.entries()] == [6, 5, 4, 3, 2, 1]
    newest = log.entries()[0]
    assert (newest.who, newest.owner, newest.action, newest.workspace) == ("bobskey000", "Bob", "job.5", "w")
    assert (newest.outcome, dict(newest.detail), newest.at) == ("done", {"place": 5}, 1_005.0)


def test_a_log_that_was_never_written_is_whole_and_empty(tmp_path: Path) -> None:
    found = AuditLog(tmp_path / FILE).verify()
    assert (found.entries, found.broken_at) == (0, None)
    assert AuditLog(tmp_path / FILE).entries() == ()


def _swapped(lines: list[bytes], one: int, other: int) -> list[bytes]:
    changed = list(lines)
    changed[one], changed[other] = changed[other], changed[one]
    return changed


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    written(folder)
    return folder


def check_broken(folder: Path, content: bytes, at: int) -> None:
    """The content in the place of the log is noticed, and the next entry does not hide it."""
    kept, head = (folder / FILE).read_bytes(), (folder / "audit.head").read_bytes()
    log = AuditLog(folder / FILE, lambda: 9_999.0)
    try:
        (folder / FILE).write_bytes(content)
        found = log.verify()
        assert found.broken_at == at, found
        assert found.reason
        log.append(LOCAL, "later", "", "done")
        assert log.verify().broken_at == at
    finally:
        (folder / FILE).write_bytes(kept)
        (folder / "audit.head").write_bytes(head)
    assert log.verify().broken_at is None


@settings(max_examples=80, deadline=None)
@given(some.data())
def test_every_single_change_of_a_byte_is_noticed_where_it_was_made(whole: Path, data: some.DataObject) -> None:
    content = (whole / FILE).read_bytes()
    place = data.draw(some.integers(0, len(content) - 1))
    byte = data.draw(some.integers(0, 255).filter(lambda other: other != content[place]))
    check_broken(whole, content[:place] + bytes([byte]) + content[place + 1 :], content[:place].count(b"\n") + 1)


@settings(max_examples=25, deadline=None)
@given(some.data())
def test_every_dropped_swapped_or_repeated_entry_is_noticed_at_its_place(whole: Path, data: some.DataObject) -> None:
    lines = lines_of(whole)
    one = data.draw(some.integers(0, len(lines) - 1))
    other = data.draw(some.integers(0, len(lines) - 1).filter(lambda number: number != one))
    first = min(one, other) + 1
    check_broken(whole, b"".join(lines[:one] + lines[one + 1 :]), one + 1)
    check_broken(whole, b"".join(_swapped(lines, one, other)), first)
    check_broken(whole, b"".join([*lines[: one + 1], lines[one], *lines[one + 1 :]]), one + 2)


@pytest.mark.parametrize("kept", range(6))
def test_entries_cut_off_at_the_end_are_noticed(kept: int, whole: Path) -> None:
    check_broken(whole, b"".join(lines_of(whole)[:kept]), kept + 1)


def test_an_entry_made_anew_with_a_right_digest_does_not_fit_its_neighbours(whole: Path) -> None:
    lines = lines_of(whole)
    for place in range(len(lines)):
        entry = json.loads(lines[place])
        del entry["digest"]
        entry["outcome"] = "denied"
        digest = audit.hashlib.sha256(audit._canonical(entry)).hexdigest()
        forged = audit._canonical({**entry, "digest": digest}) + b"\n"
        last = place == len(lines) - 1  # which nothing follows but the head
        check_broken(whole, b"".join([*lines[:place], forged, *lines[place + 1 :]]), place + (1 if last else 2))


@pytest.mark.parametrize("junk", [b"\n", b"{}\n", b"null\n", b"[" * 20_000 + b"\n", b"\xff\xfe\n", b'{"digest":1}\n'])
def test_lines_that_are_no_entries_are_noticed(junk: bytes, whole: Path) -> None:
    lines = lines_of(whole)
    check_broken(whole, b"".join([*lines[:3], junk, *lines[3:]]), 4)


def test_a_log_without_its_head_is_noticed(tmp_path: Path) -> None:
    log = written(tmp_path)
    (tmp_path / "audit.head").unlink()
    assert log.verify().broken_at == 7
    log.append(BOB, "next", "", "done")
    assert log.verify().broken_at == 7, "what follows does not hide it"


def test_two_logs_of_the_same_things_have_different_digests_when_one_differs(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = written(tmp_path / "a", 3), written(tmp_path / "b", 3)
    assert one.verify().digest == other.verify().digest, "nothing but what was told is in it"
    one.append(BOB, "x", "", "done")
    other.append(BOB, "y", "", "done")
    assert one.verify().digest != other.verify().digest


# Crashes


@pytest.mark.parametrize("cut", [1, 5, 100, -2])
def test_a_line_left_half_written_by_a_crash_is_told_and_mended(cut: int, tmp_path: Path) -> None:
    """The head is written behind the line, so that it still tells of the entry before."""
    log = written(tmp_path, 3)
    head = (tmp_path / "audit.head").read_bytes()
    log.append(BOB, "lost", "", "done")
    lines = lines_of(tmp_path)
    (tmp_path / FILE).write_bytes(b"".join(lines[:3]) + lines[3][:cut])
    (tmp_path / "audit.head").write_bytes(head)
    found = log.verify()
    assert (found.entries, found.broken_at, found.torn) == (3, None, True)

    log.append(BOB, "next", "", "done")
    found = log.verify()
    assert (found.entries, found.broken_at, found.torn, found.mended) == (5, None, False, (4,))
    told = log.entries()[1]
    assert (told.action, told.detail["lost"]) == (MENDED, 0)
    assert told.detail["torn_bytes"] == len(lines[3][:cut]) + 1
    assert b"".join(lines_of(tmp_path)).startswith(b"".join(lines[:3]) + lines[3][:cut]), "nothing is taken away"


def test_a_line_that_lacks_nothing_but_its_end_is_an_entry(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    head = (tmp_path / "audit.head").read_bytes()
    log.append(BOB, "kept", "", "done")
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-1])
    (tmp_path / "audit.head").write_bytes(head)
    log.append(BOB, "next", "", "done")
    assert (log.verify().entries, log.verify().broken_at, log.verify().mended) == (5, None, ())
    assert [entry.action for entry in log.entries(2)] == ["next", "kept"]


def test_a_crash_between_a_line_and_the_head_is_no_break(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    head = (tmp_path / "audit.head").read_bytes()
    log.append(BOB, "told", "", "done")
    (tmp_path / "audit.head").write_bytes(head)
    assert (log.verify().entries, log.verify().broken_at) == (4, None)
    log.append(BOB, "next", "", "done")
    assert (log.verify().entries, log.verify().broken_at, log.verify().mended) == (5, None, ())


def test_a_crash_while_a_crash_is_mended_is_no_break(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry that tells of the half line is there, and what it was written for is not, or not in the head."""
    for heads in (0, 1):  # that are still written before the second crash
        folder = tmp_path / str(heads)
        folder.mkdir()
        log = written(folder, 2)
        with (folder / FILE).open("ab") as file:
            file.write(b'{"half')
        left = [heads]

        def crash(*_arguments: object, left: list[int] = left, pwrite: Any = os.pwrite) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            pwrite(*_arguments)

        monkeypatch.setattr(os, "pwrite", crash)
        with pytest.raises(KeyboardInterrupt):
            log.append(BOB, "told", "", "done")
        monkeypatch.undo()
        assert log.verify().broken_at is None
        log.append(BOB, "next", "", "done")
        found = log.verify()
        assert (found.broken_at, found.mended, found.entries) == (None, (3,), 4 + heads)


def test_a_crash_at_the_very_first_line_is_no_break(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b'{"acti')
    log = AuditLog(tmp_path / FILE)
    assert (log.verify().broken_at, log.verify().torn) == (None, True)
    log.append(BOB, "next", "", "done")
    assert (log.verify().entries, log.verify().broken_at, log.verify().mended) == (2, None, (1,))


def test_torn_lines_one_after_another_are_mended_together(tmp_path: Path) -> None:
    log = written(tmp_path, 2)
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"a\n\n{"b')
    log.append(BOB, "next", "", "done")
    assert (log.verify().entries, log.verify().broken_at, log.verify().mended) == (4, None, (3,))


def test_a_mended_line_that_is_taken_away_later_is_noticed(tmp_path: Path) -> None:
    log = written(tmp_path, 2)
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"half')
    log.append(BOB, "next", "", "done")
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes().replace(b'{"half\n', b""))
    assert log.verify().broken_at == 3


_WRITER = """
import sys
from pathlib import Path
from hub.auth.audit import AuditLog
from hub.auth.model import LOCAL
log = AuditLog(Path(sys.argv[1]))
while True:
    log.append(LOCAL, "work", "w", "done", {"text": "x" * 250})
    print("written", flush=True)
"""


def test_a_process_that_is_killed_while_it_writes_leaves_a_whole_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WRITER, str(tmp_path / FILE)]
    log = AuditLog(tmp_path / FILE)
    for written_before in (3, 11):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(written_before):
                assert writer.stdout.readline() == "written\n"
            writer.kill()
        assert log.verify().broken_at is None
        log.append(BOB, "after", "", "done")
        assert log.verify().broken_at is None
    assert log.verify().entries >= 16


def test_a_disk_that_is_full_is_told_and_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = written(tmp_path, 2)
    before = (tmp_path / FILE).read_bytes()
    write = os.write

    def half(file: int, content: bytes) -> int:
        return write(file, content[: len(content) // 2])

    def full(file: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for failing in (half, full):
        monkeypatch.setattr(os, "write", failing)
        with pytest.raises(DataFolderError):
            log.append(BOB, "lost", "", "done")
        monkeypatch.undo()
        assert (tmp_path / FILE).read_bytes() == before
    log.append(BOB, "next", "", "done")
    assert (log.verify().entries, log.verify().broken_at, log.verify().mended) == (3, None, ())


def test_what_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(DataFolderError, match="cannot be read or written"):
        AuditLog(tmp_path / FILE).append(BOB, "x", "", "done")


def test_a_link_in_the_place_of_the_log_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataFolderError):
        AuditLog(tmp_path / FILE).append(BOB, "x", "", "done")
    assert (tmp_path / "elsewhere").read_bytes() == b""


# Many writers, many files, many entries


def test_entries_of_several_logs_on_one_file_make_one_chain(tmp_path: Path) -> None:
    """Each has an opened file of its own, as processes have."""

    def write(who: int) -> None:
        log = AuditLog(tmp_path / FILE)
        for number in range(10):
            log.append(BOB, f"{who}.{number}", "", "done")

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    log = AuditLog(tmp_path / FILE)
    found = log.verify()
    assert (found.entries, found.broken_at, found.mended) == (40, None, ())
    assert sorted(entry.action for entry in log.entries()) == sorted(
        f"{who}.{n}" for who in range(4) for n in range(10)
    )


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PART_BYTES", 700)


def test_the_chain_goes_on_over_the_files_that_it_is_kept_in(tmp_path: Path, small_parts: None) -> None:
    log = written(tmp_path, 12)
    parts = sorted(path.name for path in tmp_path.glob("audit-*.jsonl"))
    assert len(parts) >= 3
    assert parts[0] == "audit-000000000003.jsonl"
    assert (log.verify().entries, log.verify().broken_at) == (12, None)
    assert [entry.number for entry in log.entries(100)] == list(range(12, 0, -1))
    (tmp_path / FILE).unlink()
    assert log.verify().broken_at is not None, "the newest file is missing"
    (tmp_path / parts[0]).unlink()
    assert log.verify().broken_at == 1, "the oldest file is missing"


def test_a_crash_between_two_files_is_no_break(tmp_path: Path, small_parts: None) -> None:
    log = written(tmp_path, 3)
    (tmp_path / FILE).rename(tmp_path / "audit-000000000003.jsonl")
    assert log.verify().broken_at is None
    log.append(BOB, "next", "", "done")
    assert (log.verify().entries, log.verify().broken_at) == (4, None)


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 16])
def test_pages_from_the_end_are_all_entries_in_order(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_BLOCK", block)
    log = written(tmp_path, 9)
    numbers: list[int] = []
    before = None
    while page := log.entries(4, before):
        numbers += [entry.number for entry in page]
        before = page[-1].number
    assert numbers == list(range(9, 0, -1))


# What is kept

TEXTS = some.text(some.characters(), max_size=400)  # with halves of surrogate pairs
DETAILS = some.dictionaries(TEXTS, some.one_of(TEXTS, some.integers(), some.floats()), max_size=40)


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS, DETAILS)
def test_whatever_is_told_the_log_stays_whole_and_its_lines_short(
    tmp_path_factory: pytest.TempPathFactory, action: str, workspace: str, detail: dict[str, Any]
) -> None:
    log = AuditLog(tmp_path_factory.mktemp("log") / FILE)
    log.append(Principal(action, workspace, ()), action, workspace, action, detail)
    log.append(None, "next", "", "denied")
    assert (log.verify().entries, log.verify().broken_at) == (2, None)
    newest, told = log.entries()
    assert newest.who == "nobody"
    assert len(told.detail) <= audit.MOST_DETAILS
    assert len(told.action) <= audit.MOST_DETAIL_CHARS
    content = log.path.read_bytes()
    assert content.isascii()
    assert max(map(len, content.splitlines())) < audit.LONGEST_LINE


def test_the_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    written(tmp_path, 1)
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


# The command

Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([*arguments, "--data", str(tmp_path)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_the_command_shows_pages_and_verifies(shell: Shell, tmp_path: Path) -> None:
    assert shell("audit", "show")[:2] == (1, "Nothing has been recorded yet.\n")
    assert shell("audit", "verify")[0] == 1
    written(tmp_path)
    code, out, _ = shell("audit", "show", "--limit", "2", "--before", "5")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["4", "3"]
    assert out.splitlines()[0].endswith('bobskey000 (Bob): job.3 in w done {"place": 3}')
    code, out, _ = shell("audit", "verify")
    assert code == 0
    assert out.startswith("6 entries, all as they were written; the last has the digest ")
    assert json.loads(shell("audit", "verify", "--json")[1])["whole"] is True


def test_the_command_tells_where_a_log_was_changed_and_fails(shell: Shell, tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes().replace(b"job.2", b"job.9"))
    code, out, _ = shell("audit", "verify")
    assert code == 2
    assert out.startswith("broken at entry 3: ")
    code, out, _ = shell("audit", "verify", "--json")
    assert (code, json.loads(out)["broken_at"], json.loads(out)["whole"]) == (2, 3, False)
