"""What a tool may be called with: flat, bounded parameters, shown as JSON Schema and checked by the same values.

Knows nothing of tools and callers. Work is bounded by the bounds: a text is measured before it is looked into, and what
is wrong with it is told without repeating it at length.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from agents.errors import ArgumentError
from agents.model import Arguments
from hub.prompting import visible

# Characters of a text that says no other bound, such as a workspace's name or a cursor. It is checked and not told:
# nothing that is meant comes near it. 200 to 4,000.
USUAL_CHARS = 1_000
MOST_SHOWN = 60  # characters of a wrong argument that are told back
MOST_ARGUMENTS = 64  # of one call; the largest tool has about ten

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    """A string of at most ``most`` characters, which the whole of ``pattern`` matches. A required one is not empty."""

    name: str
    about: str = ""
    most: int = USUAL_CHARS
    pattern: str | None = None
    required: bool = False
    default: str = ""

    def schema(self) -> Json:
        shape: Json = {"type": "string"}
        if self.most != USUAL_CHARS:
            shape["maxLength"] = self.most
        if self.pattern is not None:
            shape["pattern"] = f"^(?:{self.pattern})$"
        return _described(shape, self.about)

    def checked(self, value: object) -> str:
        """The value. Raises ArgumentError."""
        if not isinstance(value, str):
            raise _wrong(self.name, f"is {_kind(value)}", "It is a string.")
        text = _bounded(self.name, value, self.most)
        if self.required and not text:
            raise _wrong(self.name, "is empty", "Say what is meant.")
        if self.pattern is not None and not re.fullmatch(self.pattern, text):
            raise _wrong(self.name, f"is {_shown(text)}", f"It has to match {self.pattern}.")
        return text


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number, ``least`` and ``most`` included."""

    name: str
    about: str
    least: int
    most: int
    default: int
    required = False

    def schema(self) -> Json:
        shape: Json = {"type": "integer", "minimum": self.least, "maximum": self.most}
        return _described(shape, self.about)

    def checked(self, value: object) -> int:
        """The value; what JSON writes as 3.0 is 3. Raises ArgumentError."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong(self.name, f"is {_kind(value)}", f"It is a whole number, {self.least} to {self.most}.")
        if not self.least <= value <= self.most:
            shown = value if abs(value) < 10**20 else "out of all bounds"
            raise _wrong(self.name, f"is {shown}", f"It is a number from {self.least} to {self.most}.")
        return value


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words. An empty one stands for the default, as some clients fill in what is not said."""

    name: str
    about: str
    choices: tuple[str, ...]
    default: str
    required = False

    def schema(self) -> Json:
        return _described({"enum": list(self.choices)}, self.about)

    def checked(self, value: object) -> str:
        """The value. Raises ArgumentError."""
        if value == "":
            return self.default
        if not isinstance(value, str) or value not in self.choices:
            told = _shown(value) if isinstance(value, str) else _kind(value)
            raise _wrong(self.name, f"is {told}", f"It is one of {', '.join(self.choices)}.")
        return value


@dataclass(frozen=True, slots=True)
class Texts:
    """A list of at most ``most_items`` strings of at most ``most`` characters each, none of them empty."""

    name: str
    about: str
    most_items: int
    most: int
    required: bool = False

    @property
    def default(self) -> tuple[str, ...]:
        return ()

    def schema(self) -> Json:
        shape: Json = {
            "type": "array",
            "items": {"type": "string", "maxLength": self.most},
            "maxItems": self.most_items,
        }
        return _described(shape, self.about)

    def checked(self, value: object) -> tuple[str, ...]:
        """The values. Raises ArgumentError."""
        if not isinstance(value, list | tuple):
            raise _wrong(self.name, f"is {_kind(value)}", 'It is a list of strings, such as ["one"].')
        if len(value) > self.most_items:
            raise _wrong(self.name, f"has {len(value)} entries", f"{self.most_items} are the most.")
        if self.required and not value:
            raise _wrong(self.name, "is empty", "Name at least one.")
        for entry in value:
            if not isinstance(entry, str) or not entry:
                told = "an empty string" if entry == "" else _kind(entry)
                raise _wrong(self.name, f"holds {told}", "It is a list of strings that say something.")
        return tuple(_bounded(self.name, entry, self.most) for entry in value)


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    name: str
    about: str
    default: bool = False
    required = False

    def schema(self) -> Json:
        shape: Json = {"type": "boolean", "default": True} if self.default else {"type": "boolean"}
        return _described(shape, self.about)

    def checked(self, value: object) -> bool:
        """The value. Raises ArgumentError."""
        if not isinstance(value, bool):
            raise _wrong(self.name, f"is {_kind(value)}", "It is true or false.")
        return value


