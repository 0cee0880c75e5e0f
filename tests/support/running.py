"""A data folder with one small tree in git, recipes of shell commands, and the runs of both: all of it real."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.model import Run
from agents.runs import Prepared, Runs
from hub.auth.model import LOCAL, Grant, Principal, Scope
from hub.knowledge import Sessions
from hub.workspaces import Workspaces
from indexer.index import DataFolder, Index
from indexer.pipeline import Options, refresh
from tests.support.served import settings_for, until
from tests.support.trees import write_tree

WAIT_S = 60.0
SOURCE = """int half(int number)
{
  return number / 2;
}
"""
PATCH = """--- a/half.cc
+++ b/half.cc
@@ -1,4 +1,4 @@
 int half(int number)
 {
-  return number / 2;
+  return number >> 1;
 }
"""
BROKEN = PATCH.replace("number >> 1;", "numbre / 2;")
FOREVER = "echo begun; trap '' TERM INT; (setsid sleep {mark} &); sleep {mark}"
SAYS = """printf 'one\\033[31mred\\033[0m\\000\\377 pass''word = "%s"\\n' hunter2hunter2Zq9
read x
echo "got=$x"
exit 3
"""
FILE = f"""
[recipes.tests]
does = "tests"
steps = [
    ["c++", "-c", "half.cc", "-o", "half.o"],
    ["sh", "-c", "cat half.cc note.txt extra.txt; ls; echo $0", "{{filter}}"],
]
arguments.filter = {{ pattern = "[A-Za-z ;$()]{{1,40}}", default = "All" }}

[recipes.says]
does = "build"
cache = false
steps = [["sh", "says.sh"]]

[recipes.forever]
does = "build"
cache = false
steps = [["sh", "-c", "{FOREVER}", "x"]]
arguments = {{}}

[recipes.brief]
does = "build"
cache = false
seconds = 1
steps = [["true"], ["sleep", "600"], ["echo", "never"]]

[recipes.elsewhere]
template = "make"
workspaces = ["other"]
"""


@dataclass
class Place:
    """A data folder with one small tree in git, and its runs."""

    folder: Path
    settings: Any
    workspaces: Workspaces
    sessions: Sessions
    runs: Runs

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    def git(self, *arguments: str) -> str:
        return git(self.tree, *arguments)

    def ended(self, recipe: str, *, principal: Principal = LOCAL, session: str = "", **asked: Any) -> Run:
        prepared = self.prepared(recipe, principal=principal, **asked)
        run = self.runs.start(principal, prepared, session)
        return self.runs.wait(run.id, principal, WAIT_S)

    def prepared(self, recipe: str, *, principal: Principal = LOCAL, **asked: Any) -> Prepared:
        return self.runs.prepare(
            principal, "tree", recipe, asked.get("arguments", {}), asked.get("patch", ""), asked.get("changes", True)
        )

    def begun(self, principal: Principal = LOCAL) -> Run:
        """A run that does not end by itself, and has got to where it would stay."""
        run = self.runs.start(principal, self.prepared("forever", principal=principal))
        until(lambda: self.runs.run(run.id, principal).stage.startswith("step"))
        until(lambda: bool(alive()))
        return run

    def again(self) -> Runs:
        return Runs(self.settings, self.workspaces, self.sessions, self.settings.data)


MARK = f"9{os.getpid()}"  # seconds that a test's own sleepers would sleep, by which they are known


def alive() -> list[int]:
    """The sleepers of these tests that live."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
        except OSError:
            continue
        if words[:2] == [b"sleep", MARK.encode()]:
            found.append(int(entry.name))
    return found


def git(tree: Path, *arguments: str) -> str:
    names = ["-c", "user.name=T", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]
    environment = {"PATH": os.defpath, "HOME": str(tree), "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", *names, *arguments], cwd=tree, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def made_in(folder: Path) -> Path:
    """The same folder, with the tree, its index and the recipes in it."""
    tree = write_tree(folder / "tree", {"half.cc": SOURCE, "note.txt": "noted\n", "extra.txt": "", "says.sh": SAYS})
    git(tree, "init", "-q")
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "Begin")
    data = DataFolder(folder / "data")
    with data.owned(), Index.for_writing(data, "tree", tree) as index:
        refresh(index, Options(workers=1), ())
    file = folder / "data" / "recipes.toml"
    file.write_text(FILE.replace("{mark}", MARK))
    file.chmod(0o600)
    return folder


@contextmanager
def opened(folder: Path, **changes: Any) -> Iterator[Place]:
    configured = settings_for(folder / "data", **changes)
    workspaces = Workspaces(configured)
    sessions = Sessions(folder / "data" / "sessions.db")
    runs = Runs(configured, workspaces, sessions, configured.data)
    try:
        yield Place(folder, configured, workspaces, sessions, runs)
    finally:
        runs.close()
        sessions.close()
        workspaces.close()
        git(folder / "tree", "checkout", "-q", "--", ".")
        assert alive() == []


def key(name: str, *scopes: Scope, workspace: str = "tree") -> Principal:
    return Principal(name, name, (Grant(workspace, frozenset(scopes or (Scope.READ, Scope.EXECUTE))),))
