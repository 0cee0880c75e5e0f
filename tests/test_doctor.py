"""The doctor's lines one by one: on machines made of files, on real sockets, keys, logs and certificates."""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import config, health
from hub.auth.audit import AuditLog
from hub.auth.model import ALL_WORKSPACES, LOCAL, Grant, Scope
from hub.auth.store import KeyRing
from hub.backends.ollama import OllamaBackend
from hub.capacity.host import Places
from hub.capacity.nvml import Card, Reading
from hub.cli import main
from hub.config import Settings
from hub.health import Checklist, Finding, Grade, Surroundings, certificates, engines, folder, machine, serving
from hub.model import GenerationOptions, Prompt
from indexer.index import DataFolder, Index
from indexer.pipeline import ignore_progress
from tests.support import scripted_server
from tests.support.command import held_by_another_process
from tests.support.fake_ollama import FakeOllama
from tests.support.scripted_server import Answer, ScriptedServer, whole
from tests.support.trees import COUNTER, contents, index_of, write_tree

DAY_S = 86_400.0
NOW = 1_795_000_000.0  # in November 2026
BOUND_S = 20.0
OK, WARNING, FAILED = Grade.OK, Grade.WARNING, Grade.FAILED
CARD = Card("NVIDIA GeForce RTX 4080", 16 << 30, 1 << 30)


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    """A machine that tells nothing of itself yet: tests write what it tells below proc, sys and root."""
    settings = Settings(tmp_path / "data", backend="none", embeddings="none")
    places = Places(tmp_path / "proc", tmp_path / "sys")
    return Surroundings(settings, places, tmp_path / "root", lambda: NOW, lambda: Reading(()))


def told(file: Path, text: str | bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())


def having(around: Surroundings, **changes: Any) -> Surroundings:
    return replace(around, settings=replace(around.settings, **changes))


def line(around: Surroundings, subject: str) -> Finding:
    (found,) = (one for one in health.examine(around.settings, around) if one.subject == subject)
    return found


# The whole


def test_every_line_of_the_doctor_is_explained_in_its_page() -> None:
    page = (Path(__file__).parent.parent / "docs" / "doctor.md").read_text(encoding="utf-8")
    for check in health._CHECKS:
        assert f"| {check.subject} |" in page, check.subject


def test_a_checklist_has_all_its_lines_and_no_others(around: Surroundings) -> None:
    single = [one.subject for one in health.examine(around.settings, replace(around, checklist=Checklist.SINGLE))]
    assert single == [
        *("python", "sqlite", "git", "graphics card", "memory", "data folder", "ollama", "language model"),
        *("connection", "workspaces"),
    ]
    team = [one.subject for one in health.examine(around.settings, replace(around, checklist=Checklist.TEAM))]
    wanted = {"system", "driver", "vllm service", "proxy", "tls", "firewall", "keys", "audit log", "backup", "reach"}
    assert wanted <= set(team)
    assert "libclang" not in team


def test_a_check_that_hangs_costs_its_own_line_alone(around: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LIMIT_S", 0.2)
    over = threading.Event()

    def asleep() -> Reading:
        over.wait(BOUND_S)
        return Reading(())

    found = {one.subject: one for one in health.examine(around.settings, replace(around, ask_cards=asleep))}
    over.set()
    assert found["graphics card"].grade is FAILED
    assert found["graphics card"].detail.startswith("no answer within")
    assert found["memory"].grade is WARNING  # it is looked at all the same
    assert found["settings"].grade is OK


TEXTS = st.text(st.sampled_from("ab.:/[]@*=%0159 http-é\0"), max_size=12)
LISTS = st.lists(TEXTS, max_size=3).map(tuple)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("server_hosts", "server_origins", "server_proxies", "webhooks_repositories"), LISTS),
            **dict.fromkeys(("server_tls_certificate", "server_tls_key", "server_socket"), TEXTS),
            "server_host": st.sampled_from(
                ["", "0.0.0.0", "::", "::1", "127.0.0.1", "300.1.1.1", "[", "1.2.3.4/5", "\0"]
            ),
            "server_port": st.integers(0, 65_535),
            "webhooks_github_secret": TEXTS,
            "openai_key": TEXTS,
        },
    ),
    TEXTS,
)
def test_no_settings_of_a_server_make_the_doctor_fall_over(changes: dict[str, Any], url: str) -> None:
    settings = Settings(Path("/nowhere"), backend="none", embeddings="none", **changes)
    settings = replace(
        settings, openai_url=f"http://{url}", llama_server_url=url, ollama_host=url, vectors=f"https://{url}"
    )
    here = Surroundings(settings, Places(Path("/nowhere"), Path("/nowhere")), Path("/nowhere"), lambda: NOW)
    for check in health._CHECKS:
        if check.group is health.Group.SERVER:
            for finding in health._looked(check, here):
                assert finding.grade is OK or finding.hint, finding


