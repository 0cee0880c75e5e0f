"""Every error as an answer of HTTP: one status for each kind, and one sentence with the way out. Nothing else answers.

What went wrong inside the data folder is told to administrators alone, since it names files of the server.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from hub import errors as hub_errors
from hub.auth.model import Principal, Scope
from hub.errors import HubError
from hub.http_api.shaping import JsonResponse
from hub.shapes import Json
from indexer import errors as indexer_errors
from indexer.errors import IndexerError

# The nearest class of an error decides. A status of 503 or 429 comes with the seconds to wait before another try.
STATUSES: Mapping[type[Exception], int] = {
    hub_errors.HubError: 400,
    hub_errors.SettingsError: 503,
    hub_errors.WorkspaceError: 404,
    hub_errors.Forbidden: 403,
    hub_errors.EvaluationError: 400,
    hub_errors.MeasuringError: 400,
    hub_errors.ChangeError: 400,
    hub_errors.ModelFileError: 502,
    hub_errors.NotInCatalogue: 400,
    hub_errors.UnknownHardware: 400,
    hub_errors.SnapshotError: 503,
    hub_errors.JobError: 409,
    hub_errors.BackupError: 409,
    hub_errors.FollowError: 409,
    hub_errors.HookError: 409,
    hub_errors.TaskError: 400,
    hub_errors.UnknownJob: 404,
    hub_errors.QueueFull: 503,
    hub_errors.ServerError: 502,
    hub_errors.AccessError: 400,
    hub_errors.UnknownAccess: 404,
    hub_errors.KnowledgeError: 400,
    hub_errors.UnknownSession: 404,
    hub_errors.UnknownEntry: 404,
    hub_errors.BackendError: 502,
    hub_errors.BackendBusy: 503,
    hub_errors.PromptTooLong: 413,
    indexer_errors.IndexerError: 400,
    indexer_errors.TreeError: 400,
    indexer_errors.DataFolderError: 503,
    indexer_errors.FolderBusyError: 409,
    indexer_errors.EmbedderError: 502,
    indexer_errors.QuestionError: 400,
    indexer_errors.Cancelled: 503,
}
_RETRY_S: Mapping[type[Exception], int] = {hub_errors.QueueFull: 30, hub_errors.BackendBusy: 5}
_RETRY_AFTER_S = 10  # of other errors that pass
_PASSING = {429, 503}


class ErrorShape(BaseModel):
    """What every error answers."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"error": "There is no workspace 'x'.", "hint": "Ask for the list of workspaces."}
        }
    )

    error: str
    hint: str


_TOLD = {
    400: "The question or its parameters make no sense.",
    401: "No key, or one that is wrong, expired or revoked.",
    403: "The key lacks the scope for this.",
    404: "There is no such thing, or it may not be seen.",
    409: "It cannot be done now: something else is in the way.",
    413: "Too much was sent, or the prompt does not fit the model.",
    422: "A parameter is missing or of another kind.",
    429: "Too many requests; wait as long as Retry-After says.",
    502: "What the server itself asks did not answer as it should.",
    503: "The server cannot answer now; wait as long as Retry-After says.",
}


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route for its OpenAPI description, those that every route has among them."""
    return {
        status: {"model": ErrorShape, "description": _TOLD[status]}
        for status in sorted({401, 422, 429, 503, *statuses})
    }


def status_of(error: Exception) -> int:
    """The status that an error of ours answers with; 500 for what is none."""
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 500)


def told(error: HubError | IndexerError, principal: Principal | None) -> Json:
    """The sentences of an error that this principal may read."""
    if isinstance(error, indexer_errors.DataFolderError) and not (principal and principal.may(Scope.ADMIN)):
        if isinstance(error, indexer_errors.FolderBusyError):
            return {"error": "The data folder is being written.", "hint": "Wait for it; searching works meanwhile."}
        return {"error": "The index cannot be read or written now.", "hint": "An administrator sees why."}
    return {"error": error.message, "hint": error.hint}


def refusal(status: int, message: str, hint: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """An error as a response, for those who answer before a route is found."""
    named = dict(headers or {})
    if status in _PASSING:
        named.setdefault("retry-after", str(_RETRY_AFTER_S))
    return JsonResponse({"error": message, "hint": hint}, status, named)


def refused(error: HubError | IndexerError, principal: Principal | None) -> Response:
    """An error of ours as a response."""
    status = status_of(error)
    headers = {}
    if status in _PASSING:
        headers["retry-after"] = str(_RETRY_S.get(type(error), _RETRY_AFTER_S))
    return JsonResponse(told(error, principal), status, headers)


def install(app: FastAPI) -> None:
    """Has every error of the application answered here."""

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, HubError | IndexerError)
        return refused(error, request.scope.get("state", {}).get("principal"))

    async def of_http(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        hints = {404: "See /openapi.json for what there is.", 405: "See /openapi.json for what each path takes."}
        texts = {404: "There is nothing here.", 405: "This path does not take this method."}
        text = error.detail if error.detail and error.status_code not in texts else texts.get(error.status_code, "")
        return refusal(error.status_code, str(text), hints.get(error.status_code, ""), error.headers)

    async def of_parameters(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        # What was sent is not sent back: it may be long, and belongs to whoever asks.
        parts = (f"{'.'.join(map(str, entry['loc'][1:])) or 'body'}: {entry['msg']}" for entry in error.errors()[:5])
        return refusal(422, "; ".join(parts), "See /openapi.json for the parameters.")

    async def unforeseen(_request: Request, _error: Exception) -> Response:
        return refusal(500, "The server made a mistake.", "Its log says which. Other requests are not affected.")

    app.add_exception_handler(HubError, ours)
    app.add_exception_handler(IndexerError, ours)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(RequestValidationError, of_parameters)
    app.add_exception_handler(Exception, unforeseen)
