"""Questions made of comments, messages and names: what is asked, what counts as an answer, and that it is hidden."""

import re
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.labels import (
    Hidden,
    Label,
    LabelKind,
    PastCommit,
    asked_of,
    commit_labels,
    hide_comments,
    name_labels,
    says_something,
)
from indexer.model import Language, SourceFile, Span, Symbol
from indexer.pipeline import parse_file

STORE: dict[str, str] = {
    "store.h": """#pragma once
namespace kv {
class Store {
 public:
  /// @brief Looks up the newest value that was written under a key.
  ///
  /// @param key what it was written under
  bool Lookup(const char* key);

  // Forgets every pair whose lease has run out.
  void Expire();

  // Whether nothing is held.
  bool empty() const { return true; }
};
}  // namespace kv
""",
    "store.cc": """#include "store.h"
namespace kv {

/* Looks up the newest value that was
 * written under a key, in memory first. Expects that Lookup is called
 * with the mutex held, walks the levels from the youngest to the oldest
 * one, and stops at the first table whose range can hold the key. */
bool Store::Lookup(const char* key) {
  int found = 0;
  for (int level = 0; level < 7; ++level) {
    if (key[level] == 0) {
      found = level;
      break;
    }
  }
  return found > 0;
}

void Store::Expire() { clear(); }

// int Old(const char* key) { return 0; }
int Young(const char* key) { return 1; }

}  // namespace kv
""",
    "notes.md": "# Store\n\nNothing of its comments stands here.\n",
}
SEEN = re.compile(r"\w+")


def symbols_of(texts: Mapping[str, str]) -> list[Symbol]:
    found: list[Symbol] = []
    for path, text in texts.items():
        language = Language.MARKDOWN if path.endswith(".md") else Language.CPP
        found += parse_file(SourceFile(path, language, len(text), 0, "", text))[0].symbols
    return found


def hidden_in(texts: Mapping[str, str], seed: int = 0) -> Hidden:
    return hide_comments(symbols_of(texts), texts.get, sorted(texts), seed)


def asked(labels: tuple[Label, ...] | list[Label], kind: LabelKind) -> dict[str, Label]:
    return {label.about: label for label in labels if label.kind is kind}


def words(text: str) -> str:
    return " ".join(SEEN.findall(text.lower()))


def test_a_comment_asks_for_the_definition_of_its_function_without_naming_it() -> None:
    labels = asked(hidden_in(STORE).labels, LabelKind.DESCRIPTION)
    assert set(labels) == {"kv::Store::Lookup", "kv::Store::Expire"}, "four words, or code in a comment, ask nothing"
    assert labels["kv::Store::Expire"].question == "Forgets every pair whose lease has run out."
    lookup = labels["kv::Store::Lookup"]
    assert lookup.question == "Looks up the newest value that was written under a key, in memory first."
    assert lookup.gold == (Span("store.cc", 8, 17),)


def test_a_long_comment_asks_for_the_body_that_it_describes() -> None:
    (label,) = [label for label in hidden_in(STORE).labels if label.kind is LabelKind.BODY]
    assert label.gold == (Span("store.cc", 8, 17),)
    assert "Expects that is called with the mutex held" in label.question
    assert label.question.endswith("whose range can hold the key.")


def test_hidden_comments_leave_their_lines_and_all_code_in_place() -> None:
    texts = {**STORE, **hidden_in(STORE).texts}
    for path, text in STORE.items():
        assert texts[path].count("\n") == text.count("\n")
    before = {(symbol.qualified_name, symbol.span, symbol.signature) for symbol in symbols_of(STORE)}
    assert {(symbol.qualified_name, symbol.span, symbol.signature) for symbol in symbols_of(texts)} == before
    assert "Whether nothing is held." in texts["store.h"], "comments that are not asked stay"
    assert "what it was written under" not in texts["store.h"]
    assert "stops at the first table" not in texts["store.cc"]


