"""Everything that is looked up in the tables: search, symbols, relations, sources. No model is asked."""

import time
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from hub import remembering, shapes
from hub.auth.model import Principal
from hub.http_api import examples
from hub.http_api.access import Caller
from hub.http_api.errors import answers
from hub.http_api.shaping import (
    LARGEST,
    MOST_DIFF,
    MOST_HITS,
    MOST_NAME,
    MOST_ROWS,
    MOST_TEXT,
    Depth,
    JsonResponse,
    Name,
    Offset,
    Rows,
    Text,
    WorkspaceName,
    encoded,
    shaped,
)
from hub.http_api.state import Shared, State
from hub.service import MOST_PATH_CHARS, MOST_PATHS, Filters, Page, Service
from hub.shapes import Json
from indexer.index import Match, Reach
from indexer.model import Span, SymbolKind

router = APIRouter(prefix="/api/v1", tags=["reading"])

_MOST_LINES = 20_000  # of a source at once
_MOST_REASONS = 50

Kinds = Annotated[list[SymbolKind] | None, Query(alias="kind", description="Of these kinds only; may be repeated.")]

Paths = Annotated[
    list[Annotated[Text, Field(max_length=MOST_PATH_CHARS)]] | None,
    Query(max_length=MOST_PATHS, description="In these files only: a path, a folder or a pattern; may be repeated."),
]


async def _told(state: State, principal: Principal, workspace: str | None, work: Callable[[Service], Json]) -> Response:
    """What one service says, and of which state of the tree, as JSON: made and encoded in a thread for look-ups."""

    def told() -> bytes:
        with state.workspaces.opened(principal, workspace) as service, service.moment():
            shape = work(service)
            return encoded({**shape, "stamp": shape.get("stamp") or shapes.stamp_shape(service.stamp())})

    return JsonResponse(await state.look(told))


