"""The one way to a tool: who may call it, what of, whether a person has to be asked, what is kept of it.

Scopes are asked for in the list of tools and again at each call, and a tool that is not for the caller is answered as
one that is not there. Whatever goes wrong ends as a result with a sentence and the next step, and the next call works.
Knows no protocol.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from agents.desk import Desk
from agents.errors import ApprovalNeeded, ArgumentError, ToolRefused
from agents.model import Arguments, Binding, Call, Effect
from agents.parameters import checked
from agents.records import Line, Records
from agents.text import capped, tokens
from agents.tools import TOOLS
from agents.tools.model import Tool
from hub.auth.approvals import Approval, Standing
from hub.auth.model import Principal, Scope
from hub.errors import Forbidden, HubError, SettingsError, UnknownAccess, WorkspaceError
from indexer.errors import Cancelled, DataFolderError, IndexerError

# Calls that cost a model's or a machine's time, of one key within a minute: as many as the settings let ask.
LIMITED = frozenset({"ask", "run"})
WORKSPACE, SESSION, APPROVAL = "workspace", "session", "approval"  # parameters that are read here
MOST_NAMED = 20  # workspaces that are told to whoever named none of them
_LOG = logging.getLogger("codehub.agents")
_MISTAKE = "The hub made a mistake, which it has logged. Call again; if it stays so, tell whoever runs it."

Limit = Callable[[str, int], float]  # a name and the most of it in a minute; the seconds to wait, 0 where it passes


@dataclass(frozen=True, slots=True)
class Result:
    """What a caller is told: text, or what went wrong and the next step."""

    text: str
    is_error: bool = False


@dataclass(slots=True)
class _Account:
    """What is known of a call so far, for the record."""

    principal: Principal
    action: str
    began: float
    workspace: str = ""
    outcome: str = "failed"
    detail: dict[str, str | int | float] = field(default_factory=dict)


class Router:
    """The tools of one process. Safe in several threads."""

    def __init__(
        self,
        desk: Desk,
        tools: Sequence[Tool] = TOOLS,
        limit: Limit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``clock`` is one that never jumps. Raises SettingsError where the settings turn off what is no tool."""
        off = set(desk.settings.agents_disabled)
        if unknown := off - {tool.name for tool in tools}:
            raise SettingsError(
                f"agents.disabled names {min(unknown)!r}, which is no tool.",
                f"There are {', '.join(tool.name for tool in tools)}.",
            )
        self._desk = desk
        self._tools = {tool.name: tool for tool in tools if tool.name not in off}
        self._limit = limit
        self._clock = clock
        self._records = Records(desk.audit, clock)

    def listed(self, principal: Principal) -> tuple[Tool, ...]:
        """The tools that he may call somewhere, in their fixed order."""
        return tuple(tool for tool in self._tools.values() if _holds(principal, tool.scope))

    def call(self, call: Call, name: str, arguments: Mapping[str, object] | None) -> Result:
        """Has a tool run in this thread. Whatever happens is told by the result, and recorded."""
        account = _Account(call.principal, "tool", self._clock())
        with _Contained() as contained:
            contained.result = self._answered(call, name, arguments, account)
        result = contained.result
        if account.outcome == "denied":
            return result  # which was recorded before it was told
        if contained.mistake:
            account.detail["reason"] = contained.mistake
        account.detail |= {"seconds": round(self._clock() - account.began, 3), "tokens": tokens(result.text)}
        self._records.later(self._line(account))
        return result

    def close(self) -> None:
        """Writes what is not on disk yet."""
        self._records.close()

    def _answered(self, call: Call, name: str, arguments: Mapping[str, object] | None, account: _Account) -> Result:
        with suppress(RecursionError, ValueError):  # lists in lists without end, numbers of thousands of digits
            account.detail["digest"] = _digest(name, arguments)
        try:
            text = self._done(call, name, arguments, account)
        except ApprovalNeeded as needed:
            account.outcome = "asked"
            account.detail["approval"] = needed.approval_id
            return Result(_told(needed.message, needed.hint), is_error=True)
        except (ToolRefused, Forbidden, WorkspaceError) as refused:
            account.outcome = "denied"
            account.detail["reason"] = type(refused).__name__
            self._records.denied(self._line(account), str(account.detail.get("rule", type(refused).__name__)))
            return Result(_told(refused.message, refused.hint), is_error=True)
        except (HubError, IndexerError) as error:
            account.outcome = "cancelled" if isinstance(error, Cancelled) else "failed"
            account.detail["reason"] = type(error).__name__
            return Result(capped(_told(error.message, error.hint)), is_error=True)
        account.outcome = "cancelled" if call.cancelled() else "done"
        return Result(capped(text))

    def _done(self, call: Call, name: str, arguments: Mapping[str, object] | None, account: _Account) -> str:
        tool = self._tools.get(name)
        if tool is None or not _holds(call.principal, tool.scope):
            raise self._no_such_tool(call.principal)
        account.action = f"tool.{tool.name}"
        given = checked(tool.parameters, arguments)
        workspace = self._chosen(call, tool, given)
        account.workspace = workspace
        if workspace:
            given = {**given, WORKSPACE: workspace}
        self._count(call.principal, tool)
        call = self._allowed(call, tool, given, account)
        if not tool.read_only:
            self._announce(account)
        return tool.run(self._desk, call, given)

    def _no_such_tool(self, principal: Principal) -> ToolRefused:
        listed = ", ".join(tool.name for tool in self.listed(principal))
        return ToolRefused(
            "There is no such tool for this key.", f"There are: {listed}." if listed else "Ask for a key that may call."
        )

    def _chosen(self, call: Call, tool: Tool, given: Arguments) -> str:
        """The name of the workspace that is meant; "" for a tool that takes none."""
        if all(parameter.name != WORKSPACE for parameter in tool.parameters):
            return ""
        named = given[WORKSPACE] or call.workspace or None
        if handle := given.get(SESSION):
            session = self._desk.sessions.get(call.principal, handle)
            if given[WORKSPACE] not in ("", session.workspace):
                raise ArgumentError(
                    f"The session is of the workspace {session.workspace}.", f"Leave {WORKSPACE} out, or the session."
                )
            named = session.workspace
        try:
            return self._desk.workspaces.chosen(call.principal, named, tool.scope).name
        except WorkspaceError as error:
            seen = [each.name for each in self._desk.workspaces.visible(call.principal)][:MOST_NAMED]
            raise WorkspaceError(error.message, f"There are: {', '.join(seen)}." if seen else error.hint) from None

    def _count(self, principal: Principal, tool: Tool) -> None:
        if self._limit is None or tool.name not in LIMITED:
            return
        most = self._desk.settings.server_asks_per_minute
        if wait := self._limit(f"{tool.name} {principal.key_id}", most):
            raise ToolRefused(
                f"{tool.name} may be called {most} times a minute.", f"Call it again in {int(wait) + 1} seconds."
            )

    def _allowed(self, call: Call, tool: Tool, given: Arguments, account: _Account) -> Call:
        """The call, with what it is bound to, once nothing stands against it. Raises ToolRefused."""
        verdict = self._desk.policy.decide(call.principal, account.workspace, tool.name, given)
        account.detail["rule"] = verdict.rule
        if verdict.effect is Effect.DENY:
            raise ToolRefused(verdict.reason or "That is not allowed here.", "Go on without it, or ask its user.")
        if tool.bind is not None:
            call = replace(call, bound=tool.bind(self._desk, call, given))
        if verdict.effect is Effect.ASK:
            self._require_approval(call, tool, given, account)
        return call

    def _require_approval(self, call: Call, tool: Tool, given: Arguments, account: _Account) -> None:
        """Uses an approval up that was given for exactly this. Raises ToolRefused and ApprovalNeeded."""
        shown = {name: value for name, value in given.items() if name != APPROVAL and value not in ("", (), None)}
        bound = call.bound or Binding(account.workspace, "", {"arguments": shown})
        # The caller is in it, so that one key does not use up what another was allowed.
        digest = _digest(tool.name, {**given, APPROVAL: ""}, call.principal.key_id, account.workspace, bound.state)
        approvals = self._desk.approvals
        approval_id = str(given.get(APPROVAL) or "")
        before = ""
        if approval_id:
            account.detail["approval"] = approval_id
            if approvals.take(approval_id, digest):
                return
            before = self._why_not(call.principal, approval_id, digest)
        asked = approvals.ask(call.principal, account.workspace, tool.name, digest, bound.told)
        raise ApprovalNeeded(
            f"{before}A person has to let this pass first. Asked, as {asked.approval_id}; nothing was done.",
            f"Tell your user to decide with {self._desk.approve_at}, then call {tool.name} again with the same"
            f' arguments and {APPROVAL}="{asked.approval_id}".',
            asked.approval_id,
        )

    def _why_not(self, principal: Principal, approval_id: str, digest: str) -> str:
        """Why an approval could not be used, where it is worth asking anew. Raises ToolRefused where it is not."""
        found: Approval | None
        try:
            found = self._desk.approvals.one(approval_id, principal)
        except UnknownAccess:
            found = None
        if found is None or found.asked_by != principal.key_id:
            return "There is no such approval of this key. "
        if found.digest != digest:
            return "That approval is for something else: the arguments or the tree have changed since. "
        match found.standing:
            case Standing.DENIED:
                raise ToolRefused("A person has refused this.", "Do not ask for it again; go on without it.")
            case Standing.TAKEN:
                return "That approval was used already. "
            case Standing.EXPIRED:
                return "That approval came too late. "
            case Standing.WAITING | Standing.GRANTED:
                return ""

    def _announce(self, account: _Account) -> None:
        """Raises ToolRefused where it cannot be recorded, so that nothing acts unseen."""
        try:
            self._records.before(replace(self._line(account), outcome="begun"))
        except DataFolderError:
            raise ToolRefused("This cannot be recorded, so it is not done.", "See `codehub doctor`.") from None

    def _line(self, account: _Account) -> Line:
        return Line(account.principal, account.action, account.workspace, account.outcome, dict(account.detail))


class _Contained:
    """Holds a mistake of our own back, so that it costs one call and not whoever waits for others."""

    def __init__(self) -> None:
        self.result = Result(_MISTAKE, is_error=True)
        self.mistake = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception):
            self.mistake = type(error).__name__
            # Without its message, which may quote what was asked.
            _LOG.error("A tool broke: %s", type(error).__name__, exc_info=error)
            return True
        return False


def _holds(principal: Principal, scope: Scope) -> bool:
    """Whether it is granted to him anywhere at all."""
    return any(scope in grant.scopes for grant in principal.grants)


def _digest(name: str, arguments: Mapping[str, object] | None, *bound: str) -> str:
    """Of a call: the same for the same tool, arguments and whatever else it is bound to."""
    told = json.dumps([name, arguments, *bound], sort_keys=True, default=str)
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()


def _told(message: str, hint: str) -> str:
    return f"{message} {hint}".strip()
