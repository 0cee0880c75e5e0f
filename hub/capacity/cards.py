"""What graphics cards and main memory can do, by the names people call them. The table is ``cards.toml``.

``graphics`` reads "RTX 4080 16GB", "2x 3090", "M3 Max 64GB" or "16 GB"; ``modules`` reads "64G DDR5-5600". Words that
mean no card in the table are an error that names the nearest, never a guess. Knows nothing of the machine it runs on.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hub.capacity.nvml import LANE
from hub.errors import UnknownHardware

GIB = 1 << 30
# Of Apple's and AMD's shared memory a card may take this share by default: two thirds below 48 GB, three quarters
# from there on (Metal's recommendedMaxWorkingSetSize on machines of either kind).
SHARED_SMALL, SHARED_LARGE, SHARED_FROM = 2 / 3, 3 / 4, 48 * GIB
# A card that is told only by its size: bandwidth by size in GB, as usual ones of 2023 to 2026 have.
_USUAL = ((6, 192e9), (8, 272e9), (12, 504e9), (16, 448e9), (20, 640e9), (24, 936e9), (32, 896e9), (1 << 20, 1792e9))
_USUAL_FLOPS_PER_BANDWIDTH = 180.0  # operations a byte, the median of the table's cards with matrix units
_USUAL_LINK = LANE[4] * 16
# What is shown of a name that nobody has.
_NEAREST = 4
# Main memory that is told only by its size: two channels of DDR5-5600, as in desktops of 2023 to 2026.
USUAL_TRANSFERS, USUAL_CHANNELS, CHANNEL_BYTES = 5600e6, 2, 8

_SIZE = re.compile(r"(?<![\w.])(\d{1,4}(?:\.\d)?)\s?(?:gib|gb|g)\b")
_COUNT = re.compile(r"^\s*(\d{1,2})\s?[x\u00d7*]\s?|\s[x\u00d7*]\s?(\d{1,2})\s*$")
_NOISE = re.compile(
    r"\b(?:nvidia|geforce|amd|intel|apple|radeon|instinct|tesla|quadro|graphics|gpu|card|generation|gen|"
    r"with|of|vram|hbm\d?e?|gddr\dx?|unified|memory|sxm\d?|founders|edition|workstation|server|desktop)\b"
)
_BYTES = re.compile(r"(?<![\w.])(\d{1,5}(?:\.\d)?)\s?(tib|tb|t|gib|gb|g)?\b")
_MODULES = re.compile(r"(lp)?ddr(\d)x?[\s-]*(\d{4,5})?")
_CHANNELS = re.compile(r"(\d{1,2})\s?[x-]?\s?ch(?:annels?)?\b|\b(single|dual|quad|octa)\b")
_CHANNEL_WORDS = {"single": 1, "dual": 2, "quad": 4, "octa": 8}
_SERIES = ("", "rtx", "gtx", "rx", "arc", "pro", "aipro", "arcpro", "ryzenai")
_ENDS = (("", ""), ("", "blackwell"), ("pcie", ""))
_USUAL_SPEED = {"3": 1600, "4": 3200, "5": 5600}


@dataclass(frozen=True, slots=True)
class CardFacts:
    """One card of the table. ``link`` is 0 where it shares the host's memory."""

    name: str
    sizes: tuple[int, ...]  # bytes, one for each variant that shares the other figures
    bandwidth: float
    flops: float
    link: float

    @property
    def unified(self) -> bool:
        return not self.link


@dataclass(frozen=True, slots=True)
class Graphics:
    """Cards as described: ``facts`` of one of them, its size in bytes, and how many there are."""

    facts: CardFacts
    memory: int
    count: int
    notes: tuple[str, ...] = ()
    sized: bool = True  # the words said how much memory


@dataclass(frozen=True, slots=True)
class Modules:
    """Main memory as described: bytes, and bytes a second."""

    size: int
    bandwidth: float
    notes: tuple[str, ...] = ()


