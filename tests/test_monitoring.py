"""Watching memory and the KV cache: what is read of engines, which lines are crossed, and the ways it is shown."""

import io
import json
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import monitoring
from hub.capacity.machine import Sample
from hub.errors import HubError
from hub.monitoring import Alert, Engine, Held, Level, Monitor, Reading
from tests.support.command import COMMAND, Done, environment, run_here
from tests.support.real_llama import llama_server
from tests.support.scripted_server import ScriptedServer, whole

GIB = 1 << 30
IDLE = Sample(0, 0, 4 * GIB, 32 * GIB, 0)
# As /api/ps of Ollama answers, a model wholly on the card and one in part (api/types.go: ProcessModelResponse).
PS: dict[str, Any] = {
    "models": [
        {
            "name": "qwen2.5-coder:14b",
            "model": "qwen2.5-coder:14b",
            "size": 12 * GIB,
            "size_vram": 12 * GIB,
            "context_length": 16384,
            "expires_at": "2026-08-30T10:00:00Z",
        },
        {
            "name": "llama3.3:70b",
            "model": "llama3.3:70b",
            "size": 48 * GIB,
            "size_vram": 12 * GIB,
            "context_length": 8192,
        },
    ]
}
SLOTS = [
    {"id": 0, "n_ctx": 8192, "is_processing": True, "n_prompt_tokens": 7800},
    {"id": 1, "n_ctx": 8192, "is_processing": False, "n_prompt_tokens": 8192},
    {"id": 2, "n_ctx": 8192, "is_processing": False},
]
METRICS = """# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 6100
# TYPE llamacpp:prompt_seconds_total counter
llamacpp:prompt_seconds_total 30.5
llamacpp:tokens_predicted_total 800
llamacpp:tokens_predicted_seconds_total 2.5e+01
llamacpp:requests_deferred 2
llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position="0"} 5
"""
# As vLLM 0.33 prints its own, beside those of Python's client.
VLLM = """# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{generation="0"} 7.0
vllm:num_requests_running{engine="0",model_name="Qwen/Qwen3-8B"} 3.0
vllm:num_requests_waiting{engine="0",model_name="Qwen/Qwen3-8B"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="Qwen/Qwen3-8B"} 0.92
vllm:prompt_tokens_total{engine="0",model_name="Qwen/Qwen3-8B"} 120000.0
vllm:generation_tokens_total{engine="0",model_name="Qwen/Qwen3-8B"} 4000.0
vllm:cache_config_info{block_size="16",cache_dtype="auto",num_gpu_blocks="5000",sliding_window="None"} 1.0
"""
_LABEL = r'[a-z]+="(?:[^"\\\n]|\\["\\n])*"'
_LINE = re.compile(rf"codehub_[a-z_]+(\{{{_LABEL}(,{_LABEL})*\}})? (NaN|[+-]Inf|-?[\d.e+-]+)")


def reading(engine: Engine | None = None, sample: Sample = IDLE) -> Reading:
    return Reading(0.0, sample, engine, monitoring.alerts(sample, engine))


# What engines say.


def test_slots_of_llama_cpp_are_one_cache_with_its_fullest_slot_at_work() -> None:
    engine = monitoring.llama_server("qwen", SLOTS, METRICS)
    assert engine.models == (Held("qwen", 24576, 15992, 3, 1, 7800 / 8192),)
    assert engine.waiting == 2
    assert dict(engine.totals) == {
        "prompt_tokens": 6100,
        "prompt_seconds": 30.5,
        "generated_tokens": 800,
        "generated_seconds": 25.0,
    }


def test_ollama_tells_what_lies_on_the_card_and_its_runner_how_full_the_cache_is() -> None:
    runner = monitoring.llama_server("blob", [{"n_ctx": 16384, "is_processing": True, "n_prompt_tokens": 4096}], "")
    first, second = monitoring.ollama(PS, [runner]).models
    assert (first.model, first.size, first.on_gpu, first.context) == (
        "qwen2.5-coder:14b",
        12 * GIB,
        12 * GIB,
        16384,
    )
    assert (first.used, first.busy, first.fullest) == (4096, 1, 0.25)
    assert (second.on_gpu, second.used, second.slots) == (12 * GIB, None, 0)


