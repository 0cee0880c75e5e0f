"""The kernel's notices of what changes in the folders that indexing would look at. Owns watchdog, of which it takes the
reading of inotify alone: which folders are watched is decided here, because a watch that is refused has to be known of.

A watch is placed before a folder is listed and before it is told of, so what changes afterwards is told again. Moved
folders are told by both of their paths. What is made of a notice the inbox knows.
"""

import errno
import os
from itertools import count
from pathlib import Path
from threading import Lock, Thread

from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

from indexer import files
from indexer.files import FileRules, Folder
from indexer.watcher.checkout import Checkout
from indexer.watcher.filesystems import kind_of, silent
from indexer.watcher.gathering import Inbox, Why
from indexer.watcher.polling import is_text

CLOSE_S = 0.9  # for which the reading thread is waited for; it ends as soon as it is told to

_CAME = InotifyConstants.IN_CREATE | InotifyConstants.IN_MOVED_TO
_WENT = InotifyConstants.IN_DELETE | InotifyConstants.IN_MOVED_FROM
_SELF_WENT = InotifyConstants.IN_DELETE_SELF | InotifyConstants.IN_MOVE_SELF
_WATCHED = Mask(
    _CAME
    | _WENT
    | _SELF_WENT
    | InotifyConstants.IN_MODIFY
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_ATTRIB  # a mode that lets no one read, a time that was put back
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_DONT_FOLLOW
)
# Reading a file makes no notice, so indexing does not wake itself.
_GONE_MEANWHILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class Refused(Exception):
    """The kernel, or a file system, does not tell what changes in this tree; the text is a clause that says why."""