class Search(BaseModel):
    """What is looked for."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"query": "where is the value increased", "limit": 5}]}
    )

    query: Annotated[Text, Field(min_length=1, max_length=MOST_TEXT)]
    workspace: Annotated[Text | None, Field(max_length=64)] = None
    limit: int = Field(10, ge=1, le=MOST_HITS)
    path: list[Annotated[Text, Field(max_length=MOST_PATH_CHARS)]] = Field(
        default=[],
        max_length=MOST_PATHS,
        description="In these files only: paths, folders or patterns such as src/*.h.",
    )
    kind: list[SymbolKind] = Field(default=[], max_length=len(SymbolKind))

    def filters(self) -> Filters:
        """What the search is narrowed to."""
        return Filters(tuple(self.path), tuple(self.kind))


@router.get(
    "/search",
    summary="Find code by words, names or meaning",
    responses={**answers(400, 403, 404), **shaped(examples.SEARCH)},
)
async def search(
    state: Shared,
    principal: Caller,
    query: Annotated[Text, Query(min_length=1, max_length=MOST_TEXT)],
    workspace: WorkspaceName = None,
    limit: Annotated[int, Query(ge=1, le=MOST_HITS)] = 10,
    path: Paths = None,
    kind: Kinds = None,
) -> Response:
    filters = Filters(tuple(path or ()), tuple(kind or ()))
    return await _told(state, principal, workspace, lambda service: _searched(state, service, query, limit, filters))


@router.post(
    "/search",
    summary="The same for long texts, such as a pasted stack trace",
    responses={**answers(400, 403, 404), **shaped(examples.SEARCH)},
)
async def search_text(body: Search, state: Shared, principal: Caller) -> Response:
    return await _told(
        state,
        principal,
        body.workspace,
        lambda service: _searched(state, service, body.query, body.limit, body.filters()),
    )


def _searched(state: State, service: Service, query: str, limit: int, filters: Filters) -> Json:
    began = time.perf_counter()
    result = service.search(query, limit, filters)
    state.metrics.searched(result, time.perf_counter() - began)
    return shapes.search_shape(result)


@router.get(
    "/symbol",
    summary="Where a symbol is defined and declared",
    responses={**answers(400, 403, 404), **shaped(examples.SYMBOL)},
)
async def symbol(
    state: Shared,
    principal: Caller,
    name: Name,
    workspace: WorkspaceName = None,
    match: Annotated[
        Match | None, Query(description="Only names that match so; by default exactly, else what is nearest.")
    ] = None,
    kinds: Kinds = None,
    limit: Rows = 20,
    offset: Offset = 0,
) -> Response:
    page = Page(limit, offset)
    return await _told(
        state,
        principal,
        workspace,
        lambda service: shapes.found_shape(service.find(name, page, match, tuple(kinds or ())), offset),
    )


@router.get(
    "/references",
    summary="Every use of a name",
    responses={**answers(400, 403, 404), **shaped(examples.RELATIONS)},
)
async def references(
    state: Shared, principal: Caller, name: Name, workspace: WorkspaceName = None, limit: Rows = 100, offset: Offset = 0
) -> Response:
    page = Page(limit, offset)
    return await _told(
        state, principal, workspace, lambda service: shapes.relations_shape(service.references(name, page))
    )


@router.get(
    "/callers",
    summary="What calls a function, and what calls that",
    responses={**answers(400, 403, 404), **shaped(examples.RELATIONS)},
)
async def callers(
    state: Shared,
    principal: Caller,
    name: Name,
    workspace: WorkspaceName = None,
    depth: Depth = 1,
    by_name: Annotated[bool, Query(description="Calls known by their name only, too.")] = False,
    limit: Rows = 100,
    offset: Offset = 0,
) -> Response:
    reach, page = Reach(depth, by_name), Page(limit, offset)
    return await _told(
        state, principal, workspace, lambda service: shapes.relations_shape(service.callers(name, reach, page))
    )


@router.get(
    "/callees",
    summary="What a function calls, and what that calls",
    responses={**answers(400, 403, 404), **shaped(examples.RELATIONS)},
)
async def callees(
    state: Shared,
    principal: Caller,
    name: Name,
    workspace: WorkspaceName = None,
    depth: Depth = 1,
    by_name: Annotated[bool, Query(description="Calls known by their name only, too.")] = False,
    overrides: Annotated[bool, Query(description="Through what overrides a method, too.")] = False,
    limit: Rows = 100,
    offset: Offset = 0,
) -> Response:
    reach, page = Reach(depth, by_name, overrides), Page(limit, offset)
    return await _told(
        state, principal, workspace, lambda service: shapes.relations_shape(service.callees(name, reach, page))
    )


@router.get(
    "/hierarchy",
    summary="The bases of a class, and what derives from it",
    responses={**answers(400, 403, 404), **shaped(examples.HIERARCHY)},
)
async def hierarchy(state: Shared, principal: Caller, name: Name, workspace: WorkspaceName = None) -> Response:
    return await _told(state, principal, workspace, lambda service: shapes.hierarchy_shape(service.hierarchy(name)))


@router.get(
    "/overrides",
    summary="What a method overrides, and what overrides it",
    responses={**answers(400, 403, 404), **shaped(examples.OVERRIDES)},
)
async def overrides(
    state: Shared, principal: Caller, name: Name, workspace: WorkspaceName = None, limit: Rows = 100, offset: Offset = 0
) -> Response:
    page = Page(limit, offset)
    return await _told(
        state, principal, workspace, lambda service: shapes.overrides_shape(service.overrides(name, page))
    )


@router.get(
    "/includes",
    summary="What a file includes",
    responses={**answers(400, 403, 404), **shaped(examples.INCLUDES)},
)
async def includes(
    state: Shared,
    principal: Caller,
    file: Annotated[Name, Query(description="A path, or the end of one.")],
    workspace: WorkspaceName = None,
    depth: Depth = 1,
    limit: Rows = 100,
    offset: Offset = 0,
) -> Response:
    page = Page(limit, offset)
    return await _told(
        state, principal, workspace, lambda service: shapes.includes_shape(service.includes(file, depth, page))
    )


@router.get(
    "/included-by",
    summary="What includes a file",
    responses={**answers(400, 403, 404), **shaped(examples.INCLUDES)},
)
async def included_by(
    state: Shared,
    principal: Caller,
    file: Annotated[Name, Query(description="A path, or the end of one.")],
    workspace: WorkspaceName = None,
    depth: Depth = 1,
    limit: Rows = 100,
    offset: Offset = 0,
) -> Response:
    page = Page(limit, offset)
    return await _told(
        state, principal, workspace, lambda service: shapes.includes_shape(service.included_by(file, depth, page))
    )


@router.get(
    "/history",
    summary="The commits that changed a file or a symbol, newest first",
    responses={**answers(400, 403, 404), **shaped(examples.HISTORY)},
)
async def history(
    state: Shared, principal: Caller, name: Name, workspace: WorkspaceName = None, limit: Rows = 20, offset: Offset = 0
) -> Response:
    page = Page(limit, offset)

    def told(service: Service) -> Json:
        commits, total = service.history(name, page)
        return shapes.history_shape(commits, total, offset)

    return await _told(state, principal, workspace, told)


@router.get(
    "/why",
    summary="Why code is what it is: comments, commits and decisions, the best reason first",
    responses={**answers(400, 403, 404), **shaped(examples.WHY)},
)
async def why(
    state: Shared,
    principal: Caller,
    asked: Annotated[
        Name, Query(description="PATH:LINE, PATH:FIRST-LAST, the name of a symbol, a file, or a question in words.")
    ],
    workspace: WorkspaceName = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_REASONS, description="Of reasons, commits and decisions each.")] = 5,
) -> Response:
    def told(service: Service) -> Json:
        story = service.why(asked, limit)
        kept = remembering.beside(state.lasting, principal, service, story, limit)
        return {**shapes.story_shape(story), "kept": [remembering.entry_shape(each) for each in kept]}

    return await _told(state, principal, workspace, told)


@router.get(
    "/impact",
    summary="What a change of symbols reaches",
    responses={**answers(400, 403, 404), **shaped(examples.IMPACT)},
)
async def impact(
    state: Shared,
    principal: Caller,
    names: Annotated[list[Text], Query(alias="name", min_length=1, max_length=50, description="May be repeated.")],
    workspace: WorkspaceName = None,
    depth: Depth = 3,
    limit: Rows = 100,
) -> Response:
    return await _told(
        state, principal, workspace, lambda service: shapes.impact_shape(service.impact_of(names, depth), limit)
    )


class Diff(BaseModel):
    """A change, as ``git diff`` writes it. Its new side is the tree as indexed."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"diff": examples.DIFF}]})

    diff: Annotated[Text, Field(min_length=1, max_length=MOST_DIFF)]
    workspace: Annotated[Text | None, Field(max_length=64)] = None
    depth: int = Field(3, ge=1, le=20)
    limit: int = Field(100, ge=1, le=MOST_ROWS)


