"""Makes of C++ with macros and conditionals a text that a grammar without a preprocessor can read.

Every byte keeps its offset: what is out of place becomes spaces, and here and there one of them a semicolon, a comma or
a keyword that says to the grammar what a macro would have said. What was blanked is reported, so that no use of a macro
and no namespace that a macro opened is lost. A wrong guess costs a word in the tree, never in the text that is shown.
It knows nothing of tree-sitter's tree.
"""

import re
from typing import NamedTuple

from indexer.cpp.arguments import are_odd, are_parameters, as_expressions, as_parameters, split
from indexer.cpp.candidates import WORD_BYTES, Candidate, Sound, candidates
from indexer.cpp.conditionals import Selection, readings, tested_names
from indexer.cpp.gaps import GAP_WORDS, gaps
from indexer.cpp.lexing import Directive, Structure, all_but, blanked, directives, skeleton, without_comments
from indexer.cpp.macros import BUILTIN, Kind, Macros, Meaning, Scope


class MacroUse(NamedTuple):
    name: str
    start: int  # byte offset


class VirtualScope(NamedTuple):
    """A namespace or linkage block whose braces stood in macros. Offsets in bytes, ``end`` exclusive."""

    start: int
    end: int
    scopes: tuple[Scope, ...]  # outermost first

    @property
    def names(self) -> tuple[str, ...]:
        """The parts of the scope's name that a developer types: not those of inline and unnamed namespaces."""
        return tuple(scope.name for scope in self.scopes if scope.name and not scope.inline)


class Branch(NamedTuple):
    """Another reading of the file, for the facts that stand within the ranges alone."""

    code: bytes
    ranges: tuple[tuple[int, int], ...]  # byte offsets, ends exclusive, in order


class Masked(NamedTuple):
    code: bytes  # as long as the original
    uses: tuple[MacroUse, ...]  # the macros that were blanked or tested by a condition, by offset
    scopes: tuple[VirtualScope, ...] = ()
    branches: tuple[Branch, ...] = ()


_VISIBLE = re.compile(rb"\S")
_OPENING = re.compile(rb"[ \t]*(?:\r?\n[ \t]*)?\(")
_WORD_CHARACTERS = bytes(WORD_BYTES)
_TYPE_KEYWORDS = frozenset((b"class", b"struct", b"union", b"enum"))
_ARGUMENTS = rb"\([^()]{0,300}(?:\([^()]{0,200}\)[^()]{0,200}){0,8}\)"
_TYPE_NAME_THEN_BODY = re.compile(
    rb"\s+(?:[A-Z][A-Z0-9_]*(?:" + _ARGUMENTS + rb")?\s+)*(?!final\b)[A-Za-z_][\w:]*\s*(?:<[^;{}]{0,200}>)?\s*"
    rb"(?:final\s*)?(?:\{|:[^:])"
)
_TYPE_NAME_THEN_END = re.compile(rb"\s+[A-Za-z_][\w:]*\s*(?:<[^;{}]{0,400}>\s*)?;")
_WORD = re.compile(rb"\s+[A-Za-z_~\[:]")
_ANNOTATED = re.compile(rb"\s*[;{=:,A-Z\[]|\s+\w")
_ENDS_DECLARATOR = re.compile(rb"\s*(?:[;{:]|=\s*(?:0|default|delete)\b)")
_BODY = re.compile(rb"\s*(?:\{|=\s*(?:0|default|delete)\b)")
_TRAILERS = frozenset((b"const", b"noexcept", b"override", b"final"))
_LEADING = frozenset((b"static", b"const", b"constexpr", b"inline", b"extern"))  # in front of a macro that declares
_TYPE_AND_FUNCTION_NAME = re.compile(
    rb"[ \t]+(?:[a-z_]\w*[ \t]+){0,4}[A-Za-z_][\w:]*(?:<[^;{}()]{0,200}>)?[ \t*&]+[~\w:]+[ \t]*\("
)
_LABEL = re.compile(rb"[ \t]*:[ \t]*(?=\r?(?:\n|$))")
_LINE_END = re.compile(rb"[ \t]*(?:\r?\n|$)")
_LONE_LINE = re.compile(rb"[A-Z_][A-Z0-9_]{2,}(?:[ \t]*" + _ARGUMENTS + rb")?")
_STARTS_STATEMENT = re.compile(rb"\s*(?:[A-Za-z_~#/@\[]|\}|::|$)")
_TYPED_FIRST = re.compile(rb"\s*(?:[\w:]+(?:<[^;{}()]{0,200}>)?[\s*&]+)+(?<=[\s*&])\w+\s*,")

