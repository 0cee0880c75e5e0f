"""The web page's routes: who looks, what is looked up, and the template that shows it. Markup is hub.web's business.

Everything that a page shows was asked for through ``Workspaces`` in the viewer's name. What changes anything is not
here: the scripts of the pages call the API for it, as every other client does. No parameter of a page is an error:
what makes no sense is taken as not given.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from hub import shapes
from hub.auth.model import ALL_WORKSPACES, Principal, Scope
from hub.capacity import catalogue
from hub.capacity.planning import Task
from hub.errors import HubError
from hub.http_api import access, errors
from hub.http_api.changes import changes_of
from hub.http_api.state import State, state_of
from hub.knowledge import EntryKind
from hub.model import Policy, Tier
from hub.service import Filters, Page, Service
from hub.shapes import Json
from hub.web import ASSETS, Code, Shell, highlight, render, url
from indexer.errors import IndexerError
from indexer.index import Reach, Workspace
from indexer.model import Span, SymbolKind

router = APIRouter(include_in_schema=False)

_HITS = (10, 20, 50, 100)
_MERGES = 5  # of a page of what changed
_COMMITS = 20
_EDGES = 30  # of each list on a symbol's page
_NAMESAKES = 12
_WINDOW = 4_000  # lines of a file on one page
_DEFINITION = 400  # lines of a definition
_MOST_TEXT = 100_000
_FOREVER = "public, max-age=31536000, immutable"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_KINDS = ("class", "struct", "function", "method", "constructor", "enum", "alias", "macro", "field", "section")
_TITLES = {
    403: "This is not granted",
    404: "There is no such workspace",
    409: "It cannot be done now",
    503: "The server cannot answer now",
}


class _View:
    """One request for a page: who looks, at what, with which parameters."""

    def __init__(self, request: Request, principal: Principal, seen: tuple[Workspace, ...], workspace: str) -> None:
        self.request = request
        self.state: State = state_of(request)
        self.principal = principal
        self.seen = seen
        named = next((entry.name for entry in seen if entry.name == workspace), "")
        self.workspace = named or (seen[0].name if seen and not workspace else "")

    def text(self, name: str) -> str:
        return self.request.query_params.get(name, "").replace("\0", " ")[:_MOST_TEXT]

    def number(self, name: str, otherwise: int, most: int = 1_000_000_000) -> int:
        text = self.text(name)
        return min(int(text), most) if text.isascii() and text.isdecimal() and len(text) < 12 else otherwise

    def among(self, name: str, choices: tuple[str, ...]) -> tuple[str, ...]:
        given = set(self.request.query_params.getlist(name))
        return tuple(choice for choice in choices if choice in given)

    def shell(self, here: str, query: str = "") -> Shell:
        names = tuple(entry.name for entry in self.seen)
        scopes = frozenset(scope.value for grant in self.principal.grants for scope in grant.scopes)
        workspace = self.workspace or (names[0] if names else "")
        return Shell(self.principal.owner, scopes, names, workspace, access.csrf_token(self.request), query, here)

    @property
    def root(self) -> str:
        """The tree's folder where the browser runs on this machine, "" elsewhere: an editor there has no such files."""
        if _host(self.request) not in _LOOPBACK:
            return ""
        return next((str(entry.root) for entry in self.seen if entry.name == self.workspace), "")

    async def in_workspace(self, name: str, make: Callable[[Service], str]) -> Response:
        """The page that is made with the service of a workspace."""

        def made() -> str:
            with self.state.workspaces.opened(self.principal, name) as service:
                return make(service)

        return HTMLResponse(await self.state.look(made))


_Made = Callable[[_View], Awaitable[Response]]


