"""What the log tells of a tree: kept step by step as it would be afresh, asked by the words of its changes."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.cli import main
from indexer import history
from indexer.errors import Cancelled
from indexer.files import FileRules
from indexer.history import HistorySource
from indexer.index import DataFolder, Index
from indexer.pipeline import Options, refresh
from indexer.symbol_table.log import MOST_FILES, paths_today, read_patch
from tests.support.histories import history_of
from tests.support.trees import write_tree

# Git settings of whoever runs the tests do not count.
CLOSED = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
WHO = ("-c", "user.name=Ada", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false", "-c", "gc.auto=0")

MINUTES = count(1_600_000_000, 60)

CACHE = """#include "cache.h"

namespace kv {

void Cache::Insert(int key) {
  entries_.push_back(key);
}

void Cache::Shrink() {
  entries_.clear();
}

}  // namespace kv
"""


def git(folder: Path, *arguments: str, time_s: int | None = None) -> str:
    when = {} if time_s is None else {"GIT_COMMITTER_DATE": f"{time_s} +0000", "GIT_AUTHOR_DATE": f"{time_s} +0000"}
    done = subprocess.run(
        ["git", *WHO, "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=CLOSED | when,
    )
    return done.stdout.strip()


def commit(folder: Path, message: str, *arguments: str, time_s: int | None = None) -> str:
    """A commit of all there is, a minute after the one before; returns its hash."""
    git(folder, "add", "--all")
    when = next(MINUTES) if time_s is None else time_s
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message, *arguments, time_s=when)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A first commit, which weighs nothing."""
    root = write_tree(tmp_path / "tree", {"cache.cc": CACHE, "main.cc": "int main() {\n  return 0;\n}\n"})
    git(root, "init", "--quiet", "--initial-branch=main")
    commit(root, "Import")
    return root


@contextmanager
def opened(root: Path, data: Path, options: Options | None = None) -> Iterator[Index]:
    """An index of the tree, brought up to date."""
    folder = DataFolder(data)
    with folder.owned(), Index.for_writing(folder, "w", root) as index:
        refresh(index, options or Options(workers=1))
        yield index


def edit(root: Path, path: str, old: str, new: str) -> None:
    text = (root / path).read_text(encoding="utf-8")
    assert old in text
    (root / path).write_text(text.replace(old, new), encoding="utf-8")


def found(index: Index, question: str) -> list[str]:
    return [path for path, _ in index.commits.search(question, 10)]


def subjects(index: Index, name: str) -> list[str]:
    return [told.commit.subject for told in index.commits.about(name)]


# The law

NAMES = st.sampled_from(["Alpha", "Beta", "Gamma", "run", "stop"])
FILES = st.sampled_from(["a.cc", "b.h", "sub/c.cc"])
BODIES = st.builds("void {}() {{\n  {}();\n  total += 1;\n}}\n".format, NAMES, NAMES)
STEPS = st.one_of(
    st.tuples(st.just("change"), FILES, BODIES),
    st.tuples(st.just("change"), FILES, BODIES),
    st.tuples(st.just("rename"), FILES, FILES),
    st.tuples(st.just("delete"), FILES, st.just("")),
    st.tuples(st.just("format"), FILES, st.just("")),
    st.tuples(st.just("branch"), FILES, BODIES),
    st.tuples(st.just("amend"), FILES, BODIES),
    st.tuples(st.just("go back"), st.just(""), st.just("")),
    st.tuples(st.just("hide"), FILES, st.just("")),
    st.tuples(st.just("show"), st.just(""), st.just("")),
    st.tuples(st.just("refresh"), st.just(""), st.just("")),
    st.tuples(st.just("refresh"), st.just(""), st.just("")),
)


