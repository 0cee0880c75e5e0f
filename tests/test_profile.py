"""Profiles: an answer for every knob of every engine, and forms that say to a shell or a service what was settled."""

import configparser
import itertools
import json
import re
import shlex
import shutil
import subprocess
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub import health, wiring
from hub.backends import running
from hub.backends.embedded import EmbeddedBackend
from hub.backends.ollama import OllamaBackend
from hub.capacity.model import KvType
from hub.capacity.profile import (
    FIT,
    FOR_EVER,
    Engine,
    Knob,
    KvPlacement,
    Numa,
    Place,
    Profile,
    Settled,
    Status,
    Switch,
    Verdict,
    compare,
    request_options,
    settle,
)
from hub.capacity.profile.knobs import (
    MEANINGS,
    MOST_CPUS,
    QUANTIZED,
    asked,
    check_cpus,
    plain,
    read_cpus,
    read_experts,
    read_keep_alive,
    spell_cpus,
)
from hub.capacity.profile.renderings import EXAMPLE, Form, line_for, render, table
from hub.cli.adding import NOTHING_ADDED
from hub.cli.parsing import parser_of
from hub.config import SETTINGS, Settings, load
from hub.errors import BackendUnavailable, SettingsError
from hub.model import GenerationOptions, Prompt
from tests.support import command, scripted_server
from tests.support.fake_ollama import FakeOllama
from tests.support.real_llama import llama_server, model_path
from tests.support.scripted_server import ScriptedServer

