"""What hits of a real index can be shown as."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hub.backends.evidence_only import EvidenceOnlyBackend
from hub.evidence.pieces import pieces
from hub.model import Hit, Rendering
from hub.prompting import Passage, pack
from hub.retrieval import retrieve, understand
from indexer.index import DataFolder, Index
from indexer.model import Span
from tests.support.library import hit, library_index, passage
from tests.support.trees import index_of, write_tree

METHODS = "".join(f"  int Field{number}(int key, const std::string& text) const;\n" for number in range(6))
TREE: dict[str, str | bytes] = {
    "a.h": "#pragma once\nnamespace app {\nclass Ring {\n public:\n  /// Makes room for so many entries;\n"
    f"  /// those that are there stay.\n  void Reserve(int entries);\n{METHODS}  struct Slot {{ int at; }};\n"
    " private:\n  int first_ = 0;\n  int last_ = 0;\n};\n"
    "}  // namespace app\n",
    "a.cc": '#include "a.h"\nnamespace app {\n\nvoid Ring::Reserve(int entries) {\n  if (entries < 0) {\n'
    "    return;\n  }\n  Grow(entries);\n}\n\n}  // namespace app\n",
}


@contextmanager
def indexed(folder: Path, tree: dict[str, str | bytes]) -> Iterator[Index]:
    index_of(write_tree(folder / "tree", tree), folder / "data")
    with Index.for_reading(DataFolder(folder / "data"), "w") as index:
        yield index


def found(index: Index, question: str) -> dict[str, Passage]:
    """The passages for a question, by the place of their first lines."""
    hits = retrieve(index, understand(question), (), 50).hits
    passages = pieces(index, hits)
    assert [one.body[0].span for one in passages] == [one.chunk.span for one in hits]
    assert [one.score for one in passages] == [one.score for one in hits]
    return {f"{one.body[0].span.path}:{one.body[0].span.first_line}": one for one in passages}


def test_a_definition_comes_with_the_comment_at_its_declaration(tmp_path: Path) -> None:
    with indexed(tmp_path, TREE) as index:
        defined = next(one for one in found(index, "app::Ring::Reserve").values() if one.body[0].span.path == "a.cc")
    assert defined.symbol == "app::Ring::Reserve"
    (told,) = defined.body[1:]
    assert told.span == Span("a.h", 5, 7)
    assert told.text == (
        "  /// Makes room for so many entries;\n  /// those that are there stay.\n  void Reserve(int entries);"
    )


def test_a_function_has_a_signature_and_a_class_has_parts(tmp_path: Path) -> None:
    with indexed(tmp_path, TREE) as index:
        passages = found(index, "app::Ring::Reserve entries")
    defined = next(one for one in passages.values() if one.body[0].span.path == "a.cc")
    assert [stretch.text.split("\n")[-1] for stretch in defined.brief] == ["void Ring::Reserve(int entries) {"]
    assert defined.parts == ()
    declared = passages["a.h:1"]
    assert [(part.symbol, part.stretch.span.first_line, part.stretch.span.last_line) for part in declared.parts] == [
        ("app::Ring", 3, 3),
        ("app::Ring::Reserve", 5, 7),
        *((f"app::Ring::Field{number}", 8 + number, 8 + number) for number in range(6)),
        ("app::Ring::Slot::at", 14, 14),
        ("app::Ring::first_", 16, 17),
    ]
    lines = declared.body[0].text.split("\n")
    assert all(
        part.stretch.text == "\n".join(lines[part.stretch.span.first_line - 1 : part.stretch.span.last_line])
        for part in declared.parts
    )


def test_a_question_about_one_member_of_a_class_is_answered_with_that_member(tmp_path: Path) -> None:
    question = "How is room made for entries that stay?"
    with indexed(tmp_path, TREE) as index:
        hits = retrieve(index, understand(question), (), 50).hits
        passages = [one for one in pieces(index, hits) if one.body[0].span.path == "a.h"]
    best = passage("int x = 1;\n", "z.cc", score=99.0)
    room = pack(question, [best], 10_000, len).tokens + 300
    prompt = pack(question, [best, *passages], room, len)
    assert [citation.symbol for citation in prompt.citations[1:]] == ["app::Ring::Reserve"]
    assert prompt.renderings[1] is Rendering.BODY


COPIED = "int Sum(const int* first, const int* last) {\n  int sum = 0;\n  for (; first != last; ++first) {\n" + "".join(
    f"    sum += weigh_{number}(*first) * scale_{number};\n" for number in range(12)
)


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        (COPIED, True),
        (COPIED.replace("weigh_3", "weigh_other"), True),
        (COPIED.replace("weigh_", "count_"), False),
        (COPIED * 2, False),
        ("int Sum();\n", False),
    ],
)
def test_what_nearly_repeats_a_better_hit_is_known(tmp_path: Path, other: str, *, alike: bool) -> None:
    hits = [hit(COPIED, "a.cc"), hit("int unlike = 1;\n", "c.cc"), hit(other, "b.cc")]
    with indexed(tmp_path, {"a.cc": "int x;\n"}) as index:
        passages = pieces(index, hits)
    assert [one.like for one in passages] == [None, None, Span("a.cc", 1, COPIED.count("\n")) if alike else None]


def test_no_hits_make_no_passages(tmp_path: Path) -> None:
    with indexed(tmp_path, {"a.cc": "int x;\n"}) as index:
        assert pieces(index, ()) == ()


def test_a_library_packs_into_any_budget_that_holds_its_question(tmp_path: Path) -> None:
    question = "Which entry is evicted first?"
    with library_index(tmp_path) as index:
        hits: tuple[Hit, ...] = retrieve(index, understand(question), (), 50).hits
        passages = pieces(index, hits)
    empty = pack(question, (), 10_000, len).tokens
    for room in range(0, 4_000, 97):
        prompt = pack(question, passages, empty + room, len)
        assert prompt.tokens <= empty + room
    assert prompt.citations[0].symbol == "app::Cache::EvictOldest"
    assert prompt.user.rindex(prompt.evidence[0]) > prompt.user.rindex("F1 is ")


def test_the_example_in_the_papers_is_what_is_packed(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parent.parent
    shown = (root / "docs" / "packing.md").read_text(encoding="utf-8").split("```\n")[1]
    question = "Who waits for a flush?"
    shutil.copytree(root / "sample_repo", tmp_path / "tree", ignore=shutil.ignore_patterns("build"))
    index_of(tmp_path / "tree", tmp_path / "data")
    with Index.for_reading(DataFolder(tmp_path / "data"), "w") as index:
        passages = pieces(index, retrieve(index, understand(question), (), 100).hits)
    prompt = pack(question, passages, 1_300, EvidenceOnlyBackend().count_tokens)
    parts = shown.removesuffix("\n").split("...\n")
    places = [prompt.user.find(part) for part in parts]
    assert len(parts) > 2
    assert -1 not in places
    assert places == sorted(places)
