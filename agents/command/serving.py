"""``codehub mcp``: the tools over stdin and stdout, by the server that runs or else in this process."""

import argparse
import os
import sys
from pathlib import Path
from urllib.parse import quote

from agents.relay import Relay
from hub.cli import DONE
from hub.cli.output import settings_of
from hub.remote import find

_WORKSPACE, _FOLDER = "codehub-workspace", "codehub-folder"  # headers that the server reads


def mcp(options: argparse.Namespace) -> int:
    """Answers until stdin ends."""
    settings = settings_of(options)
    folder = Path.cwd().resolve()
    if sys.stdin.isatty():
        print("This is for an agent's program, which `codehub connect` tells of it. Ctrl-D ends it.", file=sys.stderr)
    if settings.use_server and find(settings.data) is not None:
        meant = {_WORKSPACE: options.workspace} if options.workspace else {_FOLDER: str(folder)}
        headers = {name: quote(text, errors="surrogateescape") for name, text in meant.items()}
        out = os.dup(sys.stdout.fileno())
        # Whatever else is printed here would break the protocol.
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        with os.fdopen(out, "wb") as stdout:

            def write(line: bytes) -> None:
                stdout.write(line)
                stdout.flush()

            Relay(lambda: find(settings.data), headers, write).run(sys.stdin.buffer)
        return DONE
    from agents.mcp_server.stdio import serve  # noqa: PLC0415 - 2 s that those need not wait for who have a server

    serve(settings, options.workspace or "", folder)
    return DONE
