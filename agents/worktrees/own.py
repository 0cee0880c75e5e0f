"""Our own repository beside a stranger's: it has settings of ours, borrows his objects, and writes none of his files.

Git runs what a repository's settings name, so each tree has a repository here that git is pointed at instead. Its
objects are those of the tree's own repository, by reference, and what local changes and patches add to them.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from agents.errors import TreeStateError
from agents.worktrees.git import Git, GitFailed
from agents.worktrees.origin import Origin, small_file
from agents.worktrees.removing import remove
from indexer.history import git_environment

MOST_REVISION_CHARS = 300
MOST_IGNORE_BYTES = 1 << 20
MOST_SHALLOW_BYTES = 16 << 20
MOST_TAGS_BYTES = 8 << 20
TAGS_S = 20.0
KEPT_OBJECTS_S = 172_800.0  # two days: longer than anything that waits for a person
KEPT_S = 30 * 86_400.0  # a tree's folder that nothing was asked of
WAIT_S = 120.0  # for another process that works on the same tree
PAUSE_S = 0.05
FORMAT = "1"  # of a folder here; another one is made again

_BOOLEANS = {"core.filemode": "true", "core.symlinks": "true", "core.ignorecase": "false"}


@dataclass(frozen=True, slots=True)
class Own:
    """The folder that is kept for one tree. Nothing in it is needed again once nothing runs."""

    folder: Path

    @property
    def repository(self) -> Path:
        return self.folder / "repository.git"

    @property
    def door(self) -> Path:
        """A repository whose refs are the tree's own, and whose settings are ours."""
        return self.folder / "door.git"

    @property
    def checkouts(self) -> Path:
        return self.folder / "checkouts"

    @property
    def index(self) -> Path:
        """Of the local files; it is kept, so that unchanged ones are not read again."""
        return self.folder / "state.index"

    @property
    def files_index(self) -> Path:
        """The same of a tree that has no commit."""
        return self.folder / "files.index"

    def git(self, tree: Path | None = None, index: Path | None = None) -> Git:
        return Git(self.repository, tree, index)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Held by one thread of one process at a time. Raises TreeStateError where another holds it for too long."""
        until = time.monotonic() + WAIT_S
        while True:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = _locked(self.folder / "lock")
            if file is not None and os.fstat(file.fileno()).st_nlink:
                break
            if file is not None:  # the folder was swept away while this waited
                file.close()
            if time.monotonic() > until:
                raise TreeStateError("Another process works on this tree.", "Try again later.")
            time.sleep(PAUSE_S)
        with file:
            yield

    def prepare(self, origin: Origin | None, ignored: str) -> None:
        """Makes the repository, or brings it up to what the tree's own is now. To be called alone."""
        kind = (origin.settings.get("extensions.objectformat", "sha1") if origin else "sha1").lower()
        if kind not in ("sha1", "sha256"):
            raise TreeStateError("Its objects are named in a way that is not known here.", "Clone it with SHA-1.")
        borrowed = str(origin.objects) if origin else ""
        sign = f"{FORMAT}\n{kind}\n{borrowed}\n"
        if small_file(self.folder, "sign") != sign:
            self._begin(kind, sign)
        os.utime(self.folder / "sign")
        config = _config(origin, kind)
        own = self.repository
        _write(own / "config", config)
        _write(own / "objects" / "info" / "alternates", _quoted(borrowed) + "\n" if borrowed else "")
        shallow = small_file(origin.common, "shallow", MOST_SHALLOW_BYTES) if origin else None
        if shallow:
            _write(own / "shallow", shallow)
        else:
            (own / "shallow").unlink(missing_ok=True)
        their_ignored = small_file(origin.common, "info/exclude", MOST_IGNORE_BYTES) if origin else ""
        _write(own / "info" / "exclude", ignored + "\n" + (their_ignored or ""))
        for index in (self.index, self.files_index):
            index.with_name(index.name + ".lock").unlink(missing_ok=True)  # of a git that was ended
        if origin:
            self._open_door(origin, config)

    def _begin(self, kind: str, sign: str) -> None:
        for place in (self.repository, self.door):
            remove(place)
        for index in (self.index, self.files_index):
            index.unlink(missing_ok=True)
        self.checkouts.mkdir(mode=0o700, exist_ok=True)
        (self.repository / "refs" / "heads").mkdir(parents=True, mode=0o700)
        for name in ("objects/info", "objects/pack", "info", "worktrees"):
            (self.repository / name).mkdir(parents=True, mode=0o700)
        _write(self.repository / "HEAD", "ref: refs/heads/none\n")
        _write(self.repository / "config", _config(None, kind))
        _write(self.folder / "sign", sign)

    def _open_door(self, origin: Origin, config: str) -> None:
        self.door.mkdir(mode=0o700, exist_ok=True)
        _write(self.door / "config", config)
        _write(self.door / "HEAD", origin.head + "\n")
        for name, place in (
            ("objects", self.repository / "objects"),
            ("refs", origin.common / "refs"),
            ("packed-refs", origin.common / "packed-refs"),
            ("shallow", self.repository / "shallow"),
        ):
            link = self.door / name
            if not link.is_symlink() or link.readlink() != place:
                link.unlink(missing_ok=True)
                link.symlink_to(place)

    def resolved(self, revision: str) -> str:
        """The commit that a revision of the tree's own repository means; "" where it means none."""
        if not revision or len(revision) > MOST_REVISION_CHARS or not revision.isprintable():
            return ""
        asked = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        try:
            return Git(self.door).line(*asked).strip()
        except GitFailed:
            return ""

    def subtree(self, commit: str, prefix: str) -> str:
        """The id of the tree that a commit holds at a prefix; "" where it holds none, or its objects are missing."""
        return self._object(f"{commit}:{prefix.removesuffix('/')}" if prefix else f"{commit}^{{tree}}", "tree")

    def _object(self, name: str, kind: str) -> str:
        if "\n" in name:
            return ""  # no folder of a tree that git could be asked about line by line
        given = os.fsencode(name) + b"\n"
        said = self.git().line("cat-file", "--batch-check=%(objecttype) %(objectname)", given=given)
        found, _, identity = said.partition(" ")
        return identity.strip() if found == kind else ""

    def share_tags(self) -> None:
        """Writes the tags of the tree's own repository into ours, so that builds find the version they describe."""
        form = "--format=%(objectname) %(refname)%(if)%(*objectname)%(then)%0a^%(*objectname)%(end)"
        try:
            listed = Git(self.door).run(
                "for-each-ref", "--sort=refname", form, "refs/tags", most=MOST_TAGS_BYTES, within_s=TAGS_S
            )
        except (GitFailed, TreeStateError):
            return  # damaged or endless; a build does without
        text = listed.decode("utf-8", "surrogateescape")
        _write(self.repository / "packed-refs", "# pack-refs with: peeled fully-peeled sorted \n" + text)

    def hold(self, name: str, commit: str) -> "Held":
        """Makes the place of a checkout, which is in use until it is let go. To be called alone."""
        lock = _locked(self.checkouts / f"{name}.lock")
        assert lock is not None, "a name by chance is taken"
        (self.checkouts / name).mkdir(mode=0o700)
        inner = self.repository / "worktrees" / name
        inner.mkdir(mode=0o700)
        _write(inner / "HEAD", f"{commit}\n")
        _write(inner / "commondir", "../..\n")
        _write(inner / "gitdir", f"{self.checkouts / name / '.git'}\n")
        return Held(name, lock)

    def let_go(self, held: "Held") -> None:
        remove(self.checkouts / held.name)
        remove(self.repository / "worktrees" / held.name)
        (self.checkouts / f"{held.name}.lock").unlink(missing_ok=True)
        held.lock.close()

    def sweep(self, now: float) -> None:
        """Removes checkouts that nobody holds, old objects, and all of it where it was not used for long. To be called
        alone.
        """
        in_use = set()
        for name in {entry.name.removesuffix(".lock").partition("~")[0] for entry in _entries(self.checkouts)}:
            lock = _locked(self.checkouts / f"{name}.lock")
            if lock is None:
                in_use.add(name)
                continue
            for entry in _entries(self.checkouts):
                if entry.name.partition("~")[0] == name:  # its folders, moved up while it was removed
                    remove(self.checkouts / entry.name)
            self.let_go(Held(name, lock))
        for folder in folders(self.repository / "worktrees"):
            if folder.name not in in_use:
                remove(folder)
        if in_use:
            return
        with suppress(FileNotFoundError):
            if (self.folder / "sign").stat().st_mtime < now - KEPT_S:
                remove(self.folder)
                return
        self._forget_objects(now)

    def _forget_objects(self, now: float) -> None:
        """Removes objects that nothing has asked for since long; git renews the time of those that it meets again."""
        for folder in folders(self.repository / "objects"):
            for entry in _entries(folder) if len(folder.name) == 2 else ():
                with suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < now - KEPT_OBJECTS_S:
                        Path(entry.path).unlink()


