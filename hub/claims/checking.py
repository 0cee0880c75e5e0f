"""The checks of one text, put together. Pure: the tree is asked through callables."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from hub.claims.model import Checks, Claim, Finding, Known, Truth
from hub.claims.names import CODE_WORD, LANGUAGE, NAME, cut_off
from hub.claims.parts import parts_of, untouched
from hub.claims.reading import OPERATOR, PATH, Sentence, asked, read
from hub.model import Citation
from indexer.model import Span

FEWEST_WORDS = 3  # of a code span that counts as a quote: 2 to 6
BLOCK_LINES = 0.5  # 0 to 1; share of a code block's lines that must stand in the evidence before the rest is doubted

_TOKEN = re.compile(r"\w+|[^\w\s]")
_QUALIFIER = re.compile(r"\b[A-Za-z_]\w*\s*::\s*")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_ELISION = re.compile(r"\.\.\.|\u2026")
_COMMAND = re.compile(
    r"(?:git|cmake|make|ninja|cd|pip|npm|bazel|gcc|g\+\+|clang|apt|brew|docker|python3?|codehub|\./)\b|\S+ -{1,2}\w"
)
_EXAMPLE = re.compile(
    r"\b(?:for example|e\.g|example|could|should|can|would|might|usage|use it|like this|instead|suggest|such as"
    r"|something)\b",
    re.IGNORECASE,
)
_SHORT_LINE = re.compile(r"[\s{}();]*$")
_YES = re.compile(r"\W*(?:yes|yeah|correct|right|indeed|true)\b", re.IGNORECASE)
_NO = re.compile(r"\W*(?:no\b(?!\s+\w+\s+(?:call|deriv|overrid))|incorrect\b|it (?:does|is) not\b)", re.IGNORECASE)
_LABELS = re.compile(r"\s?\[[0-9][0-9, \t]{0,80}\]")
_DIGITS = re.compile(r"(?<![\w.])(?:0[xX][0-9a-fA-F']+|[0-9][0-9']*(?:\.[0-9]+)?)")
_PLAIN_NUMBER = {"0": "zero", "1": "one", "2": "two", "3": "three"}


def check(
    known: Known,
    question: str,
    text: str,
    citations: Sequence[Citation],
    evidence: Sequence[tuple[Citation, str]],
    unresolved: Sequence[str] = (),
) -> Checks:
    """What holds and what does not of ``text``, whose labels ``[n]`` mean ``citations``.

    ``evidence`` is what the prompt has shown, ``unresolved`` the labels that were taken out of the text because they
    name nothing that was shown.
    """
    named = tuple(dict.fromkeys(_names(question)))
    told = read(text, named[0] if len(named) == 1 else "")
    pages = _Pages(known, citations, evidence)
    edges = [_judged(known, claim) for claim in told.claims] + list(_agreed(known, question, text))
    quotes: list[Finding] = []
    apart: list[Finding] = []
    for sentence in told.sentences:
        found, elsewhere = _quoted(pages, sentence)
        quotes += found
        apart += elsewhere or _apart(pages, sentence)
    for block, before in told.blocks:
        quotes += _block(pages, block, before)
    pack, repository, nowhere = _sorted_names(known, question, text, evidence)
    parts = parts_of(question)
    return Checks(
        resolved=len({label for sentence in told.sentences for label in sentence.labels} & pages.labels),
        unresolved=tuple(unresolved),
        apart=tuple(dict.fromkeys(apart)),
        quotes_right=_of(quotes, Truth.RIGHT),
        quotes_wrong=_of(quotes, Truth.WRONG),
        names_in_pack=pack,
        names_in_repository=repository,
        names_nowhere=nowhere,
        edges_right=_of(edges, Truth.RIGHT),
        edges_wrong=_of(edges, Truth.WRONG),
        edges_unknown=_of(edges, Truth.UNKNOWN),
        parts=len(parts),
        unanswered=untouched(parts, text, told.claims),
    )


class _Pages:
    """What a text cites, and what else it was shown."""

    def __init__(self, known: Known, citations: Sequence[Citation], evidence: Sequence[tuple[Citation, str]]) -> None:
        self._known = known
        self._cited = {citation.label: citation for citation in citations}
        self.evidence = evidence
        self._plain: dict[str, str] = {}

    @property
    def labels(self) -> set[int]:
        return set(self._cited)

    def cited(self, labels: Iterable[int]) -> tuple[str, tuple[Span, ...]]:
        """The text that labels cite with the names that it stands under, and its places; "" where it is not known."""
        citations = [self._cited[label] for label in labels if label in self._cited]
        texts = [self._text(citation.span) for citation in citations]
        if not all(texts):
            return "", ()
        titles = (f"{citation.span.path} {citation.symbol}" for citation in citations)
        return "\n".join((*texts, *titles)), tuple(citation.span for citation in citations)

    def plain(self, text: str) -> str:
        """The text's tokens with one space around each, without comments and qualifiers."""
        found = self._plain.get(text)
        if found is None:
            found = self._plain[text] = _tokens(text)
        return found

    @cached_property
    def everything(self) -> str:
        """All of the evidence, as ``plain`` has it."""
        return "\n".join(self.plain(text) for _, text in self.evidence)

    def _text(self, span: Span) -> str:
        for citation, text in self.evidence:
            shown = citation.span
            if shown.path == span.path and shown.first_line <= span.first_line and span.last_line <= shown.last_line:
                lines = text.split("\n")
                return "\n".join(lines[span.first_line - shown.first_line : span.last_line - shown.first_line + 1])
        return self._known.lines(span)


