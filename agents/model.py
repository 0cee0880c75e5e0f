"""The values that the parts of this package speak: calls of tools, what is decided of them, what is run. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hub.auth.model import ALL_WORKSPACES, Grant, Principal, Scope

Arguments = Mapping[str, Any]  # checked, with the defaults filled in

# Whoever comes to the tools as the same user of this machine, without a key. It has no scope to approve: what it asks
# for is let pass by that user in another way, so that an agent does not decide about itself.
AGENT = Principal(
    "agent",
    "an agent of this machine's user",
    (Grant(ALL_WORKSPACES, frozenset({Scope.READ, Scope.KNOWLEDGE, Scope.EXECUTE, Scope.WRITE})),),
)


class Mode(StrEnum):
    """How far agents are let act at all, whatever their keys say; the setting ``[agents] mode``."""

    READ = "read"  # they run nothing
    ASK = "ask"  # a person lets each run pass
    TRUSTED = "trusted"  # recipes run, where no rule says otherwise


class Effect(StrEnum):
    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is decided of one call, and by which rule."""

    effect: Effect
    rule: str  # a name for the audit log
    reason: str  # a sentence for whoever called; "" where it is allowed


def ignore_progress(_words: str, _done: float, _total: float | None) -> None:
    """For callers that wait for the result."""


def never() -> bool:
    """For callers that do not cancel."""
    return False


@dataclass(frozen=True, slots=True)
class Binding:
    """What exactly an approval is for, beside tool and arguments."""

    workspace: str
    state: str  # of the tree that would be used: commit and digest of local changes
    told: Mapping[str, object]  # what a person is shown to decide by
    prepared: object = None  # what the tool has worked out and takes up again, so that it cannot change in between


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool: who calls, and how to reach him while it runs. ``tell`` may be called from any thread."""

    principal: Principal
    tell: Callable[[str, float, float | None], None] = ignore_progress  # words, done, total where it is known
    cancelled: Callable[[], bool] = never
    as_json: bool = False  # the caller, a program, wants one JSON object instead of text
    workspace: str = ""  # that is meant where the arguments name none
    bound: Binding | None = None  # what was allowed, for tools that have a binding


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may take. Bytes and seconds."""

    seconds: float
    memory: int
    processes: int
    disk: int
    output: int  # of what is kept


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PASSED = "passed"  # every step ended with 0
    FAILED = "failed"  # a step did not
    STOPPED = "stopped"  # by a limit, which ``reason`` names
    CANCELLED = "cancelled"
    BROKEN = "broken"  # it could not be run; ``reason`` says why

    @property
    def ended(self) -> bool:
        return self not in (RunState.QUEUED, RunState.RUNNING)


class FindingKind(StrEnum):
    """What a program's output tells."""

    ERROR = "error"  # of a compiler or linker
    WARNING = "warning"
    TEST = "test"  # that failed
    CRASH = "crash"  # a sanitizer's report, a signal


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an output tells, with the place it names and the symbols that stand there."""

    kind: FindingKind
    message: str  # one line
    tool: str  # gcc, clang, ld, ctest, gtest, catch2, ...
    path: str = ""  # relative to the tree; "" where none is named
    line: int = 0
    test: str = ""  # the name of a test that failed
    detail: str = ""  # the lines that belong to it, cut short
    symbols: tuple[str, ...] = ()  # qualified names, the likeliest first


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a run, and how it ended."""

    argv: tuple[str, ...]
    code: int | None  # None where it did not end by itself
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """A recipe that was started, and what became of it. Times are Unix times."""

    id: str
    workspace: str
    recipe: str
    asked_by: str  # a key's id
    state: RunState
    commit: str  # that was checked out
    changes: str = ""  # digest of what was applied on top of it: local changes, a patch; "" for none
    patch: str = ""  # the id under which an applied patch is kept
    stage: str = ""
    reason: str = ""
    steps: tuple[Step, ...] = ()
    output: str = ""  # of the last step that failed, else of the last one: beginning and end, secrets taken out
    output_bytes: int = 0  # that it wrote in all
    diff: str = ""  # what an applied patch changed
    findings: tuple[Finding, ...] = ()
    layers: tuple[str, ...] = ()  # of the sandbox: bubblewrap, seccomp, landlock, cgroup
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
