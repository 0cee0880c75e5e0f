"""Git's own hooks tell of a changed tree: put in and taken out byte for byte, told by every flow of real git, believed
for nothing but which tree to look at again.
"""

import asyncio
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.cli import main
from hub.errors import HookError
from hub.hooking import spool
from hub.hooking.installing import HOOKS, KEPT, HookState, block, install, looked_at, uninstall
from hub.hooking.placing import place_of, tree_of
from hub.http_api import hooks as told_over_http
from hub.http_api.app import create_app
from hub.jobs import JobKind, Task
from hub.jobs.work import perform
from indexer import history
from tests.support.served import settings_for
from tests.support.server_state import state_in
from tests.support.trees import index_of

LIMIT_S = 20.0
SOURCE = "int main() { return 0; }\n"


class Repository:
    """A work tree, and git in it with no settings but its own."""

    def __init__(self, top: Path, home: Path) -> None:
        self.top = top
        self.variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_EDITOR": "true",
            **{f"GIT_{who}_{what}": "ada@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }

    def git(self, *arguments: str, code: int = 0, switch: str = "") -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.top,
            env=self.variables | {"CODEHUB_HOOKS": switch},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def commit(self, content: str, path: str = "a.cc", switch: str = "") -> None:
        (self.top / path).write_text(content, encoding="utf-8")
        self.git("add", "-A")
        self.git("commit", "-qm", f"say {content.strip()[:20]}", switch=switch)

    def hook(self, name: str) -> Path:
        return self.top / ".git" / "hooks" / name

    def put_in(self, data: Path) -> None:
        tree = tree_of(self.top)
        spool.made(data)
        install(place_of(tree, "").folder, block(spool.folder_in(data), tree.shared))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    top = tmp_path / "it's a tree"
    top.mkdir()
    made = Repository(top, tmp_path)
    made.git("init", "-q", "-b", "main")
    made.commit(SOURCE)
    return made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "a 'data' $folder"


def told(data: Path, *trees: Path) -> bool:
    """Whether hooks have told of exactly these trees; forgets it."""
    files = list((data / "spool").iterdir())
    lines = {line for file in files for line in file.read_text(encoding="utf-8").splitlines()}
    for file in files:
        file.unlink()
    return lines == {str(tree) for tree in trees}


# What is put into files


SCRIPTS = st.builds(
    lambda shebang, body: shebang + body,
    st.sampled_from(
        [b"", b"#!/bin/sh\n", b"#!/bin/sh", b"#!/usr/bin/env bash\n", b"#!/bin/bash -e\n", b"#!/bin/sh\r\n"]
    )
    | st.just(b"#!/usr/bin/env python3\n"),
    st.binary(max_size=60).filter(lambda body: b"codehub" not in body),
)


@settings(max_examples=40)
@given(
    st.dictionaries(st.sampled_from(HOOKS), st.tuples(SCRIPTS, st.sampled_from([0o755, 0o644, 0o700, 0o711]))),
    st.integers(1, 3),
)
def test_hooks_that_were_put_in_and_taken_out_again_are_as_before_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, before: dict[str, tuple[bytes, int]], times: int
) -> None:
    folder = tmp_path_factory.mktemp("hooks")
    for name, (content, mode) in before.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(mode)
    wanted = block(folder / "spool", folder)
    once = None
    for _ in range(times):
        assert {hook.state for hook in install(folder, wanted)} == {HookState.INSTALLED}
        now = {file.name: file.read_bytes() for file in folder.iterdir()}
        assert once in {None, tuple(sorted(now.items()))}
        once = tuple(sorted(now.items()))
        assert all(os.access(folder / name, os.X_OK) for name in HOOKS)
    another = block(folder / "elsewhere", folder)
    assert {hook.state for hook in looked_at(folder, another)} == {HookState.OUTDATED}
    assert {hook.state for hook in install(folder, another)} == {HookState.INSTALLED}
    uninstall(folder)
    after = {file.name: (file.read_bytes(), file.stat().st_mode & 0o777) for file in folder.iterdir()}
    assert after == before