def _judged(known: Known, claim: Claim) -> Finding:
    told = known.edge(claim)
    # A pronoun may mean something else than the last subject: then the claim is not wrong, it was misread.
    truth = Truth.UNKNOWN if claim.guessed and told.truth is Truth.WRONG else told.truth
    return Finding(str(claim), claim.sentence, truth, told.places)


def _agreed(known: Known, question: str, text: str) -> Iterator[Finding]:
    """What the answer says with "yes" or "no" alone."""
    says = Truth.RIGHT if _YES.match(text) else Truth.WRONG if _NO.match(text) else None
    if says is None:
        return
    for claim in asked(question):
        told = known.edge(claim)
        truth = told.truth
        if truth is not Truth.UNKNOWN:
            truth = Truth.RIGHT if truth is says else Truth.WRONG
        stated = str(claim) if says is Truth.RIGHT else f"not: {claim}"
        yield Finding(stated, text.strip().split("\n", 1)[0][:200], truth, told.places)


def _of(findings: Iterable[Finding], truth: Truth) -> tuple[Finding, ...]:
    return tuple(dict.fromkeys(finding for finding in findings if finding.truth is truth))


# Names


def _names(text: str) -> Iterator[str]:
    for match in CODE_WORD.finditer(PATH.sub("0", text)):
        yield from NAME.findall(next(group for group in match.groups() if group))


