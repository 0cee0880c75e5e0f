"""What the web page is made of: highlighted code, escaped templates, files, contrast, and routes without a browser."""

import re
from collections.abc import Iterator, Mapping
from html import unescape
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.auth.model import Grant, Scope
from hub.prompting.layout import visible
from hub.web import ASSETS, Shell, highlight, render, url
from tests.support import cases
from tests.support.served import WORKSPACE, Served, served
from tests.support.trees import COUNTER

STYLE = ASSETS.files["style.css"].content.decode()
TOKENS = re.compile(r'<span class="(?!line)(\w+)"[^>]*>((?:[^<]|<span class="covert"[^>]*>[^<]*</span>)*)</span>')
HOSTILE = 'src/<img src=x onerror=alert(1)>".cc'
TREE = {**COUNTER, HOSTILE: "int Frobnicate() { return 1; }  // </script><script>alert(1)</script>\n"}
NAVIGATES = {"accept": "text/html"}


class Balanced(HTMLParser):
    """What is open where a text ends, and whatever would run in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.foreign: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "script" and not (named.get("src") or "").startswith("/static/"):
            self.foreign.append(tag)
        self.foreign += [name for name in named if name.startswith("on") or name == "style"]
        self.foreign += [
            value for value in named.values() if value and re.match(r"\s*(?:javascript|data):", value, re.IGNORECASE)
        ]
        if tag not in {"meta", "link", "input", "img", "br", "hr", "option", "rect", "path", "circle"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag != "option":
            assert self.open, f"</{tag}> closes nothing"
            assert self.open.pop() == tag


def plain(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html))


# Code


@pytest.mark.parametrize("case", cases.load("highlight_*.md"), ids=lambda case: case.name)
def test_what_stands_out_in_code(case: cases.Case) -> None:
    html = highlight(case.text, "a.cc").html
    found = [f"{kind} {plain(text)}\n" for kind, text in TOKENS.findall(html)]
    cases.check(case, "".join(found))


_PIECES = st.sampled_from(
    [
        "/*",
        "*/",
        "//",
        '"',
        "'",
        "\\",
        "\n",
        "\r\n",
        'R"(',
        ')"',
        'R"x(',
        "#include",
        " <",
        "&lt;",
        "<b>",
        "1e+",
        "\u202e",
        "f(",
        "\x00",
        "ü",
    ]
)


@given(
    st.lists(_PIECES | st.text(max_size=5), max_size=40).map("".join),
    st.sampled_from(["a.cc", "a.md", "CMakeLists.txt"]),
)
def test_shown_code_is_the_text_with_covert_characters_spelt_out_and_nothing_else(text: str, path: str) -> None:
    code = highlight(text, path, 7)
    lines = visible(text).split("\n")
    if lines[-1] == "":
        lines.pop()
    assert plain(code.html) == "".join(line + "\n" for line in lines)
    assert (code.first_line, code.count) == (7, len(lines))
    for number, line in enumerate(code.html.split("\n</span>")[:-1], 7):
        assert line.startswith(f'<span class="line" data-line="{number}">')
        assert Balanced(line).open == ["span"], "no token goes over the end of a line"


def test_marked_and_linked_lines_can_be_told() -> None:
    html = highlight("a\nb\nc\n", "a.cc", 10, range(11, 12), linked=True).html
    assert re.findall(r'class="(line[^"]*)" id="(L\d+)"', html) == [
        ("line", "L10"),
        ("line mark", "L11"),
        ("line", "L12"),
    ]


def test_a_character_that_does_not_show_is_told_apart_from_its_spelling() -> None:
    html = highlight('s = "\u202e \\u202e";\n', "a.cc").html
    assert html.count('class="covert"') == 1
    assert plain(html) == 's = "\\u202e \\u202e";\n'


# Pages from templates


_MARKUP = st.sampled_from(
    ["<script>", "</title>", '"', "'", " onload=x ", "<img src=x onerror=x>", "</span>", "&lt;", "\u202e"]
)


@given(st.lists(_MARKUP | st.text(max_size=5), max_size=8).map("".join))
def test_no_value_of_a_page_becomes_markup(text: str) -> None:
    page = render(
        "problem", Shell("me", workspaces=(text,), workspace=text, query=text), title=text, message=text, hint=text
    )
    assert Balanced(page).foreign == []
    assert Balanced(page).open == []
    assert visible(page) == page, "covert characters are spelt out"


@given(st.text(max_size=40), st.text(min_size=1, max_size=20))
def test_an_address_holds_its_parameters_and_nothing_beside(text: str, workspace: str) -> None:
    made = httpx.URL("http://server" + url("search", workspace, q=text, path=None, kind=[]))
    assert dict(made.params) == ({"q": text.encode("utf-8", "replace").decode()} if text else {})
    assert made.path.count("/") >= 3
    assert re.fullmatch(r"[!-~]*", url("search", workspace, q=text))


def test_every_file_that_pages_and_scripts_name_is_there() -> None:
    folder = Path(ASSETS._folder)
    templates = "".join(file.read_text(encoding="utf-8") for file in (folder.parent / "templates").iterdir())
    named = set(re.findall(r"static\('([^']+)'\)", templates))
    for name, asset in ASSETS.files.items():
        if name.endswith(".js"):
            named |= set(re.findall(r'from "\./([^"]+)"', asset.content.decode()))
    assert named == set(ASSETS.files), "none is missing, and none is left over"


def test_no_script_makes_markup_of_text_and_none_is_loaded_from_elsewhere() -> None:
    for name, asset in ASSETS.files.items():
        text = asset.content.decode()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            name
        )
        assert not re.search(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[a-z]+\.[a-z]", text), name


# Contrast, by the formula of WCAG 2.2 (relative luminance and contrast ratio)


def colours(theme: str) -> dict[str, str]:
    block = re.search(rf"{re.escape(theme)} \{{(.*?)\}}", STYLE, re.DOTALL)
    assert block
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block[1]))


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


CODE = ("comment", "keyword", "type", "string", "number", "macro", "call")
TEXT = [
    *product(("ink", "muted", "accent", "bad"), ("page", "surface")),
    *product(("ink", "muted"), ("raised",)),
    ("ink", "mark"),
    ("on-accent", "accent"),
    *((kind, f"{kind}-soft") for kind in ("accent", "good", "fair", "bad")),
    *product((f"code-{kind}" for kind in CODE), ("surface", "mark")),
]
SHAPES = [*product(("edge", "accent", "good", "fair", "bad"), ("page", "surface"))]  # borders of fields, dots, bars


@pytest.mark.parametrize("theme", [":root", ':root[data-theme="dark"]'])
def test_every_pair_of_colours_has_the_contrast_of_level_aa(theme: str) -> None:
    known = colours(theme)
    assert known.keys() == colours(":root").keys()
    for front, back in TEXT:
        assert contrast(known[front], known[back]) >= 4.5, f"{front} on {back}"
    for front, back in SHAPES:
        assert contrast(known[front], known[back]) >= 3, f"{front} beside {back}"


def test_the_contrast_of_black_and_white_is_what_the_standard_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


# Routes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("pages"), TREE) as running:
        yield running


PAGES: Mapping[str, str] = {
    "/": "What do you want to know",
    f"/w/{WORKSPACE}": "Workspaces",
    f"/w/{WORKSPACE}/search?q=Increment": "app::Counter::Increment",
    f"/w/{WORKSPACE}/search": "Type what you look for",
    f"/w/{WORKSPACE}/search?q=Frobnicate&kind=class&path=nowhere": "Filters",
    f"/w/{WORKSPACE}/search?q=Frobnicate": HOSTILE,
    f"/w/{WORKSPACE}/symbol?name=Frobnicate": HOSTILE,
    f"/w/{WORKSPACE}/file?path={quote(HOSTILE)}": HOSTILE,
    f"/w/{WORKSPACE}/ask?q={quote(HOSTILE)}": HOSTILE,
    f"/w/{WORKSPACE}/history?name={quote(HOSTILE)}": HOSTILE,
    f"/w/{WORKSPACE}/symbol?name=Counter": "class Counter",
    f"/w/{WORKSPACE}/symbol?name=Nothing": "Nothing is named Nothing",
    f"/w/{WORKSPACE}/file?path=src/counter.cc&line=7": "value_",
    f"/w/{WORKSPACE}/file?path=../../etc/passwd": "No such file in the index",
    f"/w/{WORKSPACE}/snippet?path=src/counter.cc&first_line=6&last_line=8": "Increment",
    f"/w/{WORKSPACE}/ask?q=what": "what",
    f"/w/{WORKSPACE}/ask": "Ask about",
    f"/w/{WORKSPACE}/history?name=src/counter.cc": "No commit is known",
    f"/w/{WORKSPACE}/knowledge?q={quote(HOSTILE)}": "Kept",
    f"/w/{WORKSPACE}/knowledge": "Propose something",
    f"/w/{WORKSPACE}/changes": "What changed",
    "/planner": "Context planner",
    "/jobs": "Jobs",
    "/approvals": "Approvals",
    "/keys": "Keys",
    "/login": "Log in",
}


@pytest.mark.parametrize("path", PAGES)
def test_a_page_shows_what_it_is_for_and_no_markup_but_ours(server: Served, path: str) -> None:
    answer = server.client.get(path, headers=NAVIGATES)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert PAGES[path] in plain(answer.text)
    found = Balanced(answer.text)
    assert (found.open, found.foreign) == ([], [])
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy


def test_a_page_for_nobody_is_the_way_in_and_back(server: Served) -> None:
    with server.stranger() as client:
        answer = client.get(f"/w/{WORKSPACE}/search?q=a%26b", headers=NAVIGATES)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login?next=")
        assert httpx.URL(answer.headers["location"]).params["next"] == f"/w/{WORKSPACE}/search?q=a%26b"
        assert client.get("/login").status_code == 200
        assert client.get(ASSETS.url("style.css")).status_code == 200


def test_a_browser_is_refused_by_a_page_and_a_program_by_json(server: Served) -> None:
    with server.stranger() as client:
        page = client.get("/jobs", headers={**NAVIGATES, "host": "elsewhere.example"})
        told = client.get("/jobs", headers={"host": "elsewhere.example"})
    assert page.status_code == told.status_code == 421
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert told.json()["error"] in plain(page.text)
    assert "default-src 'self'" in page.headers["content-security-policy"]


def test_a_workspace_that_is_not_seen_answers_as_one_that_is_not_there(server: Served) -> None:
    with server.keyed(Grant("elsewhere", frozenset({Scope.READ}))) as client:
        for page in (
            "",
            "/search?q=Counter",
            "/symbol?name=Counter",
            "/file?path=src/counter.cc",
            "/ask?q=x",
            "/history?name=x",
        ):
            hidden, missing = (client.get(f"/w/{name}{page}", headers=NAVIGATES) for name in (WORKSPACE, "v"))
            assert hidden.status_code == missing.status_code == 404
            assert hidden.text == missing.text.replace("&#39;v&#39;", f"&#39;{WORKSPACE}&#39;"), page


def test_a_key_without_grants_to_administer_gets_no_page_of_keys(server: Served) -> None:
    with server.keyed(Grant(WORKSPACE, frozenset({Scope.READ}))) as client:
        assert client.get("/keys", headers=NAVIGATES).status_code == 403
        assert 'href="/keys"' not in client.get("/", headers=NAVIGATES).text


def test_short_addresses_lead_to_the_workspace(server: Served) -> None:
    answer = server.client.get("/search?q=a+b&kind=class&kind=enum", headers=NAVIGATES)
    assert answer.headers["location"] == f"/w/{WORKSPACE}/search?q=a+b&kind=class&kind=enum"
    answer = server.client.get("/symbol?workspace=w%2F..%2Fx&name=a", headers=NAVIGATES)
    assert answer.headers["location"] == "/w/w%2F..%2Fx/symbol?name=a"
    answer = server.client.get(f"/w/{WORKSPACE}/search?q=a&workspace=other", headers=NAVIGATES)
    assert answer.headers["location"] == "/w/other/search?q=a", "the workspace that was chosen among the filters"


def test_files_are_kept_for_ever_under_their_digest_and_never_under_another(server: Served) -> None:
    asset = server.client.get(ASSETS.url("page.js"))
    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert asset.headers["content-type"] == "text/javascript; charset=utf-8"
    assert server.client.get("/static/older/page.js").headers["cache-control"] == "no-cache"
    for name in ("nothing.js", "..%2f..%2frendering.py", "templates", "page.js%00"):
        assert server.client.get(f"/static/{ASSETS.digest}/{name}").status_code in {400, 404}, name


_ODD = st.text(alphabet=st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ["-1", "1" * 30, "1e9", "\uff10", "\u00b2"]
)


@given(
    page=st.sampled_from(["search", "symbol", "file", "snippet", "history", "ask"]),
    values=st.lists(_ODD, min_size=6, max_size=6),
)
def test_no_parameter_of_a_page_is_an_error(server: Served, page: str, values: list[str]) -> None:
    names = ("q", "name", "path", "line", "limit", "kind")
    answer = server.client.get(
        f"/w/{WORKSPACE}/{page}", params=dict(zip(names, values, strict=True)), headers=NAVIGATES
    )
    assert answer.status_code in {200, 400}
    assert Balanced(answer.text).foreign == []
