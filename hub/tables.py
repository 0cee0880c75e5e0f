"""Answers straight from the tables: where something stands, who calls it, what derives from it. No model, no guess.

Recognizes a few plain forms of such questions; everything else is left to retrieval.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from hub.model import Citation
from hub.prompting import visible
from hub.prompting.layout import in_one_line
from hub.retrieval import OPERATOR, symbols_named
from indexer.errors import QuestionError
from indexer.index import Index
from indexer.model import Edge, Provenance, ReferenceKind, Span, Symbol
from indexer.patterns import later

MOST_SYMBOLS = 8  # definitions named in one answer
MOST_NAMESAKES = 200  # symbols of one name whose edges are looked up
MOST_EDGES = 20  # places named in one answer
SHOWN_DOC_CHARS = 400

_NAME = rf"[`'\"]?(?P<name>(?:::)?(?:[A-Za-z_]\w*::)*(?:{OPERATOR}|~?[A-Za-z_]\w*))(?:\(\))?[`'\"]?"
_WHERE = r"(?:where\s+(?:is|are)|what\s+is|find|show(?:\s+me)?)\s+(?:the\s+)?(?:\w+\s+)??"
_THING = r"(?:\s+(?:function|class|struct|method|macro|type))?"
_FORMS = (
    ("definition", rf"{_WHERE}{_NAME}{_THING}\s+(?:defined|declared|implemented|definition)"),
    ("definition", rf"(?:the\s+)?definition\s+of\s+{_NAME}"),
    ("callers", rf"(?:who|what|which\s+\w+)\s+calls?\s+{_NAME}"),
    ("callers", rf"(?:the\s+|all\s+)*callers\s+of\s+{_NAME}"),
    ("callers", rf"where\s+is\s+{_NAME}\s+called(?:\s+from)?"),
    ("callees", rf"what\s+(?:functions\s+)?(?:does|do)\s+{_NAME}\s+call"),
    ("callees", rf"(?:the\s+|all\s+)*callees\s+of\s+{_NAME}"),
    ("references", rf"(?:who|what|which\s+\w+)\s+uses?\s+{_NAME}"),
    ("references", rf"(?:the\s+|all\s+)*(?:users|usages|uses|references)\s+(?:of|to)\s+{_NAME}"),
    ("references", rf"where\s+is\s+{_NAME}\s+used"),
)
_FILE = r"[`'\"<]?(?P<name>[\w.+-]+(?:/[\w.+-]+)*\.[\w+]+)[`'\">]?"
_CLASSES = r"(?:what|who|which\s+(?:classes|class|types|structs|type))"
_FORMS_OF_CLASSES = (
    ("derived", rf"{_CLASSES}\s+(?:derives?|inherits?|extends?|implements?|subclass(?:es)?)(?:\s+from)?\s+{_NAME}"),
    ("derived", rf"(?:the\s+|all\s+)*(?:subclasses|derived\s+classes|implementations)\s+of\s+{_NAME}"),
    ("bases", rf"what\s+(?:does|do)\s+{_NAME}\s+(?:derive|inherit)\s+from"),
    ("bases", rf"what\s+(?:does|do)\s+{_NAME}\s+extend"),
    ("bases", rf"(?:the\s+|all\s+)*(?:bases|base\s+class(?:es)?|superclass(?:es)?)\s+of\s+{_NAME}"),
    ("overriders", rf"(?:who|what|which\s+\w+)\s+overrides?\s+{_NAME}"),
    ("overriders", rf"(?:the\s+|all\s+)*overrides\s+of\s+{_NAME}"),
    ("overridden", rf"what\s+(?:does|do)\s+{_NAME}\s+override"),
    ("includers", rf"(?:who|what|which\s+\w+)\s+includes?\s+{_FILE}"),
    ("includes", rf"what\s+(?:files\s+)?(?:does|do)\s+{_FILE}\s+include"),
)
_COMPILED = tuple((kind, later(rf"\s*{form}\s*[?.!]*\s*", re.IGNORECASE)) for kind, form in _FORMS + _FORMS_OF_CLASSES)


class Relation(StrEnum):
    DEFINITION = "definition"
    CALLERS = "callers"
    CALLEES = "callees"
    REFERENCES = "references"
    DERIVED = "derived"
    BASES = "bases"
    OVERRIDERS = "overriders"
    OVERRIDDEN = "overridden"
    INCLUDERS = "includers"
    INCLUDES = "includes"


_CALLS = (ReferenceKind.CALL, ReferenceKind.MACRO)
_KINDS = {
    Relation.CALLERS: _CALLS,
    Relation.CALLEES: _CALLS,
    Relation.REFERENCES: (*_CALLS, ReferenceKind.TYPE, ReferenceKind.BASE, ReferenceKind.NAME),
}
_VERBS = {  # with and without places
    Relation.CALLERS: ("is called", "nothing in this tree calls it"),
    Relation.CALLEES: ("calls others", "it calls nothing"),
    Relation.REFERENCES: ("is used", "nothing in this tree uses it"),
    Relation.DERIVED: ("is derived from", "nothing in this tree derives from it"),
    Relation.BASES: ("derives from others", "it derives from nothing"),
    Relation.OVERRIDERS: ("is overridden", "nothing in this tree overrides it"),
    Relation.OVERRIDDEN: ("overrides others", "it overrides nothing in this tree"),
    Relation.INCLUDERS: ("is included", "nothing in this tree includes it"),
    Relation.INCLUDES: ("includes others", "it includes nothing"),
}
_COMMANDS = {  # that list all of it
    Relation.DERIVED: "hierarchy --down",
    Relation.BASES: "hierarchy --up",
    Relation.OVERRIDERS: "overrides",
    Relation.OVERRIDDEN: "overrides",
    Relation.INCLUDERS: "included-by",
}
_ONWARD = {Relation.CALLEES, Relation.BASES, Relation.OVERRIDDEN, Relation.INCLUDES}  # what is named is the target
_BASE = (ReferenceKind.BASE,)


@dataclass(frozen=True, slots=True)
class TableAnswer:
    text: str
    citations: tuple[Citation, ...]


def relation_asked(question: str) -> tuple[Relation, str] | None:
    """(relation, name) when the whole question has one of the known forms."""
    for kind, form in _COMPILED:
        if match := form.fullmatch(question):
            return Relation(kind), match.group("name")
    return None


def answer(index: Index, relation: Relation, name: str) -> TableAnswer | None:
    """The answer, or None where the tree has no such symbol."""
    if relation in (Relation.INCLUDERS, Relation.INCLUDES):
        return _includes(index, relation, name)
    symbols = symbols_named(index, name, MOST_NAMESAKES)
    if not symbols:
        return None
    if relation is Relation.DEFINITION:
        return _definitions(name, symbols)
    return _edges(relation, name, symbols, _places(relation, _edges_of(index, relation, symbols)))


def _edges_of(index: Index, relation: Relation, symbols: Sequence[Symbol]) -> list[Edge]:
    distinct = {symbol.id: symbol for symbol in symbols}
    facts, lineage = index.facts, index.graph.lineage
    match relation:
        case Relation.OVERRIDERS:
            return lineage.edges(lineage.overriders_of(distinct))
        case Relation.OVERRIDDEN:
            return lineage.edges(lineage.overrides_of(distinct))
        case Relation.DERIVED:
            return [edge for symbol in distinct.values() for edge in facts.edges_to(symbol, _BASE)]
        case Relation.BASES:
            return [edge for symbol in distinct.values() for edge in facts.edges_from(symbol, _BASE)]
        case Relation.CALLEES:
            return [edge for symbol in distinct.values() for edge in facts.edges_from(symbol, _KINDS[relation])]
        case _:
            return [edge for symbol in distinct.values() for edge in facts.edges_to(symbol, _KINDS[relation])]


def _includes(index: Index, relation: Relation, name: str) -> TableAnswer | None:
    """The includes of a file; None where no file, or more than one, has this name."""
    try:
        path = index.graph.file(name)
    except QuestionError:
        return None
    if path is None:
        return None
    look = index.graph.includes if relation is Relation.INCLUDES else index.graph.included_by
    places = _places(relation, [step.edge for step in look(path, 1)])
    if not places:
        return TableAnswer(f"{path} [1]: {_VERBS[relation][1]}.", (Citation(1, Span(path, 1, 1), ""),))
    return _listed(relation, path, path, places)


def _definitions(name: str, symbols: Sequence[Symbol]) -> TableAnswer:
    citations = tuple(
        Citation(label, symbol.span, symbol.qualified_name) for label, symbol in enumerate(symbols[:MOST_SYMBOLS], 1)
    )
    lines = []
    for citation, symbol in zip(citations, symbols, strict=False):
        form = "is defined" if symbol.is_definition else "is declared"
        lines.append(
            f"{symbol.qualified_name} ({symbol.kind}) {form} at {in_one_line(str(symbol.span))} [{citation.label}]"
        )
        lines.append(f"    {symbol.signature}")
        if symbol.doc:
            lines.append(f"    {_shortened(symbol.doc)}")
    if len(symbols) > MOST_SYMBOLS:
        lines.append(f"There are more; `codehub symbol {name}` lists them.")
    return TableAnswer(visible("\n".join(lines)), citations)


def _places(relation: Relation, edges: Iterable[Edge]) -> list[tuple[Edge, str]]:
    """One edge for each line that is shown, with what stands at its other end; sure ones first, then by place.

    A use that may mean several symbols of the name is one place all the same.
    """
    surest = {how: rank for rank, how in enumerate(Provenance)}
    places: dict[tuple[str, int, str], Edge] = {}
    guessed = Provenance.BY_NAME
    for edge in sorted(
        edges, key=lambda e: (e.how is guessed, e.path, e.line, surest[e.how], e.inside, e.target, e.kind)
    ):
        other = edge.target if relation in _ONWARD else edge.inside or "file scope"
        places.setdefault((edge.path, edge.line, other), edge)
    return [(edge, other) for (_, _, other), edge in places.items()]


def _edges(relation: Relation, name: str, symbols: Sequence[Symbol], places: Sequence[tuple[Edge, str]]) -> TableAnswer:
    none = _VERBS[relation][1]
    meant = sorted({symbol.qualified_name for symbol in symbols})
    subject = meant[0] if len(meant) == 1 else f"{name} ({len(meant)} symbols have this name)"
    if not places:
        where = Citation(1, symbols[0].span, symbols[0].qualified_name)
        return TableAnswer(f"{subject} stands at {in_one_line(str(symbols[0].span))} [1]; {none}.", (where,))
    return _listed(relation, name, subject, places)


def _listed(relation: Relation, name: str, subject: str, places: Sequence[tuple[Edge, str]]) -> TableAnswer:
    verb = _VERBS[relation][0]
    shown = places[:MOST_EDGES]
    citations = tuple(
        Citation(label, Span(edge.path, edge.line, edge.line), edge.inside) for label, (edge, _) in enumerate(shown, 1)
    )
    lines = [f"{subject} {verb} in {len(places)} place{'s' if len(places) > 1 else ''}:"]
    for citation, (edge, other) in zip(citations, shown, strict=True):
        sure = "" if edge.how is not Provenance.BY_NAME else " (by name)"
        lines.append(f"  {in_one_line(edge.path)}:{edge.line} {other}{sure} [{citation.label}]")
    if len(places) > MOST_EDGES:
        command = _COMMANDS.get(relation, relation.value)
        lines.append(f"  and {len(places) - MOST_EDGES} more; `codehub {command} {name}` lists them.")
    return TableAnswer(visible("\n".join(lines)), citations)


def _shortened(doc: str) -> str:
    text = " ".join(doc.split())
    return text if len(text) <= SHOWN_DOC_CHARS else text[:SHOWN_DOC_CHARS].rsplit(" ", 1)[0] + " ..."
