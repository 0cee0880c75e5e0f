"""Reads the JSON shapes back into values, so that a command shows a server's answer as it shows its own.

What a shape leaves out, such as the ids of chunks, is empty. The shape of what was read back is the shape it came from.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from hub.model import (
    Answer,
    Attempt,
    Citation,
    Confidence,
    Decision,
    Event,
    Found,
    Hit,
    Lack,
    Missing,
    Moved,
    Part,
    PasteKind,
    Piece,
    Prefill,
    QuestionKind,
    Reading,
    Refusal,
    Remedy,
    SearchResult,
    Signal,
    SignalSource,
    Tier,
    Understood,
    Usage,
    Way,
    Weighed,
)
from indexer.model import Behind, Chunk, ChunkId, Confirmation, IndexReport, Problem, Span, StageTime, Stamp

Json = dict[str, Any]
_T = TypeVar("_T")


def answer_from(shape: Json) -> Answer:
    """The inverse of ``answer_shape``."""
    return Answer(
        question=shape["question"],
        text=shape["answer"],
        confidence=_confidence(shape["confidence"]),
        tier=Tier(shape["tier"]),
        tried=tuple(map(Tier, shape["tried"])),
        citations=tuple(map(_citation, shape["citations"])),
        backend=shape["backend"],
        model=shape["model"],
        usage=Usage(**shape["usage"]),
        seconds=shape["seconds"],
        stamp=_stamp(shape["stamp"]),
        workspace=shape["workspace"],
        notes=tuple(shape["notes"]),
        attempts=tuple(map(_attempt, shape["attempts"])),
        decisions=tuple(map(_decision, shape["explanation"])),
        refusal=_refusal(shape["refusal"]) if shape["refusal"] else None,
    )


def search_from(shape: Json) -> SearchResult:
    """The inverse of ``search_shape``."""
    return SearchResult(
        query=shape["query"],
        workspace=shape["workspace"],
        stamp=_stamp(shape["stamp"]),
        confidence=_confidence(shape["confidence"]),
        hits=tuple(map(_hit, shape["hits"])),
        notes=tuple(shape["notes"]),
        files=tuple((entry["path"], entry["score"]) for entry in shape["files"]),
        understood=_understood(shape["understood"]),
    )


def event_from(name: str, shape: Json) -> Event | None:
    """The inverse of ``event_shape``; None for an event that this version does not know."""
    read = _EVENTS.get(name)
    return read(shape) if read else None


def report_from(shape: Json) -> IndexReport:
    """The inverse of ``report_shape``."""
    told = shape["compiler"]
    return IndexReport(
        **{name: shape[name] for name in _REPORTED},
        problems=tuple(Problem(**problem) for problem in shape["problems"]),
        skipped=tuple((entry["path"], entry["reason"]) for entry in shape["skipped"]),
        stages=tuple(StageTime(stage, seconds) for stage, seconds in shape["seconds"].items()),
        notes=tuple(shape["notes"]),
        redacted=tuple(Problem(**problem) for problem in shape["redacted"]["secrets"]),
        redacted_commits=shape["redacted"]["in_commits"],
        confirmation=told
        and Confirmation(
            **{**told, "problems": tuple(Problem(**each) for each in told["problems"]), "notes": ()},
        ),
    )


def value_from(kind: type[_T], shape: object) -> _T:
    """A value of plain dataclasses, tuples and enumerations out of what ``asdict`` made of it as JSON."""
    value: _T = _value(kind, shape)
    return value


def _stamp(shape: Json) -> Stamp:
    behind = shape.get("behind")
    return Stamp(**{**shape, "behind": Behind(**behind) if behind else None})


_REPORTED = (
    *("workspace", "files", "changed", "unchanged", "removed", "lines", "symbols", "references", "chunks", "embedded"),
    *("waiting_for_vectors", "whole"),
)


def _found(shape: Json) -> Found:
    return Found(tuple(map(_citation, shape["citations"])), _confidence(shape["confidence"]))


def _moved(shape: Json) -> Moved:
    return Moved(_attempt(shape["attempt"]), Tier(shape["to"]), shape["gain"], shape["cost_s"])


_EVENTS: Mapping[str, Callable[[Json], Event]] = {
    "piece": lambda shape: Piece(**shape),
    "prefill": lambda shape: Prefill(**shape),
    "found": _found,
    "reading": lambda shape: Reading(**shape),
    "moved": _moved,
    "part": lambda shape: Part(**shape),
}


def _confidence(shape: Json) -> Confidence:
    return Confidence(
        value=shape["value"],
        tier=Tier(shape["tier"]),
        reasons=tuple(shape["reasons"]),
        features=tuple(shape["features"].items()),
        calibrated=shape["calibrated"],
        gains=tuple((Tier(tier), gain) for tier, gain in shape["gains"].items()),
        guarantee=shape["guarantee"] or "",
    )


def _span(shape: Json) -> Span:
    return Span(shape["path"], shape["first_line"], shape["last_line"])


def _citation(shape: Json) -> Citation:
    return Citation(shape["label"], _span(shape), shape["symbol"] or "")


def _hit(shape: Json) -> Hit:
    raw = shape["raw"]
    return Hit(
        chunk=Chunk(ChunkId(""), _span(shape), shape["title"], shape["text"]),
        score=shape["score"],
        signals=tuple(Signal(SignalSource(arm), rank, raw[arm]) for arm, rank in shape["signals"].items()),
        contributions=tuple(shape["contributions"].items()),
        symbol_name=shape["symbol"] or "",
        symbol_kind=shape["kind"] or "",
    )


def _understood(shape: Json) -> Understood:
    return Understood(
        kind=QuestionKind(shape["kind"]),
        words=tuple(shape["words"].items()),
        dropped=shape["dropped"],
        names=tuple(shape["names"]),
        spelt=tuple(shape["spelt"]),
        unknown=tuple(shape["unknown"]),
        paste=PasteKind(shape["paste"]) if shape["paste"] else None,
        found=tuple(shape["found"].items()),
        weights=tuple(shape["weights"].items()),
        origin=shape["origin"],
    )


def _attempt(shape: Json) -> Attempt:
    return Attempt(
        tier=Tier(shape["tier"]),
        confidence=shape["confidence"],
        checked=shape["checked"],
        backend=shape["backend"],
        model=shape["model"],
        usage=Usage(**shape["usage"]),
        seconds=shape["seconds"],
        left=shape["left"] or "",
    )


def _decision(shape: Json) -> Decision:
    return Decision(
        at=Tier(shape["at"]),
        way=Way(shape["way"]),
        tier=Tier(shape["tier"]),
        reason=shape["reason"],
        value=shape["value"],
        answered=shape["answered"],
        value_s=shape["worth_of_an_answer_s"],
        certified=shape["certified_from"],
        weighed=tuple(
            Weighed(
                tier=Tier(rung["tier"]),
                gain=rung["gain"],
                harm=rung["harm"],
                cost_s=rung["cost_s"],
                worth_s=rung["worth_s"],
                closed=rung["closed"] or "",
            )
            for rung in shape["weighed"]
        ),
        arithmetic=tuple(shape["arithmetic"].items()),
        origin=shape["fitted_on"] or "",
    )


def _refusal(shape: Json) -> Refusal:
    return Refusal(
        reasons=tuple(shape["reasons"]),
        missing=tuple(Missing(Lack(each["lack"]), each["what"], tuple(each["nearest"])) for each in shape["missing"]),
        looked_at=tuple(map(_attempt, shape["looked_at"])),
        remedies=tuple(Remedy(each["text"], each["command"] or "") for each in shape["remedies"]),
    )


def _value(kind: Any, shape: Any) -> Any:
    """By the declared type: dataclasses from objects, tuples from lists, enumerations and paths from text."""
    if kind is Any:
        return shape
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        wanted = [each for each in inner if each is not NoneType]
        return None if shape is None else _value(wanted[0], shape) if len(wanted) == 1 else shape
    if origin is tuple:
        kinds = inner[:1] * len(shape) if inner[1:] == (Ellipsis,) else inner
        return tuple(_value(each, part) for each, part in zip(kinds, shape, strict=True))
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        return kind(**{each.name: _value(hints[each.name], shape[each.name]) for each in fields(kind)})
    if isinstance(kind, type) and issubclass(kind, Enum | Path):
        return kind(shape)
    return shape


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
