"""Keeps the indexes of trees up to date while their files change: watches all of them, refreshes one at a time.

A thread for each tree takes hints; one writer makes refreshes of them. What somebody has just saved goes first, and
what can wait is done when nothing has changed for some seconds. A root that is away loses nothing: it is told, and is
taken up when it is back. One process at a time follows the trees of a data folder, and says in ``hub.following`` how
they stand. Knows nothing of servers.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Condition, Thread

from hub import following, indexing, wiring
from hub.config import Settings
from hub.errors import FollowError, HubError
from hub.follower.refreshing import Tree
from hub.follower.turns import Turns, Wish, wish_of
from hub.follower.walking import Walking
from hub.following import Followed, Keeper, Last, Mode
from hub.hooking import spool
from indexer.errors import Cancelled, IndexerError
from indexer.index import Workspace
from indexer.model import IndexReport
from indexer.watcher import Hints, Options, Standing, Watcher, Why

__all__ = ["Follower", "Refreshed", "ignore"]

LOCK = "follow"
LOOK_S = 1.0  # between two looks at what hooks of git have told. 0.5 to 5: the kernel tells of most of it at once
FIND_S = 5.0  # between two looks for workspaces that came or went. 1 to 60
# Seconds without a hint until what takes a while is done: an encoder's vectors of a few chunks; the compiler's word and
# the graph, which takes 5 s of a core at a million lines; the process that fills Chroma, which takes 2 s to begin.
ENCODE_S = 0.3  # 0.1 to 2
SETTLE_S = 3.0  # 1 to 30
LEAVE_S = 30.0  # 5 to 300
# Seconds without a hint after which open indexes and models are let go of. 60 to 3,600.
REST_S = 300.0
# Seconds until a refresh that failed is tried again, at first and at most; it doubles between.
RETRY_S, MOST_RETRY_S = 5.0, 60.0
# A look at a whole tree that has taken this long stops for what was saved in another tree, and goes on afterwards; so
# many times at most, so that it comes to its end. 1 to 10 s; 1 to 20.
YIELD_S = 2.0
MOST_YIELDS = 5
# Seconds between a save and a refresh beyond which the time of a file says nothing of when it was put there.
MOST_SAVED_S = 60.0


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What one refresh did, for a person to read; ``error`` says why it did nothing."""

    workspace: str
    changed: int = 0  # files that were read again
    removed: int = 0
    seconds: float = 0.0
    after_save_s: float | None = None  # since the last save that it was told of; None where that is not known
    whole: bool = False
    why: tuple[str, ...] = ()
    error: str = ""
    hint: str = ""


def ignore(_done: Refreshed) -> None:
    """For callers that tell nobody."""


@dataclass(slots=True)
class _Watched:
    """One tree, its thread and how it stands."""

    tree: Tree
    told: Followed
    watcher: Watcher | None = None
    thread: Thread | None = None
    closing: bool = False
    ended: bool = False  # its thread
    wish: Wish | None = None  # that is refreshed at this moment
    failures: int = 0
    yields: int = 0
    last_hint: float = 0.0
    last_refresh: float = 0.0
    to_warm: bool = False
    to_encode: bool = False
    to_settle: bool = False
    to_leave: bool = False
    noted: str = ""  # what failed last of what can wait
    resting: bool = True


