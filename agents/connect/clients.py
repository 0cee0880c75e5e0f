"""The clients: where each keeps its servers, and how each writes one down. No key is written, only where it is found.

Sources: the clients' own pages on MCP, as of November 2026: code.claude.com/docs/en/mcp, cursor.com/docs/context/mcp,
geminicli.com/docs/tools/mcp-server, developers.openai.com/codex/mcp,
code.visualstudio.com/docs/copilot/reference/mcp-configuration.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agents.errors import ConnectError

NAME = "codehub"  # of the server, in every client
INPUT = "codehub-key"  # what VS Code asks for, and keeps itself
SECONDS = 600  # that one call may take: builds and tests are waited for
START_SECONDS = 30
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_URL = re.compile(r"https?://[A-Za-z0-9._:\[\]~/-]{1,500}")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Started:
    """The client starts us: a program and its arguments."""

    command: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Served:
    """The client asks a server; the key is in a variable of the client's environment ("" for the default)."""

    url: str
    variable: str = ""


@dataclass(frozen=True, slots=True)
class Client:
    """One program that agents run in."""

    name: str
    title: str
    project: str  # its file, below the root of a project
    user: str  # its file, below the user's folder
    container: str  # what its servers stand in
    is_toml: bool = False
    expands: bool = True  # whether it replaces $ in what it starts
    note: str = ""  # what a person still has to do


@dataclass(frozen=True, slots=True)
class Entry:
    """What is written for a client: a server, and for VS Code what it has to ask for."""

    container: str
    server: dict[str, Any]
    asked: dict[str, Any] | None = None


def _code_folder() -> str:
    if sys.platform == "darwin":
        return "Library/Application Support/Code/User/mcp.json"
    return "AppData/Roaming/Code/User/mcp.json" if sys.platform == "win32" else ".config/Code/User/mcp.json"


CLIENTS = {
    client.name: client
    for client in (
        Client(
            *("claude", "Claude Code", ".mcp.json", ".claude.json", "mcpServers"),
            note="Claude Code asks once whether the servers of this project may be used; /mcp shows them. It reads"
            " CLAUDE.md: put a line with @AGENTS.md there, and it reads that, too.",
        ),
        Client(
            *("cursor", "Cursor", ".cursor/mcp.json", ".cursor/mcp.json", "mcpServers"),
            note="Switch it on in Cursor's settings, under MCP.",
        ),
        Client(
            *("gemini", "Gemini CLI", ".gemini/settings.json", ".gemini/settings.json", "mcpServers"),
            note="/mcp shows it. Gemini CLI reads GEMINI.md; its setting context.fileName can name AGENTS.md, too.",
        ),
        Client(
            *("codex", "Codex", ".codex/config.toml", ".codex/config.toml", "mcp_servers"),
            is_toml=True,
            expands=False,
            note="Codex reads the file of a project only where you have trusted the project.",
        ),
        Client(
            *("vscode", "VS Code", ".vscode/mcp.json", _code_folder(), "servers"),
            note="Start it in VS Code: MCP: List Servers.",
        ),
    )
}
DEFAULT_VARIABLE = "HUB_KEY"  # not CODEHUB_..., which are settings, each known by its name


def entry(client: Client, server: Started | Served) -> Entry:
    """What a client's file is to say. Raises ConnectError where it cannot be said, or would give a secret away."""
    made = _started(client, server) if isinstance(server, Started) else _served(client, server)
    asks = client.name == "vscode" and isinstance(server, Served) and not server.variable
    asked = {"type": "promptString", "id": INPUT, "description": "Key of codehub", "password": True}
    return Entry(client.container, made, asked if asks else None)


def _started(client: Client, server: Started) -> dict[str, Any]:
    for part in (server.command, *server.arguments):
        if client.expands and "$" in part:
            raise ConnectError(
                f"{part!r} holds a $, which {client.title} would replace.", "Use a folder and a name without it."
            )
        if not part.isprintable():
            raise ConnectError(f"{part!r} cannot be written down.", "Use a folder and a name of printable letters.")
    if client.name == "codex":
        return {
            "command": server.command,
            "args": list(server.arguments),
            "startup_timeout_sec": START_SECONDS,
            "tool_timeout_sec": SECONDS,
        }
    made = {"type": "stdio", "command": server.command, "args": list(server.arguments)}
    if client.name == "claude":
        return made | {"timeout": SECONDS * 1000}
    if client.name == "gemini":
        del made["type"]
        return made | {"timeout": SECONDS * 1000, "trust": False}
    return made


def _served(client: Client, server: Served) -> dict[str, Any]:
    url, variable = _address(server.url), server.variable or DEFAULT_VARIABLE
    if not _VARIABLE.fullmatch(variable):
        raise ConnectError(
            "That is no name of an environment variable.", "Name the variable, such as HUB_KEY; never the key itself."
        )
    if variable.startswith("CODEHUB_"):
        raise ConnectError(
            f"{variable} would be taken for a setting of codehub.", f"Take another name, such as {DEFAULT_VARIABLE}."
        )
    if client.name == "claude":
        header = {"Authorization": f"Bearer ${{{variable}}}"}
        return {"type": "http", "url": url, "headers": header, "timeout": SECONDS * 1000}
    if client.name == "cursor":
        return {"url": url, "headers": {"Authorization": f"Bearer ${{env:{variable}}}"}}
    if client.name == "gemini":
        header = {"Authorization": f"Bearer ${variable}"}
        return {"httpUrl": url, "headers": header, "timeout": SECONDS * 1000, "trust": False}
    if client.name == "codex":
        return {
            "url": url,
            "bearer_token_env_var": variable,
            "startup_timeout_sec": START_SECONDS,
            "tool_timeout_sec": SECONDS,
        }
    value = f"${{env:{server.variable}}}" if server.variable else f"${{input:{INPUT}}}"
    return {"type": "http", "url": url, "headers": {"Authorization": f"Bearer {value}"}}


def _address(url: str) -> str:
    """The URL of the tools. No user, no password, no query: those may hold secrets."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or not _URL.fullmatch(url):
        raise ConnectError(
            "That is no address of a server.", "Give it as https://HOST/mcp, without user, password and query."
        )
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise ConnectError(
            "The key would go over the network unencrypted.", "Give an address that begins with https://."
        )
    return url.rstrip("/") if parts.path.strip("/") else f"{url.rstrip('/')}/mcp"


def file_of(client: Client, folder: Path, *, is_user: bool) -> Path:
    """Where a client keeps its servers, below a project or the user's folder."""
    return folder / (client.user if is_user else client.project)