def test_what_is_no_plain_file_and_what_is_half_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("#!/bin/sh\necho\n", encoding="utf-8")
    (tmp_path / "post-merge").symlink_to("elsewhere")
    (tmp_path / "post-checkout").mkdir()
    (tmp_path / "post-rewrite").write_text("#!/bin/sh\n# >>> codehub >>>\necho mine\n", encoding="utf-8")
    os.mkfifo(tmp_path / "post-commit")
    found = install(tmp_path, block(tmp_path, tmp_path))
    assert [hook.state for hook in found] == [HookState.ODD] * 4
    assert "link to elsewhere" in found[0].note
    assert "damaged" in found[2].note
    assert (tmp_path / "elsewhere").read_text(encoding="utf-8") == "#!/bin/sh\necho\n"
    uninstall(tmp_path)
    assert (tmp_path / "post-rewrite").read_text(encoding="utf-8").endswith("echo mine\n")


def test_lines_that_somebody_added_to_a_hook_of_ours_stay(tmp_path: Path) -> None:
    install(tmp_path, block(tmp_path, tmp_path))
    with (tmp_path / "post-merge").open("a", encoding="utf-8") as file:
        file.write("echo mine\n")
    uninstall(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["post-merge"]
    assert (tmp_path / "post-merge").read_text(encoding="utf-8") == "#!/bin/sh\necho mine\n"


def test_a_hook_put_aside_is_not_taken_back_over_what_somebody_wrote_since(tmp_path: Path) -> None:
    (tmp_path / "post-merge").write_bytes(b"\x7fELF")
    wanted = block(tmp_path, tmp_path)
    install(tmp_path, wanted)
    with (tmp_path / "post-merge").open("a", encoding="utf-8") as file:
        file.write("echo mine\n")
    assert [hook.name for hook in uninstall(tmp_path) if hook.state is not HookState.ABSENT] == ["post-merge"]
    assert (tmp_path / "post-merge").read_text(encoding="utf-8").endswith("echo mine\n")
    assert (tmp_path / f"post-merge{KEPT}").read_bytes() == b"\x7fELF"


def test_a_hook_is_not_put_aside_over_another_file(tmp_path: Path) -> None:
    (tmp_path / "post-merge").write_bytes(b"\x7fELF")
    (tmp_path / f"post-merge{KEPT}").write_bytes(b"other")
    with pytest.raises(HookError, match="is there already"):
        install(tmp_path, block(tmp_path, tmp_path))
    assert (tmp_path / "post-merge").read_bytes() == b"\x7fELF"


def test_no_block_is_made_of_a_path_that_would_end_a_line(tmp_path: Path) -> None:
    with pytest.raises(HookError, match="control characters"):
        block(tmp_path / "a\nrm -rf b", tmp_path)


# What the lines do


def test_every_flow_of_git_tells_of_its_tree_but_for_those_that_run_no_hook(repository: Repository, data: Path) -> None:
    git, top = repository.git, repository.top
    repository.put_in(data)
    assert told(data)
    repository.commit("int one;\n")
    assert told(data, top)
    git("commit", "-q", "--amend", "-m", "another message")
    assert told(data, top)
    git("switch", "-qc", "side")
    assert told(data, top)
    repository.commit("int two;\n", "b.cc")
    repository.commit("int three;\n", "c.cc")
    git("switch", "-q", "main")
    told(data)
    git("merge", "-q", "--ff-only", "side~1")
    assert told(data, top)
    repository.commit("int four;\n", "d.cc")
    told(data)
    git("merge", "-q", "--no-ff", "-m", "a true merge", "side")
    assert told(data, top)
    git("switch", "-qc", "other", "HEAD~1")
    repository.commit("int five;\n")
    git("switch", "-q", "main")
    repository.commit("int six;\n")
    told(data)
    git("merge", "-q", "other", code=1)
    assert told(data)
    (top / "a.cc").write_text("int seven;\n", encoding="utf-8")
    git("add", "-A")
    git("commit", "-qm", "a conflict settled")
    assert told(data, top)
    git("switch", "-qc", "squashed", "side~1")
    told(data)
    git("merge", "-q", "--squash", "side")
    assert told(data, top)
    git("commit", "-qm", "squashed")
    git("switch", "-qC", "picked", "side~1")
    told(data)
    git("cherry-pick", "side")
    assert told(data, top)
    git("switch", "-qC", "rebased", "side~1")
    repository.commit("int eight;\n", "e.cc")
    told(data)
    git("rebase", "-q", "main")
    assert told(data, top)
    git("checkout", "-q", "HEAD~1", "--", "b.cc")  # single files: docs/hooks.md
    git("reset", "-q", "--hard", "HEAD~1")  # runs no hook: docs/hooks.md
    assert told(data)


def test_each_linked_work_tree_tells_of_itself(repository: Repository, data: Path, tmp_path: Path) -> None:
    repository.put_in(data)
    linked = Repository(tmp_path / "linked", tmp_path)
    repository.git("worktree", "add", "-q", str(linked.top))
    assert told(data, linked.top)
    linked.commit("int one;\n")
    repository.commit("int two;\n", "b.cc")
    assert len(list((data / "spool").iterdir())) == 2
    assert told(data, linked.top, repository.top)
    assert tree_of(linked.top).shared == repository.top / ".git"
    assert tree_of(repository.top / ".git" / "hooks").top == repository.top


def test_a_submodule_tells_of_itself_which_is_a_change_of_the_tree_around_it(
    repository: Repository, data: Path, tmp_path: Path
) -> None:
    repository.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(repository.top), "part")
    part = Repository(repository.top / "part", tmp_path)
    part.put_in(data)
    assert tree_of(part.top).shared == repository.top / ".git" / "modules" / "part"
    part.commit("int one;\n")
    assert spool.waiting(data, [repository.top, tmp_path / "other"]) == {repository.top}
    assert told(data, part.top)


