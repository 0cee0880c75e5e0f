"""A chat in OpenAI's interface, as llama.cpp, vLLM and LM Studio speak it: what is sent, and what the stream tells.

Knows no address and no window: which server is asked, with which model, and whether a prompt fits is its callers'.
An answer is whole or an error: without an end, without its counts, about a shortened prompt, or as a call of a tool it
is never handed over as if it were one.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from hub.backends import schema_of
from hub.backends.counting import unicode
from hub.backends.endpoint import Endpoint
from hub.backends.logprobs import Heard, aligned, heard
from hub.errors import BrokenStream, UnsupportedRequest
from hub.model import Completion, GenerationOptions, Prefill, Prompt, Streamed, Timings, Usage

PATH = "/v1/chat/completions"
# Characters. The longest tokens of today's vocabularies are runs of 512 spaces or hyphens; thoughts come on top.
MOST_CHARACTERS_A_TOKEN = 512
MOST_CHARACTERS_OF_THOUGHT = 1 << 20
# Ends that are no answer, with what they mean.
_NO_ANSWER = {
    "tool_calls": "called a tool instead of answering",
    "function_call": "called a tool instead of answering",
    "content_filter": "withheld its answer",
    "abort": "gave its answer up",
    "error": "failed in the middle of its answer",
}

CheckUsage = Callable[[Usage], None]


def messages(prompt: Prompt) -> list[dict[str, str]]:
    """The prompt as the messages of a chat; an empty system part is left out."""
    parts = (("system", prompt.system), ("user", prompt.user))
    return [{"role": role, "content": unicode(text)} for role, text in parts if text or role == "user"]


def request(said: list[dict[str, str]], options: GenerationOptions) -> dict[str, Any]:
    """The body of a chat that every server of this interface understands. Raises UnsupportedRequest."""
    body: dict[str, Any] = {
        "messages": said,
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        "seed": options.seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if options.logprobs is not None:
        # llama.cpp takes 0 alternatives for "no probabilities at all", so one is asked for and left out again.
        body |= {"logprobs": True, "top_logprobs": max(1, options.logprobs)}
    if options.json_schema:
        schema = {"name": "answer", "strict": True, "schema": schema_of(options)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def answer(
    server: Endpoint, body: Mapping[str, Any], options: GenerationOptions, check: CheckUsage
) -> Generator[Streamed]:
    """As Backend.stream, for a body that ``request`` began. ``check`` raises BrokenStream if too little was read.

    Ends after ``options.timeout_s`` in which nothing new was told, whatever signs of life the server sends. Closing the
    iterator closes the connection.
    """
    told = _Told(options)
    last = server.clock()
    with closing(server.events(PATH, body, timeout_s=options.timeout_s)) as events:
        for event in events:
            before = told.amount
            yield from told.take(event, server.url)
            if told.amount > before:
                last = server.clock()
            elif server.clock() - last > options.timeout_s:
                raise server.silence()
    yield told.end(server.url, check)


@dataclass(slots=True)
class _Told:
    """What a stream has told so far."""

    options: GenerationOptions
    pieces: list[str] = field(default_factory=list)
    tokens: list[Heard] = field(default_factory=list)
    finish: str = ""
    usage: Usage | None = None
    timings: Timings = field(default_factory=Timings)
    read: int = -1  # tokens of the prompt, by the last Prefill
    characters: int = 0
    amount: int = 0  # grows with everything that is new

    def take(self, event: Mapping[str, Any], url: str) -> Iterator[Streamed]:
        progress = _prefill(event)
        if progress is not None and progress.read > self.read:
            self.read = progress.read
            self.amount += 1
            if self.options.progress:
                yield progress
        piece, thought, finish, tokens = _choice(event)
        if self.options.logprobs is not None:
            self.tokens += heard(tokens, self.options.logprobs)
        usage = _usage(event)
        self.amount += bool(finish and not self.finish) + bool(usage and not self.usage) + len(piece) + len(thought)
        self.finish = self.finish or finish
        self.usage = usage or self.usage
        self.timings = _timings(event) or self.timings
        self.characters += len(piece) + len(thought)
        if self.characters > self.options.max_tokens * MOST_CHARACTERS_A_TOKEN + MOST_CHARACTERS_OF_THOUGHT:
            raise BrokenStream(
                f"The server at {url} writes without end: {self.characters} characters for an answer of at most "
                f"{self.options.max_tokens} tokens.",
                "Look at the server's log; it does not keep the bound that it was given.",
            )
        if piece:
            self.pieces.append(piece)
            yield piece

    def end(self, url: str, check: CheckUsage) -> Completion:
        if not self.finish:
            raise BrokenStream(
                f"The server at {url} stopped in the middle of its answer.",
                "Look at the server's log; a crash or too little memory is the usual cause.",
            )
        if self.finish in _NO_ANSWER:
            raise BrokenStream(
                f"The server at {url} {_NO_ANSWER[self.finish]}.",
                "Ask again; if it stays so, use another model or its plain chat template.",
            )
        if self.usage is None or self.usage.prompt <= 0:
            raise BrokenStream(
                f"The server at {url} does not tell how much of the prompt it has read, so that a shortened prompt "
                "could not be seen.",
                "Update it to a version that sends usage with a stream (stream_options.include_usage).",
            )
        check(self.usage)
        text = "".join(self.pieces)
        tokens = aligned(self.tokens, text)
        if self.options.logprobs is not None and self.options.needs_logprobs and text and not tokens:
            raise UnsupportedRequest(
                f"The server at {url} has not told the probabilities of its answer's tokens.",
                "Leave them out, or use another backend.",
            )
        return Completion(text, self.usage, "length" if self.finish == "length" else "stop", tokens, self.timings)


def _choice(event: Mapping[str, Any]) -> tuple[str, str, str, object]:
    """The new text of an event, its new thoughts, how the answer ended if it did, and the tokens as they came."""
    choices = event.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    delta = choice.get("delta")
    delta = delta if isinstance(delta, dict) else {}
    logprobs = choice.get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    thought = _text(delta.get("reasoning_content")) or _text(delta.get("reasoning"))
    return _text(delta.get("content")), thought, _text(choice.get("finish_reason")), tokens


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _prefill(event: Mapping[str, Any]) -> Prefill | None:
    """llama.cpp's ``prompt_progress``, in which the tokens taken from the cache count as processed."""
    total = whole_number(event, "prompt_progress", "total")
    read = whole_number(event, "prompt_progress", "processed")
    if total is None or read is None:
        return None
    return Prefill(read, total, whole_number(event, "prompt_progress", "cache") or 0)


def _usage(event: Mapping[str, Any]) -> Usage | None:
    read = whole_number(event, "usage", "prompt_tokens")
    written = whole_number(event, "usage", "completion_tokens")
    if read is None or written is None:
        return None
    cached = whole_number(event, "usage", "prompt_tokens_details", "cached_tokens")
    return Usage(read, written, whole_number(event, "timings", "cache_n") if cached is None else cached)


def _timings(event: Mapping[str, Any]) -> Timings | None:
    """llama.cpp's ``timings``, in milliseconds."""
    told = event.get("timings")
    if not isinstance(told, dict):
        return None
    prompt, completion = (told.get(key) for key in ("prompt_ms", "predicted_ms"))
    return Timings(prompt_s=_seconds(prompt), completion_s=_seconds(completion))


def _seconds(milliseconds: object) -> float:
    return max(0.0, float(milliseconds)) / 1000 if isinstance(milliseconds, int | float) else 0.0


def whole_number(value: Any, *path: str) -> int | None:
    """The number at this path of nested objects; None if there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if type(value) is int else None
