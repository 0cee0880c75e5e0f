"""The values of an examination: what was looked at, how it is, and the way out. Pure."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from hub.capacity import nvml
from hub.capacity.host import Places
from hub.config import Settings


class Grade(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Group(StrEnum):
    """What a finding is about; the order is that of a report."""

    MACHINE = "machine"
    FOLDER = "data folder"
    MODELS = "models"
    INDEXES = "indexes"
    SERVER = "server"


class Checklist(StrEnum):
    """The two ways of setting codehub up, each with what has to be looked at."""

    SINGLE = "single"
    TEAM = "team"


@dataclass(frozen=True, slots=True)
class Finding:
    """``hint`` is the way out; ``fixable`` says that ``fix`` takes it without a risk."""

    subject: str
    grade: Grade
    detail: str
    hint: str = ""
    group: Group = Group.MACHINE
    fixable: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file of a tree that is not indexed, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Repair:
    workspace: str
    done: str


@dataclass(frozen=True, slots=True)
class Fixed:
    """What ``fix`` did about a subject, or why it could not."""

    subject: str
    done: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that an examination looks at, so that a test can put another machine, clock or driver there."""

    settings: Settings
    places: Places = field(default_factory=Places)
    root: Path = Path("/")  # of the file system, for what stands in /etc and /run
    clock: Callable[[], float] = time.time
    ask_cards: Callable[[], nvml.Reading] = nvml.cards
    checklist: Checklist | None = None


def fine(subject: str, detail: str) -> Finding:
    return Finding(subject, Grade.OK, detail)


def warning(subject: str, detail: str, hint: str, *, fixable: bool = False) -> Finding:
    return Finding(subject, Grade.WARNING, detail, hint, fixable=fixable)


def failed(subject: str, detail: str, hint: str, *, fixable: bool = False) -> Finding:
    return Finding(subject, Grade.FAILED, detail, hint, fixable=fixable)
