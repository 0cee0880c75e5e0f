"""A profile on a real Ollama: what we say codehub applies and what its environment takes arrives at the model."""

import re
from contextlib import closing
from pathlib import Path

from hub import wiring
from hub.backends import running
from hub.backends.ollama import residency
from hub.capacity.profile import Engine, Knob, Place, Profile, Verdict, compare, settle
from hub.config import load
from hub.model import Completion, GenerationOptions, Prompt
from tests.ollama.conftest import MODEL, MODELFILE
from tests.support.real_ollama import RealOllama

VARIABLES = {
    "CODEHUB_BACKEND": "ollama",
    "CODEHUB_OLLAMA_MODEL": MODEL,
    "CODEHUB_PROFILE_CONTEXT": "2048",
    "CODEHUB_PROFILE_K_TYPE": "q8_0",
    "CODEHUB_PROFILE_V_TYPE": "q8_0",
    "CODEHUB_PROFILE_PREFILL_CHUNK": "96",
    "CODEHUB_PROFILE_GPU_LAYERS": "0",
    "CODEHUB_PROFILE_THREADS": "1",
    "CODEHUB_PROFILE_PARALLEL": "2",
    "CODEHUB_PROFILE_KEEP_ALIVE": "forever",
}


def environment(profile: Profile) -> dict[str, str]:
    """What `codehub profile --engine ollama` says to set where Ollama is started."""
    rows = settle(profile, Engine.OLLAMA)
    bindings = [binding for row in rows for binding in row.bindings if binding.place is Place.ENVIRONMENT]
    return {binding.name: str(binding.value) for binding in bindings}


def test_what_a_profile_says_is_what_the_model_is_loaded_with(binary: Path, weights: Path, tmp_path: Path) -> None:
    settings = load({}, VARIABLES, tmp_path)
    wanted = wiring.profile(settings)
    assert environment(wanted).keys() == {"OLLAMA_KV_CACHE_TYPE", "OLLAMA_FLASH_ATTENTION", "OLLAMA_NUM_PARALLEL"}
    with RealOllama(binary, tmp_path, **environment(wanted)) as real:
        real.create(MODEL, MODELFILE.format(path=weights))
        settings = load({}, {**VARIABLES, "CODEHUB_OLLAMA_HOST": real.url}, tmp_path)
        with closing(wiring.backend(settings)) as backend:
            *_, end = backend.stream(Prompt("", "Say yes.", (), (), 5), GenerationOptions(max_tokens=2))
        assert isinstance(end, Completion)
        seen = running.of_ollama(real.url, MODEL)
        (resident,) = residency(real.url)
        log = real.log
    verdicts = {row.knob: row.verdict for row in compare(wanted, seen)}
    assert verdicts[Knob.CONTEXT] is verdicts[Knob.GPU_LAYERS] is Verdict.APPLIED
    assert int(resident.expires[:4]) > 2100  # for ever
    loads = re.findall(r"Operation:commit .*", log)
    assert len(loads) == 1
    for said in (
        "Parallel:2",
        "BatchSize:96",
        "FlashAttention:Enabled",
        "KvCacheType:q8_0",
        "NumThreads:1",
        "GPULayers:[]",
    ):
        assert f"{said} " in loads[0]
    assert re.search(r"\bn_ctx_seq += 2048\b", log)
    assert re.search(r"\bn_ubatch += 96\b", log)
    assert "invalid option" not in log
