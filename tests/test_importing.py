"""Documents from outside the tree: read in a process that may be ended, kept as a batch that can be taken back."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from agents.command import main
from hub import importing
from hub.errors import KnowledgeError
from hub.importing import Document, Part, drafts_of, lines_of, parts_of, planned, read
from hub.knowledge import EntryKind, Source
from hub.knowledge.model import Draft
from hub.reasons import front_matter, without_front_matter
from tests.support.trees import COUNTER, index_of, write_tree

SECRET = "ghp_" + "a1B2" * 9
Shell = Callable[..., tuple[int, str, str]]


def pdf_of(*pages: str) -> bytes:
    """A PDF with these pages, a line of text for each line."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for page in pages:
        lines = "".join(f"({line}) Tj 0 -14 Td " for line in page.split("\n"))
        stream = f"BT /F1 12 Tf 72 720 Td {lines}ET"
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        fonts = f"<< /Font << /F1 3 0 R >> >> /Contents {len(objects)} 0 R"
        objects.append(f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources {fonts} >>")
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    written, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(written))
        written += f"{number} 0 obj\n{each}\nendobj\n".encode()
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    end = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(written)}\n%%EOF\n"
    return written + head + table + end.encode()


def parts(folder: Path, name: str, content: str | bytes) -> list[tuple[str, str]]:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(parts_of(file))


# What is read


def test_markdown_is_cut_at_its_headings_and_front_matter_is_no_part_of_it(tmp_path: Path) -> None:
    text = (
        "---\nkind: decision\n---\nBefore.\n\n# Locks\n\nTaken once.\n\n## Order\n\nA before B.\n\n    # no heading\n"
    )
    assert parts(tmp_path, "a.md", text) == [
        ("beginning", "Before.\n"),
        ("Locks", "# Locks\n\nTaken once.\n"),
        ("Locks > Order", "## Order\n\nA before B.\n\n    # no heading\n"),
    ]


def test_restructured_text_is_cut_at_its_underlined_headings(tmp_path: Path) -> None:
    text = "Locks\n=====\n\nTaken once.\n\nOrder\n-----\n\nA before B.\n"
    assert parts(tmp_path, "a.rst", text) == [
        ("Locks", "Locks\n=====\n\nTaken once."),
        ("Locks > Order", "Order\n-----\n\nA before B."),
    ]


def test_html_is_read_as_a_reader_sees_it(tmp_path: Path) -> None:
    text = (
        "<html><head><title>No</title><script>alert(1)</script><style>p{}</style></head><body><p>Before.</p>"
        "<h1>Locks</h1><p>Taken <b>once</b> &amp; let go.</p><h2>Order</h2><ul><li>A</li><li>B</li></ul>"
        "<h1>More</h1><p>End.</p></body></html>"
    )
    assert parts(tmp_path, "a.html", text) == [
        ("beginning", "Before."),
        ("Locks", "Taken once & let go."),
        ("Locks > Order", "A\nB"),
        ("More", "End."),
    ]


@pytest.mark.parametrize("name", ["a.md", "a.rst", "a.txt", "a.html"])
def test_no_part_is_longer_than_an_entry_may_be_and_no_word_is_lost(name: str, tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(4_000)]
    text = f"{' '.join(words)}" if name != "a.html" else f"<p>{' '.join(words)}</p>"
    found = parts(tmp_path, name, text)
    assert max(len(said) for _, said in found) <= importing.MOST_CHARS
    assert " ".join(said for _, said in found).split() == words


def test_a_pdf_is_read_page_by_page_in_a_process_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "a.pdf"
    file.write_bytes(pdf_of("The lock is taken.\nIt is let go.", "", "Third page."))
    found = read(file)
    assert found.parts == (Part("page 1", "The lock is taken.\nIt is let go."), Part("page 3", "Third page."))
    assert len(found.digest) == 64


def test_what_takes_too_long_is_ended_and_what_is_too_large_or_of_no_form_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (("a.txt", b"text"), ("a.docx", b"text"), ("big.txt", b"x" * 101)):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(KnowledgeError, match="takes more than"):
        read(tmp_path / "a.txt", seconds=0.0)
    with pytest.raises(KnowledgeError, match="of no form"):
        read(tmp_path / "a.docx")
    with pytest.raises(KnowledgeError, match="cannot be read"):
        read(tmp_path / "none.txt")
    monkeypatch.setattr(importing, "MOST_BYTES", 100)
    with pytest.raises(KnowledgeError, match="101 bytes"):
        read(tmp_path / "big.txt")


def test_a_process_that_dies_of_a_file_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.odd").write_bytes(b"text")
    monkeypatch.setitem(importing.FORMS, ".odd", "text")  # here alone: the process knows no such form, and dies of it
    with pytest.raises(KnowledgeError, match=r"a\.odd cannot be read"):
        read(tmp_path / "a.odd")


@given(some.text(alphabet="-: ab\n#\t'", max_size=60))
def test_front_matter_is_read_and_left_out_alike(text: str) -> None:
    rest = without_front_matter(text)
    assert text.endswith(rest)
    assert (rest == text) or text.startswith("---")
    for name, value in front_matter(text).items():
        assert name
        assert value
        assert name in text[: len(text) - len(rest)].lower()


# What it changes


def taken(*parts: tuple[str, str]) -> Document:
    return Document("d" * 64, tuple(Part(where, text) for where, text in parts))


