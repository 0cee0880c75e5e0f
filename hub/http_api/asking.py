"""Questions with answers, told as they are made. A client that goes away ends its answer within a moment."""

import asyncio
from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from hub import shapes
from hub.auth.model import Principal
from hub.errors import HubError
from hub.http_api import errors
from hub.http_api.access import Caller
from hub.http_api.errors import answers
from hub.http_api.events import MEDIA_TYPE, Channel, EventStream, encoded, gone
from hub.http_api.shaping import MOST_TEXT, JsonResponse, Text, schema_of
from hub.http_api.state import Shared, State
from hub.model import Answer, Event, Policy, Tier
from indexer.errors import IndexerError

router = APIRouter(prefix="/api/v1", tags=["asking"])
_T = TypeVar("_T")


class Question(BaseModel):
    """What is asked, and how much may be read for it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"question": "What does Counter::Increment do?", "tier": "auto"}]},
    )

    question: Annotated[Text, Field(min_length=1, max_length=MOST_TEXT)]
    workspace: Annotated[Text | None, Field(max_length=64)] = None
    tier: str = Field("auto", pattern="^(auto|exact|rag|wide|focus|full|analysis)$")
    policy: str | None = Field(None, pattern="^(fast|balanced|exhaustive)$")
    stream: bool = Field(default=False, description="Server-sent events, also where they are accepted by a header.")


_EXAMPLE = {
    "question": "What does Counter::Increment do?",
    "answer": "It adds to the value [1].",
    "declined": False,
    "citations": [
        {"label": 1, "path": "src/counter.cc", "first_line": 6, "last_line": 8, "symbol": "app::Counter::Increment"}
    ],
    "confidence": {
        "value": 0.9,
        "calibrated": True,
        "tier": "rag",
        "reasons": ["The name asked for is in the prompt."],
    },
    "tier": "rag",
    "tried": ["exact", "rag"],
    "backend": "ollama",
    "model": "qwen3-coder:30b",
    "usage": {"prompt": 2100, "completion": 40, "cached": 1900},
    "seconds": 1.4,
    "workspace": "counter",
    "stamp": {"commit": None, "dirty": False, "indexed_at": "2026-11-01T10:00:00+00:00", "behind": None},
    "notes": [],
    "attempts": [],
    "explanation": [],
    "refusal": None,
}
_STREAMED = (
    'event: found\ndata: {"citations":[],"confidence":{}}\n\n'
    'event: piece\ndata: {"text":"It adds to the value [1]."}\n\n'
    'event: answer\ndata: {"answer":"It adds to the value [1]."}\n\n'
)


@router.post(
    "/ask",
    summary="Answer a question with citations, or decline it with reasons",
    responses={
        **answers(400, 403, 404, 413, 502),
        200: {
            "description": "The answer, or its making as server-sent events: found, reading, prefill, part, "
            "moved, piece; then answer with the whole of it, or error. Pieces after the last moved, joined, are the "
            "answer's text.",
            "content": {
                "application/json": {"schema": schema_of(_EXAMPLE), "example": _EXAMPLE},
                MEDIA_TYPE: {"schema": {"type": "string"}, "example": _STREAMED},
            },
        },
    },
)
async def ask(body: Question, request: Request, principal: Caller, state: Shared) -> Response:
    chosen = await state.look(state.workspaces.chosen, principal, body.workspace)
    tier = None if body.tier == "auto" else Tier(body.tier)
    policy = Policy(body.policy) if body.policy else None

    def answered(channel: Channel, tell: Callable[[Event], None]) -> Answer:
        with state.workspaces.opened(principal, chosen.name) as service:
            answer = service.ask(body.question, tier, tell, policy, channel.is_closed)
        state.metrics.answered(answer)
        return answer

    if body.stream or MEDIA_TYPE in request.headers.get("accept", ""):
        channel = Channel()
        state.streams.start(channel, lambda channel: _tell(channel, principal, answered))
        return EventStream(channel)
    answer = await waited(request, state, lambda channel: answered(channel, lambda _event: channel.check()))
    return JsonResponse(shapes.answer_shape(answer))


def _tell(
    channel: Channel, principal: Principal, answered: Callable[[Channel, Callable[[Event], None]], Answer]
) -> None:
    """Puts each event as it happens, then the answer or the error that ended it."""

    def tell(event: Event) -> None:
        channel.put(encoded(*shapes.event_shape(event)))

    try:
        channel.put(encoded("answer", shapes.answer_shape(answered(channel, tell))))
    except (HubError, IndexerError) as error:
        if not channel.is_closed():
            channel.put(encoded("error", errors.told(error, principal)))


async def waited(request: Request, state: State, work: Callable[[Channel], _T]) -> _T:
    """The result of long work without its events; cancelled when the client goes away."""
    channel = Channel(expected=(HubError, IndexerError))
    future = state.streams.start(channel, work)
    leaving = asyncio.create_task(gone(request.receive))
    try:
        await asyncio.wait((future, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            channel.close()
        return await future
    finally:
        leaving.cancel()
