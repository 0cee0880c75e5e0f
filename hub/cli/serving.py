"""The command that keeps a server running: serve."""

import argparse
import os
import sys

from hub.cli import DONE, STOPPED
from hub.cli.adding import standing_at
from hub.cli.output import json_text, settings_of
from hub.errors import SettingsError
from hub.http_api.serving import Ended, Started
from hub.http_api.serving import serve as run


def serve(options: argparse.Namespace) -> int:
    """Runs until a signal ends it."""
    if options.workers != 1:
        raise SettingsError(
            f"{options.workers} workers cannot share a data folder: its jobs and limits are those of one process.",
            "Leave --workers out. Lookups and answers run side by side in threads, and jobs in processes.",
        )
    settings = settings_of(
        options,
        server_host=options.host,
        server_port=options.port,
        server_allow_plain=True if options.allow_plain else None,
    )

    def tell(started: Started) -> None:
        login = started.url + started.login
        if options.json:
            key = started.first_key.text if started.first_key else None
            shape = {"url": started.url, "socket": str(started.socket), "login": login, "first_key": key}
            print(json_text({**shape, "pid": os.getpid()}), flush=True)
            return
        print(f"codehub serves {settings.data} at {started.url}")
        print(f"  open {login} in a browser (once, within minutes; `codehub open` makes another)")
        if started.first_key:
            print(f"  the first key, which may do everything and is shown only now: {started.first_key.text}")
        print("  Ctrl-C stops it", flush=True)

    ended = run(settings, tell, [standing_at(each) for each in options.added.served])
    code = STOPPED if ended is Ended.BY_FORCE else DONE
    if ended is not Ended.IN_ORDER:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # threads that wait for a model would keep the process alive
    return code
