"""What is asked of a backend at one context, in the process that holds it: a long prompt, and a second question.

Speeds come from the engine's own clock where it tells them, else from ours. Nothing is judged here.
"""

import time
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from hub.errors import BackendError
from hub.measuring.engine import Tell
from hub.measuring.text import Filler
from hub.model import (
    Backend,
    BackendInfo,
    Capabilities,
    Completion,
    GenerationOptions,
    Prefill,
    PrefixState,
    Prompt,
    TokenLogprob,
)

SYSTEM = "You read C++ code and answer briefly."
# Tokens that a chat template takes, or that a backend keeps free where it can only bound them. 96 to 256.
RESERVE_TOKENS = 160
# The first makes a model write until it is stopped, so that there is something to measure.
COLD_QUESTION = "Copy the first function of the code above, line by line, and explain every line of it."
WARM_QUESTION = "List the names of all functions in the code above, one a line, each with a short description."
# Seconds beyond the time limit of the parent, which ends this process first.
_PATIENCE_S = 3600.0


class KeepsPrefixes(Protocol):
    """What a backend has beyond the protocol whose capabilities say ``prefix_files``."""

    def save_prefix(self, name: str) -> PrefixState: ...

    def restore_prefix(self, name: str) -> PrefixState: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A backend that has loaded its model."""

    info: BackendInfo
    capabilities: Capabilities
    load_s: float
    identity: str  # what the engine calls its model, build and settings; "" where it does not tell


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. ``cached`` is None where the engine does not tell; ``prompt_s`` is of the tokens not cached."""

    sent: int  # tokens as counted before
    prompt: int  # tokens as the engine counted them
    cached: int | None
    first_s: float
    prompt_s: float
    decoded: int
    decode_s: float
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """A context to fill but for ``answer_tokens`` and what is always there. ``salt`` begins the prompt."""

    pieces: tuple[str, ...]
    context: int
    answer_tokens: int
    salt: str = ""


_fillers: dict[int, Filler] = {}  # by identity of the backend: one a process, so that pieces are counted once


def open_backend(backend: Backend, _tell: Tell) -> Opened:
    """Loads the model by its first count of tokens."""
    began = time.perf_counter()
    backend.count_tokens("int main() { return 0; }\n")
    took = time.perf_counter() - began
    identity = getattr(backend, "identity", None)  # beyond the protocol: only some engines have one
    return Opened(backend.info(), backend.capabilities(), took, str(identity()) if callable(identity) else "")


def measure(backend: Backend, tell: Tell, step: Step) -> tuple[Asked, Asked]:
    """The long prompt, then a second question about the same text. Raises BackendError."""
    filler = _fillers.get(id(backend))
    if filler is None:
        filler = _fillers[id(backend)] = Filler(step.pieces, backend.count_tokens)
    around = backend.count_tokens(SYSTEM) + backend.count_tokens(f"{step.salt}\n\n{WARM_QUESTION}")
    text = step.salt + filler.fill(max(0, step.context - step.answer_tokens - RESERVE_TOKENS - around))
    cold = ask(backend, tell, text, COLD_QUESTION, GenerationOptions(max_tokens=step.answer_tokens))
    warm = ask(backend, tell, text, WARM_QUESTION, GenerationOptions(max_tokens=step.answer_tokens))
    return cold, warm


def ask(backend: Backend, tell: Tell, text: str, question: str, options: GenerationOptions) -> Asked:
    """One request, with the question last. Raises BackendError."""
    user = f"{text}\n\n{question}"
    sent = backend.count_tokens(SYSTEM) + backend.count_tokens(user)
    prompt = Prompt(SYSTEM, user, (), (), sent)
    wanted = GenerationOptions(
        max_tokens=options.max_tokens,
        timeout_s=_PATIENCE_S * 24,
        json_schema=options.json_schema,
        logprobs=options.logprobs,
        progress=backend.capabilities().progress,
    )
    end: Completion | None = None
    began = time.perf_counter()
    first = 0.0
    with closing(backend.stream(prompt, wanted)) as stream:  # type: ignore[type-var]
        for event in stream:
            if isinstance(event, Prefill):
                tell(event.read, event.total)
            elif isinstance(event, Completion):
                end = event
            elif not first:
                first = time.perf_counter()
    finished = time.perf_counter()
    if end is None:
        raise BackendError("The engine ended its answer without an end.")
    first = first or finished
    timings = end.timings
    return Asked(
        sent,
        end.usage.prompt,
        end.usage.cached,
        first - began,
        timings.prompt_s or first - began,
        end.usage.completion,
        # The first token comes out of reading the prompt, so our own clock sees the others only.
        timings.completion_s or max(finished - first, 0.0) * end.usage.completion / max(end.usage.completion - 1, 1),
        end.text,
        end.logprobs,
    )


def save(backend: Backend, _tell: Tell, name: str) -> PrefixState:
    """Keeps what was read on disk. Raises HubError."""
    keeper: KeepsPrefixes = backend  # type: ignore[assignment]  # asked for where the capabilities say so
    return keeper.save_prefix(name)


def restore(backend: Backend, _tell: Tell, name: str) -> PrefixState:
    """Takes back what another load had read. Raises HubError."""
    keeper: KeepsPrefixes = backend  # type: ignore[assignment]  # as above
    return keeper.restore_prefix(name)