def take(root: Path, step: tuple[str, str, str], number: int) -> None:
    kind, path, text = step
    file = root / path
    match kind:
        case "change":
            write_tree(root, {path: text + "int tail;\n" * 8})
            commit(root, f"Change {text.split()[1]} for alpha", time_s=1_000_000_000 + number // 3)
        case "rename" if file.is_file() and path != text:
            (root / text).parent.mkdir(exist_ok=True)
            file.replace(root / text)
            commit(root, f"Rename {path}", time_s=1_000_000_000 + number)
        case "delete" if file.is_file():
            file.unlink()
            commit(root, f"Drop {path}", time_s=1_000_000_000 + number)
        case "format" if file.is_file():
            file.write_text(file.read_text(encoding="utf-8").replace("\n", "\n\n"), encoding="utf-8")
            commit(root, "Format alpha", time_s=1_000_000_000 + number)
        case "branch":
            git(root, "switch", "--quiet", "--create", f"side{number}")
            write_tree(root, {f"{number}.cc": text})
            commit(root, "On a side: beta gamma", time_s=1_000_000_000 + number)
            git(root, "switch", "--quiet", "-")
            write_tree(root, {path: text + "int tail;\n" * 8})
            commit(root, "On the main line", time_s=1_000_000_000 + number - 2)
            git(root, "merge", "--quiet", "--no-ff", "--message", "Merge alpha", f"side{number}")
        case "amend":
            write_tree(root, {path: text})
            commit(root, "Amended: beta", "--amend", time_s=1_000_000_000 + number)
        case "go back" if git(root, "rev-list", "--count", "--first-parent", "HEAD") != "1":
            git(root, "reset", "--quiet", "--hard", "HEAD^")
        case "hide":
            write_tree(root, {".codehubignore": f"{path}\n"})
        case "show":
            (root / ".codehubignore").unlink(missing_ok=True)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, min_size=2, max_size=9), st.sampled_from([3, 1_000]))
def test_reading_step_by_step_keeps_what_reading_afresh_keeps(steps: list[tuple[str, str, str]], most: int) -> None:
    options = Options(workers=1, commits=most)
    with TemporaryDirectory() as folder:
        root = write_tree(Path(folder) / "tree", {"a.cc": "void run() {\n  stop();\n}\n", "kept.md": "# Kept\n"})
        git(root, "init", "--quiet", "--initial-branch=main")
        write_tree(root, {".git/info/exclude": ".codehubignore\n"})
        commit(root, "First", time_s=1_000_000_000)
        for number, step in enumerate([*steps, ("refresh", "", "")], 1):
            take(root, step, number)
            if step[0] == "refresh":
                with opened(root, Path(folder) / "data", options) as index:
                    by_steps = history_of(index)
        with opened(root, Path(folder) / "afresh", options) as index:
            assert by_steps == history_of(index)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS.filter(lambda step: step[0] not in {"branch", "refresh"}), min_size=3, max_size=8))
def test_reading_after_each_commit_keeps_what_reading_afresh_keeps(steps: list[tuple[str, str, str]]) -> None:
    options = Options(workers=1)
    with TemporaryDirectory() as folder:
        root = write_tree(Path(folder) / "tree", {"a.cc": "void run() {\n  stop();\n}\n", "kept.md": "# Kept\n"})
        git(root, "init", "--quiet", "--initial-branch=main")
        write_tree(root, {".git/info/exclude": ".codehubignore\n"})
        commit(root, "First", time_s=1_000_000_000)
        data = DataFolder(Path(folder) / "data")
        with data.owned(), Index.for_writing(data, "w", root) as index:
            for number, step in enumerate([("refresh", "", ""), *steps], 1):
                take(root, step, number)
                refresh(index, options)
            by_steps = history_of(index)
        with opened(root, Path(folder) / "afresh", options) as index:
            assert by_steps == history_of(index)