@router.post(
    "/impact",
    summary="What the changes of a diff reach",
    responses={**answers(400, 403, 404, 413), **shaped(examples.IMPACT)},
)
async def impact_of_diff(body: Diff, state: Shared, principal: Caller) -> Response:
    return await _told(
        state,
        principal,
        body.workspace,
        lambda service: shapes.impact_shape(service.impact_of_diff(body.diff, body.depth), body.limit),
    )


@router.get(
    "/source",
    summary="Lines of a file as they were indexed",
    responses={**answers(400, 403, 404), **shaped(examples.SOURCE)},
)
async def source(
    state: Shared,
    principal: Caller,
    path: Annotated[Text, Query(min_length=1, max_length=MOST_NAME, description="Relative to the tree's root.")],
    workspace: WorkspaceName = None,
    first_line: Annotated[int, Query(ge=1, le=LARGEST)] = 1,
    last_line: Annotated[int | None, Query(ge=1, le=LARGEST, description="By default as many as are given.")] = None,
) -> Response:
    last = min(last_line or LARGEST, first_line + _MOST_LINES - 1)

    def told(service: Service) -> Json:
        text = service.lines(Span(path, first_line, last))
        if not text:
            raise HTTPException(404, "The index has no such lines of such a file.")
        end = first_line + text.count("\n") - text.endswith("\n")
        return {"path": path, "first_line": first_line, "last_line": end, "text": text}

    return await _told(state, principal, workspace, told)
