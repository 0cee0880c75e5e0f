"""The commands that the tables answer: text for people, one JSON object for programs, and what they say when there is
nothing to say.
"""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.cli import main
from tests.support.trees import index_of, write_tree

TREE: dict[str, str | bytes] = {
    "inc/store.h": """#pragma once
namespace kv {
enum class Mode { kFast, kSafe };
class Store {
 public:
  virtual ~Store();
  virtual int Get(int key) const;
  int Get(const char* key);
};
class Disk : public Store {
 public:
  int Get(int key) const override;
  int reads_ = 0;
};
}  // namespace kv
""",
    "src/store.cc": """#include "store.h"
namespace kv {
Store::~Store() {}
int Store::Get(int key) const { return key; }
int Store::Get(const char* key) { return *key; }
int Disk::Get(int key) const { return reads_ + Store::Get(key); }
int Read(const Store& store) { return store.Get(1); }
int ReadTwice(const Store& store) { return Read(store) + Read(store); }
template <class T> int ReadAny(T& any) { return any.Get(2); }
}  // namespace kv
""",
    "tests/store_test.cc": """#include "../inc/store.h"
int Check(kv::Disk& disk) {
  return kv::ReadTwice(disk) + disk.reads_;
}
""",
}

Shell = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("questions")
    index_of(write_tree(base / "tree", TREE), base / "data")
    return base / "data"


@pytest.fixture
def shell(data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CODEHUB_BACKEND", "none")
    monkeypatch.setenv("CODEHUB_EMBEDDINGS", "none")

    def call(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main([*arguments, "--data", str(data)])
        out, err = capsys.readouterr()
        return code, out + err

    return call


def read(shell: Shell, *arguments: str) -> Any:
    code, out = shell(*arguments, "--json")
    assert code == 0, out
    return json.loads(out)


EDGE = {"kind", "path", "line", "inside", "target", "how", "depth", "via", "target_id", "inside_id", "candidates"}


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (["symbol", "Store::Get(int)"], "src/store.cc:4-4  method kv::Store::Get  (defined)"),
        (["symbol", "store"], "No symbol is named store; in another letter case"),
        (["symbol", "Rea"], "No symbol is named Rea; names that begin so"),
        (["symbol", "Stroe"], "No symbol is named Stroe; did you mean one of these?"),
        (["symbol", "--regex", "^kv::Read"], "src/store.cc:7-7  function kv::Read  (defined)"),
        (["symbol", "--prefix", "k", "--kind", "enumerator"], "inc/store.h:3-3  enumerator kv::Mode::kFast  (defined)"),
        (["references", "Read"], "src/store.cc:8  kv::ReadTwice  (call, resolved)"),
        (["references", "reads_"], "src/store.cc:6  kv::Disk::Get  (name, by-name)"),
        (["callers", "Read", "--depth", "2"], "src/store.cc:8  kv::ReadTwice  (call, resolved)"),
        (["callees", "ReadTwice"], "src/store.cc:8  kv::Read  (call, resolved)"),
        (["hierarchy", "Disk"], "kv::Disk  inc/store.h:10"),
        (["overrides", "Disk::Get"], "inc/store.h:12  kv::Disk::Get overrides kv::Store::Get  (resolved)"),
        (["includes", "store.cc"], "src/store.cc:1  inc/store.h  (resolved)"),
        (["included-by", "inc/store.h"], "src/store.cc:1  inc/store.h  (resolved)"),
        (["impact", "Read"], "changed src/store.cc:7-7  function kv::Read"),
    ],
)
def test_what_is_found_is_shown_with_its_place(shell: Shell, arguments: list[str], first: str) -> None:
    code, out = shell(*arguments)
    assert code == 0
    assert out.split("\n")[0] == first
    assert json.loads(shell(*arguments, "--json")[1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["symbol", "Nowhere", "--regex"], "No symbol is named Nowhere."),
        (["symbol", "Read", "--kind", "class"], "No symbol is named Read."),
        (["references", "Nowhere"], "Nothing is named Nowhere."),
        (["callers", "Check"], "Check is known, but no callers of it."),
        (["callees", "Nowhere"], "Nothing is named Nowhere."),
        (["hierarchy", "Read"], "No class is named Read."),
        (["overrides", "Read"], "No method is named Read."),
        (["overrides", "Store::Get(const char*)"], "known, but overrides nothing, and nothing overrides it."),
        (["includes", "nowhere.h"], "No file of the index is named nowhere.h."),
        (["included-by", "store_test.cc"], "tests/store_test.cc is included by nothing."),
        (["impact", "Nowhere"], "No symbol of the index is changed."),
    ],
)
def test_what_is_not_there_is_a_sentence_and_code_one(shell: Shell, arguments: list[str], said: str) -> None:
    code, out = shell(*arguments)
    assert code == 1
    assert said in out
    code, out = shell(*arguments, "--json")
    assert code == 1
    assert json.loads(out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["symbol", "--regex", "(a"], "cannot be used"),
        (["symbol", "x", "--kind", "widget"], "'widget' is no kind of symbol."),
        (["impact", "--diff", "missing.diff"], "cannot be read"),
        (["impact", "--since", "HEAD"], "git tells no difference"),
        (["impact", "Read", "--since", "HEAD"], "Symbols and a diff are given."),
    ],
)
def test_what_cannot_be_asked_is_an_error_with_a_way_out(shell: Shell, arguments: list[str], said: str) -> None:
    code, out = shell(*arguments)
    assert code == 2
    assert said in out
    code, out = shell(*arguments, "--json")
    assert code == 2
    assert json.loads(out)["hint"]


