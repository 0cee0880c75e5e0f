"""The route of what changed and why. No model is asked; a summary that one wrote before is shown with its name."""

import time
from typing import Annotated

from fastapi import APIRouter, Query, Response

from hub.changes.shapes import changes_shape
from hub.http_api.access import Caller
from hub.http_api.errors import answers
from hub.http_api.shaping import JsonResponse, Text, WorkspaceName, encoded, shaped
from hub.http_api.state import Shared
from hub.service import Service
from hub.shapes import Json

router = APIRouter(prefix="/api/v1", tags=["reading"])

MOST_SECONDS = 15.0  # of comparing, for one request; what takes longer is told without its symbols
_MOST_RECENT = 20

_EXAMPLE: Json = {
    "workspace": "counter",
    "changes": [
        {
            "base": "9c51e7aa",
            "head": "4f2a90c1",
            "landing": "merge",
            "title": "Count by steps (#12)",
            "time": 1793527200,
            "summary": {
                "text": "Merge 4f2a90c1 brings 1 commit: Count by steps (#12) [1].",
                "generated": False,
                "model": None,
                "sources": [{"label": 1, "what": "4f2a90c1", "title": "Count by steps (#12)"}],
            },
            "symbols": [],
            "issues": ["#7"],
            "notes": [],
        }
    ],
}


@router.get(
    "/changes",
    summary="What a range of commits changed and why, or what was merged last",
    responses={**answers(400, 403, 404), **shaped(_EXAMPLE)},
)
async def changes(
    state: Shared,
    principal: Caller,
    asked: Annotated[
        Text, Query(alias="range", max_length=500, description="A..B or a commit of the indexed branch; else the last.")
    ] = "",
    workspace: WorkspaceName = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_RECENT, description="Of merges, where no range is asked for.")] = 1,
) -> Response:
    def told() -> bytes:
        with state.workspaces.opened(principal, workspace) as service:
            return encoded({"workspace": service.workspace, "changes": changes_of(service, asked.strip(), limit)})

    return JsonResponse(await state.look(told))


def changes_of(service: Service, asked: str, limit: int) -> list[Json]:
    """The shapes of what a range changed, or of what was merged last. Raises ChangeError."""
    until = time.monotonic() + MOST_SECONDS

    def late() -> bool:
        return time.monotonic() > until

    shelf = service.shelf
    found = (shelf.asked_from_afar(asked, late),) if asked else shelf.recent(limit, late)
    return [changes_shape(each) for each in found]
