"""The language models behind ``hub.model.Backend``, one module for each way to reach one.

``ollama`` and ``llama_server`` speak HTTP, ``embedded`` runs llama.cpp inside this process and speaks to it through
``llama_server``, ``evidence_only`` has no model at all. What they share is one rule, held here: a prompt that
cannot fit is refused before anything is sent, and never shortened.

Knows nothing of retrieval, of how a prompt is written, or of what becomes of an answer.
"""

from hub.errors import PromptTooLong


def refuse_overlong(prompt_tokens: int, answer_tokens: int, window: int) -> None:
    """Raises PromptTooLong unless the prompt and the longest answer asked for fit the window (all in tokens)."""
    if prompt_tokens + answer_tokens > window:
        raise PromptTooLong(
            f"The prompt of {prompt_tokens} tokens and an answer of up to {answer_tokens} "
            f"do not fit the context window of {window} tokens.",
            "Ask for a smaller prompt or a shorter answer, or give the model a larger context window.",
        )