def commanded(data: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    code = main(["doctor", *options, "--data", str(data)])
    return code, capsys.readouterr().out


@pytest.fixture
def _quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("CODEHUB_", "OLLAMA_"))]:
        monkeypatch.delenv(name)
    for name, value in (("BACKEND", "none"), ("EMBEDDINGS", "none"), ("CONFIG", str(tmp_path / "empty.toml"))):
        monkeypatch.setenv(f"CODEHUB_{name}", value)
    (tmp_path / "empty.toml").touch()


@pytest.mark.usefixtures("_quiet")
def test_the_command_tells_group_by_group_and_ends_with_a_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEHUB_SERVER_HOST", "0.0.0.0")
    code, text = commanded(tmp_path / "data", capsys, "--team")
    assert code == 2
    lines = text.splitlines()
    groups = ["machine:", "data folder:", "models:", "indexes:", "server:"]
    assert [one for one in lines if one in groups] == groups
    assert any(one.startswith("failed   reach: 0.0.0.0, beyond this machine") for one in lines)
    assert lines[-1].endswith("failed")
    assert not (tmp_path / "data").exists()


@pytest.mark.usefixtures("_quiet")
def test_the_command_mends_and_says_what_it_did_as_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o755)
    code, text = commanded(data, capsys, "--fix", "--json")
    answer = json.loads(text)
    assert code == 0
    assert [entry["subject"] for entry in answer["fixed"]] == ["permissions"]
    (permissions,) = (one for one in answer["findings"] if one["subject"] == "permissions")
    assert permissions["grade"] == "ok"
    assert set(permissions) == {"subject", "grade", "detail", "hint", "group", "fixable"}


# The machine


def test_cards_and_their_driver(around: Surroundings) -> None:
    version = around.places.proc / "driver/nvidia/version"
    assert machine.cards(around).detail.startswith("none found")
    assert machine.driver(around).grade is OK
    told(version, "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 2024\nGCC version: 12\n")
    broken = machine.driver(replace(around, ask_cards=lambda: Reading((), "Driver/library version mismatch.")))
    assert (broken.grade, "550.54.14" in broken.detail, "mismatch" in broken.detail) == (WARNING, True, True)
    whole_ = replace(around, ask_cards=lambda: Reading((CARD,)))
    assert machine.driver(whole_) == Finding("driver", OK, "NVIDIA 550.54.14")
    assert machine.cards(whole_).detail == "NVIDIA GeForce RTX 4080, 16.0 GiB, 1.0 used"


def test_the_open_kernel_module_tells_its_version_too(around: Surroundings) -> None:
    version = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n"
    told(around.places.proc / "driver/nvidia/version", version)
    assert machine.driver(replace(around, ask_cards=lambda: Reading((CARD,)))).detail == "NVIDIA 570.86.15"


def test_a_card_of_nvidias_without_their_driver_is_told(around: Surroundings) -> None:
    told(around.places.sys / "class/drm/card0/device/vendor", "0x10de\n")
    assert machine.driver(around).grade is WARNING


