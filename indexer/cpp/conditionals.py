"""Decides what becomes of the branches of #if groups, so that braces stay balanced and facts come from all branches.

Branches that each hold whole statements are read one after the other. Where branches share a brace, a parenthesis or a
statement, one is kept and the others belong to further readings. Conditions are compared as text, never evaluated,
but for 0, 1 and __cplusplus.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from indexer.cpp.lexing import Directive

MAX_READINGS = 4  # of one file: the first, and one for each further branch

_BRACE, _COMMA, _QUOTE, _OPEN = b'{,"('
_MAX_CONDITION = 4000  # bytes
_MAX_CONDITIONALS = 30_000  # lines of one file; where there are more, all branches are read one after the other
_MAX_LOOK = 4000  # bytes at the ends of a branch

_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"(){}[]")
_ROUND = bytes.maketrans(b"[{]}", b"(())")
_ROUNDS = 8  # of taking out pairs, which is fast where nesting is flat
_IF = frozenset((b"if", b"ifdef", b"ifndef"))
_ELSE = frozenset((b"elif", b"elifdef", b"elifndef", b"else"))
_WORD = re.compile(rb"[A-Za-z_]\w*")
_NO_MACROS = frozenset((b"defined", b"true", b"false", b"and", b"or", b"not", b"__has_include", b"__has_include_next"))
_TESTED = re.compile(rb"#[ \t]*\w+[ \t]*(.*)", re.DOTALL)
_NEGATED = re.compile(rb"!\s*(?:defined\b)?\s*\(?\s*(\w+)\s*\)?")
_POSITIVE = re.compile(rb"(?:defined\b)?\s*\(?\s*(\w+)\s*\)?")
_LONE_MACRO = re.compile(rb"[A-Z_][A-Z0-9_]{2,}(?:[ \t]*\([^\n]*\))?")
_OPERATOR_FIRST = re.compile(rb"&&|\|\||<<|>>|->|[.*/+|]|-(?!-)")
_OPERATOR_LAST = re.compile(rb"(?:&&|\|\||<<|>>|->|[.?*/+|=&<(\[-])$")
_NO_FACTS = frozenset(
    b"""const static inline constexpr consteval extern virtual override final noexcept explicit volatile mutable void
    bool
    char int long short unsigned signed float double auto if else for while do return true false nullptr break continue
    public private protected typename class struct template this default case switch""".split()
)
# What is not C++: 0, and the macros of other languages and of tools that read headers.
_NEVER = frozenset(
    b"0 __OBJC__ __cplusplus_cli __cplusplus_winrt __ASSEMBLER__ __ASSEMBLY__ SWIG RC_INVOKED __midl Q_MOC_RUN".split()
)


class Selection(NamedTuple):
    """One way to read a file: the stretches to leave out, and those that only this reading has."""

    dropped: tuple[tuple[int, int], ...]
    own: tuple[tuple[int, int], ...]


@dataclass(slots=True, eq=False)
class _Branch:
    directive: Directive
    condition: bytes  # the name that a simple condition asks for; a complex one is its own name
    wanted: bool  # whether it must be set
    constant: bool  # dead or alive for good: #if 0, #if 1, #ifdef __OBJC__
    start: int  # behind the directive
    end: int = 0  # at the next directive of the group
    brackets: list[tuple[int, int]] | None = None  # of the text before, between and behind the groups
    net: int = 0  # brackets opened less those closed
    lowest: int = 0  # the least that this ever was
    groups: list["_Group"] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Group:
    branches: list[_Branch]


def readings(skeleton: bytes, code: bytes, found: Sequence[Directive]) -> list[Selection]:
    """The readings of a skeleton, the first the one for all shared text. ``code`` is the same with directives blank."""
    conditional = [
        directive
        for directive in found
        if directive.word in _IF or directive.word in _ELSE or directive.word == b"endif"
    ]
    if not conditional or len(conditional) > _MAX_CONDITIONALS:
        return [Selection((), ())]
    root = _tree(skeleton, code, conditional)
    selections: list[Selection] = []
    for turn in range(MAX_READINGS):
        chooser = _Chooser(code, turn)
        chooser.choose(root)
        if turn and not chooser.own:
            break
        selections.append(Selection(tuple(chooser.dropped), tuple(sorted(chooser.own)) if turn else ()))
        if not chooser.has_more:
            break
    return selections


def tested_names(code: bytes, found: Sequence[Directive]) -> list[tuple[bytes, int]]:
    """The macros that conditions ask for, with their offsets, without include guards."""
    names: list[tuple[bytes, int]] = []
    for index, directive in enumerate(found):
        if directive.word not in _IF and directive.word not in _ELSE:
            continue
        words = _names_of(code[directive.start : min(directive.end, directive.start + _MAX_CONDITION)])
        if directive.word == b"ifndef" and words and index + 1 < len(found) and found[index + 1].word == b"define":
            guard = _WORD.findall(code[found[index + 1].start : found[index + 1].end])
            if guard[1:2] == [words[0][0]]:
                continue
        names += [(word, directive.start + at) for word, at in words]
    return names


@lru_cache(maxsize=4096)
def _names_of(directive: bytes) -> tuple[tuple[bytes, int], ...]:
    """The macros that one condition asks for, with their offsets in it."""
    words = [word for word in _WORD.finditer(directive) if word[0] not in _NO_MACROS][1:]
    if b"__has_" in directive:
        words = [word for word in words if word[0].isupper() or word[0].startswith(b"__has")]
    return tuple((word[0], word.start()) for word in words)


def _tree(skeleton: bytes, code: bytes, conditional: list[Directive]) -> _Branch:
    """The groups within each other. One that never ends goes to the end of the file; a stray #endif is none."""
    root = _Branch(conditional[0], b"", wanted=True, constant=False, start=0, end=len(code))
    stack: list[_Branch] = [root]
    for directive in conditional:
        if directive.word in _IF:
            group = _Group([_branch(directive, skeleton)])
            stack[-1].groups.append(group)
            stack.append(group.branches[0])
        elif len(stack) > 1:
            branch = stack.pop()
            branch.end = directive.start
            if directive.word in _ELSE:
                group = stack[-1].groups[-1]
                group.branches.append(_branch(directive, skeleton))
                stack.append(group.branches[-1])
    unended = stack[1:]
    for branch in unended:
        branch.end = len(code)
    return root


