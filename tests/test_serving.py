"""The process of the server: one for a folder, its addresses and its socket file, how it begins and how it ends."""

import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import which
from typing import Any

import httpx
import pytest

from hub.cli import main
from hub.errors import SettingsError
from hub.http_api import serving
from indexer.errors import DataFolderError
from tests.support.scripted_server import CHAT, Reply, ScriptedServer, vllm
from tests.support.served import BOUND_S, Served, served, settings_for, until
from tests.support.trees import COUNTER, index_of, write_tree

ROOT = Path(__file__).parent.parent
START_S = 60.0
NAME = "Qwen/Qwen3-8B"
NOBODY_FOLLOWS = {"CODEHUB_WATCH_ENABLED": "0"}


@dataclass
class Running:
    """A server in a process of its own, and what it said when it began."""

    process: subprocess.Popen[str]
    said: dict[str, Any]

    @property
    def url(self) -> str:
        return str(self.said["url"])

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(BOUND_S)


def command(data: Path, arguments: Sequence[str]) -> list[str]:
    call = "import sys; from hub.cli import main; sys.exit(main())"
    return [sys.executable, "-c", call, "serve", "--json", "--data", str(data), *arguments]


@contextmanager
def running(data: Path, *arguments: str, **environment: str) -> Iterator[Running]:
    """Ended in any case, and by force where it does not."""
    with subprocess.Popen(
        command(data, ("--port", "0", *arguments)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "CODEHUB_BACKEND": "none", "CODEHUB_EMBEDDINGS": "none", **NOBODY_FOLLOWS, **environment},
    ) as process:
        watchdog = threading.Timer(START_S, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.communicate(timeout=BOUND_S)[1]
            yield Running(process, json.loads(line))
        finally:
            watchdog.cancel()
            process.kill()
            process.communicate(timeout=BOUND_S)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("serving")
    index_of(write_tree(place / "tree", dict(COUNTER)), place / "data")
    return place / "data"


def local_client(path: str) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://localhost", timeout=BOUND_S)


def accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def private(path: Path) -> bool:
    return stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_server_tells_where_it_is_shows_one_key_once_and_leaves_nothing_that_stops_the_next(
    data: Path, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(BOUND_S)
        with running(data, NOTIFY_SOCKET=str(tmp_path / "notify")) as first:
            assert manager.recv(100) == b"READY=1"
            told = json.loads((data / serving.TOLD).read_text(encoding="utf-8"))
            assert (told["pid"], told["url"], told["socket"]) == (first.process.pid, first.url, first.said["socket"])
            assert private(data / serving.TOLD)
            assert private(Path(told["socket"]))
            key = first.said["first_key"]
            answer = httpx.get(f"{first.url}/api/v1/whoami", headers={"authorization": f"Bearer {key}"})
            assert "admin" in answer.json()["grants"][0]["scopes"]
            assert httpx.get(f"{first.url}/api/v1/whoami").status_code == 401
            assert httpx.get(first.said["login"]).status_code == 200
            with local_client(told["socket"]) as local:
                assert local.get("/api/v1/whoami").json()["key_id"] == "local"

            with pytest.raises(SettingsError, match=rf"process {first.process.pid} at {re.escape(first.url)}"):
                serving.serve(settings_for(data), lambda _started: None)

            assert first.stop() == 0
            assert manager.recv(100) == b"STOPPING=1"
    assert not (data / serving.TOLD).exists()
    assert not Path(told["socket"]).exists()

    with running(data) as killed:
        assert killed.said["first_key"] is None
        killed.process.kill()
        killed.process.wait(BOUND_S)
    assert (data / serving.TOLD).exists()
    with running(data) as last:
        assert json.loads((data / serving.TOLD).read_text(encoding="utf-8"))["pid"] == last.process.pid
        with local_client(last.said["socket"]) as local:
            assert local.get("/livez").status_code == 200
        with socket.socket(socket.AF_UNIX) as slow:  # whose request would be waited for
            slow.connect(last.said["socket"])
            slow.sendall(b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n")
            slow.sendall(b"Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n")
            assert slow.recv(100).startswith(b"HTTP/1.1 100 ")
            last.process.send_signal(signal.SIGTERM)
            until(lambda: not accepts(last.said["socket"]))
            assert last.stop(signal.SIGINT) == 130
    assert not (data / serving.TOLD).exists()


def test_a_stream_ends_with_a_word_and_a_silent_model_keeps_no_process(data: Path) -> None:
    silent = threading.Event()

    def read(_body: object) -> Reply:
        silent.wait(BOUND_S)
        return Reply(())

    with ScriptedServer({**vllm(16_384), CHAT: read}) as model:
        try:
            model_settings = {
                "CODEHUB_BACKEND": "openai",
                "CODEHUB_OPENAI_URL": model.url,
                "CODEHUB_OPENAI_MODEL": "Qwen/Qwen3-8B",
            }
            with running(data, **model_settings) as hub, ExitStack() as stack:
                transport = httpx.HTTPTransport(uds=hub.said["socket"])
                client = stack.enter_context(
                    httpx.Client(transport=transport, base_url="http://localhost", timeout=BOUND_S)
                )
                body = {"question": "What does Counter::Increment do?", "tier": "rag", "stream": True}
                response = stack.enter_context(client.stream("POST", "/api/v1/ask", json=body))
                lines = response.iter_lines()
                assert next(lines) == "event: found"
                hub.process.send_signal(signal.SIGTERM)
                rest = list(lines)
                assert "event: error" in rest
                assert "stopping" in rest[-2]
                assert hub.process.wait(BOUND_S) == 0
        finally:
            silent.set()


@pytest.mark.skipif(which("openssl") is None, reason="makes the certificate")
def test_beyond_this_machine_it_speaks_tls_and_the_socket_file_stays_plain(data: Path, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*made, *names], check=True, capture_output=True, timeout=START_S)
    environment = {"CODEHUB_SERVER_TLS_CERTIFICATE": str(certificate), "CODEHUB_SERVER_TLS_KEY": str(key)}
    with running(data, "--host", "0.0.0.0", **environment) as hub:
        assert hub.url.startswith("https://127.0.0.1:")
        trust = ssl.create_default_context(cafile=certificate)
        assert httpx.get(f"{hub.url}/livez", verify=trust).status_code == 200
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{hub.url.replace('https', 'http')}/livez")
        with local_client(hub.said["socket"]) as local:
            assert local.get("/api/v1/whoami").status_code == 200
        assert hub.stop() == 0
    mixed = settings_for(data, server_tls_certificate=str(key), server_tls_key=str(certificate))
    with pytest.raises(SettingsError, match="cannot be used"):
        serving.serve(mixed, lambda _started: None)


# What cannot begin


def test_more_workers_than_one_are_refused_with_the_reason(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--workers", "2", "--data", str(data), "--json"]) == 2
    assert "workers cannot share a data folder" in json.loads(capsys.readouterr().out)["error"]


def test_a_port_that_is_taken_is_told(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = replace(settings_for(data), server_port=other.getsockname()[1])
        with pytest.raises(SettingsError, match=rf"port {taken.server_port} of 127.0.0.1 cannot be had"):
            serving.serve(taken, lambda _started: None)
    assert not (data / serving.TOLD).exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_beyond_this_machine_needs_tls_or_a_word_that_another_does_it(data: Path, host: str) -> None:
    with (
        pytest.raises(SettingsError, match="would travel readable"),
        serving.listening(settings_for(data, server_host=host)),
    ):
        pass
    with serving.listening(settings_for(data, server_host="0.0.0.0", server_allow_plain=True)) as listener:
        assert serving.url_of(settings_for(data), listener, encrypted=False).startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"server_host": "no.such.host.invalid"}, "no address"),
        ({"server_host": "192.0.2.7", "server_allow_plain": True}, "cannot be had"),
        ({"server_tls_certificate": "cert.pem"}, "a certificate and its key"),
        ({"server_tls_certificate": "/no/cert.pem", "server_tls_key": "/no/key.pem"}, "cannot be used"),
        ({"server_socket": f"/tmp/{'x' * 120}"}, "more than 100 bytes"),
        ({"server_socket": "/no/such/folder/server.sock"}, "cannot be made"),
    ],
)
def test_what_cannot_be_listened_at_is_told_in_a_sentence(data: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        serving.serve(settings_for(data, **changes), lambda _started: None)


def test_a_data_folder_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(DataFolderError, match="cannot be made"):
        serving.serve(settings_for(tmp_path / "file" / "data"), lambda _started: None)


def test_a_data_folder_that_cannot_be_written_any_more_is_told_and_nothing_is_left_listening(data: Path) -> None:
    (data / serving.TOLD).with_suffix(".new").mkdir()
    try:
        with pytest.raises(DataFolderError, match=r"server.json cannot be written"):
            serving.serve(settings_for(data), lambda _started: None)
        assert not accepts(str(data / serving.SOCKET))
    finally:
        (data / serving.TOLD).with_suffix(".new").rmdir()


def test_a_long_path_of_the_data_folder_moves_the_socket_to_a_folder_of_its_own(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 80) / ("e" * 80)
    deep.mkdir(parents=True)
    with serving.local_socket(settings_for(deep)) as (_, path):
        assert private(path)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.parent.exists()


# Connections


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("connections"), {}) as made:
        yield made


def talk(hub: Served, sent: bytes) -> bytes:
    """All that comes back until the server closes."""
    host, port = hub.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), BOUND_S) as connection:
        connection.sendall(sent)
        parts = []
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def test_a_head_without_an_end_is_refused_while_it_comes(hub: Served) -> None:
    begun = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: "
    answer = talk(hub, begun + b"x" * (serving.MOST_HEAD_BYTES + 1))
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["hint"]


def test_a_head_that_comes_too_slowly_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEAD_S", 0.1)
    with served(tmp_path, {}) as slow:
        assert talk(slow, b"GET /livez HTTP/1.1\r\nHost:").startswith(b"HTTP/1.1 408 ")
        assert talk(slow, b"") == b""
        assert slow.client.get("/livez").status_code == 200


def test_no_header_makes_a_request_of_the_network_one_of_the_socket_file(hub: Served) -> None:
    forged = b"GET /api/v1/whoami HTTP/1.1\r\nHost: localhost\r\nPeer-Uid: 0\r\nConnection: close\r\n\r\n"
    assert talk(hub, forged).startswith(b"HTTP/1.1 401 ")
    with hub.local() as client:
        assert client.get("/api/v1/whoami").json()["key_id"] == "local"
