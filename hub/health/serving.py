"""The server: whether it runs, who reaches it, by what certificate, and with which keys.

Looks at files, settings and sockets of this machine; calls nobody but itself and the proxy before it. Knows no HTTP.
"""

import errno
import ipaddress
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from hub import config
from hub.auth.audit import AuditLog
from hub.auth.keys import KeyRecord
from hub.auth.model import Scope
from hub.auth.store import KeyRing
from hub.config import Settings, changed
from hub.health import certificates
from hub.health.folder import alive, server_told
from hub.health.machine import read_text
from hub.health.model import Checklist, Finding, Grade, Surroundings, failed, fine, warning
from indexer.index import DataFolder

# Days. A certificate that runs out within them is due; Let's Encrypt's renew with 30 left. 7 to 30.
DUE_DAYS = 21
# Days. A key of an administrator that is older should be another one. 90 to 365.
OLD_ADMIN_DAYS = 180
# Days. A key that nobody has used within them is not needed. 14 to 90.
IDLE_DAYS = 30
# Kibibytes. A request that is larger is no question, and each one is held in memory. 4,096 to 65,536.
LARGE_BODY_KILOBYTES = 65_536

_DAY_S = 86_400.0
_LOOPBACK_NAMES = {"localhost", "ip6-localhost"}
_LISTENS = "0A"  # the state of a socket in /proc/net/tcp
_SOCKET_PATH_BYTES = 100  # Linux takes 107 (unix(7)), others 103; what is longer goes to a private folder in /tmp


def is_set_up(settings: Settings) -> bool:
    """Whether a server has run on this folder, or is meant to."""
    told = any(name.startswith(("server_", "webhooks_")) for name in changed(settings))
    return told or any((settings.data / name).exists() for name in ("keys.db", "server.json"))


def server(around: Surroundings) -> Finding:
    """Whether it runs, and is of the version that this is."""
    settings = around.settings
    told = server_told(settings.data)
    if not told:
        if not is_set_up(settings):
            return fine("server", "none is set up; `codehub serve` starts one")
        return warning("server", "does not run", "codehub serve, or sudo systemctl start codehub")
    pid, version = told.get("pid"), told.get("version")
    if not isinstance(pid, int) or not alive(pid):
        return failed("server", "its process is gone", "codehub doctor --fix, then start it again.", fixable=True)
    detail = f"process {pid} at {told.get('url', '?')}"
    local = str(told.get("socket") or "")
    if local and not _answers(local):
        return failed("server", f"{detail} does not answer at {local}", "Restart it: sudo systemctl restart codehub")
    here = metadata.version("code-knowledge-hub")
    if version != here:
        return warning("server", f"{detail} is version {version}, and this command is {here}", "Restart the server.")
    other = told.get("settings") not in (None, config.fingerprint(settings))
    return fine("server", detail + ("; it answers by other settings than these" if other else ""))


def port(around: Surroundings) -> Finding:
    """Where it listens, or would."""
    settings = around.settings
    where = f"{settings.server_host}:{settings.server_port}"
    if told := server_told(settings.data):
        return fine("port", f"{str(told.get('url') or where).partition('://')[2] or where} is the server's")
    if not settings.server_port:
        return fine("port", f"{settings.server_host}, any free one")
    try:
        family = socket.AF_INET6 if ":" in settings.server_host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.server_host, settings.server_port))
    except (OSError, ValueError, TypeError) as error:  # the latter two for what is no name of a host
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            return warning("port", f"{where} is taken by another program", "Choose another one: [server] port.")
        return failed("port", f"{where} cannot be listened at: {error}", "Correct [server] host and port.")
    return fine("port", f"{where} is free")


def local_socket(around: Surroundings) -> Finding:
    """The socket of this machine, where the same user needs no key."""
    settings = around.settings
    told = server_told(settings.data).get("socket")
    path = Path(str(told or settings.server_socket or settings.data / "server.sock"))
    if settings.server_socket and len(os.fsencode(settings.server_socket)) > _SOCKET_PATH_BYTES:
        hint = "Name a shorter one in [server] socket, in a folder of this user alone."
        return failed("local socket", f"{path} is longer than {_SOCKET_PATH_BYTES} bytes", hint)
    try:
        mode = path.parent.stat().st_mode
    except OSError:
        return fine("local socket", f"{path} (will be made)")
    if mode & 0o002:
        hint = "Keep it in the data folder, or in a folder that nobody else can write."
        return warning("local socket", f"anyone may write to {path.parent}, and put another socket there", hint)
    return fine("local socket", f"{path}" if path.exists() else f"{path} (will be made)")


