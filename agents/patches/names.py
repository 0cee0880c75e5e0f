"""Names of files as patches write them, and which of them no patch may touch. Pure.

A name is refused where any system, editor or program could take it for another one: what is compared is the name as the
most forgiving of file systems reads it.
"""

import re
import unicodedata
from collections.abc import Sequence
from fnmatch import translate
from typing import NamedTuple, NoReturn

from agents.errors import PatchError

MOST_PATH_CHARS = 400
MOST_NAME_BYTES = 240  # of one folder or file; file systems take 255
MOST_DEPTH = 40

_ESCAPES = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92}
_ESCAPE = re.compile(r'\\([0-3][0-7]{2}|[abtnvfr"\\])')
_SHORT_NAME = re.compile(r"[^.]{1,8}~[0-9]{1,6}(?:\.[^.]{0,3})?")  # NTFS knows .git as git~1 too
_DRIVE = re.compile(r"[A-Za-z]:")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_+/.-]+")


class Denied(NamedTuple):
    """A name that no part of a path may have, as a pattern of fnmatch in lower case."""

    pattern: str
    reason: str


DENIED = (
    Denied(".git*", "git and what builds on it act upon it"),
    Denied(".codehub*", "it says what this program does"),
    Denied(".mcp.json", "it names programs that agents start"),
    *(Denied(name, "an editor runs what it says") for name in (".vscode", ".vs", ".idea", ".devcontainer*")),
    *(
        Denied(name, "agents take orders from it")
        for name in (
            *(".claude*", ".cursor*", ".gemini*", ".codex*", ".windsurf*", ".aider*", ".continue*"),
            *("agents*.md", "claude*.md", "gemini.md", ".clinerules", ".roo*"),
        )
    ),
    *(Denied(name, "it is run when a folder is entered") for name in (".envrc", ".direnv", ".mise*", ".tool-versions")),
    *(Denied(name, "it names programs that commits run") for name in (".husky", ".pre-commit-*", "lefthook.y*ml")),
    *(
        Denied(name, "a build server runs what it says")
        for name in (
            *(".circleci", ".buildkite", ".travis.yml", ".drone.y*ml", ".woodpecker*", "jenkinsfile*", ".cirrus.*"),
            *("azure-pipelines*", "appveyor.yml", ".appveyor.yml", "bitbucket-pipelines.yml"),
        )
    ),
    Denied(".clangd", "a language server obeys it"),
)


Patterns = tuple[tuple[re.Pattern[str], str], ...]


def compiled(denied: Sequence[Denied]) -> Patterns:
    return tuple((re.compile(translate(rule.pattern)), rule.reason) for rule in denied)


def folded(path: str) -> str:
    """A path as the most forgiving of file systems compares it."""
    return unicodedata.normalize("NFKC", path).casefold()


def refuse(what: str, hint: str = "", line: int = 0) -> NoReturn:
    where = f" (line {line} of it)" if line else ""
    raise PatchError(f"The patch is refused{where}. {what}", hint or "Give a unified diff, as `git diff` writes it.")


def named(written: str, line: int) -> str:
    """A name out of a header, without what follows it: a tab and a time."""
    if not written.startswith('"'):
        return written.split("\t", 1)[0]
    name, rest = quoted(written, line)
    if rest and not rest.startswith("\t"):
        refuse("Something stands behind a quoted name.", "", line)
    return name


def quoted(written: str, line: int) -> tuple[str, str]:
    """(a name that git has quoted as C does, what follows it)."""
    end = 1
    while end < len(written) and written[end] != '"':
        end += 2 if written[end] == "\\" else 1
    inner = written[1:end]
    if end >= len(written) or "\\" in _ESCAPE.sub("", inner):
        refuse("A quoted name cannot be read.", "", line)
    data = b""
    at = 0
    for escape in _ESCAPE.finditer(inner):
        code = escape[1]
        data += inner[at : escape.start()].encode() + bytes([int(code, 8) if len(code) == 3 else _ESCAPES[code]])
        at = escape.end()
    try:
        return (data + inner[at:].encode()).decode(), written[end + 1 :]
    except UnicodeDecodeError:
        refuse("A file's name is not valid UTF-8.", "", line)


def check_path(path: str, line: int, denied: Patterns) -> None:
    """Raises PatchError for a path that leaves the tree, that another system could read differently, or is denied."""
    shown = ascii(path[:120])
    hint = "Paths are relative to the tree, such as src/main.cc."
    if not path or path.startswith("/") or _DRIVE.match(path):
        refuse(f"{shown} is no path below the tree.", hint, line)
    if len(path) > MOST_PATH_CHARS:
        refuse(f"A path has more than {MOST_PATH_CHARS} characters.", hint, line)
    if not _PLAIN_PATH.fullmatch(path) and any(map(_is_odd, path)):
        refuse(f"{shown} holds a character that paths here may not have.", hint, line)
    if path.count("/") >= MOST_DEPTH:
        refuse("A path leads through too many folders.", hint, line)
    for name in path.split("/"):
        if name in ("", ".", ".."):
            refuse(f"{shown} is no plain path below the tree.", hint, line)
        if name != name.strip() or name.endswith(".") or len(name.encode()) > MOST_NAME_BYTES:
            refuse(f"{shown} holds a name that not every system takes.", hint, line)
        if _SHORT_NAME.fullmatch(name):
            refuse(f"{shown} may be the short form of another name.", hint, line)
        reason = next((reason for pattern, reason in denied if pattern.match(folded(name))), "")
        if reason:
            refuse(f"{shown} may not be changed by a patch: {reason}.", "Leave it out, or ask a person.", line)


def _is_odd(character: str) -> bool:
    """Whether it cannot be seen, stands for nothing, or means something to a shell's or a system's names."""
    return character in '\\"*?<>|:' or (character != " " and unicodedata.category(character)[0] in "CZ")
