"""The benchmark of confidence from end to end, on two libraries of a few functions: it asks, keeps, fits and prints."""

import json
import sys
from pathlib import Path

import pytest

from tests.support.trees import write_tree
from tests.test_questions import STORE

BENCHMARKS = str(Path(__file__).parent.parent / "benchmarks")
sys.path.insert(0, BENCHMARKS)

import confidence  # noqa: E402 - the path is set above
import fit_confidence  # noqa: E402 - as above
from retrieval import TEST, Library  # noqa: E402 - as above

sys.path.remove(BENCHMARKS)

JUDGES = {"fmt", "json", "catch2", "abseil-cpp", "simdjson", "rocksdb", "cpp-httplib", "curl", "redis", "libuv"}
TINY = (Library("some", "store"), Library("some", "shop"))


def test_heads_are_fitted_on_no_library_that_ranking_or_others_are_judged_by() -> None:
    fitted = {library.name.lower() for library in (*confidence.DEVELOPMENT, *confidence.NEW)}
    assert len(fitted) >= 5
    assert not fitted & (JUDGES | {library.name.lower() for library in TEST})


def test_it_asks_two_libraries_keeps_what_it_found_and_prints_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for library in TINY:
        write_tree(tmp_path / f"{library.owner}+{library.name}" / "repo", dict(STORE))
    monkeypatch.setattr(confidence, "DEVELOPMENT", TINY)
    monkeypatch.setattr(confidence, "NEW", ())
    keep = tmp_path / "keep"
    arguments = ["confidence.py", "--repositories", str(tmp_path), "--keep", str(keep)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--json"])
    confidence.main()
    told = json.loads(capsys.readouterr().out)
    rows = {figure["name"]: figure for figure in told["figures"]}
    assert {one["library"] for one in told["libraries"]} == {"store", "shop"}
    assert rows["evidence recall at 16K, tier rag"]["questions"] > 0
    assert rows["AUROC, natural"]["questions"] > rows["evidence recall at 16K, tier rag"]["questions"] / 2
    kept = {file.name: file.read_bytes() for file in (keep / "examples").iterdir()}
    assert sorted(kept) == ["shop.jsonl", "store.jsonl"]

    monkeypatch.setattr(confidence, "question_set", None)  # a second run asks nothing
    monkeypatch.setattr(sys, "argv", arguments)
    confidence.main()
    table = capsys.readouterr().out
    assert "| answers that need a full load, from 16K |" in table
    assert "| shop |" in table

    monkeypatch.setattr(sys, "argv", [*arguments, "--examples", str(keep / "examples"), "--test"])
    confidence.main()
    assert "| at 16K, what ships |" in capsys.readouterr().out

    monkeypatch.setattr(sys, "argv", ["fit_confidence.py", str(keep / "examples")])
    fit_confidence.main()
    assert 'origin="2 development libraries"' in capsys.readouterr().out