@pytest.mark.parametrize(
    ("free_kib", "swap", "grade"),
    [
        (16 << 20, "SwapTotal: 0 kB\nSwapFree: 0 kB\n", OK),
        (16 << 20, "SwapTotal: 8388608 kB\nSwapFree: 8388608 kB\n", OK),
        (16 << 20, "SwapTotal: 8388608 kB\nSwapFree: 1048576 kB\n", WARNING),
        (2 << 20, "SwapTotal: 0 kB\nSwapFree: 0 kB\n", WARNING),
    ],
)
def test_memory_is_enough_and_not_swapped_out(around: Surroundings, free_kib: int, swap: str, grade: Grade) -> None:
    told(around.places.proc / "meminfo", f"MemTotal: {free_kib} kB\nMemAvailable: {free_kib // 2} kB\n{swap}")
    assert machine.memory(around).grade is grade


def test_few_watches_are_told_with_the_line_that_allows_more(around: Surroundings) -> None:
    assert machine.watches(around).grade is OK
    for name, number in (("max_user_watches", 8_192), ("max_user_instances", 128)):
        told(around.places.proc / "sys/fs/inotify" / name, f"{number}\n")
    found = machine.watches(around)
    assert (found.grade, found.detail) == (WARNING, "8,192 watches, 128 instances a user")
    assert "fs.inotify.max_user_watches=" in found.hint


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("user/max_user_namespaces", "0\n"),
        ("kernel/unprivileged_userns_clone", "0\n"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1\n"),
    ],
)
def test_what_keeps_builds_from_being_run_apart_is_named(around: Surroundings, file: str, text: str) -> None:
    before = machine.sandbox(around).detail
    told(around.places.proc / "sys" / file, text)
    found = machine.sandbox(around)
    assert found.grade is WARNING
    assert found.detail != before


def test_a_clock_that_cannot_be_right_fails(around: Surroundings) -> None:
    assert machine.clock(replace(around, clock=lambda: 0.0)).grade is FAILED
    told(around.root / "run/systemd/timesync/synchronized", "")
    assert machine.clock(around).detail.endswith("synchronized")


# The data folder


@pytest.mark.parametrize(
    ("kind", "grade"), [("ext4", OK), ("btrfs", OK), ("nfs4", WARNING), ("cifs", WARNING), ("tmpfs", WARNING)]
)
def test_the_kind_of_file_system_is_that_of_the_innermost_mount(
    around: Surroundings, tmp_path: Path, kind: str, grade: Grade
) -> None:
    spelt = str(tmp_path).replace(" ", "\\040")
    told(
        around.places.proc / "self/mountinfo",
        f"22 1 8:1 / / rw shared:1 - xfs /dev/sda1 rw\n23 22 0:5 / {spelt} rw - {kind} source rw\n"
        f"24 22 0:6 / {spelt}-other rw - nfs other rw\nno line of it\n",
    )
    found = folder.file_system(around)
    assert (found.grade, kind in found.detail) == (grade, True)


def test_what_others_may_read_is_named_and_closed(around: Surroundings) -> None:
    data = around.settings.data
    data.mkdir()
    for name in ("keys.db", "audit.jsonl"):
        told(data / name, "")
        (data / name).chmod(0o644)
    (data / "jobs.db").symlink_to("/etc/hostname")
    data.chmod(0o750)
    found = folder.permissions(around)
    assert (found.grade, found.fixable) == (WARNING, True)
    assert all(str(path) in found.detail for path in (data, data / "keys.db", data / "audit.jsonl"))
    fixed = list(health.fix(around.settings, ignore_progress))
    assert [entry.subject for entry in fixed] == ["permissions"] * 3
    assert folder.permissions(around).grade is OK
    assert data.stat().st_mode & 0o777 == 0o700
    assert (data / "keys.db").stat().st_mode & 0o777 == 0o600
    assert list(health.fix(around.settings, ignore_progress)) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone gives a folder to others")
