"""The tools that find code: by words or a question, and by a name. Knows nothing of how hits are found."""

import re
from collections.abc import Iterable, Mapping, Sequence

from agents import text
from agents.desk import Desk
from agents.errors import ArgumentError
from agents.model import Arguments, Call
from agents.parameters import USUAL_CHARS, Number, Text
from agents.text import Item
from agents.tools.model import Tool
from agents.tools.replies import Asked, asked, counted, listed
from hub import shapes
from hub.auth.model import Scope
from hub.model import Confidence, Hit, QuestionKind, SearchResult, SignalSource, Tier
from hub.service import CLASSES, Filters, FoundSymbols, Match, Page, Service
from indexer.model import Access, Symbol, SymbolId, SymbolKind

MOST_QUERY_CHARS = 20_000  # a stack trace of some hundred frames
MOST_NAME_CHARS = USUAL_CHARS
LOOKED_AT = 40  # hits that pages are of: below them a better query finds more than a further page
# Lines that are shown of the first hits and of the others, and how many come first. Of 30 questions on the sample the
# line that answers them is shown for 22 within 1,630 tokens (median); 6 lines of each show it for 11 within 1,160.
LINES_OF_FIRST, LINES_OF_OTHERS = 12, 3  # 6 to 30; 2 to 6
FIRST_HITS = 5
SIGNATURE_CHARS = 300
DOC_CHARS = 200
MOST_NAMESAKES = 200
NAMES_A_PAGE = 20
MEMBERS = 40  # of a class that are told with it
RELATIVES = 8
MEMBER_CHARS = 120
NEAR_NAMES = 8  # where none is exact
GUESSES = 3  # hits that are shown where none is convincing
DEFINITIONS = 4  # of names in a query that are told before the hits
SURE = 0.6  # a confidence below which it is said how to be surer

_WHY = {
    SignalSource.SYMBOL: "its name",
    SignalSource.LEXICAL: "words",
    SignalSource.STATIC: "meaning",
    SignalSource.VECTOR: "meaning",
    SignalSource.HISTORY: "commits",
    SignalSource.GRAPH: "links to other hits",
    SignalSource.PLACE: "a place in the text",
}
_LEAST_SHARE = 0.25  # of the largest contribution of an arm, above which the arm is named as a reason
_NO_PLACE = frozenset({SymbolKind.USING, SymbolKind.NAMESPACE})
_SHORT = 4  # letters of a word that is compared whole
_NOTHING_SAID = re.compile(r"[\s{}();*/#=\-]*$")
_SENTENCE_END = re.compile(r"[.!?](?=\s)|\n\s*\n")
_LIKE = {
    Match.FOLDED: "These differ in letter case",
    Match.PREFIX: "These begin so",
    Match.FUZZY: "These are spelt much like it or take other parameters",
}


def _search(desk: Desk, call: Call, arguments: Arguments) -> str:
    filters = Filters(_paths(arguments["path"]), kinds_of(arguments["kind"]))
    query, limit = arguments["query"], arguments["limit"]
    with asked(desk, call, "search_code", arguments) as this:
        result = this.service.search(query, max(LOOKED_AT, limit), filters)
        hits = result.hits[this.offset : this.offset + limit]
        this.notes += result.notes
        if call.as_json:
            shape = shapes.search_shape(result)
            first = this.offset
            return this.json(
                lambda count: {**shape, "hits": shape["hits"][first : first + count]}, len(hits), len(result.hits)
            )
        if not result.hits:
            narrowed = "path and kind leave nothing of it, or " if filters else ""
            return this.whole(
                f"Nothing was found for this: {narrowed}no word of it stands in the tree.",
                *_unknown(this.service, result),
                "Next: other words, or find_symbol with a part of a name.",
            )
        if result.confidence.tier is Tier.NONE and not this.offset:
            hits = hits[:GUESSES]
        items = [Item(_hit(rank, hit, result)) for rank, hit in enumerate(hits, this.offset + 1)]
        head = "\n".join(_how_sure(this.service, result)) if this.offset == 0 else ""
        return this.page(head, items, len(result.hits))


