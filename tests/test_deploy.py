"""What deploy/ holds: linted by the tools made for it, held against each other, and loaded where codehub reads it."""

import ipaddress
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from hub import config, health, wiring
from hub.capacity.host import Places
from hub.capacity.profile import Engine, settle
from hub.capacity.profile.renderings import Form, render
from hub.config import Settings
from hub.health import serving

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
CONFIGS = sorted((DEPLOY / "config").glob("codehub*.toml"))
BOUND_S = 60
# Exposure by `systemd-analyze security`, times ten: 0 is sealed off, 100 is open. A card has to be reached by vLLM.
MOST_EXPOSED = {"codehub.service": 15, "codehub-backup.service": 12, "vllm.service": 36}
MOST_EXPOSED_WITH_DROP_IN = 35  # namespaces, mounts and their calls, for a sandbox of its own
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)

yaml: Any = pytest.importorskip("yaml")


def tool(name: str) -> str:
    """A program beside this Python or on the path; the test is left out without."""
    found = shutil.which(name, path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    if found is None:
        pytest.skip(f"{name} is not here")
    return found


def ran(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=BOUND_S, check=False)


def lines_of(unit: Path) -> list[tuple[str, str]]:
    """The settings of a unit in their order, without comments."""
    text = unit.read_text(encoding="utf-8")
    return re.findall(r"(?m)^(\w+)=(.*)$", text)


def loaded(file: Path) -> Settings:
    return config.load({}, {"CODEHUB_CONFIG": str(file)}, file.parent)


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


# The image


def test_hadolint_finds_nothing_to_say_of_the_dockerfile() -> None:
    done = ran(tool("hadolint"), "--failure-threshold", "style", DEPLOY / "Dockerfile")
    assert (done.stdout, done.returncode) == ("", 0)


def instructions() -> list[tuple[str, str]]:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^#.*\n", "", text))
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines()) if name]


def test_the_image_runs_as_nobody_in_particular_and_says_whether_it_is_well() -> None:
    stages = [number for number, (name, _) in enumerate(instructions()) if name == "FROM"]
    last = dict(instructions()[stages[-1] :])
    assert len(stages) == 2, "what builds does not run"
    user, _, group = last["USER"].partition(":")
    assert int(user) >= 10_000
    assert int(group) >= 10_000
    assert '"/healthz"' in last["HEALTHCHECK"].replace("'", '"')
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert last["ENTRYPOINT"] == '["/opt/codehub/bin/codehub"]'
    for name, rest in instructions():
        assert name != "ADD"
        assert name not in {"ARG", "ENV"} or not SECRET.search(rest)


def test_everything_that_is_copied_is_there_and_let_through_and_nothing_else_is() -> None:
    rules = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").split("\n")
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    copied = [
        source
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert rules[0] == "*"
    assert sorted(rule.removeprefix("!") for rule in rules if rule.startswith("!")) == sorted(copied)
    assert all((ROOT / source).exists() for source in copied)
    kept_out = [rule.removeprefix("**/") for rule in rules[1:] if not rule.startswith("!")]
    assert all(any(fnmatch(name, rule) for rule in kept_out) for name in (".env", ".env.local", "a.pem", "a.key"))


# Compose


def test_compose_files_say_only_what_compose_knows(compose: Any) -> None:
    """The names of the compose specification that are used here; a misspelt one is passed over in silence by some."""
    known = set(
        "restart init security_opt cap_drop cap_add logging image build depends_on ports networks volumes read_only"
        " tmpfs mem_limit cpus pids_limit healthcheck entrypoint command stop_grace_period environment env_file ulimits"
        " profiles shm_size deploy".split()
    )
    assert set(compose) <= {"name", "services", "networks", "volumes", "x-kept-small"}
    cards = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text(encoding="utf-8"))
    assert set(cards["services"]) <= set(compose["services"])
    for service in (*compose["services"].values(), *cards["services"].values()):
        assert set(service) <= known


