"""llama.cpp inside the process: every knob of a profile arrives, and what is wrong is told and ends nothing.

What arrived is read from the library's own log, from its server and from the threads of its process, so each profile
is loaded in a process of its own.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.backends import embedded
from hub.backends.embedded import CONTEXT_WINDOW, EmbeddedBackend
from hub.capacity.gguf import fingerprint
from hub.capacity.model import KvType
from hub.capacity.profile import Engine, Knob, KvPlacement, Numa, Place, Profile, Switch, settle
from hub.capacity.profile.renderings import EXAMPLE
from hub.errors import BackendUnavailable, SettingsError, UnsupportedRequest
from hub.model import Capabilities, Completion, GenerationOptions, Prefill, Prompt
from tests.support import gguf_models

ROOT = Path(__file__).parent.parent
OPTIONS = GenerationOptions(max_tokens=4, timeout_s=120)
CPUS = tuple(sorted(os.sched_getaffinity(0)))


@pytest.fixture(scope="module")
def model() -> Path:
    try:
        return EmbeddedBackend()._model
    except BackendUnavailable as missing:
        pytest.skip(f"needs the embedded llama.cpp: {missing.message}")


def prompt(text: str) -> Prompt:
    return Prompt("", text, (), (), tokens=len(text) // 4)


def written(backend: EmbeddedBackend, text: str) -> Completion:
    *_, end = backend.stream(prompt(text), OPTIONS)
    assert isinstance(end, Completion)
    return end


# Loads a profile with the library's log on, has it read the prompts, and prints what can be seen.
PROGRAM = """
import json, pathlib, sys
from hub.backends import embedded
from hub.capacity.profile import Profile
from hub.model import GenerationOptions, Prompt
asked = json.loads(sys.argv[1])
embedded.SILENT = asked["verbosity"]
model = pathlib.Path(asked["model"]) if asked["model"] else None
backend = embedded.EmbeddedBackend(model, profile=Profile(**asked["profile"]))
seen = {"window": backend.info().context_window, "capable": backend.capabilities().prefix_files}
seen["ends"] = []
for text in asked["prompts"]:
    *_, end = backend.stream(Prompt("", text, (), (), 9), GenerationOptions(max_tokens=2))
    seen["ends"].append((end.text, end.usage.prompt, end.usage.cached))
seen["server"] = backend._client().info().context_window
seen["threads"] = []
for task in pathlib.Path("/proc/self/task").iterdir():
    status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
    ticks = (task / "stat").read_text().rpartition(")")[2].split()[11:13]
    seen["threads"].append((status["Cpus_allowed_list"].strip(), sum(map(int, ticks))))
if seen["capable"]:
    seen["saved"] = backend.save_prefix("kept").tokens
    seen["identity"] = backend.identity()
backend.close()
print(json.dumps(seen))
"""


@dataclass(frozen=True)
class Seen:
    log: str
    told: dict[str, Any]

    def value(self, name: str) -> str:
        """What the log says last of a name."""
        return str(re.findall(rf"\b{re.escape(name)} *= (\S+)", self.log)[-1])


def run(profile: Profile, *prompts: str, model: Path | None = None, verbosity: int = 4) -> Seen:
    asked = json.dumps(
        {
            "profile": asdict(profile),
            "prompts": prompts,
            "model": str(model) if model else "",
            "verbosity": verbosity,
        }
    )
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, asked], capture_output=True, text=True, timeout=200, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Seen(done.stderr, json.loads(done.stdout))


@pytest.fixture(scope="module")
def stretched(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A profile that asks for much at once, with a prompt."""
    folder = tmp_path_factory.mktemp("slots") / "of prompts"
    profile = Profile(
        context=8448,
        k_type=KvType.Q8_0,
        v_type=KvType.Q4_0,
        kv_placement=KvPlacement.RAM,
        prefill_chunk=48,
        threads=2,
        cpus=CPUS[-1:],
        numa=Numa.DISTRIBUTE,
        yarn_factor=2.0,
        yarn_original=8192,
        swa_full=True,
        ram_cache_mib=17,
        checkpoints=3,
        slots_folder=str(folder),
    )
    return run(profile, "What is a destructor? " * 12)


@pytest.fixture(scope="module")
def plain(model: Path) -> Seen:
    """The other values of the same knobs, and two users."""
    profile = Profile(
        context=512,
        flash_attention=Switch.OFF,
        kv_placement=KvPlacement.GPU,
        threads=min(2, len(CPUS)),
        cpus=CPUS[:2],
        cpu_strict=True,
        ram_cache_mib=0,
        checkpoints=0,
        chunk_reuse=16,
        parallel=2,
    )
    first = "".join(f"int alpha_{number}(int a) {{ return a + {number}; }}\n" for number in range(3))
    second = "".join(f"int beta_{number}(int a) {{ return a * {number}; }}\n" for number in range(5))
    return run(profile, first + second + "What does beta_3 return?", second + "What does beta_3 return?")