def test_a_commit_on_top_is_put_there_without_a_look_at_the_others(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        edit(root, "main.cc", f"return {number}", f"return {number + 1}")
        commit(root, f"Answer {number} differently")
    data = DataFolder(tmp_path / "data")
    with data.owned(), Index.for_writing(data, "w", root) as index:
        refresh(index, Options(workers=1))
        monkeypatch.setattr("indexer.symbol_table.log.MOST_MESSAGES", 4)
        edit(root, "main.cc", "return 3", "return 4")
        write_tree(root, {"fresh.cc": "int alpha;\n", "notes.txt.in": "no file that is indexed\n"})
        commit(root, "Answer 3 differently, with alpha")
        edit(root, "cache.cc", "push_back", "emplace_back")
        commit(root, "Construct in place")
        with monkeypatch.context() as patched:
            patched.setattr(history, "commits", lambda *_: pytest.fail("all commits were looked at"))
            refresh(index, Options(workers=1))
        assert found(index, "construct in place") == ["cache.cc"]
        edit(root, "main.cc", "return 4", "return 5")
        commit(root, "Answer 4 differently")
        refresh(index, Options(workers=1))  # a file with more messages than are held against it
        by_steps = history_of(index)
    with opened(root, tmp_path / "afresh") as index:
        assert by_steps == history_of(index)


# What it finds


def test_words_that_only_a_message_uses_lead_to_the_file_and_the_function_that_it_changed(
    root: Path, tmp_path: Path
) -> None:
    edit(root, "cache.cc", "  entries_.clear();\n", "  entries_.clear();\n  entries_.shrink_to_fit();\n")
    commit(root, "Give the memory back after a spike\n\nThe allocator kept it otherwise.")
    with opened(root, tmp_path / "data") as index:
        assert found(index, "memory is kept after a spike") == ["cache.cc"]
        (chunk, score), *_ = index.commits.chunks("memory is kept after a spike", 5)
        assert "Shrink" in index.table.chunks([chunk])[0].text
        assert score == index.commits.search("memory is kept after a spike", 1)[0][1]
        assert found(index, "nothing of the kind") == []
        assert found(index, "") == []


def test_a_renamed_file_keeps_what_was_said_of_it_before(root: Path, tmp_path: Path) -> None:
    edit(root, "cache.cc", "push_back", "emplace_back")
    commit(root, "Construct in place")
    git(root, "mv", "cache.cc", "lru.cc")
    commit(root, "Rename the cache")
    git(root, "mv", "lru.cc", "store.cc")
    commit(root, "And again")
    with opened(root, tmp_path / "data") as index:
        assert found(index, "construct in place") == ["store.cc"]
        assert subjects(index, "store.cc") == ["Construct in place", "Import"]


def test_a_branch_that_knew_the_old_name_of_a_file_is_followed_too() -> None:
    old, new, other = 1, 2, 3
    merged_late: list[list[tuple[int, int | None]]] = [[(old, None)], [(new, old)], [(other, None)], [(old, None)]]
    assert paths_today(merged_late, {new, other}) == [[new], [new], [other], [new]]


def test_a_file_that_took_the_name_of_a_renamed_one_is_told_apart_from_it() -> None:
    name, moved = 1, 2
    newest_first: list[list[tuple[int, int | None]]] = [[(name, None)], [(moved, name)], [(name, None)]]
    assert paths_today(newest_first, {name, moved}) == [[name], [moved], [moved]]


def test_commits_that_touch_very_many_files_merges_and_formatting_weigh_nothing(root: Path, tmp_path: Path) -> None:
    write_tree(root, {f"many/{number}.cc": f"int n{number};\n" for number in range(MOST_FILES)})
    edit(root, "main.cc", "return 0", "return 1")
    commit(root, "Sweep through everything")
    git(root, "switch", "--quiet", "--create", "side")
    edit(root, "main.cc", "return 1", "return 2")
    commit(root, "A genuine change")
    git(root, "switch", "--quiet", "main")
    git(root, "merge", "--quiet", "--no-ff", "--message", "Unify the branches", "side")
    edit(root, "main.cc", "  return 2;", "\treturn\n2;")
    commit(root, "Beautify")
    with opened(root, tmp_path / "data") as index:
        assert found(index, "genuine change") == ["main.cc"]
        for words in ("sweep everything", "unify branches", "beautify", "import"):
            assert found(index, words) == [], words
        assert subjects(index, "main") == ["A genuine change"]
        assert subjects(index, "main.cc") == ["A genuine change", "Sweep through everything", "Import"]


def test_files_that_change_together_are_told_the_best_first(root: Path, tmp_path: Path) -> None:
    write_tree(root, {"cache.h": "struct A;\n", "log.cc": "int l;\n"})
    commit(root, "Add")
    for number in range(3):
        write_tree(root, {"cache.h": f"struct A{number};\n", "cache.cc": f"{CACHE}int a{number};\n"})
        if number == 0:
            write_tree(root, {"log.cc": "int m;\n"})
        commit(root, f"Both {number}")
    with opened(root, tmp_path / "data") as index:
        assert [path for path, _ in index.commits.together("cache.cc", 5)] == ["cache.h", "log.cc"]
        assert index.commits.together("nowhere.cc", 5) == []


def test_nothing_after_the_indexed_commit_is_read(root: Path, tmp_path: Path) -> None:
    edit(root, "main.cc", "return 0", "return 1")
    earlier = commit(root, "Before the split")
    edit(root, "main.cc", "return 1", "return 2")
    commit(root, "Behind the split")
    with opened(root, tmp_path / "data", Options(workers=1, history=HistorySource(root, earlier))) as index:
        assert found(index, "before") == ["main.cc"]
        assert found(index, "behind") == []
        assert index.commits.extent().commits == 2


def test_no_word_out_of_a_file_that_is_not_indexed_is_kept(root: Path, tmp_path: Path) -> None:
    write_tree(root, {"secret.cc": "int hunter_two;\n", "main.cc": "int shown_name;\n"})
    commit(root, "Set things up")
    write_tree(root, {"secret.cc": "int hunter_three;\nint hunter_four;\n"})
    commit(root, "Rotate")
    hiding = Options(FileRules(exclude=("secret.cc",)), workers=1)
    with opened(root, tmp_path / "data", hiding) as index:
        assert found(index, "hunter_two") == []
        assert found(index, "rotate") == []
        assert found(index, "shown_name") == ["main.cc"]
    with opened(root, tmp_path / "data") as index:
        assert "secret.cc" in found(index, "hunter_two")
        assert found(index, "rotate") == ["secret.cc"]
    with opened(root, tmp_path / "data", hiding) as index:
        assert found(index, "hunter_two") == []
        assert found(index, "shown_name") == ["main.cc"]
        assert history_of(index)["about"]


def test_a_tree_below_the_top_of_its_repository_knows_its_own_part_alone(root: Path, tmp_path: Path) -> None:
    write_tree(root, {"lib/inner.cc": "int a;\n"})
    commit(root, "Begin the library")
    write_tree(root, {"lib/inner.cc": "int b;\n", "main.cc": "int outer_name;\n"})
    commit(root, "Fix the inside")
    with opened(root / "lib", tmp_path / "data") as index:
        assert found(index, "fix the inside") == ["inner.cc"]
        assert found(index, "outer_name") == []
        assert subjects(index, "inner.cc") == ["Fix the inside", "Begin the library"]


def test_history_that_is_switched_off_is_forgotten(root: Path, tmp_path: Path) -> None:
    edit(root, "main.cc", "return 0", "return 1")
    commit(root, "A change")
    with opened(root, tmp_path / "data") as index:
        assert index.commits.extent().commits == 2
    with opened(root, tmp_path / "data", Options(workers=1, commits=0)) as index:
        assert index.commits.extent().commits == 0
        assert found(index, "change") == []


# Where there is little or nothing to read


def test_a_tree_without_git_has_no_history(tmp_path: Path) -> None:
    with opened(write_tree(tmp_path / "tree", {"a.cc": "int a;\n"}), tmp_path / "data") as index:
        assert found(index, "anything") == []
        assert index.commits.chunks("anything", 5) == []
        assert index.commits.extent().commits == 0


def test_a_work_tree_and_a_detached_head_have_the_history_of_their_commit(root: Path, tmp_path: Path) -> None:
    edit(root, "main.cc", "return 0", "return 1")
    commit(root, "Answer with one")
    edit(root, "main.cc", "return 1", "return 2")
    commit(root, "Answer with two")
    git(root, "worktree", "add", "--quiet", "--detach", str(tmp_path / "other"), "HEAD^")
    with opened(tmp_path / "other", tmp_path / "data") as index:
        assert subjects(index, "main") == ["Answer with one"]


def test_a_shallow_clone_that_is_deepened_knows_what_a_whole_one_knows(root: Path, tmp_path: Path) -> None:
    for number in range(3):
        edit(root, "main.cc", f"return {number}", f"return {number + 1}")
        commit(root, f"Answer {number} differently")
    git(tmp_path, "clone", "--quiet", "--depth=2", root.as_uri(), "clone")
    with opened(tmp_path / "clone", tmp_path / "data") as index:
        assert subjects(index, "main") == ["Answer 2 differently"]
    git(tmp_path / "clone", "fetch", "--quiet", "--unshallow")
    with opened(tmp_path / "clone", tmp_path / "data") as index:
        deepened = history_of(index)
        assert subjects(index, "main") == [f"Answer {number} differently" for number in (2, 1, 0)]
    with opened(tmp_path / "clone", tmp_path / "afresh") as index:
        assert history_of(index) == deepened


def unlink_object(root: Path, name: str) -> None:
    (root / ".git" / "objects" / name[:2] / name[2:]).unlink()


@pytest.mark.parametrize("what", ["HEAD^:main.cc", "HEAD~2:main.cc", "HEAD^^{tree}"])
def test_a_missing_object_costs_what_rests_on_it_and_no_more(root: Path, tmp_path: Path, what: str) -> None:
    for number in range(4):
        edit(root, "main.cc", f"return {number}", f"return {number + 1}")
        edit(root, "cache.cc", "}  // namespace", f"// {number}\n}}  // namespace")
        commit(root, f"Answer {number} differently")
    git(root, "mv", "cache.cc", "moved.cc")
    commit(root, "Move")
    edit(root, "moved.cc", "Insert", "Put")
    commit(root, "Shorten the name")
    unlink_object(root, git(root, "rev-parse", what.replace("HEAD", "HEAD^^")))
    with opened(root, tmp_path / "data") as index:
        assert "main.cc" in found(index, "answer 0")
        assert found(index, "shorten")[0] == "moved.cc"
        assert index.commits.extent().commits == 7


def test_a_missing_commit_ends_the_history(root: Path, tmp_path: Path) -> None:
    for number in range(3):
        edit(root, "main.cc", f"return {number}", f"return {number + 1}")
        commit(root, f"Answer {number} differently")
    unlink_object(root, git(root, "rev-parse", "HEAD~2"))
    with opened(root, tmp_path / "data") as index:
        assert found(index, "answer 2") == ["main.cc"]
        assert found(index, "answer 0 import") in ([], ["main.cc"])


def test_a_run_that_is_stopped_is_gone_on_with(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.symbol_table.log.WRITE_COMMITS", 2)
    for number in range(6):
        edit(root, "main.cc", f"return {number}", f"return {number + 1}")
        commit(root, f"Answer {number} differently")
    stops = 0
    for most in range(1, 9):
        told: list[str] = []

        def cancelled(told: list[str] = told, most: int = most) -> bool:
            return told.count("history") >= most

        folder = DataFolder(tmp_path / f"data{most}")
        with folder.owned(), Index.for_writing(folder, "w", root) as index:
            try:
                refresh(index, Options(workers=1), (), lambda stage, *_, told=told: told.append(stage), cancelled)
            except Cancelled:
                stops += 1
            refresh(index, Options(workers=1))
            stopped = history_of(index)
        with opened(root, tmp_path / f"afresh{most}") as index:
            assert history_of(index) == stopped
    assert stops >= 3


def test_a_run_that_was_stopped_half_way_to_another_branch_leaves_nothing_of_it_when_that_is_left_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.symbol_table.log.WRITE_COMMITS", 1)
    git(root, "switch", "--quiet", "--create", "side")
    for number in range(3):
        git(root, "mv", "main.cc" if number == 0 else f"main{number}.cc", f"main{number + 1}.cc")
        commit(root, f"Rename {number}")
    git(root, "switch", "--quiet", "main")
    for most in range(1, 6):
        told: list[str] = []
        folder = DataFolder(tmp_path / f"data{most}")
        with folder.owned(), Index.for_writing(folder, "w", root) as index:
            refresh(index, Options(workers=1))
            git(root, "switch", "--quiet", "side")

            def cancelled(told: list[str] = told, most: int = most) -> bool:
                return told.count("history") >= most

            with suppress(Cancelled):
                refresh(index, Options(workers=1), (), lambda stage, *_, told=told: told.append(stage), cancelled)
            git(root, "switch", "--quiet", "main")
            refresh(index, Options(workers=1))
            back = history_of(index)
        with opened(root, tmp_path / f"afresh{most}") as index:
            assert history_of(index) == back


# Hostile repositories


@pytest.mark.parametrize(
    "key", ["core.fsmonitor", "diff.external", "diff.evil.command", "diff.evil.textconv", "gpg.program", "core.pager"]
)
def test_no_program_that_the_repository_names_is_run(root: Path, tmp_path: Path, key: str) -> None:
    mark, program = tmp_path / "it was run", tmp_path / "trap.sh"
    program.write_text(f"#!/bin/sh\ntouch '{mark}'\ncat\n", encoding="utf-8")
    program.chmod(0o755)
    git(root, "config", key, str(program))
    git(root, "config", "log.showSignature", "true")
    write_tree(root, {".gitattributes": "*.cc diff=evil\n"})
    edit(root, "main.cc", "return 0", "return 1")
    with_signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n x\n -----END PGP SIGNATURE-----\n"
    commit(root, "A change")
    raw = git(root, "cat-file", "commit", "HEAD")
    head, blank, message = raw.partition("\n\n")
    signed = subprocess.run(
        ["git", "-C", str(root), "hash-object", "-t", "commit", "-w", "--stdin"],
        input=f"{head}\n{with_signature.rstrip()}{blank}{message}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=CLOSED,
    ).stdout.strip()
    git(root, "update-ref", "HEAD", signed)
    if key not in {"core.fsmonitor", "core.pager"}:
        subprocess.run(
            ["git", "-C", str(root), "log", "-p", "--textconv", "--ext-diff"],
            capture_output=True,
            timeout=60,
            check=False,
            env=CLOSED,
        )
        assert mark.exists(), "the trap does not work, so the test shows nothing"
    mark.unlink(missing_ok=True)
    with opened(root, tmp_path / "data") as index:
        assert found(index, "a change") == ["main.cc"]
    assert not mark.exists()


def test_texts_that_look_like_gits_own_marks_change_nothing(root: Path, tmp_path: Path) -> None:
    marks = f"{'0' * 40}\ndiff --git a/main.cc b/main.cc\n+++ b/main.cc\n@@ -1 +1 @@ void Wrong()\n"
    write_tree(root, {"notes.txt": marks, "odd name.cc": "int odd_one;\n", 'quo"te.cc': "int quoted_one;\n"})
    commit(root, f"\1{'1' * 40}\n\n:100644 100644 a b M\n{marks}")
    write_tree(root, {"odd name.cc": "int odd_two;\n", "notes.txt": f"--- a/main.cc\n++ b/main.cc\n{marks}"})
    commit(root, "Another")
    with opened(root, tmp_path / "data") as index:
        assert index.commits.extent().commits == 3
        assert "odd name.cc" in found(index, "odd_two")
        assert "main.cc" not in found(index, "Wrong another")
        assert [told.paths for told in index.commits.about("main.cc")] == [("main.cc",)]


def test_a_huge_commit_is_cut_and_those_around_it_are_whole(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history.log, "MOST_PATCH_BYTES", 4_000)
    edit(root, "main.cc", "return 0", "return before_it")
    commit(root, "Before")
    write_tree(root, {"huge.md": "x" * 300_000 + "\n" + "some words here\n" * 50_000, "late.cc": "int late_name;\n"})
    commit(root, "Huge")
    edit(root, "main.cc", "return before_it", "return behind_it")
    commit(root, "Behind")
    with opened(root, tmp_path / "data") as index:
        assert found(index, "behind_it") == ["main.cc"]
        assert found(index, "before_it") == ["main.cc"]
        assert set(found(index, "huge")) == {"huge.md", "late.cc"}
        assert found(index, "late_name") == []  # it stood behind the cut


def test_text_that_is_no_utf_8_is_kept_as_far_as_it_can_be_read(root: Path, tmp_path: Path) -> None:
    (root / "main.cc").write_bytes(b"// caf\xe9\nint latin_name;\n")
    commit(root, "Latin")
    with opened(root, tmp_path / "data") as index:
        assert found(index, "latin_name") == ["main.cc"]


# Patches


@pytest.mark.parametrize(
    ("hunks", "symbols"),
    [
        ("@@ -3 +3 @@ void Cache::Insert(int key) {\n-  a();\n+  b();\n", ("Cache::Insert",)),
        ("@@ -3 +3 @@ class API Cache : Base {\n-  int a;\n+  int b;\n", ("Cache",)),
        ("@@ -0,0 +3,3 @@\n+static int twice(int x) {\n+  return 2 * x;\n+}\n", ("twice",)),
        ("@@ -3 +3 @@ int f()\n-  return g(1);\n+  return g(2);\n", ("f",)),
        ("@@ -3 +3 @@\n-  Type *A::Make (int) const;\n+  Type *A::Make (long) const;\n", ("A::Make",)),
        ("", ()),
    ],
)
def test_what_a_patch_changed_is_named(hunks: str, symbols: tuple[str, ...]) -> None:
    touched = read_patch(hunks)
    assert touched.weight == 1
    assert touched.symbols == symbols


@given(st.text(max_size=300), st.sampled_from(["+", "-", "@@ -1 +1 @@ ", ""]))
def test_reading_a_patch_never_raises(text: str, start: str) -> None:
    read_patch("\n".join(start + line for line in text.split("\n")))


# The command


def test_the_command_tells_who_changed_something_and_why(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(root, "cache.cc", "entries_.clear", "entries_.swap")
    last = commit(root, "Swap instead\n\nClearing was slow.", time_s=1_700_000_000)
    with opened(root, tmp_path / "data"):
        pass
    monkeypatch.setenv("CODEHUB_CONFIG", os.devnull)
    asked: Callable[..., int] = lambda *arguments: main(  # noqa: E731 - the same three arguments each time
        ["history", *arguments, "--data", str(tmp_path / "data"), "--workspace", "w"]
    )
    assert asked("Cache::Shrink") == 0
    assert capsys.readouterr().out.startswith(f"{last[:12]}  2023-11-14  Swap instead  (Ada)\n    cache.cc")
    assert asked("cache.cc", "--json", "--limit", "1") == 0
    shown = json.loads(capsys.readouterr().out)
    (told,) = shown["commits"]
    assert (told["commit"], told["subject"], told["body"]) == (last, "Swap instead", "Clearing was slow.")
    assert (told["files"], shown["total"]) == (["cache.cc"], 2)
    assert asked("Nowhere") == 1
    assert "No commit that is kept changed Nowhere" in capsys.readouterr().out
