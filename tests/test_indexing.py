"""Indexing as the settings say."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hub.config import Settings
from hub.errors import SettingsError
from hub.indexing import index_tree, name_for
from indexer.index import DataFolder, Index, Workspace
from indexer.model import ReferenceKind
from indexer.pipeline import ignore_progress, never
from indexer.static_embedding import STATIC_NAME
from tests.support.trees import COUNTER, write_tree

NOBODY_LISTENS = "http://127.0.0.1:9"  # the discard port, which nothing serves here


def test_an_ollama_that_does_not_answer_costs_its_vectors_and_not_the_index(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", COUNTER)
    settings = Settings(tmp_path / "data", embeddings="ollama:nomic-embed-text", ollama_host=NOBODY_LISTENS)
    report = index_tree(settings, root, None, ignore_progress, never)
    assert report.changed == len(COUNTER)
    assert report.embedded == 0
    assert [note.startswith("No vectors of an encoder for now: ") for note in report.notes] == [True]
    with Index.for_reading(DataFolder(settings.data), "tree") as index:
        assert index.facts.symbols_named("Counter::Increment", 5)
        assert index.table.waiting(STATIC_NAME) == 0


@pytest.mark.parametrize(
    ("root", "taken", "name"),
    [
        ("/src/leveldb", [], "leveldb"),
        ("/src/Level DB++", [], "level-db"),
        ("/", [], "tree"),
        ("/b/leveldb", [("leveldb", "/a/leveldb")], "leveldb-2"),
        ("/a/leveldb", [("mine", "/a/leveldb")], "mine"),
    ],
)
def test_a_tree_is_named_after_its_folder_and_keeps_the_name_it_has(
    root: str, taken: list[tuple[str, str]], name: str
) -> None:
    workspaces = [Workspace(known, Path(where), 0) for known, where in taken]
    assert name_for(Path(root), workspaces) == name


def with_commands(tmp_path: Path) -> Path:
    """A tree of one file that Clang reads, in a way that no look-up could: the overload hangs on a macro's value."""
    tree = write_tree(
        tmp_path / "built",
        {
            "a.cc": "int take(long) { return 1; }\nint take(char) { return 2; }\nint use() { return take(WIDE(3)); }\n",
        },
    )
    command = {"directory": str(tree), "file": "a.cc", "command": "g++ -std=c++17 -DWIDE(x)=x##L -c a.cc"}
    (tree / "compile_commands.json").write_text(json.dumps([command]), encoding="utf-8")
    return tree


def how_use_calls(settings: Settings, name: str) -> list[tuple[str, str]]:
    with Index.for_reading(DataFolder(settings.data), name) as index:
        edges = [edge for edge in index.facts.all_edges() if edge.kind is ReferenceKind.CALL and edge.line == 3]
        lines = {symbol.id: symbol.line for symbol in index.facts.all_symbols()}
        return [(edge.how.value, str(lines.get(edge.target_id))) for edge in edges if edge.target_id]


def test_the_compiler_confirms_what_a_compile_commands_json_builds(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "data", embeddings="none")
    report = index_tree(settings, with_commands(tmp_path), None, ignore_progress, never)
    assert report.confirmation is not None
    assert (report.confirmation.units, report.confirmation.read, report.confirmation.files) == (1, 1, 1)
    assert how_use_calls(settings, report.workspace) == [("compiler", "1")]
    again = index_tree(settings, with_commands(tmp_path), None, ignore_progress, never)
    assert again.confirmation is not None
    assert again.confirmation.read == 0


def test_without_the_compiler_what_it_said_of_changed_files_is_taken_back(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "data", embeddings="none")
    tree = with_commands(tmp_path)
    name = index_tree(settings, tree, None, ignore_progress, never).workspace
    (tree / "a.cc").write_text("\n" + (tree / "a.cc").read_text(encoding="utf-8"), encoding="utf-8")
    left_out = replace(settings, compiler_commands="none")
    assert index_tree(left_out, tree, None, ignore_progress, never).confirmation is None
    assert "compiler" not in {how for how, _ in how_use_calls(settings, name)}


def test_a_compile_commands_json_that_is_named_and_not_there_is_told(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "data", embeddings="none", compiler_commands=str(tmp_path / "nowhere.json"))
    with pytest.raises(SettingsError, match=r"nowhere\.json is no file"):
        index_tree(settings, with_commands(tmp_path), None, ignore_progress, never)


def test_macros_of_the_command_line_count_as_macros_of_the_tree(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "built", {"a.cc": "weird_word class Foo {\n  void f();\n};\n"})
    command = {"directory": str(tree), "file": "a.cc", "arguments": ["g++", "-Dweird_word=", "-c", "a.cc"]}
    (tree / "compile_commands.json").write_text(json.dumps([command]), encoding="utf-8")
    settings = Settings(tmp_path / "data", embeddings="none")
    name = index_tree(settings, tree, None, ignore_progress, never).workspace
    with Index.for_reading(DataFolder(settings.data), name) as index:
        assert [symbol.kind.value for symbol in index.facts.symbols_named("Foo::f", 5)] == ["method"]
