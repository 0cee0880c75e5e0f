"""deploy's own nginx configuration, with ports and paths put in its place, over TLS before a hub that runs."""

import json
import os
import re
import select
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from hub.health import certificates
from tests.support import scripted_server
from tests.support.scripted_server import Reply, ScriptedServer
from tests.support.served import Served, served

NGINX_FILES = Path(__file__).parent.parent.parent / "deploy" / "nginx"
NAME = "hub.example"
BOUND_S = 20.0

pytestmark = pytest.mark.skipif(
    not (shutil.which("nginx") and shutil.which("openssl")), reason="nginx and openssl are Debian's to give"
)


@dataclass(frozen=True, slots=True)
class Front:
    """nginx before a hub; ``client`` shows a key with every scope."""

    hub: Served
    https_port: int
    http_port: int
    trusted: ssl.SSLContext
    model: "Model"

    def client(self, key: str = "", address: str = "127.0.0.1", name: str = NAME) -> httpx.Client:
        """A client that calls the server ``name``, from ``address``. The caller closes it."""
        headers = {"host": name} | ({"authorization": f"Bearer {key}"} if key else {})
        transport = httpx.HTTPTransport(verify=self.trusted, local_address=address)
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.https_port}", headers=headers, transport=transport, timeout=BOUND_S
        )


class Model:
    """A model that says its next part when it is let, never before.

    Each part ends a sentence and begins another, by which the hub knows that the one before is whole.
    """

    def __init__(self) -> None:
        self.go_on = threading.Semaphore(0)
        self.parts = (
            "Counter::Increment adds to the value, first [1].\nIt",
            " adds to the value, then [1].\nIt",
            " adds to the value, last [1].\n",
        )

    def __call__(self, _: Mapping[str, Any]) -> Reply:
        return Reply(self._lines(), kind="text/event-stream")

    def _lines(self) -> Iterator[bytes]:
        for part in self.parts:
            assert self.go_on.acquire(timeout=BOUND_S)
            yield scripted_server.event(part).encode() + b"\n\n"
        for line in (scripted_server.event(finish="stop"), scripted_server.counts(30, 4), scripted_server.DONE):
            yield line.encode() + b"\n\n"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("nginx")
    model = Model()
    script = {**scripted_server.vllm(), scripted_server.CHAT: model}
    with ExitStack() as stack:
        engine = stack.enter_context(ScriptedServer(script))
        hub = stack.enter_context(
            served(
                folder,
                backend="openai",
                openai_url=engine.url,
                server_hosts=(NAME,),
                server_proxies=("127.0.0.1",),
                server_body_kilobytes=8_192,
            )
        )
        certificate = signed_by_itself(folder)
        ports = free_ports(2)
        stack.enter_context(nginx(folder, hub.url, ports))
        yield Front(hub, ports[1], ports[0], ssl.create_default_context(cafile=str(certificate)), model)


def signed_by_itself(folder: Path) -> Path:
    (folder / "tls").mkdir()
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"),
            *("-keyout", str(folder / "tls" / "codehub.key"), "-out", str(folder / "tls" / "codehub.crt")),
        ],
        check=True,
        capture_output=True,
        timeout=BOUND_S,
    )
    return folder / "tls" / "codehub.crt"


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def nginx(folder: Path, hub: str, ports: list[int]) -> Iterator[None]:
    """Runs until the end. It listens before its start returns, so that nobody has to wait for it."""
    config = folder / "nginx.conf"
    config.write_text(configured(folder, hub, ports), encoding="utf-8")
    command = ["nginx", "-e", str(folder / "error.log"), "-c", str(config)]
    subprocess.run([*command, "-t", "-q"], check=True, timeout=BOUND_S)
    subprocess.run(command, check=True, timeout=BOUND_S)
    process = os.pidfd_open(int((folder / "nginx.pid").read_text(encoding="utf-8")))
    try:
        yield
    finally:
        subprocess.run([*command, "-s", "stop"], check=True, timeout=BOUND_S)
        ended, _, _ = select.select([process], [], [], BOUND_S)
        os.close(process)
        assert ended, "nginx did not end"