class _Chooser:
    """Goes through the groups once and notes what to leave out."""

    def __init__(self, code: bytes, turn: int) -> None:
        self._code = code
        self._turn = turn
        self._truths: dict[bytes, bool] = {b"__cplusplus": True, b"1": True, **dict.fromkeys(_NEVER, False)}
        self.dropped: list[tuple[int, int]] = []
        self.own: list[tuple[int, int]] = []
        self.has_more = False

    def choose(self, root: _Branch) -> None:
        """Inner groups come before outer ones, without recursion: nesting may be thousands deep."""
        order: list[tuple[_Branch, bool]] = [(root, False)]
        while order:
            branch, ready = order.pop()
            if not ready and branch.groups:
                order.append((branch, True))
                for group in reversed(branch.groups):
                    order.extend((inner, False) for inner in reversed(group.branches))
                continue
            self._measure(branch)

    def _measure(self, branch: _Branch) -> None:
        """Decides the groups within a branch whose own branches are measured, and adds it all up."""
        if branch.brackets is None:
            branch.brackets = self._own_brackets(branch)
        net, lowest = branch.brackets[0]
        for group, (behind, lowest_behind) in zip(branch.groups, branch.brackets[1:], strict=True):
            for kept in self._decide(group):
                lowest = min(lowest, net + kept.lowest)
                net += kept.net
            lowest = min(lowest, net + lowest_behind)
            net += behind
        branch.net, branch.lowest = net, lowest

    def _own_brackets(self, branch: _Branch) -> list[tuple[int, int]]:
        starts = [branch.start, *(group.branches[-1].end for group in branch.groups)]
        ends = [*(group.branches[0].directive.start for group in branch.groups), branch.end]
        return [_brackets(self._code[start:end]) for start, end in zip(starts, ends, strict=True)]

    def _decide(self, group: _Group) -> list[_Branch]:
        """Drops what is not read now, and returns what is."""
        live = self._alive(group.branches)
        if len(live) == 1:
            return self._decide_one(live[0])
        return live if not live or self._in_sequence(live) else [self._choose_one(group.branches, live)]

    def _alive(self, branches: list[_Branch]) -> list[_Branch]:
        if not any(branch.constant for branch in branches):
            return branches
        live: list[_Branch] = []
        for branch in branches:
            if branch.constant and self._truth(branch) is False:
                self._drop(branch)
            else:
                live.append(branch)
        constant = next((i for i, branch in enumerate(live) if branch.constant and self._truth(branch)), None)
        if constant is not None:
            for branch in live[constant + 1 :]:
                self._drop(branch)
            live = live[: constant + 1]
        return live

    def _choose_one(self, branches: list[_Branch], live: list[_Branch]) -> _Branch:
        preferred = [branch for branch in live if self._truth(branch) is not False] or live
        self.has_more = self.has_more or len(live) > self._turn + 1
        chosen = preferred[0]
        if self._turn and len(live) > self._turn:
            others = [branch for branch in live if branch is not preferred[0]]
            chosen = others[self._turn - 1]
        self._assume(branches, chosen)
        for branch in live:
            if branch is not chosen:
                self._drop(branch)
        if chosen is not preferred[0]:
            self._forget(chosen)
            if _has_facts(self._code[chosen.start : min(chosen.end, chosen.start + _MAX_LOOK)]):
                self.own.append((chosen.start, chosen.end))
        return chosen

    def _decide_one(self, branch: _Branch) -> list[_Branch]:
        """A group without alternatives is read, unless it is the other side of a brace that was left out."""
        if self._truth(branch) is False and (branch.net or branch.lowest):
            self._drop(branch)
            return []
        return [branch]

    def _in_sequence(self, live: list[_Branch]) -> bool:
        """Whether the branches may follow each other: each is whole, or an element of the same list."""
        if any(branch.net or branch.lowest for branch in live):
            return False
        code = self._code
        texts = [text for text in (_ends(code, branch.start, branch.end) for branch in live) if text]
        if len(texts) < 2:
            return True
        if sum(text.startswith(b"else") and not text.startswith(b"else if") for text in texts) > 1:
            return False
        start = live[0].directive.start
        before = _last(code, start)
        rows = before in b"{=" and any(text[0] == _BRACE for text in texts)  # of a table, not statements
        border = not rows and (before in b";{}:" or _ends_in_lone_macro(code, start))
        return (
            (border and all(_ends_statement(text) for text in texts))
            or (before in b",({:<" and all(text[-1] == _COMMA for text in texts))
            or all(text[0] == _COMMA for text in texts)
            or all(text[0] == _QUOTE and text[-1] == _QUOTE for text in texts)
            or all(_OPERATOR_FIRST.match(text) and not _OPERATOR_LAST.search(text[-2:]) for text in texts)
        )

    def _truth(self, branch: _Branch) -> bool | None:
        known = self._truths.get(branch.condition)
        return None if known is None else known == branch.wanted

    def _assume(self, branches: list[_Branch], chosen: _Branch) -> None:
        """Remembers which conditions a choice makes true, for the brace on the other side."""
        for branch in branches:
            if branch.condition:
                self._truths.setdefault(branch.condition, branch.wanted if branch is chosen else not branch.wanted)
            if branch is chosen:
                break

    def _drop(self, branch: _Branch) -> None:
        self.dropped.append((branch.start, branch.end))
        self._forget(branch)

    def _forget(self, branch: _Branch) -> None:
        """Inner groups were decided before: what was theirs alone is either gone now or part of the branch."""
        later: list[tuple[int, int]] = []
        while self.own and self.own[-1][0] >= branch.start:
            span = self.own.pop()
            if span[0] >= branch.end:
                later.append(span)
        self.own.extend(reversed(later))


