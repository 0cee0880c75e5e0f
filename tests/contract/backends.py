"""Every backend that can be made on this machine, by name: what the contract is asked of.

A kind is added by one more line in ``MAKERS``. Tests that need a server which not every machine has import the tests of
``test_backend_contract`` and put fixtures ``made`` and ``small`` of their own in its place, of the same scope.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from hub.backends.embedded import EmbeddedBackend
from hub.backends.evidence_only import EvidenceOnlyBackend
from hub.backends.llama_server import LlamaServerBackend
from hub.backends.ollama import OllamaBackend
from hub.backends.openai_compatible import OpenAiCompatibleBackend
from hub.errors import BackendUnavailable
from hub.model import Backend
from tests.support import fake_ollama, scripted_server
from tests.support.fake_ollama import FakeModel, FakeOllama
from tests.support.real_llama import llama_server, thin_model_path
from tests.support.scripted_server import CHAT, ScriptedServer, llama_cpp, lm_studio, vllm

# Tokens. Large enough for an answer of the default length beside a prompt.
WINDOW = 1024
# Tokens. Small enough to be filled again and again.
SMALL_WINDOW = 256


def words(text: str) -> int:
    """Tokens of a text of short words in SmolLM2's vocabulary: one for each."""
    return len(text.split())


@dataclass
class Made:
    """A backend, how often its engine was asked to write, and how many tokens a text has for the engine at least."""

    backend: Backend
    sent: Callable[[], int] | None  # None where it cannot be told
    true_tokens: Callable[[str], int]


@contextmanager
def _ollama(window: int) -> Iterator[Made]:
    with FakeOllama((FakeModel("qwen2.5-coder:7b"),)) as fake:
        backend = OllamaBackend(fake.url, "qwen2.5-coder:7b", num_ctx=window)
        yield Made(backend, lambda: len(fake.bodies("/api/chat")), fake_ollama.count_tokens)
        backend.close()


@contextmanager
def _scripted(answers: dict[str, Any], make: Callable[[str], Backend]) -> Iterator[Made]:
    with ScriptedServer(answers) as server:
        backend = make(server.url)
        yield Made(backend, lambda: server.paths().count(CHAT), scripted_server.count_tokens)
        backend.close()


@contextmanager
def _real(window: int, make: Callable[[str], Backend]) -> Iterator[Made]:
    with llama_server(window) as url:
        backend = make(url)
        yield Made(backend, None, words)
        backend.close()


@contextmanager
def _embedded(window: int) -> Iterator[Made]:
    try:
        backend = EmbeddedBackend(thin_model_path(), context_window=window)
    except BackendUnavailable:
        thin_model_path()  # skips
        raise
    yield Made(backend, None, words)
    backend.close()


@contextmanager
def _evidence_only(_window: int) -> Iterator[Made]:
    yield Made(EvidenceOnlyBackend(), None, lambda _: 0)


# By the context window in tokens.
MAKERS: Mapping[str, Callable[[int], AbstractContextManager[Made]]] = {
    "ollama": _ollama,
    "embedded": _embedded,
    "llama.cpp": lambda window: _real(window, LlamaServerBackend),
    "openai over llama.cpp": lambda window: _real(window, OpenAiCompatibleBackend),
    "scripted llama.cpp": lambda window: _scripted(llama_cpp(window), LlamaServerBackend),
    "scripted vLLM": lambda window: _scripted(vllm(window), OpenAiCompatibleBackend),
    "scripted LM Studio": lambda window: _scripted(lm_studio(window), OpenAiCompatibleBackend),
    "evidence only": _evidence_only,
}
