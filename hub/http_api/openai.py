"""The interface of OpenAI's chat completions, so that its clients ask a workspace as they would ask a model.

Each workspace that a key may read is a model, ``name`` or ``name:tier``. No client can take text back, so none is sent
that may become void: with a tier named it goes out as it is checked, without one when it is sure that it stands, and
until then the steps are told as reasoning. What is not done (tools, several choices, other formats) is refused rather
than ignored.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response

from hub import shapes
from hub.auth.model import Principal, Scope
from hub.errors import BackendBusy, Forbidden, HubError, WorkspaceError
from hub.http_api import errors
from hub.http_api.access import Caller
from hub.http_api.asking import waited
from hub.http_api.events import MEDIA_TYPE, Channel, EventStream
from hub.http_api.shaping import MOST_TEXT, JsonResponse, encoded
from hub.http_api.state import Shared, State
from hub.model import Answer, Citation, Event, Moved, Part, Piece, Tier
from hub.prompting import heading, visible
from hub.retrieval import understand
from hub.shapes import Json
from indexer.errors import IndexerError

router = APIRouter(prefix="/v1", tags=["openai"])

MOST_MESSAGES = 1_000
OWNER = "codehub"
_TIERS = {tier.value: tier for tier in Tier if tier is not Tier.NONE}
_DONE = b"data: [DONE]\n\n"
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_POINTING = frozenset({"it", "its", "that", "this", "they", "them", "their", "there", "those", "these", "he", "she"})
_STATUS_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
}


class _Refused(Exception):
    """A request that is answered with an error object: status, sentence, parameter and code."""

    def __init__(self, message: str, param: str | None = None, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.message, self.param, self.status, self.code = message, param, status, code


class _Asked(NamedTuple):
    """A request as meant."""

    model: str
    workspace: str
    tier: Tier | None
    question: str
    streams: bool
    counts: bool  # usage at the end of a stream


_MODEL = {"id": "leveldb", "object": "model", "created": 1_764_000_000, "owned_by": OWNER}
_COMPLETION: Json = {
    "id": "chatcmpl-5f2c",
    "object": "chat.completion",
    "created": 1_764_000_000,
    "model": "counter",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "It adds to the value [1].", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 2100, "completion_tokens": 40, "total_tokens": 2140},
    "citations": [{"label": 1, "path": "src/counter.cc", "first_line": 6, "last_line": 8, "url": "http://127.0.0.1/"}],
    "codehub": {"tier": "rag", "confidence": {"value": 0.9}, "declined": False, "question": "What does it do?"},
}
_ERROR: Json = {
    "error": {
        "message": "The model 'x' does not exist.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
}


def _described(example: Json, *statuses: int, streams: bool = False) -> dict[int | str, dict[str, Any]]:
    told: dict[str, Any] = {"application/json": {"example": example, "schema": {"type": "object"}}}
    if streams:
        told[MEDIA_TYPE] = {"schema": {"type": "string"}}
    failed = {"application/json": {"example": _ERROR, "schema": {"type": "object"}}}
    described: dict[int | str, dict[str, Any]] = {
        status: {"description": "An error object.", "content": failed}
        for status in sorted({401, 403, 429, 503, *statuses})
    }
    return {200: {"description": "As OpenAI answers.", "content": told}, **described}


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["model", "messages"],
                    "properties": {
                        "model": {"type": "string"},
                        "messages": {"type": "array", "items": {"type": "object"}, "minItems": 1},
                        "stream": {"type": "boolean", "nullable": True},
                    },
                },
                "example": {
                    "model": "counter",
                    "messages": [{"role": "user", "content": "What does Counter::Increment do?"}],
                },
            }
        },
    }
}


@router.get("/models", summary="The workspaces as models", responses=_described({"object": "list", "data": [_MODEL]}))
async def models(principal: Caller, state: Shared) -> Response:
    seen = await state.look(state.workspaces.visible, principal)
    data = [
        _model(workspace.name, workspace.used_ns) for workspace in seen if principal.may(Scope.READ, workspace.name)
    ]
    return JsonResponse({"object": "list", "data": data})


@router.get("/models/{model:path}", summary="One workspace as a model", responses=_described(_MODEL, 404))
async def model(model: str, principal: Caller, state: Shared) -> Response:
    try:
        name, _ = _named(model)
        workspace = await state.look(_chosen, state, principal, name, model)
    except (_Refused, HubError, IndexerError) as error:
        return _failed(error, principal)
    return JsonResponse(_model(model, workspace.used_ns))


@router.post(
    "/chat/completions",
    summary="Answer the last message of a chat with citations",
    responses=_described(_COMPLETION, 400, 404, 413, 502, 503, streams=True),
    openapi_extra=_BODY,
)
async def complete(request: Request, principal: Caller, state: Shared) -> Response:
    """The last message of the user is the question; earlier ones say what it points at, where it names nothing itself.

    Unknown parameters are ignored, and so are those that steer sampling. Messages of the system and of the assistant
    are not read: what an answer says comes from the tree.
    """
    try:
        asked = _asked(await _object(request))
        await state.look(_chosen, state, principal, asked.workspace, asked.model)
        told = _Told(asked, str(request.base_url))

        def answered(channel: Channel, tell: Callable[[Event], None]) -> Answer:
            with state.workspaces.opened(principal, asked.workspace) as service:
                answer = service.ask(asked.question, asked.tier, tell, None, channel.is_closed)
            state.metrics.answered(answer)
            return answer

        if asked.streams:
            channel = Channel()
            state.streams.start(channel, lambda channel: _stream(channel, told, principal, answered))
            return EventStream(channel)
        answer = await waited(request, state, lambda channel: answered(channel, lambda _event: channel.check()))
    except (_Refused, HubError, IndexerError) as error:
        return _failed(error, principal)
    return JsonResponse(told.completion(answer))


class _Told:
    """The objects of one completion."""

    def __init__(self, asked: _Asked, base: str) -> None:
        self.asked = asked
        self._base = base
        self._head: Json = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": asked.model,
        }

    def completion(self, answer: Answer) -> Json:
        message = {
            "role": "assistant",
            "content": visible(answer.text) + self.sources(answer.citations),
            "refusal": None,
        }
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": _usage(answer),
            **self._beside(answer),
        }

    def chunk(self, delta: Json, finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._event({"choices": [choice], **more})

    def last(self, answer: Answer) -> bytes:
        """The end of a stream: why it ended, what the text rests on, and what it cost where that was asked for."""
        end = self.chunk({}, "stop", **self._beside(answer))
        if self.asked.counts:
            end += _line({**self._head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(answer)})
        return end + _DONE

    def sources(self, citations: Sequence[Citation]) -> str:
        """What the numbers of a text stand for, each a link to its lines."""
        if not citations:
            return ""
        lines = [f"- [{citation.label}] [{_spelt(heading(citation))}]({self._url(citation)})" for citation in citations]
        return "\n\nSources:\n" + "\n".join(lines)

    def _event(self, content: Json) -> bytes:
        usage = {"usage": None} if self.asked.counts else {}
        return _line({**self._head, "object": "chat.completion.chunk", **content, **usage})

    def _beside(self, answer: Answer) -> Json:
        cited = [{**shapes.citation_shape(citation), "url": self._url(citation)} for citation in answer.citations]
        return {
            "citations": cited,
            "codehub": {
                "workspace": answer.workspace,
                "question": answer.question,
                "tier": answer.tier.value,
                "declined": answer.declined,
                "confidence": shapes.confidence_shape(answer.confidence),
                "notes": list(answer.notes),
                "stamp": shapes.stamp_shape(answer.stamp),
            },
        }

    def _url(self, citation: Citation) -> str:
        span = citation.span
        place = urlencode({"path": span.path, "line": span.first_line, "last": span.last_line}, errors="replace")
        return f"{self._base}w/{quote(self.asked.workspace)}/file?{place}#L{span.first_line}"


def _stream(
    channel: Channel,
    told: _Told,
    principal: Principal,
    answered: Callable[[Channel, Callable[[Event], None]], Answer],
) -> None:
    """Sends the text of a named tier as it comes. Without one a further tier may void it: it waits till it stands."""
    holds = told.asked.tier is None
    channel.put(told.chunk({"role": "assistant", "content": ""}))

    def tell(event: Event) -> None:
        match event:
            case Piece(text) if text and not holds:
                channel.put(told.chunk({"content": visible(text)}))
            case Moved(attempt, to):
                step = f"Tier {attempt.tier.value}: {attempt.left} On to {to.value}.\n"
                channel.put(told.chunk({"reasoning_content": visible(step)}))
            case Part(number, total) if number:
                channel.put(told.chunk({"reasoning_content": f"Part {number} of {total}.\n"}))
            case _:
                channel.check()

    try:
        answer = answered(channel, tell)
    except (HubError, IndexerError) as error:
        if not channel.is_closed():
            channel.put(_line(_error_object(error, principal)[1]))
        return
    rest = (visible(answer.text) if holds else "") + told.sources(answer.citations)
    if rest:
        channel.put(told.chunk({"content": rest}))
    channel.put(told.last(answer))


async def _object(request: Request) -> Mapping[str, Any]:
    try:
        body = await request.json()
    except (ValueError, RecursionError):
        raise _Refused("The body is no JSON.") from None
    if not isinstance(body, dict):
        raise _Refused("The body is no JSON object.")
    return body


def _asked(body: Mapping[str, Any]) -> _Asked:
    """Raises _Refused for what is missing, of another kind, or not done here."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise _Refused("`model` is missing: it names a workspace.", "model")
    name, tier = _named(model)
    _check_not_asked_for(body)
    options = body.get("stream_options")
    counts = isinstance(options, dict) and options.get("include_usage") is True
    streams = body.get("stream")
    if streams is not None and not isinstance(streams, bool):
        raise _Refused("`stream` must be true or false.", "stream")
    return _Asked(model, name, tier, question_of(_said_by_user(body)), bool(streams), counts)


