"""The JSON shapes of results: what ``--json`` prints and what travels over HTTP. Keys only ever get added."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from hub.impact import GROUPS, Impact, Reached
from hub.model import (
    Answer,
    Attempt,
    Citation,
    Confidence,
    Decision,
    Event,
    Found,
    Hit,
    Moved,
    Part,
    Piece,
    Prefill,
    Reading,
    Refusal,
    Understood,
)
from hub.service import ClassTree, Includes, Overrides, Relations, SearchResult, Story
from indexer.index import FoundSymbols, Relative, Step, Told
from indexer.model import Confirmation, Edge, IndexReport, Problem, Stamp, Symbol

Json = dict[str, Any]


def stamp_shape(stamp: Stamp) -> Json:
    behind = asdict(stamp.behind) if stamp.behind else None
    return {"commit": stamp.commit, "dirty": stamp.dirty, "indexed_at": stamp.indexed_at, "behind": behind}


def confidence_shape(confidence: Confidence) -> Json:
    return {
        "value": confidence.value,
        "calibrated": confidence.calibrated,
        "tier": confidence.tier.value,
        "reasons": list(confidence.reasons),
        "features": dict(confidence.features),
        "gains": {tier.value: gain for tier, gain in confidence.gains},
        "guarantee": confidence.guarantee or None,
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
        "raw": {signal.source.value: round(signal.raw, 6) for signal in hit.signals},
        "contributions": {name: round(value, 6) for name, value in hit.contributions},
        "text": hit.chunk.text,
    }


def understood_shape(understood: Understood) -> Json:
    return {
        "kind": understood.kind.value,
        "words": {word: round(weight, 3) for word, weight in understood.words},
        "dropped": understood.dropped,
        "names": list(understood.names),
        "spelt": list(understood.spelt),
        "unknown": list(understood.unknown),
        "paste": understood.paste.value if understood.paste else None,
        "found": dict(understood.found),
        "weights": dict(understood.weights),
        "origin": understood.origin,
    }


def search_shape(result: SearchResult) -> Json:
    return {
        "query": result.query,
        "workspace": result.workspace,
        "stamp": stamp_shape(result.stamp),
        "confidence": confidence_shape(result.confidence),
        "hits": [hit_shape(hit) for hit in result.hits],
        "files": [{"path": path, "score": round(score, 6)} for path, score in result.files],
        "understood": understood_shape(result.understood),
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
        "line": symbol.line or symbol.span.first_line,
        "declared_type": symbol.type,
        "parameters": list(symbol.parameters),
        "bases": list(symbol.bases),
        "traits": [trait.value for trait in symbol.traits],
        "access": symbol.access.value if symbol.access else None,
    }


def found_shape(found: FoundSymbols, offset: int) -> Json:
    return {
        "match": found.match.value if found.match else None,
        "symbols": [symbol_shape(symbol) for symbol in found.symbols],
        "total": found.total,
        "offset": offset,
    }


def edge_shape(edge: Edge) -> Json:
    return {
        "kind": edge.kind.value,
        "path": edge.path,
        "line": edge.line,
        "inside": edge.inside,
        "target": edge.target,
        "how": edge.how.value,
        "target_id": edge.target_id,
        "inside_id": edge.inside_id,
        "candidates": list(edge.candidates),  # of a guess with several; the first few
        "candidate_count": edge.candidate_count,
    }


def step_shape(step: Step) -> Json:
    return {**edge_shape(step.edge), "depth": step.depth, "via": list(step.via)}


def relations_shape(relations: Relations) -> Json:
    return {
        "symbols": [symbol_shape(symbol) for symbol in relations.symbols],
        "edges": [step_shape(step) for step in relations.steps],
        "total": relations.total,
        "offset": relations.offset,
    }


def hierarchy_shape(trees: Iterable[ClassTree]) -> Json:
    return {
        "classes": [
            {
                "symbol": symbol_shape(tree.symbol),
                "bases": [_relative_shape(relative) for relative in tree.bases],
                "derived": [_relative_shape(relative) for relative in tree.derived],
            }
            for tree in trees
        ]
    }


def _relative_shape(relative: Relative) -> Json:
    return {
        "name": relative.name,
        "id": relative.id,
        "path": relative.path,
        "line": relative.line,
        "how": relative.how.value,
        "repeated": relative.repeated,
        "relatives": [_relative_shape(inner) for inner in relative.relatives],
    }


def overrides_shape(overrides: Overrides) -> Json:
    return {
        "symbols": [symbol_shape(symbol) for symbol in overrides.symbols],
        "overrides": [edge_shape(edge) for edge in overrides.overridden],
        "overridden_by": [edge_shape(edge) for edge in overrides.overriding],
        "total": overrides.total,
        "offset": overrides.offset,
    }


def includes_shape(includes: Includes) -> Json:
    return {
        "path": includes.path,
        "edges": [{**step_shape(step), "cycle": step.cycle} for step in includes.steps],
        "total": includes.total,
        "offset": includes.offset,
    }


def history_shape(told: Iterable[Told], total: int, offset: int) -> Json:
    """``changed`` names the symbols as the commit's time knew them; times are Unix times."""
    return {
        "commits": [
            {
                "commit": entry.commit.id,
                "time": entry.commit.time_s,
                "author": entry.commit.author,
                "subject": entry.commit.subject,
                "body": entry.body,
                "files": list(entry.paths),
                "changed": list(entry.symbols),
                "files_in_all": entry.files,
            }
            for entry in told
        ],
        "total": total,
        "offset": offset,
    }


