"""Why code is what it is: told from real repositories, made here, each sentence with where it stands."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.command import main
from hub import reasons, shapes
from hub.asking import AskOptions
from hub.backends.evidence_only import EvidenceOnlyBackend
from hub.service import Service, Story
from hub.why import ReasonKind
from hub.why.lines import stood
from indexer.index import DataFolder, Index
from tests.support.trees import index_of, write_tree

QUEUE = """#include "queue.h"

namespace app {

// Takes the oldest item.
int Queue::Take() {
  if (items_.empty()) return -1;
  return items_.front();
}

void Queue::Drain() {
  while (Take() >= 0) {
  }
}

}  // namespace app
"""
HEADER = """#pragma once
#include <deque>
namespace app {
/// Holds what waits. Bounded, because a full disk must not fill the memory too: docs/adr/0002-bound.md
class Queue {
 public:
  int Take();
  void Drain();
  int max_items = 64;

 private:
  std::deque<int> items_;
};
}  // namespace app
"""
ADRS: dict[str, str | bytes] = {
    "docs/adr/0001-unbounded.md": "# 1. Queues have no bound\n\nStatus: accepted\nDate: 2024-01-02\n\n## Decision\n\n"
    "`Queue::max_items` is unlimited, because callers know best.\n",
    "docs/adr/0002-bound.md": "# 2. Queues are bounded\n\nDate: 2025-03-04\n\n"
    "Takes the place of [1](0001-unbounded.md).\n\n"
    "## Decision\n\n`Queue::max_items` is 64, because more than that was never drained before the next burst.\n",
}


class Repository:
    """A repository whose clock goes on by a day with each commit."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.day = 0
        root.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        date = f"2025-01-{1 + self.day:02}T10:00:00Z"
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.root), "GIT_CONFIG_NOSYSTEM": "1"}
        environment |= {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", *who, "-C", str(self.root), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout.strip()

    def commit(self, message: str, files: dict[str, str | bytes], *options: str) -> str:
        self.day += 1
        write_tree(self.root, files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", message, *options)
        return self.git("rev-parse", "HEAD")


@contextmanager
def opened(root: Path, data: Path) -> Iterator[Service]:
    data.mkdir()
    index_of(root, data)
    index = Index.for_reading(DataFolder(data), "w")
    service = Service(index, list, EvidenceOnlyBackend, AskOptions())
    try:
        yield service
    finally:
        service.close()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, dict[str, str], Path]]:
    """A history with a rename of the file, a function that moved, a revert, a squash and an amended commit."""
    folder = tmp_path_factory.mktemp("why")
    made = Repository(folder / "tree")
    done: dict[str, str] = {}
    old = QUEUE.replace('"queue.h"', '"list.h"')
    done["first"] = made.commit("Add a queue", {"src/list.cc": old, "src/list.h": HEADER})
    guarded = old.replace("  if (items_.empty()) return -1;\n", "  if (items_.empty()) return -1;  // nothing\n")
    done["guard"] = made.commit(
        "Return -1 from an empty queue\n\nTaking from an empty deque is undefined behaviour, so that readers crashed."
        "\n\nBug: 4711\nReviewed-by: Ben <ben@example.org>",
        {"src/list.cc": guarded},
    )
    made.git("mv", "src/list.cc", "src/queue.cc")
    made.git("mv", "src/list.h", "src/queue.h")
    queue = guarded.replace('"list.h"', '"queue.h"')
    done["rename"] = made.commit("Call the list a queue", {"src/queue.cc": queue})
    begin, end = queue.index("void Queue::Drain"), queue.index("}  // namespace app")
    drain = queue[begin:end]
    done["drained"] = made.commit(
        "Drain until nothing is left\n\nOne pass was not enough, because items arrive while it runs. See #12.",
        {"src/queue.cc": queue.replace("Take() >= 0) {", "Take() >= 0) {  // they arrive meanwhile")},
    )
    queue = queue.replace("Take() >= 0) {", "Take() >= 0) {  // they arrive meanwhile")
    drain = queue[queue.index("void Queue::Drain") : queue.index("}  // namespace app")]
    done["moved"] = made.commit(
        "Give draining a file of its own",
        {
            "src/queue.cc": queue.replace(drain, ""),
            "src/drain.cc": f'#include "queue.h"\n\nnamespace app {{\n\n{drain}}}  // namespace app\n',
        },
    )
    queue = queue.replace(drain, "")
    done["hasty"] = made.commit(
        "Take the newest item\n\nThe newest is in the cache, which avoids a miss.",
        {"src/queue.cc": queue.replace("front()", "back()")},
    )
    made.day += 1
    made.git("revert", "--no-edit", done["hasty"])
    done["revert"] = made.git("rev-parse", "HEAD")
    done["squash"] = made.commit(
        "Bound the queue (#31)\n\n* Add max_items\n* Raise it to 64, otherwise bursts are lost\n* Fix a typo",
        {"src/queue.h": HEADER.replace("max_items = 64", "max_items = 65"), **ADRS},
    )
    made.commit("Wrong message", {"src/queue.h": HEADER})
    done["amended"] = made.commit("Go back to 64\n\nA power of two is needed by the ring.", {}, "--amend")
    with opened(made.root, folder / "data") as service:
        yield service, done, made.root


