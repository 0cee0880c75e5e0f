"""An output made readable: lines without colours, paths as the tree has them, and what was found so far.

Knows no tool's format. Whatever stands in an output is bounded here once: its length, its lines, what is kept of it.
"""

import posixpath
import re
from dataclasses import dataclass, field

from agents.model import Finding, FindingKind
from hub.prompting import visible

MOST_CHARS = 1_000_000  # that are read: half from the beginning and half from the end of what is longer
MOST_LINE = 2_000  # characters of a line; what templates add beyond is no news
MOST_FINDINGS = 100  # errors, crashes and tests before warnings
MOST_DRAFTS = 1_000  # that are looked at before equal ones are put together
MOST_MESSAGE = 400
MOST_DETAIL_LINES = 30
MOST_DETAIL_LINE = 240
MOST_PLACES = 60  # of one finding that are weighed
MOST_NAMES = 8

# CSI, OSC (links of clang and gcc among them) and the two-character escapes of ECMA-48.
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;:?<=>]{0,40}[ -/]{0,4}[@-~]|\][^\x07\x1b\n]{0,2000}(?:\x07|\x1b\\)|[@-Z\\^_c])")
_OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\n\r])")  # progress that a terminal would have written over
_SYSTEM = re.compile(r"/(?:usr|lib\d*|opt|nix|snap|etc|proc|build/(?:gcc|glibc|llvm)|Library|Applications)/")
# Folders of the C library and of compilers, whose frames name files as they were where those were built.
_FOREIGN = re.compile(r"(?:^|/)(?:sysdeps|nptl|csu|libsanitizer|compiler-rt)/|/include/c\+\+/")
_ENTERING = re.compile(
    r"(?:g?make|ninja)(?:\[\d+\])?: (?P<what>Entering|Leaving) directory [`'\"](?P<path>[^`'\"]{1,500})"
)
_CLANG = re.compile(
    r"^\d{1,6} (?:error|warning)s?(?: and \d{1,6} errors?)? generated|clang(?:\+\+)?(?:-\d+)?: (?:error"
    r"|warning)|/clang\+\+",
    re.MULTILINE,
)
_OPERATOR = re.compile(r"\boperator\b")
_DECORATION = re.compile(
    r"^(?:(?:VTT|vtable|typeinfo(?: name)?|construction vtable|guard variable|(?:non-)?virtual thunk|covariant"
    r" return thunk"
    r"|TLS (?:init|wrapper) function)(?: for| to) |protected symbol |hidden symbol )+"
)
_SIGN = re.compile(
    r"\s*(?:\(\)|\[\]|<=>|<<=?|>>=?|->\*?|&&|\|\||\+\+|--|[-+*/%^&|=!<>]=|[-+*/%^&|~!=<>,]"
    r"|\"\"\s?\w{1,80}|\s[\w:*& ]{1,80})"
)
_NAME = re.compile(r"~?[A-Za-z_][\w.]*(?:::~?[A-Za-z_][\w.]*){0,40}(?:::operator.{1,80})?|operator.{1,80}")
_KEYWORDS = frozenset(
    """auto bool char class const constexpr delete double else enum explicit extern false final float for friend if int
    inline long namespace new noexcept nullptr operator override private protected public return short signed sizeof
    static struct template this throw true typename union unsigned using virtual void volatile while type value std
    size_t string""".split()
)
_MARKS = re.compile(
    r"\[abi:\w{1,40}\]|\s*\[clone [^\]\n]{0,80}\]|\(anonymous namespace\)::|\{anonymous\}::|<unnamed>::"
)


@dataclass(slots=True)
class Draft:
    """A finding that is still being put together."""

    kind: FindingKind
    tool: str
    message: str
    path: str = ""
    line: int = 0
    test: str = ""
    detail: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # as the output spells them
    at: int = 0  # the line of the output that it stands on
    consequence: bool = False  # it tells only that something else failed

    def place(self, path: str, line: int) -> None:
        """Takes the place where it has none yet, and the path lies in the tree."""
        if path and not self.path:
            self.path, self.line = path, line

    def tell(self, line: str) -> None:
        if line.strip() and len(self.detail) < MOST_DETAIL_LINES:
            self.detail.append(line.rstrip()[:MOST_DETAIL_LINE])

    def name(self, text: str) -> None:
        plain = plain_name(text)
        if plain and plain not in self.names and len(self.names) < MOST_NAMES:
            self.names.append(plain)


