"""The process of the server: one for a data folder, its sockets, its signals, its end. Knows no route.

It listens at an address and at a socket file that only the same user may open. Beyond this machine it listens under
TLS, or where its settings say outright that another program sees to that.
"""

import asyncio
import gc
import ipaddress
import json
import os
import signal
import socket
import ssl
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hub import config
from hub.auth import approvals, audit, store
from hub.auth.approvals import Approvals
from hub.auth.audit import AuditLog
from hub.auth.keys import NewKey
from hub.auth.model import LOCAL
from hub.auth.store import KeyRing
from hub.config import Settings
from hub.errors import SettingsError
from hub.follower.minding import minded
from hub.http_api import access, app, logs
from hub.http_api.extending import Extend, Extension
from hub.http_api.metrics import Metrics
from hub.http_api.state import State
from hub.jobs import Jobs
from hub.remote import version
from hub.workspaces import Workspaces
from indexer.errors import DataFolderError
from indexer.index import DataFolder

TOLD = "server.json"  # in the data folder: where this server is, for commands
SOCKET = "server.sock"
LOCK = "serve"
# Seconds that requests get to end after the first signal, and jobs to put down where they stand. 5 to 25: systemd and
# Docker kill after 30 or 10.
GRACE_S = 8.0
JOBS_GRACE_S = 8.0
IDLE_S = 75.0  # that a connection may be kept open without a request: longer than the 60 s of usual proxies
# Bytes of a request's line and headers, above which nothing is parsed any more, and seconds that they may take.
MOST_HEAD_BYTES = 64 << 10
HEAD_S = 20.0
BACKLOG = 1_024
# New objects until the youngest are looked through; with Python's 700 that is 5% of a search. 700 to 100,000.
FIRST_GENERATION = 5_000
_LONGEST_SOCKET = 100  # bytes of its path: sun_path holds 108, on other systems 104
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


@dataclass(frozen=True, slots=True)
class Started:
    """A server that takes requests. ``first_key`` is told once, when there was no key before."""

    url: str
    socket: Path
    login: str  # a path with a secret that opens one session, once
    first_key: NewKey | None


class Ended(StrEnum):
    """How a server ended. After all but the first the process has to be ended at once."""

    IN_ORDER = "in order"
    LATE = "late"  # threads are left that could not be ended in time
    BY_FORCE = "by force"  # at a second signal; nothing was waited for


def serve(settings: Settings, tell: Callable[[Started], None], extend: Sequence[Extend] = ()) -> Ended:
    """Runs until a signal; ``tell`` is called once it takes requests. Raises HubError or IndexerError if it cannot."""
    context = _encryption(settings)
    with ExitStack() as stack:
        stack.enter_context(_only_one(settings))
        listener = stack.enter_context(listening(settings))
        local, path = stack.enter_context(local_socket(settings))
        state = stack.enter_context(opened_state(settings))
        extensions = [stack.enter_context(make(state)) for make in extend]
        first_key = state.keys.first_key()
        if first_key:
            told = {"key_id": first_key.record.key_id, "owner": first_key.record.owner}
            state.audit.append(LOCAL, "key.create", "", "done", told)
        url = url_of(settings, listener, encrypted=context is not None)
        logs.configure(settings.server_log)

        def started() -> None:
            place = {
                "pid": os.getpid(),
                "socket": str(path),
                "url": url,
                "version": version(),
                "started_at": state.started_at,
                "settings": config.fingerprint(settings),
            }
            _write(settings.data / TOLD, json.dumps(place))
            tell(Started(url, path, access.new_login_link(state), first_key))
            _notify("READY=1")

        stack.callback((settings.data / TOLD).unlink, missing_ok=True)
        server = Server(state, ((listener, context), (local, None)), started, extensions=extensions)
        stack.enter_context(minded(settings))
        _settle_memory()
        server.run()
        if server.force_exit:
            stack.pop_all()  # what would be waited for ends with this process, jobs too
            for left in (settings.data / TOLD, path):
                left.unlink(missing_ok=True)
            return Ended.BY_FORCE
        return Ended.LATE if state.streams.count else Ended.IN_ORDER


