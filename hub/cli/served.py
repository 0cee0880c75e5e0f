"""Which server a command uses: the one of its data folder, where it would answer as the command itself does."""

import sys

from hub import config
from hub.remote import Remote, find, version


def server_for_jobs(settings: config.Settings) -> Remote | None:
    """The server to hand work over to. A line on standard error where one runs that is of another version."""
    if not settings.use_server:
        return None
    remote = find(settings.data)
    if remote is not None and remote.version != version():
        print(
            f"note: the server (process {remote.pid}) is of version {remote.version or 'unknown'} and is not used;"
            " start it anew",
            file=sys.stderr,
        )
        return None
    return remote


def server_for_answers(settings: config.Settings) -> Remote | None:
    """The server that answers as this command would."""
    remote = server_for_jobs(settings)
    return remote if remote is not None and remote.settings == config.fingerprint(settings) else None
