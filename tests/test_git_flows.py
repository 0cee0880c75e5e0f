"""Whatever is done with git: each commit that reaches HEAD is kept exactly once, what left it is gone, the code is that
of the tree, and hooks tell of it wherever docs/hooks.md says that git runs one.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from hub.hooking import spool
from hub.hooking.installing import block, install
from hub.hooking.placing import place_of, tree_of
from indexer.index import DataFolder, Index
from indexer.pipeline import Options, refresh
from tests.support.histories import Repository, history_of, made
from tests.support.trees import contents

COUNTER = "int counter() {\n  return 1;\n}\n"
LIMIT = "int limit() {\n  return counter();\n}\n"
FILLING = "// filling that makes a rename one\n" * 8


class Place:
    """A tree that is indexed and has hooks, the place that it is pulled from, and a colleague who pushes there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = made(folder / "tree", {"counter.cc": COUNTER, "limit.cc": LIMIT, "old.cc": FILLING + COUNTER})
        self.tree.git("clone", "-q", "--bare", str(self.tree.top), str(folder / "hub.git"))
        self.tree.git("remote", "add", "origin", str(folder / "hub.git"))
        self.tree.git("fetch", "-q", "origin")
        self.tree.git("branch", "-q", "--set-upstream-to=origin/main")
        self.tree.git("clone", "-q", str(folder / "hub.git"), str(folder / "colleague"))
        self.colleague = Repository(folder / "colleague")
        self.data = folder / "data"
        spool.made(self.data)
        found = tree_of(self.tree.top)
        install(place_of(found, "").folder, block(spool.folder_in(self.data), found.shared))

    def told(self, *roots: Path) -> bool:
        """Whether hooks have told of the tree, or of these others; forgets it."""
        return spool.take(self.data, roots or (self.tree.top,)) == frozenset(roots or (self.tree.top,))

    def pushed(self, files: dict[str, str], message: str = "a colleague's") -> str:
        """A commit that a colleague made on what is there, and pushed."""
        self.colleague.git("fetch", "-q")
        self.colleague.git("reset", "-q", "--hard", "origin/main")
        commit = self.colleague.write(files, message)
        self.colleague.git("push", "-q", "--force")
        return commit


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("flows"))


@pytest.fixture(scope="module")
def opened(place: Place) -> Iterator[Index]:
    folder = DataFolder(place.data)
    with folder.owned(), Index.for_writing(folder, "w", place.tree.top) as index:
        refresh(index, Options(workers=1))
        yield index


@pytest.fixture
def index(place: Place, opened: Index, request: pytest.FixtureRequest) -> Index:
    """Up to date with a tree on a branch of its own, which is one commit further than ``begin``."""
    git = place.tree.git
    git("reset", "-q", "--hard")
    git("switch", "-q", "main")
    git("reset", "-q", "--hard", "origin/main")
    git("clean", "-qfd")
    git("switch", "-q", "-C", request.node.name.partition("[")[2].strip("]").replace(" ", "-") or "flow")
    git("branch", "-q", "-f", "begin")
    place.tree.write({"limit.cc": LIMIT + "// own\n"}, f"own of {request.node.name}")
    refresh(opened, Options(workers=1))
    assert place.told()
    return opened


def as_git_has_it(place: Place, index: Index) -> None:
    """Fails where the index is not that of the tree and of the commits that reach its HEAD."""
    rows = "SELECT hash, parents, id FROM commits ORDER BY hash"
    before = {row[0]: row for row in index._database.rows(rows)}
    refresh(index, Options(workers=1))
    now = index._database.rows(rows)
    assert [(row[0], row[1]) for row in now] == place.tree.log()
    assert all(before.get(row[0], row) == row for row in now), "what stayed was read again"
    files = {path for path in place.tree.git("ls-files").split("\n") if path}
    assert set(index.table.known_files()) == files
    folder = DataFolder(place.folder / f"afresh of {place.tree.head()} {len(list(place.folder.iterdir()))}")
    with folder.owned(), Index.for_writing(folder, "w", place.tree.top) as afresh:
        refresh(afresh, Options(workers=1))
        assert contents(index) | history_of(index) == contents(afresh) | history_of(afresh)