async def _shown(request: Request, make: _Made, workspace: str = "") -> Response:
    """The page, or the one that says why there is none. Whoever is not logged in is sent to do so."""
    principal = request.scope.get("state", {}).get("principal")
    if not isinstance(principal, Principal):
        # Of the scope, since the URL as a whole cannot be read where the query is no UTF-8.
        query = request.scope["query_string"].decode("latin-1")
        here = request.scope["path"] + (f"?{query}" if query else "")
        return RedirectResponse(f"/login?next={quote(here, safe='')}", 303)
    state = state_of(request)
    view = _View(request, principal, (), workspace)
    try:
        seen = await state.look(state.workspaces.visible, principal)
        readable = [entry for entry in seen if principal.may(Scope.READ, entry.name)]
        ordered = tuple(sorted(readable, key=lambda entry: (-entry.used_ns, entry.name)))
        view = _View(request, principal, ordered, workspace)
        return await make(view)
    except (HubError, IndexerError) as error:
        status = errors.status_of(error)
        told = errors.told(error, principal)
        title = _TITLES.get(status, "That did not work")
        page = render("problem", view.shell(""), title=title, message=told["error"], hint=told["hint"])
        return HTMLResponse(page, status, {"retry-after": "10"} if status == 503 else None)


def _host(request: Request) -> str:
    host = request.headers.get("host", "")
    return host if host.endswith("]") else host.rpartition(":")[0] or host


@router.get("/")
async def home(request: Request) -> Response:
    return await _shown(request, _home)


@router.get("/w/{workspace}")
async def home_of(request: Request, workspace: str) -> Response:
    async def made(view: _View) -> Response:
        await view.state.look(view.state.workspaces.chosen, view.principal, workspace)
        return await _home(view)

    return await _shown(request, made, workspace)


async def _home(view: _View) -> Response:
    return HTMLResponse(render("home", view.shell("home")))


@router.get("/search")
@router.get("/ask")
@router.get("/symbol")
@router.get("/file")
@router.get("/history")
@router.get("/changes")
@router.get("/knowledge")
async def without_workspace(request: Request) -> Response:
    """To the page of the workspace that is named by a parameter, else the one last indexed."""

    async def made(view: _View) -> Response:
        workspace = view.text("workspace") or view.workspace
        page = str(request.scope["path"]).rpartition("/")[2]
        if not workspace:
            return RedirectResponse("/", 303)
        given = [(name, value) for name, value in request.query_params.multi_items() if name != "workspace"]
        parameters: dict[str, list[str]] = {}
        for name, value in given:
            parameters.setdefault(name, []).append(value)
        return RedirectResponse(url(page, workspace, "", **parameters), 303)

    return await _shown(request, made)


@router.get("/w/{workspace}/search")
async def search(request: Request, workspace: str) -> Response:
    if (other := request.query_params.get("workspace", "")) and other != workspace:  # chosen among the filters
        return await without_workspace(request)

    async def made(view: _View) -> Response:
        query = view.text("q").strip()
        limit = view.number("limit", _HITS[0], _HITS[-1]) or _HITS[0]
        path, kinds = view.text("path").strip(), view.among("kind", _KINDS)
        filters = {"path": path, "kind": kinds}

        def page(service: Service) -> str:
            shell = view.shell("search", query)
            if not query:
                return render("search", shell, result=None, hits=(), filters=filters, kinds=_KINDS, more="", root="")
            paths = tuple(part.strip() for part in path.split(",") if part.strip())
            narrowed = Filters(paths, tuple(SymbolKind(kind) for kind in kinds))
            began = time.perf_counter()
            found = service.search(query, limit, narrowed or None)
            view.state.metrics.searched(found, time.perf_counter() - began)
            result = shapes.search_shape(found)
            hits = [(hit, highlight(hit["text"], hit["path"], hit["first_line"])) for hit in result["hits"]]
            further = next((number for number in _HITS if number > limit), 0)
            more = (
                url("search", workspace, q=query, limit=further, path=path, kind=kinds)
                if further and len(hits) >= limit
                else ""
            )
            return render(
                "search", shell, result=result, hits=hits, filters=filters, kinds=_KINDS, more=more, root=view.root
            )

        return await view.in_workspace(workspace, page)

    return await _shown(request, made, workspace)


