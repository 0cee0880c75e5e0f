"""Looking an installation over, saying what is left out, and mending what can be mended."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import apsw
import pytest

from hub import health
from hub.capacity.host import Places
from hub.capacity.nvml import Reading
from hub.config import Settings
from hub.errors import WorkspaceError
from hub.health import Finding, Grade
from hub.hooking.installing import HOOKS
from hub.hooking.standing import put_in, standing
from hub.indexing import index_tree
from indexer.embedding import MINILM_NAME
from indexer.errors import Cancelled, DataFolderError, FolderBusyError, FolderFullError, TreeError
from indexer.index import DataFolder, Index
from indexer.model import IndexReport
from indexer.pipeline import EmbedderSource, ignore_progress, never
from tests.support.command import held_by_another_process
from tests.support.fake_embedder import FakeEmbedder
from tests.support.trees import COUNTER, contents, write_tree


@pytest.fixture(autouse=True)
def without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedder of the settings is the fake one."""
    source = EmbedderSource(MINILM_NAME, lambda: FakeEmbedder(MINILM_NAME))
    monkeypatch.setattr("hub.indexing.encoder_source", lambda _settings: source)
    monkeypatch.setattr("hub.indexing.instant_sources", lambda _settings: ())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A data folder with the index of one small tree, named after its folder "tree"."""
    chosen = Settings(tmp_path / "data", backend="none", index_background=False)
    indexed(chosen, write_tree(tmp_path / "tree", dict(COUNTER)))
    return chosen


def indexed(settings: Settings, root: Path) -> IndexReport:
    return index_tree(settings, root, None, ignore_progress, never)


def repaired(settings: Settings, name: str | None = None) -> list[tuple[str, str]]:
    return [(entry.workspace, entry.done) for entry in health.repair(settings, name, ignore_progress, never)]


def finding(settings: Settings, subject: str) -> Finding:
    (found,) = (entry for entry in health.examine(settings) if entry.subject == subject)
    return found


def alone(settings: Settings) -> health.Surroundings:
    """A machine that tells nothing of itself, so that it does not matter what runs on this one."""
    nowhere = settings.data / "nowhere"
    return health.Surroundings(settings, Places(nowhere, nowhere), nowhere, ask_cards=lambda: Reading(()))


def database(settings: Settings, name: str = "tree") -> Path:
    return settings.data / "workspaces" / name / "index.db"


def spoil_format(settings: Settings, name: str = "tree") -> None:
    connection = apsw.Connection(str(database(settings, name)))
    connection.execute("UPDATE meta SET value = '0' WHERE key = 'format'")
    connection.close()


def held(settings: Settings, name: str = "tree") -> dict[str, object]:
    with Index.for_reading(DataFolder(settings.data), name) as index:
        return contents(index)


# Examining

# What is looked at without a server, a checklist or a language model.
LOOKED_AT = [
    *("system", "python", "sqlite", "git", "libclang", "graphics card", "driver", "memory", "inotify", "sandbox"),
    *("clock", "data folder", "file system", "permissions", "writer", "background", "leftovers", "backup"),
    *("embeddings", "language model", "connection", "workspace tree", "following", "git hooks"),
    *("server", "firewall", "settings"),
]


def test_a_healthy_installation_has_nothing_wrong(settings: Settings) -> None:
    found = list(health.examine(settings, alone(settings)))
    assert [entry.subject for entry in found] == LOOKED_AT
    assert Grade.FAILED not in {entry.grade for entry in found}
    (tree,) = (entry for entry in found if entry.subject == "workspace tree")
    assert tree.grade is Grade.OK
    assert tree.detail.startswith("4 files, ")


def test_an_installation_without_an_index_is_fine_and_stays_untouched(tmp_path: Path) -> None:
    new = Settings(tmp_path / "data", backend="none")
    found = finding(new, "data folder")
    assert (found.grade, found.detail) == (Grade.OK, f"{new.data} (will be made)")
    assert not new.data.exists()


def test_examining_changes_nothing_and_does_not_wait_for_a_writer(settings: Settings) -> None:
    before = {file: file.stat().st_mtime_ns for file in settings.data.rglob("*") if file.name != "owner"}
    with held_by_another_process(settings.data):
        assert finding(settings, "workspace tree").grade is Grade.OK
    after = {file: file.stat().st_mtime_ns for file in settings.data.rglob("*") if file.name != "owner"}
    kept = {file for file in before if not file.name.startswith(("index.db-", "lock")) and not file.is_dir()}
    assert {file: after[file] for file in kept} == {file: before[file] for file in kept}


def test_a_damaged_index_fails_and_the_hint_mends_it(settings: Settings) -> None:
    content = bytearray(database(settings).read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    database(settings).write_bytes(bytes(content))
    found = finding(settings, "workspace tree")
    assert found.grade is Grade.FAILED
    assert "repair --rebuild" in found.hint
    with pytest.raises(DataFolderError, match="damaged") as caught:
        repaired(settings)
    assert "repair --rebuild" in caught.value.hint
    health.rebuild(settings, None, ignore_progress, never)
    assert finding(settings, "workspace tree").grade is Grade.OK


def test_an_index_of_another_format_fails_and_is_no_reason_to_hide_the_others(
    settings: Settings, tmp_path: Path
) -> None:
    indexed(settings, write_tree(tmp_path / "zoo", {"a.cc": "int a;\n"}))
    spoil_format(settings)
    found = finding(settings, "workspace tree")
    assert (found.grade, "has format 0" in found.detail) == (Grade.FAILED, True)
    assert finding(settings, "workspace zoo").grade is Grade.OK


def test_a_tree_that_is_gone_is_a_warning_and_what_was_indexed_is_not_thrown_away(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "tree").rename(tmp_path / "moved")
    found = finding(settings, "workspace tree")
    assert (found.grade, "is gone" in found.detail) == (Grade.WARNING, True)
    before = held(settings)
    with pytest.raises(TreeError):
        health.rebuild(settings, None, ignore_progress, never)
    assert held(settings) == before


def test_work_that_waits_is_a_warning_that_says_how_much(settings: Settings, tmp_path: Path) -> None:
    write_tree(tmp_path / "tree", {"new.cc": "int brand_new;\n"})

    stages: list[str] = []
    with pytest.raises(Cancelled):
        index_tree(settings, tmp_path / "tree", None, lambda stage, *_: stages.append(stage), lambda: "embed" in stages)
    found = finding(settings, "workspace tree")
    assert found.grade is Grade.WARNING
    assert found.detail.endswith("; 0 chunks wait for vectors, 1 entries for Chroma")
    assert found.hint == f"codehub index {tmp_path / 'tree'}"


def test_a_setting_that_leads_nowhere_fails_alone(settings: Settings) -> None:
    wrong = Settings(settings.data, backend="llama-server")
    found = finding(wrong, "language model")
    assert (found.grade, found.detail) == (Grade.FAILED, "No llama-server is named.")
    assert finding(wrong, "workspace tree").grade is Grade.OK


# What is left out


def test_every_file_that_is_left_out_is_named_with_its_reason_and_no_other(tmp_path: Path) -> None:
    root = write_tree(
        tmp_path / "tree",
        {
            "good.cc": "int a;\n",
            "nul.cc": b"\0",
            "said.cc": "// @generated\nint b;\n",
            "large.cc": "x" * 3_000,
            "picture.png": b"\0",
            ".gitignore": "ignored.cc\n",
            "ignored.cc": "int c;\n",
        },
    )
    (root / "link.cc").symlink_to(root / "good.cc")
    small = Settings(tmp_path / "data", index_max_file_kilobytes=2)
    assert [(entry.path, entry.reason) for entry in health.left_out(root, small)] == [
        ("large.cc", "larger than 2 KiB (2 KiB)"),
        ("link.cc", "symbolic link"),
        ("nul.cc", "binary (NUL bytes)"),
        ("said.cc", "generated (it says so)"),
    ]
    with pytest.raises(TreeError):
        health.left_out(tmp_path / "missing", small)


# Repairing


def test_there_is_nothing_to_mend_in_a_whole_index(settings: Settings) -> None:
    assert repaired(settings) == [("tree", "nothing to mend")]


def test_what_waits_for_chroma_is_carried_there(settings: Settings) -> None:
    data = DataFolder(settings.data)
    with data.owned(), Index.for_writing(data, "tree", settings.data.parent / "tree") as index:
        ids, matrix = index.table.vectors(MINILM_NAME)
        index.table.store_vectors(MINILM_NAME, ids[:3], matrix[:3])
    assert repaired(settings) == [("tree", "3 waiting entries brought to Chroma")]
    assert repaired(settings) == [("tree", "nothing to mend")]


def test_drift_between_the_stores_is_counted_and_mended(settings: Settings) -> None:
    data = DataFolder(settings.data)
    with data.owned(), Index.for_writing(data, "tree", settings.data.parent / "tree") as index:
        ids, _ = index.table.vectors(MINILM_NAME)
        index.carrier.chroma(MINILM_NAME, 16).delete(ids[:2])
    ((_, done),) = repaired(settings)
    assert done == f"Chroma was made again from the table: {len(ids)} vectors (2 missing and 0 orphaned)"
    assert repaired(settings) == [("tree", "nothing to mend")]


@pytest.mark.parametrize("harm", ["deleted", "rubbish"])
def test_a_chroma_that_is_gone_or_damaged_is_made_again_from_the_table(settings: Settings, harm: str) -> None:
    chroma = settings.data / "workspaces" / "tree" / "chroma"
    before = held(settings)
    if harm == "deleted":
        shutil.rmtree(chroma)
    else:
        (chroma / "chroma.sqlite3").write_bytes(b"rubbish" * 5_000)
    ((_, done),) = repaired(settings)
    assert done.startswith("Chroma was made again from the table: ")
    assert repaired(settings) == [("tree", "nothing to mend")]
    assert held(settings) == before


def test_an_index_that_cannot_be_mended_does_not_keep_the_others_from_it(settings: Settings, tmp_path: Path) -> None:
    indexed(settings, write_tree(tmp_path / "zoo", {"a.cc": "int a;\n"}))
    shutil.rmtree(settings.data / "workspaces" / "zoo" / "chroma")
    spoil_format(settings)
    with pytest.raises(DataFolderError, match="has format 0"):
        repaired(settings)
    assert repaired(settings, "zoo") == [("zoo", "nothing to mend")]


def test_a_folder_that_another_process_holds_is_not_mended(settings: Settings) -> None:
    with held_by_another_process(settings.data):
        with pytest.raises(FolderBusyError):
            repaired(settings)
        with pytest.raises(FolderBusyError):
            health.rebuild(settings, None, ignore_progress, never)
    assert held(settings)["files"]


def test_a_workspace_that_does_not_exist_is_not_repaired(settings: Settings) -> None:
    with pytest.raises(WorkspaceError, match="no workspace 'nope'"):
        repaired(settings, "nope")


# Rebuilding


def test_a_rebuilt_index_is_the_same_as_before(settings: Settings) -> None:
    before = held(settings)
    (done,) = health.rebuild(settings, None, ignore_progress, never)
    assert done.workspace == "tree"
    assert done.done.startswith("indexed afresh: 4 files, ")
    assert held(settings) == before


def test_only_the_named_workspace_is_rebuilt(settings: Settings, tmp_path: Path) -> None:
    indexed(settings, write_tree(tmp_path / "zoo", {"a.cc": "int a;\n"}))
    before = database(settings).stat().st_ino
    assert [entry.workspace for entry in health.rebuild(settings, "zoo", ignore_progress, never)] == ["zoo"]
    assert database(settings).stat().st_ino == before


def test_the_bound_on_the_size_holds_for_a_rebuild_too(settings: Settings, tmp_path: Path) -> None:
    write_tree(tmp_path / "tree", {f"f{n}.cc": f"// {f'word{n} ' * 6_000}\n" for n in range(20)})
    indexed(settings, tmp_path / "tree")
    with pytest.raises(FolderFullError):
        health.rebuild(Settings(settings.data, backend="none", index_max_megabytes=1), None, ignore_progress, never)


# Mending what carries no risk


def fixed(settings: Settings) -> list[tuple[str, str]]:
    return [(entry.subject, entry.done) for entry in health.fix(settings, ignore_progress)]


def test_a_fix_carries_to_chroma_what_waits_for_it_and_says_so(settings: Settings) -> None:
    data = DataFolder(settings.data)
    assert fixed(settings) == []
    with data.owned(), Index.for_writing(data, "tree", settings.data.parent / "tree") as index:
        ids, matrix = index.table.vectors(MINILM_NAME)
        index.table.store_vectors(MINILM_NAME, ids[:3], matrix[:3])
    waiting = finding(settings, "workspace tree")
    assert (waiting.grade, waiting.fixable) == (Grade.WARNING, True)
    assert fixed(settings) == [("workspace tree", "3 waiting entries brought to Chroma")]
    assert finding(settings, "workspace tree").grade is Grade.OK
    assert fixed(settings) == []


@pytest.mark.parametrize("harm", ["deleted", "worn"])
def test_a_fix_makes_a_lost_or_worn_chroma_again_and_leaves_the_table_as_it_is(settings: Settings, harm: str) -> None:
    chroma = settings.data / "workspaces" / "tree" / "chroma"
    before = held(settings)
    if harm == "deleted":
        shutil.rmtree(chroma)
    else:  # what Chroma leaves of each collection that it deletes
        for _ in range(2):
            (chroma / str(uuid4())).mkdir()
    found = finding(settings, "workspace tree")
    assert (found.grade, found.fixable, "Chroma" in found.detail) == (Grade.WARNING, True, True)
    ((subject, done),) = fixed(settings)
    assert (subject, done.startswith("Chroma was made again from the table: ")) == ("workspace tree", True)
    assert finding(settings, "workspace tree").grade is Grade.OK
    assert held(settings) == before


def test_a_fix_leaves_a_damaged_index_to_a_rebuild(settings: Settings) -> None:
    spoil_format(settings)
    ((subject, done),) = fixed(settings)
    assert (subject, "repair --rebuild" in done) == ("workspace tree", True)
    assert finding(settings, "workspace tree").grade is Grade.FAILED


def test_an_index_from_the_future_is_told(settings: Settings) -> None:
    before = replace(alone(settings), clock=lambda: 0.0)
    (early,) = (one for one in health.examine(settings, before) if one.subject == "workspace tree")
    assert (early.grade, "still to come" in early.detail) == (Grade.WARNING, True)


def test_hooks_are_looked_for_where_git_looks_for_them(settings: Settings, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    assert finding(settings, "git hooks").detail == "no tree is in git"
    subprocess.run(["git", "init", "-q", str(tree)], check=True, timeout=60)
    assert finding(settings, "git hooks").detail.startswith("none in 1 trees")
    put_in(standing(tree, settings.data, ""), settings.data)
    assert finding(settings, "git hooks").detail == f"tree: installed in {tree}/.git/hooks"
    for name in HOOKS[2:]:
        (tree / ".git" / "hooks" / name).unlink()
    found = finding(settings, "git hooks")
    assert (found.grade, found.detail) == (Grade.WARNING, "tree lacks post-rewrite, post-commit")
    assert found.hint == f"codehub hooks install {tree}"
    (tree / ".git" / "config").write_text("[core]\n\thooksPath = .husky\n", encoding="utf-8")
    assert finding(settings, "git hooks").detail.startswith("none in 1 trees")
    (tree / ".git" / "HEAD").unlink()
    assert finding(settings, "git hooks").grade is Grade.WARNING