def story_shape(story: Story) -> Json:
    """Reasons and decisions the best first, commits newest first; times are Unix times."""
    return {
        "asked": story.asked,
        "path": story.span.path if story.span else None,
        "first_line": story.span.first_line if story.span else None,
        "last_line": story.span.last_line if story.span else None,
        "symbols": [symbol_shape(symbol) for symbol in story.symbols],
        "comment": story.comment,
        "reasons": [
            {
                "kind": reason.kind.value,
                "says": list(reason.says),
                "title": reason.title,
                "commit": reason.commit,
                "path": reason.span.path if reason.span else None,
                "first_line": reason.span.first_line if reason.span else None,
                "last_line": reason.span.last_line if reason.span else None,
                "date": reason.date or None,
                "how": reason.how,
                "outdated": reason.outdated or None,
                "strength": round(reason.strength, 3),
            }
            for reason in story.reasons
        ],
        "commits": [
            {
                "commit": made.commit.id,
                "time": made.commit.time_s,
                "author": made.commit.author,
                "subject": made.commit.subject,
                "says": list(made.says),
                "issues": list(made.issues),
                "files": list(made.paths),
                "how": made.how,
                "outdated": made.outdated or None,
                "first": made.first,
            }
            for made in story.commits
        ],
        "total": story.total,
        "decisions": [
            {
                "path": decision.span.path,
                "first_line": decision.span.first_line,
                "last_line": decision.span.last_line,
                "title": decision.title,
                "says": list(decision.says),
                "date": decision.date or None,
                "how": decision.how,
                "outdated": decision.outdated or None,
                "recorded": decision.recorded,
            }
            for decision in story.decisions
        ],
        "notes": list(story.notes),
    }


def impact_shape(impact: Impact, limit: int) -> Json:
    """Everything by group; ``limit`` bounds each group, of which the whole number is told too."""
    groups = {group: [reached for reached in impact.reached if reached.group == group] for group in GROUPS}
    tests = [reached for reached in impact.reached if reached.is_test]
    return {
        "changed": [symbol_shape(symbol) for symbol in impact.changed],
        "files": list(impact.files),
        "reached": {group: [_reached_shape(reached) for reached in found[:limit]] for group, found in groups.items()},
        "tests": [_reached_shape(reached) for reached in tests[:limit]],
        "totals": {**{group: len(found) for group, found in groups.items()}, "tests": len(tests)},
        "notes": list(impact.notes),
    }


def _reached_shape(reached: Reached) -> Json:
    return {
        "name": reached.name,
        "id": reached.id,
        "path": reached.path,
        "line": reached.line,
        "reason": reached.reason,
        "how": reached.how.value,
        "depth": reached.depth,
        "via": list(reached.via),
        "places": reached.places,
        "is_test": reached.is_test,
    }