def _settle_memory() -> None:
    """What is loaded by now stays for good, so that collecting garbage need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(FIRST_GENERATION)


@contextmanager
def opened_state(settings: Settings) -> Iterator[State]:
    """All that a server holds open, ended in the other order. Raises DataFolderError."""
    data = settings.data
    with ExitStack() as stack:
        keys = stack.enter_context(closing(KeyRing(data / store.FILE)))
        waiting = stack.enter_context(closing(Approvals(data / approvals.FILE)))
        jobs = Jobs(settings)
        stack.callback(jobs.close, JOBS_GRACE_S)
        metrics = stack.enter_context(closing(Metrics()))
        state = State(settings, Workspaces(settings), keys, AuditLog(data / audit.FILE), waiting, jobs, metrics)
        stack.callback(state.close)
        yield state


class Server(uvicorn.Server):
    """uvicorn over several sockets, some encrypted. The first signal ends it in order, the second at once."""

    def __init__(
        self,
        state: State,
        listeners: Sequence[tuple[socket.socket, ssl.SSLContext | None]],
        on_start: Callable[[], None],
        grace_s: float = GRACE_S,
        extensions: Sequence[Extension] = (),
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app.application(state, extensions),
                http=Connection,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=round(IDLE_S),
                timeout_graceful_shutdown=round(grace_s),
                backlog=BACKLOG,
            )
        )
        self._state = state
        self._listeners = listeners
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens at all of them."""
        assert sockets is None
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()

        def connection() -> asyncio.Protocol:
            return Connection(self.config, self.server_state, self.lifespan.state)

        self.servers = []
        for listener, context in self._listeners:
            listener.setblocking(False)
            if listener.family == socket.AF_UNIX:
                made = await loop.create_unix_server(connection, sock=listener, backlog=BACKLOG)
            else:
                made = await loop.create_server(connection, sock=listener, ssl=context, backlog=BACKLOG)
            self.servers.append(made)
        self.started = True
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends open streams with a word, then waits for what else is still answered."""
        _notify("STOPPING=1")
        for server in self.servers:
            server.close()
        self._state.streams.stop("The server is stopping.")
        # Before connections are waited for, since those that watch jobs end with them.
        self._state.jobs.stop(JOBS_GRACE_S)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ours until the end, when those that were there before come back. None is raised again."""
        try:
            before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread, which alone gets signals
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature is Python's
        """A second signal does not wait."""
        self.force_exit = self.should_exit
        self.should_exit = True


