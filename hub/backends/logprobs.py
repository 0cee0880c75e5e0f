"""The probabilities of an answer's tokens, laid over its text.

Engines tell them of all that a model writes: thoughts, marks of the template, and halves of characters, some of which
a stream leaves out. What is kept here joins to the text exactly. Knows no engine and no protocol beyond that.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hub.model import TokenLogprob

# Natural logarithm. What OpenAI's interface says of a token that is too unlikely for a number, and vLLM with it.
UNLIKELY = -9999.0
# Bytes. What a stream may leave out of one character: all but the last of four.
_MOST_LEFT_OUT = 3


class Heard(NamedTuple):
    """A token as an engine told it."""

    raw: bytes
    logprob: float
    alternatives: tuple[tuple[str, float], ...] = ()


def heard(entries: object, alternatives: int) -> list[Heard]:
    """The tokens in a list as OpenAI's interface and Ollama's write it: objects of token, bytes, logprob, top_logprobs.

    At most so many alternatives are kept of each. What has another form is left out.
    """
    if not isinstance(entries, list):
        return []
    return [
        Heard(_raw(entry), _number(entry.get("logprob")), _alternatives(entry.get("top_logprobs"), alternatives))
        for entry in entries
        if isinstance(entry, dict)
    ]


def aligned(tokens: Sequence[Heard], text: str) -> tuple[TokenLogprob, ...]:
    """The tokens that the text was made of; joined they are the text. Empty if the tokens cannot have made it.

    Tokens that hold parts of one character become one without alternatives, with the sum of their logarithms; a part
    that the stream left out goes to the token after it, whose number then says more than it should.
    """
    target = text.encode("utf-8", "replace")
    if not target:
        return ()
    ends = _found(tokens, target) or _followed(tokens, target)
    if not ends:
        return ()
    merged: list[TokenLogprob] = []
    start, logprob, parts = 0, 0.0, 0
    for end, token in ends:
        logprob += token.logprob
        parts += 1
        if end < len(target) and target[end] & 0xC0 == 0x80:
            continue  # in the middle of a character
        piece = target[start:end]
        alternatives = token.alternatives if parts == 1 and token.raw.endswith(piece) else ()
        merged.append(TokenLogprob(piece.decode("utf-8", "replace"), logprob, alternatives))
        start, logprob, parts = end, 0.0, 0
    return tuple(merged)


def _found(tokens: Sequence[Heard], target: bytes) -> list[tuple[int, Heard]]:
    """Where each token ends in the target, if the target stands in what the tokens join to: the last time it does."""
    whole = b"".join(token.raw for token in tokens)
    begin = whole.rfind(target)
    if begin < 0:
        return []
    ends: list[tuple[int, Heard]] = []
    at = -begin
    for token in tokens:
        at += len(token.raw)
        if at > 0 and token.raw:
            ends.append((min(at, len(target)), token))
        if at >= len(target):
            break
    return ends


def _followed(tokens: Sequence[Heard], target: bytes) -> list[tuple[int, Heard]]:
    """The same where parts of characters are missing among the tokens, or tokens of something else stand before."""
    ends: list[tuple[int, Heard]] = []
    at = 0
    for token in tokens:
        place = target.find(token.raw, at, at + _MOST_LEFT_OUT + len(token.raw)) if token.raw else -1
        if place < 0 or (place > at and target[place] & 0xC0 != 0x80):
            continue
        at = place + len(token.raw)
        ends.append((at, token))
    return ends if at == len(target) else []


def _raw(entry: Mapping[str, Any]) -> bytes:
    parts = entry.get("bytes")
    if isinstance(parts, list) and all(isinstance(part, int) and 0 <= part < 256 for part in parts):
        return bytes(parts)
    token = entry.get("token")
    return token.encode("utf-8", "replace") if isinstance(token, str) else b""


def _number(value: object) -> float:
    return min(float(value), 0.0) if isinstance(value, int | float) and value > UNLIKELY else UNLIKELY


def _alternatives(entries: object, most: int) -> tuple[tuple[str, float], ...]:
    if not isinstance(entries, list):
        return ()
    pairs = [(_raw(entry), _number(entry.get("logprob"))) for entry in entries if isinstance(entry, dict)]
    best = sorted(pairs, key=lambda pair: -pair[1])[:most]
    return tuple((raw.decode("utf-8", "replace"), logprob) for raw, logprob in best)
