"""Questions that a tree answers itself, and such as it cannot: their wording, their answers, what is taken out."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.calibrating.changes import changed_places
from hub.calibrating.neutral import NEUTRAL
from hub.calibrating.questions import Asked, QuestionSet, Stratum, Variant, question_set, settled
from hub.calibrating.removal import Removal, is_whole, spelling, take_out
from hub.calibrating.wording import about_name, mistyped, natural, partial, related
from hub.config import Settings
from hub.labels import words_of
from hub.tables import Relation, relation_asked
from indexer.errors import Cancelled
from indexer.model import Language, SourceFile, Span, Symbol
from indexer.pipeline import ignore_progress, never, parse_file
from tests.support.trees import write_tree

NAMES = st.from_regex(r"[A-Za-z][A-Za-z_]{0,18}", fullmatch=True)

STORE: dict[str, str] = {
    "src/store.h": """#pragma once
namespace kv {
class Store {
 public:
  virtual ~Store();

  /// Forgets every pair whose lease has run out by now.
  void expireLeases();

  /// Writes the oldest half of all pairs to the disk and empties the journal behind them.
  int spillOldest(int count);
  int spillOldest(const char* why);

  /// Compares two keys byte by byte, the shorter one first.
  static int compareKeys(const char* left, const char* right);

  int used = 0;
};
}  // namespace kv
""",
    "src/store.cc": """#include "store.h"
namespace kv {

void Store::expireLeases() {
  for (int lease = 0; lease < used; ++lease) {
    used -= lease;
  }
}

int Store::spillOldest(int count) {
  expireLeases();
  int written = count / 2;
  used -= written;
  return written;
}

// Tells the log first why it is done.
int Store::spillOldest(const char* why) {
  return spillOldest(why[0]);
}

int Store::compareKeys(const char* left, const char* right) {
  while (*left && *left == *right) {
    ++left;
    ++right;
  }
  return *left - *right;
}

}  // namespace kv
""",
    "README.md": "# Store\n\nKeys are ordered by compareKeys.\n",
}


def symbols_of(texts: Mapping[str, str]) -> list[Symbol]:
    found: list[Symbol] = []
    for path, text in sorted(texts.items()):
        language = Language.MARKDOWN if path.endswith(".md") else Language.CPP
        found += parse_file(SourceFile(path, language, len(text), 0, "", text))[0].symbols
    return found


def removal_of(texts: Mapping[str, str], *names: str) -> Removal:
    documents = [path for path in texts if path.endswith(".md")]
    return take_out(names, symbols_of(texts), texts.get, documents, 0)


def asked(question: str, about: str = "kv::f", *, missing: bool = False, stratum: Stratum = Stratum.NAME) -> Asked:
    return Asked(question, (), stratum, Variant.NATURAL, missing, about, held_out=False)


# How they are worded


def test_what_a_function_does_becomes_a_question_that_keeps_its_words() -> None:
    question = natural("Forgets every pair whose lease has run out.", "expire", 1, "kv::Store::expire")
    assert "forgets every pair whose lease has run out" in question
    assert question.endswith("?")


def test_a_comment_that_names_its_function_keeps_the_name_and_gets_no_other() -> None:
    question = natural("Returns what Lookup has found. Lookup never blocks.", "Lookup", 0, "kv::Lookup")
    assert question.endswith("Returns what Lookup has found. Lookup never blocks.")
    assert question.count("Lookup") == 2


def test_things_in_the_plural_are_no_deeds() -> None:
    assert "which accessors" not in natural("Accessors for the range of the lease.", "range", 0, "kv::range").lower()


def test_some_comments_are_asked_with_the_name_and_most_without() -> None:
    told = [natural("Forgets every pair.", "expireAll", 0, f"kv::{number}::expireAll") for number in range(60)]
    assert 5 <= sum("expireAll" in question for question in told) <= 40


@given(st.text(max_size=80), NAMES, st.integers(0, 9))
def test_wording_a_comment_keeps_all_its_words_and_repeats(told: str, name: str, seed: int) -> None:
    question = natural(told, name, seed, f"kv::{name}")
    assert question == natural(told, name, seed, f"kv::{name}")
    assert words_of(told) in words_of(question) or words_of(told.rstrip(".!? \n")) in words_of(question)


@given(NAMES, st.integers(0, 20))
def test_what_is_asked_of_relations_and_names_is_not_answered_by_the_tables_alone(name: str, seed: int) -> None:
    for relation in (Relation.CALLERS, Relation.CALLEES, Relation.DERIVED, Relation.OVERRIDERS):
        question = related(relation, f"kv::{name}", seed)
        assert f"kv::{name}" in question
        assert relation_asked(question) is None
    assert relation_asked(about_name(name, seed)) is None


@given(NAMES, st.sets(NAMES, max_size=3), st.integers(0, 5))
def test_a_slip_of_the_fingers_changes_a_name_by_little_and_into_none_that_is_there(
    name: str, there: set[str], seed: int
) -> None:
    slip = mistyped(f"kv::{name}", there.__contains__, seed)
    assert slip is not None or len(name) < 7 or there
    if slip is not None:
        assert slip != name
        assert slip not in there
        assert (slip[0], slip[-1]) == (name[0], name[-1]) or sorted(slip) == sorted(name)
        assert abs(len(slip) - len(name)) <= 1


def test_a_short_name_is_not_mistyped() -> None:
    assert mistyped("kv::Store::size", never_there, 0) is None


def never_there(_name: str) -> bool:
    return False


def test_a_name_is_qualified_in_part_where_that_leaves_something_out() -> None:
    assert partial("kv::Store::size") == "Store::size"
    assert partial("Store::size") is None


def test_the_questions_that_ship_are_distinct_and_of_some_words() -> None:
    assert len({spelling(name) for name, _ in NEUTRAL}) == len(NEUTRAL)
    assert len({words_of(told) for _, told in NEUTRAL}) == len(NEUTRAL)
    assert all(len(told.split()) >= 8 for _, told in NEUTRAL)


# What a commit changes


CODE = """int first(int n) {
  int total = 0;
  return total + n;
}