class Flow(NamedTuple):
    run: Callable[[Place], object]
    tells: bool = True  # whether docs/hooks.md says that a hook runs


def _fast_forward(place: Place) -> None:
    place.tree.git("switch", "-q", "main")
    place.told()
    place.pushed({"new.cc": "int fresh;\n"})
    place.tree.git("pull", "-q", "--ff-only")


def _true_merge(place: Place) -> None:
    place.pushed({"counter.cc": COUNTER + "// theirs\n"})
    place.tree.git("pull", "-q", "--no-rebase", "origin", "main")
    assert place.tree.log()[0] != place.tree.log()[-1]


def _conflict(place: Place) -> None:
    place.pushed({"limit.cc": f"{LIMIT}// theirs on {place.tree.head()}\n"})
    place.tree.git("fetch", "-q")
    place.tree.git("merge", "-q", "origin/main", code=1)


def _conflict_settled(place: Place) -> None:
    _conflict(place)
    assert not place.told()
    place.tree.write({"limit.cc": LIMIT + "// both\n"}, "settled")


def _squash(place: Place) -> None:
    place.pushed({"counter.cc": COUNTER + "// squashed\n"}, "one")
    place.pushed({"more.cc": "int more;\n"}, "two")
    place.tree.git("fetch", "-q")
    place.tree.git("merge", "-q", "--squash", "origin/main")
    assert place.told()
    place.tree.git("commit", "-qm", "Two in one")


def _rebase(place: Place) -> None:
    place.tree.write({"own.cc": "int own;\n"}, "another")
    place.pushed({"counter.cc": COUNTER + "// below\n"})
    place.tree.git("fetch", "-q")
    place.told()
    place.tree.git("rebase", "-q", "origin/main")


def _pull_rebase(place: Place) -> None:
    place.pushed({"counter.cc": COUNTER + "// further below\n"})
    place.told()
    place.tree.git("pull", "-q", "--rebase", "origin", "main")


def _amend(place: Place) -> None:
    (place.tree.top / "limit.cc").write_text(LIMIT + "// amended\n", encoding="utf-8")
    place.tree.git("commit", "-qa", "--amend", "-m", "Said better")


def _cherry_pick(place: Place) -> None:
    picked = place.pushed({"picked.cc": "int picked;\n"})
    place.tree.git("fetch", "-q")
    place.tree.git("cherry-pick", picked)


def _reset_back(place: Place) -> None:
    place.tree.git("reset", "-q", "--hard", "begin")


def _reset_forward(place: Place) -> None:
    ahead = place.pushed({"ahead.cc": "int ahead;\n"})
    place.tree.git("fetch", "-q")
    place.tree.git("reset", "-q", "--hard", ahead)


def _forced(place: Place) -> None:
    """What was pulled is gone from the place that it came from, and something else stands there."""
    place.pushed({"wrong.cc": "int wrong;\n"}, "a mistake")
    place.tree.git("fetch", "-q")
    place.tree.git("reset", "-q", "--hard", "origin/main")
    place.colleague.git("reset", "-q", "--hard", "HEAD~1")
    place.colleague.write({"right.cc": "int right;\n"}, "done right")
    place.colleague.git("push", "-q", "--force")
    place.tree.git("fetch", "-q", "--force")
    place.tree.git("reset", "-q", "--hard", "origin/main")