def _check_not_asked_for(body: Mapping[str, Any]) -> None:
    if body.get("n") not in (None, 1):
        raise _Refused("There is one answer: `n` must be 1.", "n")
    for param in ("tools", "functions"):
        if body.get(param) and body.get("tool_choice") != "none":
            raise _Refused("Tools are not called here: leave them out, or set `tool_choice` to none.", param)
    form = body.get("response_format")
    if isinstance(form, dict) and form.get("type", "text") != "text":
        raise _Refused("Answers are text: `response_format` must be of type text.", "response_format")
    if "audio" in (body.get("modalities") or ()):
        raise _Refused("Answers are text alone.", "modalities")


def _said_by_user(body: Mapping[str, Any]) -> list[str]:
    """The texts of the user's messages, in order. The last message must be the user's."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _Refused("`messages` must be a list that holds at least one message.", "messages")
    if len(messages) > MOST_MESSAGES:
        raise _Refused(f"`messages` has {len(messages)} entries; {MOST_MESSAGES} are the most.", "messages")
    said = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise _Refused(f"`{where}` must be an object with a known role.", where)
        if message["role"] == "user":
            said.append(_text_of(message.get("content"), f"{where}.content"))
    if not said or not said[-1].strip():
        raise _Refused("There is no message of the user to answer.", "messages")
    if len(said[-1]) > MOST_TEXT:
        raise _Refused(
            f"The question has more than {MOST_TEXT} characters.", "messages", 413, "string_above_max_length"
        )
    return said


def _text_of(content: object, where: str) -> str:
    if isinstance(content, str):
        return _mended(content)
    if not isinstance(content, list):
        raise _Refused(f"`{where}` must be text, or a list of parts.", where)
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) and part.get("type") in {"text", "input_text"} else None
        if not isinstance(text, str):
            raise _Refused(f"`{where}` may hold parts of type text alone.", where)
        texts.append(_mended(text))
    return "\n".join(texts)


def _mended(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", " ")


def question_of(said: Sequence[str]) -> str:
    """The last text as a question of its own.

    One that names code, or comes first, stands alone. In one that points back, "it" becomes the one name that the last
    text naming any had; where that is none or several, the earlier text is put behind it, as what it follows.
    """
    last = said[-1].strip()
    if len(said) == 1 or understand(last).identifiers:
        return last
    words = {word.strip(".,;:?!\"'()").lower() for word in last.split()}
    if not words & _POINTING and len(words) > 4:
        return last
    earlier = next((text.strip() for text in reversed(said[:-1]) if understand(text).identifiers), said[-2].strip())
    names = understand(earlier).identifiers
    if len(names) == 1 and words & {"it", "its"}:
        return " ".join(_named_again(word, names[0]) for word in last.split(" "))
    return f"{last}\n\nThis follows the question: {earlier[: MOST_TEXT // 10]}"


def _named_again(word: str, name: str) -> str:
    bare = word.strip(".,;:?!\"'()")
    if bare.lower() not in {"it", "its"}:
        return word
    return word.replace(bare, f"{name}'s" if bare.lower() == "its" else name)


def _named(model: str) -> tuple[str, Tier | None]:
    """The workspace and tier of a model's id. Raises _Refused as for one that does not exist."""
    name, colon, tier = model.partition(":")
    if colon and tier not in _TIERS:
        raise _missing(model)
    return name, _TIERS[tier] if colon else None