def table() -> tuple[CardFacts, ...]:
    """All cards, in the order of the file."""
    return _read()[0]


def by_pci(device: int, memory: int) -> CardFacts | None:
    """The card of AMD with this number of the PCI list and about this much memory."""
    named = [facts for number, name in _read()[1] if number == device for facts in _called(_key(name))]
    fitting = [facts for facts in named if any(abs(size - memory) <= size // 10 for size in facts.sizes)]
    return next(iter(fitting or named), None)


def by_name(name: str, memory: int) -> CardFacts | None:
    """The card that a driver calls so, in the variant with about this much memory."""
    found = _called(_key(name.lower()))
    fitting = [facts for facts in found if any(abs(size - memory) <= size // 8 for size in facts.sizes)]
    return next(iter(fitting or found), None)


def shared_part(memory: int) -> int:
    """Bytes of a unified memory that the graphics part may take unless it is told otherwise."""
    return int(memory * (SHARED_LARGE if memory >= SHARED_FROM else SHARED_SMALL))


def graphics(words: str) -> Graphics | None:
    """The cards that the words describe; None for "none". Raises UnknownHardware."""
    text = " ".join(words.lower().split())
    if text in {"", "none", "no", "cpu", "0"}:
        return None
    counted = _COUNT.search(text)
    count = int(counted[1] or counted[2]) if counted else 1
    text = _COUNT.sub(" ", text) if counted else text
    sized = _SIZE.search(text)
    size = round(float(sized[1]) * GIB) if sized else 0
    key = _key(_SIZE.sub(" ", text))
    if not 1 <= count <= 64:
        raise UnknownHardware(f"{words!r} is no number of cards.", "Say for instance 2x RTX 3090.")
    if not key and size:
        return _generic(size, count)
    found = _called(key)
    if not found and not size and (bare := re.fullmatch(r"(.*?)\s?(\d{1,3})", text.strip())):
        # "M3 Max 64", "3060 12": the size without its unit.
        found = [facts for facts in _called(_key(bare[1])) if int(bare[2]) * GIB in facts.sizes]
        size = int(bare[2]) * GIB if found else 0
    if not found:
        raise UnknownHardware(f"There is no card {words!r} in the table.", _nearest(key or text))
    variants = [(facts, each) for facts in found for each in facts.sizes]
    fitting = [(facts, each) for facts, each in variants if not size or each == size]
    if not fitting:
        sizes = ", ".join(f"{each // GIB} GB" for each in sorted({each for _, each in variants}))
        raise UnknownHardware(f"There is no {found[0].name} of {size // GIB} GB.", f"It has {sizes}.")
    facts, memory = fitting[0]
    notes = []
    if not size and len({each for _, each in variants}) > 1:
        others = ", ".join(f"{each // GIB}" for each in sorted({each for _, each in variants}))
        notes.append(f"{facts.name} comes with {others} GB; {memory // GIB} GB was assumed.")
    return Graphics(facts, memory, count, tuple(notes), sized=bool(size))


def modules(words: str) -> Modules:
    """The main memory that the words describe. Raises UnknownHardware."""
    text = " ".join(words.lower().split())
    if text in {"0", "none"}:
        return Modules(0, 0.0)
    typed = _MODULES.search(text)
    channelled = _CHANNELS.search(text)
    rest = _MODULES.sub(" ", _CHANNELS.sub(" ", text)) if typed or channelled else text
    counted = re.match(r"\s*(\d{1,2})\s?[x*]\s?", rest)
    sized = re.search(
        r"(?<![\w.])(\d{1,5}(?:\.\d)?)\s?(tib|tb|t|gib|gb|g)?\b", rest[counted.end() :] if counted else rest
    )
    if sized is None:
        raise UnknownHardware(f"{words!r} is no size of main memory.", "Say for instance 32GB or 64GB DDR5-5600.")
    size = float(sized[1]) * (1024 if (sized[2] or "g").startswith("t") else 1) * (int(counted[1]) if counted else 1)
    notes = []
    speed = int(typed[3]) if typed and typed[3] else _USUAL_SPEED.get(typed[2], 5600) if typed else 5600
    if typed is None or typed[3] is None:
        kind = f"{(typed[1] or '').upper()}DDR{typed[2]}" if typed else "DDR5"
        notes.append(f"Main memory: {kind}-{speed} was assumed.")
    channels = USUAL_CHANNELS
    if channelled:
        channels = int(channelled[1]) if channelled[1] else _CHANNEL_WORDS[channelled[2]]
    else:
        notes.append(f"Main memory: {USUAL_CHANNELS} channels were assumed.")
    if not 1 <= channels <= 24 or not 400 <= speed <= 20000:
        raise UnknownHardware(f"{words!r} is no main memory.", "Say for instance 256GB DDR5-4800 8 channels.")
    return Modules(round(size * GIB), speed * 1e6 * CHANNEL_BYTES * channels, tuple(notes))


def _generic(size: int, count: int) -> Graphics:
    bandwidth = next(rate for largest, rate in _USUAL if size <= largest * GIB)
    name = f"a card of {size / GIB:g} GB"
    note = f"{name[0].upper()}{name[1:]}: {bandwidth / 1e9:g} GB/s and a PCIe 4 link of 16 lanes were assumed."
    facts = CardFacts(name, (size,), bandwidth, bandwidth * _USUAL_FLOPS_PER_BANDWIDTH, _USUAL_LINK)
    return Graphics(facts, size, count, (note,))


def _key(name: str) -> str:
    """The words of a name that tell cards apart, without blanks: "rtx4080", "m3max"."""
    text = _NOISE.sub(" ", _SIZE.sub(" ", name.lower()).replace("-", " "))
    return re.sub(r"[^a-z0-9+]", "", text)


def _called(key: str) -> list[CardFacts]:
    """The cards of that key; what a series has in common may be left out, as in "3090", "7900xtx" or "pro 6000"."""
    if not key:
        return []
    index = _index()
    spellings = [prefix + key.removesuffix(suffix) + end for suffix, end in _ENDS for prefix in _SERIES]
    return next((index[spelling] for spelling in spellings if spelling in index), [])


def _nearest(key: str) -> str:
    index = _index()
    names = difflib.get_close_matches(key, index, n=_NEAREST, cutoff=0.5)
    names += [other for other in index if any(part in other for part in re.findall(r"\d{3,4}", key))]
    shown = list(dict.fromkeys(index[name][0].name for name in names))[:_NEAREST]
    near = f"Near it are: {', '.join(shown)}. " if shown else ""
    return f"{near}A size alone, such as 16GB, stands for a usual card of that size."


@cache
def _index() -> dict[str, list[CardFacts]]:
    index: dict[str, list[CardFacts]] = {}
    for facts in table():
        index.setdefault(_key(facts.name), []).append(facts)
    return index


@cache
def _read() -> tuple[tuple[CardFacts, ...], tuple[tuple[int, str], ...]]:
    tree = tomllib.loads(Path(__file__).with_name("cards.toml").read_text(encoding="utf-8"))
    return tuple(_rows(tree)), tuple((number, name) for number, name in tree["pci"])


def _rows(tree: dict[str, Any]) -> Iterator[CardFacts]:
    for maker in ("nvidia", "amd", "intel", "apple"):
        for name, sizes, bandwidth, flops, link in tree[maker]:
            generation, _, lanes = link.partition("x")
            yield CardFacts(
                name=name,
                sizes=tuple(size * GIB for size in sizes),
                bandwidth=bandwidth * 1e9,
                flops=flops * 1e12,
                link=LANE[int(generation)] * int(lanes) if link else 0.0,
            )
