"""A real Ollama with SmolLM2 in it, where ``make test-ollama`` has built one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.backends.embedded import _packaged_model
from hub.errors import BackendUnavailable
from tests.support.real_ollama import RealOllama

MODEL = "smollm2"
# One thread: two that wait for each other spin, and on busy cores that makes them ten times slower.
MODELFILE = '''FROM {path}
TEMPLATE """{{{{- range .Messages }}}}<|im_start|>{{{{ .Role }}}}
{{{{ .Content }}}}<|im_end|>
{{{{ end }}}}<|im_start|>assistant
"""
PARAMETER stop <|im_start|>
PARAMETER stop <|im_end|>
PARAMETER num_thread 1
'''


@pytest.fixture(scope="session")
def binary() -> Path:
    named = os.environ.get("OLLAMA_TO_TEST")
    if not named:
        pytest.skip("needs a real Ollama: make test-ollama builds and names one")
    return Path(named)


@pytest.fixture(scope="session")
def weights() -> Path:
    try:
        return _packaged_model()
    except BackendUnavailable as absent:
        pytest.skip(absent.message)


@pytest.fixture(scope="session")
def real(binary: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealOllama]:
    """With the model smollm2."""
    with RealOllama(binary, tmp_path_factory.mktemp("ollama")) as running:
        running.create(MODEL, MODELFILE.format(path=weights))
        yield running