def cited(story: Story) -> list[str]:
    return [reason.commit or f"{reason.span.path if reason.span else ''}" for reason in story.reasons]


def line_of(root: Path, path: str, text: str) -> str:
    lines = (root / path).read_text(encoding="utf-8").split("\n")
    return f"{path}:{1 + next(number for number, line in enumerate(lines) if text in line)}"


Told = tuple[Service, dict[str, str], Path]


def test_the_commit_that_wrote_a_line_comes_first_with_its_reason_through_the_rename_of_the_file(told: Told) -> None:
    service, done, root = told
    story = service.why(line_of(root, "src/queue.cc", "items_.empty()"), 5)
    assert cited(story)[0] == done["guard"]
    assert story.reasons[0].says == ("Taking from an empty deque is undefined behaviour, so that readers crashed.",)
    by_hash = {made.commit.id: made for made in story.commits}
    assert by_hash[done["guard"]].issues == ("4711",)
    assert story.commits[-1].commit.id == done["first"]
    assert story.commits[-1].first
    assert not any(made.first for made in story.commits[:-1])


def test_a_function_that_moved_to_another_file_keeps_its_story(told: Told) -> None:
    service, done, _ = told
    story = service.why("Queue::Drain", 10)
    assert story.span is not None
    assert story.span.path == "src/drain.cc"
    hashes = [made.commit.id for made in story.commits]
    assert {done["moved"], done["drained"], done["first"]} <= set(hashes)
    assert cited(story)[0] == done["drained"]
    assert "#12" in next(made for made in story.commits if made.commit.id == done["drained"]).issues


def test_what_was_taken_back_says_so_and_does_not_come_first(told: Told) -> None:
    service, done, root = told
    story = service.why(line_of(root, "src/queue.cc", "front()"), 20)
    by_hash = {reason.commit: reason for reason in story.reasons}
    assert by_hash[done["hasty"]].outdated == f"reverted by {done['revert'][:12]}"
    assert story.reasons[0].commit != done["hasty"]
    holding = [not reason.outdated for reason in story.reasons]
    assert holding == sorted(holding, reverse=True)


def test_the_points_of_a_squashed_message_are_sentences_of_their_own(told: Told) -> None:
    service, done, root = told
    story = service.why(line_of(root, "src/queue.h", "max_items"), 10)
    squash = next(made for made in story.commits if made.commit.id == done["squash"])
    assert "Raise it to 64, otherwise bursts are lost" in squash.says
    assert squash.issues == ("#31",)
    assert not any("Add max_items" in said for said in squash.says)


def test_an_amended_commit_is_told_once_and_as_it_is_now(told: Told) -> None:
    service, done, root = told
    story = service.why(line_of(root, "src/queue.h", "max_items"), 10)
    assert [made.commit.subject for made in story.commits if "64" in made.commit.subject] == ["Go back to 64"]
    assert done["amended"] in cited(story)
    assert not any(made.commit.subject == "Wrong message" for made in story.commits)


def test_a_decision_that_names_the_symbol_comes_before_the_commits_and_the_superseded_one_is_marked(told: Told) -> None:
    service, _, _ = told
    story = service.why("Queue::max_items", 10)
    assert cited(story)[0] == "docs/adr/0002-bound.md"
    old = next(each for each in story.decisions if each.span.path == "docs/adr/0001-unbounded.md")
    assert old.outdated == "docs/adr/0002-bound.md says that it takes its place"
    assert story.decisions[0].span.path == "docs/adr/0002-bound.md"
    assert story.decisions[0].date == "2025-03-04"
    assert any("never drained before the next burst" in said for said in story.reasons[0].says)