class Held(NamedTuple):
    """A checkout that is in use: its name, and a file that is locked as long as its process lives."""

    name: str
    lock: IO[bytes]


def folders(place: Path) -> list[Path]:
    """The folders in a folder; none where that cannot be read."""
    return [place / entry.name for entry in _entries(place) if entry.is_dir(follow_symlinks=False)]


def users_ignored() -> str:
    """The patterns that the user ignores in all repositories, from his own settings."""
    home = git_environment().get("HOME", "")
    if not home.startswith("/"):
        return ""
    place = Path(home, ".config", "git", "ignore")
    with suppress(GitFailed):  # he has not set it
        asked = ("config", "--file", f"{home}/.gitconfig", "--no-includes", "--type=path", "--get", "core.excludesFile")
        place = Path(Git(Path(os.devnull), Path("/")).line(*asked, who={"HOME": home}))
    try:
        data = place.read_bytes() if place.is_file() else b""
    except OSError:
        return ""
    return data[:MOST_IGNORE_BYTES].decode("utf-8", "surrogateescape")


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _locked(place: Path) -> IO[bytes] | None:
    """The file, locked; None where somebody else holds it."""
    file = place.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _config(origin: Origin | None, kind: str) -> str:
    settings = origin.settings if origin else {}
    lines = ["[core]"]
    for key, usual in _BOOLEANS.items():
        value = settings.get(key, usual).lower()
        lines.append(f"{key.removeprefix('core.')} = {value if value in ('true', 'false') else usual}")
    for key, values in (("core.autocrlf", ("true", "input")), ("core.eol", ("lf", "crlf"))):
        if settings.get(key, "").lower() in values:
            lines.append(f"{key.removeprefix('core.')} = {settings[key].lower()}")
    lines += [
        f"repositoryformatversion = {int(kind != 'sha1')}",
        "bare = true",
        "hookspath = /dev/null",
        "fsmonitor = false",
        "safecrlf = false",
        "protecthfs = true",
        "protectntfs = true",
        "logallrefupdates = false",
        "commitgraph = false",  # it would be borrowed as well, and believed
    ]
    if kind != "sha1":
        lines += ["[extensions]", f"objectformat = {kind}"]
    lines += ["[checkout]", "workers = 2", "[submodule]", "recurse = false", "[protocol]", "allow = never"]
    return "\n".join(lines) + "\n"


def _quoted(place: str) -> str:
    """As a line of alternates: what begins with # or a quotation mark, or holds a line end, is quoted as C does."""
    if place.startswith(("#", '"')) or "\n" in place:
        return '"' + place.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    return place


def _write(place: Path, text: str) -> None:
    """Writes a small file at once, and only where it says something else."""
    data = text.encode("utf-8", "surrogateescape")
    try:
        if place.read_bytes() == data:
            return
    except FileNotFoundError:
        pass
    other = place.with_name(place.name + ".new")
    other.write_bytes(data)
    other.replace(place)
