"""What acts on a reader or a terminal without being seen is spelt out wherever people or models read; programs get it
exact.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from hub.cli import main
from hub.config import Settings
from hub.indexing import index_tree
from indexer.pipeline import ignore_progress, never
from tests.support.trees import write_tree

# Right to left, zero width, a tag, a terminal's escape, one of eight bits, a carriage return inside of a line.
COVERT = "\u202e\u2066\u200b\U000e0041\x1b]0;owned\x07\x9b31m\r"
HIDDEN = frozenset(COVERT) - frozenset("]0;owned31m")
SPELT = "\\u202e"
_CLOSED = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}

TREE: dict[str, str | bytes] = {
    f"src/o{COVERT[:6]}dd.h": f"""#pragma once
/// Counts{COVERT} things.
class Counter{COVERT[0]} {{
 public:
  /// Adds{COVERT} to it.
  virtual int Increment(const char* by = "{COVERT}") const;
}};
class Better : public Counter {{ int Increment(const char* by) const override; }};
#define COUNT{COVERT[2]}ED "{COVERT}"
int first{COVERT}(int x = Increment("a{COVERT}"));
""",
    "src/use.cc": f"""#include "o{COVERT[:6]}dd.h"
int use() {{ Counter counter; return counter.Increment("{COVERT}"); }}  // {COVERT}
int Counter::Increment(const char* by) const {{ return use(); }}
""",
    "README.md": f"# Counter {COVERT}\n\nHow the Counter{COVERT} counts.\n",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("covert")
    root = write_tree(folder / "tree", TREE)
    who = ("-c", f"user.name=Ada{COVERT[0]}", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    message = f"Count {COVERT[:6]} better\n\nBody {COVERT[:6]}"
    for command in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", message)):
        subprocess.run(
            ["git", *who, "-C", str(root), *command], check=True, timeout=60, env=_CLOSED, capture_output=True
        )
    settings = Settings(folder / "data", backend="none", embeddings="none", index_background=False)
    index_tree(settings, root, "w", ignore_progress, never)
    (root / "src" / "use.cc").touch()
    return settings.data


READ_BY_PEOPLE = [
    *(
        ["search", "Counter", "--explain"],
        ["search", "Counter", "--files"],
        ["symbol", "Counter"],
        ["symbol", "Increment"],
    ),
    *(["references", "Increment"], ["callers", "Increment"], ["callees", "use"], ["hierarchy", "Counter"]),
    *(["overrides", "Increment"], ["history", "src/use.cc"], ["history", "Counter"], ["impact", "Increment"]),
    *(["ask", "What does Counter count?"], ["ask", "Who calls Increment?"], ["ask", f"What is Quux{COVERT[0]}::Zap?"]),
    *(
        ["includes", "src/use.cc"],
        ["included-by", f"src/o{COVERT[:6]}dd.h"],
        ["status"],
        ["symbol", f"Nope{COVERT[0]}"],
    ),
]


@pytest.mark.parametrize(
    "arguments", READ_BY_PEOPLE, ids=lambda arguments: " ".join(arguments).encode("ascii", "replace").decode()
)
def test_a_terminal_is_shown_what_is_covert(
    data: Path, arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEHUB_BACKEND", "none")
    monkeypatch.setenv("CODEHUB_EMBEDDINGS", "none")
    workspace = [] if arguments[0] == "status" else ["--workspace", "w"]
    main([*arguments, "--data", str(data), *workspace])
    told = capsys.readouterr()
    assert told.out + told.err
    assert not HIDDEN.intersection(told.out), repr(told.out)
    assert not HIDDEN.intersection(told.err), repr(told.err)


def test_a_program_gets_the_text_exactly(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["search", "Counter", "--json", "--data", str(data), "--workspace", "w"])
    hits = json.loads(capsys.readouterr().out)["hits"]
    assert any(
        COVERT in json.dumps(hit, ensure_ascii=False).replace("\\r", "\r") or COVERT in hit["text"] for hit in hits
    )
