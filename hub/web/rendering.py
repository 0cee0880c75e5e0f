"""Pages out of templates. Every value is escaped, and every covert character in one is spelt out, by the engine itself.

A template cannot forget either: escaping is always on, and what is printed goes through ``visible`` first. Knows
nothing of where the values come from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from hub.prompting.layout import visible
from hub.web.assets import ASSETS

_SURE, _LIKELY = 0.75, 0.5  # of a confidence; below the latter it is called low


@dataclass(frozen=True, slots=True)
class Shell:
    """What stands around every page."""

    owner: str = ""  # "" where nobody is logged in
    scopes: frozenset[str] = frozenset()  # granted anywhere
    workspaces: tuple[str, ...] = ()  # that the viewer sees, the last indexed first
    workspace: str = ""  # that the page is about, or that a search goes to
    csrf: str = ""
    query: str = ""  # in the search box
    here: str = ""  # the page's name in the navigation


def render(template: str, shell: Shell, **values: object) -> str:
    """The page as HTML. Raises jinja2.UndefinedError where a template names what it was not given."""
    return _environment().get_template(f"{template}.html").render(shell=shell, **values)


def url(page: str, workspace: str = "", fragment: str = "", **parameters: object) -> str:
    """The address of a page. Parameters that are None or empty are left out; each may be a list."""
    path = f"/w/{quote(workspace, safe='')}" if workspace else ""
    path += f"/{page}" if page else ""
    given = {name: value for name, value in parameters.items() if value not in (None, "", [], ())}
    query = urlencode(given, doseq=True, errors="replace")
    return (path or "/") + (f"?{query}" if query else "") + (f"#{fragment}" if fragment else "")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals |= {"static": ASSETS.url, "url": url, "editor": editor}
    environment.filters |= {"day": _day, "share": _share, "sureness": _sureness, "bars": _bars, "short": _short}
    return environment


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def editor(root: str, path: str, line: int) -> str:
    """What opens a file in Visual Studio Code, where it runs on the machine that holds the tree."""
    return f"vscode://file{quote(f'{root}/{path}')}:{line}"


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _share(value: float) -> str:
    """A number in 0..1 as a percentage that never says more than is known: 0.999 is 99%, not 100%."""
    return f"{int(value * 100)}%"


def _sureness(value: float) -> str:
    return "high" if value >= _SURE else "fair" if value >= _LIKELY else "low"


def _bars(hit: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What makes up a hit's score, the largest part first; ``width`` in 0..100 of the largest."""
    parts = sorted(hit["contributions"].items(), key=lambda part: (-abs(part[1]), part[0]))
    largest = max((abs(value) for _, value in parts), default=0.0) or 1.0
    return [
        {
            "name": name,
            "value": f"{value:+.3f}",
            "width": round(100 * abs(value) / largest),
            "rank": hit["signals"].get(name),
            "against": value < 0,
        }
        for name, value in parts
        if value
    ]


def _short(commit: str) -> str:
    return commit[:10]
