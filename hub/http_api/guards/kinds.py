"""What kind of request a path is, before any route is looked at. Pure.

What stands in no line here is a change for which a key is needed, so that a route that is forgotten is closed.
"""

from enum import StrEnum


class Kind(StrEnum):
    """How a request is let in, counted, and recorded."""

    OPEN = "open"  # for everyone: health, the login page, its style
    LOGIN = "login"  # brings its key in the body
    WEBHOOK = "webhook"  # brings a signature
    PAGE = "page"  # for a browser with a session
    READ = "read"
    ASK = "ask"  # costs a model's time
    JOB = "job"  # costs minutes
    TOOLS = "tools"  # of agents: what is called is counted and recorded where it is read out of the body
    CHANGE = "change"


SAFE = frozenset({"GET", "HEAD"})
OPEN_TO_STRANGERS = frozenset({Kind.OPEN, Kind.LOGIN, Kind.WEBHOOK})
METRICS = "/metrics"
_OPEN = frozenset({"/livez", "/readyz", "/healthz", "/login", "/favicon.ico"})
_STATIC = "/static/"
_LOGIN = "/api/v1/sessions"
_WEBHOOKS = "/api/v1/webhooks/"
_INTERFACES = ("/api", "/v1", "/metrics", "/openapi.json", "/docs", "/mcp")
_COSTLY = {"/api/v1/ask": Kind.ASK, "/v1/chat/completions": Kind.ASK, "/mcp": Kind.TOOLS}
# Questions that are sent by POST for their length alone.
_READING = frozenset({"/api/v1/search", "/api/v1/impact"})
_WORKING = ("/api/v1/jobs", "/api/v1/events/git")
_SMALL_BODIES = {_LOGIN: 4_096, "/api/v1/login-links": 4_096, "/api/v1/events/git": 16_384}


def kind_of(method: str, path: str) -> Kind:
    safe = method in SAFE
    if safe and (path in _OPEN or path.startswith(_STATIC)):
        return Kind.OPEN
    if path == _LOGIN and method == "POST":
        return Kind.LOGIN
    if path.startswith(_WEBHOOKS):
        return Kind.WEBHOOK
    if not any(path == face or path.startswith(face + "/") for face in _INTERFACES):
        return Kind.PAGE if safe else Kind.CHANGE
    if path in _COSTLY:
        return _COSTLY[path]
    otherwise = Kind.JOB if path.startswith(_WORKING) else Kind.CHANGE
    return Kind.READ if safe or path in _READING else otherwise


def body_limit(path: str, usual: int) -> int:
    """Bytes that a request may carry. Only ever less than what is usual."""
    return min(usual, _SMALL_BODIES.get(path, usual))