def test_a_folder_of_another_user_fails(around: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    around.settings.data.mkdir()
    os.chown(around.settings.data, 4242, 4242)
    assert folder.permissions(around).grade is FAILED
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    around.settings.data.chmod(0o700)
    assert folder.permissions(around).grade is OK


def test_what_a_server_that_is_gone_left_is_taken_away_and_that_of_a_running_one_never(around: Surroundings) -> None:
    data = around.settings.data
    data.mkdir(mode=0o700)
    local = data / "server.sock"
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(local))
        listening.listen()
        running = {"pid": os.getpid(), "socket": str(local), "url": "http://127.0.0.1:1", "version": "0"}
        told(data / "server.json", json.dumps(running))
        (data / "server.json").chmod(0o600)
        assert folder.leftovers(around).grade is OK
        assert serving.server(around).detail.endswith("and this command is 0.1.0")
        told(data / "server.json", json.dumps({**running, "version": "0.1.0", "settings": "others"}))
        assert serving.server(around).detail.endswith("it answers by other settings than these")
        same = config.fingerprint(around.settings)
        told(data / "server.json", json.dumps({**running, "version": "0.1.0", "settings": same}))
        assert serving.server(around) == Finding("server", OK, f"process {os.getpid()} at http://127.0.0.1:1")
        assert list(health.fix(around.settings, ignore_progress)) == []
    told(data / "server.json", json.dumps({**running, "pid": ended_process()}))
    found = folder.leftovers(around)
    assert (found.grade, found.detail) == (WARNING, "server.json, server.sock")
    assert [entry.done for entry in health.fix(around.settings, ignore_progress)] == [
        "server.json was taken away",
        "server.sock was taken away",
    ]
    assert not local.exists()
    assert folder.leftovers(around).grade is OK


def ended_process() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait(BOUND_S)
    return process.pid


def test_a_socket_that_does_not_answer_fails_although_its_process_lives(around: Surroundings) -> None:
    data = around.settings.data
    data.mkdir()
    told(data / "server.json", json.dumps({"pid": os.getpid(), "socket": str(data / "no.sock"), "version": "0.1.0"}))
    assert serving.server(around).grade is FAILED


def test_half_made_workspaces_are_taken_away_and_indexes_stay_as_they_are(around: Surroundings, tmp_path: Path) -> None:
    data = around.settings.data
    index_of(write_tree(tmp_path / "tree", dict(COUNTER)), data)
    (name,) = (workspace.name for workspace in DataFolder(data).workspaces())
    with Index.for_reading(DataFolder(data), name) as index:
        before = contents(index)
    told(data / "workspaces" / "torn" / "workspace.json.new", "{}")
    told(data / "workspaces" / name / "workspace.json.new", "{}")
    told(data / "workspaces" / "without-index" / "workspace.json", '{"root": "/nowhere"}')
    told(data / "workspaces" / "without-card" / "index.db", "")
    assert set(folder.leftovers(around).detail.split(", ")) == {
        "workspaces/torn",
        f"workspaces/{name}/workspace.json.new",
    }
    with held_by_another_process(data):
        (fixed,) = (one for one in health.fix(around.settings, ignore_progress) if one.subject == "data folder")
        assert fixed.done.startswith("left as it is: ")
        assert (data / "workspaces" / "torn").exists()
    list(health.fix(around.settings, ignore_progress))
    assert folder.leftovers(around).grade is OK
    assert {"without-index", "without-card"} < {path.name for path in (data / "workspaces").iterdir()}
    with Index.for_reading(DataFolder(data), name) as index:
        assert contents(index) == before


@pytest.mark.parametrize(("days", "grade"), [(0.5, OK), (6.9, OK), (7.1, WARNING)])
def test_an_old_backup_is_told(around: Surroundings, days: float, grade: Grade) -> None:
    told(around.settings.data / "workspaces" / "w" / "workspace.json", "{}")
    told(around.settings.data / "backup.json", json.dumps({"at": NOW - days * DAY_S, "path": "/b"}))
    assert folder.backups(around).grade is grade


def test_no_backup_is_a_warning_for_a_team_and_where_there_are_keys(around: Surroundings) -> None:
    told(around.settings.data / "workspaces" / "w" / "workspace.json", "{}")
    assert folder.backups(around).grade is OK
    assert folder.backups(replace(around, checklist=Checklist.TEAM)).grade is WARNING
    told(around.settings.data / "backup.json", "[]")
    told(around.settings.data / "keys.db", "")
    assert folder.backups(around).grade is WARNING


# Models


def ollama_started_with(around: Surroundings, **variables: str) -> Finding:
    told(around.places.proc / "77" / "cmdline", "/usr/bin/ollama\0serve\0")
    told(around.places.proc / "77" / "environ", "".join(f"{name}={value}\0" for name, value in variables.items()))
    found = engines.ollama_environment(around)
    assert found
    return found


