"""A client's own configuration changed so that it uses our tools, and changed back. It asks nobody and prints nothing.

What is to be done is worked out first, as changes with their diffs, and carried out afterwards or not at all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agents.connect import guide, jsonc, toml_tables
from agents.connect.clients import CLIENTS, INPUT, NAME, Client, Entry, Served, Started, entry, file_of
from agents.connect.files import Change, Found, changed, look, write
from agents.errors import ConnectError


@dataclass(frozen=True, slots=True)
class Place:
    """Which file of a client is meant."""

    folder: Path  # the project's root, or the user's folder
    is_user: bool = False
    file: Path | None = None  # this one instead, wherever it is

    def find(self, client: Client) -> Found:
        if self.file is not None:
            return look(self.file, None)
        return look(file_of(client, self.folder, is_user=self.is_user), self.folder)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to become of which files; unchanged ones are among them."""

    client: Client
    changes: tuple[Change, ...]

    def is_any(self) -> bool:
        return any(change.is_any() for change in self.changes)


def connected(client: Client, server: Started | Served, place: Place, *, with_guide: bool) -> Plan:
    """The plan that lets a client use a server. Raises ConnectError where a file cannot be changed safely."""
    made = entry(client, server)
    changes = [_edited(place.find(client), lambda text: _put(client, made, text))]
    if with_guide:
        changes.append(_edited(look(place.folder / guide.FILE, place.folder), guide.put))
    return Plan(client, tuple(changes))


def disconnected(client: Client, place: Place, *, with_guide: bool | None) -> Plan:
    """The plan that undoes it. ``with_guide`` None takes the section away with the last client of the project.

    Raises ConnectError where a file cannot be changed safely.
    """
    changes = [_edited(place.find(client), lambda text: text if text is None else _take(client, text))]
    if with_guide is None:
        others = [other for other in CLIENTS.values() if other is not client]
        with_guide = not (place.is_user or place.file) and not any(_is_connected(other, place) for other in others)
    if with_guide:
        found = look(place.folder / guide.FILE, place.folder)
        changes.append(_edited(found, lambda text: text if text is None else guide.take(text)))
    return Plan(client, tuple(changes))


def carry_out(plan: Plan) -> tuple[Path, ...]:
    """Writes what changes, and returns where the files are kept as they were. Raises ConnectError."""
    kept = [write(change) for change in plan.changes if change.is_any()]
    return tuple(path for path in kept if path is not None)


def _edited(found: Found, edit: Callable[[str | None], str | None]) -> Change:
    try:
        return changed(found, edit(found.text()))
    except ConnectError as error:
        raise ConnectError(f"{found.path}: {error.message}", error.hint) from error


def _put(client: Client, made: Entry, text: str | None) -> str:
    if client.is_toml:
        return toml_tables.put(text, (made.container, NAME), made.server)
    changed_text = jsonc.put(text, made.container, NAME, made.server)
    if made.asked is not None:
        return jsonc.put(changed_text, "inputs", INPUT, made.asked)
    if text is not None and client.name == "vscode":  # where it asked before
        return jsonc.take(changed_text, "inputs", INPUT) or changed_text
    return changed_text


def _take(client: Client, text: str) -> str | None:
    """The last that was put in first."""
    if client.is_toml:
        return toml_tables.take(text, (client.container, NAME))
    left: str | None = text
    if client.name == "vscode":
        left = jsonc.take(text, "inputs", INPUT)
    return None if left is None else jsonc.take(left, client.container, NAME)


def _is_connected(client: Client, place: Place) -> bool:
    """Whether a file of the project names our server, as far as can be read."""
    try:
        text = place.find(client).text()
        if text is None:
            return False
        if client.is_toml:
            return toml_tables.shown(text, (client.container, NAME)) is not None
        return jsonc.shown(text, client.container, NAME) is not None
    except ConnectError:
        return True  # nobody is told less because a file cannot be read
