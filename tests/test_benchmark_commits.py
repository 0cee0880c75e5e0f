"""What benchmarks/commit_replay.py counts, over a small repository and with words for tokens."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import commit_replay
from commit_replay import Step, Tokens, Tree, packed_again, replay, table, whole

HEAD = "".join(f"int head{number};\n" for number in range(400))
BODY = "".join(f"int body{number};\n" for number in range(400))
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    **{f"GIT_{who}_{what}": "someone" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def count(text: str) -> int:
    return len(text.split())


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()

    def commit(**files: str) -> None:
        for name, text in files.items():
            (root / name.replace("_", ".")).write_text(text, encoding="utf-8")
        for arguments in (("add", "-A"), ("commit", "-q", "-m", "change")):
            subprocess.run(["git", "-C", str(root), *arguments], check=True, timeout=60, env=ENVIRONMENT)

    subprocess.run(["git", "init", "-q", str(root)], check=True, timeout=60, env=ENVIRONMENT)
    commit(a_h=HEAD, b_cc=BODY)
    commit(b_cc=BODY.replace("body3;", "three;"))
    commit(notes_png="nothing that is packed")
    commit(a_h=HEAD.replace("head7;", "seven;"))
    commit(c_cc="int c;\n")
    return root


def test_each_commit_that_changes_the_prompt_costs_what_it_adds_and_a_plain_layout_what_follows_it(
    repository: Path,
) -> None:
    _, steps = replay(repository, 3, 100_000, Tokens(count))
    assert len(steps) == 3
    assert all(0 < step.foreground < 40 for step in steps)
    assert [step.background for step in steps] == [0, 0, 0]
    changed_b, changed_a, added_c = steps
    assert changed_b.alphabetical < changed_b.plain / 2  # what comes before b.cc stays
    assert changed_a.alphabetical > 0.8 * changed_a.plain
    assert added_c.alphabetical < 10
    assert added_c.total > added_c.plain


def test_what_is_counted_again_is_what_follows_the_first_difference() -> None:
    old = {"a": "one\ntwo\n", "b": "three\n"}
    new = {"a": "one\nTWO\n", "b": "three\n"}
    counter = Tokens(count)
    assert packed_again(old, old, str, counter) == 0
    assert packed_again(old, new, str, counter) == count("TWO\n000000>>>\n") + count(whole("b", "three\n"))
    assert packed_again(old, old | {"c": "four\n"}, str, counter) == count(whole("c", "four\n"))
    assert packed_again(old, {"b": "three\n"}, str, counter) == count(whole("b", "three\n"))


def test_a_tree_moves_from_commit_to_commit_and_tells_what_changed(repository: Path) -> None:
    line = commit_replay.first_parents(repository)
    tree = Tree(repository)
    assert tree.move_to(line[-1]).keys() == {"a.h", "b.cc"}
    assert tree.move_to(line[0]).keys() == {"a.h", "b.cc", "c.cc"}
    assert tree.texts["b.cc"] == BODY.replace("body3;", "three;")
    assert tree.move_to(line[-1]) == {"a.h": HEAD, "b.cc": BODY, "c.cc": None}


def test_shares_are_of_the_prompt_of_their_own_layout() -> None:
    steps = [Step("x", 200, 2, 0, 50, 20, 100, 0.0), Step("y", 200, 4, 100, 100, 40, 100, 0.0)]
    found = table(steps)
    assert found["log, foreground"]["mean"] == pytest.approx(0.015)
    assert found["log, with compaction"]["max"] == pytest.approx(0.52)
    assert found["by path"]["median"] == pytest.approx(0.75)
    assert found["by churn"]["mean"] == pytest.approx(0.3)
