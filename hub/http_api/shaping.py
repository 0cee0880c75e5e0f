"""JSON as it goes out and parameters as they come in, and how both are described in the OpenAPI document.

The shapes are those of ``hub.shapes``, written without another model of them: an example describes each.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Query, Response
from pydantic import AfterValidator

from hub.shapes import Json

MOST_TEXT = 100_000  # characters of a question or a paste; 10,000 to 1,000,000
MOST_DIFF = 4_000_000
MOST_NAME = 4_096
MOST_HITS = 200
MOST_ROWS = 1_000  # of a page
LARGEST = 1_000_000_000

NULLABLE = {"match", "path", "head", "behind_s", "calibration", "background", "calibrating", "refusal"}  # in our shapes

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encoded(shape: Json) -> bytes:
    """JSON as bytes. Half of a surrogate pair, which file names may hold, is spelt as JSON spells it."""
    return _encode(shape).encode("utf-8", "backslashreplace")


class JsonResponse(Response):
    """An object, or bytes that are one already."""

    media_type = "application/json"

    def __init__(self, content: Json | bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else encoded(content)
        super().__init__(body, status, {"cache-control": "no-store", **(headers or {})})


def _mended(text: str) -> str:
    """Text that every store and engine can take: half a surrogate pair becomes a question mark, NUL a space."""
    return text.encode("utf-8", "replace").decode().replace("\0", " ")


Text = Annotated[str, AfterValidator(_mended)]
Name = Annotated[Text, Query(min_length=1, max_length=MOST_NAME)]
WorkspaceName = Annotated[
    Text | None, Query(max_length=64, description="By default the only one that is seen, else the one last indexed.")
]
Offset = Annotated[int, Query(ge=0, le=LARGEST)]
Rows = Annotated[int, Query(ge=1, le=MOST_ROWS)]
Depth = Annotated[int, Query(ge=1, le=20)]


def shaped(
    example: Json, description: str = "", media_type: str = "application/json"
) -> dict[int | str, dict[str, Any]]:
    """The response 200 of a route, described by an example: an object that has at least these keys."""
    return {
        200: {
            "description": description or "Found, or an empty result.",
            "content": {media_type: {"schema": schema_of(example), "example": example}},
        }
    }


def schema_of(example: Json) -> Json:
    """What objects like the example have in common: the keys, and the kinds of values that cannot be null."""
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    properties: Json = {
        key: ({"type": kinds[type(value)]} | ({"items": {}} if isinstance(value, list) else {}))
        if value is not None and key not in NULLABLE
        else {}
        for key, value in example.items()
    }
    return {"type": "object", "properties": properties, "required": sorted(properties)}
