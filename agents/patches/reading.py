"""The lines of a unified diff into files and hunks. Pure; what they mean together it does not know."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from agents.patches.names import named, refuse

ABSENT = "/dev/null"
MOST_HEADING_CHARS = 200

_HUNK = re.compile(r"@@ -([0-9]{1,9})(?:,([0-9]{1,9}))? \+([0-9]{1,9})(?:,([0-9]{1,9}))? @@(.*)")
_MODE_LINE = re.compile(r"(old mode|new mode|new file mode|deleted file mode) ([0-7]{6})")
_NAME_LINE = re.compile(r"(rename|copy) (from|to) (.+)")
_INDEX_LINE = re.compile(r"index [0-9a-f]{1,64}\.\.[0-9a-f]{1,64}(?: ([0-7]{6}))?")
_LIKENESS = re.compile(r"(?:dis)?similarity index [0-9]{1,3}%")
_BINARY = ("GIT binary patch", "Binary files ")
_OTHER_FORMS = ("*** Begin Patch", "*** Update File:", "<<<<<<< SEARCH")
_SIGNATURE = "-- "  # git format-patch ends with it and git's version


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a patch may be."""

    bytes: int = 400_000
    files: int = 200
    lines: int = 20_000  # added and removed
    line_bytes: int = 20_000


BOUNDS = Bounds()


class Hunk(NamedTuple):
    old_start: int
    new_start: int
    heading: str
    lines: tuple[str, ...]  # each with its mark, "\" among them

    def counted(self, mark: str) -> int:
        return sum(line[0] == mark for line in self.lines)


@dataclass(slots=True)
class File:
    """What is known of a file while its part is read."""

    line: int  # where it begins
    git_names: str | None = None  # what follows "diff --git "
    old: str | None = None  # None where it is not said
    new: str | None = None
    renamed: tuple[str, str] | None = None
    is_new: bool = False
    is_deleted: bool = False
    hunks: tuple[Hunk, ...] = ()


