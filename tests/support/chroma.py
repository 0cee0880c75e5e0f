"""A Chroma server of our own: the real one, on a free port of this machine, ended with the test."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

START_S = 120.0  # a bound, not an expectation: it takes some 2 s of an idle core


@contextmanager
def chroma_server(folder: Path) -> Iterator[str]:
    """Its address. What is put into it stays in the folder."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("chroma")), "run", "--host", "127.0.0.1", "--port", str(port)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "ANONYMIZED_TELEMETRY": "false"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--path", str(folder / "served")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=folder,
        )
    try:
        _wait(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(timeout=START_S)


def free_port() -> int:
    """A port at which nothing listens now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, "the server ended"
        connection = HTTPConnection("127.0.0.1", port, timeout=START_S)
        try:
            connection.request("GET", "/api/v2/heartbeat")
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            time.sleep(0.05)  # between two looks, until the bound
        finally:
            connection.close()
    raise AssertionError("the server does not answer")
