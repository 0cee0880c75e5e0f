"""What changed between two states of a text or of a set of texts: lines that were replaced, files that were renamed.

Linear in time on any input: where an exact answer would cost more, the answer is larger than need be, never wrong.
Knows nothing of prompts.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# Constants, each with its range. Rounds: how often what lies between equal lines is looked at again, which bounds the
# time of a text made to resist; 3 to 20. Rename: of the lines of the longer file, those that the other must have; git's
# own threshold is 0.5. Compared: pairs of files looked at, so that a new vendored tree does not take minutes.
MOST_ROUNDS = 8
RENAME_SHARE = 0.6
MOST_COMPARED = 2_000


class Replaced(NamedTuple):
    """Lines ``first`` to before ``end`` of the old text stand as ``new_first`` to before ``new_end``, all from 0."""

    first: int
    end: int
    new_first: int
    new_end: int


def replaced(old: Sequence[str], new: Sequence[str]) -> list[Replaced]:
    """What must be replaced in the old lines to make the new ones, in order; neither touching nor overlapping.

    Patience diff (Bram Cohen): lines that stand once on both sides are equal in the longest order that both share.
    """
    found: list[Replaced] = []
    pending = [(Replaced(0, len(old), 0, len(new)), 0)]
    while pending:
        part, rounds = pending.pop()
        part = _trimmed(old, new, part)
        if part.first == part.end and part.new_first == part.new_end:
            continue
        anchors = _anchors(old, new, part) if rounds < MOST_ROUNDS else []
        if not anchors:
            found.append(part)
            continue
        first, new_first = part.first, part.new_first
        for at, new_at in [*anchors, (part.end, part.new_end)]:
            pending.append((Replaced(first, at, new_first, new_at), rounds + 1))
            first, new_first = at + 1, new_at + 1
    return sorted(found)


def with_context(parts: Sequence[Replaced], context: int, lines: int) -> list[Replaced]:
    """The same, each with so many equal lines around it; those that then touch are one. ``lines`` of the old text."""
    widened: list[Replaced] = []
    for part in parts:
        before = min(context, part.first)
        after = min(context, lines - part.end)
        wide = Replaced(part.first - before, part.end + after, part.new_first - before, part.new_end + after)
        if widened and wide.first <= widened[-1].end:
            last = widened.pop()
            wide = Replaced(last.first, wide.end, last.new_first, wide.new_end)
        widened.append(wide)
    return widened


def renamed(gone: Mapping[str, Sequence[str]], come: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """New path to old path, where a file that came has most lines of one that is gone; each old path at most once."""
    scored = []
    pairs = ((old, new) for new in sorted(come) for old in sorted(gone))
    counted = {old: Counter(lines) for old, lines in gone.items()}
    counted_new = {new: Counter(lines) for new, lines in come.items()} if gone else {}
    for compared, (old, new) in enumerate(pairs):
        if compared >= MOST_COMPARED:
            break
        shorter, longer = sorted((len(gone[old]), len(come[new])))
        if not shorter or shorter < RENAME_SHARE * longer:
            continue
        shared = (counted[old] & counted_new[new]).total()
        if shared >= RENAME_SHARE * longer:
            same_name = old.rpartition("/")[2] == new.rpartition("/")[2]
            scored.append((-shared / longer, not same_name, new, old))
    found: dict[str, str] = {}
    taken: set[str] = set()
    for _, _, new, old in sorted(scored):
        if new not in found and old not in taken:
            found[new] = old
            taken.add(old)
    return found


def _trimmed(old: Sequence[str], new: Sequence[str], part: Replaced) -> Replaced:
    first, end, new_first, new_end = part
    while first < end and new_first < new_end and old[first] == new[new_first]:
        first += 1
        new_first += 1
    while first < end and new_first < new_end and old[end - 1] == new[new_end - 1]:
        end -= 1
        new_end -= 1
    return Replaced(first, end, new_first, new_end)


def _anchors(old: Sequence[str], new: Sequence[str], part: Replaced) -> list[tuple[int, int]]:
    """Places of lines that stand once on each side, the longest sequence that rises on both."""
    here = _once(old, part.first, part.end)
    there = _once(new, part.new_first, part.new_end)
    pairs = [(at, there[line]) for line, at in here.items() if line in there]  # rising in the first
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for number, (_, new_at) in enumerate(pairs):
        length = bisect_left(tails, new_at)
        before.append(ends[length - 1] if length else -1)
        tails[length : length + 1] = [new_at]
        ends[length : length + 1] = [number]
    chain = []
    number = ends[-1] if ends else -1
    while number >= 0:
        chain.append(pairs[number])
        number = before[number]
    return chain[::-1]


def _once(lines: Sequence[str], first: int, end: int) -> dict[str, int]:
    places: dict[str, int] = {}
    for at in range(first, end):
        places[lines[at]] = -1 if lines[at] in places else at
    return {line: at for line, at in places.items() if at >= 0}