class Follower:
    """Follows the trees of a data folder until it is stopped. ``run`` belongs to one thread; any may call ``stop``."""

    def __init__(
        self,
        settings: Settings,
        names: Sequence[str] | None = None,
        tell: Callable[[Refreshed], None] = ignore,
        options: Options | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``names`` are those of workspaces; None means all there are, and those that come."""
        self._settings = settings
        self._data = wiring.data_folder(settings)
        self._names = None if names is None else frozenset(names)
        self._tell = tell
        self._options = options or options_of(settings)
        self._clock, self._wall = clock, wall
        self._changed = Condition()
        self._turns = Turns()
        self._trees: dict[str, _Watched] = {}
        self._keeper = Keeper(settings.data, wall())
        self._stopping = False
        self._walking: Walking | None = None
        self._find_at = self._look_at = 0.0

    @property
    def blocked(self) -> bool:
        """Whether it waits for whoever writes the data folder, which takes as long as that takes."""
        return any(watched.tree.blocked for watched in list(self._trees.values()))

    def stop(self) -> None:
        """Ends what runs after the files under way. Returns at once, in a signal's handler too."""
        self._stopping = True
        if self._changed.acquire(blocking=False):  # else whoever holds it goes on soon, and looks again within LOOK_S
            self._changed.notify_all()
            self._changed.release()

    def run(self) -> None:
        """Raises FollowError where another process follows, and DataFolderError where the folder cannot be written."""
        with self._data.background(LOCK) as mine:
            if not mine:
                raise FollowError(
                    f"The trees of {self._settings.data} are followed already{self._other()}.",
                    "`codehub status` shows how; a server does it by itself.",
                )
            try:
                with self._data.owned_for_a_moment():
                    self._data.sweep()
                while not self._stopping:
                    self._step()
            finally:
                if self._walking is not None:
                    self._walking.end()
                for watched in list(self._trees.values()):
                    self._forget(watched)
                self._keeper.end()

    def _other(self) -> str:
        told = following.following(self._settings.data)
        return f" by process {told.pid}" if told is not None and told.alive else ""

    def _step(self) -> None:
        if any(watched.ended for watched in self._trees.values()):
            raise RuntimeError("a thread that watches has ended, so what changes there would be missed")
        now = self._clock()
        if now >= self._find_at:
            self._find()
            self._find_at = now + FIND_S
        if now >= self._look_at:
            self._hear_hooks()
            self._look_at = now + LOOK_S
        with self._changed:
            turn = self._turns.take(self._clock())
            if turn is not None:
                self._trees[turn[0]].wish = turn[1]
        if turn is not None:
            self._refresh(*turn)
        elif not self._do_what_waited():
            self._wait()

    # What is followed

    def _find(self) -> None:
        """Takes up the workspaces that came, and lets go of those that went."""
        found = {each.name: each for each in self._data.workspaces() if self._names is None or each.name in self._names}
        for name, watched in list(self._trees.items()):
            if name not in found or found[name].root != watched.told.root:
                self._forget(watched)
        for name, workspace in found.items():
            if name not in self._trees:
                self._begin(workspace)
        self._keep()

    def _begin(self, workspace: Workspace) -> None:
        tree = Tree(self._settings, workspace.name, workspace.root)
        watched = _Watched(tree, Followed(workspace.name, workspace.root, Mode.WAITING))
        with self._changed:
            self._trees[workspace.name] = watched
        watched.thread = Thread(target=self._watch, args=(watched,), name=f"watch {workspace.name}", daemon=True)
        watched.thread.start()

    def _forget(self, watched: _Watched) -> None:
        with self._changed:
            watched.closing = True
            watcher = watched.watcher
            self._trees.pop(watched.told.workspace, None)
            self._turns.drop(watched.told.workspace)
        if watcher is not None:
            watcher.close()
        if watched.thread is not None:
            watched.thread.join(LOOK_S)
        watched.tree.close()

    def _watch(self, watched: _Watched) -> None:
        """The thread of one tree."""
        try:
            with Watcher(watched.told.root, indexing.file_rules(self._settings), self._options, self._clock) as watcher:
                with self._changed:
                    watched.watcher = watcher
                    if watched.closing:
                        return
                while (hints := watcher.take()) is not None:
                    self._hear(watched, hints, watcher.standing())
        finally:
            with self._changed:
                watched.ended = True
                self._changed.notify_all()

    def _hear(self, watched: _Watched, hints: Hints, standing: Standing) -> None:
        now = self._clock()
        with self._changed:
            if watched.closing:
                return
            watched.last_hint = now
            name = watched.told.workspace
            mode = Mode.WAITING if standing.mode.value == "closed" else Mode(standing.mode.value)
            watched.told = replace(
                watched.told,
                mode=mode,
                why=standing.why,
                watches=standing.watches,
                limit=standing.limit,
                hints=watched.told.hints + 1,
            )
            if mode is Mode.AWAY:
                self._turns.drop(name)  # nothing counts as deleted; all of it is looked at when the root is back
            else:
                self._turns.put(name, wish_of(hints, now, self._wall()))
            self._keep()
            self._changed.notify_all()

    def _hear_hooks(self) -> None:
        """Takes what hooks of git have told of the trees that are followed, and leaves the rest to the server."""
        data = self._settings.data
        if spool.is_empty(data):
            return
        roots = [each.root for each in self._data.workspaces()]
        mine = {watched.told.root: watched for watched in self._trees.values()}
        if not spool.waiting(data, roots) & mine.keys():
            return
        for root in sorted(spool.take(data, roots)):
            if root in mine:
                hints = Hints(everything=True, head=True, why=(Why.HEAD,))
                watched = mine[root]
                with self._changed:
                    if watched.told.mode is not Mode.AWAY:
                        self._turns.put(watched.told.workspace, wish_of(hints, self._clock(), self._wall()))
            else:
                with suppress(OSError):
                    spool.tell(data, root)

    # Refreshing

    def _refresh(self, name: str, wish: Wish) -> None:
        watched = self._trees[name]
        began = self._clock()
        saved = None if wish.whole else _last_saved(watched.told.root, wish)
        watched.resting = False

        def stop() -> bool:
            return self._stopping or (wish.whole and self._others_go_first(watched, began))

        try:
            report = watched.tree.refresh(wish, stop)
        except Cancelled:
            with self._changed:
                watched.yields += 1
                watched.wish = None
                self._turns.put(name, wish)
        except (HubError, IndexerError) as error:
            self._failed(watched, wish, error)
        else:
            self._done(watched, wish, report, self._clock() - began, saved)

    def _others_go_first(self, watched: _Watched, began: float) -> bool:
        if watched.yields >= MOST_YIELDS or self._clock() - began < YIELD_S:
            return False
        with self._changed:
            return self._turns.saved_elsewhere(watched.told.workspace, self._clock())

    def _done(self, watched: _Watched, wish: Wish, report: IndexReport, seconds: float, saved: float | None) -> None:
        now = self._wall()
        number = report.changed + report.removed
        watched.failures = watched.yields = 0
        watched.last_refresh = self._clock()
        if Why.START in wish.why:
            watched.to_warm = True
        if number or Why.START in wish.why:
            watched.to_encode = watched.to_settle = watched.to_leave = True
        with self._changed:
            told = watched.told
            last = Last(now, round(seconds, 3), report.changed, report.removed, wish.whole)
            watched.told = replace(
                told,
                last=last if number or told.last is None else told.last,
                error="",
                refreshes=told.refreshes + 1,
                refresh_s=round(told.refresh_s + seconds, 3),
                corrected=told.corrected + (number if wish.unnoticed else 0),
            )
            watched.wish = None
            self._keep()
        after = now - saved if saved is not None and 0 <= now - saved < MOST_SAVED_S else None
        name = told.workspace
        self._tell(Refreshed(name, report.changed, report.removed, seconds, after, wish.whole, _reasons(wish)))

    def _failed(self, watched: _Watched, wish: Wish, error: HubError | IndexerError) -> None:
        """Tells it once, and tries again later: a full disk, a folder that may not be written, a root that is away."""
        watched.failures += 1
        watched.tree.close()
        pause = min(RETRY_S * 2 ** (watched.failures - 1), MOST_RETRY_S)
        name, message = watched.told.workspace, error.message
        with self._changed:
            known = watched.told.error == message
            watched.told = replace(watched.told, error=message)
            watched.wish = None
            if name in self._trees and watched.told.mode is not Mode.AWAY:
                self._turns.put_back(name, wish, self._clock() + pause)
            self._keep()
        if not known:
            self._tell(Refreshed(name, whole=wish.whole, why=_reasons(wish), error=message, hint=error.hint))

    # What can wait

    def _do_what_waited(self) -> bool:
        """One thing that waited for quiet. Tells whether there was any."""
        now = self._clock()
        for watched in list(self._trees.values()):
            quiet = now - max(watched.last_hint, watched.last_refresh)
            if watched.to_warm:
                watched.to_warm = False
                self._later(watched, _warm)
            elif watched.to_encode and quiet >= ENCODE_S:
                watched.to_encode = False
                self._later(watched, self._encode)
            elif watched.to_settle and quiet >= SETTLE_S and not self._is_walking():
                watched.to_settle = False
                self._later(watched, self._settle)
            elif watched.to_leave and quiet >= LEAVE_S:
                for each in self._trees.values():  # the processes see to all of them
                    each.to_leave = False
                self._later(watched, _leave)
            elif not watched.resting and quiet >= REST_S:
                watched.resting = True
                watched.tree.rest()
            else:
                continue
            return True
        return False

    def _encode(self, watched: _Watched) -> None:
        watched.tree.encode(self._is_wanted)

    def _is_walking(self) -> bool:
        """Whether the graph of a tree is worked out at this moment; one at a time is."""
        if self._walking is not None and self._walking.has_ended():
            self._walking = None
        return self._walking is not None

    def _settle(self, watched: _Watched) -> None:
        finished = watched.tree.confirm(self._is_wanted)
        if self._is_wanted():
            finished = False
        else:
            self._walking = watched.tree.walk()
            watched.tree.tell_changes(self._is_wanted)
        watched.to_settle = not finished

    def _later(self, watched: _Watched, work: Callable[[_Watched], None]) -> None:
        """What fails here is done by the next one, or by `codehub index`, and costs no freshness of text."""
        try:
            work(watched)
        except (HubError, IndexerError) as error:
            watched.tree.close()
            if watched.noted != error.message:
                watched.noted = error.message
                self._tell(Refreshed(watched.told.workspace, error=error.message, hint=error.hint))
        else:
            watched.noted = ""

    def _is_wanted(self) -> bool:
        """Whether something better is to be done."""
        return self._stopping or bool(self._turns.waiting)

    def _wait(self) -> None:
        """Until a hint comes, or something is due; LOOK_S at most."""
        now = self._clock()
        until = min(self._find_at, self._look_at)
        for watched in self._trees.values():
            since = max(watched.last_hint, watched.last_refresh)
            for is_due, pause in (
                (watched.to_encode, ENCODE_S),
                (watched.to_settle, SETTLE_S),
                (watched.to_leave, LEAVE_S),
            ):
                if is_due and not (pause == SETTLE_S and self._walking):
                    until = min(until, since + pause)
        with self._changed:
            due = self._turns.due()
            until = until if due is None else min(until, due)
            if not self._stopping and until > now:
                self._changed.wait(until - now)

    def _keep(self) -> None:
        """Writes down how all trees stand."""
        with self._changed:
            self._keeper.keep([self._standing(watched) for _, watched in sorted(self._trees.items())])

    def _standing(self, watched: _Watched) -> Followed:
        waiting = [wish for wish in (self._turns.waiting.get(watched.told.workspace), watched.wish) if wish is not None]
        return replace(
            watched.told,
            pending=sum(wish.size for wish in waiting),
            whole=any(wish.whole and not wish.unnoticed for wish in waiting),
            waiting_since=min((round(wish.seen, 3) for wish in waiting if wish.is_change), default=None),
        )


def _warm(watched: _Watched) -> None:
    watched.tree.warm()


def _leave(watched: _Watched) -> None:
    watched.tree.leave_to_others()


def _reasons(wish: Wish) -> tuple[str, ...]:
    return tuple(sorted(each.value for each in wish.why))


def options_of(settings: Settings) -> Options:
    """How trees are watched, as the settings say."""
    return Options(
        quiet_s=settings.watch_quiet_milliseconds / 1000,
        most_s=max(settings.watch_most_milliseconds, settings.watch_quiet_milliseconds) / 1000,
        reconcile_s=settings.watch_reconcile_minutes * 60.0,
        poll_s=settings.watch_poll_seconds,
        polls=settings.watch_mode == "polling",
    )


def _last_saved(root: Path, wish: Wish) -> float | None:
    """When the newest of the named files was written, as its time says; None where none is there."""
    times = []
    for path in wish.paths:
        with suppress(OSError):
            times.append((root / path).stat(follow_symlinks=False).st_mtime)
    return max(times, default=None)