def configured(folder: Path, hub: str, ports: list[int]) -> str:
    """The two files of deploy/nginx in the frame of Debian's own nginx.conf, with this test's ports and paths."""
    site = (NGINX_FILES / "codehub.conf").read_text(encoding="utf-8")
    site = re.sub(r"(?m)^ *listen \[::\].*\n", "", site)  # not every machine has IPv6
    for usual, port in zip(("80", "443"), ports, strict=True):
        site = re.sub(rf"listen {usual}\b", f"listen 127.0.0.1:{port}", site)
    site = site.replace("/etc/nginx/tls", str(folder / "tls")).replace("/var/www/acme", str(folder / "acme"))
    site = site.replace("/var/log/nginx/", f"{folder}/")
    upstream = (NGINX_FILES / "upstream.conf").read_text(encoding="utf-8")
    assert "127.0.0.1:8642" in upstream
    upstream = upstream.replace("127.0.0.1:8642", urlsplit(hub).netloc)
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    frame = f"pid {folder}/nginx.pid; worker_processes 1; events {{ worker_connections 256; }}"
    return f"{user} {frame}\nhttp {{ {temporary}\n{upstream}\n{site}\n}}\n"


def test_search_works_over_tls_and_the_answer_says_to_come_back_by_tls_alone(front: Front) -> None:
    with front.client(front.hub.key) as client:
        answer = client.get("/api/v1/search", params={"query": "Counter"}, extensions={"sni_hostname": NAME})
        assert answer.status_code == 200
        assert answer.json()["hits"]
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        assert "server" not in answer.headers or not re.search(r"\d", answer.headers["server"])
        assert answer.http_version == "HTTP/1.1"


def test_the_doctor_sees_the_certificate_as_callers_do(front: Front) -> None:
    found = certificates.shown_at("127.0.0.1", front.https_port, NAME, front.trusted)
    assert isinstance(found, certificates.Certificate)
    assert found.names_host(NAME)
    unknown = certificates.shown_at("127.0.0.1", front.https_port, NAME)
    assert isinstance(unknown, str)
    assert "refuse" in unknown
    other = certificates.shown_at("127.0.0.1", front.https_port, "other.example", front.trusted)
    assert isinstance(other, str)
    assert certificates.shown_at("127.0.0.1", free_ports(1)[0], NAME) is None


def test_without_a_key_health_is_told_and_nothing_else(front: Front) -> None:
    with front.client() as client:
        told = {
            path: client.get(path, extensions={"sni_hostname": NAME}).status_code
            for path in ("/healthz", "/readyz", "/livez", "/metrics", "/api/v1/workspaces", "/openapi.json")
        }
    assert told == {
        "/healthz": 200,
        "/readyz": 404,
        "/livez": 404,
        "/metrics": 404,
        "/api/v1/workspaces": 401,
        "/openapi.json": 401,
    }


def test_each_sentence_of_an_answer_comes_before_the_model_says_the_next(front: Front) -> None:
    """The model waits for the reader: a proxy that holds anything back would end this by the bound."""
    heard: list[str] = []
    names: list[str] = []
    question = {"question": "What does Counter::Increment do?", "workspace": "w", "tier": "rag", "stream": True}
    with (
        front.client(front.hub.key) as client,
        client.stream("POST", "/api/v1/ask", json=question, extensions={"sni_hostname": NAME}) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        for name, told in events(answer):
            names.append(name)
            if name == "found":
                front.model.go_on.release()
            if name == "piece":
                heard.append(told["text"])
                front.model.go_on.release()
    assert len(heard) == len(front.model.parts)
    assert "then [1]" in heard[1]
    assert names[-1] == "answer"


def events(answer: httpx.Response) -> Iterator[tuple[str, Any]]:
    name = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_a_body_beyond_four_megabytes_ends_at_the_proxy(front: Front) -> None:
    """The hub behind it would take eight, so it is nginx that says no."""
    with front.client(front.hub.key) as client:
        large = client.post("/api/v1/search", content=b"x" * (5 << 20), extensions={"sni_hostname": NAME})
        below = client.post("/api/v1/search", content=b"x" * (3 << 20), extensions={"sni_hostname": NAME})
    assert large.status_code == 413
    assert below.status_code != 413


def test_who_calls_by_another_name_gets_no_page_and_no_certificate(front: Front) -> None:
    with front.client(front.hub.key, name="evil.example") as client:
        answer = client.get("/api/v1/workspaces", extensions={"sni_hostname": NAME})
        assert (answer.status_code, "w" in answer.text.split()) == (421, False)
    with front.client() as client, pytest.raises(httpx.ConnectError):
        client.get("/healthz", extensions={"sni_hostname": "evil.example"})
    with httpx.Client(timeout=BOUND_S) as plain:
        url = f"http://127.0.0.1:{front.http_port}/api/v1/workspaces"
        assert plain.get(url, headers={"host": "evil.example"}).status_code == 421


def test_plain_http_is_sent_to_the_one_name_over_tls(front: Front) -> None:
    with httpx.Client(timeout=BOUND_S) as plain:
        answer = plain.get(f"http://127.0.0.1:{front.http_port}/ui?q=1", headers={"host": NAME})
    assert answer.status_code == 308
    assert answer.headers["location"] == f"https://{NAME}/ui?q=1"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused(front: Front) -> None:
    old = ssl.create_default_context()
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version, old.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_1
    with suppress(ssl.SSLError):
        old.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", front.https_port), timeout=BOUND_S) as line,
        pytest.raises(ssl.SSLError) as refused,
    ):
        old.wrap_socket(line, server_hostname=NAME)
    assert "ALERT" in refused.value.reason, "it was this end that refused"