def test_each_container_has_bounds_and_no_more_rights_than_it_needs(compose: Any) -> None:
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert service["logging"]["options"]["max-size"], name
        assert service["restart"] == "unless-stopped", name
        assert not {"privileged", "pid", "ipc", "network_mode"} & set(service), name
        assert not any("docker.sock" in str(volume) for volume in service.get("volumes", ())), name
        assert not service["image"].endswith(":latest"), name
        for variable in service.get("environment", ()):
            assert not SECRET.search(variable), f"{name}: {variable} stands in a file that is shared"
    assert compose["services"]["hub"]["read_only"]
    assert compose["services"]["nginx"]["read_only"]
    assert "cap_add" not in compose["services"]["hub"]


def test_nginx_alone_is_reached_from_outside_and_models_from_the_hub_alone(compose: Any) -> None:
    services, networks = compose["services"], compose["networks"]
    assert [name for name, service in services.items() if "ports" in service] == ["nginx"]
    joined = {name: set(service["networks"]) for name, service in services.items()}
    outside = {name for name, options in networks.items() if not (options or {}).get("internal")}
    assert outside == {"outside"}
    assert {name for name, those in joined.items() if those & outside} == {"nginx"}
    assert joined["hub"] == {"front", "models"}
    assert all(those == {"models"} for name, those in joined.items() if name not in {"nginx", "hub"})


def test_the_addresses_of_compose_are_those_of_nginx_and_of_the_settings(compose: Any) -> None:
    front = {
        name: service["networks"]["front"]["ipv4_address"]
        for name, service in compose["services"].items()
        if "front" in service["networks"] and isinstance(service["networks"], dict)
    }
    network = ipaddress.ip_network(compose["networks"]["front"]["ipam"]["config"][0]["subnet"])
    assert all(ipaddress.ip_address(address) in network for address in front.values())
    settings = loaded(DEPLOY / "config" / "codehub.compose.toml")
    assert settings.server_proxies == (front["nginx"],)
    upstream = (DEPLOY / "nginx" / "upstream.compose.conf").read_text(encoding="utf-8")
    assert f"server {front['hub']}:{settings.server_port};" in upstream
    assert settings.ollama_host == "http://ollama:11434"


def test_what_compose_mounts_from_here_is_here(compose: Any) -> None:
    made_by_the_reader = ("./tls", "./acme", "./secrets", "./backups")
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            source = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[0]
            if source.startswith("./") and not source.startswith(made_by_the_reader):
                assert (DEPLOY / source).is_file(), source


# Settings


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_an_example_of_settings_loads_and_the_doctor_finds_nothing_unsafe_in_it(file: Path, tmp_path: Path) -> None:
    settings = replace(loaded(file), data=tmp_path / "data")
    nowhere = tmp_path / "nowhere"
    around = health.Surroundings(settings, Places(nowhere, nowhere), nowhere)
    for found in (serving.reach(around), serving.proxy(around), *serving.together(around)):
        assert found.grade is health.Grade.OK, found