_POINTED_AT = re.compile(rb"\s*\*\s*(?:const\s+)?\w*\s*\)\s*\(")
_SPACE_BYTE, _SEMICOLON, _OPEN, _CLOSE, _BRACE, _END_BRACE, _COLON, _QUOTE, _GREATER, _DOT = b' ;(){}:">.'
_BORDERS = frozenset(b";{}:")
_ENDS_LONE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_)")
_ENDS_EXPRESSION = frozenset(b",;)]+-/=.&|<>?[")  # behind a name that nothing is known of: it is no macro of interest
_GOES_ON = frozenset(b"<>),.+-*%&|^?!](")  # the same behind its arguments
_NEAR = 60  # bytes looked back over before the long way is taken
_MAX_LINE = 400  # bytes of a line that are looked back over


def mask(text: bytes, macros: Macros = BUILTIN) -> Masked:
    """The text as the grammar should see it, and what had to go. Any bytes will do; lines are those of the original."""
    hollow = skeleton(text)
    found = directives(hollow)
    uses = [MacroUse(name.decode(), start) for name, start in tested_names(hollow, found)]
    bare = bytearray(hollow)
    for directive in found:
        bare[directive.start : directive.end] = b" " * (directive.end - directive.start)
    code = bytes(bare)
    selections = readings(hollow, code, found)
    names, words = candidates(code, macros, GAP_WORDS)
    first, *others = (_Reading(text, bare, found, selection, names, words) for selection in selections)
    branches = [Branch(bytes(other.code), other.selection.own) for other in others]
    if first.misplaced:
        spans = [(directive.start, directive.end) for directive in first.misplaced]
        branches.append(Branch(all_but(spans, text), tuple(spans)))
    return Masked(
        bytes(first.code),
        tuple(sorted((*uses, *first.uses), key=lambda use: use.start)),
        tuple(sorted(first.scopes)),
        tuple(branches),
    )


_UNKNOWN = Meaning(Kind.VALUE)
_PLAIN = Sound.PLAIN