def _how_sure(service: Service, result: SearchResult) -> list[str]:
    """The confidence with its reasons, and what would raise it where it is not high."""
    confidence = result.confidence
    told = [confidence_line(confidence), *_unknown(service, result), *_named(service, result)]
    if confidence.tier is Tier.NONE:
        told.insert(0, "Nothing convincing was found; these are only the nearest.")
    if confidence.value < SURE:
        told.append("To be surer: name a symbol or file of the tree in the query, or use explore, which follows links.")
    return told


def confidence_line(confidence: Confidence) -> str:
    """The value with what it is, the tier and the reasons."""
    kind = "" if confidence.calibrated else ", uncalibrated"
    reasons = text.one_line(" ".join(confidence.reasons))
    return f"Confidence {confidence.value:.2f} (tier {confidence.tier.value}{kind}). {reasons}".rstrip()


def _named(service: Service, result: SearchResult) -> list[str]:
    """Where the names of a query are defined: hits are ranked by more than that."""
    places = []
    for name in result.understood.names[:3]:
        found = service.find(name[:MOST_NAME_CHARS], Page(MOST_NAMESAKES))
        if found.match is Match.EXACT:
            own = [each for each in found.symbols if each.is_definition and each.kind not in _NO_PLACE]
            classes = [each for each in own if each.kind in CLASSES]
            own = classes or own  # their constructors stand in them, or are found by them
            places += [f"{each.kind.value} {each.qualified_name} {text.place(each.span)}" for each in own]
    told = [f"Defined: {listed(places, DEFINITIONS)}."] if places else []
    if result.understood.kind is QuestionKind.NAME:
        told.append("For a name alone, find_symbol shows more: signatures, bases, members.")
    return told


def _unknown(service: Service, result: SearchResult) -> list[str]:
    """The names of a query that stand nowhere, each with those that may have been meant."""
    told = []
    for name in result.understood.unknown[:3]:
        near = service.find(name[:MOST_NAME_CHARS], Page(5)).symbols
        named = text.one_line(name[:80])
        if near:
            told.append(f"Near names of {named}: {listed((symbol.qualified_name for symbol in near), 5)}.")
        elif not any(name in reason for reason in result.confidence.reasons):
            told.append(f"{named} stands nowhere in this tree.")
    return told


def _hit(rank: int, hit: Hit, result: SearchResult) -> str:
    span = hit.chunk.span
    kind = f" ({hit.symbol_kind})" if hit.symbol_kind else ""
    name = f" {text.one_line(hit.symbol_name)}{kind}" if hit.symbol_name else ""
    most = LINES_OF_FIRST if rank <= FIRST_HITS else LINES_OF_OTHERS
    lines = telling_lines(hit.chunk.text, span.first_line, hit.symbol_name, dict(result.understood.words), most)
    return f"{rank}. {text.place(span)}{name} by {_reasons(hit)}\n{text.numbered(lines)}"


def _reasons(hit: Hit) -> str:
    """What led to a hit, in the order of what it was worth."""
    worth = dict(hit.contributions)
    arms = sorted(((worth.get(signal.source.value, 0.0), signal.source) for signal in hit.signals), reverse=True)
    top = max((value for value, _ in arms), default=0.0)
    named = [_WHY[source] for value, source in arms if value >= top * _LEAST_SHARE]
    return ", ".join(dict.fromkeys(named)) or "words"


def telling_lines(
    code: str, first_line: int, symbol: str, weights: Mapping[str, float], most: int
) -> list[tuple[int, str]]:
    """The ``most`` lines that show what a piece of code is and why it was found, in their order, each with its number:
    where its name stands, those with the rarest words that are asked for, and what follows the name. Single lines
    between them come with them.
    """
    every = list(enumerate(code.split("\n"), first_line))
    said = [(number, line) for number, line in every if not _NOTHING_SAID.match(line)]
    lines = [(number, line) for number, line in said if not _includes(line)] or said
    if len(lines) <= most:
        return _mended(every, lines)
    name = symbol.rpartition("::")[2].rpartition(" ")[2]
    own = next((place for place, (_, line) in enumerate(lines) if name and name in line and not _is_comment(line)), 0)
    stems = {_stem(word): weight for word, weight in weights.items()}
    lowered = (line[: text.LONGEST_LINE].lower() for _, line in lines)
    held = [[stem for stem in stems if stem in line] for line in lowered]
    asked_for = [place for place, found in enumerate(held) if found and place != own]
    chosen = {own}
    new = {stem: weight for stem, weight in stems.items() if stem not in held[own]}

    def worth(place: int) -> tuple[float, float, bool, int]:
        """What a line has that no chosen one has, then what it has at all; statements first, and the first ones."""
        found = held[place]
        fresh = sum(new.get(stem, 0.0) for stem in found)
        return fresh, sum(stems[stem] for stem in found), lines[place][1].endswith(";"), -place

    while asked_for and len(chosen) < most:
        best = max(asked_for, key=worth)
        asked_for.remove(best)
        chosen.add(best)
        new = {stem: weight for stem, weight in new.items() if stem not in held[best]}
    following = [place for place in range(own + 1, len(lines)) if place not in chosen]
    chosen.update(following[: most - len(chosen)])
    return _mended(every, [lines[place] for place in sorted(chosen)])


