"""The files that a page loads: read once, served from memory under a name that changes with what they hold.

Nothing is opened by a name that a request gives, so no request can name what is not one of them.
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

_KINDS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    content: bytes
    kind: str  # media type


class Assets:
    """The static files by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def files(self) -> dict[str, Asset]:
        return {
            file.name: Asset(file.read_bytes(), _KINDS[file.suffix])
            for file in sorted(self._folder.iterdir())
            if file.suffix in _KINDS
        }

    @cached_property
    def digest(self) -> str:
        """Of all of them together, because scripts name one another without it."""
        summed = blake2b(digest_size=8)
        for name, asset in self.files.items():
            summed.update(name.encode() + b"\0" + asset.content)
        return summed.hexdigest()

    def url(self, name: str) -> str:
        """Raises KeyError where there is no such file: a template that names it is wrong."""
        self.files[name]
        return f"/static/{self.digest}/{name}"


ASSETS = Assets(Path(__file__).parent / "static")
