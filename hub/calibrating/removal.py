"""Takes functions out of a tree, so that what is asked of them has no answer there any more. Pure: symbols and texts
come in, edited texts go out; their lines stay where they are.

A function goes with all its declarations, definitions and overloads, and with what is said above them. Only such
functions go whose absence is certain: no other function has their name in any spelling, nor a longer name with all its
words, none has their body, no document names them, and what goes is balanced, so that the rest reads as before.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from hub.labels import blanked_comment, order_of, without_comments
from hub.retrieval import is_test_path
from indexer.index import words
from indexer.model import Symbol, SymbolKind

SHARE = 0.5  # of the functions that may go; 0.2 to 1
ALWAYS = 60  # up to so many go whatever their share
MOST = 250  # 50 to 600
MOST_PLACES = 12  # of a function with its overloads
LEAST_BODY_LINES = 3  # of a body that is compared; shorter ones are alike by chance

_FUNCTIONS = frozenset({SymbolKind.FUNCTION, SymbolKind.METHOD})
# What could be meant by a name beside the function itself. A field ``size_`` does not answer what ``size()`` returns.
_NAMESAKES = frozenset(
    {
        *_FUNCTIONS,
        SymbolKind.CONSTRUCTOR,
        SymbolKind.MACRO,
        SymbolKind.USING,
        SymbolKind.ALIAS,
        SymbolKind.CLASS,
        SymbolKind.STRUCT,
    }
)
_NAME = re.compile(r"\w+")
_BRACKETS = (("{", "}"), ("(", ")"), ("[", "]"))
_IF = re.compile(r"^[ \t]*#[ \t]*if", re.MULTILINE)
_ENDIF = re.compile(r"^[ \t]*#[ \t]*endif", re.MULTILINE)
_BRANCH = re.compile(r"^[ \t]*#[ \t]*(?:else|elif)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Removal:
    """``names`` are the qualified names of what was taken out, ``texts`` the files without it, by path."""

    names: frozenset[str]
    texts: Mapping[str, str]


def take_out(
    wanted: Iterable[str],
    symbols: Sequence[Symbol],
    read: Callable[[str], str | None],
    documents: Iterable[str],
    seed: int,
) -> Removal:
    """Takes a share of the functions of these qualified names out. Deterministic for equal arguments.

    ``documents`` are the paths of what is no code. A function that cannot be taken out exactly stays.
    """
    places: dict[str, list[Symbol]] = defaultdict(list)
    spellings: dict[str, set[str]] = defaultdict(set)
    saying: dict[str, set[str]] = defaultdict(set)
    for symbol in symbols:
        if symbol.kind in _NAMESAKES:
            places[symbol.qualified_name].append(symbol)
            spellings[spelling(symbol.name)].add(symbol.qualified_name)
            for part in name_parts(symbol.name):
                saying[part].add(symbol.qualified_name)
    named = _named_in(documents, read)
    may_go = [
        name
        for name in dict.fromkeys(wanted)
        if _stands_alone(places.get(name, ()), spellings, saying) and name.rpartition("::")[2] not in named
    ]
    alike = _bodies(symbols, read, {name: places[name] for name in may_go})
    may_go = [name for name in may_go if name not in alike]
    most = min(MOST, max(ALWAYS, round(len(may_go) * SHARE)))
    texts: dict[str, str] = {}
    gone: list[str] = []
    for name in sorted(may_go, key=lambda name: (order_of(seed, f"gone\0{name}"), name)):
        if len(gone) == most:
            break
        without = _without(places[name], read, texts)
        if without is not None:
            texts.update(without)
            gone.append(name)
    return Removal(frozenset(gone), texts)


def spelling(name: str) -> str:
    """What the spellings of a name have in common: ``initFile``, ``init_file`` and ``InitFile`` are one, and so are
    ``initialize`` and ``initialise``.
    """
    return name.replace("_", "").lower().replace("isation", "ization").replace("ise", "ize")


def name_parts(name: str) -> frozenset[str]:
    """The words that a name is made of."""
    return frozenset(words(name)[1:]) or frozenset((spelling(name),))


def _stands_alone(group: Sequence[Symbol], spellings: Mapping[str, set[str]], saying: Mapping[str, set[str]]) -> bool:
    """Whether nothing else has a function's name, nor one with all of its words where these are several."""
    if not group or len(group) > MOST_PLACES:
        return False
    if any(place.kind not in _FUNCTIONS or is_test_path(place.span.path) for place in group):
        return False
    name = group[0].name
    if len(spellings[spelling(name)]) > 1:
        return False
    parts = name_parts(name)
    return len(parts) == 1 or len(set.intersection(*(saying[part] for part in parts))) == 1


def _named_in(documents: Iterable[str], read: Callable[[str], str | None]) -> set[str]:
    """All words of the documents, spelt as names are."""
    return {word for path in documents for word in _NAME.findall(read(path) or "")}


def _bodies(
    symbols: Sequence[Symbol], read: Callable[[str], str | None], candidates: Mapping[str, Sequence[Symbol]]
) -> set[str]:
    """Those of the candidates whose body another function has too, the own names put aside."""
    lengths = {_lines(place) for group in candidates.values() for place in group if place.is_definition}
    texts: dict[str, list[str]] = {}
    owners: dict[str, set[str]] = defaultdict(set)
    for symbol in symbols:
        if symbol.kind not in _FUNCTIONS or not symbol.is_definition or _lines(symbol) not in lengths:
            continue
        if _lines(symbol) < LEAST_BODY_LINES:
            continue
        path = symbol.span.path
        if path not in texts:
            texts[path] = (read(path) or "").split("\n")
        inner = texts[path][symbol.span.first_line : symbol.span.last_line]  # what the first line begins is its heading
        body = " ".join(word for line in inner for word in _NAME.findall(line) if word != symbol.name)
        owners[body].add(symbol.qualified_name)
    return {name for group in owners.values() if len(group) > 1 for name in group if name in candidates}


def _lines(place: Symbol) -> int:
    return place.span.last_line - place.span.first_line + 1


def _without(
    group: Sequence[Symbol], read: Callable[[str], str | None], texts: Mapping[str, str]
) -> dict[str, str] | None:
    """The files of a function without it; None where it cannot be told from what stands around it."""
    found: dict[str, str] = {}
    for place in group:
        path = place.span.path
        text = found.get(path, texts.get(path)) or read(path)
        if text is None:
            return None
        if place.doc:
            text = blanked_comment(text, place)
            if text is None:
                return None
        lines = text.split("\n")
        first, last = place.span.first_line - 1, place.span.last_line
        goes = "\n".join(lines[first:last])
        if not is_whole(goes):
            return None
        lines[first:last] = [""] * (last - first)
        found[path] = "\n".join(lines)
    return found


def is_whole(text: str) -> bool:
    """Whether a stretch of code opens and closes all its brackets and conditions itself."""
    code = without_comments(text)
    counts = Counter(code)
    if any(counts[opening] != counts[closing] for opening, closing in _BRACKETS):
        return False
    conditions = len(_IF.findall(code))
    return conditions == len(_ENDIF.findall(code)) and bool(conditions or not _BRANCH.search(code))