def _mended(every: Sequence[tuple[int, str]], lines: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """The lines with those that alone are left out between two of them: a mark in their place would be as long."""
    numbers = {number for number, _ in lines}
    return [row for row in every if row[0] in numbers or {row[0] - 1, row[0] + 1} <= numbers]


def _stem(word: str) -> str:
    """What other forms of a word begin with, roughly: "format" of "formatted"."""
    return word.lower() if len(word) <= _SHORT else word.lower()[: max(_SHORT, len(word) * 2 // 3)]


def _includes(line: str) -> bool:
    """Whether a line says of a name only that it is used below."""
    return line.lstrip().startswith(("#include", "# include", "using namespace"))


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith(("//", "/*", "*"))


def _paths(written: str) -> tuple[str, ...]:
    return tuple(path.strip().removeprefix("./") for path in written.split(",") if path.strip())


def kinds_of(written: str) -> tuple[SymbolKind, ...]:
    """The kinds of a text such as "class, struct". Raises ArgumentError."""
    kinds = []
    for word in written.lower().replace(",", " ").split():
        try:
            kinds.append(SymbolKind(word))
        except ValueError:
            known = ", ".join(SymbolKind)
            raise ArgumentError(f"There is no kind {text.one_line(word[:40])!r}.", f"There are {known}.") from None
    return tuple(dict.fromkeys(kinds))


def _find(desk: Desk, call: Call, arguments: Arguments) -> str:
    name, kinds = arguments["name"], kinds_of(arguments["kind"])
    with asked(desk, call, "find_symbol", arguments) as this:
        if call.as_json:
            page = this.service.find(name, Page(NAMES_A_PAGE, this.offset), None, kinds)
            return this.json(
                lambda count: shapes.found_shape(_first(page, count), this.offset), len(page.symbols), page.total
            )
        found = this.service.find(name, Page(MOST_NAMESAKES), None, kinds)
        if found.match is None:
            return this.whole(*_not_found(this, name, kinds))
        groups = _grouped(found.symbols)
        guessed = found.match is Match.FUZZY
        shown = groups[this.offset : this.offset + (NEAR_NAMES if guessed else NAMES_A_PAGE)]
        this.notes += this.service.age(symbol.span.path for group in shown for symbol in group)
        head = f"{counted(len(groups), 'symbol')} named {text.one_line(name)}:"
        if found.match is not Match.EXACT:
            like = f"No symbol is named {text.one_line(name)}. {_LIKE.get(found.match, 'These are like it')}:"
            head = "\n".join([*(_outside(this, name) if guessed else ()), like])
        if found.total > len(found.symbols):
            this.notes.append(
                f"Only the first {MOST_NAMESAKES} of {found.total} places are looked at: say more of the name."
            )
        items = [Item(_symbol(group)) for group in shown]
        classes = [group for group in groups if group[0].kind in CLASSES and any(each.is_definition for each in group)]
        if not guessed and len(classes) == 1 and classes[0] in shown:
            items[shown.index(classes[0])] = Item(
                f"{_symbol(classes[0])}\n{_outline(this.service, classes[0])}".rstrip()
            )
        return this.page(head, items, len(groups))


def _first(found: FoundSymbols, count: int) -> FoundSymbols:
    return FoundSymbols(found.match, found.symbols[:count], found.total)


def _not_found(this: Asked, name: str, kinds: Sequence[SymbolKind]) -> list[str]:
    told = [f"No symbol is named {text.one_line(name)}, or like it."]
    others = this.service.find(name, Page(5)).symbols if kinds else ()
    if others:
        named = listed((f"{symbol.kind.value} {symbol.qualified_name}" for symbol in others), 5)
        told.append(f"Of other kinds there are: {named}.")
    told += _outside(this, name)
    return [*told, "Next: a shorter part of the name, or search_code with words of what it does."]


def _outside(this: Asked, name: str) -> list[str]:
    """That a name of which the tree has no symbol is used in it, where it is."""
    found = this.service.references(name, Page(1))
    if found.symbols or not found.total:
        return []
    return [f"The tree uses it {counted(found.total, 'time')} and does not declare it; see find_references."]


def _grouped(symbols: Iterable[Symbol]) -> list[list[Symbol]]:
    """A declaration and its definition are one, and overloads are not."""
    groups: dict[SymbolId, list[Symbol]] = {}
    for symbol in symbols:
        groups.setdefault(symbol.id, []).append(symbol)
    return list(groups.values())


def _symbol(group: Sequence[Symbol]) -> str:
    first = group[0]
    places = [
        f"{'defined' if each.is_definition else 'declared'} {text.place(each.span)}"
        for each in sorted(group, key=lambda each: not each.is_definition)
    ]
    shown = ", ".join(places[:4]) + (f" and {len(places) - 4} more" if len(places) > 4 else "")
    signature = max(
        (each.signature for each in group), key=lambda written: (len(written) <= SIGNATURE_CHARS, len(written))
    )
    rows = [
        f"{first.kind.value} {text.one_line(first.qualified_name)}  {shown}",
        f"    {_cut(signature, SIGNATURE_CHARS)}",
    ]
    doc = next((each.doc for each in group if each.doc), "")
    if doc:
        rows.append(f"    // {_cut(first_sentence(doc), DOC_CHARS)}")
    return "\n".join(rows)


def _outline(service: Service, group: Sequence[Symbol]) -> str:
    """What a class derives from, what derives from it, and its members."""
    one = next(each for each in group if each.is_definition)
    rows = []
    for tree in service.hierarchy(one.qualified_name):
        if tree.symbol.id == one.id:
            for verb, relatives in (("derives from", tree.bases), ("derived by", tree.derived)):
                if relatives:
                    rows.append(f"    {verb} {listed((each.name for each in relatives), RELATIVES)}")
    members = service.members(one)
    if members:
        rows.append(f"    {counted(len(members), 'member')} in {text.one_line(one.span.path)}:")
    for each in members[:MEMBERS]:
        access = f"{each.access.value}: " if each.access is not None and each.access is not Access.PUBLIC else ""
        rows.append(f"    {each.line or each.span.first_line}  {access}{_cut(each.signature, MEMBER_CHARS)}")
    if len(members) > MEMBERS:
        rows.append(f"    … {len(members) - MEMBERS} more: read_file with symbol={text.one_line(one.qualified_name)}")
    return "\n".join(rows)


def first_sentence(doc: str) -> str:
    """The first sentence of a comment, in one line."""
    begin = doc[: 4 * DOC_CHARS].strip()
    end = _SENTENCE_END.search(begin)
    return " ".join((begin[: end.start() + 1] if end else begin).split())


def _cut(written: str, most: int) -> str:
    line = text.one_line(" ".join(written[: 2 * most].split()))
    return line if len(line) <= most else line[:most] + " …"


SEARCH_CODE = Tool(
    name="search_code",
    title="Search the code",
    about="Ranked code for words or a question, by text, meaning and names, and how sure it is. Better than grep.",
    parameters=(
        Text("query", most=MOST_QUERY_CHARS, required=True),
        Text("path", about="globs: src/*.cpp, tests/"),
        Text("kind"),
        Number("limit", "", 1, 50, 10),
        Text("workspace"),
        Text("cursor"),
    ),
    scope=Scope.READ,
    read_only=True,
    destructive=False,
    idempotent=True,
    open_world=False,
    run=_search,
)

FIND_SYMBOL = Tool(
    name="find_symbol",
    title="Find a symbol",
    about="Where a C++ name is defined: every overload with signature and doc; a class with its members.",
    parameters=(
        Text("name", required=True),
        Text("kind"),
        Text("workspace"),
        Text("cursor"),
    ),
    scope=Scope.READ,
    read_only=True,
    destructive=False,
    idempotent=True,
    open_world=False,
    run=_find,
)