def _sorted_names(
    known: Known, question: str, text: str, evidence: Sequence[tuple[Citation, str]]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The names that a text says: in what was shown, elsewhere in the tree, nowhere."""
    shown = LANGUAGE | set(NAME.findall(question))
    for citation, piece in evidence:
        shown |= set(NAME.findall(piece)) | set(NAME.findall(f"{citation.span.path} {citation.symbol}"))
    pack: list[str] = []
    repository: list[str] = []
    nowhere: list[str] = []
    for name in dict.fromkeys(_names(_LABELS.sub("", text))):
        if name not in LANGUAGE and not (name not in shown and cut_off(name, text, shown)):
            (pack if name in shown else repository if known.stands(name) else nowhere).append(name)
    return tuple(pack), tuple(repository), tuple(nowhere)


# Quotes


def _quoted(pages: _Pages, sentence: Sentence) -> tuple[list[Finding], list[Finding]]:
    """The quotes of a sentence, right and wrong, and those that stand elsewhere than cited."""
    found: list[Finding] = []
    elsewhere: list[Finding] = []
    text, places = pages.cited(sentence.labels)
    if not text or _EXAMPLE.search(sentence.text):
        return found, elsewhere
    for code in sentence.code:
        if not _is_quote(code):
            continue
        finding = Finding(f"`{code}`", sentence.text, Truth.RIGHT, places)
        if _stands(code, pages.plain(text)):
            found.append(finding)
        elif _stands(code, pages.everything):
            elsewhere.append(replace(finding, truth=Truth.WRONG))
        else:
            found.append(replace(finding, truth=Truth.WRONG))
    for value in sentence.values:
        finding = Finding(value, sentence.text, Truth.RIGHT, places)
        if _says(value, text):
            found.append(finding)
        elif not any(_says(value, piece) for _, piece in pages.evidence):
            found.append(replace(finding, truth=Truth.WRONG))
    return found, elsewhere


def _block(pages: _Pages, block: str, before: Sentence) -> list[Finding]:
    """A code block is a quote where most of it stands in the evidence; otherwise it is an example, and says nothing."""
    lines = [line for line in _COMMENT.sub("", block).split("\n") if not _SHORT_LINE.match(line)]
    held = [_stands(line, pages.everything) for line in lines]
    if not lines or sum(held) < BLOCK_LINES * len(lines) or (not all(held) and _EXAMPLE.search(before.text)):
        return []
    _, places = pages.cited(before.labels)
    wrong = [line.strip() for line, good in zip(lines, held, strict=True) if not good]
    if wrong:
        return [Finding(f"`{line}`", before.text, Truth.WRONG, places) for line in wrong]
    return [Finding(f"a block of {len(lines)} lines", before.text, Truth.RIGHT, places)]


def _is_quote(code: str) -> bool:
    if _COMMAND.match(code):
        return False
    words = code.split()
    names = [word for word in NAME.findall(code) if word not in LANGUAGE]
    return bool(names) and (len(words) >= FEWEST_WORDS or OPERATOR.search(code) is not None)


def _stands(code: str, plain: str) -> bool:
    """Whether code stands in a text of tokens, each part of it where something was left out of it."""
    parts = [_tokens(part.strip().rstrip(";{}").strip()) for part in _ELISION.split(code)]
    return all(part in plain for part in parts if part.strip())


def _tokens(text: str) -> str:
    return f" {' '.join(_TOKEN.findall(_QUALIFIER.sub('', _COMMENT.sub(' ', text))))} "


def _says(value: str, text: str) -> bool:
    """Whether a text holds a string, or a number in any spelling."""
    if not re.match(r"-?[0-9]", value):
        return value.strip(" .,") in text
    wanted = _number(value)
    word = _PLAIN_NUMBER.get(value)
    written = [_number(match.group()) for match in _DIGITS.finditer(text)]
    if wanted is None or wanted in written or (word is not None and re.search(rf"\b{word}\b", text) is not None):
        return True
    # Products and shifts, such as 4 * 1024 and 1 << 12, are written in two numbers.
    products = re.finditer(r"\b([0-9]+)(?:[uUlL]*) ?(\*|<<) ?([0-9]+)", text)
    return any(
        wanted == (int(a) * int(b) if sign == "*" else int(a) << min(64, int(b)))
        for a, sign, b in (m.groups() for m in products)
    )


def _number(written: str) -> float | None:
    plain = written.strip().lstrip("-").replace("'", "").replace(",", "").replace("_", "")
    try:
        return float(int(plain, 16)) if plain[:2] in {"0x", "0X"} else float(plain)
    except ValueError:
        return None


def _apart(pages: _Pages, sentence: Sentence) -> list[Finding]:
    """A sentence whose names stand nowhere in the lines that it cites."""
    text, places = pages.cited(sentence.labels)
    names = [name.rpartition("::")[2].lstrip("~") for name in sentence.names]
    if not text or not names:
        return []
    held = set(NAME.findall(text))
    if held.isdisjoint(names) and not any(name in text for name in names):
        return [Finding(", ".join(sentence.names[:3]), sentence.text, Truth.WRONG, places)]
    return []