def test_what_ollama_was_started_with_is_judged(around: Surroundings) -> None:
    assert engines.ollama_environment(around) is None
    assert ollama_started_with(around, OLLAMA_FLASH_ATTENTION="1", OLLAMA_KV_CACHE_TYPE="q8_0").grade is OK
    assert ollama_started_with(around, PATH="/bin").grade is WARNING
    for host in ("0.0.0.0", "0.0.0.0:11434", "http://0.0.0.0:11434", "[::]:11434", ":11434"):
        found = ollama_started_with(around, OLLAMA_FLASH_ATTENTION="1", OLLAMA_HOST=host)
        assert (found.grade, "everyone on the network" in found.detail) == (WARNING, True), host
    assert ollama_started_with(around, OLLAMA_FLASH_ATTENTION="1", OLLAMA_HOST="127.0.0.1").grade is OK
    assert ollama_started_with(around, OLLAMA_FLASH_ATTENTION="1", OLLAMA_ORIGINS="*").grade is WARNING


def test_a_model_server_is_asked_what_it_serves(around: Surroundings) -> None:
    with ScriptedServer(scripted_server.vllm(model="m")) as server:
        right = having(around, backend="openai", openai_url=f"{server.url}/v1", openai_model="m")
        assert line(right, "vllm service").grade is OK
        assert line(right, "connection").grade is OK
        wrong = line(having(right, openai_model="other"), "vllm service")
        assert (wrong.grade, "serves m, not other" in wrong.detail) == (FAILED, True)
    away = line(right, "vllm service")
    assert (away.grade, "does not answer" in away.detail) == (FAILED, True)
    assert line(right, "connection").grade is FAILED


def test_a_server_of_vectors_is_known_by_its_heartbeat(around: Surroundings) -> None:
    beating: dict[str, Answer] = {"/api/v2/heartbeat": whole({"nanosecond heartbeat": 1})}
    with ScriptedServer(beating) as server:
        assert line(having(around, vectors=server.url), "chroma server").grade is OK
    page: dict[str, Answer] = {"/api/v2/heartbeat": whole("a page")}
    with ScriptedServer(page) as server:
        assert line(having(around, vectors=server.url), "chroma server").grade is FAILED


def test_ollama_is_asked_for_its_version_its_models_and_what_is_loaded(around: Surroundings) -> None:
    with FakeOllama() as fake:
        here = having(around, backend="ollama", ollama_host=fake.url)
        found = line(here, "ollama")
        assert (found.grade, f"at {fake.url}" in found.detail) == (OK, True)
        missing = line(having(here, ollama_model="nowhere:1b"), "ollama")
        assert (missing.grade, missing.hint) == (FAILED, "ollama pull nowhere:1b")
        assert line(here, "context").detail.startswith("no model is loaded")
        model = fake.models[0].name
        with closing(OllamaBackend(fake.url, model, num_ctx=4_096)) as backend:
            list(backend.stream(Prompt("", "What?", (), (), 2), GenerationOptions(max_tokens=4)))
        small = line(having(here, ollama_context=16_384), "context")
        assert (small.grade, "4096 tokens, 16384" in small.detail) == (WARNING, True)
        assert line(having(here, ollama_context=4_096), "context").grade is OK
    gone = line(here, "ollama")
    assert (gone.grade, "does not answer" in gone.detail) == (FAILED, True)
    assert line(having(here, backend="auto"), "ollama").grade is WARNING


@pytest.mark.parametrize("backend", ["openai", "llama-server", "ollama"])
@pytest.mark.parametrize("listens", [True, False])
def test_a_password_in_an_address_is_not_shown(around: Surroundings, backend: str, *, listens: bool) -> None:
    secret = "hidden-in-it"
    with ScriptedServer(scripted_server.vllm(model="m")) as server:
        there = server.url.removeprefix("http://")
    with ScriptedServer(scripted_server.vllm(model="m")) as server:
        address = f"http://u:{secret}@{server.url.removeprefix('http://') if listens else there}"
        urls = dict.fromkeys(("vectors", "openai_url", "llama_server_url", "ollama_host"), address)
        chosen = having(around, backend=backend, openai_key="k", **urls)
        for checklist in (None, *Checklist):
            for found in health.examine(chosen.settings, replace(chosen, checklist=checklist)):
                assert secret not in found.detail + found.hint, found.subject


