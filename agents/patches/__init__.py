"""A patch read, checked and written again, before git sees any of it. Pure: it knows neither git nor a tree.

What comes out is not the text that came in: it is written from what was understood, so that git cannot read another
meaning into it. A patch changes the text of regular files and nothing else: it makes no link, no submodule and no
program, and touches nothing that git, an editor or another agent would act upon. What a model gets wrong in ways that
leave one meaning only is mended and told; whether a hunk fits its file only git finds out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agents.patches.names import DENIED, Denied, Patterns, check_path, compiled, folded, quoted, refuse
from agents.patches.reading import ABSENT, BOUNDS, Bounds, File, Reader

__all__ = ["BOUNDS", "DENIED", "Bounds", "Denied", "Patch", "PatchedFile", "check", "folded"]

MOST_NOTES = 20

_SINGLE = re.compile(r"[abciow]/")  # what git writes before names: a/ b/, and by a setting c/ i/ o/ w/
# Covert characters that an added line may carry: they reorder or hide what a reader sees (CVE-2021-42574).
_COVERT = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\U000e0000-\U000e007f]")


@dataclass(frozen=True, slots=True)
class PatchedFile:
    """One file of a patch."""

    path: str
    added: int  # lines
    removed: int
    new: bool = False
    deleted: bool = False
    before: str = ""  # what a moved file was called


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch that may be handed to ``git apply``: ``text`` names ``files`` and nothing else. ``notes`` say what was
    mended, and what a reader might overlook.
    """

    files: tuple[PatchedFile, ...]
    added: int
    removed: int
    text: str
    notes: tuple[str, ...] = ()


def check(text: str, bounds: Bounds = BOUNDS, denied: Sequence[Denied] = DENIED) -> Patch:
    """The patch that a unified diff means.

    Raises PatchError for what is no unified diff, is ambiguous, too large or binary, and for what no patch may do:
    leave the tree, name anything denied, change modes, make links, submodules or programs.
    """
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        refuse("It is not valid UTF-8.", "Files that are not UTF-8 cannot be patched here; leave them out.")
    if size > bounds.bytes:
        refuse(f"It has {size:,} bytes, and {bounds.bytes:,} are allowed.", "Send it in parts that make sense alone.")
    if "\0" in text:
        refuse("It holds a zero byte.", "Only text can be patched.")
    reader = Reader(text, bounds)
    found = tuple(reader.files())
    if not found:
        refuse("It changes nothing.", "Give a unified diff, as `git diff` writes it.")
    if len(found) > bounds.files:
        refuse(f"It changes {len(found)} files, and {bounds.files} are allowed.", "Send it in parts.")
    patched = [_patched(file) for file in found]
    _check_paths(found, patched, compiled(denied))
    added, removed = (sum(getattr(entry, what) for entry in patched) for what in ("added", "removed"))
    if added + removed > bounds.lines:
        refuse(f"It changes {added + removed:,} lines, and {bounds.lines:,} are allowed.", "Send it in parts.")
    written = "".join(_written(file, entry) for file, entry in zip(found, patched, strict=True))
    return Patch(tuple(patched), added, removed, written, (*reader.notes[:MOST_NOTES], *_covert(found, patched)))


def _check_paths(found: Sequence[File], patched: Sequence[PatchedFile], denied: Patterns) -> None:
    told: dict[str, str] = {}  # a path as file systems may fold it, and as it is written
    for file, entry in zip(found, patched, strict=True):
        names = {folded(path): path for path in (entry.before, entry.path) if path}  # one, where only the case changes
        for path in filter(None, (entry.before, entry.path)):
            check_path(path, file.line, denied)
        for name, path in names.items():
            if name in told:
                refuse(
                    f"It has two parts about {told[name]!a}.",
                    "Put all hunks of a file into one part, in order.",
                )
            told[name] = path


def _patched(file: File) -> PatchedFile:
    """What a file's part means. Every name in it has to say the same."""
    old, new = _stripped(file)
    if file.renamed and (old, new) != file.renamed:
        refuse("Its headers name different files.", "", file.line)
    deleted = file.is_deleted or new == ABSENT
    created = file.is_new or old == ABSENT
    if created and deleted:
        refuse("A file would be both made and deleted.", "", file.line)
    if (created or deleted) and file.renamed:
        refuse("A file would be both moved and made or deleted.", "", file.line)
    if (old == ABSENT) != created and file.old is not None:
        refuse("Its headers do not agree on whether a file is new.", "", file.line)
    if (new == ABSENT) != deleted and file.new is not None:
        refuse("Its headers do not agree on whether a file is deleted.", "", file.line)
    path = old if deleted else new
    if not (created or deleted or file.renamed):
        if old != new:
            refuse(
                f"It names {old!a} before and {new!a} after.",
                "Both names are the same but for a/ and b/; a move has lines `rename from` and `rename to`.",
                file.line,
            )
        if not file.hunks:
            refuse(f"Nothing of {path!a} is changed.", "Leave it out.", file.line)
    if (created or deleted) and len(file.hunks) > 1:
        refuse("A new or deleted file has one hunk.", "", file.line)
    added, removed = (sum(hunk.counted(mark) for hunk in file.hunks) for mark in "+-")
    return PatchedFile(path, added, removed, created, deleted, file.renamed[0] if file.renamed else "")


