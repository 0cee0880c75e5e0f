"""The language models behind ``hub.model.Backend``, one module for each way to reach one.

``ollama``, ``llama_server`` and ``openai_compatible`` speak HTTP, ``embedded`` runs llama.cpp inside this process and
speaks to it through ``llama_server``, ``evidence_only`` has no model at all. What they share are two rules, held here:
a prompt that cannot fit is refused before anything is sent, and never shortened; and what a backend cannot do is
refused, and never left out in silence.

Knows nothing of retrieval, of how a prompt is written, or of what becomes of an answer.
"""

import json
from typing import Any

from hub.errors import PromptShortened, PromptTooLong, UnsupportedRequest
from hub.model import Capabilities, GenerationOptions

# Alternatives to each token that any of the engines tells: the bound of OpenAI's interface, which all of them keep.
MOST_ALTERNATIVES = 20


def refuse_overlong(prompt_tokens: int, answer_tokens: int, window: int) -> None:
    """Raises PromptTooLong unless the prompt and the longest answer asked for fit the window (all in tokens)."""
    if prompt_tokens + answer_tokens > window:
        raise PromptTooLong(
            f"The prompt of {prompt_tokens} tokens and an answer of up to {answer_tokens} "
            f"do not fit the context window of {window} tokens.",
            "Ask for a smaller prompt or a shorter answer, or give the model a larger context window.",
        )


def refuse_shortened(read: int, least: int, way_out: str) -> None:
    """Raises PromptShortened if the answer was made from fewer tokens than the prompt has at least."""
    if read < least:
        raise PromptShortened(
            f"The answer was made from a shortened prompt: {read} tokens were read of at least {least} sent.", way_out
        )


def refuse_unsupported(options: GenerationOptions, can: Capabilities, name: str) -> None:
    """Raises UnsupportedRequest if the options ask the backend ``name`` for what it cannot do, or for nonsense."""
    wanted = (
        ("the probabilities of its tokens", options.logprobs is not None, can.logprobs),
        ("an answer by a JSON schema", bool(options.json_schema), can.json_schema),
        ("its progress while it reads", options.progress, can.progress),
        ("how long to keep the model", options.keep_alive_s is not None, can.keep_alive),
    )
    for what, asked, offered in wanted:
        if asked and not offered:
            raise UnsupportedRequest(
                f"The backend {name} cannot be asked for {what}.", "Leave it out, or use another backend."
            )
    if options.logprobs is not None and not 0 <= options.logprobs <= MOST_ALTERNATIVES:
        raise UnsupportedRequest(
            f"{options.logprobs} alternatives to each token cannot be told.", f"Ask for 0 to {MOST_ALTERNATIVES}."
        )
    if options.json_schema:
        schema_of(options)


def schema_of(options: GenerationOptions) -> dict[str, Any]:
    """The JSON schema of the options as an object. Raises UnsupportedRequest if it is none."""
    try:
        schema = json.loads(options.json_schema)
    except ValueError as error:
        raise UnsupportedRequest(f"The JSON schema is no JSON: {error}.", "Correct it.") from error
    if not isinstance(schema, dict):
        raise UnsupportedRequest("The JSON schema is no JSON object.", 'Write it like {"type": "object"}.')
    return schema
