"""The lines that are put into git's hooks, and taken out again, byte for byte. Knows a folder of hooks and no git.

The block is for POSIX shells, starts no process, prints nothing, and is done before anything else of a hook, so that
neither can disturb the other. A hook in another language is put aside and called by one of ours. What is no plain file
is left alone.
"""

import os
import re
import shlex
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path

from hub.errors import HookError

# Together they tell of all that git does to a tree, but for `reset --hard`, `stash pop` and single files.
HOOKS = ("post-merge", "post-checkout", "post-rewrite", "post-commit")
SWITCH = "CODEHUB_HOOKS"  # set to "off", hooks tell nothing
KEPT = ".codehub-kept"  # after the name of a hook that was put aside
MOST_BYTES = 1 << 20  # of a hook that is read; a larger one is put aside unread

_SHEBANG = b"#!/bin/sh\n"
_EXECUTABLE = 0o755
_BEGIN = b"# >>> codehub"
_WHOLE, _AMONG, _BEFORE = b" (all of this file) >>>\n", b" >>>\n", b" (before the hook put aside) >>>\n"
_END = b"# <<< codehub <<<\n"
_BLOCK = re.compile(rb"^# >>> codehub([^\n]{0,40})\n(?:[^\n]*\n){1,40}?# <<< codehub <<<\n", re.MULTILINE)
_SHELL = re.compile(
    rb"#![ \t]*(?:/[^\s]*/)?(?:env[ \t]+)?(?:sh|dash|bash|ash|ksh|mksh|zsh)(?:[ \t]+-[a-zA-Z]+)*[ \t]*\n"
)


class HookState(StrEnum):
    """What a hook is to us."""

    INSTALLED = "installed"
    ABSENT = "absent"
    OTHERS = "others"  # somebody's, without our lines
    OUTDATED = "outdated"  # with lines of ours that tell another data folder, or are of another version
    ODD = "odd"  # not ours to change


@dataclass(frozen=True, slots=True)
class Hook:
    """One hook of a folder; ``note`` says why nothing is done with an odd one."""

    name: str
    state: HookState
    note: str = ""


@dataclass(frozen=True, slots=True)
class _File:
    """A hook as it is; ``content`` is None for one that is too large to be read."""

    content: bytes | None
    mode: int
    owner: tuple[int, int]


def block(spool: Path, shared: Path) -> str:
    """The lines that tell a spool of the tree in which a hook runs, for the repository whose shared folder that is.

    Raises HookError for a spool whose path no shell can be told.
    """
    folder = os.fspath(spool)
    if any(ord(letter) < ord(" ") for letter in folder):
        raise HookError("The path of the data folder holds control characters.", "Give another one with --data.")
    # A file for each work tree, however often it tells: linked ones have a GIT_DIR of their own name.
    name = blake2b(os.fsencode(shared), digest_size=8).hexdigest()
    quoted = shlex.quote(folder)
    lines = (
        _BEGIN.decode() + _AMONG.decode().rstrip("\n"),
        "# Tells codehub that this tree has changed; `codehub hooks uninstall` takes these lines out.",
        f'if [ "${{{SWITCH}-}}" != off ] && [ "${{3-}}" != 0 ] && [ -d {quoted} ]; then',
        "  codehub_tree=${GIT_DIR-}",
        f'  {{ printf \'%s\\n\' "$PWD" >> {quoted}/{name}."${{codehub_tree##*/}}"; }} 2> /dev/null || :',
        "  unset codehub_tree",
        "fi",
        _END.decode(),
    )
    return "\n".join(lines)


def looked_at(folder: Path, wanted: str) -> tuple[Hook, ...]:
    """How the hooks of a folder stand to the block that is wanted there."""
    return tuple(_looked_at(folder, name, wanted) for name in HOOKS)


def install(folder: Path, wanted: str) -> tuple[Hook, ...]:
    """Puts the block into all hooks of a folder, which is made; what then stands there. Odd hooks stay as they are.

    Raises HookError where the folder cannot be written; what was done until then stays, and is gone on with.
    """
    try:
        folder.mkdir(exist_ok=True)
        for hook in looked_at(folder, wanted):
            if hook.state not in {HookState.INSTALLED, HookState.ODD}:
                _install(folder, hook.name, wanted)
    except OSError as error:
        raise _unwritable(folder, error) from None
    return looked_at(folder, wanted)


def uninstall(folder: Path) -> tuple[Hook, ...]:
    """Takes every block of ours out of the hooks of a folder; what then stands there. Raises HookError as above."""
    try:
        for name in HOOKS:
            with suppress(_Odd):
                _uninstall(folder, name)
    except OSError as error:
        raise _unwritable(folder, error) from None
    return looked_at(folder, "")


class _Odd(Exception):
    """Not ours to change."""