def test_two_runners_that_cannot_be_told_apart_are_not_guessed_at() -> None:
    runner = monitoring.llama_server("blob", [{"n_ctx": 16384, "n_prompt_tokens": 1}], "")
    assert [held.used for held in monitoring.ollama(PS, [runner, runner]).models] == [None, None]


def test_vllm_has_one_pool_of_blocks_for_all_requests() -> None:
    engine = monitoring.vllm(VLLM)
    assert engine.models == (Held("Qwen/Qwen3-8B", 80000, 73600, 0, 3, 0.92),)
    assert (engine.waiting, dict(engine.totals)) == (2, {"prompt_tokens": 120000, "generated_tokens": 4000})
    [alert] = monitoring.alerts(IDLE, engine)
    assert (alert.subject, alert.level) == ("KV cache", Level.HIGH)
    assert_is_text_format(monitoring.prometheus(reading(engine)))
    assert monitoring.alerts(IDLE, monitoring.vllm(VLLM.replace("} 3.0", "} 0.0"))) == ()


def test_several_engines_of_vllm_have_a_pool_each_and_one_count() -> None:
    lines = VLLM.splitlines()
    second = [line.replace('engine="0"', 'engine="1"').replace("0.92", "0.10") for line in lines if "vllm:" in line]
    engine = monitoring.vllm("\n".join(lines + second))
    assert engine.models == (Held("Qwen/Qwen3-8B", 160000, 81600, 0, 6, 0.92),)
    assert dict(engine.totals)["prompt_tokens"] == 240000


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["models", "n_ctx", "n_prompt_tokens", "is_processing", "size"]), inner)
    ),
    max_leaves=12,
)


_LISTED = st.fixed_dictionaries(
    {}, optional={"model": st.sampled_from("ab") | _JSON, "size": _JSON, "size_vram": _JSON, "context_length": _JSON}
)


@given(_JSON | st.lists(_LISTED, max_size=3).map(lambda listed: {"models": listed}), st.text(max_size=80))
def test_no_reply_of_an_engine_can_break_the_watch(reply: Any, text: str) -> None:
    engines = [monitoring.llama_server("a", reply, text), monitoring.vllm(text)]
    if isinstance(reply, dict):
        engines.append(monitoring.ollama(reply, engines[:1]))
    for engine in engines:
        assert_is_text_format(monitoring.prometheus(reading(engine)))


# Alert lines.


@pytest.mark.parametrize(
    ("used", "level"), [(89, None), (90, Level.HIGH), (94, Level.HIGH), (95, Level.CRITICAL), (100, Level.CRITICAL)]
)
def test_a_line_stands_at_nine_tenths_and_one_at_nineteen_twentieths(used: int, level: Level | None) -> None:
    crossed = monitoring.alerts(Sample(used, 100, 0, 100, 0, ((used, 100), (0, 100))), None)
    assert [(alert.subject, alert.level) for alert in crossed] == ([("GPU 0", level)] if level else [])


def test_main_memory_has_its_lines_too() -> None:
    [alert] = monitoring.alerts(Sample(0, 0, 31 * GIB, 32 * GIB, 0), None)
    assert (alert.subject, alert.level) == ("RAM", Level.CRITICAL)
    assert "97%" in alert.text


def test_a_full_cache_is_an_alert_only_where_it_is_at_work() -> None:
    [alert] = monitoring.alerts(IDLE, monitoring.llama_server("qwen", SLOTS, ""))
    assert (alert.subject, alert.level) == ("KV cache", Level.CRITICAL)
    idle = [{**slot, "is_processing": False} for slot in SLOTS]
    assert monitoring.alerts(IDLE, monitoring.llama_server("qwen", idle, "")) == ()


def test_two_models_that_cross_one_line_are_one_metric() -> None:
    held = Held("a", 100, 96, 1, 1, 0.96)
    both = Engine("e", up=True, models=(held, Held("b", 100, 99, 1, 1, 0.99)))
    assert len(monitoring.alerts(IDLE, both)) == 2
    assert_is_text_format(monitoring.prometheus(reading(both)))


def test_an_engine_that_is_gone_is_an_alert_with_its_reason() -> None:
    engine = monitoring.gone("ollama", HubError("Nothing answers at http://127.0.0.1:1."))
    assert monitoring.alerts(IDLE, engine) == (
        Alert("engine", Level.CRITICAL, 1.0, "Nothing answers at http://127.0.0.1:1"),
    )


