"""What the reading tools have in common: a workspace of one moment, pages with their cursors, text or JSON.

Knows nothing of what is looked up.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from agents import text
from agents.desk import Desk
from agents.errors import AgentError
from agents.model import Arguments, Call
from agents.text import Item
from hub import shapes
from hub.service import Service
from indexer.model import Stamp

MOST_NOTES = 4
NOTE_CHARS = 1_000


@dataclass(slots=True)
class Asked:
    """One call of a tool in one workspace."""

    desk: Desk
    call: Call
    tool: str
    arguments: Arguments
    service: Service
    stamp: Stamp
    offset: int = 0  # of the page that is asked for
    notes: list[str] = field(default_factory=list)  # shown below the result

    def turn_to_page(self) -> None:
        """Sets the offset that the cursor says. Raises BadCursor."""
        cursor = self.arguments.get("cursor", "")
        if cursor:
            cursors = self.desk.cursors
            place = cursors.place(cursor, self.call.principal, self.tool, self._bound(), self._version())
            self.offset = place.offset
            if not place.same:
                self.notes.append(
                    "The index has changed since this cursor was given: entries may recur or be left out."
                )

    def page(self, head: str, items: Sequence[Item], total: int, budget: int = text.DEFAULT_TOKENS) -> str:
        """A page of a list whose entries from ``offset`` on are ``items``, with the notes and the stamp."""
        return text.page(head, items, self.foot(), total=total, offset=self.offset, cursor=self._cursor, budget=budget)

    def whole(self, *parts: str) -> str:
        """A result of one page, such as that nothing was found. As JSON it is a message."""
        if self.call.as_json:
            message = "\n".join(part for part in parts if part)
            stamp = shapes.stamp_shape(self.stamp)
            told = {"message": text.shortened(message, text.DEFAULT_TOKENS), "workspace": self.service.workspace}
            return as_json({**told, "stamp": stamp, "cursor": None})
        return text.shortened("\n".join(part for part in (*parts, self.foot()) if part), text.MOST_TOKENS)

    def foot(self) -> str:
        """The notes and what state of the tree is shown."""
        notes = [text.one_line(note)[:NOTE_CHARS] for note in dict.fromkeys(self.notes)]
        more = [f"and {len(notes) - MOST_NOTES} more notes"] if len(notes) > MOST_NOTES else []
        return "\n".join([*(f"Note: {note}" for note in (*notes[:MOST_NOTES], *more)), self._stamp_line()])

    def json(self, shape: Callable[[int], shapes.Json], count: int, total: int) -> str:
        """One JSON object: a shape of as many of ``count`` entries as fit, with the cursor of what follows them.

        Raises AgentError where not even one fits.
        """
        while True:
            after = self.offset + count
            told = {
                **shape(count),
                "workspace": self.service.workspace,
                "stamp": shapes.stamp_shape(self.stamp),
                "cursor": self._cursor(after) if after < total and count else None,
            }
            written = as_json(told)
            size = text.tokens(written)
            if size <= text.MOST_TOKENS:
                return written
            if count <= 1:
                raise too_large()
            count = max(1, min(count - 1, count * text.MOST_TOKENS // size))

    def _cursor(self, offset: int) -> str:
        return self.desk.cursors.make(self.call.principal, self.tool, self._bound(), offset, self._version())

    def _bound(self) -> Arguments:
        """The arguments with the workspace that is meant, which without a name may be another one later."""
        return {**self.arguments, "workspace": self.service.workspace}

    def _version(self) -> str:
        return f"{self.stamp.commit} {self.stamp.indexed_at}"

    def _stamp_line(self) -> str:
        return text.stamp_line(self.service.workspace, self.stamp)


@contextmanager
def asked(desk: Desk, call: Call, tool: str, arguments: Arguments) -> Iterator[Asked]:
    """The workspace that is meant, at one moment, and the page. Raises WorkspaceError, Forbidden, BadCursor."""
    with desk.workspaces.opened(call.principal, arguments["workspace"] or None) as service, service.moment():
        this = Asked(desk, call, tool, arguments, service, service.stamp())
        this.turn_to_page()
        yield this


def as_json(shape: shapes.Json) -> str:
    return json.dumps(shape, ensure_ascii=False, separators=(",", ":"))


def too_large() -> AgentError:
    return AgentError("The result is too large for one JSON object.", "Ask for text, or for less.")


def listed(names: Iterable[str], most: int) -> str:
    """The first names with commas, and how many more there are."""
    each = list(dict.fromkeys(names))
    more = f" and {len(each) - most} more" if len(each) > most else ""
    return ", ".join(text.one_line(name) for name in each[:most]) + more


def counted(number: int, one: str, many: str = "") -> str:
    """``3 uses``, ``1 use``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
