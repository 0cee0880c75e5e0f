"""The contract of every backend, asked of a real Ollama."""

from collections.abc import Iterator

import pytest

from hub.backends.ollama import OllamaBackend
from tests.contract.backends import SMALL_WINDOW, WINDOW, Made, words
from tests.contract.test_backend_contract import *  # noqa: F403 - its tests are run here against another backend
from tests.ollama.conftest import MODEL
from tests.support.real_ollama import RealOllama


def a_backend(url: str, window: int) -> Iterator[Made]:
    backend = OllamaBackend(url, MODEL, num_ctx=window)
    yield Made(backend, None, words)
    backend.close()


@pytest.fixture(scope="module")  # type: ignore[no-redef]
def made(real: RealOllama) -> Iterator[Made]:
    yield from a_backend(real.url, WINDOW)


@pytest.fixture(scope="module")  # type: ignore[no-redef]
def small(real: RealOllama) -> Iterator[Made]:
    yield from a_backend(real.url, SMALL_WINDOW)