int second(int n) {
  return n * 2;
}

static const int kLimit = 4;
"""


def places(patch: str) -> tuple[Span, ...] | None:
    texts = {"a.cc": CODE}
    return changed_places({"a.cc": patch}, texts, {"a.cc": symbols_of(texts)})


def test_a_replaced_line_is_a_change_of_the_function_around_it() -> None:
    assert places("@@ -90 +90 @@ int first(int n) {\n-  return total + n;\n+  return n;\n") == (Span("a.cc", 1, 4),)


def test_a_line_outside_of_functions_is_its_own_place() -> None:
    assert places("@@ -9 +9 @@\n-static const int kLimit = 4;\n+static const int kLimit = 5;\n") == (
        Span("a.cc", 10, 10),
    )


def test_what_is_added_inside_a_function_changes_it() -> None:
    assert places("@@ -2,0 +3 @@ int second(int n) {\n+  check(n);\n") == (Span("a.cc", 6, 8),)


def test_new_functions_includes_and_comments_change_nothing_that_is_there() -> None:
    function = "@@ -4,0 +5,3 @@ int first(int n) {\n+int third() {\n+  return 3;\n+}\n"
    include = "@@ -1 +1 @@\n-#include <a>\n+#include <b>\n"
    assert places(f"{function}{include}@@ -1 +1 @@\n-// Old words.\n+// New words.\n") == ()


def test_a_change_of_lines_that_are_not_there_has_no_known_place() -> None:
    assert places("@@ -2 +2 @@ int first(int n) {\n-  int sum = 0;\n+  int total = 1;\n") is None


def test_a_line_that_stands_twice_is_told_apart_by_the_heading_or_not_at_all() -> None:
    twice = {"a.cc": "int a(int n) {\n  return n;\n}\nint b(int n) {\n  return n;\n}\n"}
    symbols = {"a.cc": symbols_of(twice)}
    hunk = "@@ -2 +2 @@ {}\n-  return n;\n+  return 0;\n"
    assert changed_places({"a.cc": hunk.format("int b(int n) {")}, twice, symbols) == (Span("a.cc", 4, 6),)
    assert changed_places({"a.cc": hunk.format("")}, twice, symbols) is None
    overloads = {"a.cc": "int a(int n) {\n  return n;\n}\nint a(long n) {\n  return n;\n}\n"}
    known = {"a.cc": symbols_of(overloads)}
    assert changed_places({"a.cc": hunk.format("int a(int n) {")}, overloads, known) is None


# What is taken out


def test_a_function_goes_with_its_declarations_overloads_and_comments_and_leaves_its_lines() -> None:
    gone = removal_of(STORE, "kv::Store::spillOldest")
    assert gone.names == {"kv::Store::spillOldest"}
    assert set(gone.texts) == {"src/store.h", "src/store.cc"}
    for path, text in gone.texts.items():
        assert text.count("\n") == STORE[path].count("\n")
        assert "spillOldest" not in text
        assert "oldest half" not in text
        assert "Tells the log" not in text
    left = {symbol.qualified_name for symbol in symbols_of({**STORE, **gone.texts})}
    assert left == {symbol.qualified_name for symbol in symbols_of(STORE)} - gone.names


def test_a_function_that_is_called_goes_and_its_calls_stay() -> None:
    gone = removal_of(STORE, "kv::Store::expireLeases")
    assert gone.names == {"kv::Store::expireLeases"}
    assert gone.texts["src/store.cc"].count("expireLeases") == 1


@pytest.mark.parametrize(
    ("why", "path", "text"),
    [
        ("a document names it", "README.md", "Call `expireLeases` at times.\n"),
        ("another has its name in another spelling", "src/c.cc", "void expire_leases() {\n}\n"),
        ("a macro has its name", "src/c.h", "#define EXPIRE_LEASES 1\n"),
        ("another's name says as much and more", "src/c.cc", "void expire_all_leases_now() {\n}\n"),
        ("a test may show what it does", "src/store_test.cc", "void kv::Store::expireLeases() {\n}\n"),
        (
            "another has its body",
            "src/c.cc",
            "void twin() {\n  for (int lease = 0; lease < used; ++lease) {\n    used -= lease;\n  }\n}\n",
        ),
        ("a condition ends in it", "src/c.cc", "void kv::Store::expireLeases() {\n#if A\n  a();\n}\n#endif\n"),
    ],
)
def test_a_function_stays_where_its_absence_is_not_certain(why: str, path: str, text: str) -> None:
    assert removal_of(STORE, "kv::Store::expireLeases").names, "or the test shows nothing"
    assert not removal_of({**STORE, path: text}, "kv::Store::expireLeases").names, why


@pytest.mark.parametrize("other", ["read_file", "READFILE", "Read_File"])
def test_spellings_of_one_name_are_one(other: str) -> None:
    assert spelling(other) == spelling("readFile")
    assert spelling("initialise_all") == spelling("InitializeAll")
    assert spelling("readFiles") != spelling("readFile")


def test_what_is_no_function_is_not_taken_out() -> None:
    assert removal_of(STORE, "kv::Store", "kv::Store::used", "kv::gone").names == frozenset()


def test_taking_out_is_the_same_each_time_and_of_a_share() -> None:
    texts = {f"f{number}.cc": f"int work{number}(int n) {{\n  return n + {number};\n}}\n" for number in range(150)}
    names = [f"work{number}" for number in range(150)]
    gone = removal_of(texts, *names)
    assert 60 <= len(gone.names) < 150
    assert removal_of(texts, *reversed(names)) == gone


@given(st.text(alphabet="{}()[]\"'/*\n#if endl", max_size=60))
def test_what_is_whole_closes_all_that_it_opens(text: str) -> None:
    assert is_whole(f"void f() {{\n{text}\n}}\n") == is_whole(text) or '"' in text or "'" in text or "/" in text


# Contradictions


def test_a_question_that_is_repeated_is_asked_once() -> None:
    kept, notes = settled([asked("Where is it?"), asked("where IS it"), asked("Who?")])
    assert [question.question for question in kept] == ["Where is it?", "Who?"]
    assert notes == []


def test_the_same_words_for_different_things_ask_nothing() -> None:
    kept, notes = settled([asked("Where is it?"), asked("where is it", "kv::g"), asked("Who?")])
    assert [question.question for question in kept] == ["Who?"]
    assert notes == ["2 questions contradict each other and are not asked."]


def test_a_question_cannot_be_answered_and_missing_at_once() -> None:
    assert settled([asked("Where is it?"), asked("Where is it?", missing=True)])[0] == []


# The whole


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git settings of whoever runs the tests do not count."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def plain(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data", backend="none", embeddings="none", index_workers=1)


@contextmanager
def made(tree: Path, settings: Settings, foreign: tuple[Asked, ...] = ()) -> Iterator[QuestionSet]:
    with question_set(tree, settings, ignore_progress, never, foreign=foreign) as found:
        yield found


def of(found: QuestionSet, stratum: Stratum) -> dict[tuple[str, str], Asked]:
    return {
        (question.about, question.variant): question
        for question in found.questions
        if question.stratum is stratum and not question.missing
    }


def test_a_tree_is_asked_for_its_comments_relations_and_names(tmp_path: Path, plain: Settings) -> None:
    with made(write_tree(tmp_path / "tree", dict(STORE)), plain) as found:
        told = of(found, Stratum.DESCRIPTION)
        spilt = told["kv::Store::spillOldest", "stripped"]
        assert spilt.question == "Writes the oldest half of all pairs to the disk and empties the journal behind them."
        assert spilt.gold == (Span("src/store.cc", 10, 15), Span("src/store.cc", 18, 20)), "overloads answer too"
        assert "writes the oldest half" in told["kv::Store::spillOldest", "natural"].question
        related_to = of(found, Stratum.RELATION)
        assert Span("src/store.cc", 11, 11) in related_to["kv::Store::expireLeases", "natural"].gold
        assert of(found, Stratum.NAME)
        assert not of(found, Stratum.COMMIT)
        assert found.revision is None


def test_a_relation_is_not_asked_where_a_use_is_known_by_its_name_only(tmp_path: Path, plain: Settings) -> None:
    guess = {"src/guess.cc": "template <class T>\nvoid tidy(T& some) {\n  some.expireLeases();\n}\n"}
    with made(write_tree(tmp_path / "tree", {**STORE, **guess}), plain) as found:
        related_to = of(found, Stratum.RELATION)
        assert ("kv::Store::expireLeases", "natural") not in related_to
        assert ("kv::Store::spillOldest", "natural") in related_to


def test_what_was_taken_out_stands_in_no_chunk_and_all_else_stays_in_its_lines(tmp_path: Path, plain: Settings) -> None:
    with made(write_tree(tmp_path / "tree", dict(STORE)), plain) as found:
        gone = {question.about for question in found.removed_questions}
        assert gone == {"kv::Store::expireLeases", "kv::Store::spillOldest"}, "README.md names the third"
        assert all(question.missing and not question.gold for question in found.removed_questions)
        present, removed = ({s.qualified_name for s in i.facts.all_symbols()} for i in (found.present, found.removed))
        assert removed == present - gone
        before, after = (
            "".join(chunk.text for chunk in index.table.chunks_of("src/store.cc"))
            for index in (found.present, found.removed)
        )
        assert after.count("\n") == before.count("\n")
        assert "written" in before
        assert "written" not in after
        lines = after.split("\n")
        for question in found.questions:
            if question.about in gone and question.stratum is Stratum.DESCRIPTION:
                for span in question.gold:
                    assert isinstance(span, Span)
                    assert not any(lines[span.first_line - 1 : span.last_line]), "its lines are there, and blank"
        assert not found.removed.text.holds("spillOldest")
        assert found.removed.text.holds("compareKeys")


def test_a_missing_question_is_asked_of_both_indexes_with_one_answer(tmp_path: Path, plain: Settings) -> None:
    with made(write_tree(tmp_path / "tree", dict(STORE)), plain) as found:
        answered = {question.question: question for question in found.questions if not question.missing}
        for question in found.removed_questions:
            assert answered[question.question].gold
            assert answered[question.question].held_out == question.held_out


def test_equal_arguments_give_equal_questions(tmp_path: Path, plain: Settings) -> None:
    tree = write_tree(tmp_path / "tree", dict(STORE))
    with made(tree, plain) as first:
        kept = first.questions, first.removed_questions, first.notes
    with made(tree, plain) as second:
        assert (second.questions, second.removed_questions, second.notes) == kept
    assert not list(plain.data.glob("evaluation-*")), "both are removed afterwards"


def test_questions_of_another_repository_are_missing_unless_something_here_is_called_like_it(
    tmp_path: Path, plain: Settings
) -> None:
    def stranger(name: str) -> Asked:
        return asked(f"Where does {name} stand?", f"far::{name}", stratum=Stratum.DESCRIPTION)

    foreign = tuple(map(stranger, ("castRay", "compare_keys", "ExpireLeases", "Compare", "Leases", "bounce")))
    with made(write_tree(tmp_path / "tree", dict(STORE)), plain, foreign) as found:
        assert {question.about for question in found.questions if question.missing} == {"far::castRay", "far::bounce"}


@pytest.mark.parametrize("files", [{"a.cc": "int x;\n"}, {"README.md": "# Words\n\nAnd no code.\n"}])
def test_a_tree_without_comments_history_or_functions_gives_no_more_than_what_it_lacks(
    tmp_path: Path, plain: Settings, files: dict[str, str | bytes]
) -> None:
    with made(write_tree(tmp_path / "tree", files), plain) as found:
        assert all(question.missing for question in found.questions)
        assert found.removed_questions == ()
        assert "This tree has no comments, history or names that could be asked for." in found.notes
        assert any(note.startswith("No function could be taken out") for note in found.notes)


def test_making_questions_can_be_stopped_and_leaves_nothing(tmp_path: Path, plain: Settings) -> None:
    tree = write_tree(tmp_path / "tree", dict(STORE))
    with pytest.raises(Cancelled), question_set(tree, plain, ignore_progress, lambda: True):
        pytest.fail("it was not stopped")
    assert not list(plain.data.glob("evaluation-*"))


def commit(root: Path, message: str, at: int) -> None:
    when = f"{1_700_000_000 + at * 3600} +0000"
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    for arguments in (("add", "--all"), ("commit", "--quiet", "--message", message, "--date", when)):
        subprocess.run(
            ["git", *who, "-C", str(root), *arguments],
            env={**os.environ, "GIT_COMMITTER_DATE": when},
            timeout=60,
            check=True,
        )


def test_a_later_commit_is_asked_for_the_functions_that_it_changes(tmp_path: Path, plain: Settings) -> None:
    root = write_tree(tmp_path / "tree", dict(STORE))
    subprocess.run(["git", "init", "--quiet", str(root)], timeout=60, check=True)
    commit(root, "Begin", 0)
    steps = ("int later;\n", "int latest;\n", "count / 3", "count / 4")
    store = STORE["src/store.cc"]
    for number, step in enumerate(steps, 1):
        store = re.sub(r"count / \d", step, store) if "/" in step else store + step
        (root / "src/store.cc").write_text(store)
        commit(root, f"Let spilling write more pairs at once\n\nStep {step}.", number)
    with made(root, plain) as found:
        changes = of(found, Stratum.COMMIT)
        # The second of the two asked for replaces a line that only the first one wrote.
        assert [question.gold for question in changes.values()] == [(Span("src/store.cc", 10, 15),)]
        assert found.revision is not None
