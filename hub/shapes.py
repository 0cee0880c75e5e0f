"""The JSON shapes of results: what ``--json`` prints and what travels over HTTP. Keys only ever get added."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from hub.model import Answer, Citation, Confidence, Hit
from hub.service import Relations, SearchResult
from indexer.model import Edge, IndexReport, Stamp, Symbol

Json = dict[str, Any]


def stamp_shape(stamp: Stamp) -> Json:
    return {"commit": stamp.commit, "dirty": stamp.dirty, "indexed_at": stamp.indexed_at}


def confidence_shape(confidence: Confidence) -> Json:
    return {
        "value": confidence.value,
        "calibrated": confidence.calibrated,
        "tier": confidence.tier.value,
        "reasons": list(confidence.reasons),
        "features": dict(confidence.features),
    }


def hit_shape(hit: Hit) -> Json:
    return {
        "path": hit.chunk.span.path,
        "first_line": hit.chunk.span.first_line,
        "last_line": hit.chunk.span.last_line,
        "symbol": hit.symbol_name or None,
        "kind": hit.symbol_kind or None,
        "title": hit.chunk.title,
        "score": round(hit.score, 6),
        "signals": {signal.source.value: signal.rank for signal in hit.signals},
        "contributions": {name: round(value, 6) for name, value in hit.contributions},
        "text": hit.chunk.text,
    }


def search_shape(result: SearchResult) -> Json:
    return {
        "query": result.query,
        "workspace": result.workspace,
        "stamp": stamp_shape(result.stamp),
        "confidence": confidence_shape(result.confidence),
        "hits": [hit_shape(hit) for hit in result.hits],
        "notes": list(result.notes),
    }


def symbol_shape(symbol: Symbol) -> Json:
    return {
        "id": symbol.id,
        "qualified_name": symbol.qualified_name,
        "kind": symbol.kind.value,
        "signature": symbol.signature,
        "path": symbol.span.path,
        "first_line": symbol.span.first_line,
        "last_line": symbol.span.last_line,
        "is_definition": symbol.is_definition,
        "doc": symbol.doc,
    }


def edge_shape(edge: Edge) -> Json:
    return {
        "kind": edge.kind.value,
        "path": edge.path,
        "line": edge.line,
        "inside": edge.inside,
        "target": edge.target,
        "how": edge.how.value,
    }


def relations_shape(relations: Relations) -> Json:
    return {
        "symbols": [symbol_shape(symbol) for symbol in relations.symbols],
        "edges": [edge_shape(edge) for edge in relations.edges],
    }


def export_shapes(symbols: Iterable[Symbol], edges: Iterable[Edge]) -> Iterable[Json]:
    """One object for each symbol, then one for each edge."""
    for symbol in symbols:
        yield {"type": "symbol", **symbol_shape(symbol)}
    for edge in edges:
        shape = edge_shape(edge)
        shape["source"] = shape.pop("inside") or edge.path
        yield {"type": "edge", **shape}


def citation_shape(citation: Citation) -> Json:
    return {
        "label": citation.label,
        "path": citation.span.path,
        "first_line": citation.span.first_line,
        "last_line": citation.span.last_line,
        "symbol": citation.symbol or None,
    }


def answer_shape(answer: Answer) -> Json:
    return {
        "question": answer.question,
        "answer": answer.text,
        "declined": answer.declined,
        "citations": [citation_shape(citation) for citation in answer.citations],
        "confidence": confidence_shape(answer.confidence),
        "tier": answer.tier.value,
        "tried": [tier.value for tier in answer.tried],
        "backend": answer.backend,
        "model": answer.model,
        "usage": asdict(answer.usage),
        "seconds": answer.seconds,
        "workspace": answer.workspace,
        "stamp": stamp_shape(answer.stamp),
        "notes": list(answer.notes),
    }


def report_shape(report: IndexReport) -> Json:
    return {
        "workspace": report.workspace,
        "files": report.files,
        "changed": report.changed,
        "unchanged": report.unchanged,
        "removed": report.removed,
        "lines": report.lines,
        "symbols": report.symbols,
        "references": report.references,
        "chunks": report.chunks,
        "embedded": report.embedded,
        "waiting_for_vectors": report.waiting_for_vectors,
        "problems": [{"path": p.path, "line": p.line, "message": p.message} for p in report.problems],
        "skipped": [{"path": path, "reason": reason} for path, reason in report.skipped],
        "seconds": {stage.stage: stage.seconds for stage in report.stages},
        "notes": list(report.notes),
    }