def reach(around: Surroundings) -> Finding:
    """Who can reach it at all, and whether what they send can be read on the way."""
    settings = around.settings
    if is_loopback(settings.server_host):
        names = f", called {', '.join(settings.server_hosts)}" if settings.server_hosts else ""
        return fine("reach", f"this machine alone ({settings.server_host}){names}")
    where = f"{settings.server_host}, beyond this machine"
    if settings.server_tls_certificate and settings.server_tls_key:
        return fine("reach", f"{where}, over TLS")
    if not settings.server_allow_plain:
        hint = "Set [server] tls_certificate and tls_key, or listen at 127.0.0.1 behind a proxy (docs/deployment.md)."
        return failed("reach", f"{where}, without TLS: codehub serve refuses that", hint)
    if settings.server_proxies:
        return fine("reach", f"{where}, without TLS, for the proxy at {', '.join(settings.server_proxies)}")
    hint = "Put a proxy with TLS before it: deploy/nginx; and name its address in [server] proxies."
    return warning("reach", f"{where}, without TLS: keys and answers can be read on the way", hint)


def tls(around: Surroundings) -> Finding:
    """Its own certificate: that it fits its key, its names and the day, and that the key is kept."""
    settings = around.settings
    certificate, key = settings.server_tls_certificate, settings.server_tls_key
    if certificate and key:
        return _certificate(Path(certificate).expanduser(), Path(key).expanduser(), around)
    if certificate or key:
        return failed(
            "tls", "certificate and key come together, and one is missing", "Set both [server] tls_ settings."
        )
    if settings.server_hosts:
        return _of_proxy(around)
    if around.checklist is Checklist.TEAM and is_loopback(settings.server_host):
        return warning("tls", "none, so this machine alone can be served", "docs/deployment.md, For a team")
    return fine("tls", "none")


def _of_proxy(around: Surroundings) -> Finding:
    """The certificate of whatever ends TLS before it, where that is to be found."""
    settings = around.settings
    name = settings.server_hosts[0]
    proxies = [text for text in settings.server_proxies if "/" not in text and _network(text)]
    found = certificates.shown_at(proxies[0] if proxies else "127.0.0.1", _HTTPS, name)
    if found is None:
        return fine("tls", "none here, and no proxy of it was found that listens at port 443")
    if isinstance(found, str):
        return warning("tls", found, "Renew it, or let the callers trust who made it.")
    return _lasting(found, around.clock(), f"the proxy's for {name}")


_HTTPS = 443


def _certificate(certificate: Path, key: Path, around: Surroundings) -> Finding:
    try:
        if key.stat().st_mode & 0o007:
            return failed("tls", f"everybody on this machine may read {key}", f"chmod 0600 {key}")
    except OSError as error:
        return failed("tls", f"{key} cannot be read: {error.strerror}", "Correct [server] tls_key.")
    found = certificates.read(certificate, key)
    if isinstance(found, str):
        return failed("tls", found, "Make or fetch a certificate: docs/deployment.md, TLS.")
    if strangers := [name for name in around.settings.server_hosts if not found.names_host(name)]:
        told = f"the certificate names {', '.join(found.names) or 'nobody'}, not {', '.join(strangers)}"
        return failed("tls", told, "Have one made for all names.")
    return _lasting(found, around.clock(), ", ".join(found.names))


def _lasting(found: certificates.Certificate, now: float, whose: str) -> Finding:
    days = (found.expires_at - now) / _DAY_S
    detail = f"{whose}, until {datetime.fromtimestamp(found.expires_at, UTC).date().isoformat()}"
    if days < DUE_DAYS:
        return Finding("tls", Grade.FAILED if days < 0 else Grade.WARNING, detail, "Renew it, and restart the server.")
    return fine("tls", detail)


def proxy(around: Surroundings) -> Finding:
    """Whose word is taken for who calls."""
    settings = around.settings
    wrong = [text for text in settings.server_proxies if _network(text) is None]
    if wrong:
        return failed("proxy", f"{', '.join(wrong)} is no address", "[server] proxies holds addresses, not names.")
    wide = [text for text in settings.server_proxies if _is_wide(text)]
    if wide:
        hint = "Name the proxy's own address: whoever is believed may say to be anybody."
        return failed("proxy", f"{', '.join(wide)} believes far too many", hint)
    if settings.server_hosts and not settings.server_proxies and not settings.server_tls_certificate:
        hint = 'proxies = ["127.0.0.1"] under [server], where the proxy runs on this machine.'
        return warning("proxy", "its word is not taken, so all who come through it share one address", hint)
    if settings.server_proxies:
        return fine("proxy", f"{', '.join(settings.server_proxies)} is believed")
    return fine("proxy", "none")