@pytest.mark.parametrize("arguments", [["callers", "x", "--depth", "9"], ["callers", "x", "--offset", "-1"]])
def test_a_number_out_of_bounds_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_edges_have_their_promised_keys_and_say_how_they_were_reached(shell: Shell) -> None:
    found = read(shell, "callers", "Disk::Get", "--depth", "3")
    assert all(edge.keys() >= EDGE for edge in found["edges"])
    assert [(edge["inside"], edge["how"], edge["depth"], edge["via"]) for edge in found["edges"]] == [
        ("kv::Disk::Get", "resolved", 1, ["virtual kv::Store::Get"]),
        ("kv::Read", "resolved", 1, ["virtual kv::Store::Get"]),
        ("kv::ReadAny", "by-name", 1, []),
        ("kv::ReadTwice", "resolved", 2, ["virtual kv::Store::Get", "kv::Read"]),
        ("Check", "resolved", 3, ["virtual kv::Store::Get", "kv::Read", "kv::ReadTwice"]),
    ]
    guess = found["edges"][2]
    assert (guess["target"], guess["target_id"], guess["candidate_count"]) == ("Get", None, 3)
    assert guess["candidates"] == ["kv::Disk::Get(int)", "kv::Store::Get(const char*)", "kv::Store::Get(int)"]


def test_callees_with_overrides_hold_what_a_virtual_call_may_end_in(shell: Shell) -> None:
    plain = {edge["target"] for edge in read(shell, "callees", "Read")["edges"]}
    assert plain == {"kv::Store::Get"}
    wide = {edge["target"] for edge in read(shell, "callees", "Read", "--overrides")["edges"]}
    assert wide == {"kv::Store::Get", "kv::Disk::Get"}


@pytest.mark.parametrize("arguments", [["callers", "Get"], ["references", "Store"], ["included-by", "inc/store.h"]])
def test_pages_put_together_are_the_whole(shell: Shell, arguments: list[str]) -> None:
    whole = read(shell, *arguments)
    assert len(whole["edges"]) == whole["total"] > 1
    pages = [
        read(shell, *arguments, "--limit", "1", "--offset", str(offset))["edges"] for offset in range(whole["total"])
    ]
    assert [edge for page in pages for edge in page] == whole["edges"]
    _, out = shell(*arguments, "--limit", "1")
    assert f"... and {whole['total'] - 1} more: --offset 1" in out


