"""What goes wrong with a tree and its repository beneath an index: told, survived, and as made afresh when it is well.

Elsewhere: hooks without codehub, and hostile ones (test_git_hooks.py); programs that a repository names, FIFOs in the
place of git's files (test_hostile_repositories.py); single missing objects (test_commits.py); unreadable files, and
names that are no UTF-8, while scanning (test_files.py); a root that goes while it is watched (test_watcher.py).
"""

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from indexer import files, history, parsing
from indexer.errors import TreeError
from indexer.index import DataFolder, Index
from indexer.pipeline import Options
from tests.support.histories import Repository, held, made, refreshed
from tests.support.trees import write_tree

ONE = "int one() {\n  return 1;\n}\n"
TWO = "int two() {\n  return one();\n}\n"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = made(tmp_path / "tree", {"one.cc": ONE, "sub/two.cc": TWO})
    repository.write({"one.cc": ONE + "// alpha\n"}, "Change one for alpha")
    return repository


class Kept:
    """An index of a tree that goes through what happens to it."""

    def __init__(self, root: Path, data: Path) -> None:
        self.root, self.data, self.times = root, data, 0
        refreshed(root, data)

    def is_as_afresh(self) -> dict[str, object]:
        """Brings it up to date; fails where it then differs from one made now. Returns all that is in it."""
        self.times += 1
        refreshed(self.root, self.data)
        afresh = self.data.with_name(f"{self.data.name} afresh {self.times}")
        refreshed(self.root, afresh)
        now = held(self.root, self.data)
        assert now == held(self.root, afresh)
        return now

    def commits(self) -> list[str]:
        with Index.for_reading(DataFolder(self.data), "w") as index:
            return [str(row[0]) for row in index._database.rows("SELECT subject FROM commits ORDER BY time_s")]

    def files(self) -> set[str]:
        with Index.for_reading(DataFolder(self.data), "w") as index:
            return set(index.table.known_files())


@pytest.fixture
def kept(repository: Repository, tmp_path: Path) -> Kept:
    return Kept(repository.top, tmp_path / "data")


# Histories that change beneath the index


def test_a_history_that_was_rewritten_and_whose_objects_are_gone_is_replaced(
    repository: Repository, kept: Kept
) -> None:
    git = repository.git
    before = repository.head()
    git("switch", "-q", "--orphan", "anew")
    repository.write({"one.cc": ONE, "three.cc": "int three;\n"}, "All of it, in one")
    git("branch", "-q", "-D", "main")
    git("reflog", "expire", "--expire=now", "--all")
    git("gc", "-q", "--prune=now")
    git("cat-file", "-e", before, code=1)
    kept.is_as_afresh()
    assert kept.commits() == ["All of it, in one"]
    assert kept.files() == {"one.cc", "three.cc"}
    assert history.commits_between(repository.top, before, repository.head()) is None
    assert history.files_between(repository.top, before, repository.head()) is None


def test_a_shallow_clone_grows_with_what_is_fetched_and_knows_it_all_once_it_is_whole(
    repository: Repository, tmp_path: Path
) -> None:
    for number in range(3):
        repository.write({"sub/two.cc": f"{TWO}// {number}\n"}, f"Change {number}")
    repository.git("clone", "-q", "--depth=1", f"file://{repository.top}", str(tmp_path / "clone"))
    clone = Repository(tmp_path / "clone")
    kept = Kept(clone.top, tmp_path / "data of clone")
    assert len(kept.commits()) == 1
    repository.write({"one.cc": ONE + "// beta\n"}, "One more")
    clone.git("pull", "-q")
    kept.is_as_afresh()
    assert len(kept.commits()) == 2
    clone.git("fetch", "-q", "--unshallow")
    assert kept.is_as_afresh()["search"] == Kept(repository.top, tmp_path / "whole").is_as_afresh()["search"]
    assert len(kept.commits()) == 6


def test_a_partial_clone_is_indexed_with_what_it_has_and_nothing_is_fetched(
    repository: Repository, tmp_path: Path
) -> None:
    repository.git("config", "uploadpack.allowFilter", "true")
    url = f"file://{repository.top}"
    repository.git("clone", "-q", "--filter=blob:none", url, str(tmp_path / "clone"))
    clone = Repository(tmp_path / "clone")
    before = clone.git("count-objects", "-v")
    kept = Kept(clone.top, tmp_path / "data of clone")
    kept.is_as_afresh()
    assert kept.commits() == ["begin", "Change one for alpha"]
    two = clone.git("rev-list", "HEAD").split("\n")
    between = history.files_between(clone.top, two[1], two[0])
    assert between
    assert [change.path for change in between] == ["one.cc"]
    assert clone.git("count-objects", "-v") == before