def _brackets(text: bytes) -> tuple[int, int]:
    """How many brackets a text opens less those it closes, and the least that this ever is, 0 at the start."""
    found = text.translate(_ROUND, _NO_BRACKETS)
    if not found:
        return 0, 0
    for _ in range(_ROUNDS):
        before = len(found)
        found = found.replace(b"()", b"")
        if len(found) == before:
            break
    opened = closed = 0
    for bracket in found:
        if bracket == _OPEN:
            opened += 1
        elif opened:
            opened -= 1
        else:
            closed += 1
    return opened - closed, -closed


def _branch(directive: Directive, skeleton: bytes) -> _Branch:
    end = min(directive.end, directive.start + _MAX_CONDITION)
    condition, wanted = _condition(directive.word, skeleton[directive.start : end])
    constant = condition == b"1" or condition in _NEVER
    return _Branch(directive, condition, wanted, constant, directive.end)


@lru_cache(maxsize=4096)
def _condition(word: bytes, directive: bytes) -> tuple[bytes, bool]:
    """The name that a simple condition asks for, and whether it must be set; a complex one is its own name."""
    if word == b"else":
        return b"", True
    found = _TESTED.match(directive)
    text = found[1].strip() if found else b""
    wanted = not word.endswith(b"ndef")
    negated = _NEGATED.fullmatch(text)
    if negated:
        return negated[1], not wanted
    positive = _POSITIVE.fullmatch(text)
    return (positive[1] if positive else b" ".join(text.split())), wanted


def _ends(code: bytes, start: int, end: int) -> bytes:
    """A stretch without spaces around it, of a long one its two ends: more would cost nested groups dear."""
    if end - start <= 2 * _MAX_LOOK:
        return code[start:end].strip()
    return code[start : start + _MAX_LOOK].lstrip() + b"\n" + code[end - _MAX_LOOK : end].rstrip()


def _last(code: bytes, at: int) -> bytes:
    """The last character in front of an offset that is no space, or a semicolon when there is none near."""
    return code[max(0, at - _MAX_LOOK) : at].rstrip()[-1:] or b";"


def _ends_statement(text: bytes) -> bool:
    return text[-1] in b";}:" or _LONE_MACRO.fullmatch(text[text.rfind(b"\n") + 1 :].strip()) is not None


def _ends_in_lone_macro(code: bytes, at: int) -> bool:
    text = code[max(0, at - 400) : at].rstrip()
    return _LONE_MACRO.fullmatch(text[text.rfind(b"\n") + 1 :].strip()) is not None


def _has_facts(text: bytes) -> bool:
    return any(word not in _NO_FACTS for word in _WORD.findall(text))