# The server


def test_without_a_server_its_lines_are_few_and_with_one_they_are_all_there(around: Surroundings) -> None:
    few = [one.subject for one in health.examine(around.settings, around) if one.group is health.Group.SERVER]
    assert few == ["server", "firewall", "settings"]
    meant = having(around, server_port=0)
    all_of_them = [one.subject for one in health.examine(meant.settings, meant) if one.group is health.Group.SERVER]
    assert {"reach", "tls", "proxy", "keys", "audit log", "port", "local socket"} < set(all_of_them)


def test_a_port_that_another_program_has_is_told(around: Surroundings) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        taken = other.getsockname()[1]
        assert serving.port(having(around, server_port=taken)).grade is WARNING
    assert serving.port(having(around, server_port=taken)).grade is OK


def test_the_local_socket_lies_where_nobody_else_can_put_one(around: Surroundings, tmp_path: Path) -> None:
    assert serving.local_socket(around).grade is OK
    shared = tmp_path / "shared"
    shared.mkdir()
    chosen = having(around, server_socket=str(shared / "hub.sock"))
    assert serving.local_socket(chosen).grade is OK
    shared.chmod(0o777)
    assert serving.local_socket(chosen).grade is WARNING
    assert serving.local_socket(having(around, server_socket=f"/{'x' * 120}")).grade is FAILED


@pytest.mark.parametrize(
    ("changes", "grade"),
    [
        ({}, OK),
        ({"server_host": "::1"}, OK),
        ({"server_host": "0.0.0.0"}, FAILED),
        ({"server_host": "10.1.2.3", "server_allow_plain": True}, WARNING),
        ({"server_host": "10.1.2.3", "server_allow_plain": True, "server_proxies": ("10.1.2.4",)}, OK),
        ({"server_host": "10.1.2.3", "server_tls_certificate": "c", "server_tls_key": "k"}, OK),
    ],
)
def test_who_can_reach_the_server_and_read_along(around: Surroundings, changes: dict[str, Any], grade: Grade) -> None:
    assert serving.reach(having(around, **changes)).grade is grade


@pytest.mark.parametrize(
    ("changes", "grade"),
    [
        ({}, OK),
        ({"server_hosts": ("hub.example",)}, WARNING),
        ({"server_hosts": ("hub.example",), "server_proxies": ("127.0.0.1",)}, OK),
        ({"server_proxies": ("proxy.example",)}, FAILED),
        ({"server_proxies": ("0.0.0.0/0",)}, FAILED),
        ({"server_proxies": ("172.30.42.0/28",)}, OK),
    ],
)
def test_whose_word_is_taken(around: Surroundings, changes: dict[str, Any], grade: Grade) -> None:
    assert serving.proxy(having(around, **changes)).grade is grade


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"server_hosts": ("*",)}, "hosts takes any name"),
        ({"server_origins": ("*",)}, "origins takes any web page"),
        ({"server_origins": ("http://chat.example",)}, "can be changed on its way"),
        ({"server_hosts": ("h.example",), "server_metrics": "open"}, "metrics is open"),
        ({"server_hosts": ("h.example",), "secrets_redact": False}, "redact is off"),
        ({"server_body_kilobytes": 1 << 20}, "fill memory"),
        ({"webhooks_repositories": ("a/b=w",)}, "without a secret"),
        ({"webhooks_repositories": ("a/b=w",), "webhooks_github_secret": "s"}, "no workspace 'w'"),
        ({"webhooks_repositories": ("nonsense",), "webhooks_github_secret": "s"}, "not like owner/name"),
        ({"openai_url": "http://models.example.org", "openai_key": "k"}, "without TLS"),
        ({"vectors": "http://8.8.8.8:8000"}, "without TLS"),
    ],
)
def test_settings_that_are_unsafe_together_are_named(around: Surroundings, changes: dict[str, Any], words: str) -> None:
    found = list(serving.together(having(around, **changes)))
    assert [words in one.detail for one in found].count(True) == 1
    assert all(one.grade is not OK for one in found)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"server_origins": ("http://127.0.0.1:3000", "https://chat.example")},
        {"server_metrics": "open", "secrets_redact": False},
        {"openai_url": "http://10.0.0.5:8000", "openai_key": "k"},
        {"openai_url": "http://vllm:8000", "openai_key": "k"},
        {"vectors": "http://127.0.0.1:8000"},
    ],
)
def test_settings_that_are_safe_together_are_not(around: Surroundings, changes: dict[str, Any]) -> None:
    assert [one.grade for one in serving.together(having(around, **changes))] == [OK]