def test_a_comment_whose_words_stand_elsewhere_too_asks_nothing() -> None:
    texts = {
        **STORE,
        "notes.md": "# Notes\n\nThe thread forgets every\npair whose lease has run out. Then it sleeps.\n",
    }
    hidden = hidden_in(texts)
    assert set(asked(hidden.labels, LabelKind.DESCRIPTION)) == {"kv::Store::Lookup"}
    assert hidden.dropped == 1


def test_a_comment_whose_words_a_message_says_asks_nothing() -> None:
    message = "Evict\n\nNow it forgets every pair whose lease has run out."
    hidden = hide_comments(symbols_of(STORE), STORE.get, sorted(STORE), 0, [message])
    assert set(asked(hidden.labels, LabelKind.DESCRIPTION)) == {"kv::Store::Lookup"}


def test_two_functions_with_the_same_comment_are_not_asked_for() -> None:
    twice = "// Writes the footer of a table.\nvoid {}() {{\n}}\n"
    hidden = hidden_in({"a.cc": twice.format("First") + twice.format("Second")})
    assert hidden.labels == ()


@pytest.mark.parametrize(
    "comment",
    [
        "// Sorts the runs that one merge will read.\n",
        "///Sorts the runs that one merge will read.\n",
        "//! Sorts the runs that\n//! one merge will read.\n",
        "/** Sorts the runs that one merge will read. */\n",
        "/**\n   Sorts the runs that\n   one merge will read.\n*/\n",
        "/*!\n * @brief Sorts the runs that\n *        one merge will read.\n * @return 1\n */\n",
        "//////////////////////\n// Sorts the runs that\n// one merge will read.\n//////////////////////\n",
        "// Sorts the runs that one merge will read.\r\n",
    ],
)
def test_comments_of_every_form_are_found_and_hidden(comment: str) -> None:
    text = f"int before;  // stays\n\n{comment}int Sort(int runs);\n"
    hidden = hidden_in({"a.h": text})
    assert [label.question for label in hidden.labels] == ["Sorts the runs that one merge will read."]
    assert "merge" not in hidden.texts["a.h"]
    assert hidden.texts["a.h"].startswith("int before;  // stays\n")
    assert hidden.texts["a.h"].endswith("int Sort(int runs);\n")
    assert hidden.texts["a.h"].count("\n") == text.count("\n")


_PARTS = st.sampled_from(
    [
        "// Reads one block of the file and checks it.\n",
        "/* Reads one block\n * of the file and checks it. */\n",
        "/// Frees the blocks that no reader holds any more.\n/// @param n how many\n",
        "/** Frees the blocks that no reader holds any more.\n\n More of it here. */\n",
        "// Waits until the writer before has left. Then goes on at once.\n",
        "int Read(int n) {\n  return n;\n}\n",
        "void Free(int n);\n",
        "template <class T>\nvoid Wait(T t) { /* Reads one */ }\n",
        'const char* kText = "// Waits until the writer before has left.";\n',
        "class A {\n  // Waits until the writer before has left.\n  void Wait();\n};\n",
        "\n",
        "#if A\n",
        "#endif\n",
        "/* ",
        '"',
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(_PARTS, max_size=14).map("".join), min_size=1, max_size=3), st.integers(0, 3))
def test_no_question_stands_anywhere_in_what_is_searched(texts: list[str], seed: int) -> None:
    tree = {f"{number}.cc": text for number, text in enumerate(texts)}
    hidden = hidden_in(tree, seed)
    left = [f" {words({**tree, **hidden.texts}[path])} " for path in tree]
    for label in hidden.labels:
        if label.kind is LabelKind.DESCRIPTION:
            assert not any(f" {words(label.question)} " in text for text in left)
    for path, text in hidden.texts.items():
        assert text.count("\n") == tree[path].count("\n")


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_labels_do_not_depend_on_the_order_of_symbols(random: object, seed: int) -> None:
    symbols = symbols_of(STORE)
    first = hide_comments(symbols, STORE.get, sorted(STORE), seed)
    names = name_labels(symbols, seed)
    random.shuffle(symbols)  # type: ignore[attr-defined]
    assert hide_comments(symbols, STORE.get, sorted(STORE), seed) == first
    assert name_labels(symbols, seed) == names