def _stripped(file: File) -> tuple[str, str]:
    """The names of before and after, without ``a/`` and ``b/`` where they have them."""
    pairs = []
    if file.old is not None and file.new is not None:
        pairs.append(_without_prefixes(file.old, file.new, file.line))
    if file.git_names is not None:
        pairs.append(_of_git_line(file, pairs[0] if pairs else file.renamed))
    if len(pairs) == 2:
        said, git = pairs
        if any(one not in (ABSENT, other) for one, other in zip(said, git, strict=True)):
            refuse("Its headers name different files.", "", file.line)
    return pairs[0]


def _without_prefixes(old: str, new: str, line: int) -> tuple[str, str]:
    if ABSENT in (old, new):
        if old == new:
            refuse("It names no file.", "", line)
        side, name = ("b/", new) if old == ABSENT else ("a/", old)
        return (ABSENT, name.removeprefix(side)) if old == ABSENT else (name.removeprefix(side), ABSENT)
    if old != new and _SINGLE.match(old) and _SINGLE.match(new):
        return old[2:], new[2:]
    if old.startswith("./") and new.startswith("./"):  # as diff -r writes them
        return old[2:], new[2:]
    return old, new


def _of_git_line(file: File, known: tuple[str, str] | None) -> tuple[str, str]:
    """The names behind ``diff --git``, which nothing parts where they are not quoted."""
    written = file.git_names or ""
    if known is not None:
        before, after = (known[1] if known[0] == ABSENT else known[0]), (known[0] if known[1] == ABSENT else known[1])
        for one, other in (("a/", "b/"), ("", ""), ("i/", "w/"), ("c/", "i/"), ("c/", "w/"), ("o/", "w/")):
            if written == f"{one}{before} {other}{after}":
                return known
    if written.startswith('"') or written.endswith('"'):
        return _quoted_pair(written, file.line)
    half, odd = divmod(len(written), 2)
    if odd and written[half] == " ":
        old, new = _without_prefixes(written[:half], written[half + 1 :], file.line)
        if old == new:
            return old, new
    if written.count(" ") != 1:
        refuse("Which files it is about cannot be told.", "", file.line)
    first, _, second = written.partition(" ")
    return _without_prefixes(first, second, file.line)


def _quoted_pair(written: str, line: int) -> tuple[str, str]:
    if written.startswith('"'):
        first, rest = quoted(written, line)
        second = rest.removeprefix(" ")
        if second.startswith('"'):
            second, rest = quoted(second, line)
            if rest:
                refuse("Something stands behind a quoted name.", "", line)
        return _without_prefixes(first, second, line)
    first, space, rest = written.partition(' "')
    second, behind = quoted('"' + rest, line)
    if not space or behind:
        refuse("Which files it is about cannot be told.", "", line)
    return _without_prefixes(first, second, line)


def _written(file: File, entry: PatchedFile) -> str:
    before = entry.before or entry.path
    parts = [f"diff --git a/{before} b/{entry.path}\n"]
    if entry.new:
        parts.append("new file mode 100644\n")
    elif entry.deleted:
        parts.append("deleted file mode 100644\n")
    elif entry.before:
        parts.append(f"rename from {before}\nrename to {entry.path}\n")
    if file.hunks:
        parts.append(f"--- {ABSENT if entry.new else 'a/' + before}\n")
        parts.append(f"+++ {ABSENT if entry.deleted else 'b/' + entry.path}\n")
    shift = 0
    for hunk in file.hunks:
        plus, minus, same = (hunk.counted(mark) for mark in "+- ")
        old, new = minus + same, plus + same
        # Where no line stands, the one before is named; what comes after follows from what the hunks before did.
        start = 0 if entry.new else hunk.old_start
        after = start + shift + (old == 0) - (new == 0)
        parts.append(
            f"@@ -{start},{old} +{0 if entry.deleted else max(after, 1 if new else 0)},{new} @@{hunk.heading}\n"
        )
        parts += (f"{line}\n" for line in hunk.lines)
        shift += new - old
    return "".join(parts)


def _covert(files: Sequence[File], patched: Sequence[PatchedFile]) -> list[str]:
    """What to tell of lines that a reader would not see as a compiler does."""
    found = []
    for file, entry in zip(files, patched, strict=True):
        for hunk in file.hunks:
            at = hunk.new_start
            for line in hunk.lines:
                if line[0] == "+" and _COVERT.search(line):
                    found.append(f"{entry.path}:{at} gets characters that cannot be seen.")
                at += line[0] in "+ "
    return found[:MOST_NOTES]
