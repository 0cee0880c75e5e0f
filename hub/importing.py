"""Documents from outside the tree as parts that may be kept: Markdown, reStructuredText, text, HTML and PDF.

A file is read in a process of its own, which may take so much memory and time and is ended after it; what it says is
believed to be text and nothing else. LlamaIndex's readers and parsers do the reading. Knows nothing of who keeps what,
nor where.
"""

import io
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hub.auth.keys import written_time
from hub.errors import KnowledgeError
from hub.knowledge import Anchor, Anchored, Draft, Entry, EntryKind, Source
from hub.knowledge.lasting import MOST_EVIDENCE
from hub.knowledge.words import MOST_TITLE_CHARS, in_one_line, title_and_text
from hub.reasons import without_front_matter
from indexer.documents import parse_document
from indexer.model import Language, SourceFile
from indexer.processes import follow_the_parent, interrupts_held_back

MOST_BYTES = 20_000_000  # of a file; 1 to 100 million
MOST_PARTS = 400  # of a file: fewer than one key may have waiting for a review
MOST_PAGES = 1_000
MOST_CHARS = 3_500  # of a part; longer sections are cut between lines or sentences. 1,000 to 12,000
MOST_SECONDS = 60.0  # that reading may take; 10 to 600
MOST_MEMORY = 1 << 30  # bytes beyond what the readers take themselves
LINES = ".jsonl"  # the form that entries are handed on in
LINES_FORM = 1
_MOST_SENT = 64_000_000  # bytes that the process may tell
_ENDED_IN_S = 5.0