def test_an_engine_that_goes_and_comes_back_is_seen_to_do_so_and_the_history_keeps_the_last() -> None:
    answers = iter([Engine("e", up=True), monitoring.gone("e", HubError("Gone.")), Engine("e", up=True)])
    times = iter([1.0, 2.0, 3.0])
    watched = Monitor(lambda: IDLE, lambda: next(answers), lambda: next(times), history=2)
    assert [bool(watched.read().alerts) for _ in range(3)] == [False, True, False]
    assert [one.at for one in watched.history()] == [2.0, 3.0]


# Prometheus.


def assert_is_text_format(text: str) -> None:
    """Every family with one help and one type before its samples, no sample twice: the exposition format 0.0.4."""
    family, seen = "", set()
    for line in text.removesuffix("\n").split("\n") if text else ():
        if line.startswith("# HELP "):
            family = line.split()[2]
            assert family not in seen
            seen.add(family)
        elif line.startswith("# TYPE "):
            assert line.split()[2:] == [family, "counter" if family.endswith("_total") else "gauge"]
        else:
            assert _LINE.fullmatch(line), line
            assert re.match(r"[a-z_]+", line)[0] == family  # type: ignore[index] # the line above has one
    samples = [line.rsplit(" ", 1)[0] for line in text.split("\n") if line and not line.startswith("#")]
    assert len(samples) == len(set(samples))


def test_metrics_are_in_the_text_format() -> None:
    sample = Sample(3, 8, 4 * GIB, 32 * GIB, 5, ((1, 4), (2, 4)))
    text = monitoring.prometheus(reading(monitoring.llama_server("qwen", SLOTS, METRICS), sample))
    assert_is_text_format(text)
    for line in (
        'codehub_gpu_memory_used_bytes{gpu="1"} 2',
        f"codehub_ram_used_bytes {4 * GIB}",
        'codehub_kv_used_tokens{engine="llama-server",model="qwen"} 15992',
        'codehub_prompt_seconds_total{engine="llama-server"} 30.5',
        'codehub_alerts{subject="KV cache",level="critical"} 1',
    ):
        assert line in text.splitlines()


@given(st.text(max_size=30))
def test_any_name_of_a_model_is_escaped(name: str) -> None:
    held = Held(name, 100, 1, 1, 0, 0.0, 10, 5)
    text = monitoring.prometheus(reading(Engine("ollama", up=True, models=(held,))))
    lines = text.split("\n")
    found = [line for line in lines if line.startswith("codehub_kv_used_tokens")]
    assert len(found) == 1
    inside = found[0].removeprefix('codehub_kv_used_tokens{engine="ollama",model="').removesuffix('"} 1')
    read = re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), inside)
    assert read == name


def test_a_server_of_metrics_reads_anew_for_each_scrape() -> None:
    readings = iter(range(10))
    watched = Monitor(lambda: Sample(0, 0, next(readings), 100, 0), None, lambda: 0.0)
    with monitoring.server(watched, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_address[1]}"
            texts = []
            for _ in range(2):
                with urllib.request.urlopen(f"{address}/metrics", timeout=10) as reply:
                    assert reply.headers["Content-Type"] == monitoring.PROMETHEUS_TYPE
                    texts.append(reply.read().decode())
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{address}/elsewhere", timeout=10)
        finally:
            server.shutdown()
            thread.join(10)
    assert ["codehub_ram_used_bytes 0" in texts[0], "codehub_ram_used_bytes 1" in texts[1]] == [True, True]


def test_an_address_that_is_taken_is_refused_with_a_way_out() -> None:
    watched = Monitor(lambda: IDLE, None, lambda: 0.0)
    with (
        monitoring.server(watched, "127.0.0.1", 0) as server,
        pytest.raises(HubError, match="cannot be served") as refusal,
    ):
        monitoring.server(watched, "127.0.0.1", server.server_address[1])
    assert "--listen" in refusal.value.hint