def test_names_are_asked_bare_and_qualified_for_all_that_bear_them() -> None:
    labels = {label.question: label for label in name_labels(symbols_of(STORE), 0)}
    assert {name.rpartition("::")[2] for name in labels} == {"Store", "Lookup", "Expire", "Young", "empty"}
    assert any("::" in name for name in labels)
    assert any("::" not in name for name in labels)
    for name, label in labels.items():
        assert {place.path for place in label.gold if isinstance(place, Span)} <= {"store.h", "store.cc"}
        if name.endswith("Lookup"):
            assert label.gold == (Span("store.cc", 8, 8), Span("store.h", 8, 8))


SOURCES = ("a.cc", "b.cc", "c.h")


def commit(number: int, message: str, *paths: str) -> PastCommit:
    return PastCommit(f"{number:040x}", message, paths)


def test_a_commit_asks_for_the_sources_that_it_changed_and_that_were_there() -> None:
    (label,) = commit_labels(
        [commit(1, "Keep the lock while a compaction is scheduled", "b.cc", "a.cc", "new.cc", "README.md")], SOURCES, ()
    )
    assert label.gold == ("a.cc", "b.cc")
    assert label.kind is LabelKind.COMMIT


@pytest.mark.parametrize(
    "message",
    [
        "Merge branch 'master' into release",
        'Revert "Keep the lock while a compaction is scheduled"',
        "Bump version to 1.23 and update the changelog",
        "Release 4.2 of the whole library",
        "v1.2.3",
        "Fix build",
        "fix #1234 (#1240)",
        "WIP: keep the lock while a compaction is scheduled",
        "",
    ],
)
def test_a_message_that_tells_nothing_asks_nothing(message: str) -> None:
    assert not says_something(message)
    assert commit_labels([commit(1, message, "a.cc")], SOURCES, ()) == []


def test_a_commit_of_many_files_or_none_that_were_there_asks_nothing() -> None:
    message = "Keep the lock while a compaction is scheduled"
    many = [f"{number}.cc" for number in range(11)]
    assert commit_labels([commit(1, message, *many)], many, ()) == []
    assert commit_labels([commit(1, message, "a.cc", *(f"{n}.txt" for n in range(20)))], SOURCES, ()) == []
    assert commit_labels([commit(1, message, "new.cc")], SOURCES, ()) == []


def test_a_commit_that_repeats_a_known_message_asks_nothing() -> None:
    message = "Keep the lock while a compaction is scheduled"
    again = [commit(1, message, "a.cc"), commit(2, message.upper(), "b.cc")]
    assert len(commit_labels(again, SOURCES, ())) == 1
    assert commit_labels(again, SOURCES, [f"{message}.\n\nChange-Id: I1234"]) == []


def test_a_message_is_asked_without_its_trailers() -> None:
    message = "Keep the lock\n\nA compaction may be scheduled twice.\n\n"
    message += "Signed-off-by: A <a@example.org>\nPiperOrigin-RevId: 12\nFixes #12\nBug: 345 in the tracker"
    assert asked_of(message) == "Keep the lock\n\nA compaction may be scheduled twice."


@pytest.mark.parametrize(
    "message",
    ["Fixes a crash of the parser", "Release the lock before the callback", "Issue a warning for late writers"],
)
def test_a_subject_that_begins_like_a_trailer_is_asked_whole(message: str) -> None:
    assert asked_of(message) == message
    assert says_something(message)


def test_the_older_half_of_the_commits_may_be_fitted_on() -> None:
    told = ["cache of blocks", "lock of writers", "name of files", "size of tables", "end of logs"]
    labels = commit_labels(
        [commit(n, f"Mend the {text} once more", "a.cc") for n, text in enumerate(told)], SOURCES, ()
    )
    assert [label.held_out for label in labels] == [False, False, True, True, True]