_MARKDOWN, _RST, _PLAIN, _HTML, _PDF = "markdown", "rst", "text", "html", "pdf"
FORMS = {
    ".md": _MARKDOWN,
    ".markdown": _MARKDOWN,
    ".rst": _RST,
    ".txt": _PLAIN,
    ".html": _HTML,
    ".htm": _HTML,
    ".pdf": _PDF,
}
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_TAGS = (*_HEADINGS, "p", "li", "pre", "td", "th", "dt", "dd", "blockquote")
_INLINE = ("a", "abbr", "b", "cite", "code", "em", "i", "kbd", "q", "s", "small", "span", "strong", "sub", "sup", "u")
_UNSEEN = ("script", "style", "template", "noscript")
_EXTRA = "Install the extra `documents`: pip install 'code-knowledge-hub[documents]'."


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a document. ``where`` is its heading path or page, and told apart from others by it."""

    where: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A file as it was read."""

    digest: str  # SHA-256 of its bytes, in hexadecimal
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What taking a document in changes: what is new, what stays as it is, and what has no successor."""

    drafts: tuple[Draft, ...]
    unchanged: tuple[Entry, ...]
    gone: tuple[Entry, ...]


def read(file: Path, seconds: float = MOST_SECONDS, memory: int = MOST_MEMORY) -> Document:
    """The parts of a file. Raises KnowledgeError: for a form that is none of FORMS, for what is too large or damaged or
    takes longer or more memory than it may, and where what reads it is not installed.
    """
    if file.suffix.lower() not in FORMS:
        raise KnowledgeError(f"{file.name} is of no form that can be read.", f"There are: {', '.join(sorted(FORMS))}.")
    try:
        size = file.stat().st_size
        content = file.read_bytes() if size <= MOST_BYTES else b""
    except OSError as error:
        raise KnowledgeError(f"{file} cannot be read: {error.strerror}.", "Name a file that there is.") from None
    if size > MOST_BYTES:
        raise KnowledgeError(
            f"{file.name} has {size:,} bytes; {MOST_BYTES:,} are the most.", "Take in the part of it that matters."
        )
    parts = [Part(in_one_line(where), text) for where, text in _told_apart(file, seconds, memory)]
    if not parts:
        raise KnowledgeError(f"{file.name} holds no text.", "A scanned document needs to be recognised first.")
    if len(parts) > MOST_PARTS:
        raise KnowledgeError(
            f"{file.name} has {len(parts):,} parts; {MOST_PARTS} are the most.", "Take in the part of it that matters."
        )
    return Document(sha256(content).hexdigest(), tuple(_told_from_others(parts)))


def planned(document: Document, name: str, kind: EntryKind, known: Sequence[Entry]) -> Plan:
    """What taking a document in under a name changes, where ``known`` is what that name gave before.

    A part that says what it said is left alone. Any other takes the place of the part with the same heading or page;
    what has none any more is replaced by the first new part, or is gone where there is none.
    """
    left = {(entry.title, entry.text): entry for entry in known}
    drafts: list[Draft] = []
    unchanged = []
    for part in document.parts:
        title, text = title_and_text(f"{name}: {part.where}"[:MOST_TITLE_CHARS], part.text)
        same = left.pop((title, text), None)
        if same is not None:
            unchanged.append(same)
            continue
        source = Source(name, part.where, document.digest)
        drafts.append(Draft(kind, title, text, evidence=(f"{name}, {part.where}",), source=source))
    over = {entry.source.part: entry for entry in left.values() if entry.source}
    placed = []
    for draft in drafts:
        old = over.pop(draft.source.part, None) if draft.source else None
        placed.append(replace(draft, supersedes=(old.id,)) if old else draft)
    gone = tuple(over.values())
    if placed and gone:
        more = (*placed[0].supersedes, *(entry.id for entry in gone))
        placed[0] = replace(placed[0], supersedes=tuple(sorted(more)))
        gone = ()
    return Plan(tuple(placed), tuple(unchanged), gone)


def lines_of(entries: Iterable[Entry]) -> Iterator[str]:
    """Entries as JSON, a line each, which ``drafts_of`` reads: what they say, who says so, and of which code."""
    for entry in entries:
        shape = {
            "form": LINES_FORM,
            "kind": entry.kind.value,
            "title": entry.title,
            "text": entry.text,
            "about": [[each.anchor.symbol, each.anchor.path, each.anchor.line, each.digest] for each in entry.anchors],
            "commit": entry.commit,
            "evidence": list(entry.evidence),
            "expires_at": entry.expires_at,
            "author": entry.author,
            "reviewer": entry.reviewer,
            "created_at": entry.created_at,
            "source": [entry.source.name, entry.source.part, entry.source.digest] if entry.source else None,
        }
        yield json.dumps(shape, ensure_ascii=False)


def drafts_of(text: str, now: float) -> tuple[Draft, ...]:
    """What lines of JSON hold that has not expired, each with who said so there. Raises KnowledgeError."""
    drafts = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                drafts.append(_draft_of(json.loads(line)))
            except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
                raise KnowledgeError(
                    f"Line {number} is no entry.", "Take a file that `codehub knowledge export` wrote."
                ) from None
    return tuple(draft for draft in drafts if draft.expires_at is None or draft.expires_at > now)


def _draft_of(told: dict[str, Any]) -> Draft:
    """Raises ValueError, KeyError, TypeError or OverflowError for what is none."""
    if told["form"] != LINES_FORM:
        raise ValueError
    by = f", accepted by {told['reviewer']}" if told["reviewer"] else ""
    said = f"written {written_time(float(told['created_at']))} by {told['author']}{by}"
    return Draft(
        EntryKind(told["kind"]),
        str(told["title"]),
        str(told["text"]),
        tuple(
            Anchored(Anchor(str(symbol), str(path), int(line)), str(digest))
            for symbol, path, line, digest in told["about"]
        ),
        str(told["commit"]),
        (*map(str, told["evidence"]), said)[:MOST_EVIDENCE],
        None if told["expires_at"] is None else float(told["expires_at"]),
        source=Source(*map(str, told["source"])) if told["source"] else None,
    )


def parts_of(file: Path) -> Iterator[tuple[str, str]]:
    """Place and text of each part, read in this process and without any bound. Raises whatever its reader raises."""
    yield from _READERS[FORMS[file.suffix.lower()]]()(file)


def _told_from_others(parts: Iterable[Part]) -> Iterator[Part]:
    """The same, those numbered that have the same place as one before."""
    seen: dict[str, int] = {}
    for part in parts:
        seen[part.where] = seen.get(part.where, 0) + 1
        yield part if seen[part.where] == 1 else replace(part, where=f"{part.where} ({seen[part.where]})")


# The process


def _told_apart(file: Path, seconds: float, memory: int) -> list[tuple[str, str]]:
    """Place and text of each part that says something, as a process of its own tells them. Raises KnowledgeError."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, str(file), int(seconds) + 1, memory), daemon=True)
    try:
        with interrupts_held_back():
            process.start()
        sender.close()
        if not receiver.poll(seconds):
            raise KnowledgeError(
                f"{file.name} takes more than {seconds:.0f} s to read.", "Take in a smaller part of it."
            )
        told: dict[str, Any] = json.loads(receiver.recv_bytes(_MOST_SENT))
    except (EOFError, OSError, ValueError):
        raise KnowledgeError(
            f"{file.name} cannot be read: it takes more memory than it may, or is damaged.",
            "Take in a smaller part of it, or make the file anew.",
        ) from None
    finally:
        receiver.close()
        if process.pid is not None:
            process.kill()
            process.join(_ENDED_IN_S)
    if "error" in told:
        raise KnowledgeError(f"{file.name}: {told['error']}", told["hint"])
    return [(str(where), str(text)) for where, text in told["parts"] if str(text).strip()]


