"""``codehub open``: a link that lets a browser into the running server, once."""

import argparse
import webbrowser

from hub import remote
from hub.cli.output import print_json, settings_of
from hub.errors import ServerError

_PATH = "/api/v1/login-links"


def open(options: argparse.Namespace) -> int:  # noqa: A001 - the command's name
    """Asks the server over its socket, which the same user alone can do."""
    server = remote.find(settings_of(options).data)
    if server is None:
        raise ServerError("No server runs on this data folder.", "Start one with `codehub serve`.")
    link = server.post(_PATH, {})
    url, seconds = server.url.rstrip("/") + str(link["path"]), int(link["expires_in_s"])
    opened = options.browser and webbrowser.open(url)
    if options.json:
        print_json({"url": url, "expires_in_s": seconds, "opened": opened})
    elif opened:
        print("Opened in the browser.")
    else:
        print(url)
        print(f"It works once, within {seconds // 60} minutes.")
    return 0