Parameter = Text | Number | Choice | Texts | Flag


def schema(parameters: Sequence[Parameter]) -> Json:
    """The JSON Schema (2020-12) of an object of these: what a client is shown, and each model reads with every task.

    So it says only what a caller could not guess: most defaults are left out, and bounds that ``checked`` names.
    """
    shape: Json = {"type": "object", "properties": {each.name: each.schema() for each in parameters}}
    required = [each.name for each in parameters if each.required]
    if required:
        shape["required"] = required
    return shape


def checked(parameters: Sequence[Parameter], arguments: Mapping[str, object] | None) -> Arguments:
    """What is given, with defaults for what is not, null among it. Raises ArgumentError.

    It takes what ``schema`` takes and an empty choice, less names that no parameter has, required texts that are empty,
    empty ones in a list, texts above USUAL_CHARS where no other bound is told, and halves of surrogate pairs, which
    nothing could store.
    """
    given = {} if arguments is None else arguments
    if not isinstance(given, Mapping):
        raise ArgumentError(f"The arguments are {_kind(given)}.", "They are one JSON object.")
    if len(given) > MOST_ARGUMENTS:
        raise ArgumentError(f"There are {len(given)} arguments.", _takes(parameters))
    names = [each.name for each in parameters]
    for name in given:
        if name not in names:
            near = get_close_matches(str(name)[:MOST_SHOWN], names, 1)
            told = f"Did you mean {near[0]}? " if near else ""
            raise ArgumentError(f"There is no parameter {_shown(str(name))}.", told + _takes(parameters))
    values: dict[str, Any] = {}
    for parameter in parameters:
        value = given.get(parameter.name)
        if value is not None:
            values[parameter.name] = parameter.checked(value)
        elif parameter.required:
            raise _wrong(parameter.name, "is missing", _takes(parameters))
        else:
            values[parameter.name] = parameter.default
    return values


def _takes(parameters: Sequence[Parameter]) -> str:
    named = [each.name if each.required else f"[{each.name}]" for each in parameters]
    return f"The parameters are {', '.join(named)}." if named else "There are no parameters."


def _bounded(name: str, value: str, most: int) -> str:
    if len(value) > most:
        raise _wrong(name, f"has {len(value):,} characters", f"{most:,} are the most.")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _wrong(name, "holds half of a surrogate pair", "Send valid Unicode.") from None
    return value


def _wrong(name: str, what: str, hint: str) -> ArgumentError:
    return ArgumentError(f"{name} {what}.", hint)


def _shown(text: str) -> str:
    """What was given, in quotes and in one line, its beginning where it is long."""
    short = text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…"
    return repr(visible(short))


def _kind(value: object) -> str:
    """What JSON calls it."""
    if value is None:
        return "null"
    for types, name in (((bool,), "true or false"), ((int, float), "a number"), ((str,), "a string")):
        if isinstance(value, types):
            return name
    return "a list" if isinstance(value, list | tuple) else "an object"


def _described(shape: Json, about: str) -> Json:
    return {**shape, "description": about} if about else shape