def test_the_context_arrives_for_each_user(stretched: Seen, plain: Seen) -> None:
    assert stretched.told["server"] == stretched.told["window"] == 8448
    assert plain.told["server"] == plain.told["window"] == 512
    assert plain.value("n_ctx") == "512"  # of a slot, of two
    assert plain.value("n_slots") == "2,"
    assert stretched.value("n_slots") == "1,"


def test_the_types_of_the_cache_arrive_and_bring_flash_attention(stretched: Seen, plain: Seen) -> None:
    assert "K (q8_0)" in stretched.log
    assert "V (q4_0)" in stretched.log
    assert stretched.value("flash_attn") == "enabled"
    assert "K (f16)" in plain.log
    assert plain.value("flash_attn") == "disabled"


def test_the_chunk_and_the_threads_arrive(stretched: Seen, plain: Seen) -> None:
    assert (stretched.value("n_batch"), stretched.value("n_ubatch")) == ("48", "48")
    assert plain.value("n_batch") == str(embedded.BATCH_TOKENS)
    assert stretched.value("n_threads") == "2"


def busiest(seen: Seen, threads: int) -> list[str]:
    """The CPUs that the threads which worked most may run on."""
    return [cpus for cpus, _ in sorted(seen.told["threads"], key=lambda thread: -thread[1])[:threads]]


def test_threads_that_compute_run_on_the_cpus_that_were_named(stretched: Seen, plain: Seen) -> None:
    assert set(busiest(stretched, 1)) == {str(CPUS[-1])}
    if len(CPUS) > 1:
        assert sorted(busiest(plain, 2)) == sorted(map(str, CPUS[:2]))  # strict: one each


def test_a_context_stretched_by_yarn_arrives(stretched: Seen, plain: Seen) -> None:
    assert stretched.value("freq_scale") == "0.5"
    assert "n_ctx_train adjusted to 16384" in stretched.log
    assert plain.value("freq_scale") == "1"


def test_what_is_kept_of_prompts_arrives(stretched: Seen, plain: Seen) -> None:
    assert "size limit: 17 MiB" in stretched.log
    assert "context checkpoints enabled, max = 3" in stretched.log
    assert "prompt cache is disabled" in plain.log
    assert "context checkpoints enabled" not in plain.log
    assert "swa_full is not supported by this model" in stretched.log
    assert "swa_full" not in plain.log


def test_a_part_that_moved_is_reused_where_it_was_asked_for(stretched: Seen, plain: Seen) -> None:
    (_, read, _), (_, again, cached) = plain.told["ends"]
    assert again < read
    assert cached > again / 2  # what both prompts begin with are a few tokens of the template


BEFORE = "int alpha(int a) { return a + 1; }\n" * 10
TWO_QUESTIONS = (BEFORE + "What is one?", BEFORE + "And which is two of them?")


def test_a_sliding_window_that_keeps_every_token_arrives(model: Path, tmp_path: Path) -> None:
    sliding = gguf_models.tiny(tmp_path / "sliding.gguf", "gemma3")
    full = run(Profile(context=1024, swa_full=True), model=sliding)
    assert "SWA KV cache, size = 1024 cells" in full.log
    assert "using full-size SWA cache" in full.log


def test_experts_and_checkpoints_of_a_recurrent_model_arrive(model: Path, tmp_path: Path) -> None:
    recurrent = gguf_models.tiny(tmp_path / "recurrent.gguf", "qwen3next")
    asked = Profile(context=1024, prefill_chunk=32, ram_cache_mib=0, ram_experts=2, checkpoints=4)
    seen = run(asked, *TWO_QUESTIONS, model=recurrent, verbosity=5)
    moved = set(re.findall(r"tensor (\S+) .*overridden to CPU", seen.log))
    assert moved == {f"blk.{layer}.ffn_{part}_exps.weight" for layer in (0, 1) for part in ("up", "gate", "down")}
    assert "context checkpoints enabled, max = 4" in seen.log
    assert seen.told["ends"][1][2] > 0
    forgetful = run(replace(asked, ram_experts=None, checkpoints=0), *TWO_QUESTIONS, model=recurrent)
    assert "overridden to CPU" not in forgetful.log
    assert forgetful.told["ends"][1][2] == 0


