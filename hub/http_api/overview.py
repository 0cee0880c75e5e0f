"""What there is: who asks, the workspaces and how fresh they are, all facts of one, a plan of models, and health."""

import time
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi import Path as InPath
from pydantic import Field

from hub import background, following, shapes
from hub.calibrating import unattended
from hub.capacity import calibration, catalogue, machine, planning
from hub.capacity.model import Calibration, KvType
from hub.capacity.planning import Task, Wish
from hub.capacity.shapes import plan_shape, survey_shape
from hub.config import Settings
from hub.http_api import examples
from hub.http_api.access import Caller
from hub.http_api.errors import answers, refusal
from hub.http_api.events import Channel, EventStream
from hub.http_api.shaping import JsonResponse, Text, WorkspaceName, encoded, shaped
from hub.http_api.state import Shared, State
from hub.shapes import Json
from hub.standing import Behind, behind, state_shape
from indexer.errors import DataFolderError
from indexer.index import DataFolder, Index

router = APIRouter(prefix="/api/v1", tags=["overview"])
health = APIRouter(tags=["health"])

NDJSON = "application/x-ndjson"
_EXPORT_BATCH = 200  # objects that are written at once
_BELIEVED_S = 5.0  # how long what git says of a tree is taken for true: a status of a large one takes a second
_MOST_TREES = 100


@router.get("/whoami", summary="Who asks, and what is granted", responses={**answers(), **shaped(examples.WHO)})
async def whoami(principal: Caller) -> Response:
    grants = [
        {"workspace": grant.workspace, "scopes": sorted(scope.value for scope in grant.scopes)}
        for grant in principal.grants
    ]
    return JsonResponse({"key_id": principal.key_id, "owner": principal.owner, "grants": grants})


@router.get(
    "/workspaces", summary="The workspaces that may be seen", responses={**answers(), **shaped(examples.WORKSPACES)}
)
async def workspaces(state: Shared, principal: Caller) -> Response:
    seen = await state.look(state.workspaces.visible, principal)
    entries = [{"name": one.name, "root": str(one.root), "used_at": one.used_ns / 1e9} for one in seen]
    return JsonResponse({"workspaces": entries})


@router.get(
    "/workspaces/{workspace}",
    summary="What is indexed of a workspace, and how fresh it is",
    responses={**answers(403, 404), **shaped(examples.WORKSPACE)},
)
async def workspace(
    state: Shared, principal: Caller, workspace: Annotated[Text, InPath(min_length=1, max_length=64)]
) -> Response:
    def told() -> bytes:
        with state.workspaces.reading(principal, workspace) as index:
            return encoded(_state_of(DataFolder(state.settings.data), index))

    return JsonResponse(await state.look(told))


def _state_of(data: DataFolder, index: Index) -> Json:
    moved = FRESHNESS.of(index.root, index.stamp().commit)
    at_work, learning = background.state(data), unattended.state(data)
    followed = next((tree for tree in following.state(data.path) if tree.workspace == index.workspace), None)
    return {
        "name": index.workspace,
        "root": str(index.root),
        "head": moved.head,
        "behind_s": moved.seconds,
        "behind_commits": moved.commits,
        **state_shape(data, index, index.table.embedders()),
        "followed": following.followed_shape(followed) if followed else None,
        # Both work for the whole folder: what they do to other workspaces is no business of this one's readers.
        "background": asdict(at_work) if at_work and at_work.workspace == index.workspace else None,
        "calibrating": asdict(learning) if learning and learning.workspace == index.workspace else None,
    }