def exposure(around: Surroundings) -> Finding:
    """What of ours listens beyond this machine, and whether a firewall stands before it."""
    settings = around.settings
    ours = {
        port_: name
        for name, url in (
            ("Ollama", settings.ollama_host),
            ("the llama.cpp server", settings.llama_server_url),
            ("the model server", settings.openai_url),
            ("Chroma", settings.vectors if settings.vectors != "embedded" else ""),
        )
        if (port_ := _local_port(url, 11434 if name == "Ollama" else 0))
    }
    open_ones = sorted(number for number in _listening_beyond(around) if number in ours)
    wall = _firewall(around)
    if open_ones:
        told = ", ".join(f"{ours[number]} (port {number})" for number in open_ones)
        hint = "Let it listen at 127.0.0.1, or shut the port: deploy/firewall/codehub.nft."
        return warning("firewall", f"{told} can be reached from beyond this machine and asks nobody for a key", hint)
    if not wall and around.checklist is Checklist.TEAM:
        hint = "deploy/firewall/codehub.nft lets in SSH, HTTP and HTTPS alone."
        return warning("firewall", "no sign of one", hint)
    return fine("firewall", wall or "no sign of one; nothing of codehub's without a key listens beyond this machine")


def keys(around: Surroundings) -> Iterator[Finding]:
    """Who holds keys, and which of them should go."""
    file = around.settings.data / "keys.db"
    if not file.exists():
        yield _without_keys(around.settings)
        return
    ring = KeyRing(file, around.clock)
    try:
        records = ring.records()
    finally:
        ring.close()
    now = around.clock()
    active = [record for record in records if record.state(now) == "active"]
    if not active:
        yield _without_keys(around.settings)
        return
    admins = [record for record in active if any(Scope.ADMIN in grant.scopes for grant in record.grants)]
    yield fine("keys", f"{len(active)} in use, {len(admins)} of them of administrators")
    for subject, found, words, hint in (
        ("old keys", [one for one in admins if _days(now, one.created_at) > OLD_ADMIN_DAYS], _OLD, _ROTATE),
        ("idle keys", [one for one in active if _idle(one, now)], _IDLE, "codehub keys revoke ID"),
        ("endless keys", [one for one in active if one.expires_at is None and one not in admins], _ENDLESS, _ROTATE),
    ):
        if found:
            named = ", ".join(f"{one.key_id} ({one.owner})" for one in sorted(found, key=lambda one: one.key_id))
            yield warning(subject, f"{named}: {words}", hint)


_OLD = f"administrators' keys of more than {OLD_ADMIN_DAYS} days"
_IDLE = f"not used for {IDLE_DAYS} days"
_ENDLESS = "they never expire"
_ROTATE = "codehub keys rotate ID"


def audit(around: Surroundings) -> Finding:
    """That nobody has touched what was written down."""
    file = around.settings.data / "audit.jsonl"
    if not file.exists():
        return fine("audit log", "nothing is written yet")
    found = AuditLog(file, around.clock).verify()
    if found.broken_at is not None:
        hint = "Somebody or something has changed it. Keep the files as they are, and see docs/keys.md."
        return failed("audit log", f"entry {found.broken_at} is not as it was written: {found.reason}", hint)
    return fine("audit log", f"{found.entries} entries, none of them changed")


def together(around: Surroundings) -> Iterator[Finding]:
    """Settings of which each is fine, and that are unsafe together."""
    found = list(_unsafe(around.settings))
    yield from found or [fine("settings", "nothing in them is unsafe together")]


def _unsafe(settings: Settings) -> Iterator[Finding]:
    if not is_loopback(settings.server_host) or settings.server_hosts:
        if settings.server_metrics == "open":
            yield _risky("[server] metrics is open, and the server can be reached from elsewhere", 'metrics = "key"')
        if not settings.secrets_redact:
            yield _risky("[secrets] redact is off, so keys in the code are shown to all who search", "redact = true")
    if settings.server_body_kilobytes > LARGE_BODY_KILOBYTES:
        yield _risky("[server] body_kilobytes lets each request fill memory", f"At most {LARGE_BODY_KILOBYTES}.")
    yield from _callers(settings)
    yield from _webhooks(settings)
    for name, url, secret in (
        ("[openai] url", settings.openai_url, settings.openai_key),
        ("[llama_server] url", settings.llama_server_url, settings.llama_server_key),
        ("vectors", settings.vectors, "what the code says"),
    ):
        parts = _parts(url)
        if parts.scheme == "http" and secret and not is_private(parts.hostname or ""):
            yield _risky(f"{name}: {parts.hostname} is far away and is spoken to without TLS", "Use https.")


