"""By what names the server may be called, from which web pages, and from where a request really comes. Pure.

A page of a stranger can make a browser call a server on its own machine: under the stranger's name (DNS rebinding),
which the names stop, or from the stranger's page, which the origins stop. What a proxy says of a request is believed of
the proxies in the settings alone, and never what it says of the name (OWASP ASVS 5.0, 4.1.3).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from hub.config import Settings

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
BY_SOCKET = "unix"  # among the proxies: one that comes by the local socket
_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9_-](?:[a-z0-9_.-]{0,252}))(?::([0-9]{1,5}))?")
_ORIGIN = re.compile(r"(https?)://([^/?#@\s]{1,262})")
_MOST_HOPS = 20
_DEFAULT_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class Names:
    """What the settings allow, made ready to compare."""

    hosts: frozenset[str]
    origins: frozenset[str]  # scheme://host:port
    proxies: tuple[str, ...]  # networks, and BY_SOCKET


def names_of(settings: Settings) -> Names:
    """Names without their ports: one that is right at another port is not a stranger's."""
    own = settings.server_host.lower()
    listening = f"[{own}]" if ":" in own else own
    hosts = {_host_and_port(host.lower())[0] for host in (*settings.server_hosts, listening)}
    origins = {origin for text in settings.server_origins if (origin := canonical_origin(text.rstrip("/")))}
    return Names(frozenset(hosts - {"", "0.0.0.0", "[::]"}) | LOOPBACK, frozenset(origins), settings.server_proxies)  # noqa: S104 - taken out: an address of all is nobody's name


def known_host(names: Names, host: str) -> bool:
    return _host_and_port(host.lower())[0] in names.hosts


def canonical_origin(text: str) -> str:
    """scheme://host:port of an Origin header, or "" for what is none, such as "null"."""
    found = _ORIGIN.fullmatch(text.lower())
    if found is None:
        return ""
    host, port = _host_and_port(found[2])
    return f"{found[1]}://{host}:{port or _DEFAULT_PORTS[found[1]]}" if host else ""


def same_origin(origin: str, scheme: str, host: str) -> bool:
    """Whether a page comes from this very server, as it was called."""
    return bool(origin) and origin == canonical_origin(f"{scheme}://{host}")


def _host_and_port(text: str) -> tuple[str, str]:
    found = _HOST.fullmatch(text)
    if found is None:
        return "", ""
    return found[1].rstrip("."), found[2] or ""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a request comes from. ``address`` is "" for the local socket."""

    address: str
    scheme: str
    proxied: bool  # it carries a proxy's headers, whether they are believed or not


def source_of(names: Names, client: str, scheme: str, headers: Mapping[bytes, Sequence[bytes]]) -> Source:
    """``client`` is the address of the connection, "" for the local socket."""
    proxied = any(name in headers for name in (b"x-forwarded-for", b"forwarded", b"x-real-ip", b"x-forwarded-proto"))
    if not proxied or not _trusted(names.proxies, client):
        return Source(client, scheme, proxied)
    address = client
    hops = b",".join(headers.get(b"x-forwarded-for", ())).decode("latin-1").split(",")
    for hop in reversed(hops[-_MOST_HOPS:]):  # the nearest first: each vouches for the one before it
        text = hop.strip()
        if not _address(text):
            break
        address = text
        if not _trusted(names.proxies, text):
            break
    told = [value.strip().lower() for value in headers.get(b"x-forwarded-proto", ())]
    return Source(address, "https" if told == [b"https"] else scheme, proxied)


@lru_cache(maxsize=4096)
def _trusted(proxies: tuple[str, ...], address: str) -> bool:
    if not address:
        return BY_SOCKET in proxies
    found = _address(address)
    if found is None:
        return False
    for text in proxies:
        if text == BY_SOCKET:
            continue
        try:
            if found in ip_network(text, strict=False):
                return True
        except ValueError:
            continue  # what is no address is nobody's
    return False


@lru_cache(maxsize=4096)
def subscriber(address: str) -> str:
    """Whom an address belongs to: itself, or of IPv6 the network of 64 bits that one household has."""
    found = _address(address)
    if isinstance(found, IPv6Address):
        return str(IPv6Network((int(found) >> 64 << 64, 64)))
    return address


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        return found.ipv4_mapped
    return found
