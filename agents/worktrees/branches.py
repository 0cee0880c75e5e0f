"""A commit put into the tree's own repository: objects, and one branch. None of its programs is run by that.

Objects are copied as files, and the branch is moved by git with settings of ours, which compares and swaps. A branch
that somebody works on is never touched, and none ever loses a commit.
"""

import os
import re
import secrets
import stat
import unicodedata
from contextlib import suppress
from pathlib import Path

from agents.errors import TreeStateError
from agents.worktrees.git import Git, GitFailed
from agents.worktrees.origin import Origin, small_file
from agents.worktrees.own import Own

MOST_BRANCH_CHARS = 200
MOST_MESSAGE_CHARS = 8_000
MOST_AUTHOR_CHARS = 200
COMMITTER = ("codehub", "codehub@localhost")

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")
_AUTHOR = re.compile(r"\s*([^<>]*?)\s*(?:<([^<>]*)>)?\s*")


def checked_branch(origin: Origin, branch: str) -> str:
    """The full name of a branch that may be written. Raises TreeStateError."""
    name = branch.removeprefix("refs/heads/")
    ref = f"refs/heads/{name}"
    hint = "Letters, digits and - _ . / make a name, such as agents/fix-parser."
    odd = len(name) > MOST_BRANCH_CHARS or not _BRANCH.fullmatch(name) or name.upper() in ("HEAD", "FETCH_HEAD")
    if odd or ".." in name or any(part.lower().endswith((".lock", ".")) for part in name.split("/")):
        raise TreeStateError(f"{branch[:80]!a} is no name for a branch.", hint)
    busy = {taken.casefold(): where for taken, where in origin.checked_out().items()}
    if name.casefold() in busy:
        raise TreeStateError(
            f"The branch {name} is checked out in {busy[name.casefold()]}.",
            "Write to a branch of another name, and merge it from there.",
        )
    return ref


def tip(own: Own, origin: Origin, ref: str) -> str:
    """The commit that a branch is at; "" where there is no such branch. Raises TreeStateError for what is no branch."""
    for base in (origin.common, origin.common / "logs"):
        _check_way(base, ref)
    if (small_file(origin.common, ref) or "").startswith("ref:"):
        raise TreeStateError(f"{ref} stands for another branch.", "Write to a branch of another name.")
    try:
        return Git(own.door).line("rev-parse", "--verify", "--quiet", "--end-of-options", ref).strip()
    except GitFailed:
        return ""


def committed(own: Own, tree: str, parent: str, message: str, author: str, now: float) -> str:
    """The id of a new commit, which our own repository holds."""
    text = "".join(
        character
        for character in message.replace("\r\n", "\n")[:MOST_MESSAGE_CHARS]
        if character in "\n\t" or unicodedata.category(character)[0] != "C"
    ).strip()
    if not text:
        raise TreeStateError("The commit has no message.", "Say in a sentence what it does and why.")
    name, mail = _author(author)
    date = f"@{int(now)} +0000"
    who = {
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": mail,
        "GIT_AUTHOR_DATE": date,
        "GIT_COMMITTER_NAME": COMMITTER[0],
        "GIT_COMMITTER_EMAIL": COMMITTER[1],
        "GIT_COMMITTER_DATE": date,
    }
    return own.git().line("commit-tree", tree, "-p", parent, given=f"{text}\n".encode(), who=who).strip()


def publish(own: Own, origin: Origin, ref: str, commit: str, parent: str, before: str) -> None:
    """Puts a commit and a branch into the tree's own repository.

    Raises TreeStateError where the branch is no longer at ``before``, or would lose commits.
    """
    git = own.git()
    name = ref.removeprefix("refs/heads/")
    if before:
        try:
            git.run("merge-base", "--is-ancestor", before, commit)
        except GitFailed:
            raise TreeStateError(
                f"The branch {name} holds commits that would be lost.", "Write to a branch of another name."
            ) from None
    made = git.run("rev-list", "--objects", "--no-object-names", commit, f"^{parent}").decode("ascii").split()
    try:
        _copy(own.repository / "objects", origin.objects, made)
    except OSError as error:
        raise TreeStateError(
            f"{origin.objects} cannot be written: {error.strerror}.", "The server's user needs to write there."
        ) from None
    nothing = "0" * len(commit)
    try:
        Git(own.door).run("update-ref", "--no-deref", ref, commit, before or nothing)
    except GitFailed as failed:
        said = failed.complaint.splitlines()[0][:300] if failed.complaint else ""
        raise TreeStateError(f"The branch {name} cannot be written: {said}", "Try again, or name another.") from None


def _author(author: str) -> tuple[str, str]:
    found = _AUTHOR.fullmatch(author[:MOST_AUTHOR_CHARS])
    parts = found.groups() if found else ("", "")
    name, mail = ("".join(c for c in part or "" if c.isprintable()).strip() for part in parts)
    return name or COMMITTER[0], mail or COMMITTER[1]


def _check_way(base: Path, ref: str) -> None:
    """Raises TreeStateError where a link stands on the way to a ref: git would write where it leads."""
    place = base
    for part in ("", *ref.split("/")):
        place /= part
        try:
            mode = place.lstat().st_mode
        except FileNotFoundError:
            return
        except NotADirectoryError:
            raise TreeStateError(
                f"{ref} cannot be made, since a branch of a shorter name is there.",
                "Write to a branch of another name.",
            ) from None
        except OSError as error:
            raise TreeStateError(f"{place} cannot be read: {error.strerror}.", "Ask for access.") from None
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise TreeStateError(f"{place} is a link or nothing that git makes.", "Nothing is written there.")


def _copy(source: Path, target: Path, objects: list[str]) -> None:
    """Copies loose objects that our own repository holds; whatever it only borrows is there already."""
    here = os.open(target, _FOLDER)
    try:
        for name in objects:
            try:
                data = (source / name[:2] / name[2:]).read_bytes()
            except FileNotFoundError:
                continue
            with suppress(FileExistsError):
                os.mkdir(name[:2], dir_fd=here)
            folder = os.open(name[:2], _FOLDER, dir_fd=here)
            try:
                _place(folder, name[2:], data)
            finally:
                os.close(folder)
    finally:
        os.close(here)


def _place(folder: int, name: str, data: bytes) -> None:
    """A file under its name at once and whole, as git does it; one that stands there already is the same."""
    other = f"tmp_obj_{secrets.token_hex(8)}"
    file = os.open(other, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444, dir_fd=folder)
    try:
        with os.fdopen(file, "wb") as written:
            written.write(data)
            written.flush()
            os.fsync(written.fileno())
        with suppress(FileExistsError):
            os.link(other, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    finally:
        os.unlink(other, dir_fd=folder)