ROOT = Path(__file__).parent.parent
CARD = 16 << 30


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Any profile without a contradiction, each knob left open half of the time."""

    def maybe(strategy: st.SearchStrategy[Any], otherwise: Any) -> Any:
        return draw(st.one_of(st.just(otherwise), strategy))

    some = st.integers(0, 100_000)
    kinds = st.sampled_from(KvType)
    v_type = maybe(kinds, None)
    attention = draw(st.sampled_from([Switch.AUTO, Switch.ON] if v_type in QUANTIZED else list(Switch)))
    layers = maybe(some, None)
    factor = maybe(st.floats(1.5, 64), 1.0)
    cpus = tuple(sorted(maybe(st.sets(st.integers(0, MOST_CPUS - 1), max_size=5), set())))
    return Profile(
        context=maybe(st.integers(1, 1 << 20), 0),
        k_type=maybe(kinds, None),
        v_type=v_type,
        flash_attention=attention,
        kv_placement=draw(st.sampled_from(KvPlacement)),
        gpu_layers=layers,
        ram_experts=maybe(st.integers(0 if layers is not None else FIT, 60), None),
        vram_margin_mib=maybe(st.integers(0, 8192), None),
        prefill_chunk=maybe(some, 0),
        threads=maybe(some, 0),
        cpus=cpus,
        cpu_strict=bool(cpus) and draw(st.booleans()),
        numa=draw(st.sampled_from(Numa)),
        yarn_factor=factor,
        yarn_original=maybe(st.integers(1, 1 << 20), 0) if factor > 1 else 0,
        swa_full=draw(st.booleans()),
        ram_cache_mib=maybe(some, None),
        chunk_reuse=maybe(some, None),
        checkpoints=maybe(some, None),
        slots_folder=maybe(st.sampled_from(["/srv/slots", '/a b/it\'s "$HOME" 100%', "relative/"]), ""),
        parallel=maybe(st.integers(1, 64), 0),
        keep_alive_s=maybe(st.sampled_from([0.0, 90.0, FOR_EVER]), None),
    )


ENGINES = st.sampled_from(Engine)


@given(profile=profiles(), engine=ENGINES)
@settings(max_examples=200, deadline=None)
def test_every_knob_gets_one_answer_and_none_is_left_out_silently(profile: Profile, engine: Engine) -> None:
    rows = settle(profile, engine, gpu_memory=CARD)
    assert [row.knob for row in rows] == list(Knob)
    for row in rows:
        assert row.value == asked(profile, row.knob)
        assert (row.status is Status.DEFAULT) == (row.value == "")
        match row.status:
            case Status.DEFAULT:
                assert not row.bindings
            case Status.UNSUPPORTED:
                assert row.note
                assert not row.bindings
            case Status.APPLIED:
                assert row.bindings
                assert row.spelling or row.note
                assert line_for(row, engine) == ""
            case Status.NEEDS_ENVIRONMENT:
                assert engine is not Engine.EMBEDDED
                assert line_for(row, engine)
                assert all(plain(binding.value) for binding in row.bindings)


def test_the_knobs_are_the_fields_of_a_profile_and_each_but_the_fixed_one_has_its_setting() -> None:
    assert [knob.value for knob in Knob] == [field.name for field in fields(Profile)]
    assert set(MEANINGS) == set(Knob)
    keys = {row.key for row in SETTINGS if row.table == "profile"}
    assert keys == {*Knob} - {Knob.OVERFLOW, Knob.KEEP_ALIVE} | {"keep_alive"}


def test_a_profile_that_asks_for_nothing_leaves_all_but_the_overflow_to_the_engine() -> None:
    for engine in Engine:
        applied = [row.knob for row in settle(Profile(), engine) if row.status is not Status.DEFAULT]
        assert applied == [Knob.OVERFLOW]


def settled(profile: Profile, engine: Engine, knob: Knob) -> Settled:
    return next(row for row in settle(profile, engine, gpu_memory=CARD) if row.knob is knob)


@pytest.mark.parametrize(
    ("profile", "engine", "knob", "spelling"),
    [
        (Profile(context=8192, parallel=3), Engine.OLLAMA, Knob.CONTEXT, "num_ctx=8192"),
        (Profile(context=8192, parallel=3), Engine.LLAMA_SERVER, Knob.CONTEXT, "--ctx-size 24576"),
        (Profile(context=8192, parallel=3), Engine.EMBEDDED, Knob.CONTEXT, "n_ctx=24576"),
        (Profile(context=8192, parallel=3), Engine.VLLM, Knob.CONTEXT, "--max-model-len 8192"),
        (Profile(), Engine.OLLAMA, Knob.OVERFLOW, "truncate=false shift=false"),
        (Profile(), Engine.LLAMA_SERVER, Knob.OVERFLOW, ""),
        (Profile(k_type=KvType.Q8_0, v_type=KvType.Q8_0), Engine.OLLAMA, Knob.V_TYPE, "OLLAMA_KV_CACHE_TYPE=q8_0"),
        (Profile(k_type=KvType.Q8_0), Engine.OLLAMA, Knob.K_TYPE, "LLAMA_ARG_CACHE_TYPE_K=q8_0"),
        (Profile(k_type=KvType.Q8_0, v_type=KvType.F16), Engine.OLLAMA, Knob.V_TYPE, "LLAMA_ARG_CACHE_TYPE_V=f16"),
        (Profile(flash_attention=Switch.OFF), Engine.OLLAMA, Knob.FLASH_ATTENTION, "OLLAMA_FLASH_ATTENTION=0"),
        (Profile(v_type=KvType.Q4_0), Engine.LLAMA_SERVER, Knob.FLASH_ATTENTION, "--flash-attn on"),
        (Profile(kv_placement=KvPlacement.RAM), Engine.OLLAMA, Knob.FLASH_ATTENTION, "OLLAMA_FLASH_ATTENTION=1"),
        (Profile(kv_placement=KvPlacement.RAM), Engine.OLLAMA, Knob.KV_PLACEMENT, "LLAMA_ARG_KV_OFFLOAD=0"),
        (Profile(kv_placement=KvPlacement.RAM), Engine.LLAMA_SERVER, Knob.KV_PLACEMENT, "--no-kv-offload"),
        (Profile(gpu_layers=0), Engine.OLLAMA, Knob.GPU_LAYERS, "num_gpu=0"),
        (Profile(ram_experts=FIT), Engine.LLAMA_SERVER, Knob.RAM_EXPERTS, "--fit on"),
        (Profile(ram_experts=7), Engine.OLLAMA, Knob.RAM_EXPERTS, "LLAMA_ARG_N_CPU_MOE=7"),
        (Profile(vram_margin_mib=512), Engine.OLLAMA, Knob.VRAM_MARGIN, "LLAMA_ARG_FIT_TARGET=512"),
        (Profile(vram_margin_mib=2048), Engine.VLLM, Knob.VRAM_MARGIN, "--gpu-memory-utilization 0.875"),
        (Profile(prefill_chunk=512), Engine.LLAMA_SERVER, Knob.PREFILL_CHUNK, "--batch-size 512 --ubatch-size 512"),
        (Profile(cpus=(0, 1, 9)), Engine.LLAMA_SERVER, Knob.CPUS, "--cpu-mask 0x203"),
        (Profile(cpus=(0, 1, 9)), Engine.OLLAMA, Knob.CPUS, "cpu-mask=0x203"),
        (Profile(yarn_factor=4), Engine.LLAMA_SERVER, Knob.YARN_FACTOR, "--rope-scaling yarn --rope-scale 4"),
        (Profile(yarn_factor=4.0), Engine.EMBEDDED, Knob.YARN_FACTOR, "rope_scaling_type=yarn rope_freq_scale=0.25"),
        (Profile(ram_cache_mib=0), Engine.OLLAMA, Knob.RAM_CACHE, "LLAMA_ARG_CACHE_RAM=0"),
        (Profile(ram_cache_mib=1536), Engine.VLLM, Knob.RAM_CACHE, "--kv-offloading-size 1.5"),
        (Profile(slots_folder="/s/"), Engine.LLAMA_SERVER, Knob.SLOTS_FOLDER, "--slot-save-path /s/"),
        (Profile(keep_alive_s=FOR_EVER), Engine.OLLAMA, Knob.KEEP_ALIVE, "keep_alive=-1"),
        (Profile(keep_alive_s=FOR_EVER), Engine.LLAMA_SERVER, Knob.KEEP_ALIVE, ""),
        (Profile(keep_alive_s=90.0), Engine.LLAMA_SERVER, Knob.KEEP_ALIVE, "--sleep-idle-seconds 90"),
    ],
)
def test_an_engine_is_told_in_its_own_words(profile: Profile, engine: Engine, knob: Knob, spelling: str) -> None:
    row = settled(profile, engine, knob)
    assert row.status in {Status.APPLIED, Status.NEEDS_ENVIRONMENT}
    assert row.spelling == spelling


@pytest.mark.parametrize(
    ("profile", "engine", "knob", "why"),
    [
        (Profile(kv_placement=KvPlacement.RAM), Engine.VLLM, Knob.KV_PLACEMENT, "must fit the card"),
        (Profile(flash_attention=Switch.OFF), Engine.VLLM, Knob.FLASH_ATTENTION, "cannot do without"),
        (Profile(k_type=KvType.Q8_0, v_type=KvType.F16), Engine.VLLM, Knob.K_TYPE, "one type"),
        (Profile(k_type=KvType.Q5_1), Engine.VLLM, Knob.K_TYPE, "nothing like q5_1"),
        (Profile(slots_folder="/s"), Engine.OLLAMA, Knob.SLOTS_FOLDER, "llama-server"),
        (Profile(gpu_layers=3, vram_margin_mib=1), Engine.OLLAMA, Knob.VRAM_MARGIN, "switches the fitting off"),
        (Profile(gpu_layers=3, vram_margin_mib=1), Engine.EMBEDDED, Knob.VRAM_MARGIN, "switches the fitting off"),
        (Profile(keep_alive_s=60.0), Engine.EMBEDDED, Knob.KEEP_ALIVE, "as long as the process runs"),
        (Profile(yarn_factor=2, yarn_original=4096), Engine.OLLAMA, Knob.YARN_ORIGINAL, "from the model's file"),
        (Profile(threads=4), Engine.VLLM, Knob.THREADS, "on the card"),
    ],
)
def test_what_an_engine_cannot_is_said_with_the_reason(profile: Profile, engine: Engine, knob: Knob, why: str) -> None:
    row = settled(profile, engine, knob)
    assert row.status is Status.UNSUPPORTED
    assert why in row.note


def test_a_share_of_a_card_of_unknown_size_is_not_guessed() -> None:
    rows = {row.knob: row for row in settle(Profile(vram_margin_mib=512), Engine.VLLM)}
    assert rows[Knob.VRAM_MARGIN].status is Status.UNSUPPORTED


def test_what_is_sent_to_ollama_is_what_is_said_to_be_applied() -> None:
    wanted = Profile(context=8192, gpu_layers=20, prefill_chunk=1024, threads=6, cpus=(1,), keep_alive_s=60.0)
    assert request_options(wanted) == {"num_gpu": 20, "num_batch": 1024, "num_thread": 6}
    assert request_options(Profile(context=8192)) == {}


@pytest.mark.parametrize(
    ("wrong", "message", "hint"),
    [
        ({"v_type": KvType.Q8_0, "flash_attention": Switch.OFF}, "needs flash attention", "f16"),
        ({"ram_experts": FIT, "gpu_layers": 3}, "profile.ram_experts is fit", "leave one of the two out"),
        ({"yarn_original": 4096}, "without profile.yarn_factor", "both or neither"),
        ({"yarn_factor": 0.5}, "yarn_factor is 0.5", "1 to"),
        ({"yarn_factor": float("nan")}, "yarn_factor is nan", "1 to"),
        ({"cpu_strict": True}, "without profile.cpus", "0-3"),
        ({"cpus": (MOST_CPUS,)}, f"CPU {MOST_CPUS}", "last possible"),
        ({"vram_margin_mib": -1}, "vram_margin_mib is -1", "0 or more"),
        ({"gpu_layers": -1}, "gpu_layers is -1", "0 or more"),
        ({"ram_experts": -2}, "ram_experts is -2", "0 or more"),
        ({"keep_alive_s": -5.0}, "keep_alive_s is -5", "-1"),
        ({"context": 1 << 30, "parallel": 2}, "for 2 users", "No engine takes more"),
        ({"slots_folder": "a\nb"}, "slots_folder is", "can be shown"),
    ],
)
def test_a_profile_that_contradicts_itself_is_refused_with_the_way_out(
    wrong: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        Profile(**wrong)
    assert message in refusal.value.message
    assert hint in refusal.value.hint


@given(st.sets(st.integers(0, MOST_CPUS - 1), max_size=40))
def test_cpus_read_back_as_they_were_spelt(cpus: set[int]) -> None:
    assert set(read_cpus(spell_cpus(cpus))) == cpus


@pytest.mark.parametrize("text", ["a", "3-1", "1-", "-1", "1,,2", "0x1", "1.5", "99999"])
def test_text_that_is_no_list_of_cpus_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"profile\.cpus"):
        read_cpus(text)


def test_times_and_numbers_of_layers_are_read_as_they_are_meant() -> None:
    times = {"auto": None, "forever": FOR_EVER, "0": 0.0, "90": 90.0, "90s": 90.0, "30m": 1800.0, "2h": 7200.0}
    assert {text: read_keep_alive(text) for text in times} == times
    assert (read_experts("auto"), read_experts("fit"), read_experts("12")) == (None, FIT, 12)
    for wrong in ("", "-1", "soon", "1d", "1.5h"):
        with pytest.raises(SettingsError, match="keep_alive"):
            read_keep_alive(wrong)
        with pytest.raises(SettingsError, match="ram_experts"):
            read_experts(wrong)


def test_a_cpu_that_the_process_may_not_use_is_named() -> None:
    check_cpus(Profile(cpus=(1, 2)), {0, 1, 2})
    with pytest.raises(SettingsError, match="CPU 3,7") as refusal:
        check_cpus(Profile(cpus=(1, 3, 7)), {0, 1, 2})
    assert refusal.value.hint == "It can run on 0-2."


# Forms


def rendered(profile: Profile, engine: Engine, form: Form) -> str:
    return render(settle(profile, engine, gpu_memory=CARD), engine, form, "my model.gguf")


def variables_of(profile: Profile, engine: Engine) -> dict[str, str]:
    """What stands in the environment by the answers themselves."""
    found = {}
    for row in settle(profile, engine):
        for binding in row.bindings:
            name, _, fixed = (binding.variable or binding.name).partition("=")
            if binding.place is Place.ENVIRONMENT or (binding.place is Place.FLAG and binding.variable):
                found[name] = fixed or plain(binding.value)
    return found


SERVERS = st.sampled_from([Engine.OLLAMA, Engine.LLAMA_SERVER])


def test_a_shell_that_reads_the_exports_has_exactly_these_variables() -> None:
    assert shutil.which("bash"), "a shell to ask"
    everywhere = replace(EXAMPLE, slots_folder='/a b/it\'s "$HOME" 100%')
    for engine in (Engine.OLLAMA, Engine.LLAMA_SERVER):
        script = rendered(everywhere, engine, Form.EXPORTS) + "env -0"
        said = subprocess.run(
            ["bash", "-euc", script],
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin"},
            timeout=30,
            check=True,
        )
        held = dict(entry.partition("=")[::2] for entry in said.stdout.split("\0") if "LLAMA" in entry)
        assert held == variables_of(everywhere, engine)


@given(profile=profiles(), engine=SERVERS)
@settings(max_examples=100, deadline=None)
def test_every_form_of_an_environment_says_the_same_and_nothing_empty(profile: Profile, engine: Engine) -> None:
    expected = variables_of(profile, engine)
    assert all(expected.values())
    exports = [line for line in rendered(profile, engine, Form.EXPORTS).splitlines() if not line.startswith("#")]
    words = [shlex.split(line) for line in exports]
    assert all(word[0] == "export" and len(word) == 2 for word in words)
    assert dict(word[1].split("=", 1) for word in words) == expected
    unit = [line for line in rendered(profile, engine, Form.SYSTEMD).splitlines() if line.startswith("Environment=")]
    texts = [re.fullmatch(r'Environment="(.*)"', line) for line in unit]
    pairs = [re.sub(r"\\(.)", r"\1", text[1]).replace("%%", "%") for text in texts if text]
    assert dict(pair.split("=", 1) for pair in pairs) == expected
    service = [line for line in rendered(profile, engine, Form.COMPOSE).splitlines() if re.match(r" {6}\w+: ", line)]
    entries = [line.strip().split(": ", 1) for line in service]
    assert {name: json.loads(value).replace("$$", "$") for name, value in entries} == expected


@given(profile=profiles())
@settings(max_examples=100, deadline=None)
def test_a_command_line_and_a_file_of_llama_cpp_say_all_that_was_settled(profile: Profile) -> None:
    flags = [
        binding
        for row in settle(profile, Engine.LLAMA_SERVER)
        for binding in row.bindings
        if binding.place is Place.FLAG
    ]
    words = shlex.split(rendered(profile, Engine.LLAMA_SERVER, Form.FLAGS))
    assert words[:3] == ["llama-server", "--model", "my model.gguf"]
    wanted = [([flag.name] if flag.value is True else [flag.name, plain(flag.value)]) for flag in flags]
    assert words[3:] == list(itertools.chain(*wanted))
    ini = configparser.RawConfigParser(comment_prefixes=(";",), inline_comment_prefixes=None)
    ini.read_string(rendered(profile, Engine.LLAMA_SERVER, Form.INI))
    assert dict(ini["*"]) == {flag.name.lstrip("-"): plain(flag.value).strip() for flag in flags}


def test_what_a_form_cannot_carry_stands_in_it_as_a_comment() -> None:
    exports = rendered(EXAMPLE, Engine.LLAMA_SERVER, Form.EXPORTS)
    for flag in ("--cpu-mask 0xff", "--cpu-strict 1", "--slot-save-path /var/cache/", "--sleep-idle-seconds 1800"):
        assert re.search(rf"^# .*{re.escape(flag)}", exports, re.MULTILINE)
    modelfile = rendered(EXAMPLE, Engine.OLLAMA, Form.MODELFILE)
    assert modelfile.startswith("FROM my model.gguf\nPARAMETER num_ctx 65536\n")
    assert "\n# where ollama is started: OLLAMA_KV_CACHE_TYPE=q8_0\n" in modelfile
    assert "\n# FROM has to name what this makes: codehub extend-context MODEL.gguf --factor 2\n" in modelfile
    unit = rendered(EXAMPLE, Engine.OLLAMA, Form.SYSTEMD)
    assert "\nCPUAffinity=0-7\n" in unit
    assert "cpu-mask" not in unit
    assert '\n    cpuset: "0-7"\n' in rendered(EXAMPLE, Engine.OLLAMA, Form.COMPOSE)


@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize("form", Form)
def test_a_form_that_an_engine_does_not_have_is_refused_with_those_that_do(engine: Engine, form: Form) -> None:
    try:
        text = rendered(EXAMPLE, engine, form)
    except SettingsError as refusal:
        told = f"{refusal.message} {refusal.hint}"
        assert f"{engine}" in told
    else:
        assert text.endswith("\n")
        assert engine is not Engine.EMBEDDED


def test_every_flag_and_variable_is_one_that_llama_cpp_knows() -> None:
    model_path()  # skips where the library is missing
    import xllamacpp.xllamacpp as library

    known = set(re.findall(rb"\0((?:--|LLAMA_ARG_)[A-Za-z_-]+)(?=\0)", Path(library.__file__).read_bytes()))
    fixed = {"gpu_layers": 3, "vram_margin_mib": None}
    variants = (
        EXAMPLE,
        replace(EXAMPLE, kv_placement=KvPlacement.RAM, ram_experts=FIT),
        replace(EXAMPLE, k_type=KvType.F16, **fixed),  # type: ignore[arg-type] # of the right kinds
    )
    names = set()
    for profile, engine in itertools.product(variants, (Engine.OLLAMA, Engine.LLAMA_SERVER)):
        for binding in itertools.chain(*(row.bindings for row in settle(profile, engine))):
            match binding.place:
                case Place.FLAG:
                    names |= {binding.name, binding.variable.partition("=")[0]}
                case Place.CONFIG:
                    names.add(f"--{binding.name}")
                case Place.ENVIRONMENT:
                    names.add(binding.name)
    names = {name for name in names if name and not name.startswith("OLLAMA_")}
    assert len(names) > 40
    assert {name for name in names if name.encode() not in known} == set()


def test_the_page_of_profiles_shows_the_table_as_it_is() -> None:
    page = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8")
    assert page.endswith(table())
    assert page.count("\n| `") == table().count("\n| `") + len(Form) + 1  # and the table of forms, with Markdown
    for form in Form:
        assert f"| `{form}` |" in page
    for status in Status:
        assert f"| {status} |" in page


def test_the_command_that_a_line_names_is_one_of_ours() -> None:
    row = settled(Profile(yarn_factor=2.5), Engine.OLLAMA, Knob.YARN_FACTOR)
    program, *words = shlex.split(line_for(row, Engine.OLLAMA))
    assert program == "codehub"
    asked_for = parser_of(NOTHING_ADDED).parse_args(words)
    assert (asked_for.command, asked_for.factor) == ("extend-context", 2.5)


# What runs, and the settings on their way to it


def test_what_runs_is_held_beside_what_was_asked() -> None:
    wanted = Profile(context=1000, k_type=KvType.Q8_0, parallel=2)
    seen = {Knob.CONTEXT: "1024", Knob.PARALLEL: "1", Knob.THREADS: "4"}
    verdicts = {row.knob: row.verdict for row in compare(wanted, seen)}
    assert verdicts == {
        Knob.CONTEXT: Verdict.APPLIED,  # rounded up by the engine
        Knob.OVERFLOW: Verdict.UNSEEN,
        Knob.K_TYPE: Verdict.UNSEEN,
        Knob.THREADS: Verdict.APPLIED,  # nobody asked
        Knob.PARALLEL: Verdict.DIFFERS,
    }
    assert {row.verdict for row in compare(wanted, {Knob.CONTEXT: "999"}) if row.seen} == {Verdict.DIFFERS}
    assert {row.verdict for row in compare(wanted, {Knob.CONTEXT: "4096"}) if row.seen} == {Verdict.DIFFERS}


def loaded(tmp_path: Path, **variables: str) -> Settings:
    return load({}, {f"CODEHUB_{name}": value for name, value in variables.items()}, tmp_path)


def test_the_settings_become_the_profile_of_the_backend(tmp_path: Path) -> None:
    model_path()
    chosen = loaded(tmp_path, BACKEND="embedded", PROFILE_CONTEXT="512", PROFILE_K_TYPE="q8_0", PROFILE_THREADS="1")
    backend = wiring.backend(chosen)
    assert isinstance(backend, EmbeddedBackend)
    values = {row.knob: row.value for row in backend.settled()}
    assert (values[Knob.CONTEXT], values[Knob.K_TYPE], values[Knob.THREADS]) == ("512", "q8_0", "1")
    assert wiring.profile(loaded(tmp_path)) == Profile()
    everything = wiring.profile(
        loaded(tmp_path, PROFILE_RAM_EXPERTS="fit", PROFILE_CPUS="0-2", PROFILE_KEEP_ALIVE="2h", PROFILE_NUMA="isolate")
    )
    assert everything == Profile(ram_experts=FIT, cpus=(0, 1, 2), keep_alive_s=7200.0, numa=Numa.ISOLATE)


def test_ollama_is_sent_the_options_of_the_profile_with_every_request(tmp_path: Path) -> None:
    with FakeOllama() as fake:
        chosen = loaded(
            tmp_path,
            BACKEND="ollama",
            OLLAMA_HOST=fake.url,
            PROFILE_CONTEXT="4096",
            PROFILE_PREFILL_CHUNK="256",
            PROFILE_GPU_LAYERS="0",
            PROFILE_KEEP_ALIVE="30m",
        )
        backend = wiring.backend(chosen)
        assert isinstance(backend, OllamaBackend)
        for _ in range(2):
            list(backend.stream(Prompt("", "What?", (), (), 2), GenerationOptions(max_tokens=4)))
        backend.close()
        first, second = fake.bodies("/api/chat")
    assert first == second
    assert {name: first["options"].get(name) for name in ("num_ctx", "num_batch", "num_gpu", "num_thread")} == {
        "num_ctx": 4096,
        "num_batch": 256,
        "num_gpu": 0,
        "num_thread": None,
    }
    assert first["keep_alive"] == 1800
    assert (first["truncate"], first["shift"]) == (False, False)


def test_keys_reach_their_servers(tmp_path: Path) -> None:
    for answers, name in ((scripted_server.llama_cpp(), "LLAMA_SERVER"), (scripted_server.vllm(), "OPENAI")):
        with ScriptedServer(answers) as server:
            backend = name.lower().replace("_", "-")
            variables = {"BACKEND": backend, f"{name}_URL": server.url, f"{name}_KEY": "sesame"}
            asked_backend = wiring.backend(loaded(tmp_path, **variables))
            asked_backend.info()
            asked_backend.close()
            assert {heading["Authorization"] for heading in server.headers} == {"Bearer sesame"}


@pytest.mark.parametrize("backend", ["openai", "llama-server"])
def test_a_backend_without_its_address_is_told_which_setting_is_missing(tmp_path: Path, backend: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        wiring.backend(loaded(tmp_path, BACKEND=backend))
    assert f"{backend.replace('-', '_')}.url" in refusal.value.hint


def test_the_engine_is_the_one_that_the_settings_name(tmp_path: Path) -> None:
    assert wiring.engine(loaded(tmp_path, BACKEND="openai")) is Engine.VLLM
    assert wiring.engine(loaded(tmp_path, BACKEND="ollama")) is Engine.OLLAMA
    assert wiring.engine(loaded(tmp_path, LLAMA_SERVER_URL="http://x")) is Engine.LLAMA_SERVER
    assert wiring.engine(loaded(tmp_path, OPENAI_URL="http://x")) is Engine.VLLM
    assert wiring.engine(loaded(tmp_path, OLLAMA_HOST="http://127.0.0.1:9")) is Engine.EMBEDDED
    with pytest.raises(SettingsError, match="backend is none"):
        wiring.engine(loaded(tmp_path, BACKEND="none"))


def test_a_running_server_shows_its_context_and_users() -> None:
    with llama_server(256, parallel=2) as url:
        assert running.of_llama_server(url) == {Knob.CONTEXT: "256", Knob.PARALLEL: "2"}


def test_ollama_shows_the_context_of_what_is_loaded_and_whether_it_lies_on_the_card() -> None:
    with FakeOllama() as fake:
        with pytest.raises(BackendUnavailable, match="loaded in Ollama"):
            running.of_ollama(fake.url, "")
        backend = OllamaBackend(fake.url, "qwen2.5-coder:7b", num_ctx=4096)
        list(backend.stream(Prompt("", "What?", (), (), 2), GenerationOptions(max_tokens=4)))
        backend.close()
        assert running.of_ollama(fake.url, "qwen2.5-coder:7b")[Knob.CONTEXT] == "4096"
        with pytest.raises(BackendUnavailable, match="other is not loaded"):
            running.of_ollama(fake.url, "other")


def test_the_doctor_says_what_of_a_profile_is_not_codehubs_to_apply(tmp_path: Path) -> None:
    def findings(**variables: str) -> list[health.Finding]:
        chosen = replace(loaded(tmp_path, EMBEDDINGS="none", **variables), data=tmp_path / "data")
        return [finding for finding in health.examine(chosen) if finding.subject == "profile"]

    somewhere = {"BACKEND": "llama-server", "LLAMA_SERVER_URL": "http://127.0.0.1:9"}
    (outside,) = findings(**somewhere, PROFILE_CONTEXT="4096", PROFILE_SLOTS_FOLDER="/s")
    assert outside.detail == "to be set where llama-server is started: context, slots_folder"
    assert outside.grade is health.Grade.OK
    assert "codehub profile" in outside.hint
    (cannot,) = findings(BACKEND="openai", OPENAI_URL="http://127.0.0.1:9", PROFILE_THREADS="3")
    assert (cannot.grade, cannot.detail) == (health.Grade.WARNING, "vllm cannot: threads")
    (wrong,) = findings(**somewhere, PROFILE_CPUS="many")
    assert wrong.grade is health.Grade.FAILED
    (applied,) = findings(BACKEND="embedded", PROFILE_THREADS="1")
    assert applied.detail == "all of it is applied to embedded"
    assert findings(**somewhere) == []


# The command


def run(tmp_path: Path, *arguments: str, **variables: str) -> command.Done:
    given_ = {f"CODEHUB_{name}": value for name, value in variables.items()}
    return command.run_here(["profile", *arguments], tmp_path / "data", given_)


def test_the_command_shows_who_sees_to_what(tmp_path: Path) -> None:
    done = run(tmp_path, "--engine", "ollama", PROFILE_K_TYPE="q8_0", PROFILE_SLOTS_FOLDER="/s")
    assert done.code == 0
    sections = ["codehub sees to:", "to be set where ollama is started:", "ollama cannot:", "left to ollama:"]
    assert [done.out.index(section) for section in sections] == sorted(done.out.index(section) for section in sections)
    assert "export LLAMA_ARG_CACHE_TYPE_K=q8_0" in done.out
    assert "num_ctx=16384" in done.out  # which codehub asks Ollama for in any case
    knobs = run(tmp_path, "--engine", "llama-server", "--json", PROFILE_CONTEXT="4096").json()["knobs"]
    assert [knob["knob"] for knob in knobs] == list(Knob)
    assert knobs[0]["line"] == "--ctx-size 4096"
    assert knobs[0]["settings"] == [
        {"place": "flag", "name": "--ctx-size", "value": 4096, "variable": "LLAMA_ARG_CTX_SIZE"}
    ]


def test_the_command_writes_a_form_and_refuses_one_that_there_is_not(tmp_path: Path) -> None:
    done = run(tmp_path, "--engine", "llama-server", "--format", "flags", PROFILE_CONTEXT="4096")
    assert done.out == "llama-server --model MODEL.gguf --ctx-size 4096\n"
    refused = run(tmp_path, "--engine", "vllm", "--format", "systemd")
    assert refused.code == 2
    assert "There is no systemd for vllm." in refused.err
    wrong = run(tmp_path, PROFILE_CPUS="many", BACKEND="embedded")
    assert wrong.code == 2
    assert "profile.cpus" in wrong.err


def test_the_command_compares_with_what_runs(tmp_path: Path) -> None:
    with llama_server(256) as url:
        same = run(tmp_path, "--check", BACKEND="llama-server", LLAMA_SERVER_URL=url, PROFILE_CONTEXT="256")
        assert same.code == 0
        assert re.search(r"context +256 +applied", same.out)
        other = run(
            tmp_path, "--check", "--json", BACKEND="llama-server", LLAMA_SERVER_URL=url, PROFILE_CONTEXT="65536"
        )
    assert other.code == 1
    assert other.json()["knobs"][0] == {"knob": "context", "asked": "65536", "seen": "256", "verdict": "differs"}
    embedded = run(tmp_path, "--check", BACKEND="embedded", PROFILE_CONTEXT="256", PROFILE_V_TYPE="q4_0")
    assert embedded.code == 0
    assert re.search(r"v_type +q4_0 +applied", embedded.out)
    nobody = run(tmp_path, "--check", BACKEND="llama-server", LLAMA_SERVER_URL="http://127.0.0.1:9")
    assert nobody.code == 2