def test_the_pages_of_overrides_hold_those_of_both_directions(shell: Shell) -> None:
    whole = read(shell, "overrides", "Get")
    assert (len(whole["overrides"]), len(whole["overridden_by"]), whole["total"]) == (1, 1, 2)
    pages = [read(shell, "overrides", "Get", "--limit", "1", "--offset", str(offset)) for offset in range(2)]
    assert [len(page["overrides"]) for page in pages] == [1, 0]
    assert [len(page["overridden_by"]) for page in pages] == [0, 1]


def test_a_match_says_what_it_is(shell: Shell) -> None:
    asked = {"Store": "exact", "store": "folded", "Sto": "prefix", "Stroe": "fuzzy"}
    assert {typed: read(shell, "symbol", typed)["match"] for typed in asked} == asked


def test_a_diff_is_read_from_a_file_or_from_standard_input(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "--- a/src/store.cc\n+++ b/src/store.cc\n@@ -7 +7 @@\n-x\n+int Read(const Store& store);\n"
    (tmp_path / "change.diff").write_text(text, encoding="utf-8")
    found = read(shell, "impact", "--diff", str(tmp_path / "change.diff"))
    assert [entry["qualified_name"] for entry in found["changed"]] == ["kv::Read"]
    assert [entry["name"] for entry in found["reached"]["callers"]] == ["kv::ReadTwice", "Check"]
    assert [entry["name"] for entry in found["tests"]] == ["Check"]
    assert found["totals"]["callers"] == 2
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert read(shell, "impact", "--diff") == found
    code, out = shell("impact", "--diff", str(tmp_path / "change.diff"))
    assert code == 0
    assert "callers (2):\n  src/store.cc:8  kv::ReadTwice  calls kv::Read (resolved)\n" in out


def test_what_changed_since_a_revision_is_asked_of_git(tmp_path: Path, shell: Shell, capsys: Any) -> None:
    root = write_tree(tmp_path / "own", TREE)
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "First"]):
        who = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True, timeout=60)
    write_tree(root, {"src/store.cc": str(TREE["src/store.cc"]).replace("store.Get(1)", "store.Get(2)")})
    index_of(root, tmp_path / "data")
    for since in ([], ["--since", "HEAD"]):
        capsys.readouterr()
        assert main(["impact", *since, "--json", "--data", str(tmp_path / "data")]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [entry["qualified_name"] for entry in found["changed"]] == ["kv::Read"]
        assert found["files"] == ["src/store.cc"]


def test_an_export_has_override_edges_and_the_ids_of_both_ends(shell: Shell) -> None:
    code, out = shell("export")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    ids = {line["id"] for line in lines if line["type"] == "symbol"}
    edges = [line for line in lines if line["type"] == "edge"]
    (override,) = [edge for edge in edges if edge["kind"] == "override"]
    assert (override["source"], override["target"], override["line"]) == ("kv::Disk::Get", "kv::Store::Get", 12)
    assert {override["source_id"], override["target_id"]} <= ids
    assert {edge["target"] for edge in edges if edge["kind"] == "include"} == {"inc/store.h"}
    assert all(edge["target_id"] in ids for edge in edges if edge["how"] == "resolved" and edge["kind"] != "include")


def test_status_counts_edges_by_what_they_rest_on(shell: Shell) -> None:
    (entry,) = read(shell, "status")["workspaces"]
    assert entry["edges"].keys() == {"compiler", "resolved", "by-name"}
    assert entry["edges"]["resolved"] > entry["edges"]["by-name"] > 0
    assert (entry["problem_files"], entry["problem_lines"], entry["worst_files"]) == (0, 0, [])