class _Reading:
    """One selection of branches, masked. ``bare`` is what the decisions look at, ``code`` what the grammar gets."""

    def __init__(
        self,
        text: bytes,
        bare: bytearray,
        found: list[Directive],
        selection: Selection,
        names: list[Candidate],
        words: frozenset[bytes],
    ) -> None:
        self.selection = selection
        self.uses: list[MacroUse] = []
        self.scopes: list[VirtualScope] = []
        self.misplaced: list[Directive] = []
        self.code = bytearray(text)
        self.bare = bytearray(bare)
        self._blank_end = self._blank_before = -1  # nothing but spaces between the second and the first
        for start, end in selection.dropped:
            self._blank(start, end)
        self._structure = Structure(bytes(self.bare))
        self._blank_directives(found)
        self._braces: list[tuple[int, int, Meaning]] = []
        for start, name, known in names:
            if self.bare[start] != _SPACE_BYTE:
                if isinstance(known, Meaning):
                    self._consider(name, start, known)
                else:
                    self._guessed(name, start, known)
        for start, replacement in gaps(bytes(self.bare), self._structure, words):
            self._write(start, replacement)
        if self._braces:
            self._pair_braces()

    # Effects

    def _blank(self, start: int, end: int) -> None:
        if start <= self._blank_before:
            self._blank_end = self._blank_before = -1
        found = self.code[start:end]
        if b"\n" in found:
            self.code[start:end] = blanked(bytes(found))
            self.bare[start:end] = blanked(bytes(self.bare[start:end]))
        else:
            self.code[start:end] = self.bare[start:end] = b" " * (end - start)

    def _write(self, start: int, text: bytes) -> None:
        if start < self._blank_end:
            self._blank_end = self._blank_before = -1
        self.code[start : start + len(text)] = text
        self.bare[start : start + len(text)] = text

    def _drop(self, name: bytes, start: int, end: int) -> None:
        self._blank(start, end)
        self.uses.append(MacroUse(name.decode(), start))

    # Directives

    def _blank_directives(self, found: list[Directive]) -> None:
        for directive in found:
            if directive.word in (b"define", b"include", b"import", b"include_next"):
                if self._takes_directive(directive.start):
                    # The grammar ends a continued body at a comment.
                    body = self.code[directive.start : directive.end]
                    if b"/*" in body and b"\n" in body:
                        self.code[directive.start : directive.end] = without_comments(bytes(body))
                    continue
                if self.code[directive.start] != _SPACE_BYTE:
                    self.misplaced.append(directive)
            self._blank(directive.start, directive.end)

    def _takes_directive(self, at: int) -> bool:
        before = self._before(at)
        if before >= 0 and self.bare[before] not in b";}" and self._structure.place(at) in ("value", "enum"):
            return False
        return before < 0 or self.bare[before] in _BORDERS or self._ends_in_lone_macro(before)

    # Looking around

    def _before(self, at: int) -> int:
        """The offset of the last character before ``at`` that is no space, or -1."""
        start = max(0, at - _NEAR)
        length = len(self.bare[start:at].rstrip())
        if length:
            return start + length - 1
        step, stop = 100, at
        while True:
            start = max(0, stop - step)
            if start <= self._blank_end <= stop:
                start = self._blank_end
            length = len(bytes(self.bare[start:stop]).rstrip())
            if length:
                found = start + length - 1
                break
            if start == self._blank_end:
                found = self._blank_before
                break
            if start == 0:
                found = -1
                break
            step, stop = step * 8, start
        self._blank_end, self._blank_before = at, found  # long comments are walked over once
        return found

    def _last(self, at: int) -> int:
        """The last character before ``at`` that is no space, or a semicolon at the start."""
        before = self._before(at)
        return self.bare[before] if before >= 0 else _SEMICOLON

    def _after(self, at: int) -> int:
        """The first character from ``at`` on that is no space, or 0 at the end."""
        found = _VISIBLE.search(self.bare, at)
        return self.bare[found.start()] if found else 0

    def _word_before(self, before: int) -> bytes:
        line = self.bare[max(0, before - 60) : before + 1]
        word = bytes(line[len(line.rstrip(_WORD_CHARACTERS)) :])
        return b"" if word[:1].isdigit() else word

    def _line_of(self, at: int) -> bytes:
        line = bytes(self.bare[max(0, at - _MAX_LINE) : at + 1])
        return line[line.rfind(b"\n") + 1 :].strip()

    def _ends_in_lone_macro(self, before: int) -> bool:
        return self.bare[before] in _ENDS_LONE and _LONE_LINE.fullmatch(self._line_of(before)) is not None

    def _arguments(self, end: int) -> int:
        """The offset behind the arguments that follow a name, or the end of the name."""
        if end >= len(self.bare) or self.bare[end] not in b"( \t\r\n":
            return end
        at = end
        if self.bare[end] != _OPEN:
            opening = _OPENING.match(self.bare, end)
            if opening is None:
                return end
            at = opening.end() - 1
        closing = self._structure.closing(at)
        return closing + 1 if closing >= 0 else end

    def _at_border(self, before: int) -> bool:
        """Whether what stands before is complete: a statement, a heading's brace, a label or another lone macro."""
        if before < 0:
            return True
        last = self.bare[before]
        if last in _BORDERS:
            return last != _COLON or self.bare[before - 1 : before] != b":"
        return self._ends_in_lone_macro(before)

    # Names

    def _consider(self, name: bytes, start: int, meaning: Meaning) -> None:
        end = start + len(name)
        before = self._before(start)
        last = self.bare[before] if before >= 0 else _SEMICOLON
        if last == _DOT or (last == _GREATER and self.bare[before - 1 : before] == b"-"):
            return  # a member of that name
        stop = self._arguments(end) if meaning.arguments else end
        if stop > end or not meaning.arguments or meaning.kind in _WITHOUT_ARGUMENTS_TOO:
            use = _Use(name, start, end, stop, before, last, self._after(stop), meaning)
            getattr(self, _HANDLERS[meaning.kind])(use)

    def _attribute(self, use: "_Use") -> None:
        if use.last in b"(," and use.after in b",)":
            return
        if use.last in b"=+-?!|" or (use.last in b"(,<&*" and use.after in b"+/=<>?.|!;"):
            return
        alone = use.after == _SEMICOLON or (use.meaning.word == "empty" and self._ends_line(use.stop))
        if alone and use.stop > use.end and self._at_border(use.before):
            self._alone(use)
        else:
            self._drop(use.name, use.start, use.stop)

    def _template(self, use: "_Use") -> None:
        self._drop(use.name, use.start, use.stop)

    def _opens_or_closes(self, use: "_Use") -> None:
        if self._at_border(use.before) or use.last == _QUOTE or use.last in WORD_BYTES:
            self._drop(use.name, use.start, use.stop)
            self._braces.append((use.start, use.stop, use.meaning))

    def _parameter(self, use: "_Use") -> None:
        if use.last in b"<," and use.end - use.start >= len(b"int ="):
            self._drop(use.name, use.start, use.end)
            self._write(use.start, b"int =")

    def _access(self, use: "_Use") -> None:
        self._drop(use.name, use.start, use.stop)
        word = use.meaning.word.encode()
        if use.after != _COLON:
            return
        if len(word) <= use.stop - use.start:
            self._write(use.start, word)
        elif self._word_before(use.before) not in (b"public", b"protected", b"private"):
            label = _LABEL.match(self.bare, use.stop)
            if label:
                self._blank(use.stop, label.end())

    def _string(self, use: "_Use") -> None:
        inner = self._inner(use).strip()
        if _QUOTE not in (use.last, use.after):
            if b"(" in inner and inner[:1] != b'"':  # what becomes a string is no code: SIGNAL(clicked(bool))
                opening = self.bare.index(b"(", use.end)
                self._write(opening + 1, b"_" * (use.stop - opening - 2))
            return
        self.uses.append(MacroUse(use.name.decode(), use.start))
        if inner[:1] == b'"' and inner[-1:] == b'"':
            self._blank(use.start, self.bare.index(b"(", use.end) + 1)
            self._blank(use.stop - 1, use.stop)
        else:
            self._blank(use.start, use.stop)
            self._write(use.start, b'""')

    def _argument(self, use: "_Use") -> None:
        """MACRO(x) stands for x. As a call it is C++ already, next to a word it is not."""
        if self._at_border(use.before):
            if self._structure.place(use.start) == "code" or not (use.after in WORD_BYTES or use.after in b"~;"):
                if self._ends_line(use.stop) and use.after != _SEMICOLON:
                    self._alone(use)
                return
        else:
            word = self._word_before(use.before)
            beside = word and word not in (b"return", b"case", b"else")
            if not (beside or use.after in WORD_BYTES or use.after == _BRACE):
                return
        self._unwrap(use)

    def _unwrap(self, use: "_Use") -> None:
        opening = self.bare.index(b"(", use.end)
        keep = use.meaning.keep
        at = opening + 1
        for index, part in enumerate(split(self._inner(use))):
            if keep not in (-1, index):
                self._blank(at, at + len(part))
            if index and keep != -1:
                self._blank(at - 1, at)
            at += len(part) + 1
        self._blank(use.start, opening + 1)
        self._blank(use.stop - 1, use.stop)
        self.uses.append(MacroUse(use.name.decode(), use.start))

    def _control(self, use: "_Use") -> None:
        word = use.meaning.word.encode()
        if use.stop == use.end:
            if word == b"else" and len(use.name) >= len(word):
                self._drop(use.name, use.start, use.stop)
                self._write(use.start, word)
            elif use.after == _BRACE:
                self._drop(use.name, use.start, use.stop)
            return
        if not (self._at_border(use.before) or use.last == _CLOSE or self._word_before(use.before) == b"else"):
            return
        if use.after in b";<.-=" or self._structure.place(use.start) in ("namespace", "class"):
            if use.after == _BRACE:
                self._heading(use)
        elif word not in (b"catch", b"try"):
            self._loop(use)

    def _loop(self, use: "_Use") -> None:
        """FOREACH(const T& item, list) is a for to the grammar, and any other opener of a block an if."""
        opening = self.bare.index(b"(", use.end)
        inner = self._inner(use)
        typed = _TYPED_FIRST.match(inner)
        room = opening - use.start
        if not inner.strip():
            self._drop(use.name, use.start, use.stop)
            if use.after != _BRACE and use.stop - use.start >= len(b"if(0)"):
                self._write(use.start, b"if(0)")
        elif typed and room >= len(b"for"):
            self._drop(use.name, use.start, opening)
            self._write(use.start, b"for")
            self._write(opening + typed.end(), b":")
        elif room >= len(b"if"):
            self._drop(use.name, use.start, opening)
            self._write(use.start, b"if")

    def _heading(self, use: "_Use") -> None:
        """TEST_CASE("says what", "[tag]") {...} is a function to the grammar once its strings look like words."""
        if use.stop > use.end:
            opening = self.bare.index(b"(", use.end)
            for at, replacement in as_parameters(self._inner(use)):
                self._write(opening + 1 + at, replacement)

    def _heads_function(self, use: "_Use") -> None:
        if use.after != _BRACE:
            self._declares(use)
        elif use.meaning.word != "{":
            self._heading(use)

    def _declares(self, use: "_Use") -> None:
        before = use.before
        word = self._word_before(before)
        while word in _LEADING:
            before = self._before(before + 1 - len(word))
            word = self._word_before(before)
        if self._at_border(before):
            if before < use.before:
                self._blank(before + 1, use.start)
            self._alone(use)

    def _alone(self, use: "_Use") -> None:
        """A macro where a declaration or a statement begins, which it is or may be."""
        place = self._structure.place(use.start)
        called = use.stop > use.end
        if called and place in ("code", "value") and use.after != _BRACE:
            self._plain_arguments(use.end, use.stop)
        if use.after == _BRACE:
            if called:
                self._heading(use)
            else:
                self._drop(use.name, use.start, use.stop)
        elif use.after == _SEMICOLON:
            if place in ("namespace", "class") and (
                use.meaning is not _UNKNOWN or not are_parameters(self._inner(use))
            ):
                self._drop(use.name, use.start, use.stop)
        elif not use.after or use.after not in b".-+*/,=<>?&|)]":
            self._ended(use, place)

    def _ended(self, use: "_Use", place: str) -> None:
        """The same where nothing ends it: as a statement it gets its semicolon, elsewhere it goes."""
        roomy = self.bare[use.stop : use.stop + 1].isspace()
        if use.stop == use.end and place in ("enum", "value"):
            return
        if place == "code" and roomy and use.stop > use.end:
            self._write(use.stop, b";")
        elif place != "value":
            self._drop(use.name, use.start, use.stop)
        elif roomy and use.after != _END_BRACE:
            self._write(use.stop, b",")

    def _plain_arguments(self, end: int, stop: int) -> None:
        if are_odd(self.bare, end, stop):
            opening = self.bare.index(b"(", end)
            for at, replacement in as_expressions(bytes(self.bare[opening + 1 : stop - 1])):
                self._write(opening + 1 + at, replacement)

    def _inner(self, use: "_Use") -> bytes:
        """What stands between the parentheses."""
        return bytes(self.bare[use.end : use.stop]).strip()[1:-1]

    def _ends_line(self, at: int) -> bool:
        return _LINE_END.match(self.bare, at) is not None

    # Guesses by spelling and place

    def _guessed(self, name: bytes, start: int, sound: Sound) -> None:
        bare = self.bare
        end = start + len(name)
        behind = bare[end] if end < len(bare) else 0
        if behind == _OPEN:
            stop = self._structure.closing(end) + 1 or end
        elif (sound is _PLAIN and behind in _ENDS_EXPRESSION) or self._last(start) in b".=+-?!|%^":
            return
        else:
            stop = self._arguments(end)
        after = self._after(stop)
        called = stop > end and after != _BRACE and sound is not Sound.ANNOTATES
        if not called or not self._is_call(start, end, stop, after, sound):
            before = self._before(start)
            last = bare[before] if before >= 0 else _SEMICOLON
            self._guessed_by_place(_Use(name, start, end, stop, before, last, after, _UNKNOWN), sound)

    def _is_call(self, start: int, end: int, stop: int, after: int, sound: Sound) -> bool:
        """Whether all is said: a call like any other once its arguments are plain."""
        place = self._structure.place(start)
        if place == "code":
            self._plain_arguments(end, stop)
            if after == _SEMICOLON:
                return True
        return sound is _PLAIN and after in _GOES_ON and place != "enum"

    def _guessed_by_place(self, use: "_Use", sound: Sound) -> None:
        if sound is Sound.ANNOTATES:
            if _ANNOTATED.match(self.bare, use.stop):
                self._drop(use.name, use.start, use.stop)
            return
        if (
            use.last in b",{"
            and use.stop > use.end
            and use.after != _BRACE
            and self._structure.place(use.start) == "enum"
        ):
            self._drop(use.name, use.start, use.stop)  # a list of enumerators
            return
        if self._is_decoration(use, sound is not _PLAIN) or use.last in b".=+-?!|%^,(<&*[":
            return
        if use.before < 0 or b"\n" in self.bare[max(use.before + 1, use.start - _MAX_LINE) : use.start]:
            self._guessed_first_on_line(use)

    def _is_decoration(self, use: "_Use", decorates: bool) -> bool:
        """Whether its place shows that it is an attribute or that it is none; in between its line must tell."""
        bare = self.bare
        if use.last == _OPEN and _POINTED_AT.match(bare, use.end):
            self._drop(use.name, use.start, use.end)  # a calling convention
            return True
        if use.last in b".=+-?!|%^" or (use.last in b"(,<&*[" and not decorates):
            return True
        word = self._word_before(use.before) if use.last in WORD_BYTES else b""
        if word in _TYPE_KEYWORDS:
            # "struct STAT info;" declares a variable in C; "class API Name;" cannot.
            forward = (decorates or word == b"class") and _TYPE_NAME_THEN_END.match(bare, use.stop)
            drop = bool(forward or _TYPE_NAME_THEN_BODY.match(bare, use.stop))
        elif decorates and _WORD.match(bare, use.stop):
            drop = True
        elif use.last == _CLOSE or word in _TRAILERS:
            if not (_ENDS_DECLARATOR if decorates else _BODY).match(bare, use.stop):
                return False
            drop = use.stop > use.end or self._structure.place(use.start) != "code"
        else:
            return False
        if drop:
            self._drop(use.name, use.start, use.stop)
        return True

    def _guessed_first_on_line(self, use: "_Use") -> None:
        bare = self.bare
        border = self._at_border(use.before)
        called = use.stop > use.end
        label = None if called else _LABEL.match(bare, use.stop)
        if border and b"_" in use.name and _TYPE_AND_FUNCTION_NAME.match(bare, use.stop):
            self._drop(use.name, use.start, use.stop)
        elif label and border and self._structure.place(use.start) == "class":
            self._drop(use.name, use.start, label.end())  # an access specifier in disguise
        elif use.after == _BRACE and (border or (use.last == _CLOSE and not called)):
            self._alone(use)  # without arguments it stands for "try"
        elif border and _LINE_END.match(bare, use.stop) and _STARTS_STATEMENT.match(bare, use.stop):
            if called or use.after != _END_BRACE:  # the last enumerator of a list looks like this
                self._alone(use)
        elif border and called and use.after == _SEMICOLON:
            self._alone(use)

    # Braces that macros hold

    def _pair_braces(self) -> None:
        """Matches what macros open with what they close; a side without its other one gets a brace of its own."""
        opened: list[tuple[int, Scope]] = []
        for start, stop, meaning in self._braces:
            keep = len(opened) - meaning.closes
            if keep < 0:
                self._write(stop - 1, b"}")
            self._add_scopes(opened[max(0, keep) :], start)
            del opened[max(0, keep) :]
            opened.extend((stop, scope) for scope in meaning.opens)
        if opened:
            closing = self._structure.unmatched(opened[0][0])
            if closing < len(self.bare):
                self._blank(closing, closing + 1)
            self._add_scopes(opened, closing)

    def _add_scopes(self, spans: list[tuple[int, Scope]], end: int) -> None:
        by_start: dict[int, list[Scope]] = {}
        for start, scope in spans:
            by_start.setdefault(start, []).append(scope)
        last = len(self.bare)  # of a scope that was opened behind the brace that nothing closes
        self.scopes.extend(
            VirtualScope(start, end if start <= end else last, tuple(scopes)) for start, scopes in by_start.items()
        )


class _Use(NamedTuple):
    """A macro at its place. Offsets in bytes; ``last`` and ``after`` are the characters around it, spaces aside."""

    name: bytes
    start: int
    end: int  # of the name
    stop: int  # behind the arguments, or ``end`` again
    before: int  # the offset of ``last``, or -1
    last: int
    after: int  # 0 at the end of the file
    meaning: Meaning


_WITHOUT_ARGUMENTS_TOO = frozenset((Kind.DECLARES, Kind.SCOPES, Kind.ACCESS))
_HANDLERS = {
    Kind.ATTRIBUTE: "_attribute",
    Kind.TEMPLATE: "_template",
    Kind.SCOPES: "_opens_or_closes",
    Kind.PARAMETER: "_parameter",
    Kind.ACCESS: "_access",
    Kind.STRING: "_string",
    Kind.ARGUMENT: "_argument",
    Kind.CONTROL: "_control",
    Kind.HEADING: "_heads_function",
    Kind.DECLARES: "_declares",
}