def _callers(settings: Settings) -> Iterator[Finding]:
    if any("*" in name for name in settings.server_hosts):
        yield _bad("[server] hosts takes any name, so any web page can reach the server", "Name the hosts.")
    for origin in settings.server_origins:
        parts = _parts(origin)
        if "*" in origin:
            yield _bad("[server] origins takes any web page", "Name the pages.")
        elif parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            yield _risky(f"[server] origins: {origin} can be changed on its way", "Use its https address.")


def _webhooks(settings: Settings) -> Iterator[Finding]:
    signed = settings.webhooks_github_secret or settings.webhooks_gitlab_token or settings.webhooks_gitlab_signing_key
    if settings.webhooks_repositories and not signed:
        yield _bad("[webhooks] repositories without a secret: every webhook is refused", "docs/security.md, Webhooks")
    known = {workspace.name for workspace in DataFolder(settings.data).workspaces()}
    for entry in settings.webhooks_repositories:
        repository, equals, workspace = entry.partition("=")
        if not equals or "/" not in repository:
            yield _bad(f"[webhooks] repositories: {entry!r} is not like owner/name=workspace", "Correct it.")
        elif workspace not in known:
            yield _risky(f"[webhooks] repositories: there is no workspace {workspace!r}", "codehub index PATH")


def _bad(detail: str, hint: str) -> Finding:
    return Finding("settings", Grade.FAILED, detail, hint)


def _risky(detail: str, hint: str) -> Finding:
    return Finding("settings", Grade.WARNING, detail, hint)


def _without_keys(settings: Settings) -> Finding:
    if is_loopback(settings.server_host) and not settings.server_hosts:
        return fine("keys", "none: the same user of this machine needs none")
    return failed(
        "keys", "none, so nobody can use the server from elsewhere", "codehub keys create --owner NAME (docs/keys.md)"
    )


def _idle(record: KeyRecord, now: float) -> bool:
    return _days(now, record.last_used_at or record.created_at) > IDLE_DAYS


def _days(now: float, then: float) -> float:
    return (now - then) / _DAY_S


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's alone."""
    if host.lower() in _LOOPBACK_NAMES:
        return True
    address = _network(host)
    return address is not None and address.is_loopback


def is_private(host: str) -> bool:
    """Whether a name or address is of this machine or network: private addresses, and names without a dot."""
    address = _network(host)
    return address.is_private if address is not None else "." not in host or host.endswith((".internal", ".local"))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _is_wide(text: str) -> bool:
    network = _network(text)
    return network is not None and network.num_addresses > _MOST_PROXIES and not network.is_loopback


_MOST_PROXIES = 1 << 16  # of a container's network; IPv6 ones of a single link are wider and rarely a proxy's


def _answers(path: str) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            probe.connect(path)
    except OSError:
        return False
    return True


def _parts(url: str) -> SplitResult:
    """Of what is no address at all, nothing."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _local_port(url: str, otherwise: int) -> int:
    """The port of an address of this machine; 0 for others."""
    parts = _parts(url if "://" in url else f"//{url}")
    try:
        found = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0) or otherwise
    except ValueError:
        return 0
    host = parts.hostname or ""
    return found if url and (is_loopback(host) or host in {"0.0.0.0", "::"}) else 0  # noqa: S104 - compared, not bound


def _listening_beyond(around: Surroundings) -> set[int]:
    """The ports at which anything on this machine listens for others than itself."""
    found = set()
    for name in ("tcp", "tcp6"):
        for line in read_text(around.places.proc / "net" / name).splitlines()[1:]:
            fields = line.split()
            if len(fields) < _SOCKET_FIELDS or fields[3] != _LISTENS:
                continue
            address, _, number = fields[1].rpartition(":")
            if not _is_loopback_hex(address):
                found.add(int(number, 16))
    return found


_SOCKET_FIELDS = 4  # number, own address, other's address, state


def _is_loopback_hex(address: str) -> bool:
    """The kernel writes addresses in words of the machine's byte order, here a little-endian one."""
    if len(address) == 8 or address.startswith("0000000000000000FFFF0000"):
        return address.endswith("7F")
    return address == "00000000000000000000000001000000"


def _firewall(around: Surroundings) -> str:
    """The sign of one; its rules themselves are root's to read."""
    etc = around.root / "etc"
    if "ENABLED=yes" in read_text(etc / "ufw/ufw.conf"):
        return "ufw is switched on"
    if (around.root / "run/firewalld").exists():
        return "firewalld runs"
    if "policy drop" in read_text(etc / "nftables.conf"):
        return "/etc/nftables.conf drops what it does not know"
    return ""