class Connection(HttpToolsProtocol):
    """One connection: who is at the other end of a socket file, and a bound on what a request's head may take.

    ``scope["state"]`` gets "peer_uid" for a socket file, and "abort", which drops the connection.
    """

    _peer: int | None = None
    _head_bytes = -1  # of the head that is being read; -1 between requests
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in the base class
        """Asks the kernel who is at the other end."""
        super().connection_made(transport)
        self._peer = _peer_of(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Refuses a head that has no end."""
        if self.transport.is_closing():
            return
        # Of the piece in which a later request of the connection begins, an unknown part belongs to the one before.
        before = self._head_bytes if self.cycle else max(0, self._head_bytes)
        if before + len(data) <= MOST_HEAD_BYTES or before < 0:
            super().data_received(data)
            if self._head_bytes >= 0 and before >= 0:
                self._head_bytes = before + len(data)
        else:
            self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        """Another request."""
        super().on_message_begin()
        self._head_bytes = 0
        if self._head_timer is None:
            self._await_head()
        state = self.scope["state"]
        state["abort"] = self.transport.abort
        if self._peer is not None:
            state["peer_uid"] = self._peer

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        self._head_bytes = -1
        self._stop_waiting()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S, self._too_late)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_late(self) -> None:
        self._head_timer = None
        if self._head_bytes >= 0:
            self._refuse(b"408 Request Timeout")
        else:
            self.transport.close()

    def _refuse(self, status: bytes) -> None:
        if self.transport.is_closing():
            return
        text = b'{"error":"The head of the request is too long or too slow.","hint":"Send less, and at once."}'
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, len(text)) + text)
        self.transport.close()


def _peer_of(transport: asyncio.BaseTransport) -> int | None:
    """The user at the other end of a socket file; None for every other connection."""
    there = transport.get_extra_info("socket")
    if there is None or there.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return None
    with socket.socket(fileno=os.dup(there.fileno())) as same:
        told = same.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(told)[1]
    return uid


@contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Holds the data folder for this server. Raises SettingsError where another one does."""
    try:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise DataFolderError(
            f"The data folder {settings.data} cannot be made: {error.strerror}.", "Give another one with --data."
        ) from None
    with DataFolder(settings.data).background(LOCK) as mine:
        if not mine:
            raise SettingsError(
                f"A server runs on {settings.data} already{_other(settings.data)}.",
                "Use that one, stop it first, or give this one another folder with --data.",
            )
        yield


def _other(data: Path) -> str:
    """Who the other server says it is."""
    try:
        told = json.loads((data / TOLD).read_text(encoding="utf-8"))
        return f": process {int(told['pid'])} at {told['url']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _addresses(settings: Settings) -> list[tuple[socket.AddressFamily, str]]:
    """What the host's name stands for. Raises SettingsError."""
    try:
        found = socket.getaddrinfo(settings.server_host, settings.server_port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise SettingsError(
            f"{settings.server_host!r} is no address of this machine.", "Set server.host to one, such as 127.0.0.1."
        ) from None
    return [(family, str(address[0])) for family, _, _, _, address in found]


def _check_exposure(settings: Settings, addresses: Sequence[tuple[socket.AddressFamily, str]]) -> None:
    """Raises SettingsError where others could listen to what is sent."""
    beyond = [name for _, name in addresses if not ipaddress.ip_address(name.partition("%")[0]).is_loopback]
    if beyond and not settings.server_tls_certificate and not settings.server_allow_plain:
        raise SettingsError(
            f"Keys and code would travel readable to {settings.server_host}, beyond this machine.",
            "Set server.tls_certificate and server.tls_key; or give --allow-plain where a proxy before it does TLS.",
        )


def _encryption(settings: Settings) -> ssl.SSLContext | None:
    certificate, key = settings.server_tls_certificate, settings.server_tls_key
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise SettingsError("TLS needs a certificate and its key.", "Set server.tls_certificate and server.tls_key.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(Path(certificate).expanduser(), Path(key).expanduser(), password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise SettingsError(
            f"The certificate {certificate} or its key cannot be used: {getattr(error, 'reason', None) or error}.",
            "Both must be PEM files that the server may read and that belong together, the key without a password.",
        ) from None
    return context


def _no_password() -> str:
    raise ValueError("the key has a password")


@contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """The address that the settings name. Raises SettingsError where it cannot be had, or lies open to others."""
    addresses = _addresses(settings)
    _check_exposure(settings, addresses)
    family, name = addresses[0]
    with closing(socket.socket(family, socket.SOCK_STREAM)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((name, settings.server_port))
            listener.listen(BACKLOG)
        except OSError as error:
            raise SettingsError(
                f"The port {settings.server_port} of {name} cannot be had: {os.strerror(error.errno or 0)}.",
                "Stop what listens there, or give --port another; 0 takes any free one.",
            ) from None
        yield listener


@contextmanager
def local_socket(settings: Settings) -> Iterator[tuple[socket.socket, Path]]:
    """A socket file that the same user alone may open. Raises SettingsError."""
    with ExitStack() as stack:
        path = Path(settings.server_socket).expanduser() if settings.server_socket else settings.data / SOCKET
        if len(os.fsencode(path)) > _LONGEST_SOCKET:
            if settings.server_socket:
                raise SettingsError(
                    f"The path of server.socket has more than {_LONGEST_SOCKET} bytes.", "Give a shorter one."
                )
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="codehub-"))) / SOCKET
        listener = stack.enter_context(closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)))
        try:
            if path.is_socket():  # of a server that was killed: the lock says that it is no more
                path.unlink()
            before = os.umask(0o177)
            try:
                listener.bind(os.fsencode(path))
            finally:
                os.umask(before)
            listener.listen(BACKLOG)
        except OSError as error:
            raise SettingsError(
                f"The socket {path} cannot be made: {os.strerror(error.errno or 0)}.",
                "Check its folder, or set server.socket to a path elsewhere.",
            ) from None
        stack.callback(path.unlink, missing_ok=True)
        yield listener, path


def url_of(settings: Settings, listener: socket.socket, *, encrypted: bool) -> str:
    """Where a browser on this machine finds it."""
    name, port = listener.getsockname()[:2]
    if ipaddress.ip_address(name.partition("%")[0]).is_unspecified:
        name = "::1" if listener.family == socket.AF_INET6 else "127.0.0.1"
    if settings.server_host == "localhost":
        name = "localhost"
    host = f"[{name}]" if ":" in name else name
    return f"{'https' if encrypted else 'http'}://{host}:{port}"


def _write(path: Path, text: str) -> None:
    """In one step, for the owner's eyes. Raises DataFolderError."""
    written = path.with_suffix(".new")
    try:
        written.unlink(missing_ok=True)
        with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        written.replace(path)
    except OSError as error:
        raise DataFolderError(
            f"The file {path} cannot be written: {error.strerror}.", "Free some space, or check who owns the folder."
        ) from None


def _notify(word: str) -> None:
    """Tells systemd how it stands, where it waits to be told."""
    name = config.notify_socket()
    if not name:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.connect("\0" + name[1:] if name.startswith("@") else name)
        told.sendall(word.encode())