@router.get("/w/{workspace}/ask")
async def ask(request: Request, workspace: str) -> Response:
    async def made(view: _View) -> Response:
        tiers = tuple(tier.value for tier in Tier if tier is not Tier.NONE)
        tier = next(iter(view.among("tier", tiers)), "")
        policy = next(iter(view.among("policy", tuple(policy.value for policy in Policy))), "")

        def page(service: Service) -> str:
            stamp = shapes.stamp_shape(service.stamp())
            shell = view.shell("ask", view.text("q").strip())
            return render("ask", shell, stamp=stamp, tier=tier, policy=policy)

        return await view.in_workspace(workspace, page)

    return await _shown(request, made, workspace)


@router.get("/w/{workspace}/symbol")
async def symbol(request: Request, workspace: str) -> Response:
    async def made(view: _View) -> Response:
        name = view.text("name").strip()
        return await view.in_workspace(workspace, lambda service: _symbol_page(view, service, name))

    return await _shown(request, made, workspace)


def _symbol_page(view: _View, service: Service, name: str) -> str:
    shell = view.shell("symbol")
    found = service.find(name, Page(_NAMESAKES)) if name else None
    groups: dict[str, Json] = {}
    for entry in found.symbols if found else ():
        shape = shapes.symbol_shape(entry)
        group = groups.setdefault(
            shape["id"],
            {"id": shape["id"], "name": shape["qualified_name"], "kind": shape["kind"], "symbols": [], "block": None}
            | {part: shape[part] for part in ("signature", "doc", "access", "traits")},
        )
        group["symbols"].append(shape)
        group["doc"] = group["doc"] or shape["doc"]
        if shape["is_definition"] and group["block"] is None:
            group["block"] = _code(service, entry.span, _DEFINITION)
    if not groups:
        return render("symbol", shell, groups=(), name=name)
    first = next(iter(groups.values()))["name"]
    page, reach = Page(_EDGES), Reach(1, by_name=True)
    return render(
        "symbol",
        shell,
        groups=list(groups.values()),
        name=name,
        match=found.match.value if found and found.match else None,
        stamp=shapes.stamp_shape(service.stamp()),
        callers=shapes.relations_shape(service.callers(first, reach, page)),
        callees=shapes.relations_shape(service.callees(first, reach, page)),
        references=shapes.relations_shape(service.references(first, page)),
        root=view.root,
    )