def test_the_word_of_the_proxy_is_taken_for_who_calls_and_that_of_a_caller_never(front: Front) -> None:
    """Whoever is refused is written down with the address that the hub believes."""
    lie = {"x-forwarded-for": "203.0.113.9", "x-real-ip": "203.0.113.9", "forwarded": "for=203.0.113.9"}
    with front.client("wrong", address="127.0.0.7") as through:
        assert through.get("/api/v1/jobs", headers=lie, extensions={"sni_hostname": NAME}).status_code == 401
    transport = httpx.HTTPTransport(local_address="127.0.0.8")
    with httpx.Client(base_url=front.hub.url, transport=transport, timeout=BOUND_S) as direct:
        assert direct.get("/api/v1/jobs", headers=lie).status_code == 401
    written = written_down(front.hub, 2)
    assert any("127.0.0.7" in line for line in written)
    assert any("127.0.0.8" in line for line in written)
    assert not any("203.0.113.9" in line for line in written)


def written_down(hub: Served, denials: int) -> list[str]:
    """The details of what was refused to these two, once as many are there: it is written down after the answer."""
    looked = threading.Event()
    found: list[str] = []
    for _ in range(round(BOUND_S / 0.05)):
        found = [json.dumps(dict(entry.detail)) for entry in hub.state.audit.entries(50)]
        if sum("127.0.0.7" in line or "127.0.0.8" in line for line in found) >= denials:
            break
        looked.wait(0.05)
    return found


def test_the_log_of_the_proxy_holds_no_question(front: Front) -> None:
    with front.client(front.hub.key) as client:
        client.get("/api/v1/search", params={"query": "canary_in_a_query"}, extensions={"sni_hostname": NAME})
    log = (front.hub.state.settings.data.parent / "access.log").read_text(encoding="utf-8")
    assert "/api/v1/search" in log
    assert "canary_in_a_query" not in log


def test_a_session_that_is_opened_through_the_proxy_belongs_to_tls_alone(front: Front) -> None:
    """The hub itself is spoken to in plain HTTP: that the caller was not is the proxy's word."""
    with front.client() as client:
        sni = {"sni_hostname": NAME}
        here = {"origin": f"https://{NAME}"}
        opened = client.post("/api/v1/sessions", json={"key": front.hub.key}, headers=here, extensions=sni)
        assert opened.status_code < 300, opened.text
        cookie = opened.headers["set-cookie"]
        assert cookie.startswith("__Host-")
        assert {"secure", "httponly", "samesite=strict"} <= {part.strip().lower() for part in cookie.split(";")}
        evil = {"origin": "https://evil.example"}
        refused = client.post("/api/v1/sessions", json={"key": front.hub.key}, headers=evil, extensions=sni)
        assert refused.status_code == 403


def test_trying_keys_at_the_doors_ends_soon(front: Front) -> None:
    """nginx lets twenty through at once and then one each other second: forty take longer than anyone waits here."""
    with front.client(address="127.0.0.9") as client:
        told = [
            client.post("/api/v1/sessions", json={"key": "chub_wrong"}, extensions={"sni_hostname": NAME})
            for _ in range(40)
        ]
    assert told[0].status_code == 401
    last = told[-1]
    assert (last.status_code, last.headers["content-type"]) == (429, "text/html"), "nginx says it, the hub says JSON"