def _looked_at(folder: Path, name: str, wanted: str) -> Hook:
    try:
        file = _read(folder / name)
        if file is None:
            return Hook(name, HookState.ABSENT)
        found = _block_in(file)
    except _Odd as odd:
        return Hook(name, HookState.ODD, str(odd))
    except OSError as error:
        return Hook(name, HookState.ODD, f"cannot be read: {error.strerror}")
    if found is None:
        return Hook(name, HookState.OTHERS)
    kind = found[1]
    # Whether somebody's own script may run is for him to say.
    current = found[0] == _as(kind, wanted) and (kind == _AMONG or bool(file.mode & 0o100))
    return Hook(name, HookState.INSTALLED if current else HookState.OUTDATED)


def _install(folder: Path, name: str, wanted: str) -> None:
    path, aside = folder / name, folder / (name + KEPT)
    file = _read(path)
    if file is None:
        # A hook that was put aside when something ended us is taken up again.
        kind = _BEFORE if os.path.lexists(aside) else _WHOLE
        _put(path, _SHEBANG + _as(kind, wanted), _File(None, _EXECUTABLE, (-1, -1)))
        return
    content, found = file.content, _block_in(file)
    if content is not None and found is not None:
        mode = file.mode if found[1] == _AMONG else file.mode | 0o111
        _put(path, content.replace(found[0], _as(found[1], wanted), 1), replace(file, mode=mode))
        return
    shell = _SHELL.match(content) if content is not None and b"\0" not in content else None
    if content is not None and shell is not None and file.mode & 0o100:
        _put(path, content[: shell.end()] + _as(_AMONG, wanted) + content[shell.end() :], file)
        return
    if not _is_same(path, aside):
        os.link(path, aside, follow_symlinks=False)
    _put(path, _SHEBANG + _as(_BEFORE, wanted), _File(None, _EXECUTABLE, file.owner))


def _uninstall(folder: Path, name: str) -> None:
    path, aside = folder / name, folder / (name + KEPT)
    file = _read(path)
    found = _block_in(file) if file is not None else None
    if file is None or file.content is None or found is None:
        return
    rest = file.content.replace(found[0], b"", 1)
    alone = rest == _SHEBANG
    if found[1] == _BEFORE and os.path.lexists(aside):
        if alone:  # else somebody has written into it, and which of the two is wanted is for him to say
            aside.replace(path)
    elif found[1] != _AMONG and alone:
        path.unlink()
    else:
        _put(path, rest, file)


def _read(path: Path) -> _File | None:
    """A hook; None where there is none. Raises _Odd for what is no plain file, and OSError."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        if path.is_symlink():
            raise _Odd(f"is a link to {path.readlink()}") from None
        raise
    try:
        state = os.fstat(number)
        if not stat.S_ISREG(state.st_mode):
            raise _Odd("is no file")
        with os.fdopen(number, "rb", closefd=False) as file:
            content = file.read(MOST_BYTES + 1)
    finally:
        os.close(number)
    owner = (state.st_uid, state.st_gid)
    return _File(content if len(content) <= MOST_BYTES else None, stat.S_IMODE(state.st_mode), owner)


def _block_in(file: _File) -> tuple[bytes, bytes] | None:
    """Our block with its kind; None where a hook has none. Raises _Odd where it has half of one, or several."""
    content = file.content or b""
    begun = content.count(_BEGIN)
    if not begun:
        return None
    found = _BLOCK.search(content)
    if found is None or begun != 1:
        raise _Odd("holds a damaged block of codehub, to be taken out by hand")
    kind = found[1] + b"\n"
    if kind not in {_WHOLE, _AMONG, _BEFORE}:
        raise _Odd("holds a block of another version of codehub, which takes it out")
    return found[0], kind


def _as(kind: bytes, wanted: str) -> bytes:
    """The block as it stands in a hook of a kind."""
    text = os.fsencode(wanted)
    text = text.replace(_BEGIN + _AMONG, _BEGIN + kind, 1)
    if kind != _BEFORE:
        return text
    aside = KEPT.encode()
    call = b'if [ -x "$0' + aside + b'" ]; then exec "$0' + aside + b'" "$@"; fi\n'
    return text.replace(_END, call + _END, 1)


def _is_same(path: Path, aside: Path) -> bool:
    """Whether a hook was put aside already. Raises HookError where another file has that name."""
    if not os.path.lexists(aside):
        return False
    if not aside.is_symlink() and path.samefile(aside):
        return True
    raise HookError(f"{path} would be put aside, and {aside.name} is there already.", "Move one of them away.")


def _put(path: Path, content: bytes, like: _File) -> None:
    """In one step, so that git finds the old hook or the new one."""
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            with suppress(PermissionError):  # a group that the writer is not in
                os.fchown(number, *like.owner)
            os.fchmod(number, like.mode)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _unwritable(folder: Path, error: OSError) -> HookError:
    return HookError(f"The hooks in {folder} cannot be written: {error.strerror}.", "See to the rights of the folder.")