class _Freshness:
    """How far trees have moved on since they were indexed, asked of git at most every few seconds."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: dict[tuple[Path, str | None], tuple[float, Behind]] = {}

    def of(self, root: Path, indexed: str | None) -> Behind:
        now = time.monotonic()
        with self._lock:
            at, told = self._known.get((root, indexed), (0.0, None))
            if told is not None and now - at < _BELIEVED_S:
                return told
        told = behind(root, indexed)
        with self._lock:
            while len(self._known) >= _MOST_TREES:
                del self._known[next(iter(self._known))]
            self._known[root, indexed] = (now, told)
        return told


FRESHNESS = _Freshness()


@router.get(
    "/plan",
    summary="Which models and contexts fit a machine, and how fast they are there",
    responses={**answers(400), **shaped(examples.PLAN)},
)
async def plan(
    state: Shared,
    _principal: Caller,
    models: Annotated[
        list[Text] | None,
        Query(alias="model", max_length=8, description="Names such as qwen3-coder:30b; by default all known."),
    ] = None,
    gpu: Annotated[Text | None, Query(max_length=200, description="By default the server's.")] = None,
    ram: Annotated[Text | None, Query(max_length=200, description="By default the server's.")] = None,
    contexts: Annotated[
        list[Annotated[str, Field(pattern=r"^[1-9][0-9]{0,7}[KkMm]?$")]] | None,
        Query(alias="context", max_length=16, description="Tokens of a user, such as 131072 or 128K."),
    ] = None,
    users: Annotated[int, Query(ge=1, le=1_000)] = 1,
    kv: KvType | None = None,
    task: Task = Task.REVIEW,
) -> Response:
    wish = Wish(tuple(sorted({_tokens(text) for text in contexts or ()})), users=users, kv_type=kv, task=task)
    return JsonResponse(await state.look(_planned, state.settings, tuple(models or ()), gpu, ram, wish))


def _planned(settings: Settings, models: tuple[str, ...], gpu: str | None, ram: str | None, wish: Wish) -> bytes:
    """By names of the catalogue alone: a path would let whoever asks look at files of the server."""
    there = machine.described(gpu, ram)
    shapes_of = [catalogue.find(name) for name in models or catalogue.models()]
    measured = Calibration()
    if gpu is None and ram is None:  # another machine has not been measured
        measured = calibration.load(settings.data, there, model=shapes_of[0].name if len(shapes_of) == 1 else "")
    if len(shapes_of) == 1:
        return encoded(plan_shape(planning.plan(shapes_of[0], there, wish, measured), ()))
    return encoded(survey_shape(planning.survey(shapes_of, there, wish, measured)))


def _tokens(text: str) -> int:
    units = {"K": 1 << 10, "M": 1 << 20}
    return min(1 << 30, int(text.rstrip("KkMm")) * units.get(text[-1].upper(), 1))


@router.get(
    "/export",
    response_class=Response,
    summary="All symbols and edges of a workspace, one JSON object a line",
    responses={
        **answers(403, 404),
        200: {
            "description": "A line for each symbol, then for each edge; the last one tells an error if there was one.",
            "content": {NDJSON: {"schema": {"type": "string"}, "example": examples.EXPORT}},
        },
    },
)
async def export(state: Shared, principal: Caller, workspace: WorkspaceName = None) -> Response:
    chosen = await state.look(state.workspaces.chosen, principal, workspace)

    def write(channel: Channel) -> None:
        try:
            with state.workspaces.reading(principal, chosen.name) as index:
                edges = chain(index.facts.all_edges(), index.graph.lineage.all_overrides())
                objects = iter(shapes.export_shapes(index.facts.all_symbols(), edges))
                while batch := list(islice(objects, _EXPORT_BATCH)):
                    channel.put(b"".join(encoded(one) + b"\n" for one in batch))
        except DataFolderError:
            channel.put(encoded({"error": "The index cannot be read any more.", "hint": "Ask again."}) + b"\n")

    channel = Channel(beat=b"")
    state.streams.start(channel, write)
    return EventStream(channel, NDJSON)


@health.get("/livez", summary="Whether the server runs", responses={**shaped({"status": "ok"})})
async def livez() -> Response:
    return JsonResponse({"status": "ok"})


@health.get("/healthz", summary="The same under the name that many look for", responses={**shaped({"status": "ok"})})
async def healthz() -> Response:
    return JsonResponse({"status": "ok"})


@health.get(
    "/readyz",
    summary="Whether it can answer",
    responses={**answers(), **shaped({"status": "ready"})},
)
async def readyz(state: Shared) -> Response:
    reason = await state.look(_unready, state)
    return refusal(503, reason, "codehub doctor says more.") if reason else JsonResponse({"status": "ready"})


def _unready(state: State) -> str:
    """Why it cannot answer, without a name or a number; "" where it can."""
    if state.streams.stopping:
        return "The server is stopping."
    try:
        data = DataFolder(state.settings.data)
        list(state.settings.data.iterdir())
        for known in data.workspaces()[:1]:
            Index.for_reading(data, known.name).close()
    except OSError:
        return "The data folder cannot be read."
    except DataFolderError:
        return "An index cannot be opened."
    return ""