class Notices:
    """Watches on a tree, placed when this is made. Raises Refused where not every folder can be watched."""

    def __init__(self, root: Path, rules: FileRules, inbox: Inbox, most: int) -> None:
        self._root = root
        self._rules = rules
        self._inbox = inbox
        self._most = most
        self._ids = count(1)
        self._folders: dict[WatchDescriptor, Folder] = {}
        self._by_path: dict[str, WatchDescriptor] = {}
        self._git: set[WatchDescriptor] = set()
        self._id_of: dict[WatchDescriptor, CallbackId] = {}
        self._devices: set[int] = set()
        self._checkout = Checkout(root)
        self._has_read = False
        self._closing = False
        self._turn = Lock()  # held while notices are acted upon, so that no watch is placed where it was closed
        try:
            self._kernel = InotifyFD()
        except OSError as error:
            raise Refused(_told(error)) from None
        self._thread = Thread(target=self._read, name="watching", daemon=True)
        try:
            self._begin()
            self._place_git()
            self._place(files.top_folder(root, rules))
        except Refused:
            self._kernel.close()
            if not self._has_read:
                self._kernel._close_resources()  # noqa: SLF001 - it leaves that to a reader, and there is none
            raise
        self._root_watch = self._by_path.get("")
        self._inbox.lock(self._checkout.locked())
        self._thread.start()

    @property
    def watches(self) -> int:
        """How many the kernel keeps for this tree."""
        return len(self._id_of)

    @property
    def folders(self) -> int:
        return len(self._folders)

    def next_look(self) -> float | None:
        return None

    def look(self) -> None:
        """Nothing: notices come by themselves."""

    def close(self) -> None:
        self._closing = True
        with self._turn:
            self._kernel.close()
        self._thread.join(CLOSE_S)

    def _begin(self) -> None:
        """Reads once, a notice made for it: InotifyFD gives its descriptors back only after a first read."""
        watch = self._watch(self._root)
        if watch is None:
            raise Refused("the root cannot be read")
        self._unwatch([watch])
        self._kernel.read_events()
        self._has_read = True

    def _read(self) -> None:
        while not self._closing:
            try:
                notices = self._kernel.read_events()
                with self._turn:
                    if not self._heeded(notices):
                        return
            except (Refused, OSError):
                self._inbox.broken(Why.WATCHES)
                return

    def _heeded(self, notices: list[InotifyEvent]) -> bool:
        """Acts upon notices; False where reading on makes no sense."""
        for notice in notices:
            if self._closing:
                return False
            if notice.is_queue_overflow:
                self._inbox.broken(Why.OVERFLOW)
                return False
            self._kernel.handle_event(notice)
        return bool(notices)

    def on_queue_overflow(self) -> None:
        """Never called: overflows are taken out before, with watchdog's own way of dealing with them."""

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """The kernel took a watch back: its folder is gone."""
        if self._closing:
            return
        self._id_of.pop(wd, None)
        self._git.discard(wd)
        folder = self._folders.pop(wd, None)
        if folder is not None and self._by_path.get(folder.path) == wd:
            del self._by_path[folder.path]

    def on_event(self, event: InotifyEvent) -> None:
        """One notice of the kernel's."""
        name = os.fsdecode(event.name)
        if event.wd in self._git:
            self._in_git(name, event.mask)
        folder = self._folders.get(event.wd)
        if folder is None:
            return
        if event.mask & InotifyConstants.IN_UNMOUNT:
            self._inbox.broken(Why.MOUNT)
        elif not name:
            if event.mask & _SELF_WENT and event.wd == self._root_watch:
                self._inbox.broken(Why.ROOT)
        elif name in files.IGNORE_FILES or (name == ".git" and not folder.path and event.mask & (_CAME | _WENT)):
            self._inbox.broken(Why.RULES)
        elif not is_text(name):
            return
        elif event.mask & InotifyConstants.IN_ISDIR:
            self._folder_changed(folder, name, event.mask)
        elif folder.takes(name) is not None:
            self._inbox.file(folder.under(name))

    def _folder_changed(self, folder: Folder, name: str, mask: int) -> None:
        path = folder.under(name)
        if mask & InotifyConstants.IN_MOVED_FROM:
            self._forget(path)
        if not folder.enters(name):
            return
        if not mask & _WENT:
            self._place(files.folder_in(self._root, folder, name))
        self._inbox.folder(path)

    def _in_git(self, name: str, mask: int) -> None:
        if not self._checkout.heeds(name):
            return
        self._inbox.lock(self._checkout.locked())
        if name == "index.lock" and mask & _WENT:
            self._inbox.everything(Why.GIT)  # too short to be seen held
        if self._checkout.moved():
            self._inbox.everything(Why.HEAD)
        if mask & (_CAME | _WENT):
            self._place_git()

    def _place_git(self) -> None:
        for folder in self._checkout.folders:
            watch = self._watch(folder)
            if watch is not None:
                self._git.add(watch)

    def _place(self, start: Folder) -> None:
        """Watches a folder and all beneath it that the walk would look into."""
        pending = [start]
        while pending and not self._closing:
            folder = pending.pop()
            place = self._root / folder.path
            watch = self._watch(place)
            if watch is None:
                continue
            old = self._folders.get(watch)
            if old is not None and self._by_path.get(old.path) == watch:
                del self._by_path[old.path]  # it was moved here, of which the notice is still to come
            self._folders[watch] = folder
            self._by_path[folder.path] = watch
            try:
                self._check_device(place)
                with os.scandir(place) as entries:
                    for entry in entries:
                        inside = entry.is_dir(follow_symlinks=False) and is_text(entry.name)
                        if inside and folder.enters(entry.name):
                            pending.append(files.folder_in(self._root, folder, entry.name))
            except OSError:
                continue  # it went meanwhile, or may not be listed; then its files cannot be indexed either

    def _check_device(self, place: Path) -> None:
        device = place.stat(follow_symlinks=False).st_dev
        if device in self._devices:
            return
        self._devices.add(device)
        name = silent(kind_of(place))
        if name is not None:
            raise Refused(f"{name} does not tell of all changes")

    def _watch(self, place: Path) -> WatchDescriptor | None:
        """The watch on a folder, which may be one that is there already; None where it went or may not be read."""
        callback = CallbackId(next(self._ids))
        try:
            watch = self._kernel.add_callback(os.fsencode(place), _WATCHED, self, callback)
        except OSError as error:
            if error.errno in _GONE_MEANWHILE:
                return None
            raise Refused(_told(error)) from None
        if watch < 0:  # InotifyFD's way to say that permission is denied
            self._kernel.remove_callbacks([(watch, callback)])
            return None
        old = self._id_of.get(watch)
        if old is not None:
            self._kernel.remove_callbacks([(watch, old)])
        elif len(self._id_of) >= self._most:
            raise Refused(f"it has more folders than may be watched ({self._most})")
        self._id_of[watch] = callback
        return watch

    def _forget(self, path: str) -> None:
        """Lets go of a folder that was moved away, and of all beneath it."""
        below = path + "/"
        self._unwatch([watch for known, watch in self._by_path.items() if known == path or known.startswith(below)])

    def _unwatch(self, watches: list[WatchDescriptor]) -> None:
        for watch in watches:
            folder = self._folders.pop(watch, None)
            if folder is not None and self._by_path.get(folder.path) == watch:
                del self._by_path[folder.path]
            callback = None if watch in self._git else self._id_of.pop(watch, None)
            if callback is not None:
                self._kernel.remove_callbacks([(watch, callback)])


def _told(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the kernel lets no more folders be watched (fs.inotify.max_user_watches)"
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return "the kernel lets no more programs watch (fs.inotify.max_user_instances), or too many files are open"
    return f"inotify says: {error.strerror}"