@settings(max_examples=25)
@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12))
def test_whatever_the_folders_are_called_a_hook_finds_them(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    base = tmp_path_factory.mktemp("named")
    data, top = base / f"d{name}", base / f"t{name}"
    top.mkdir()
    if any(letter < " " for letter in name):
        with pytest.raises(HookError):
            block(spool.folder_in(data), top)
        return
    spool.made(data)
    install(top, block(spool.folder_in(data), top))
    variables = {"PATH": os.environ["PATH"], "GIT_DIR": f"/x/$(touch y)/`{name}"}
    done = subprocess.run(
        [top / HOOKS[0], "0"], cwd=top, env=variables, capture_output=True, timeout=LIMIT_S, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert spool.take(data, [top]) == {top}


def test_a_tree_that_tells_often_fills_one_small_file(repository: Repository, data: Path) -> None:
    repository.put_in(data)
    for name in ("one", "two", "three"):
        repository.git("switch", "-qc", name)
    (file,) = (data / "spool").iterdir()
    assert file.read_text(encoding="utf-8") == f"{repository.top}\n" * 3


def test_hooks_disturb_git_neither_without_the_data_folder_nor_when_it_cannot_be_written(
    repository: Repository, data: Path
) -> None:
    repository.put_in(data)
    (data / "spool").rmdir()
    assert repository.git("commit", "-q", "--allow-empty", "-m", "no folder") == ""
    (data / "spool").write_text("", encoding="utf-8")
    assert repository.git("switch", "-qc", "a-file-there") == ""
    (data / "spool").unlink()
    (data / "spool").mkdir()
    name = block(data / "spool", repository.top / ".git").split("/")[-2].split(".")[0]
    (data / "spool" / f"{name}..git").mkdir()
    (data / "spool" / f"{name}.").mkdir()
    assert repository.git("switch", "-qc", "a-folder-there") == ""


def test_hooks_are_switched_off_by_the_environment(repository: Repository, data: Path) -> None:
    repository.put_in(data)
    repository.commit("int one;\n", switch="off")
    assert told(data)
    repository.commit("int two;\n", switch="on")
    assert told(data, repository.top)


@pytest.mark.parametrize(
    "script",
    [
        "#!/bin/sh\nset -eu\ntouch ran\nexit 7\n",
        "#!/bin/sh -eu\nread -r line || :\ntouch ran\nexit 7\n",
        "#!/usr/bin/env bash\nset -o pipefail\ntouch ran\nexit 7\n",
        f"#!{sys.executable}\nimport sys\nopen('ran', 'w').close()\nsys.exit(7)\n",
    ],
)
def test_a_hook_that_was_there_runs_as_before_and_its_exit_code_counts(
    repository: Repository, data: Path, script: str
) -> None:
    repository.hook("post-checkout").write_text(script, encoding="utf-8")
    repository.hook("post-checkout").chmod(0o755)
    repository.put_in(data)
    repository.git("switch", "-qc", "side", code=1)  # git's own for any other than 0
    assert told(data, repository.top)
    assert (repository.top / "ran").exists()


def test_a_hook_put_aside_gets_its_arguments_and_its_input(repository: Repository, data: Path) -> None:
    script = "import sys\nopen('seen', 'w').write(repr((sys.argv[1:], len(sys.stdin.read().split()))))\n"
    repository.hook("post-rewrite").write_text(f"#!{sys.executable}\n{script}", encoding="utf-8")
    repository.hook("post-rewrite").chmod(0o755)
    repository.put_in(data)
    repository.git("commit", "-q", "--amend", "-m", "another")
    assert (repository.top / "seen").read_text(encoding="utf-8") == "(['amend'], 2)"


def test_a_hook_that_its_owner_has_switched_off_stays_off(repository: Repository, data: Path) -> None:
    repository.hook("post-commit").write_text("#!/bin/sh\ntouch ran\n", encoding="utf-8")
    repository.hook("post-commit").chmod(0o644)
    repository.put_in(data)
    repository.commit("int one;\n")
    assert told(data, repository.top)
    assert not (repository.top / "ran").exists()


# Where they are put


def test_no_configuration_of_a_repository_is_run_while_its_hooks_are_put_in(
    repository: Repository, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = repository.top / "seen"
    program = f"touch {shlex.quote(str(seen))}"
    for name in ("core.fsmonitor", "core.pager", "pager.config", "alias.config", "core.sshCommand", "core.editor"):
        repository.git("config", name, f"!{program}" if name.startswith("alias") else program)
    assert main(["hooks", "install", str(repository.top), "--data", str(data)]) == 0
    assert main(["hooks", "uninstall", str(repository.top), "--data", str(data)]) == 0
    assert not seen.exists()
    assert "git tells of every change" in capsys.readouterr().out


@pytest.mark.parametrize(("value", "reason"), [(".husky", "of the tree"), ("../shared", "other repositories")])
def test_a_folder_of_hooks_that_is_not_the_repositorys_own_is_never_written(
    repository: Repository, data: Path, value: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository.top / value).mkdir()
    repository.git("config", "core.hooksPath", value)
    assert main(["hooks", "install", str(repository.top), "--data", str(data)]) == 1
    out = capsys.readouterr().out
    assert reason in out
    assert "printf" in out
    assert not list((repository.top / value).iterdir())
    tree = tree_of(repository.top)
    for name in HOOKS:  # as the user is told to
        (repository.top / value / name).write_text(
            "#!/bin/sh\n" + block(spool.folder_in(data), tree.shared), encoding="utf-8"
        )
        (repository.top / value / name).chmod(0o755)
    assert main(["hooks", "status", str(repository.top), "--data", str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trees"][0]["state"] == "installed"
    repository.commit("int one;\n")
    assert told(data, repository.top)


def test_hooks_path_is_taken_from_wherever_git_takes_it(repository: Repository, tmp_path: Path) -> None:
    assert history.hooks_path(repository.top) == ""
    (repository.top / "more").write_text("[core]\n\thooksPath = here\n", encoding="utf-8")
    repository.git("config", "include.path", "../more")
    assert history.hooks_path(repository.top) == "here"
    tree = tree_of(repository.top)
    assert place_of(tree, "").reason == ""
    assert place_of(tree, str(tree.shared / "hooks")).reason == ""
    assert place_of(tree, ".git/mine") == place_of(tree, str(repository.top / ".git" / "mine"))
    assert place_of(tree, ".git/mine").reason == ""
    assert "off" in place_of(tree, "/dev/null").reason
    shutil_hooks = tree.shared / "hooks"
    shutil_hooks.rename(tmp_path / "moved")
    shutil_hooks.symlink_to(tmp_path / "moved")
    assert "is a link" in place_of(tree, "").reason


def test_what_is_no_tree_of_its_own_repository_is_refused(repository: Repository, tmp_path: Path) -> None:
    for name in ("bare", "liar", "link", "plain"):
        (tmp_path / name).mkdir()
    repository.git("init", "-q", "--bare", str(tmp_path / "bare"))
    repository.git("worktree", "add", "-q", str(tmp_path / "linked"))
    (tmp_path / "liar" / ".git").write_bytes((tmp_path / "linked" / ".git").read_bytes())
    (tmp_path / "link" / ".git").symlink_to(repository.top / ".git")
    for name, reason in (
        ("bare", "without a work tree"),
        ("liar", "does not know"),
        ("link", "is a link"),
        ("plain", "in no git repository"),
    ):
        with pytest.raises(HookError, match=reason):
            tree_of(tmp_path / name)


# What is made of it


@pytest.mark.parametrize("kind", ["file", "link", "folder", "fifo", "odd name", "unfinished", "huge"])
def test_nothing_that_lies_in_the_spool_is_believed_or_followed(data: Path, tmp_path: Path, kind: str) -> None:
    folder, root = spool.made(data), tmp_path / "tree"
    root.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(os.fsencode(root) + b"\n")
    name = folder / "x.git"
    match kind:
        case "file":
            name.write_bytes(b"relative\n/\xff\n/etc\n\0\n/nowhere/../etc\n")
        case "link":
            name.symlink_to(secret)
        case "folder":
            name.mkdir()
        case "fifo":
            os.mkfifo(name)
        case "unfinished":
            name.write_bytes(os.fsencode(root))
        case "huge":
            name.write_bytes(b"/x" * spool.MOST_BYTES + b"\n" + os.fsencode(root) + b"\n")
        case _:
            name = folder / "\udcff\n"
            name.write_bytes(b"/\n" * 10)
    assert spool.waiting(data, [root]) == (frozenset() if kind != "odd name" else frozenset({root}))
    assert spool.take(data, [root]) == (frozenset() if kind != "odd name" else frozenset({root}))
    assert secret.exists()
    if os.path.lexists(name) and kind != "folder":
        os.utime(name, (0, 0), follow_symlinks=False)
        assert spool.take(data, [root]) == frozenset()
    assert spool.is_empty(data) == (kind != "folder")


def test_a_told_tree_is_that_of_the_roots_in_it_and_around_it(data: Path, tmp_path: Path) -> None:
    top, part, inner, other = (tmp_path / name for name in ("top", "top/part", "top/inner", "other"))
    for folder in (part, inner, other):
        folder.mkdir(parents=True)
    for folder in (top, inner):
        (folder / ".git").mkdir()
    roots = [top, part, inner, other]
    spool.tell(data, top)
    assert spool.waiting(data, roots) == spool.take(data, roots) == {top, part}
    assert spool.take(data, roots) == frozenset()
    spool.tell(data, inner)
    spool.tell(data, other)
    assert spool.waiting(data, roots) == {top, inner, other}
    spool.forget(data, other)
    assert spool.take(data, roots) == {top, inner}


def test_a_workspace_is_told_until_it_is_indexed(
    repository: Repository, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEHUB_EMBEDDINGS", "none")
    monkeypatch.setenv("CODEHUB_INDEX_BACKGROUND", "0")
    index_of(repository.top, data)
    repository.put_in(data)
    repository.commit("int one;\n")
    assert main(["status", "--data", str(data)]) == 0
    assert "git has told of a change since" in capsys.readouterr().out
    perform(settings_for(data, index_background=False), Task(JobKind.INDEX, "w", {}), lambda *_: None, lambda: False)
    assert main(["status", "--data", str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["workspaces"][0]["told"] is False


def test_a_server_indexes_a_tree_that_a_commit_was_made_in(
    repository: Repository, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told_over_http, "LISTEN_S", 0.01)
    index_of(repository.top, data)
    repository.put_in(data)
    with state_in(data, child=(sys.executable, "-c", "pass")) as state:

        async def serve() -> None:
            app, taken, loop = create_app(state), asyncio.Event(), asyncio.get_running_loop()

            def tell(_job: object) -> None:
                loop.call_soon_threadsafe(taken.set)

            async with app.router.lifespan_context(app), asyncio.timeout(LIMIT_S):
                with state.jobs.watched(tell):
                    await asyncio.to_thread(repository.commit, "int one;\n")
                    await taken.wait()

        asyncio.run(serve())
        (job,) = state.jobs.jobs()
        assert (job.kind, job.workspace, job.asked_by, job.arguments) == (JobKind.INDEX, "w", "local", {})
        assert spool.is_empty(data)


def test_what_a_server_cannot_take_yet_waits_for_the_next(repository: Repository, data: Path) -> None:
    index_of(repository.top, data)
    spool.tell(data, repository.top)
    spool.tell(data, repository.top.parent / "unknown")
    with state_in(data) as state:
        state.jobs.stop(0)
        assert told_over_http.take_in(state) == ()
    assert told(data, repository.top)