@router.get("/w/{workspace}/file")
async def file(request: Request, workspace: str) -> Response:
    async def made(view: _View) -> Response:
        path = view.text("path")
        line = max(1, view.number("line", 1))
        last = max(line, view.number("last", line))
        named = view.number("start", 0)
        start = named or max(1, line - _WINDOW // 2)

        def page(service: Service) -> str:
            text = service.lines(Span(path, start, start + _WINDOW))
            pieces = text.split("\n")
            marked = range(line, last + 1) if view.text("line") else range(0)
            block = highlight("\n".join(pieces[:_WINDOW]), path, start, marked, linked=True)
            before = url("file", workspace, path=path, start=max(1, start - _WINDOW)) if start > 1 else ""
            after = url("file", workspace, path=path, start=start + _WINDOW) if len(pieces) > _WINDOW + 1 else ""
            values: Mapping[str, Any] = {"more_before": before, "more_after": after, "root": view.root}
            return render(
                "file",
                view.shell("file"),
                path=path,
                line=line,
                block=block,
                stamp=shapes.stamp_shape(service.stamp()),
                **values,
            )

        return await view.in_workspace(workspace, page)

    return await _shown(request, made, workspace)


@router.get("/w/{workspace}/snippet")
async def snippet(request: Request, workspace: str) -> Response:
    """The highlighted lines of a citation, for a script to put beside it."""

    async def made(view: _View) -> Response:
        first = max(1, view.number("first_line", 1))
        last = min(max(first, view.number("last_line", first)), first + _DEFINITION)
        span = Span(view.text("path"), first, last)
        return await view.in_workspace(workspace, lambda service: str(_code(service, span, _DEFINITION).html))

    return await _shown(request, made, workspace)


@router.get("/w/{workspace}/history")
async def history(request: Request, workspace: str) -> Response:
    async def made(view: _View) -> Response:
        name = view.text("name").strip()
        offset = view.number("offset", 0, 100_000)

        def page(service: Service) -> str:
            told: Json = {"commits": [], "total": 0}
            if name:
                commits, total = service.history(name, Page(_COMMITS, offset))
                told = shapes.history_shape(commits, total, offset)
            shell = view.shell("history")
            return render(
                "history", shell, name=name, commits=told["commits"], total=told["total"], limit=_COMMITS, offset=offset
            )

        return await view.in_workspace(workspace, page)

    return await _shown(request, made, workspace)


@router.get("/w/{workspace}/changes")
async def changes(request: Request, workspace: str) -> Response:
    async def made(view: _View) -> Response:
        asked = view.text("range").strip()

        def page(service: Service) -> str:
            told = changes_of(service, asked, _MERGES)
            shown = [
                {**each, "range": f"{each['base']}..{each['head']}" if each["base"] else each["head"]} for each in told
            ]
            return render("changes", view.shell("changes"), asked=asked, changes=shown)

        return await view.in_workspace(workspace, page)

    return await _shown(request, made, workspace)


@router.get("/w/{workspace}/knowledge")
async def knowledge(request: Request, workspace: str) -> Response:
    async def made(view: _View) -> Response:
        await view.state.look(view.state.workspaces.chosen, view.principal, workspace)
        kinds = [kind.value for kind in EntryKind]
        return HTMLResponse(render("knowledge", view.shell("knowledge"), query=view.text("q"), kinds=kinds))

    return await _shown(request, made, workspace)


@router.get("/planner")
async def planner(request: Request) -> Response:
    async def made(view: _View) -> Response:
        models = await view.state.look(catalogue.models)
        tasks = [task.value for task in Task]
        return HTMLResponse(
            render("planner", view.shell("planner"), model=view.text("model"), models=models, tasks=tasks)
        )

    return await _shown(request, made)


@router.get("/jobs")
async def jobs(request: Request) -> Response:
    return await _shown(request, _plain("jobs"))


@router.get("/approvals")
async def approvals(request: Request) -> Response:
    return await _shown(request, _plain("approvals"))


@router.get("/keys")
async def keys(request: Request) -> Response:
    async def made(view: _View) -> Response:
        access.require(view.principal, Scope.ADMIN, ALL_WORKSPACES)
        scopes = [scope.value for scope in Scope]
        return HTMLResponse(render("keys", view.shell("keys"), scopes=scopes))

    return await _shown(request, made)


def _plain(name: str) -> _Made:
    async def made(view: _View) -> Response:
        return HTMLResponse(render(name, view.shell(name)))

    return made


@router.get("/login")
async def login(request: Request) -> Response:
    """The form for a key; with a one-time link, in at once."""
    notice = ""
    if once := request.query_params.get("once"):
        entered = access.enter(request, once)
        if entered is not None:
            return entered
        notice = "This link was used before, or is too old. codehub open makes another."
    return HTMLResponse(render("login", Shell(), notice=notice, next=request.query_params.get("next", "/")))


@router.get("/favicon.ico")
async def favicon() -> Response:
    return RedirectResponse(ASSETS.url("icon.svg"), 308)


@router.get("/static/{digest}/{name}")
async def static(digest: str, name: str) -> Response:
    """A file that pages load. One of an older page is answered with today's, which a cache must not keep."""
    asset = ASSETS.files.get(name)
    if asset is None:
        return errors.refusal(404, "There is nothing here.")
    lasting = _FOREVER if digest == ASSETS.digest else "no-cache"
    return Response(asset.content, media_type=asset.kind, headers={"cache-control": lasting})


def _code(service: Service, span: Span, most: int) -> Code:
    last = min(span.last_line, span.first_line + most - 1)
    return highlight(service.lines(Span(span.path, span.first_line, last)), span.path, span.first_line)
