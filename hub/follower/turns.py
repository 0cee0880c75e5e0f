"""Which tree is looked at next, and what of it: hints put together while another refresh runs. Pure.

Files that somebody has just saved go before a look at a whole tree, and the tree that changed last before the others;
what has waited for long goes before both. What a refresh is this does not know.
"""

from dataclasses import dataclass, field, replace

from indexer.watcher import Hints, Why

# Seconds after which a tree is not put off any more for others that change without end. 1 to 30.
PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What of a tree is to be looked at. With ``whole`` nothing is said of single files."""

    paths: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()
    whole: bool = False
    why: frozenset[Why] = frozenset()
    first: float = 0.0  # when the first hint of it came, by a clock that only goes on
    last: float = 0.0
    seen: float = 0.0  # Unix time of the first hint
    hints: int = 0
    not_before: float = 0.0

    @property
    def size(self) -> int:
        """How many files and folders are named."""
        return len(self.paths) + len(self.folders)

    @property
    def unnoticed(self) -> bool:
        """Whether nothing was noticed, and it was only time to look."""
        return self.why == {Why.TIME}

    @property
    def is_change(self) -> bool:
        """Whether something was noticed."""
        return bool(self.why - {Why.TIME, Why.START})

    def joined(self, other: "Wish") -> "Wish":
        """Both in one look. A hint that is new is not put off for what failed before."""
        whole = self.whole or other.whole
        return Wish(
            frozenset() if whole else self.paths | other.paths,
            frozenset() if whole else self.folders | other.folders,
            whole,
            self.why | other.why,
            min(self.first, other.first),
            max(self.last, other.last),
            min(self.seen, other.seen),
            self.hints + other.hints,
            min(self.not_before, other.not_before),
        )


def wish_of(hints: Hints, now: float, seen: float) -> Wish:
    """``now`` is of a clock that only goes on, ``seen`` a Unix time."""
    return Wish(hints.paths, hints.folders, hints.everything, frozenset(hints.why), now, now, seen, 1)


@dataclass(slots=True)
class Turns:
    """The trees that wait, by name."""

    waiting: dict[str, Wish] = field(default_factory=dict)

    def put(self, tree: str, wish: Wish) -> None:
        """Another hint, or what a refresh has left undone."""
        before = self.waiting.get(tree)
        self.waiting[tree] = before.joined(wish) if before else wish

    def put_back(self, tree: str, wish: Wish, not_before: float) -> None:
        """What failed, to be tried again as a whole, for what it has done is not known."""
        again = replace(wish, paths=frozenset(), folders=frozenset(), whole=True, not_before=not_before)
        before = self.waiting.get(tree)
        self.waiting[tree] = again.joined(before) if before else again

    def take(self, now: float) -> tuple[str, Wish] | None:
        """The next one, which waits no longer with that; None where nothing is due."""
        due = [(tree, wish) for tree, wish in self.waiting.items() if wish.not_before <= now]
        if not due:
            return None
        tree, wish = min(due, key=lambda each: _order(each[0], each[1], now))
        del self.waiting[tree]
        return tree, wish

    def drop(self, tree: str) -> None:
        self.waiting.pop(tree, None)

    def saved_elsewhere(self, tree: str, now: float) -> bool:
        """Whether single files of another tree wait."""
        return any(other != tree and not wish.whole and wish.not_before <= now for other, wish in self.waiting.items())

    def due(self) -> float | None:
        """When the next one may be taken; None where none waits."""
        return min((wish.not_before for wish in self.waiting.values()), default=None)


def _order(tree: str, wish: Wish, now: float) -> tuple[bool, bool, float, str]:
    old = now - wish.first > PATIENCE_S
    return not old, wish.whole and not old, wish.first if old else -wish.last, tree