def test_a_decision_that_the_comment_points_at_is_found_though_it_does_not_name_the_class(told: Told) -> None:
    service, _, root = told
    story = service.why("app::Queue", 10)
    assert story.decisions[0].span.path == "docs/adr/0002-bound.md"
    assert "points at it" in story.decisions[0].how
    comment = next(reason for reason in story.reasons if reason.kind is ReasonKind.COMMENT)
    assert comment.span is not None
    assert "because a full disk must not fill the memory too" in " ".join(comment.says)
    assert "full disk" in (root / comment.span.path).read_text(encoding="utf-8")


def test_a_question_in_words_finds_the_commit(told: Told) -> None:
    service, done, _ = told
    story = service.why("why does taking from an empty queue return -1", 3)
    assert done["guard"] in cited(story)
    assert story.span is None


def test_a_file_has_a_story_through_its_rename(told: Told) -> None:
    service, done, _ = told
    hashes = [made.commit.id for made in service.why("src/queue.cc", 20).commits]
    assert {done["guard"], done["drained"]} <= set(hashes)


def test_every_reason_is_a_sentence_that_stands_where_it_says(told: Told) -> None:
    service, _, root = told
    made = Repository.__new__(Repository)
    made.root, made.day = root, 0
    for asked in ("Queue::Take", "Queue::Drain", "Queue::max_items", "app::Queue", "src/queue.h"):
        for reason in service.why(asked, 20).reasons:
            assert (reason.commit is None) != (reason.span is None)
            if reason.commit:
                whole = made.git("show", "--no-patch", "--format=%B", reason.commit)
            else:
                assert reason.span
                whole = (root / reason.span.path).read_text(encoding="utf-8").replace("///", " ").replace("//", " ")
            plain = " ".join(whole.replace("**", "").split())
            assert all(said in plain for said in reason.says), (asked, reason)


def test_equal_questions_get_equal_stories_and_a_limit_only_shortens_them(told: Told) -> None:
    service, _, _ = told
    whole = service.why("Queue::Take", 50)
    assert service.why("Queue::Take", 50) == whole
    assert service.why("Queue::Take", 2).reasons == whole.reasons[:2]
    short = service.why("Queue::Take", 2).commits
    assert (short[0], short[-1]) == (whole.commits[0], whole.commits[-1])


@pytest.mark.parametrize(
    "asked", ["", " ", "src/queue.cc:9999", "no/such/file.cc:3", "Nowhere::At", "\0", ":", "é" * 500]
)
def test_what_nothing_tells_of_is_no_error(told: Told, asked: str) -> None:
    service, _, _ = told
    story = service.why(asked, 5)
    assert json.dumps(shapes.story_shape(story))
    assert story.notes


# What is missing is told


def test_lines_that_are_not_committed_are_told(tmp_path: Path) -> None:
    made = Repository(tmp_path / "tree")
    first = made.commit("Add", {"a.cc": "int one() {\n  return 1;\n}\n"})
    write_tree(made.root, {"a.cc": "int zero() {\n  return 0;\n}\nint one() {\n  return 1;\n}\n"})
    with opened(made.root, tmp_path / "data") as service:
        assert "Line 2 of a.cc is not committed yet." in service.why("a.cc:2", 5).notes
        below = service.why("a.cc:5", 5)
        assert not any("committed" in note for note in below.notes)
        assert cited(below) == [first]
        write_tree(made.root, {"b.cc": "int two();\n"})
    index_of(made.root, tmp_path / "data")
    with opened_again(tmp_path / "data") as service:
        assert "not committed yet" in " ".join(service.why("b.cc:1", 5).notes)


@contextmanager
def opened_again(data: Path) -> Iterator[Service]:
    service = Service(Index.for_reading(DataFolder(data), "w"), list, EvidenceOnlyBackend, AskOptions())
    try:
        yield service
    finally:
        service.close()


def test_where_the_repository_is_gone_the_index_tells_what_it_kept_and_says_so(tmp_path: Path) -> None:
    made = Repository(tmp_path / "tree")
    made.commit("Add", {"a.cc": "int one() {\n  return 1;\n}\n", "b.cc": "int b;\n"})
    second = made.commit(
        "Give two\n\nOne was too small, because zero counts.", {"a.cc": "int one() {\n  return 2;\n}\n"}
    )
    with opened(made.root, tmp_path / "data") as service:
        (made.root / ".git").rename(made.root.parent / "gone")
        story = service.why("a.cc:2", 5)
        assert cited(story)[0] == second
        assert any("what the index kept" in note for note in story.notes)


def test_a_shallow_clone_is_told(tmp_path: Path) -> None:
    made = Repository(tmp_path / "tree")
    made.commit("Add", {"a.cc": "int one() {\n  return 1;\n}\n"})
    made.commit("Change", {"a.cc": "int one() {\n  return 2;\n}\n"})
    made.git("clone", "--quiet", "--depth=1", f"file://{made.root}", str(tmp_path / "shallow"))
    with opened(tmp_path / "shallow", tmp_path / "data") as service:
        assert any("shallow" in note for note in service.why("a.cc:2", 5).notes)