def test_the_examples_say_what_they_leave_to_the_environment() -> None:
    for file in CONFIGS:
        assert not SECRET.search("".join(re.findall(r"(?m)^\w+", file.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("name", ["codehub.toml", "codehub.compose.toml"])
def test_ollama_is_started_with_what_the_profile_of_the_example_asks_for(name: str, compose: Any) -> None:
    settings = loaded(DEPLOY / "config" / name)
    rows = settle(wiring.profile(settings), Engine.OLLAMA)
    asked = dict(re.findall(r'Environment="(\w+)=(.*)"', render(rows, Engine.OLLAMA, Form.SYSTEMD, "m")))
    assert len(asked) == 3
    if name == "codehub.compose.toml":
        given = compose["services"]["ollama"]["environment"]
    else:
        unit = (DEPLOY / "systemd/ollama.service.d/codehub.conf").read_text(encoding="utf-8")
        given = dict(re.findall(r'Environment="(\w+)=(.*)"', unit))
    assert {variable: given[variable] for variable in asked} == asked


def test_vllm_is_started_with_what_the_profile_asks_for(compose: Any) -> None:
    settings = replace(loaded(DEPLOY / "config" / "codehub.toml"), profile_parallel=8)
    wanted = render(settle(wiring.profile(settings), Engine.VLLM), Engine.VLLM, Form.FLAGS, "MODEL").split()[3:]
    (command,) = (value for name, value in lines_of(DEPLOY / "systemd" / "vllm.service") if name == "ExecStart")
    assert command.split()[-len(wanted) :] == wanted
    assert compose["services"]["vllm"]["command"][-len(wanted) :] == wanted


def test_chroma_takes_no_pages_calls_and_is_not_emptied_by_one() -> None:
    told = yaml.safe_load((DEPLOY / "config" / "chroma.yaml").read_text(encoding="utf-8"))
    assert (told["allow_reset"], told["cors_allow_origins"]) == (False, [])


# systemd


def verified(folder: Path, units: list[Path]) -> list[Path]:
    """The units with programs that are here, since systemd looks for those, too."""
    written = []
    for unit in units:
        text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(encoding="utf-8"))
        (folder / unit.name).write_text(text, encoding="utf-8")
        written.append(folder / unit.name)
    return written


def test_systemd_understands_every_line_of_the_units(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    for drop_in in sorted((DEPLOY / "systemd").glob("*.service.d")):
        shutil.copytree(drop_in, tmp_path / drop_in.name)
    ollama = tmp_path / "ollama.service"
    ollama.write_text("[Unit]\nDescription=Ollama\n[Service]\nExecStart=/bin/true\n", encoding="utf-8")
    units = verified(tmp_path, [*UNITS, DEPLOY / "systemd" / "codehub-backup.timer"])
    done = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", *units, ollama],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
        env={"PATH": os.environ["PATH"], "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert (complaints, done.returncode) == ([], 0)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_no_more_exposed_than_it_has_to_be(unit: Path, tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    alone = tmp_path / unit.name  # systemd-analyze takes what lies in the folder beside a unit for a part of it
    shutil.copy(unit, alone)
    assert_exposed(analyze, alone, MOST_EXPOSED[unit.name])
    drop_in = unit.with_name(f"{unit.name}.d")
    if drop_in.is_dir():
        shutil.copytree(drop_in, tmp_path / drop_in.name)
        assert_exposed(analyze, alone, MOST_EXPOSED_WITH_DROP_IN)


def assert_exposed(analyze: str, unit: Path, most: int) -> None:
    done = ran(analyze, "security", "--offline=true", f"--threshold={most}", "--no-pager", unit)
    assert done.returncode == 0, done.stdout.splitlines()[-1:] + done.stderr.splitlines()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_keeps_secrets_out_and_has_bounds(unit: Path) -> None:
    told = lines_of(unit)
    names = {name for name, _ in told}
    assert {"User", "NoNewPrivileges", "ProtectSystem", "PrivateTmp", "TasksMax", "CapabilityBoundingSet"} <= names
    assert not any(name == "Environment" and SECRET.search(value.split("=")[0]) for name, value in told)
    assert dict(told)["UMask"] == "0077"


def test_with_its_drop_in_the_hub_may_make_a_sandbox_and_without_it_none() -> None:
    unit = dict(lines_of(DEPLOY / "systemd" / "codehub.service"))
    loosened = lines_of(DEPLOY / "systemd" / "codehub.service.d" / "runs.conf")
    told = dict(loosened)
    assert unit["RestrictNamespaces"] == "yes"
    assert {"user", "mnt", "pid", "net"} <= set(told["RestrictNamespaces"].split())
    assert "AF_NETLINK" in told["RestrictAddressFamilies"].split()  # for the loopback of a network of its own
    assert "@mount" in told["SystemCallFilter"].split()
    assert ("SystemCallFilter", "") in loosened  # the unit's own lines would be added to otherwise, and one forbids
    assert not {"NoNewPrivileges", "CapabilityBoundingSet", "ProtectSystem", "ProtectHome"} & set(told)


def test_the_hub_has_longer_to_end_than_it_takes_and_prints_nothing_secret_to_the_journal() -> None:
    from hub.http_api.serving import GRACE_S, JOBS_GRACE_S

    told = dict(lines_of(DEPLOY / "systemd" / "codehub.service"))
    assert int(told["TimeoutStopSec"]) > GRACE_S + JOBS_GRACE_S
    assert (told["Type"], told["StandardOutput"]) == ("notify", "null")
    # codehub lowers the priority of what works in the background, which these calls do.
    assert not re.search(
        r"~.*@resources", " ".join(value for name, value in told.items() if name == "SystemCallFilter")
    )


def test_the_service_of_backups_runs_a_command_that_there_is() -> None:
    told = dict(lines_of(DEPLOY / "systemd" / "codehub-backup.service"))
    arguments = told["ExecStart"].split()[1:]
    done = ran(sys.executable, "-c", "import sys; from hub.cli import main; sys.exit(main())", arguments[0], "--help")
    assert done.returncode == 0, done.stderr
    assert told["ReadWritePaths"] == arguments[1]


# nginx and the firewall


def directives() -> Iterator[str]:
    text = re.sub(r"#.*", "", (DEPLOY / "nginx" / "codehub.conf").read_text(encoding="utf-8"))
    yield from (" ".join(part.split()) for part in re.split(r"[;{}]", text))


def test_nginx_has_the_limits_of_the_settings() -> None:
    told = set(directives())
    defaults = Settings(Path())
    assert f"client_max_body_size {defaults.server_body_kilobytes >> 10}m" in told
    assert "ssl_protocols TLSv1.2 TLSv1.3" in told
    assert {"proxy_buffering off", "gzip off", "server_tokens off", "ssl_reject_handshake on"} <= told
    assert not any("proxy_add_x_forwarded_for" in line for line in told), "what a caller says must not be passed on"
    assert not any(line.startswith("if (") for line in told)


def test_the_firewall_lets_in_what_nginx_listens_at_and_those_who_look_after_the_machine() -> None:
    rules = re.sub(r"#.*", "", (DEPLOY / "firewall" / "codehub.nft").read_text(encoding="utf-8"))
    assert "hook input priority filter; policy drop;" in rules
    ports = {port for listed in re.findall(r"tcp dport (\{[^}]*\}|\d+)", rules) for port in re.findall(r"\d+", listed)}
    assert ports == {"22", "80", "443"}


@pytest.mark.skipif(os.geteuid() != 0, reason="nft asks the kernel, which answers root alone")
def test_nft_understands_the_firewall() -> None:
    done = ran(tool("nft"), "-c", "-f", DEPLOY / "firewall" / "codehub.nft")
    assert (done.stderr, done.returncode) == ("", 0)


# The guide


def test_the_guide_names_every_file_and_only_commands_and_settings_that_there_are() -> None:
    guide = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    for file in DEPLOY.rglob("*"):
        if file.is_file():
            assert file.relative_to(ROOT).as_posix() in guide, file
    shown = re.findall(r"```sh\n(.*?)```", guide, re.DOTALL) + re.findall(r"`([^`\n]+)`", guide)
    named = {word for text in shown for word in re.findall(r"(?<!-u )(?<!entrypoint )\bcodehub ([a-z][a-z-]+)", text)}
    commands = set(ran(sys.executable, "-c", _COMMANDS).stdout.split())
    assert "serve" in commands
    assert named <= commands, named - commands
    assert named >= {"serve", "doctor", "index", "keys", "backup", "restore", "repair"}
    variables = {row.variable for row in config.SETTINGS} | {"CODEHUB_CONFIG"}
    compose_text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    variables |= set(re.findall(r"\$\{(CODEHUB_\w+)", compose_text))
    assert set(re.findall(r"\bCODEHUB_\w+", guide)) <= variables


def test_tables_of_examples_are_toml_in_the_guide() -> None:
    guide = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)
    assert blocks
    for block in blocks:
        tree = tomllib.loads(block)
        known = {(row.table, row.key) for row in config.SETTINGS}
        assert {(table, key) for table, key, _ in config._leaves(tree)} <= known


_COMMANDS = """
from agents.command import ADDED
from hub.cli.parsing import parser_of
for action in parser_of(ADDED)._subparsers._group_actions:
    print(*action.choices)
"""
