"""The tool that an agent calls first. Knows nothing of how the evidence is chosen."""

from collections.abc import Sequence
from functools import partial

from agents.desk import Desk
from agents.errors import ArgumentError
from agents.exploring import DEFAULT_TOKENS, LEAST_TOKENS, MOST_TOKENS, Explored, Near, explore, nothing_near
from agents.model import Arguments, Call
from agents.parameters import Number, Text
from agents.text import one_line
from agents.tools.model import Tool
from agents.tools.replies import as_json
from hub.auth.model import Scope
from hub.remembering import Standing, standing
from hub.service import Service
from hub.shapes import confidence_shape, stamp_shape

MOST_QUESTION_CHARS = 20_000  # a stack trace of some hundred frames
NEAREST = 5  # notes of a session, and entries that people keep, that are told


def _explore(desk: Desk, call: Call, arguments: Arguments) -> str:
    handle, workspace = arguments["session"], arguments["workspace"]
    near: Near = nothing_near
    if handle:
        session = desk.sessions.get(call.principal, handle)
        if workspace not in ("", session.workspace):
            raise ArgumentError(
                f"That session is of the workspace {session.workspace}.", f'Say workspace="{session.workspace}".'
            )
        workspace = session.workspace
        desk.workspaces.chosen(call.principal, workspace, Scope.KNOWLEDGE)
        near = partial(desk.sessions.near, call.principal, handle, limit=NEAREST)
    with desk.workspaces.opened(call.principal, workspace or None) as service:
        known = partial(_kept, desk, call, service)
        found = explore(service, arguments["question"], arguments["tokens"], near, known)
    return as_json(_shape(found)) if call.as_json else found.text


def _kept(desk: Desk, call: Call, service: Service, symbols: Sequence[str], paths: Sequence[str]) -> Sequence[Standing]:
    kept = desk.lasting.near(call.principal, service.workspace, symbols, paths, NEAREST)
    return standing(desk.lasting, service, kept)


def _shape(found: Explored) -> dict[str, object]:
    return {
        "text": found.text,
        "blocks": [
            {
                "path": one_line(block.path),
                "symbol": one_line(block.symbol),
                "first_line": block.span.first_line,
                "last_line": block.span.last_line,
                "whole": block.whole,
            }
            for block in found.blocks
        ],
        "confidence": confidence_shape(found.confidence),
        "workspace": found.workspace,
        "stamp": stamp_shape(found.stamp),
    }


EXPLORE = Tool(
    name="explore",
    title="Explore the code",
    about=(
        "Start here: one call usually replaces grep and reading files. Takes a question, a symbol, an error or a stack "
        "trace; gives numbered code, callers, tests, docs, commits and how sure it is."
    ),
    parameters=(
        Text("question", most=MOST_QUESTION_CHARS, required=True),
        Number("tokens", "", least=LEAST_TOKENS, most=MOST_TOKENS, default=DEFAULT_TOKENS),
        Text("workspace"),
        Text("session", about="handle from remember"),
    ),
    scope=Scope.READ,
    read_only=True,
    destructive=False,
    idempotent=True,
    open_world=False,
    run=_explore,
)
