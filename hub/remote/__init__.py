"""The server that runs on a data folder, as commands use it: found by its file, asked over its socket."""

from hub.remote.client import Remote, find, version

__all__ = ["Remote", "find", "version"]
