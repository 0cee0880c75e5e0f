"""The server that runs on a data folder, as commands use it: found by its file, asked over its socket."""

from hub.remote.client import Remote, connected, find, version

__all__ = ["Remote", "connected", "find", "version"]