def test_commits_of_the_future_and_of_1970_are_kept_as_any(repository: Repository, kept: Kept) -> None:
    for clock in (4_102_444_800, 0, 1_700_000_000, 1):
        repository.clock = clock
        repository.write({"one.cc": f"{ONE}// {clock}\n"}, f"At {clock}, alpha")
        kept.is_as_afresh()
    repository.git("mv", "one.cc", "first.cc")
    repository.write({"sub/two.cc": TWO + "// late\n"}, "Rename one")
    kept.is_as_afresh()
    assert len(kept.commits()) == 7


def test_a_message_of_ten_megabytes_and_one_in_no_encoding_cost_no_other(repository: Repository, kept: Kept) -> None:
    def commit_with(message: bytes) -> None:
        write_tree(repository.top, {"one.cc": f"{ONE}// {len(message)}\n"})
        repository.git("add", "-A")
        repository.git("commit", "-q", "-F", "-", given=message)

    commit_with(b"Enormous change\n\n" + b"a line of a log that somebody pasted\n" * 280_000)
    commit_with(b"a subject without an end " * 200_000)
    commit_with(b"Plain\n")
    raw = (
        repository.git("cat-file", "commit", "HEAD").partition("\n\n")[0].encode()
        + b"\n\nCaf\xe9 \xff\xfe\n\nbody \x80\n"
    )
    odd = repository.git("hash-object", "-t", "commit", "-w", "--stdin", given=raw)
    repository.git("update-ref", "HEAD", odd)
    commit_with(b"Plain again\n")
    kept.is_as_afresh()
    told = kept.commits()
    assert told[:3] + told[5:] == ["begin", "Change one for alpha", "Enormous change", "Plain again"]
    assert len(told[3]) == history.log.MOST_SUBJECT_CHARS
    assert "Caf" in told[4]
    with Index.for_reading(DataFolder(kept.data), "w") as index:
        assert index._database.number("SELECT max(length(body)) FROM commits") <= history.log.MOST_BODY_CHARS


def test_names_with_line_breaks_and_in_no_encoding_go_through_the_history(repository: Repository, kept: Kept) -> None:
    odd = os.fsdecode(b"not \xff utf8.cc")
    repository.write({"two\nlines.cc": "int lines;\n", 'with "quotes"\t.cc': "int quotes;\n"}, "Odd names for alpha")
    write_tree(repository.top, {odd: "int odd;\n"})
    repository.write({"two\nlines.cc": "int lines_now;\n"}, "Odd again for beta")
    repository.git("mv", "two\nlines.cc", "three\n\nlines.cc")
    repository.write({odd: "int odder;\n"}, "Rename a line break")
    now = kept.is_as_afresh()
    assert kept.files() == {"one.cc", "sub/two.cc", "three\n\nlines.cc", 'with "quotes"\t.cc'}
    assert ("three\n\nlines.cc") in {path for path, _ in dict(now["search"])["beta gamma"]}  # type: ignore[call-overload]


def test_a_hundred_thousand_branches_and_tags_change_nothing(repository: Repository, kept: Kept) -> None:
    head = repository.head()
    repository.git("pack-refs", "--all")
    packed = repository.top / ".git" / "packed-refs"
    begun = packed.read_text(encoding="utf-8").splitlines()
    many = [f"{head} refs/heads/{'lots/' * (number % 3)}branch-{number}" for number in range(50_000)]
    many += [f"{head} refs/tags/tag-{number}" for number in range(50_000)]
    lines = sorted([*begun[1:], *many], key=lambda line: line.partition(" ")[2])
    packed.write_text("\n".join([begun[0], *lines]) + "\n", encoding="utf-8")
    assert len(repository.git("for-each-ref").split("\n")) == 100_001
    assert history.head_commit(repository.top) == head
    repository.write({"one.cc": ONE + "// many\n"}, "Among many")
    repository.git("switch", "-q", "lots/branch-1")
    kept.is_as_afresh()
    assert kept.commits() == ["begin", "Change one for alpha"]
    assert history.head_commit(repository.top) == head


