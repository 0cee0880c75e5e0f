"""What an agent reads: compact text within a budget of tokens, code under its place, and pages that lose nothing.

Text of a tree is data. It is shown with covert characters spelt out, under a heading that says where it stands and with
a number before each line, so that no line of it can pass for one of ours. Knows nothing of what is looked up.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from hub.following import behind_words
from hub.prompting import visible
from indexer.model import Span, Stamp

DEFAULT_TOKENS = 6_000  # that a result has unless more is asked for
MOST_TOKENS = 20_000  # that no result exceeds; the strictest client known cuts at 25,000
# Bytes of UTF-8 that make a token, rather too few than too many. Bytes and not characters, so that it holds for other
# scripts too.
BYTES_A_TOKEN = 3.5
LONGEST_LINE = 400  # characters of a line of code that are shown

_CUT = "… cut here: the rest does not fit. Ask for less, or for the part that matters."


class Item(NamedTuple):
    """One thing of a list. ``heading`` stands before the first of neighbours that share it; "" for none."""

    text: str
    heading: str = ""


class Fitted(NamedTuple):
    """The first items that fit: joined by line ends, and how many they are."""

    text: str
    shown: int


def size(text: str) -> int:
    """Bytes in UTF-8; halves of surrogate pairs count as three."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def tokens(text: str) -> int:
    """About how many tokens a model reads for it, rounded up."""
    return -(-size(text) * 2 // 7)


def one_line(text: str) -> str:
    """The text visible and in one line: a path, a name or a comment may hold any character."""
    return visible(text).replace("\n", "\\n").replace("\t", " ")


def place(span: Span) -> str:
    """``path:first-last``, or ``path:line`` where that is all of it."""
    end = f"-{span.last_line}" if span.last_line > span.first_line else ""
    return f"{one_line(span.path)}:{span.first_line}{end}"


def stamp_line(workspace: str, stamp: Stamp) -> str:
    """What state of the tree a result shows, in one line."""
    at = f" at {stamp.commit[:12]}" if stamp.commit else ""
    dirty = " with local changes" if stamp.dirty else ""
    behind = f", {words}" if (words := behind_words(stamp)) else ""
    return one_line(f"[{workspace}{at}{dirty}, indexed {stamp.indexed_at[:19]}Z{behind}]")


def numbered(lines: Iterable[tuple[int, str]]) -> str:
    """Lines of code, each after its number, which are as wide as the widest of them; a gap between them is marked."""
    rows = [(number, visible(line.rstrip("\r\n")).replace("\n", "\\n")) for number, line in lines]
    width = len(str(max((number for number, _ in rows), default=0)))
    shown = []
    last = None
    for number, line in rows:
        if last is not None and number > last + 1:
            shown.append(" " * width + "…")
        cut = line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + " … cut"
        shown.append(f"{number:>{width}}  {cut}".rstrip())
        last = number
    return "\n".join(shown)


def code_block(path: str, first_line: int, text: str) -> str:
    """The lines of a text, which begins at a line of a file, numbered under ``path:first-last``."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    last_line = first_line + max(len(lines), 1) - 1
    body = numbered(enumerate(lines, first_line))
    heading = f"{one_line(path)}:{first_line}-{last_line}"
    return f"{heading}\n{body}" if body else heading


def shortened(text: str, budget: int, notice: str = _CUT) -> str:
    """The text, or as many of its first lines as fit with the notice that it was cut: never above budget tokens."""
    most = _bytes_of(budget)
    if size(text) <= most:
        return text
    room = most - size(notice) - 1
    if room <= 0:
        return _clipped(text, most)
    kept = _clipped(text, room)
    whole, _, rest = kept.rpartition("\n")
    # A cut within the last line is better than leaving most of it out.
    kept = whole if whole and len(rest) < len(kept) // 2 else kept
    return f"{kept}\n{notice}"


def capped(text: str) -> str:
    """The text, or what of it is within MOST_TOKENS."""
    return shortened(text, MOST_TOKENS)


def fit(items: Sequence[Item], budget: int) -> Fitted:
    """As many items as fit into the budget of tokens, in order and whole. The first is shown in any case, cut short
    where it is too large, so that who pages on comes to the end.
    """
    most = _bytes_of(budget)
    parts: list[str] = []
    used = 0
    heading = ""
    for number, item in enumerate(items):
        text = f"{item.heading}\n{item.text}" if item.heading and item.heading != heading else item.text
        cost = size(text) + (1 if parts else 0)
        if used + cost > most:
            if number == 0:
                return Fitted(shortened(text, budget), 1)
            return Fitted("\n".join(parts), number)
        parts.append(text)
        used += cost
        heading = item.heading
    return Fitted("\n".join(parts), len(items))


def page(
    head: str,
    items: Sequence[Item],
    foot: str,
    *,
    total: int,
    offset: int,
    cursor: Callable[[int], str],
    budget: int = DEFAULT_TOKENS,
) -> str:
    """One page of a list of ``total`` of which ``items`` are those from ``offset`` on: head, what fits, how to go on,
    foot. ``cursor`` makes the mark of the page that begins at an offset. Never above the budget.
    """
    # Room for the line that says how to go on is kept whether it is needed or not.
    notice = more_line(total, total, cursor(offset + len(items)))
    fixed = sum(size(part) + 1 for part in (head, foot, notice) if part)
    room = int((_bytes_of(budget) - fixed) / BYTES_A_TOKEN)
    if room <= 0:
        head = shortened(head, budget // 2)
        fixed = sum(size(part) + 1 for part in (head, foot, notice) if part)
        room = max(0, int((_bytes_of(budget) - fixed) / BYTES_A_TOKEN))
    fitted = fit(items, room)
    after = offset + fitted.shown
    more = more_line(total - after, total, cursor(after)) if after < total and fitted.shown else ""
    return shortened("\n".join(part for part in (head, fitted.text, more, foot) if part), budget)


def more_line(left: int, total: int, cursor: str) -> str:
    """That there is more, and how to see it."""
    return f"… {left} more of {total}: call again with the same arguments and cursor={cursor}"


def _bytes_of(budget: int) -> int:
    return int(budget * BYTES_A_TOKEN)


def _clipped(text: str, most: int) -> str:
    """As much of the beginning as has at most so many bytes."""
    if text.isascii():
        return text[:most]
    return text[:most].encode("utf-8", "surrogatepass")[:most].decode("utf-8", "ignore")