class Output:
    """The lines of a readable output, and what they were found to tell."""

    def __init__(self, text: str, root: str) -> None:
        self.lines = text.split("\n")
        self.drafts: list[Draft] = []
        self.clang = _CLANG.search(text) is not None
        self.compiled: tuple[Draft | None, int] = (None, 0)  # the last error of a compiler, and the line after it
        self.linking = ("", "")  # the object, and the function in it, that a linker is about
        self.test = ""  # the one that runs, as far as a framework told
        self.framework = ""
        self.started = 0  # the line that it began on
        self.loose: list[Draft] = []  # failures whose test is told after them
        self.tests_failed: dict[str, Draft] = {}
        self.first_of_test = 0  # number of the first draft that a line about the end of a test may be about
        self.enclosing: Draft | None = None  # what CTest says of the test whose output this is
        self.within: dict[int, list[Draft]] = {}  # by identity of that
        self._root = root.rstrip("/") + "/" if root else ""
        self._folders: list[str] = []

    def line(self, at: int) -> str:
        return self.lines[at] if 0 <= at < len(self.lines) else ""

    def add(self, draft: Draft, at: int) -> Draft:
        draft.at = at
        if len(self.drafts) < MOST_DRAFTS:
            self.drafts.append(draft)
        return draft

    def enclose(self, before: int) -> None:
        """Notes that the drafts from there on stand in the output of CTest's test."""
        if self.enclosing is not None:
            inside = [draft for draft in self.drafts[before:] if draft is not self.enclosing]
            self.within.setdefault(id(self.enclosing), []).extend(inside)

    def path(self, written: str) -> str:
        """The path as the tree has it; "" for one outside of it. Without a root an absolute path stays as it is."""
        path = written.strip().replace("\\", "/")
        if self._root and (path + "/").startswith(self._root):
            return posixpath.normpath(path[len(self._root) :] or ".")
        if path.startswith("/"):
            return "" if self._root or _SYSTEM.match(path) or _FOREIGN.search(path) else posixpath.normpath(path)
        if not path or path.startswith("<") or _FOREIGN.search(path):
            return ""
        folder = self._folders[-1] if self._folders else ""
        joined = posixpath.normpath(posixpath.join(folder, path))
        while joined.startswith("../"):
            joined = joined[3:]
        return "" if joined in (".", "..") else joined

    def directory(self, at: int) -> bool:
        """Follows ``make`` and ninja into the folder that the paths of their programs are relative to."""
        found = _ENTERING.match(self.lines[at]) if "directory" in self.lines[at] else None
        if not found:
            return False
        if found["what"] == "Leaving":
            del self._folders[-1:]
        elif len(self._folders) < 100:
            inside = self.path(found["path"])
            self._folders.append("" if inside == "." else inside)
        return True


def readable(text: str) -> str:
    """The text bounded, without what only a terminal acts upon, its covert characters spelt out."""
    if len(text) > MOST_CHARS:
        text = f"{text[: MOST_CHARS // 2]}\n{text[-MOST_CHARS // 2 :]}"
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    text = text.replace("\r\n", "\n")
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return visible(text)


def plain_name(text: str) -> str:
    """``vtable for ns::Foo<int>`` and ``ns::Foo<int>::bar(char const*) const`` as ns::Foo and ns::Foo::bar.

    "" for what is no name of C++.
    """
    name = _DECORATION.sub("", _MARKS.sub("", text[:MOST_LINE].strip().strip("`'\"\u2018\u2019")))
    operator = _OPERATOR.search(name)
    sign = ""
    if operator:
        found = _SIGN.match(name, operator.end())
        sign = f"operator{found.group().strip()}" if found else ""
        name = name[: operator.start()]
    plain = (_without_arguments(name).rpartition(" ")[2] + sign).strip("*&:")
    return plain if _NAME.fullmatch(plain) and plain not in _KEYWORDS else ""


def _without_arguments(name: str) -> str:
    """The name up to its parameters, without what stands in angle brackets. One step for each bracket."""
    kept: list[str] = []
    depth = start = 0
    for found in re.finditer(r"[<>(]", name):
        if found.group() == "<":
            if not depth:
                kept.append(name[start : found.start()])
            depth += 1
        elif found.group() == ">":
            if depth and name[found.start() - 1 : found.start()] != "-":
                depth -= 1
                start = found.end()
        elif not depth:
            kept.append(name[start : found.start()])
            return "".join(kept)
    if not depth:
        kept.append(name[start:])
    return "".join(kept)


def finished(output: Output) -> tuple[Finding, ...]:
    """What was found, equal ones once, the worst first and then in order; consequences only where nothing else is."""
    drafts = [draft for draft in output.drafts if not draft.consequence] or output.drafts[:1]
    found: dict[tuple[object, ...], Finding] = {}
    for draft in drafts:
        message = " ".join(draft.message.split())[:MOST_MESSAGE]
        finding = Finding(
            kind=draft.kind,
            message=message,
            tool=draft.tool,
            path=draft.path,
            line=draft.line,
            test=draft.test[:MOST_MESSAGE],
            detail="\n".join(draft.detail),
            symbols=tuple(draft.names),
        )
        same = (finding.kind, finding.path, finding.line, message, finding.test)
        if same in found:
            if len(finding.detail) > len(found[same].detail):
                found[same] = finding
            continue
        found[same] = finding
    ranked = sorted(found.values(), key=lambda each: each.kind is FindingKind.WARNING)
    return tuple(ranked[:MOST_FINDINGS])