# Repositories in other shapes


def test_a_repository_that_stands_elsewhere_goes_and_comes_back(
    repository: Repository, kept: Kept, tmp_path: Path
) -> None:
    """``.git`` is a folder, then a file that leads to it, then gone, then back."""
    elsewhere = tmp_path / "elsewhere.git"
    repository.git("init", "-q", f"--separate-git-dir={elsewhere}")
    assert (repository.top / ".git").is_file()
    repository.write({"one.cc": ONE + "// by a file\n"}, "Through a file")
    kept.is_as_afresh()
    assert kept.commits()[-1] == "Through a file"
    assert history.head_commit(repository.top) == repository.head()
    aside = tmp_path / "aside"
    (repository.top / ".git").rename(aside)
    kept.is_as_afresh()
    assert kept.commits() == []
    assert kept.files() == {"one.cc", "sub/two.cc"}
    assert history.head_commit(repository.top) is None
    (repository.top / ".git").symlink_to("/nonexistent")
    kept.is_as_afresh()
    (repository.top / ".git").unlink()
    aside.rename(repository.top / ".git")
    kept.is_as_afresh()
    assert kept.commits() == ["begin", "Change one for alpha", "Through a file"]


def test_a_bare_repository_is_refused_in_a_sentence(repository: Repository, tmp_path: Path) -> None:
    repository.git("clone", "-q", "--bare", str(repository.top), str(tmp_path / "bare.git"))
    with pytest.raises(TreeError) as caught:
        refreshed(tmp_path / "bare.git", tmp_path / "data of bare")
    assert caught.value.hint


def test_a_work_tree_whose_entry_was_pruned_keeps_its_code_and_gets_its_history_back(
    repository: Repository, tmp_path: Path
) -> None:
    linked = tmp_path / "linked"
    repository.git("worktree", "add", "-q", "-b", "side", str(linked))
    kept = Kept(linked, tmp_path / "data of linked")
    assert len(kept.commits()) == 2
    away = tmp_path / "for a moment"
    linked.rename(away)
    repository.git("worktree", "prune")
    away.rename(linked)
    kept.is_as_afresh()
    assert kept.commits() == []
    assert kept.files() == {"one.cc", "sub/two.cc"}
    assert history.common_folder(linked) is None
    (linked / ".git").unlink()
    repository.git("worktree", "add", "-q", "--force", "--no-checkout", str(tmp_path / "new"), "side")
    (tmp_path / "new" / ".git").rename(linked / ".git")
    repository.git("worktree", "repair", str(linked))
    kept.is_as_afresh()
    assert len(kept.commits()) == 2


def test_a_submodule_is_part_of_the_tree_around_it_and_its_changes_are_taken(
    repository: Repository, kept: Kept, tmp_path: Path
) -> None:
    library = made(tmp_path / "library", {"library.cc": "int library;\n"})
    repository.git("submodule", "--quiet", "add", str(library.top), "third/library")
    repository.write({}, "Take the library in")
    inner = Repository(repository.top / "third" / "library")
    kept.is_as_afresh()
    assert "third/library/library.cc" in kept.files()
    library.write({"library.cc": "int library_two;\n", "more.cc": "int more;\n"}, "Further")
    inner.git("pull", "-q")
    repository.write({}, "Take it further")
    kept.is_as_afresh()
    assert "third/library/more.cc" in kept.files()
    repository.git("submodule", "--quiet", "deinit", "--force", "--all")
    kept.is_as_afresh()
    assert kept.files() == {"one.cc", "sub/two.cc"}
    assert len(kept.commits()) == 4


def test_what_a_sparse_checkout_leaves_out_is_not_there_until_it_is_taken_in(
    repository: Repository, kept: Kept
) -> None:
    repository.git("sparse-checkout", "set", "--no-cone", "/one.cc")
    kept.is_as_afresh()
    assert kept.files() == {"one.cc"}
    assert len(kept.commits()) == 2
    repository.git("sparse-checkout", "disable")
    kept.is_as_afresh()
    assert kept.files() == {"one.cc", "sub/two.cc"}


# Trees that go, and clocks that are wrong