def test_states_of_prompts_are_kept_where_it_was_asked_for(stretched: Seen, plain: Seen, model: Path) -> None:
    assert stretched.told["capable"]
    assert stretched.told["saved"] >= stretched.told["ends"][0][1]
    assert "k q8_0 v q4_0" in stretched.told["identity"]
    assert "yarn 2 8192" in stretched.told["identity"]
    assert fingerprint(model) in stretched.told["identity"]  # a path may have another model tomorrow
    assert not plain.told["capable"]


def test_every_parameter_is_an_attribute_of_the_library_and_reads_back_as_it_was_set(model: Path) -> None:
    import xllamacpp

    for profile in (
        replace(EXAMPLE, vram_margin_mib=700),
        Profile(gpu_layers=7, kv_placement=KvPlacement.RAM, flash_attention=Switch.OFF),
    ):
        untouched, given_ = xllamacpp.CommonParams(), xllamacpp.CommonParams()
        for row in settle(profile, Engine.EMBEDDED):
            for binding in row.bindings:
                if binding.place is not Place.PARAMETER:
                    continue
                *path, name = binding.name.split(".")
                before, after = untouched, given_
                for part in path:
                    before, after = getattr(before, part), getattr(after, part)
                assert hasattr(before, name), binding
                embedded._apply(given_, binding, xllamacpp)
                kept = getattr(after, name)
                if isinstance(binding.value, int | float) and not isinstance(kept, list):
                    assert kept == pytest.approx(binding.value), binding
                elif row.knob not in {Knob.KV_PLACEMENT, Knob.OVERFLOW}:
                    assert kept != getattr(before, name), binding
    assert [cpu for cpu, on in enumerate(given_.cpuparams.cpumask) if on] == []


def test_the_experts_that_stay_in_main_memory_are_those_of_the_first_layers() -> None:
    (row,) = [row for row in settle(Profile(ram_experts=2), Engine.EMBEDDED) if row.knob is Knob.RAM_EXPERTS]
    pattern, _, device = str(row.bindings[0].value).partition("=")
    names = [f"blk.{layer}.ffn_{part}_exps.weight" for layer in (0, 1, 2, 11) for part in ("up", "down", "gate")]
    assert [name for name in names if re.search(pattern, name)] == names[:6]
    assert not re.search(pattern, "blk.0.ffn_up.weight")
    assert not re.search(pattern, "blk.0.ffn_up_shexp.weight")
    assert device == "CPU"


def test_a_cpu_that_is_not_there_is_told_before_anything_is_loaded(model: Path) -> None:
    with pytest.raises(SettingsError, match="CPU 500") as caught:
        EmbeddedBackend(model, profile=Profile(cpus=(*CPUS, 500)))
    assert "It can run on" in caught.value.hint


def test_what_it_can_is_told_truly(model: Path, tmp_path: Path) -> None:
    with closing(EmbeddedBackend(model, context_window=256, slots_folder=tmp_path / "new")) as backend:
        assert backend.capabilities() == backend._client().capabilities()
        assert backend.capabilities().prefix_files
    with closing(EmbeddedBackend(model, context_window=256)) as backend:
        told = backend.capabilities()
        assert told == backend._client().capabilities() != Capabilities()
        with pytest.raises(UnsupportedRequest):
            backend.save_prefix("name")


def test_a_folder_for_states_that_cannot_be_made_is_told(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        closing(EmbeddedBackend(model, slots_folder=tmp_path / "file" / "folder")) as backend,
        pytest.raises(BackendUnavailable, match="cannot be kept"),
    ):
        backend.count_tokens("text")


def test_two_models_in_one_process_answer_each_for_itself(model: Path) -> None:
    with closing(EmbeddedBackend(model, context_window=256)) as first:
        alone = written(first, "What is a destructor?")
        with closing(EmbeddedBackend(model, context_window=512)) as second:
            assert written(second, "What is a destructor?").text == alone.text
            assert (first._client().info().context_window, second._client().info().context_window) == (256, 512)
        assert written(first, "What is a destructor?").text == alone.text
        assert written(first, "What is a constructor?").usage.prompt > 0


def test_a_prefill_that_was_left_ends_within_its_batch_and_the_next_answer_is_right(model: Path) -> None:
    asking = GenerationOptions(max_tokens=4, timeout_s=120, progress=True)
    with closing(EmbeddedBackend(model, context_window=2048, profile=Profile(prefill_chunk=32))) as backend:
        before = written(backend, "What is a destructor?")
        long = prompt("What is a destructor and who calls it? " * 100)
        with closing(backend.stream(long, asking)) as left:  # type: ignore[type-var]
            for told in left:
                assert isinstance(told, Prefill), "the prompt was read before it could be left"
                if told.read:
                    break
        assert written(backend, "What is a destructor?").text == before.text
        with closing(backend.stream(long, asking)) as again:  # type: ignore[type-var]
            told = next(again)
            assert isinstance(told, Prefill)
            assert told.cached < told.total / 2


