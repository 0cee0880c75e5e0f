"""A block of lines put at the end of a text, and taken out again so that nothing of it is left. Pure."""

import re

_NEWLINE = re.compile(r"\r\n?|\n")


def newline_of(text: str) -> str:
    """The first line end, which those that are put in are like."""
    found = _NEWLINE.search(text)
    return found.group() if found else "\n"


def appended(text: str | None, block: str) -> str:
    """The text with the block behind an empty line. None is no file yet.

    A text without a newline at its end has none afterwards, and an empty one begins with the empty line, by which
    ``taken`` tells them apart.
    """
    newline = newline_of(text or "")
    block = block.replace("\n", newline)
    if text is None:
        return block + newline
    if text == "" or text.endswith(("\n", "\r")):
        return text + newline + block + newline
    return text + newline + newline + block


def taken(text: str, start: int, end: int) -> str | None:
    """The text without the block from ``start`` to ``end``, its last newline not counted; None where no file was."""
    newline = newline_of(text)
    before, after = text[:start], text[end:]
    if not after:
        if not before:
            return None
        for _ in range(2):
            before = before.removesuffix(newline)
        return before
    after = after.removeprefix(newline)
    if not before and not after:
        return None
    shorter = before.removesuffix(newline)
    if shorter != before and (not shorter or shorter.endswith(("\n", "\r"))):
        before = shorter
    return before + after