TCP = "  sl  local_address rem_address   st tx_queue\n"


@pytest.mark.parametrize(
    ("name", "address", "state", "grade"),
    [
        ("tcp", "0100007F:2CAA", "0A", OK),  # 127.0.0.1:11434
        ("tcp", "00000000:2CAA", "0A", WARNING),  # 0.0.0.0
        ("tcp", "0200000A:2CAA", "0A", WARNING),  # 10.0.0.2
        ("tcp", "00000000:2CAA", "01", OK),  # a connection, nobody listens
        ("tcp", "00000000:0050", "0A", OK),  # not ours
        ("tcp6", "00000000000000000000000001000000:2CAA", "0A", OK),  # ::1
        ("tcp6", "00000000000000000000000000000000:2CAA", "0A", WARNING),  # ::
        ("tcp6", "0000000000000000FFFF00000100007F:2CAA", "0A", OK),  # ::ffff:127.0.0.1
    ],
)
def test_a_model_that_the_network_reaches_without_a_key_is_told(
    around: Surroundings, name: str, address: str, state: str, grade: Grade
) -> None:
    told(around.places.proc / "net" / name, f"{TCP}   0: {address} 00000000:0000 {state} 00000000:00000000\nshort\n")
    assert serving.exposure(around).grade is grade


def test_signs_of_a_firewall(around: Surroundings) -> None:
    team = replace(around, checklist=Checklist.TEAM)
    assert serving.exposure(team).grade is WARNING
    told(around.root / "etc/nftables.conf", "chain input { type filter hook input priority 0; policy drop; }")
    assert serving.exposure(team).grade is OK


def test_keys_that_should_go_are_named_by_their_ids(around: Surroundings) -> None:
    file = around.settings.data / "keys.db"
    around.settings.data.mkdir()
    made: dict[str, str] = {}
    for name, scope, age_days, expires_at in (
        ("old", Scope.ADMIN, 200, None),
        ("new", Scope.ADMIN, 1, None),
        ("endless", Scope.READ, 1, None),
        ("idle", Scope.READ, 40, NOW + 90 * DAY_S),
        ("expired", Scope.ADMIN, 400, NOW - DAY_S),
    ):
        with closing(KeyRing(file, lambda age=age_days: NOW - age * DAY_S)) as ring:  # type: ignore[misc]
            made[name] = ring.create(name, [Grant(ALL_WORKSPACES, frozenset({scope}))], expires_at).record.key_id
    with closing(KeyRing(file, lambda: NOW)) as ring:
        ring.revoke(ring.create("gone", [Grant("w", frozenset({Scope.READ}))]).record.key_id)
    found = {one.subject: one for one in serving.keys(around)}
    assert found["keys"].detail == "4 in use, 2 of them of administrators"
    assert made["old"] in found["old keys"].detail
    assert made["new"] not in found["old keys"].detail
    assert made["endless"] in found["endless keys"].detail
    assert {name for name, key in made.items() if key in found["idle keys"].detail} == {"old", "idle"}
    assert not any(made["expired"] in one.detail for one in found.values())


def test_a_server_for_others_without_any_key_fails(around: Surroundings) -> None:
    (alone,) = serving.keys(around)
    assert alone.grade is OK
    (named,) = serving.keys(having(around, server_hosts=("hub.example",)))
    assert named.grade is FAILED