def test_a_model_whose_file_is_deleted_while_it_is_loaded_goes_on_and_a_new_one_is_told(
    model: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.gguf"
    shutil.copy(model, copy)
    with closing(EmbeddedBackend(copy, context_window=256)) as backend:
        before = written(backend, "What is a destructor?")
        late = EmbeddedBackend(copy, context_window=256)
        copy.unlink()
        assert written(backend, "What is a destructor?").text == before.text
    with pytest.raises(BackendUnavailable, match=r"copy\.gguf"):
        late.count_tokens("text")
    with pytest.raises(BackendUnavailable, match=r"copy\.gguf"):
        EmbeddedBackend(copy)


@pytest.mark.parametrize("kept", [0, 3, 4, 24, 5_000, 1_000_000, 90_000_000])
def test_a_model_file_that_is_cut_short_is_told(model: Path, tmp_path: Path, kept: int) -> None:
    cut = tmp_path / "cut.gguf"
    with model.open("rb") as whole:
        cut.write_bytes(whole.read(kept))
    with closing(EmbeddedBackend(cut)) as backend, pytest.raises(BackendUnavailable, match=r"cut\.gguf"):
        backend.count_tokens("text")
    with closing(EmbeddedBackend(cut)) as backend, pytest.raises(BackendUnavailable):
        backend.info()


@pytest.fixture(scope="module")
def damaged(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    copy = tmp_path_factory.mktemp("damaged") / "damaged.gguf"
    shutil.copy(model, copy)
    yield copy
    copy.unlink()


@given(place=st.integers(0, 3_000), junk=st.binary(min_size=1, max_size=16))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_head_that_lies_is_refused_with_our_error_or_read(
    model: Path, damaged: Path, place: int, junk: bytes
) -> None:
    with damaged.open("r+b") as file:
        file.seek(place)
        before = file.read(len(junk))
        file.seek(place)
        file.write(junk)
    try:
        with suppress(BackendUnavailable):
            assert EmbeddedBackend(damaged).info().context_window > 0
    finally:
        with damaged.open("r+b") as file:
            file.seek(place)
            file.write(before)


def test_a_context_beyond_what_the_model_was_made_for_is_refused_with_the_way_out(model: Path) -> None:
    with closing(EmbeddedBackend(model, profile=Profile(context=20_000))) as backend:
        with pytest.raises(BackendUnavailable, match="20000 tokens is more than the 8192") as caught:
            backend.count_tokens("text")
        assert "yarn_factor = 3" in caught.value.hint
    stretched = EmbeddedBackend(model, profile=Profile(context=20_000, yarn_factor=3.0))
    assert stretched.info().context_window == 20_000


def test_a_context_that_no_memory_holds_is_refused_before_anything_is_loaded(model: Path) -> None:
    huge = Profile(context=1_000_000_000, yarn_factor=1024.0, yarn_original=1_000_000)
    with closing(EmbeddedBackend(model, profile=huge)) as backend:
        with pytest.raises(BackendUnavailable, match="GiB of memory") as caught:
            backend.count_tokens("text")
        assert "smaller context" in caught.value.hint
    with closing(EmbeddedBackend(model, available=lambda: 0)) as backend, pytest.raises(BackendUnavailable):
        backend.count_tokens("text")
    with closing(EmbeddedBackend(model, context_window=256, available=lambda: None)) as backend:
        assert backend.count_tokens("text") > 0  # where the system does not tell, the library finds out


def test_what_a_profile_leaves_open_is_chosen_for_a_small_model_beside_an_indexer(model: Path) -> None:
    rows = {row.knob: row for row in EmbeddedBackend(model).settled()}
    assert EmbeddedBackend(model).info().context_window == CONTEXT_WINDOW
    assert rows[Knob.PREFILL_CHUNK].value == str(embedded.BATCH_TOKENS)
    assert rows[Knob.RAM_CACHE].value == str(embedded.CACHED_PROMPTS_MIB)
    assert 1 <= int(rows[Knob.THREADS].value) <= embedded.MOST_THREADS
    assert rows[Knob.PARALLEL].value == "1"


def test_threads_are_as_many_as_cpus_were_named(model: Path) -> None:
    rows = {row.knob: row for row in EmbeddedBackend(model, profile=Profile(cpus=CPUS[:1])).settled()}
    assert rows[Knob.THREADS].value == "1"