def test_a_document_is_planned_as_what_is_new_what_stays_and_what_has_no_successor() -> None:
    plan = planned(taken(("A", "one"), ("B", "two")), "guide.md", EntryKind.STANDARD, ())
    assert [(draft.title, draft.text, draft.evidence) for draft in plan.drafts] == [
        ("guide.md: A", "one", ("guide.md, A",)),
        ("guide.md: B", "two", ("guide.md, B",)),
    ]
    assert plan.drafts[0].source == Source("guide.md", "A", "d" * 64)


# The command


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Runs an action in this process, reading files here, too: code, stdout, stderr."""
    (tmp_path / "data").mkdir()
    index_of(write_tree(tmp_path / "tree", dict(COUNTER)), tmp_path / "data")
    for name, value in (("HOME", str(tmp_path)), ("CODEHUB_EMBEDDINGS", "none"), ("CODEHUB_BACKEND", "none")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(importing, "_told_apart", lambda file, _seconds, _memory: list(parts_of(file)))

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        data = [] if "--data" in arguments else ["--data", str(tmp_path / "data")]
        code = main(["knowledge", *map(str, arguments), *data])
        return code, *capsys.readouterr()

    return call


def held(shell: Shell) -> dict[str, str]:
    """State by title, of all that is kept."""
    told = json.loads(shell("list", "--all", "--json")[1])["entries"]
    return {f"{entry['id']} {entry['title']}": entry["state"] for entry in told}


def test_what_a_file_says_again_stays_what_it_says_anew_replaces_and_the_batch_can_be_taken_back(
    shell: Shell, tmp_path: Path
) -> None:
    file = tmp_path / "guide.md"
    file.write_text(f"# Locks\n\nTaken once.\n\n# Names\n\nIn full.\n\n# Old\n\nGoes. {SECRET}\n")
    assert shell("import", file, "--accept")[0] == 0
    first = held(shell)
    assert set(first.values()) == {"accepted"}
    assert SECRET not in shell("show", "3")[1]
    assert "3 as they were" in shell("import", file)[1], "the same file is nothing new"
    assert held(shell) == first
    file.write_text("# Locks\n\nTaken twice.\n\n# Names\n\nIn full.\n")
    again = json.loads(shell("import", file, "--accept", "--json")[1])
    assert [(entry["title"], entry["supersedes"]) for entry in again["entries"]] == [("guide.md: Locks", [1, 3])]
    assert again["unchanged"] == [2]
    assert held(shell) == {
        "1 guide.md: Locks": "superseded",
        "2 guide.md: Names": "accepted",
        "3 guide.md: Old": "superseded",
        "4 guide.md: Locks": "accepted",
    }
    assert again["entries"][0]["source"]["name"] == "guide.md"
    shell("rollback", again["batch"])
    assert held(shell) == {**first, "4 guide.md: Locks": "retired"}


def test_a_part_that_is_gone_and_has_no_successor_is_retired(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "guide.md"
    file.write_text("# Locks\n\nTaken once.\n\n# Old\n\nGoes.\n")
    shell("import", file, "--accept")
    file.write_text("# Locks\n\nTaken once.\n")
    assert "0 new, 1 as they were, 1 retired" in shell("import", file)[1]
    assert held(shell)["2 guide.md: Old"] == "retired"


def test_a_document_of_the_tree_is_not_kept_twice(shell: Shell, tmp_path: Path) -> None:
    code, _, said = shell("import", tmp_path / "tree" / "README.md")
    assert code == 2
    assert "stands in the tree" in said
    assert held(shell) == {}


def test_what_is_exported_is_imported_elsewhere_with_who_said_so_and_of_which_code(
    shell: Shell, tmp_path: Path
) -> None:
    shell("add", "Increment wraps.", "--about", "Increment", "--evidence", "run r1", "--accept")
    shell("add", "Only proposed.")
    assert shell("export", tmp_path / "kept.jsonl")[0] == 0
    assert (tmp_path / "kept.jsonl").stat().st_mode & 0o777 == 0o600
    assert shell("export")[1] == (tmp_path / "kept.jsonl").read_text()
    (line,) = (tmp_path / "kept.jsonl").read_text().splitlines()
    (tmp_path / "other").mkdir()
    index_of(write_tree(tmp_path / "tree", dict(COUNTER)), tmp_path / "other")
    shell("import", tmp_path / "kept.jsonl", "--accept", "--data", tmp_path / "other")
    (entry,) = json.loads(shell("list", "--json", "--data", tmp_path / "other")[1])["entries"]
    assert entry["text"] == "Increment wraps."
    assert entry["drift"] == []
    assert entry["about"][0]["symbol"] == "app::Counter::Increment"
    assert entry["evidence"][0] == "run r1"
    assert "accepted by" in entry["evidence"][1]
    assert json.loads(line)["text"] == "Increment wraps."


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "{}", '{"form": 2}', '{"form": 1, "kind": "hearsay"}', "[" * 100_000, "1e999", '{"form": 1e999}'],
)
def test_a_line_that_is_no_entry_is_named(line: str) -> None:
    with pytest.raises(KnowledgeError, match="Line 2 is no entry"):
        drafts_of(f"\n{line}\n", 0.0)
    assert list(lines_of(())) == []
    assert drafts_of("\n\n", 0.0) == ()
    assert Draft(EntryKind.GOTCHA, "", "x").source is None
