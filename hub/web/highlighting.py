"""Source text as HTML: each token in a span of its class, each line in an element of its number.

Linear on any text: a token's end is found once, and what never ends goes to the end of the text. Knows nothing of
pages, and never lets a character of the source become markup.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import PurePosixPath

from markupsafe import Markup

from hub.prompting.layout import visible

_KEYWORDS = frozenset(
    "alignas alignof asm auto break case catch class co_await co_return co_yield concept const const_cast consteval"
    " constexpr constinit continue decltype default delete do dynamic_cast else enum explicit export extern false final"
    " for friend goto if import inline module mutable namespace new noexcept nullptr operator override private"
    " protected public register reinterpret_cast requires return sizeof static static_assert static_cast struct switch"
    " template this thread_local throw true try typedef typeid typename union using virtual volatile while"
    " and and_eq bitand bitor compl not not_eq or or_eq xor xor_eq".split()
)
_TYPES = frozenset(
    "bool char char8_t char16_t char32_t double float int long short signed unsigned void wchar_t size_t ssize_t"
    " ptrdiff_t nullptr_t int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t intptr_t uintptr_t".split()
)
# The groups name classes of the style sheet. What a comment or a raw string ends with is looked for apart, so that
# openers that nothing closes cost one search and not one each.
_CPP = re.compile(
    r"""
    (?P<comment>//(?:[^\n\\]|\\[\s\S])*+)
  | (?P<block>/\*)
  | (?P<raw>(?:u8|[uUL])?R"(?P<mark>[^()\\\s"]{0,16})\()
  | (?P<string>(?:u8|[uUL])?"(?:[^"\\\n]|\\[\s\S])*+"?|(?:u8|[uUL])?'(?:[^'\\\n]|\\[\s\S])*+'?)
  | (?P<number>\.?\d(?:[eEpP][+-]|'(?=\w)|[\w.])*+)
  | (?P<directive>(?m:^)[ \t]*+\#[ \t]*+[a-z]*+)
  | (?P<word>[^\W\d]\w*+)
    """,
    re.VERBOSE,
)
_CMAKE = re.compile(r'(?P<comment>\#[^\n]*+)|(?P<string>"(?:[^"\\]|\\[\s\S])*+"?)|(?P<call>[A-Za-z_]\w*+(?=[ \t]*+\())')
_PROSE = re.compile(r"(?P<heading>(?m:^)\#{1,6}[ ][^\n]*+)|(?P<string>`[^`\n]*+`)")
_INCLUDED = re.compile(r"[ \t]*+<[^>\n]*+>")
_CALLED = re.compile(r"\s{0,8}+\(")
_MACRO = re.compile(r"[A-Z][A-Z0-9_]{2,}+")
_LARGEST = 1_000_000  # characters that are coloured; what is longer is shown plain
_BY_SUFFIX = {".cmake": _CMAKE, ".md": _PROSE, ".markdown": _PROSE, ".rst": _PROSE, ".txt": _PROSE}
_BY_NAME = {"CMakeLists.txt": _CMAKE}


@dataclass(frozen=True, slots=True)
class Code:
    """Highlighted lines. ``html`` is one element a line, with ``data-line`` and, where asked for, an id "L<number>"."""

    html: Markup
    first_line: int
    last_line: int  # less than first_line where there is no text

    @property
    def count(self) -> int:
        return self.last_line - self.first_line + 1


def highlight(text: str, path: str, first_line: int = 1, marked: range = range(0), *, linked: bool = False) -> Code:
    """The text of a file from ``first_line`` on. ``marked`` lines stand out; ``linked`` lines can be pointed at.

    Covert characters are spelt out as in a prompt, and can be told from the same letters typed as text.
    """
    lines = _lines(text, _language(path))
    if lines and not lines[-1]:
        lines.pop()
    made = []
    for number, line in enumerate(lines, first_line):
        anchor = f' id="L{number}"' if linked else ""
        classes = "line mark" if number in marked else "line"
        made.append(f'<span class="{classes}"{anchor} data-line="{number}">{line}\n</span>')
    return Code(Markup("".join(made)), first_line, first_line + len(lines) - 1)  # noqa: S704 - every text in it was escaped


def _language(path: str) -> re.Pattern[str]:
    name = PurePosixPath(path).name
    return _BY_NAME.get(name) or _BY_SUFFIX.get(PurePosixPath(path).suffix.lower(), _CPP)


def _lines(text: str, language: re.Pattern[str]) -> list[str]:
    """HTML of each line; the last is empty where the text ends with a line end."""
    text = text.replace("\r\n", "\n")
    tokens = _tokens(text, language) if len(text) <= _LARGEST else iter([("", text)])
    parts: list[str] = []
    for kind, token in tokens:
        shown = _escaped(token)
        if not kind:
            parts.append(shown)
        elif "\n" in shown:  # a token over several lines is one on each
            parts.append("\n".join(f'<span class="{kind}">{line}</span>' if line else "" for line in shown.split("\n")))
        else:
            parts.append(f'<span class="{kind}">{shown}</span>')
    return "".join(parts).split("\n")


def _escaped(token: str) -> str:
    if token.isascii() and token.isprintable():
        return escape(token)
    shown = visible(token)
    if shown == token:
        return escape(token)
    # The letters of an escape that the source itself spells out stay as they are: only what changed is marked.
    return "".join(
        escape(character)
        if (spelt := visible(character)) == character
        else f'<span class="covert" title="a character that does not show">{spelt}</span>'
        for character in token
    )


def _tokens(text: str, language: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """(class, text) of all of the text in order; the class is "" for what stands out by nothing."""
    done = 0  # how much was yielded
    position = 0
    while found := language.search(text, position):
        start = found.start()
        kind, position = _token(found, text)
        if kind:
            if start > done:
                yield "", text[done:start]
            yield kind, text[start:position]
            done = position
            if kind == "directive" and (included := _INCLUDED.match(text, position)):
                yield "string", included[0]
                done = position = included.end()
    if done < len(text):
        yield "", text[done:]


def _token(found: re.Match[str], text: str) -> tuple[str, int]:
    """The class of what was found, and where it ends."""
    match found.lastgroup:
        case "block":
            return "comment", _after(text, "*/", found.end())
        case "raw":
            return "string", _after(text, f'){found["mark"]}"', found.end())
        case "word":
            return _kind_of_word(found[0], text, found.end()), found.end()
        case kind:
            return kind or "", found.end()


def _after(text: str, closing: str, start: int) -> int:
    end = text.find(closing, start)
    return len(text) if end < 0 else end + len(closing)


def _kind_of_word(word: str, text: str, end: int) -> str:
    if word in _KEYWORDS:
        return "keyword"
    if word in _TYPES:
        return "type"
    if _MACRO.fullmatch(word):
        return "macro"
    return "call" if _CALLED.match(text, end) else ""