def _missing(model: str) -> _Refused:
    return _Refused(f"The model {model[:200]!r} does not exist.", "model", 404, "model_not_found")


def _chosen(state: State, principal: Principal, name: str, model: str) -> Any:
    """The workspace. Raises _Refused with one text for one that is not there and one that may not be seen."""
    try:
        return state.workspaces.chosen(principal, name)
    except WorkspaceError:
        raise _missing(model) from None


def _model(name: str, used_ns: int) -> Json:
    return {"id": name, "object": "model", "created": used_ns // 1_000_000_000, "owned_by": OWNER}


def _usage(answer: Answer) -> Json:
    usage = answer.usage
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached or 0},
    }


def _spelt(text: str) -> str:
    """Text of a link, with nothing in it that Markdown would read."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>()#|~" else letter for letter in text)


def _line(content: Json) -> bytes:
    return b"data: " + encoded(content) + b"\n\n"


def _error_object(error: _Refused | HubError | IndexerError, principal: Principal) -> tuple[int, Json]:
    if isinstance(error, _Refused):
        status, message, param, code = error.status, error.message, error.param, error.code
    else:
        status = errors.status_of(error)
        sentences = errors.told(error, principal)
        message, param = f"{sentences['error']} {sentences['hint']}".strip(), None
        code = "insufficient_permissions" if isinstance(error, Forbidden) else None
    kind = _STATUS_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return status, {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _failed(error: _Refused | HubError | IndexerError, principal: Principal) -> Response:
    status, content = _error_object(error, principal)
    busy = isinstance(error, BackendBusy) or status in {429, 503}
    return JsonResponse(content, status, {"retry-after": "5"} if busy else {})
