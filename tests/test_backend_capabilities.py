"""The table of docs/backends.md, held to what the backends say. UPDATE_CASES=1 writes it anew."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hub.backends.embedded import EmbeddedBackend
from hub.backends.evidence_only import EvidenceOnlyBackend
from hub.backends.llama_server import LlamaServerBackend
from hub.backends.ollama import OllamaBackend
from hub.backends.openai_compatible import OpenAiCompatibleBackend
from hub.model import Backend, Capabilities
from tests.support.fake_ollama import FakeOllama
from tests.support.real_llama import model_path
from tests.support.scripted_server import ScriptedServer, llama_cpp, lm_studio, refusal, vllm, whole

DOCUMENT = Path(__file__).parent.parent / "docs" / "backends.md"
BEGIN = "<!-- capabilities: written by tests/test_backend_capabilities.py with UPDATE_CASES=1 -->\n"
END = "<!-- end of capabilities -->\n"
COLUMNS = {
    "logprobs": "probabilities",
    "json_schema": "JSON schema",
    "cached_tokens": "cached",
    "progress": "progress",
    "keep_alive": "keep-alive",
    "prefix_files": "prefix files",
}


@contextmanager
def scripted(answers: dict[str, Any], make: Callable[[str], Backend]) -> Iterator[Backend]:
    with ScriptedServer(answers) as server:
        yield make(server.url)


@contextmanager
def ollama() -> Iterator[Backend]:
    with FakeOllama() as fake:
        yield OllamaBackend(fake.url, "qwen2.5-coder:7b")


def served_by(owner: str) -> dict[str, Any]:
    return {"/v1/models": whole({"data": [{"id": "m", "owned_by": owner, "max_model_len": 4096}]})}


def capabilities(folder: Path) -> Mapping[str, Capabilities]:
    keeps = {"/slots/0?action=save": refusal(400, "Invalid filename")}
    sglang = {**vllm(), **served_by("sglang")}
    makers = {
        "Ollama": ollama(),
        "llama.cpp server": scripted({**llama_cpp(), **keeps}, LlamaServerBackend),
        "vLLM": scripted(vllm(), OpenAiCompatibleBackend),
        "SGLang": scripted(sglang, lambda url: OpenAiCompatibleBackend(url, "m")),
        "LM Studio": scripted(lm_studio(), OpenAiCompatibleBackend),
        "unknown, of OpenAI's interface": scripted(served_by("somebody"), OpenAiCompatibleBackend),
    }
    told = {}
    for name, maker in makers.items():
        with maker as backend:
            told[name] = backend.capabilities()
            backend.close()
    told["embedded llama.cpp"] = EmbeddedBackend(model_path(), slots_folder=folder).capabilities()
    told["none"] = EvidenceOnlyBackend().capabilities()
    return told


def table(told: Mapping[str, Capabilities]) -> str:
    lines = [f"| engine | tokens | {' | '.join(COLUMNS.values())} |", f"|---|---|{'---|' * len(COLUMNS)}"]
    for name, can in told.items():
        marks = ("yes" if getattr(can, column) else "-" for column in COLUMNS)
        lines.append(f"| {name} | {can.counting} | {' | '.join(marks)} |")
    return "\n".join(lines) + "\n"


def test_the_document_says_what_the_backends_say(tmp_path: Path) -> None:
    expected = table(capabilities(tmp_path))
    content = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = content.partition(BEGIN)
    written, _, after = rest.partition(END)
    if os.environ.get("UPDATE_CASES") == "1":
        DOCUMENT.write_text(f"{before}{BEGIN}{expected}{END}{after}", encoding="utf-8")
        return
    assert written == expected


def test_every_capability_stands_in_the_table() -> None:
    assert set(Capabilities.__dataclass_fields__) == {"counting", *COLUMNS}