def test_a_root_that_is_gone_is_told_and_its_index_stays_as_it_was(
    repository: Repository, kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = held(kept.root, kept.data)
    for damage in (lambda: None, kept.root.mkdir, lambda: kept.root.write_text("no folder")):
        away = tmp_path / "away"
        kept.root.rename(away)
        damage()
        with pytest.raises(TreeError) as caught:
            refreshed(kept.root, kept.data)
        assert caught.value.hint
        assert held(kept.root, kept.data) == before
        if kept.root.is_dir():
            kept.root.rmdir()
        kept.root.unlink(missing_ok=True)
        away.rename(kept.root)
    monkeypatch.setattr(parsing, "parse_file", lambda *_: pytest.fail("nothing had changed"))
    assert refreshed(repository.top, kept.data).changed == 0


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | None], None]:
    """Makes a folder unreadable, which root would read whatever its mode says."""
    real = os.scandir
    shut: list[Path] = []

    def scandir(path: os.PathLike[str] | str | int = ".") -> "os._ScandirIterator[str]":
        if not isinstance(path, int) and Path(path) in shut:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr("indexer.files.os.scandir", scandir)

    def lock(folder: Path | None) -> None:
        shut[:] = [folder] if folder else []

    return lock


def test_a_folder_that_cannot_be_read_is_told_and_its_files_come_back_with_it(
    kept: Kept, locked: Callable[[Path | None], None]
) -> None:
    before = held(kept.root, kept.data)
    locked(kept.root / "sub")
    report = refreshed(kept.root, kept.data)
    assert [problem.path for problem in report.problems] == ["sub"]
    assert kept.files() == {"one.cc"}
    locked(None)
    kept.is_as_afresh()
    assert held(kept.root, kept.data) == before


def test_files_of_the_future_are_read_again_and_no_change_of_theirs_is_missed(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only they are read, and they are parsed only where their bytes are others."""
    future, past = 4_102_444_800 * 10**9, 10**9
    os.utime(kept.root / "one.cc", ns=(future, future))
    os.utime(kept.root / "sub" / "two.cc", ns=(past, past))
    refreshed(kept.root, kept.data)
    looked: list[str] = []
    real = files.read

    def read(root: Path, candidate: files.Candidate, rules: files.FileRules) -> object:
        looked.append(candidate.path)
        return real(root, candidate, rules)

    monkeypatch.setattr(parsing, "read", read)
    assert refreshed(kept.root, kept.data).changed == 0
    assert set(looked) <= {"one.cc"}
    write_tree(kept.root, {"one.cc": ONE.replace("1", "2") + "// alpha\n"})
    os.utime(kept.root / "one.cc", ns=(future, future))
    assert refreshed(kept.root, kept.data).changed == 1
    kept.is_as_afresh()
    older = past - 10**8
    os.utime(kept.root / "sub" / "two.cc", ns=(older, older))
    write_tree(kept.root, {"sub/two.cc": TWO.replace("two", "too")})
    os.utime(kept.root / "sub" / "two.cc", ns=(older, older))
    assert refreshed(kept.root, kept.data).changed == 1


def test_a_clock_that_is_set_back_and_forth_misses_no_change(kept: Kept) -> None:
    for year, text in ((2100, "int far;\n"), (1971, "int near;\n"), (2026, "int now;\n")):
        write_tree(kept.root, {"one.cc": text})
        options = Options(workers=1, now=lambda year=year: datetime(year, 1, 1, tzinfo=UTC))  # type: ignore[misc]
        assert refreshed(kept.root, kept.data, options).changed == 1
        assert refreshed(kept.root, kept.data, options).changed == 0
    kept.is_as_afresh()


def test_a_tree_that_is_copied_over_the_indexed_one_is_taken_whatever_its_times_say(
    repository: Repository, kept: Kept, tmp_path: Path
) -> None:
    """As an unpacked archive does: older times, other files, ``.git`` and all."""
    other = made(tmp_path / "other", {"one.cc": ONE.replace("one", "uno"), "new.cc": "int fresh;\n"})
    for file in other.top.glob("*.cc"):
        os.utime(file, ns=(10**18, 10**18))
    shutil.rmtree(repository.top)
    shutil.copytree(other.top, repository.top)
    kept.is_as_afresh()
    assert kept.commits() == ["begin"]
    assert kept.files() == {"one.cc", "new.cc"}