def _server_merge(place: Place) -> None:
    """A branch is pushed, and merged where it was pushed to."""
    place.tree.git("push", "-q", "--force", "origin", "HEAD:refs/heads/wish")
    place.pushed({"counter.cc": COUNTER + "// meanwhile\n"})
    place.colleague.git("fetch", "-q")
    place.colleague.git("merge", "-q", "--no-ff", "-m", "Merge pull request #7", "origin/wish")
    place.colleague.git("push", "-q")
    place.tree.git("switch", "-q", "main")
    place.told()
    place.tree.git("pull", "-q")
    assert "pull request #7" in place.tree.git("log", "-1", "--format=%s")


def _branch_deleted(place: Place) -> None:
    gone = place.tree.git("branch", "--show-current")
    place.tree.git("switch", "-q", "main")
    place.tree.git("branch", "-q", "-D", gone)


def _detached(place: Place) -> None:
    place.tree.git("switch", "-q", "--detach", "HEAD~1")
    place.tree.write({"detached.cc": "int detached;\n"}, "on no branch")


def _renamed(place: Place) -> None:
    place.tree.git("mv", "old.cc", "moved.cc")
    place.tree.write({"counter.cc": COUNTER + "// beside\n"}, "Rename alpha")
    place.tree.write({"old.cc": "int taken;\n"}, "Take the name")


def _switched_back(place: Place) -> None:
    place.tree.git("switch", "-q", "begin")
    place.tree.git("switch", "-q", "-")


def _single_files(place: Place) -> None:
    place.tree.git("checkout", "-q", "begin", "--", "limit.cc")
    place.tree.git("restore", "--source=begin", "counter.cc")


def _stash(place: Place) -> None:
    (place.tree.top / "limit.cc").write_text(LIMIT + "// put away\n", encoding="utf-8")
    place.tree.git("stash", "-q")
    place.told()
    place.tree.git("stash", "pop", "-q")


FLOWS = {
    "pull that only goes forward": Flow(_fast_forward),
    "true merge": Flow(_true_merge),
    "merge that stops at a conflict": Flow(_conflict, tells=False),
    "conflict settled": Flow(_conflict_settled),
    "squash": Flow(_squash),
    "rebase": Flow(_rebase),
    "pull that rebases": Flow(_pull_rebase),
    "amend": Flow(_amend),
    "cherry-pick": Flow(_cherry_pick),
    "reset back": Flow(_reset_back, tells=False),
    "reset forward": Flow(_reset_forward, tells=False),
    "forced push": Flow(_forced, tells=False),
    "merge on the server": Flow(_server_merge),
    "branch deleted": Flow(_branch_deleted),
    "detached": Flow(_detached),
    "renamed": Flow(_renamed),
    "switched there and back": Flow(_switched_back),
    "checkout of single files": Flow(_single_files, tells=False),
    "stash popped": Flow(_stash, tells=False),
}


@pytest.mark.parametrize("name", FLOWS)
def test_after_each_flow_of_git_the_index_is_that_of_the_tree_and_each_commit_is_kept_once(
    place: Place, index: Index, name: str
) -> None:
    flow = FLOWS[name]
    flow.run(place)
    assert place.told() is flow.tells
    as_git_has_it(place, index)


def test_a_linked_work_tree_tells_of_itself_and_its_commits_are_its_own(place: Place, index: Index) -> None:
    linked = place.folder / "linked"
    place.tree.git("worktree", "add", "-q", "-b", "in-linked", str(linked))
    assert place.told(linked)
    other = Repository(linked)
    own = other.write({"linked.cc": "int linked;\n"}, "only there")
    assert not place.told()
    as_git_has_it(place, index)
    assert own not in {commit for commit, _ in place.tree.log()}
    folder = DataFolder(place.folder / "data of linked")
    with folder.owned(), Index.for_writing(folder, "w", linked) as theirs:
        refresh(theirs, Options(workers=1))
        assert [tuple(row) for row in theirs._database.rows("SELECT hash, parents FROM commits ORDER BY hash")] == (
            other.log()
        )
    place.tree.git("worktree", "remove", "--force", str(linked))