def _work(sender: Connection, file: str, seconds: int, memory: int) -> None:
    """Reads the file within its bounds and tells its parts, or what is wrong with it."""
    follow_the_parent()
    # Whatever a damaged file makes a reader raise ends this process, and its end is all that has to be told of it.
    sys.stderr = io.StringIO()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    try:
        reader = _READERS[FORMS[Path(file).suffix.lower()]]()
        _bound(seconds, memory)
        told: dict[str, object] = {"parts": list(reader(Path(file)))}
    except ImportError:
        told = {"error": "reading it needs more than is installed.", "hint": _EXTRA}
    except MemoryError:
        told = {"error": "it takes more memory than it may.", "hint": "Take in a smaller part of it."}
    sender.send_bytes(json.dumps(told).encode("utf-8", "replace"))


def _bound(seconds: int, memory: int) -> None:
    """Bounds what this process may take from now on, where the system can."""
    if sys.platform == "linux":
        import resource  # noqa: PLC0415 - not everywhere

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


# The forms. Each loads its library when it is made, which counts for no file.

_Reader = Callable[[Path], Iterable[tuple[str, str]]]


def _markdown() -> _Reader:
    from hub.llama import split_markdown  # noqa: PLC0415 - takes seconds

    cut = _splitter()

    def parts(file: Path) -> Iterator[tuple[str, str]]:
        for piece in split_markdown(without_front_matter(_text(file)), MOST_CHARS):
            for text in cut(piece.text) if len(piece.text) > MOST_CHARS else [piece.text]:  # a line may be longer
                yield " > ".join(piece.headings) or "beginning", text

    return parts


def _underlined() -> _Reader:
    cut = _splitter()

    def parts(file: Path) -> Iterator[tuple[str, str]]:
        text = _text(file)
        lines = text.split("\n")
        found = parse_document(SourceFile(file.name, Language.RST, len(text), 0, "", text))
        begins = [(symbol.span.first_line, symbol.qualified_name.replace("::", " > ")) for symbol in found.symbols]
        marks = [(1, "beginning"), *begins, (len(lines) + 1, "")]
        for (first, name), (after, _) in pairwise(marks):
            for piece in cut("\n".join(lines[first - 1 : after - 1])):
                yield name, piece

    return parts


def _plain() -> _Reader:
    cut = _splitter()

    def parts(file: Path) -> Iterator[tuple[str, str]]:
        for number, piece in enumerate(cut(_text(file)), 1):
            yield f"part {number}", piece

    return parts


def _html() -> _Reader:
    from bs4 import BeautifulSoup  # noqa: PLC0415 - not everywhere
    from llama_index.core.node_parser import HTMLNodeParser  # noqa: PLC0415 - takes seconds
    from llama_index.core.schema import Document as Page  # noqa: PLC0415

    parser = HTMLNodeParser(tags=list(_TAGS))
    cut = _splitter()

    def parts(file: Path) -> Iterator[tuple[str, str]]:
        path: list[str] = []
        text: list[str] = []
        soup = BeautifulSoup(_text(file), "html.parser")
        for unseen in soup.find_all(_UNSEEN):
            unseen.decompose()
        for inline in soup.find_all(_INLINE):  # of which the parser would begin new lines
            inline.unwrap()
        soup.smooth()
        for node in parser.get_nodes_from_documents([Page(text=str(soup))]):
            tag, said = str(node.metadata.get("tag", "")), str(node.get_content())
            if tag in _HEADINGS:
                for piece in cut("\n\n".join(text)):
                    yield " > ".join(path) or "beginning", piece
                path, text = [*path[: int(tag[1]) - 1], " ".join(said.split())], []
            else:
                text.append(said)
        for piece in cut("\n\n".join(text)):
            yield " > ".join(path) or "beginning", piece

    return parts


def _pdf() -> _Reader:
    from llama_index.readers.file import PDFReader  # noqa: PLC0415 - takes seconds

    cut = _splitter()

    def parts(file: Path) -> Iterator[tuple[str, str]]:
        for number, page in enumerate(PDFReader().load_data(file)[:MOST_PAGES], 1):
            for piece in cut(page.text):
                yield f"page {number}", piece

    return parts


def _splitter() -> Callable[[str], list[str]]:
    """Cuts between sentences. Tokens are characters, so that no vocabulary has to be fetched."""
    from llama_index.core.node_parser import SentenceSplitter  # noqa: PLC0415 - takes seconds

    splitter = SentenceSplitter(
        chunk_size=MOST_CHARS,
        chunk_overlap=0,
        tokenizer=list,
        chunking_tokenizer_fn=lambda text: text.splitlines(keepends=True),
    )
    return lambda text: splitter.split_text(text) if text.strip() else []


def _text(file: Path) -> str:
    return file.read_bytes().decode("utf-8", "replace").replace("\r\n", "\n").removeprefix("\ufeff")


_READERS: dict[str, Callable[[], _Reader]] = {
    _MARKDOWN: _markdown,
    _RST: _underlined,
    _PLAIN: _plain,
    _HTML: _html,
    _PDF: _pdf,
}