def test_an_audit_log_that_somebody_has_changed_fails(around: Surroundings) -> None:
    file = around.settings.data / "audit.jsonl"
    log = AuditLog(file, lambda: NOW)
    for number in range(3):
        log.append(LOCAL, "key.create", "", "done", {"number": number})
    assert serving.audit(around).detail == "3 entries, none of them changed"
    file.write_text(file.read_text(encoding="utf-8").replace('"number":1', '"number":7', 1), encoding="utf-8")
    found = serving.audit(around)
    assert (found.grade, "is not as it was written" in found.detail) == (FAILED, True)


# Certificates


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs made by openssl: for two names, for a star, and one that ran out before it began."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not here")
    place = tmp_path_factory.mktemp("tls")
    for name, names in (("good", "DNS:hub.example,DNS:*.team.example,IP:10.0.0.7"), ("other", "DNS:other.example")):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-subj", "/CN=codehub", "-addext", f"subjectAltName={names}", "-days", "90"]
        command += ["-addext", "basicConstraints=critical,CA:FALSE"]
        made(*command, "-keyout", str(place / f"{name}.key"), "-out", str(place / f"{name}.crt"))
        (place / f"{name}.key").chmod(0o600)
    signing = ["-signkey", str(place / "good.key"), "-days", "-1"]
    made("openssl", "x509", "-in", str(place / "good.crt"), *signing, "-out", str(place / "out.crt"))
    return place


def made(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=BOUND_S)


def certified(around: Surroundings, certificate: Path, key: Path, *hosts: str) -> Finding:
    changes = {"server_tls_certificate": str(certificate), "server_tls_key": str(key), "server_hosts": hosts}
    return serving.tls(having(replace(around, clock=time.time), **changes))


def test_a_certificate_is_good_for_its_key_its_names_and_some_days(around: Surroundings, tls: Path) -> None:
    good, key = tls / "good.crt", tls / "good.key"
    assert certified(around, good, key, "hub.example", "a.team.example", "10.0.0.7").grade is OK
    for strange in ("evil.example", "a.b.team.example", "team.example", "10.0.0.8"):
        found = certified(around, good, key, "hub.example", strange)
        assert (found.grade, strange in found.detail) == (FAILED, True)
    later = replace(around, clock=lambda: time.time() + 80 * DAY_S)
    chosen = {"server_tls_certificate": str(good), "server_tls_key": str(key)}
    assert serving.tls(having(later, **chosen)).grade is WARNING
    assert serving.tls(having(replace(around, clock=lambda: time.time() + 91 * DAY_S), **chosen)).grade is FAILED


def test_what_is_wrong_with_a_pair_is_said_in_words(around: Surroundings, tls: Path, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    told(nonsense, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    nonsense.chmod(0o600)
    for certificate, key, words in (
        (tls / "good.crt", tls / "other.key", "is not the key of"),
        (tls / "out.crt", tls / "good.key", "has run out"),
        (nonsense, tls / "good.key", "cannot be used"),
        (tls / "missing.crt", tls / "good.key", "cannot be read"),
        (tls / "good.crt", tls / "missing.key", "cannot be read"),
    ):
        found = certified(around, certificate, key)
        assert (found.grade, words in found.detail) == (FAILED, True), found.detail


def test_a_key_that_everybody_may_read_fails(around: Surroundings, tls: Path, tmp_path: Path) -> None:
    copy = tmp_path / "open.key"
    shutil.copy(tls / "good.key", copy)
    copy.chmod(0o644)
    found = certified(around, tls / "good.crt", copy)
    assert (found.grade, found.hint) == (FAILED, f"chmod 0600 {copy}")
    copy.chmod(0o640)
    assert certified(around, tls / "good.crt", copy).grade is OK


LABELS = st.text(st.sampled_from("abcXYZ019-"), min_size=1, max_size=5)


@given(st.lists(LABELS, min_size=2, max_size=4), LABELS)
def test_a_star_stands_for_one_label_whatever_the_case(labels: list[str], other: str) -> None:
    host = ".".join(labels)
    star = certificates.Certificate((f"*.{'.'.join(labels[1:])}",), 0.0)
    assert star.names_host(host)
    assert star.names_host(host.upper())
    assert not star.names_host(f"{other}.{host}")
    assert certificates.Certificate((host,), 0.0).names_host(host.swapcase() + ".")