def test_nothing_that_a_repository_configures_is_run(tmp_path: Path) -> None:
    made = Repository(tmp_path / "tree")
    made.commit("Add", {"a.cc": "int one() {\n  return 1;\n}\n", ".gitattributes": "*.cc diff=trap filter=trap\n"})
    made.commit("Change", {"a.cc": "int one() {\n  return 2;\n}\n"})
    mark = tmp_path / "it was run"
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch '{mark}'\ncat \"$@\"\n", encoding="utf-8")
    trap.chmod(0o755)
    with opened(made.root, tmp_path / "data") as service:
        for name in ("diff.trap.textconv", "diff.trap.command", "diff.external", "gpg.program", "core.pager"):
            made.git("config", name, str(trap))
        made.git("config", "filter.trap.clean", str(trap))
        made.git("config", "log.showSignature", "true")
        made.git("config", "blame.ignoreRevsFile", str(tmp_path / "none"))
        assert len(service.why("a.cc:2", 5).commits) == 2
    assert not mark.exists()


# The pure parts


TEXT = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=12)


@given(before=TEXT, now=TEXT, data=st.data())
def test_lines_are_only_ever_taken_for_equal_ones(before: Sequence[str], now: list[str], data: Any) -> None:
    if not now:
        return
    first = data.draw(st.integers(1, len(now)))
    then, fresh = stood(now, before, first, first)
    if then:
        assert fresh == []
        assert before[then[0] - 1] == now[first - 1]
    else:
        assert fresh == [first]


@given(now=st.lists(st.integers(), unique=True, min_size=1, max_size=20), data=st.data())
def test_lines_that_only_moved_down_are_found_again(now: list[int], data: Any) -> None:
    lines = [str(each) for each in now]
    at = data.draw(st.integers(1, len(lines)))
    assert stood(["new", *lines], lines, at + 1, len(lines) + 1) == ((at, len(lines)), [])


@given(st.text(max_size=400))
def test_reading_reasons_never_raises_and_keeps_to_the_words(text: str) -> None:
    for said in reasons.why(text, 3):
        assert reasons.weight_of(said)
        assert len(said) <= reasons.LONGEST_SENTENCE
    assert len(reasons.issues(text)) <= reasons.MOST_ISSUES


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Fixes #12 and GH-7", ("#12", "GH-7")),
        ("PROJ-17: do it", ("PROJ-17",)),
        ("Bug: chromium:1284275", ("chromium:1284275",)),
        ("Bug: none", ()),
        ("See https://github.com/google/leveldb/issues/1081", ("https://github.com/google/leveldb/issues/1081",)),
        ("https://crbug.com/388068052.", ("https://crbug.com/388068052",)),
        ("UTF-8 and SHA-256, colour &#39; and a#1", ()),
    ],
)
def test_issues_are_known_by_their_form(message: str, expected: tuple[str, ...]) -> None:
    assert reasons.issues(message) == expected


@pytest.mark.parametrize(
    "hostile",
    ["#" * 20_000, "a. " * 7_000, "- \n" * 7_000, "`" * 20_000, "would " * 4_000, "](" * 9_000, "Bug: " * 4_000],
)
def test_hostile_texts_give_little(hostile: str) -> None:
    assert len(reasons.why(hostile, 3)) <= 3
    assert len(reasons.issues(hostile)) <= reasons.MOST_ISSUES
    assert reasons.outdated(hostile) == ""
    assert reasons.replaces(hostile) == ()


def test_the_command_tells_it_and_its_json_is_the_shape(
    told: Told, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service, done, root = told
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(root)
    data = ["--data", str(root.parent / "data")]
    assert main(["why", "Queue::Drain", "--limit", "4", *data]) == 0
    shown = capsys.readouterr().out
    assert "why, the best reason first:" in shown
    assert f"{done['drained'][:12]}" in shown
    assert "One pass was not enough, because items arrive while it runs." in shown
    assert main(["why", "Queue::Drain", "--limit", "4", "--json", *data]) == 0
    told = json.loads(capsys.readouterr().out)
    stamp = shapes.stamp_shape(service.stamp())
    assert {**stamp, "behind": None} == {**told.pop("stamp"), "behind": None}  # a service of one's own knows none
    assert told == {**shapes.story_shape(service.why("Queue::Drain", 4)), "kept": []}
    assert main(["why", "zzzyx", *data]) == 1
