r"""Regular expressions over names that take time in proportion to the name, whatever the pattern.

Python's own matcher tries one way after another and needs centuries for ``(a+)+b``; and nothing can stop it midway. So
a pattern becomes a set of states that all read the name at once (Thompson 1968), and each set met is remembered. Taken
are literals, ``.``, classes, groups, ``|``, ``* + ? {m,n}``, ``^`` and ``$``, and ``(?i)`` in front; what looks back or
ahead is refused.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from indexer.errors import QuestionError

MOST_CHARS = 200  # of a pattern
MOST_STATES = 2_000  # of its automaton, after the copies that {m,n} makes
MOST_KEPT = 5_000  # sets of states remembered; beyond it they are made anew
MOST_REPEATS = 100  # of one {m,n}
_MOST_NESTING = 50

_START, _END = "^", "$"
_PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?:|\{\d{1,4}(?:,\d{0,4})?\}|.", re.DOTALL)


@dataclass(slots=True)
class _State:
    reads: re.Pattern[str] | None = None  # what one character must be
    stands: str = ""  # or where it must stand: at ^ or at $
    then: list[int] = field(default_factory=list)  # after reading, or at once where nothing is read


class Pattern:
    """One pattern, ready to be looked for. Raises QuestionError for what cannot be read."""

    def __init__(self, text: str) -> None:
        if len(text) > MOST_CHARS:
            raise QuestionError(
                f"The pattern has {len(text)} characters; {MOST_CHARS} are the most.", "Look for less at a time."
            )
        self._flags = re.IGNORECASE if text.startswith("(?i)") else re.RegexFlag(0)
        self._text = text
        self._pieces = _PIECE.findall(text.removeprefix("(?i)"))
        self._at = 0
        self._states: list[_State] = []
        self._known: dict[frozenset[int], dict[str, frozenset[int]]] = {}
        first = self._add()
        end = self._either(first, 0)
        if self._at < len(self._pieces):
            raise self._error("a closing parenthesis has no opening one")
        self._last = end
        self._anywhere = self._reached([first], "")
        self._first = self._reached([first], _START)
        self._only = self._reached([first], _START + _END)

    def found_in(self, name: str) -> bool:
        """Whether the pattern stands anywhere in the name."""
        now, last = self._first, self._last
        for character in name:
            if last in now:
                return True
            after = self._known.get(now)
            if after is None:
                if len(self._known) >= MOST_KEPT:
                    self._known.clear()
                after = self._known[now] = {}
            following = after.get(character)
            if following is None:
                following = after[character] = self._step(now, character)
            now = following
        return last in (self._reached(now, _END) if name else self._only)

    def _step(self, now: frozenset[int], character: str) -> frozenset[int]:
        following: list[int] = []
        for number in now:
            state = self._states[number]
            if state.reads is not None and state.reads.fullmatch(character):
                following += state.then
        return self._reached(following, "") | self._anywhere

    def _reached(self, numbers: Iterable[int], marks: str) -> frozenset[int]:
        """These states and all that follow without reading, where one stands at these marks."""
        seen: set[int] = set()
        waiting = list(numbers)
        while waiting:
            number = waiting.pop()
            if number not in seen:
                seen.add(number)
                state = self._states[number]
                if state.reads is None and (not state.stands or state.stands in marks):
                    waiting += state.then
        return frozenset(seen)

    # Each takes the state that it starts from and returns the one that it ends in.

    def _either(self, start: int, depth: int) -> int:
        if depth > _MOST_NESTING:
            raise self._error("it is nested too deeply")
        end = self._add()
        while True:
            branch = self._add()
            self._states[start].then.append(branch)
            self._states[self._sequence(branch, depth)].then.append(end)
            if self._next() != "|":
                return end
            self._at += 1

    def _sequence(self, start: int, depth: int) -> int:
        while self._next() not in ("", "|", ")"):
            begun = self._at
            end = self._one(start, depth)
            start = self._repeated(begun, start, end, depth)
        return start

    def _one(self, start: int, depth: int) -> int:
        piece = self._next()
        self._at += 1
        if piece in ("(", "(?:"):
            if piece == "(" and self._next() == "?":
                raise self._error("it looks ahead, back or for flags, which is not taken")
            inner = self._add()
            self._states[start].then.append(inner)
            end = self._either(inner, depth + 1)
            if self._next() != ")":
                raise self._error("a parenthesis is not closed")
            self._at += 1
            return end
        if piece in ("*", "+", "?") or piece.startswith("{"):
            raise self._error(f"there is nothing for {piece} to repeat")
        reading = self._add()
        self._states[start].then.append(reading)
        if piece in (_START, _END):
            self._states[reading].stands = piece
        else:
            self._states[reading].reads = self._reads(piece)
        end = self._add()
        self._states[reading].then.append(end)
        return end

    def _repeated(self, begun: int, start: int, end: int, depth: int) -> int:
        """The same part again as often as the sign behind it says: what was read once is read again for each copy."""
        sign = self._next()
        if sign not in ("*", "+", "?") and not (sign.startswith("{") and len(sign) > 1):
            return end
        self._at += 1
        behind = self._at
        least, most = _bounds(sign)
        if max(least, most or 0) > MOST_REPEATS or (most is not None and most < least):
            raise self._error(f"{sign} is more than {MOST_REPEATS} times, or less than nothing")
        leave = self._add()
        if least == 0:
            self._states[start].then.append(leave)
        if most == 0:
            return leave
        for copy in range(2, (most or max(least, 1)) + 1):
            if copy > least:
                self._states[end].then.append(leave)
            self._at = begun
            fresh = self._add()
            self._states[end].then.append(fresh)
            start, end = fresh, self._one(fresh, depth)
        self._at = behind + (self._pieces[behind : behind + 1] == ["?"])  # lazy or not, it is found all the same
        if most is None:
            again = self._add()
            self._states[end].then.append(again)
            self._at, kept = begun, self._at
            looped = self._one(again, depth)
            self._at = kept
            self._states[looped].then.append(again)
            self._states[again].then.append(leave)
        else:
            self._states[end].then.append(leave)
        return leave

    def _reads(self, piece: str) -> re.Pattern[str]:
        if piece.startswith("\\") and piece[1:] not in "wWdDsS" and piece[1:].isalnum():
            raise self._error(f"{piece} is not taken")
        plain = piece if piece == "." or piece[0] in "[\\" else re.escape(piece)
        try:
            return re.compile(plain, self._flags | re.DOTALL)
        except re.error as error:
            raise self._error(error.msg) from None

    def _next(self) -> str:
        return self._pieces[self._at] if self._at < len(self._pieces) else ""

    def _add(self) -> int:
        if len(self._states) >= MOST_STATES:
            raise self._error("it is too large")
        self._states.append(_State())
        return len(self._states) - 1

    def _error(self, reason: str) -> QuestionError:
        return QuestionError(
            f"The pattern {self._text!r} cannot be used: {reason}.",
            r"Literals, . [a-z] \w \d ( | ) * + ? {m,n} ^ $ are taken, and (?i) in front.",
        )


def _bounds(sign: str) -> tuple[int, int | None]:
    if sign[0] != "{":
        return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
    least, comma, most = sign[1:-1].partition(",")
    return int(least), (int(most) if most else None) if comma else int(least)