# The command, over a real server of llama.cpp.


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with llama_server(512, parallel=2) as url:
        body = json.dumps({"prompt": "int main() { return 0; }", "n_predict": 4}).encode()
        request = urllib.request.Request(f"{url}/completion", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            reply.read()
        yield url


def monitored(tmp_path: Path, *arguments: str, url: str = "") -> Done:
    settings = {"CODEHUB_LLAMA_SERVER_URL": url} if url else {"CODEHUB_OLLAMA_HOST": "http://127.0.0.1:1"}
    return run_here(["monitor", *arguments], tmp_path / "data", settings)


def test_once_shows_memory_and_the_cache_of_a_real_server(tmp_path: Path, served: str) -> None:
    done = monitored(tmp_path, "--once", "--json", url=served)
    told = done.json()
    [held] = told["engine"]["models"]
    assert (held["context"], held["slots"], held["busy"]) == (1024, 2, 0)
    assert 8 <= held["used"] <= 40
    assert told["sample"]["ram_total"] > told["sample"]["ram_used"] > 0
    assert done.code == (1 if told["alerts"] else 0)

    text = monitored(tmp_path, "--once", url=served).out
    assert "SmolLM2" in text
    assert "0 of 2 slots at work" in text

    metrics = monitored(tmp_path, "--once", "--prometheus", url=served).out
    assert_is_text_format(metrics)
    assert 'codehub_engine_up{engine="llama-server"} 1' in metrics


def test_once_without_an_engine_shows_the_machine_and_a_named_engine_that_is_gone_is_code_1(tmp_path: Path) -> None:
    done = monitored(tmp_path, "--once", "--json")
    assert done.json()["engine"] is None
    gone = monitored(tmp_path, "--once", url="http://127.0.0.1:1")
    assert gone.code == 1
    assert "CRITICAL" in gone.out


def test_a_server_of_openai_s_interface_is_watched_by_its_metrics_or_is_just_up(tmp_path: Path) -> None:
    for answers, name, models in (({"/metrics": whole(VLLM)}, "vllm", 1), ({"/v1/models": whole({})}, "openai", 0)):
        with ScriptedServer(answers) as server:
            done = run_here(
                ["monitor", "--once", "--json"], tmp_path / "data", {"CODEHUB_OPENAI_URL": f"{server.url}/v1"}
            )
        engine = done.json()["engine"]
        assert (engine["name"], engine["up"], len(engine["models"])) == (name, True, models)


def test_metrics_are_served_until_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COMMAND, "monitor", "--listen", "127.0.0.1:0", "--engine", "none"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(tmp_path / "data")) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://\S+/metrics", process.stdout.readline())
            assert address
            with urllib.request.urlopen(address[0], timeout=30) as reply:
                assert_is_text_format(reply.read().decode())
            process.send_signal(2)
            assert process.wait(30) == 130
        finally:
            process.kill()


def test_lines_of_json_come_until_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COMMAND, "monitor", "--json", "--interval", "0.1", "--engine", "none"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(tmp_path / "data")) as process:
        try:
            assert process.stdout is not None
            lines = [json.loads(process.stdout.readline()) for _ in range(3)]
            assert lines[0]["at"] < lines[1]["at"] < lines[2]["at"]
            process.send_signal(2)
            assert process.wait(30) == 130
        finally:
            process.kill()


@pytest.mark.parametrize("wrong", [("--interval", "0"), ("--interval", "x"), ("--listen", "host:port"), ("--pid", "0")])
def test_a_wrong_option_is_a_sentence_and_code_2(tmp_path: Path, wrong: tuple[str, str]) -> None:
    done = monitored(tmp_path, *wrong)
    assert done.code == 2
    assert wrong[0] in done.err


def test_the_view_of_a_terminal_has_bars_a_trend_and_alerts() -> None:
    from rich.console import Console

    from hub.cli.monitoring import _view

    sample = Sample(23 * GIB, 24 * GIB, 4 * GIB, 32 * GIB, 2 * GIB, ((23 * GIB, 24 * GIB),))
    now = reading(monitoring.ollama(PS), sample)
    before = reading(sample=Sample(3 * GIB, 24 * GIB, 4 * GIB, 32 * GIB, 0, ((3 * GIB, 24 * GIB),)))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(_view(now, (reading(), before, now)))
    text = console.export_text()
    for part in ("GPU 0", "23.00 / 24.00 GiB", "96%", "▂█", "RAM", "qwen2.5-coder:14b", "of the memory of the card"):
        assert part in text
    assert all(len(line) <= 80 for line in text.splitlines())
