"""What a text asserts of code, and what the tables say of that. The sentences stand in tests/cases/claims_*.md."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.claims import NOTHING_KNOWN, Checks, Claim, Known, Relation, Truth, check, known_of
from hub.claims.parts import parts_of, untouched
from hub.claims.reading import asked, read
from hub.model import Citation
from indexer.index import DataFolder, Index
from indexer.model import Span
from tests.support import cases
from tests.support.trees import index_of, write_tree

# Sentences


def compared(text: str) -> tuple[int, int, int, list[str]]:
    """How many claims were to be read, were read, and were read in vain, and what is not as it should be."""
    wanted_in_all = found_in_all = vain = 0
    deviations = []
    for line in text.splitlines():
        sentence, _, told = line.partition("=>")
        wanted = {claim.strip() for claim in told.split(";") if claim.strip()}
        found = {str(claim) for claim in read(sentence.strip()).claims}
        wanted_in_all += len(wanted)
        found_in_all += len(wanted & found)
        vain += len(found - wanted)
        deviations += [f"missed: {claim} ({sentence.strip()})" for claim in sorted(wanted - found)]
        deviations += [f"in vain: {claim} ({sentence.strip()})" for claim in sorted(found - wanted)]
    return wanted_in_all, found_in_all, vain, deviations


CASES = cases.load("claims_*.md")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sentences_are_read_for_what_they_claim(case: cases.Case) -> None:
    wanted, found, vain, deviations = compared(case.text)
    cases.check(case, f"{found} of {wanted}, {vain} in vain\n" + "".join(f"{line}\n" for line in deviations))


def test_of_all_sentences_nearly_all_claims_are_read_and_nearly_none_in_vain() -> None:
    totals = [compared(case.text)[:3] for case in CASES]
    wanted, found, vain = (sum(column) for column in zip(*totals, strict=True))
    assert sum(len(case.text.splitlines()) for case in CASES) >= 150
    assert found >= 0.9 * wanted
    assert vain <= 0.03 * found


def test_a_list_under_a_heading_is_read_item_by_item() -> None:
    text = "`Get` is called by:\n- `Read` in src/a.cc:3\n- `Peek`, which also calls `Log`\n\nIt calls:\n1. `Find`\n"
    found = {str(claim): claim.guessed for claim in read(text).claims}
    assert found == {
        "Read calls Get": False,
        "Peek calls Get": False,
        "Peek calls Log": False,
        "Get calls Find": True,  # "it" may mean something else
    }


def test_a_pronoun_means_what_the_sentence_before_or_the_question_is_about() -> None:
    (claim,) = read("It calls `Find`.", "Cache::Get").claims
    assert (str(claim), claim.guessed) == ("Cache::Get calls Find", True)
    assert read("It calls `Find`.").claims == ()


@pytest.mark.parametrize(
    ("question", "claims"),
    [
        ("Does `Get` call `Find`?", ["Get calls Find"]),
        ("Is `Find` called by `Get`?", ["Get calls Find"]),
        ("Is `FileSink` derived from `Sink`?", ["FileSink derives from Sink"]),
        ("Is `FileSink` a subclass of `Sink`?", ["FileSink derives from Sink"]),
        ("Does FileSink::Write override Sink::Write?", ["FileSink::Write overrides Sink::Write"]),
        ("What does `Get` call?", []),
        ("How does `Get` use `Find`?", []),
    ],
)
def test_a_question_of_yes_or_no_suggests_a_claim(question: str, claims: list[str]) -> None:
    assert [str(claim) for claim in asked(question)] == claims


WORDS = st.sampled_from(
    """`A::b` |`c` |calls |is called by |derives from |, |and |. |\n|- |the |method |of |'s |[1] |src/a.cc:3 |```\n|it
    |It |not |If |overrides |: |callers |`x = y` |(|)|which |**|is defined in |\ue000|\uf8ff|e.g. |?|1. """.split("|")
)


@given(st.lists(WORDS, max_size=40).map("".join))
def test_whatever_is_read_was_written(text: str) -> None:
    told = read(text, "Topic")
    for claim in told.claims:
        for name in (claim.subject, claim.object):
            assert name == "Topic" or all(part in text for part in name.split("::"))
    names = [name for sentence in told.sentences for name in sentence.names]
    assert all(part in text for name in names for part in name.split("::"))
    assert not any("\ue000" <= sign <= "\uf8ff" for s in told.sentences for sign in s.text)
    check(NOTHING_KNOWN, text, text, (), ())


# Looked up

TREE: dict[str, str | bytes] = {
    "src/sink.h": "#pragma once\nclass Lockable {};\n\nclass Sink {\n public:\n  virtual ~Sink();\n"
    "  virtual void Write(int line) = 0;\n  virtual void Flush();\n};\n\n"
    "class FileSink : public Sink {\n public:\n  void Write(int line) override;\n  void Close();\n\n private:\n"
    "  int limit_ = 4096;\n};\n\nclass Loose : public Outside {\n public:\n  void Write(int line);\n};\n",
    "src/sink.cc": '#include "sink.h"\n\nnamespace {\n'
    "void Encode(int line) { Emit(line); }\n}\n\n"
    "void Sink::Flush() {}\n\nvoid FileSink::Write(int line) {\n  if (line > limit_) Flush();\n  Encode(line);\n"
    "  memcpy(line);\n  auto keep = &Prepare;\n}\n\n"
    "void FileSink::Close() {\n  // Encode comes later.\n  Write(0);\n}\n\n"
    "void Emit(int line) {}\nvoid Prepare() {}\nvoid Alone() { Emit(1); }\n",
}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    folder = tmp_path_factory.mktemp("claims")
    index_of(write_tree(folder / "tree", TREE), folder / "data")
    with Index.for_reading(DataFolder(folder / "data"), "w") as index:
        yield known_of(index)


def truth(known: Known, sentence: str) -> list[tuple[str, Truth]]:
    return [(str(claim), known.edge(claim).truth) for claim in read(sentence).claims]


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        ("`FileSink::Write` calls `Encode`.", Truth.RIGHT),
        ("`FileSink::Write` calls `Flush`.", Truth.RIGHT),
        ("`Sink::Flush` is called by `FileSink::Write`.", Truth.RIGHT),
        ("`FileSink` calls `Encode`.", Truth.RIGHT),  # a member of it does
        ("`FileSink::Write` calls `memcpy`.", Truth.RIGHT),  # outside the tree, and written there
        ("`FileSink::Write` calls `Alone`.", Truth.WRONG),
        ("`Encode` calls `FileSink::Write`.", Truth.WRONG),
        ("`FileSink::Write` calls `strlen`.", Truth.WRONG),
        ("`FileSink::Write` calls `Emit`.", Truth.UNKNOWN),  # through Encode
        ("`FileSink::Write` eventually calls `Emit`.", Truth.RIGHT),
        ("`FileSink::Write` calls `Prepare`.", Truth.UNKNOWN),  # it is named there
        ("`FileSink::Close` calls `Encode`.", Truth.UNKNOWN),  # its comment says so
        ("`FileSink` calls `Alone`.", Truth.UNKNOWN),
        ("`Nobody` calls `Encode`.", Truth.UNKNOWN),
        ("`Alone` calls `FileSink`.", Truth.UNKNOWN),  # a constructor needs no written call
        ("`FileSink` derives from `Sink`.", Truth.RIGHT),
        ("`Sink` derives from `FileSink`.", Truth.WRONG),
        ("`FileSink` derives from `Lockable`.", Truth.WRONG),
        ("`FileSink` derives from `Stream`.", Truth.WRONG),
        ("`Loose` derives from `Outside`.", Truth.RIGHT),
        ("`Loose` derives from `Sink`.", Truth.UNKNOWN),  # what Outside derives from is not known
        ("`FileSink` implements `Write`.", Truth.UNKNOWN),  # a method, not a class
        ("`FileSink::Write` overrides `Sink::Write`.", Truth.RIGHT),
        ("`FileSink` overrides `Write`.", Truth.RIGHT),
        ("`Sink::Write` is overridden by `FileSink`.", Truth.RIGHT),
        ("`FileSink::Close` overrides `Sink::Flush`.", Truth.WRONG),
        ("`FileSink` overrides `Flush`.", Truth.UNKNOWN),
        ("`Loose::Write` overrides `Sink::Write`.", Truth.UNKNOWN),
        ("`Encode` is defined in src/sink.cc.", Truth.RIGHT),
        ("`Encode` is defined in `sink.cc:4`.", Truth.RIGHT),
        ("`Encode` is defined in src/sink.cc:3-5.", Truth.RIGHT),
        ("`Encode` is defined in src/sink.cc:6.", Truth.UNKNOWN),  # nearly
        ("`Encode` is defined in src/sink.cc:19.", Truth.WRONG),
        ("`Encode` is defined in src/sink.h.", Truth.WRONG),
        ("`FileSink::Write` is defined in src/sink.h.", Truth.UNKNOWN),  # declared there
        ("`FileSink::Write` is declared in src/sink.h:13.", Truth.RIGHT),
        ("`src/sink.cc` includes `sink.h`.", Truth.RIGHT),
        ("`src/sink.h` includes `sink.cc`.", Truth.WRONG),
        ("`src/none.cc` includes `sink.h`.", Truth.UNKNOWN),
    ],
)
def test_the_tables_confirm_deny_or_leave_a_claim_open(known: Known, sentence: str, told: Truth) -> None:
    ((_, found),) = truth(known, sentence)
    assert found is told


def test_what_was_found_says_where(known: Known) -> None:
    def places(sentence: str) -> tuple[Span, ...]:
        (claim,) = read(sentence).claims
        return known.edge(claim).places

    assert places("`FileSink::Write` calls `Encode`.") == (Span("src/sink.cc", 11, 11),)
    assert places("`FileSink::Write` calls `Alone`.") == (Span("src/sink.cc", 9, 14),)
    assert places("`FileSink` derives from `Sink`.") == (Span("src/sink.h", 11, 11),)
    assert places("`Encode` is defined in src/sink.h.") == (Span("src/sink.cc", 4, 4),)


# A whole text

WRITE = Span("src/sink.cc", 9, 14)
CITED = (Citation(1, WRITE, "FileSink::Write"), Citation(2, Span("src/sink.h", 11, 18), "FileSink"))


def checks(known: Known, text: str, question: str = "What does `FileSink::Write` do?") -> Checks:
    return check(known, question, text, CITED, [(citation, known.lines(citation.span)) for citation in CITED])


def test_a_right_text_passes_every_check(known: Known) -> None:
    found = checks(
        known,
        "`FileSink::Write` calls `Encode` [1]. There it says `if (line > limit_) Flush();` [1]. "
        "`limit_` is set to 4096 [2].\n```cpp\nEncode(line);\nmemcpy(line);\n```\n",
    )
    assert not found.failed
    assert (found.resolved, found.unresolved, found.apart, found.unanswered) == (2, (), (), ())
    assert [finding.claim for finding in found.edges_right] == ["FileSink::Write calls Encode"]
    assert [finding.claim for finding in found.quotes_right] == [
        "`if (line > limit_) Flush();`",
        "4096",
        "a block of 2 lines",
    ]
    assert found.names_nowhere == ()


@pytest.mark.parametrize(
    ("text", "field", "claim"),
    [
        ("There it says `if (line < limit_) Flush();` [1].", "quotes_wrong", "`if (line < limit_) Flush();`"),
        ("`limit_` is set to 4095 [2].", "quotes_wrong", "4095"),
        ('It returns "never written" [1].', "quotes_wrong", "never written"),
        ("Thus [1]:\n```\nEncode(line);\nmemcpy(other);\n```", "quotes_wrong", "`memcpy(other);`"),
        ("There it says `if (line > limit_) Flush();` [2].", "apart", "`if (line > limit_) Flush();`"),
        ("It is `Prepare` that counts [2].", "apart", "Prepare"),
        ("`FileSink::Write` calls `Alone` [1].", "edges_wrong", "FileSink::Write calls Alone"),
    ],
)
def test_what_is_untrue_of_a_text_is_told_with_its_sentence(known: Known, text: str, field: str, claim: str) -> None:
    found = checks(known, text)
    (finding,) = getattr(found, field)
    assert (finding.claim, finding.truth) == (claim, Truth.WRONG)
    assert finding.sentence in text or field == "quotes_wrong"
    assert finding.places


@pytest.mark.parametrize(
    "text",
    [
        "For example, `if (line < limit_) Stop();` would do [1].",  # an example is no quote
        "Run `cmake --build build` [1].",
        "It takes a `const std::string&` [1].",
        "`Write(int line)` is what counts [1].",  # a signature
        "Use it so:\n```\nFileSink sink;\nsink.Write(5);\nsink.Close();\n```",
        "`limit_` is set to 4,096 [2].",
        "`limit_` defaults to 0x1000 [2].",
        "`if (line > limit_) ...` guards it [1].",  # something left out
        "`if (line > FileSink::limit_)` guards it [1].",  # qualified
    ],
)
def test_what_quotes_nothing_or_the_same_in_other_words_is_not_doubted(known: Known, text: str) -> None:
    found = checks(known, text)
    assert (found.quotes_wrong, found.apart) == ((), ())


def test_names_are_told_apart_by_where_they_stand(known: Known) -> None:
    found = checks(known, "`Encode` and `Alone` and `Vanish` in `src/sink.cc:4` return `nullptr`; `limit_` too.")
    assert found.names_in_pack == ("Encode", "limit_")
    assert found.names_in_repository == ("Alone",)
    assert found.names_nowhere == ("Vanish",)


def test_a_name_that_the_end_of_the_text_cuts_off_stands_nowhere_and_is_not_doubted(known: Known) -> None:
    assert checks(known, "It calls `Encode` and FileSink::Wri").names_nowhere == ()
    assert checks(known, "It calls `Encode` and FileSink::Wri.").names_nowhere == ("Wri",)


def test_yes_and_no_are_judged_by_what_the_question_suggests(known: Known) -> None:
    right, wrong = "Does `FileSink::Write` call `Encode`?", "Does `FileSink::Write` call `Alone`?"
    assert [f.claim for f in checks(known, "Yes, it does [1].", right).edges_right] == ["FileSink::Write calls Encode"]
    assert [f.claim for f in checks(known, "Yes, it does [1].", wrong).edges_wrong] == ["FileSink::Write calls Alone"]
    assert [f.claim for f in checks(known, "No [1].", wrong).edges_right] == ["not: FileSink::Write calls Alone"]
    assert [f.claim for f in checks(known, "No [1].", right).edges_wrong] == ["not: FileSink::Write calls Encode"]
    assert checks(known, "It may [1].", wrong).edges_wrong == ()


def test_a_claim_of_a_pronoun_is_never_wrong() -> None:
    lying = Known(lambda _name: True, lambda _claim: known_wrong, lambda _span: "")
    known_wrong = NOTHING_KNOWN.edge(Claim(Relation.CALLS, "a", "b", ""))
    known_wrong = type(known_wrong)(Truth.WRONG, ())
    assert check(lying, "", "`A` waits. It calls `B`.", (), ()).edges_wrong == ()
    assert check(lying, "", "`A` calls `B`.", (), ()).edges_wrong


# Parts of a question


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        ("What does `Get` do and who calls it?", ["What does `Get` do", "who calls it"]),
        ("Where is `Get` defined? How does it evict?", ["Where is `Get` defined", "How does it evict"]),
        ("How do readers and writers share the table?", ["How do readers and writers share the table"]),
        ("", []),
    ],
)
def test_a_question_is_taken_apart_where_another_one_begins(question: str, parts: list[str]) -> None:
    assert [part.text for part in parts_of(question)] == parts


@pytest.mark.parametrize(
    ("question", "text", "left"),
    [
        ("What does `Get` do and who calls it?", "`Get` looks a key up [1].", ["who calls it"]),
        ("What does `Get` do and who calls it?", "`Get` looks a key up. `Read` calls it [1].", []),
        ("What does `Get` do and what does `Put` do?", "`Get` looks a key up [1].", ["what does `Put` do"]),
        (
            "Why is the cache bounded, and how are entries evicted?",
            "The oldest entry leaves first.",
            ["Why is the cache bounded"],
        ),
        (
            "Why is the cache bounded, and how are entries evicted?",
            "A cache grows. Eviction starts with the oldest.",
            [],
        ),
        ("What derives from `Sink`?", "`Sink` writes lines.", ["What derives from `Sink`"]),
        ("What derives from `Sink`?", "`FileSink` inherits from it.", []),
    ],
)
def test_parts_that_a_text_does_not_touch_are_named(question: str, text: str, left: list[str]) -> None:
    assert list(untouched(parts_of(question), text, read(text).claims)) == left
