"""Answers straight from the tables: where something stands, who calls it, what it calls. No model, no guess.

Recognizes a few plain forms of such questions; everything else is left to retrieval.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from hub.model import Citation
from hub.prompting import visible
from indexer.index import Index
from indexer.model import Edge, Provenance, ReferenceKind, Span, Symbol

MOST_SYMBOLS = 8  # definitions named in one answer
MOST_EDGES = 20  # calls named in one answer
SHOWN_DOC_CHARS = 400

_NAME = r"[`'\"]?(?P<name>~?[A-Za-z_][\w:~]*(?:operator\W{1,3})?)(?:\(\))?[`'\"]?"
_WHERE = r"(?:where\s+(?:is|are)|what\s+is|find|show(?:\s+me)?)\s+(?:the\s+)?(?:\w+\s+)??"
_THING = r"(?:\s+(?:function|class|struct|method|macro|type))?"
_FORMS = (
    ("definition", rf"{_WHERE}{_NAME}{_THING}\s+(?:defined|declared|implemented|definition)"),
    ("definition", rf"(?:the\s+)?definition\s+of\s+{_NAME}"),
    ("callers", rf"(?:who|what|which\s+\w+)\s+(?:calls?|uses?)\s+{_NAME}"),
    ("callers", rf"(?:the\s+|all\s+)*(?:callers|users|usages)\s+of\s+{_NAME}"),
    ("callers", rf"where\s+is\s+{_NAME}\s+(?:called|used)(?:\s+from)?"),
    ("callees", rf"what\s+(?:functions\s+)?(?:does|do)\s+{_NAME}\s+call"),
    ("callees", rf"(?:the\s+|all\s+)*callees\s+of\s+{_NAME}"),
)
_COMPILED = tuple((kind, re.compile(rf"\s*{form}\s*[?.!]*\s*", re.IGNORECASE)) for kind, form in _FORMS)


class Relation(StrEnum):
    DEFINITION = "definition"
    CALLERS = "callers"
    CALLEES = "callees"


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
    symbols = index.facts.symbols_named(name, MOST_SYMBOLS + 1)
    if not symbols:
        return None
    if relation is Relation.DEFINITION:
        return _definitions(name, symbols)
    kinds = (ReferenceKind.CALL, ReferenceKind.MACRO)
    distinct = list({symbol.id: symbol for symbol in reversed(symbols)}.values())
    look = index.facts.edges_to if relation is Relation.CALLERS else index.facts.edges_from
    edges = sorted(
        {edge for symbol in distinct for edge in look(symbol, kinds)}, key=lambda e: (e.path, e.line, e.target)
    )
    return _edges(relation, symbols[0], edges)


def _definitions(name: str, symbols: list[Symbol]) -> TableAnswer:
    citations = tuple(
        Citation(label, symbol.span, symbol.qualified_name) for label, symbol in enumerate(symbols[:MOST_SYMBOLS], 1)
    )
    lines = []
    for citation, symbol in zip(citations, symbols, strict=False):
        form = "is defined" if symbol.is_definition else "is declared"
        lines.append(f"{symbol.qualified_name} ({symbol.kind}) {form} at {symbol.span} [{citation.label}]")
        lines.append(f"    {visible(symbol.signature)}")
        if symbol.doc:
            lines.append(f"    {visible(_shortened(symbol.doc))}")
    if len(symbols) > MOST_SYMBOLS:
        lines.append(f"There are more; `codehub symbol {name}` lists them.")
    return TableAnswer("\n".join(lines), citations)


def _edges(relation: Relation, symbol: Symbol, edges: list[Edge]) -> TableAnswer:
    calls = "is called" if relation is Relation.CALLERS else "calls"
    if not edges:
        where = Citation(1, symbol.span, symbol.qualified_name)
        nobody = "nothing in this tree calls it" if relation is Relation.CALLERS else "it calls nothing"
        return TableAnswer(f"{symbol.qualified_name} stands at {symbol.span} [1]; {nobody}.", (where,))
    shown = edges[:MOST_EDGES]
    citations = tuple(
        Citation(label, Span(edge.path, edge.line, edge.line), edge.inside) for label, edge in enumerate(shown, 1)
    )
    lines = [f"{symbol.qualified_name} {calls} in {len(edges)} place{'s' if len(edges) > 1 else ''}:"]
    for citation, edge in zip(citations, shown, strict=True):
        other = (edge.inside or "file scope") if relation is Relation.CALLERS else edge.target
        sure = "" if edge.how is not Provenance.BY_NAME else " (by name)"
        lines.append(f"  {edge.path}:{edge.line} {other}{sure} [{citation.label}]")
    if len(edges) > MOST_EDGES:
        lines.append(f"  and {len(edges) - MOST_EDGES} more; `codehub {relation} {symbol.qualified_name}` lists them.")
    return TableAnswer("\n".join(lines), citations)


def _shortened(doc: str) -> str:
    text = " ".join(doc.split())
    return text if len(text) <= SHOWN_DOC_CHARS else text[:SHOWN_DOC_CHARS].rsplit(" ", 1)[0] + " ..."