class Reader:
    """Goes through the lines once, from part to part."""

    def __init__(self, text: str, bounds: Bounds) -> None:
        self.notes: list[str] = []
        self._bounds = bounds
        lines = text.split("\n")
        if lines[-1] == "":
            lines.pop()
        elif lines:
            self.notes.append("A line end was put behind the last line.")
        heads = [line for line in lines if line.startswith(("--- ", "+++ ", "@@ -"))]
        if heads and all(line.endswith("\r") for line in heads):
            lines = [line.removesuffix("\r") for line in lines]
            self.notes.append("Carriage returns were taken off all lines, since the headers had them too.")
        fence = next((number for number, line in enumerate(lines) if line.strip()), 0)
        if lines and lines[fence].startswith("```"):
            last = max((number for number, line in enumerate(lines) if line.strip() == "```"), default=-1)
            if last > fence and not any(line.strip() for line in lines[last + 1 :]):
                lines = [*[""] * (fence + 1), *lines[fence + 1 : last]]  # so that line numbers stay
                self.notes.append("The fence around it was taken off.")
        self._lines = lines
        self._at = 0

    def _line(self, ahead: int = 0) -> str:
        place = self._at + ahead
        return self._lines[place] if place < len(self._lines) else ""

    def _begins(self, place: int) -> bool:
        """Whether a file's part begins at a line."""
        line = self._lines[place] if place < len(self._lines) else ""
        if line.startswith("diff --git "):
            return True
        follows = self._lines[place + 1] if place + 1 < len(self._lines) else ""
        return line.startswith("--- ") and follows.startswith("+++ ")

    def files(self) -> Iterator[File]:
        lines = self._lines
        while self._at < len(lines) and not self._begins(self._at):
            line = self._line()
            if line.startswith(_OTHER_FORMS):
                refuse("It is in a form of another tool.", line=self._at + 1)
            if line.startswith(("@@ ", *_BINARY)) or _MODE_LINE.fullmatch(line):
                refuse("Something is to be changed before any file is named.", line=self._at + 1)
            self._at += 1  # a message, as patches in mails have it
        while self._at < len(lines):
            if self._begins(self._at):
                yield self._file()
            elif not self._line() or self._line().startswith(("Index: ", "=======", "diff -")):
                self._at += 1
            elif self._line() == _SIGNATURE and not any(lines[self._at + 2 :]):
                return
            else:
                refuse(f"What is meant by this line is not clear: {self._shown()}", line=self._at + 1)

    def _shown(self) -> str:
        return ascii(self._line()[:80])

    def _file(self) -> File:
        file = File(self._at + 1)
        if self._line().startswith("diff --git "):
            file.git_names = self._line().removeprefix("diff --git ")
            self._at += 1
            self._extended(file)
        if self._line().startswith("--- ") and self._line(1).startswith("+++ "):
            file.old, file.new = (named(self._line(ahead)[4:], self._at + ahead + 1) for ahead in (0, 1))
            self._at += 2
            file.hunks = tuple(self._hunks(file))
            if not file.hunks:
                refuse("A file is named and nothing of it changed.", line=file.line)
        return file

    def _extended(self, file: File) -> None:
        """The lines between ``diff --git`` and the first hunk."""
        names: dict[str, str] = {}
        while self._at < len(self._lines):
            line, number = self._line(), self._at + 1
            if mode := _MODE_LINE.fullmatch(line):
                self._mode(file, mode[1], mode[2])
            elif name := _NAME_LINE.fullmatch(line):
                names[name[2]] = _moved(name[1], name[3], number)
            elif index := _INDEX_LINE.fullmatch(line):
                if index[1]:
                    self._regular(index[1])
            elif line.startswith(_BINARY):
                refuse("It changes a binary file.", "Only text can be patched.", number)
            elif not _LIKENESS.fullmatch(line):
                break
            self._at += 1
        if names:
            if set(names) != {"from", "to"}:
                refuse("Only one of both names of a moved file is given.", line=file.line)
            file.renamed = names["from"], names["to"]

    def _regular(self, mode: str) -> None:
        number = self._at + 1
        if mode == "120000":
            refuse("It is about a symbolic link.", "Links cannot be patched; change what they lead to.", number)
        if mode == "160000":
            refuse("It is about a submodule.", "Submodules cannot be patched.", number)
        if mode not in ("100644", "100755"):
            refuse("It is about something that is no regular file.", "", number)

    def _mode(self, file: File, what: str, mode: str) -> None:
        self._regular(mode)
        hint = "Modes stay as they are, and new files cannot be run; a build may call an interpreter with them."
        if what in ("old mode", "new mode"):
            refuse("It changes a file's mode.", hint, self._at + 1)
        if what == "new file mode":
            file.is_new = True
            if mode != "100644":
                refuse("It makes a file that can be run.", hint, self._at + 1)
        else:
            file.is_deleted = True

    def _hunks(self, file: File) -> Iterator[Hunk]:
        while self._line().startswith("@@"):
            head = _HUNK.fullmatch(self._line())
            number = self._at + 1
            if head is None:
                refuse(
                    f"The head of a hunk cannot be read: {self._shown()}",
                    "It looks like `@@ -10,6 +10,8 @@`, with the line numbers of before and after.",
                    number,
                )
            self._at += 1
            old, new = (1 if head[group] is None else int(head[group]) for group in (2, 4))
            body = self._counted(old, new)
            if body is None:
                body = self._uncounted()
                self.notes.append(f"The counts of the hunk at line {number} were put right.")
            for ahead, line in enumerate(body, start=number + 1):
                if len(line) > self._bounds.line_bytes:
                    refuse(f"A line is longer than {self._bounds.line_bytes:,} characters.", "", ahead)
            hunk = Hunk(int(head[1]), int(head[3]), head[5][:MOST_HEADING_CHARS], tuple(body))
            if not any(line[0] in "+-" for line in body):
                refuse("A hunk changes nothing.", "Leave it out.", number)
            if (file.old == ABSENT or file.is_new) and hunk.counted("+") != len(body) - hunk.counted("\\"):
                refuse("A new file's lines must all be added ones.", "", number)
            if (file.new == ABSENT or file.is_deleted) and hunk.counted("-") != len(body) - hunk.counted("\\"):
                refuse("A deleted file's lines must all be removed ones.", "", number)
            yield hunk

    def _counted(self, old: int, new: int) -> list[str] | None:
        """The lines of a hunk as its head counts them; None where that does not come out."""
        lines, place = self._lines, self._at
        body: list[str] = []
        while old > 0 or new > 0:
            if place >= len(lines):
                return None
            line = lines[place] or " "
            mark = line[0]
            if mark not in " +-\\":
                return None
            old -= mark in " -"
            new -= mark in " +"
            body.append(line)
            place += 1
        if old or new:
            return None
        if place < len(lines) and lines[place].startswith("\\"):
            body.append(lines[place])
            place += 1
        ahead = place
        while ahead < len(lines) and not lines[ahead]:
            ahead += 1
        goes_on = ahead < len(lines) and lines[ahead][0] in " +-\\" and lines[ahead] != _SIGNATURE
        if goes_on and not self._is_border(ahead):
            return None
        self._at = place
        return _marked(body)

    def _is_border(self, place: int) -> bool:
        """Whether a hunk certainly ends before a line."""
        line = self._lines[place]
        return self._begins(place) or line.startswith(("@@ -", "Index: ", "diff -"))

    def _uncounted(self) -> list[str]:
        """The lines up to what cannot belong to a hunk, whatever its head counts."""
        lines, place = self._lines, self._at
        body: list[str] = []
        while place < len(lines) and not self._is_border(place):
            line = lines[place]
            if line == _SIGNATURE and not any(lines[place + 2 :]):
                break
            if line and line[0] not in " +-\\":
                refuse(
                    f"A line of a hunk begins with none of ' ', '+' and '-': {line[:80]!a}",
                    "Every line of a hunk begins with one of them, also where the line is empty.",
                    place + 1,
                )
            body.append(line or " ")
            place += 1
        if place < len(lines) and lines[place].startswith("--- ") and not self._is_hunk_after(place):
            refuse(
                "The counts of a hunk are wrong, and what belongs to it is not clear.",
                "Give the counts of lines in its head, or write the diff with `git diff`.",
                place + 1,
            )
        while body and body[-1] == " " and not lines[self._at + len(body) - 1]:
            body.pop()  # empty lines behind a hunk belong to nobody
        if not body:
            refuse("A hunk has no lines.", "", self._at)
        self._at = place
        return _marked(body)

    def _is_hunk_after(self, place: int) -> bool:
        """Whether ``---`` and ``+++`` are those of a file's head: a hunk follows, and names rather than code."""
        return place + 2 < len(self._lines) and bool(_HUNK.fullmatch(self._lines[place + 2]))


def _marked(body: list[str]) -> list[str]:
    return [r"\ No newline at end of file" if line[0] == "\\" else line for line in body]


def _moved(how: str, name: str, line: int) -> str:
    if how == "copy":
        refuse("It copies a file.", "Write what is new as a new file, or include the old one.", line)
    return named(name, line)
