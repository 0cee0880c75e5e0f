"""A certificate and its key, tried on each other: whether they fit, for which names, and until when.

Both ends of a TLS handshake are played in memory, so that the library itself says what it thinks of them; of another
program's certificate it asks that program. Knows no settings.
"""

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Seconds. Another program on this machine or in the next container answers at once. 0.5 to 5.
ANSWER_S = 1.5
_ROUNDS = 10  # a handshake takes three
_EXPIRED, _NOT_YET, _NO_SERVER = 10, 9, 26  # X509_V_ERR_*: CERT_HAS_EXPIRED, CERT_NOT_YET_VALID, INVALID_PURPOSE


@dataclass(frozen=True, slots=True)
class Certificate:
    """``expires_at`` in seconds since 1970; ``names`` of hosts, with or without a star, and addresses."""

    names: tuple[str, ...]
    expires_at: float

    def names_host(self, host: str) -> bool:
        """Whether it is good for a host: a star stands for one label (RFC 9525, 6.3)."""
        wanted = host.lower().rstrip(".")
        _, _, parent = wanted.partition(".")
        return any(name.lower() in {wanted, f"*.{parent}" if parent else wanted} for name in self.names)


def read(certificate: Path, key: Path) -> Certificate | str:
    """What the pair is good for, or a sentence that says why it is good for nothing."""
    try:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate, key, password=_no_password)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False  # the names are looked at afterwards
        client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # whoever made it, it is trusted here
        client.load_verify_locations(certificate)
        told = _shown(server, client)
    except ssl.SSLCertVerificationError as error:
        return {
            _EXPIRED: f"{certificate} has run out",
            _NOT_YET: f"{certificate} is not good yet, or the clock is wrong",
            _NO_SERVER: f"{certificate} is not for servers",
        }.get(error.verify_code, f"{certificate} is refused: {error.verify_message}")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"{key} is not the key of {certificate}"
        return (
            f"{certificate} and {key} cannot be used: {error.reason or 'the key has a password, or one is no PEM file'}"
        )
    except OSError as error:
        return f"{error.filename or certificate} cannot be read: {error.strerror}"
    return _certificate(told)


def shown_at(address: str, port: int, name: str, trusted: ssl.SSLContext | None = None) -> Certificate | str | None:
    """What a program there shows to those who call it by a name; why they would refuse it; None where nothing listens.

    ``trusted`` says whom callers trust, those of the system unless it is given.
    """
    try:
        with socket.create_connection((address, port), timeout=ANSWER_S) as line:
            client = trusted or ssl.create_default_context()
            with client.wrap_socket(line, server_hostname=name) as encrypted:
                return _certificate(encrypted.getpeercert() or {})  # type: ignore[arg-type] # as in _shown
    except ssl.SSLCertVerificationError as error:
        return f"callers refuse the certificate of {name}: {error.verify_message}"
    except ssl.SSLError as error:
        return f"nobody can speak to {name} by TLS: {error.reason}"
    except OSError:
        return None


def _certificate(told: "Mapping[str, tuple[tuple[str, str], ...]]") -> Certificate:
    names = tuple(str(value) for kind, value in told.get("subjectAltName", ()) if kind in {"DNS", "IP Address"})
    return Certificate(names, ssl.cert_time_to_seconds(str(told["notAfter"])))


def _shown(server: ssl.SSLContext, client: ssl.SSLContext) -> "dict[str, tuple[tuple[str, str], ...]]":
    """The certificate as the client of a handshake reads it. Raises SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [here, there]
    for _ in range(_ROUNDS):
        for end in tuple(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
        if here not in waiting:
            break
    return here.getpeercert() or {}  # type: ignore[return-value] # typeshed's type is wider than what is looked at


def _no_password() -> str:
    """So that a key with a password is an error, and nobody is asked at the terminal."""
    return ""