def export_shapes(symbols: Iterable[Symbol], edges: Iterable[Edge]) -> Iterable[Json]:
    """One object for each symbol, then one for each edge."""
    for symbol in symbols:
        yield {"type": "symbol", **symbol_shape(symbol)}
    for edge in edges:
        shape = edge_shape(edge)
        shape["source"] = shape.pop("inside") or edge.path
        shape["source_id"] = shape.pop("inside_id")
        yield {"type": "edge", **shape}


def citation_shape(citation: Citation) -> Json:
    return {
        "label": citation.label,
        "path": citation.span.path,
        "first_line": citation.span.first_line,
        "last_line": citation.span.last_line,
        "symbol": citation.symbol or None,
    }


def attempt_shape(attempt: Attempt) -> Json:
    return {
        "tier": attempt.tier.value,
        "confidence": attempt.confidence,
        "checked": attempt.checked,
        "backend": attempt.backend,
        "model": attempt.model,
        "usage": asdict(attempt.usage),
        "seconds": attempt.seconds,
        "left": attempt.left or None,
    }


def decision_shape(decision: Decision) -> Json:
    return {
        "at": decision.at.value,
        "answered": decision.answered,
        "way": decision.way.value,
        "tier": decision.tier.value,
        "reason": decision.reason,
        "value": decision.value,
        "worth_of_an_answer_s": decision.value_s,
        "certified_from": decision.certified,
        "weighed": [
            {
                "tier": rung.tier.value,
                "gain": round(rung.gain, 4),
                "harm": round(rung.harm, 4),
                "cost_s": round(rung.cost_s, 2),
                "worth_s": round(rung.worth_s, 2),
                "closed": rung.closed or None,
            }
            for rung in decision.weighed
        ],
        "arithmetic": dict(decision.arithmetic),
        "fitted_on": decision.origin or None,
    }


def refusal_shape(refusal: Refusal) -> Json:
    return {
        "reasons": list(refusal.reasons),
        "missing": [
            {"lack": missing.lack.value, "what": missing.what, "nearest": list(missing.nearest)}
            for missing in refusal.missing
        ],
        "looked_at": [attempt_shape(attempt) for attempt in refusal.looked_at],
        "remedies": [{"text": remedy.text, "command": remedy.command or None} for remedy in refusal.remedies],
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
        "attempts": [attempt_shape(attempt) for attempt in answer.attempts],
        "explanation": [decision_shape(decision) for decision in answer.decisions],
        "refusal": refusal_shape(answer.refusal) if answer.refusal else None,
    }


def event_shape(event: Event) -> tuple[str, Json]:
    """The name of what happens while a question is answered, and its content."""
    match event:
        case Piece(text):
            return "piece", {"text": text}
        case Prefill(read, total, cached):
            return "prefill", {"read": read, "total": total, "cached": cached}
        case Found(citations, confidence):
            shown = [citation_shape(citation) for citation in citations]
            return "found", {"citations": shown, "confidence": confidence_shape(confidence)}
        case Reading(backend, model, prompt_tokens):
            return "reading", {"backend": backend, "model": model, "prompt_tokens": prompt_tokens}
        case Moved(attempt, to, gain, cost_s):
            return "moved", {"attempt": attempt_shape(attempt), "to": to.value, "gain": gain, "cost_s": cost_s}
        case Part(number, total, tokens, seconds):
            return "part", {"number": number, "total": total, "tokens": tokens, "seconds": seconds}


def _problem_shapes(problems: Iterable[Problem]) -> list[Json]:
    return [asdict(problem) for problem in problems]


def confirmation_shape(confirmation: Confirmation) -> Json:
    return {
        "units": confirmation.units,
        "read": confirmation.read,
        "broken": confirmation.broken,
        "failed": confirmation.failed,
        "files": confirmation.files,
        "problems": _problem_shapes(confirmation.problems),
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
        "whole": report.whole,
        "problems": _problem_shapes(report.problems),
        "skipped": [{"path": path, "reason": reason} for path, reason in report.skipped],
        "seconds": {stage.stage: stage.seconds for stage in report.stages},
        "notes": list(report.notes),
        "redacted": {"secrets": _problem_shapes(report.redacted), "in_commits": report.redacted_commits},
        "compiler": confirmation_shape(report.confirmation) if report.confirmation else None,
    }
