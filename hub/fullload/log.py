"""The entries of a full load as the code base changes: only appended to, until compaction makes the end of them again.

Compaction keeps as much of the beginning as is worth keeping and tells the rest afresh. What changes often gathers at
the end that way, so a later compaction reads little again (the generations of a garbage collector, and the cleaning of
a log-structured file system: Rosenblum and Ousterhout 1991). Pure: knows nothing of disks, git and models.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hub.errors import PromptTooLong
from hub.fullload.differences import renamed
from hub.fullload.entries import Entry, Kind, Sheet, change, rendered, sheet, shown

# When and how entries are compacted, each with its range. Tried with benchmarks/commit_replay.py: of the last 400
# commits of spdlog and re2, 13 and 12 make a compaction due at 0.1, and 7 and 5 at 0.25. At 0.15 glog, where many of
# the commits are large, has 5.1% of its prompt read again for each of them, compactions included.
MOST_STALE = 0.2  # of the tokens that hold today, those that no longer do, before a compaction is due; 0.1 to 1
NEARLY_FULL = 0.95  # of the room, from where on LEAST_STALE is enough; 0.8 to 0.99
LEAST_STALE = 0.03  # 0.01 to 0.1
MOST_STALE_EVER = 0.6  # as MOST_STALE, when entries are compacted at once because nobody did it in time; 0.3 to 2
LEAST_FREED = 0.5  # of the stale tokens, what a compaction must get rid of; 0.2 to 1
FILL = 0.85  # of the room, what a fill takes where not everything fits: the rest is for what changes; 0.6 to 0.95
ROOM_FOR_CHANGES = 0.04  # of the room, what is left for changes where everything fits; 0.02 to 0.2
ABSENT_SHARE = 0.02  # of the room, what the names of files that are not shown may take; 0.01 to 0.05
MOST_MISSED = 200  # files one after another that do not fit, after which no further one is tried; 50 to 1,000
LEAST_TOKENS = 64  # of room, below which no further file is tried
MOST_CHARS_A_TOKEN = 8.0  # of code, with any tokenizer; a file that is too long even so is not counted

Count = Callable[[str], int]


class Ranking(NamedTuple):
    """Orders of the files of a tree, which hardly move when some are edited and do not depend on any question."""

    order: Sequence[str]  # as they are laid out
    worth: Sequence[str]  # as they are chosen where not all fit: what matters most comes first


@dataclass(frozen=True, slots=True)
class Room:
    """What the entries may take, in tokens, and who counts them."""

    tokens: int
    count: Count


class Log:
    """The entries so far, and the files as they tell them. Every entry is rendered and counted once."""

    def __init__(self, entries: Iterable[tuple[Entry, int]] = ()) -> None:
        self.entries: list[Entry] = []
        self.costs: list[int] = []  # tokens of each entry
        self.sheets: dict[str, Sheet] = {}
        self.absent: set[str] = set()
        self._wholes: dict[str, int] = {}  # number of the entry that last told the file whole
        self._touched: dict[str, int] = {}  # number of the last entry that speaks of the file
        for entry, cost in entries:
            self._append(entry, cost, None)

    @property
    def tokens(self) -> int:
        return sum(self.costs)

    @property
    def text(self) -> str:
        return "".join(map(rendered, self.entries))

    @property
    def stale(self) -> int:
        """About how many of the tokens no longer hold."""
        return self.tokens - sum(self._live().values())

    def due_in(self, room: Room) -> bool:
        """Whether a compaction pays: much is stale, or something is and the room is nearly full."""
        tokens, stale = self.tokens, self.stale
        most = MOST_STALE if tokens <= NEARLY_FULL * room.tokens else LEAST_STALE
        return stale > most * (tokens - stale)

    def copy(self) -> "Log":
        twin = Log()
        twin.entries, twin.costs = self.entries.copy(), self.costs.copy()
        twin.sheets, twin.absent = self.sheets.copy(), self.absent.copy()
        twin._wholes, twin._touched = self._wholes.copy(), self._touched.copy()
        return twin

    def tell(self, changed: Mapping[str, str | None], count: Count, order: Sequence[str] = ()) -> None:
        """Appends what is new of the changed files: their text as it may be shown, None for those that are gone.

        New files come in the order given, others behind them by path.
        """
        left = [path for path, text in changed.items() if text is None and path in self.sheets]
        gone = {path: self.sheets[path].standing() for path in left}
        come = {path: text for path, text in changed.items() if text is not None and path not in self.sheets}
        moved = renamed(gone, {path: sheet(text).lines for path, text in come.items()})
        for path in sorted(moved):
            self._tell(Entry(Kind.MOVED, path, before=moved[path]), count)
        lost = gone.keys() - set(moved.values()) | {path for path in self.absent if changed.get(path, "") is None}
        for path in sorted(lost):
            self._tell(Entry(Kind.GONE, path), count)
        for path in sorted(changed.keys() & self.sheets.keys()):
            text = changed[path]
            made = change(path, self.sheets[path], text) if text is not None else None
            if made:
                self._tell(made[0], count, made[1])
        places = {path: place for place, path in enumerate(order)}
        for path in sorted(come.keys() - moved.keys(), key=lambda path: (places.get(path, len(places)), path)):
            self._tell(Entry(Kind.WHOLE, path, come[path]), count)

    def leave_out(self, paths: Collection[str], count: Count) -> None:
        """Appends that these files are there and not shown."""
        if paths:
            self._tell(Entry(Kind.ABSENT, paths=tuple(sorted(paths))), count)

    def compacted(self, count: Count, most: int) -> "Log | None":
        """The same state in fewer entries that cost ``most`` tokens at most; None where none is so short.

        Of all places where the entries could be cut, the one where the fewest tokens are told again for each that is
        freed. Files told again come in the order in which they were last touched.
        """
        order = sorted(self.sheets, key=lambda path: (self._touched[path], path))
        cuts = self._cuts()
        total, stale = self.tokens, self.stale
        least = max(1.0, LEAST_FREED * stale)
        good = [cut for cut in cuts if total - cut.tokens >= least and cut.tokens <= most]
        ranked = sorted(good, key=lambda cut: (cut.again / (total - cut.tokens), -cut.number))
        for cut in ranked[:_MOST_TRIED]:
            made = self._cut(cut.number, count, order)
            if made.tokens <= most and made.tokens < total:
                return made
        return None

    def _cut(self, number: int, count: Count, order: Sequence[str]) -> "Log":
        made = Log(zip(self.entries[:number], self.costs[:number], strict=True))
        changed: dict[str, str | None] = dict.fromkeys(made.sheets.keys() - self.sheets.keys())
        changed |= dict.fromkeys(made.absent - self.absent - self.sheets.keys())
        for path in {path for entry in self.entries[number:] for path in (entry.path, entry.before)}:
            here, known = self.sheets.get(path), made.sheets.get(path)
            if here is not None and (known is None or known.text != here.text):
                changed[path] = here.text
        made.tell(changed, count, order)
        made.leave_out(self.absent - made.absent, count)
        return made

    def _cuts(self) -> list["_Cut"]:
        """For each place to cut at, what is kept and about what would be told again, in tokens."""
        live = self._live()
        cuts = []
        again: dict[str, int] = {}
        told = 0
        kept = self.tokens
        for number in range(len(self.entries) - 1, -1, -1):
            entry, cost = self.entries[number], self.costs[number]
            kept -= cost
            for path in (entry.path, entry.before) if entry.before else (entry.path,):
                before = again.get(path, 0)
                if path in live and self._wholes[path] >= number:
                    now = live[path]
                elif entry.kind is Kind.WHOLE:
                    now = live.get(path, 0)
                else:
                    now = min(before + cost, live.get(path, before + cost))
                told += now - before
                again[path] = now
            cuts.append(_Cut(number, kept, told))
        return cuts

    def _live(self) -> dict[str, int]:
        """About the tokens of each file as it stands today: counted where it stands as told, else by its length."""
        found = {}
        for path, here in self.sheets.items():
            whole = self._wholes[path]
            cost = self.costs[whole]
            if self._touched[path] == whole:
                found[path] = cost
            else:
                told = max(1, len(self.entries[whole].text))
                found[path] = round(cost * sum(map(len, here.standing())) / told)
        return found

    def _tell(self, entry: Entry, count: Count, after: Sheet | None = None) -> None:
        self._append(entry, count(rendered(entry)), after)

    def _append(self, entry: Entry, cost: int, after: Sheet | None) -> None:
        """``after`` is the file after a change, where it is known already. Raises ValueError for what cannot follow."""
        number = len(self.entries)
        path = entry.path
        match entry.kind:
            case Kind.WHOLE:
                self.sheets[path] = after or sheet(entry.text)
                self._wholes[path] = number
                self.absent.discard(path)
            case Kind.CHANGE:
                for hunk in () if after else entry.hunks:
                    self.sheets[path] = _known(self.sheets, path).with_hunk(hunk)
                if after:
                    self.sheets[path] = after
            case Kind.MOVED:
                self.sheets[path] = _known(self.sheets, entry.before)
                self._wholes[path] = self._wholes[entry.before]
                self.absent.discard(path)
                self._forget(entry.before)
            case Kind.GONE:
                self._forget(path)
            case Kind.ABSENT:
                self.absent.update(entry.paths)
        if path in self.sheets:
            self._touched[path] = number
        self.entries.append(entry)
        self.costs.append(cost)

    def _forget(self, path: str) -> None:
        self.absent.discard(path)
        for known in (self.sheets, self._wholes, self._touched):
            known.pop(path, None)


_MOST_TRIED = 3  # cuts that are made because the guess of what they cost was too low


class _Cut(NamedTuple):
    number: int  # of the first entry that is told again
    kept: int
    again: int

    @property
    def tokens(self) -> int:
        return self.kept + self.again


def laid_out(tree: Mapping[str, str], ranking: Ranking, room: Room) -> Log:
    """A log of a tree from nothing: all of it where it fits, else what matters most, and the rest by name.

    ``tree`` maps paths to texts as they may be shown. Raises PromptTooLong where there is no room for any file.
    """
    order = [path for path in ranking.order if path in tree]
    order += sorted(tree.keys() - set(order))
    whole = Log()
    limit = int(room.tokens * (1 - ROOM_FOR_CHANGES))
    if _may_fit(tree, limit):
        whole.tell({path: tree[path] for path in order}, room.count, order)
        if whole.tokens <= limit:
            return whole
    return _fill(tree, order, ranking, room, dict(zip((e.path for e in whole.entries), whole.costs, strict=True)))


def _may_fit(tree: Mapping[str, str], tokens: int) -> bool:
    """False as soon as the texts are too long, so that a huge tree is not read to its end."""
    left = tokens * MOST_CHARS_A_TOKEN
    for text in tree.values():
        left -= len(text)
        if left < 0:
            return False
    return True


def _fill(
    tree: Mapping[str, str], order: Sequence[str], ranking: Ranking, room: Room, counted: Mapping[str, int]
) -> Log:
    worth = [path for path in ranking.worth if path in tree]
    worth += [path for path in order if path not in set(worth)]
    left = int(room.tokens * (FILL - ABSENT_SHARE))
    chosen: dict[str, int] = {}
    missed = 0
    for path in worth:
        if left < LEAST_TOKENS or missed == MOST_MISSED:
            break
        text = tree[path]
        fits = len(text) <= left * MOST_CHARS_A_TOKEN
        cost = (counted.get(path) or room.count(rendered(Entry(Kind.WHOLE, path, text)))) if fits else left + 1
        missed += 1
        if cost <= left:
            chosen[path] = cost
            left -= cost
            missed = 0
    while chosen:
        log = Log((Entry(Kind.WHOLE, path, tree[path]), chosen[path]) for path in order if path in chosen)
        log.leave_out(tree.keys() - chosen.keys(), room.count)
        if log.tokens <= room.tokens:
            return log
        chosen.popitem()  # where the room is so small that the names of what is left out take more than their share
    raise PromptTooLong(
        f"No file of the tree fits the {max(0, room.tokens)} tokens that a full load may have.",
        "Use a model with a longer context window, or ask with --tier wide.",
    )


def updated(log: Log, changed: Mapping[str, str | None], room: Room) -> Log | None:
    """The log with what changed appended, or compacted where that is overdue or it would not fit; None where it must be
    laid out anew.

    ``changed`` holds texts as they may be shown, None for files that are gone. A file that is left out stays so.
    """
    told = {path: text for path, text in changed.items() if text is None or path not in log.absent}
    new = log.copy()
    new.tell(told, room.count)
    if new.tokens <= room.tokens:
        late = new.stale > MOST_STALE_EVER * (new.tokens - new.stale)
        return (new.compacted(room.count, room.tokens) if late else None) or new
    return new.compacted(room.count, int(room.tokens * (1 - ROOM_FOR_CHANGES / 2)))


def texts(tree: Mapping[str, str]) -> dict[str, str]:
    """The files of a tree as they may be shown."""
    return {path: shown(text) for path, text in tree.items()}


def _known(sheets: Mapping[str, Sheet], path: str) -> Sheet:
    if path not in sheets:
        raise ValueError(f"an entry speaks of {path}, which was never told")
    return sheets[path]
