"""The web page in real Chromium: the real server, a real index, and a model whose words are scripted.

No page of these tests may run a script that is not the server's own, nor break a policy that the server sends: whatever
the browser complains of fails the test that caused it. Screenshots are kept in SCREENSHOTS, where that is set.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from hub.auth.model import Grant, Principal, Scope
from hub.knowledge import Draft, EntryKind
from hub.prompting.layout import visible
from tests.support.scripted_server import (
    CHAT,
    DONE,
    LONGEST_WAIT_S,
    Reply,
    ScriptedServer,
    counts,
    event,
    prompt_tokens,
    vllm,
)
from tests.support.served import WORKSPACE, Served, served
from tests.support.trees import COUNTER

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")

BOUND_MS = 10_000
HOSTILE = "src/<img src=x onerror=window.ran=1>.cc"
LONG = "ANameThatOnlyAMacroWouldMakeAndThatHasNoPlaceToBreakAtSoThatItIsWiderThanAPhoneAndAnySidebar"
ANSWER = ("`app::Counter::Increment`", " adds to the value", " [1].")
TREE: dict[str, str | bytes] = {
    **COUNTER,
    "src/shapes.h": """#pragma once
namespace app {
/// Anything with an area.
class Shape {
 public:
  virtual ~Shape() = default;
  virtual double Area() const = 0;
};
class Circle : public Shape {
 public:
  double Area() const override { return 3.0; }
};
class Square : public Shape {
 public:
  double Area() const override { return 1.0; }
};
class Small : public Square {};
}  // namespace app
""",
    HOSTILE: """// Frobnicates: </script><script>window.ran=1</script> "><svg onload=window.ran=1>
int Frobnicate(int value) {
  const char* text = "</code><img src=x onerror=window.ran=1>";  // \u202e hidden
  return value + text[0];
}
int ANAME() { return 1; }
int CallsFrobnicate() { return Frobnicate(2); }
""".replace("ANAME", LONG),
}


@dataclass
class Talk:
    """What the model says next. ``gate`` holds its answer back after the first piece, where a test needs the middle."""

    gate: threading.Event | None = None

    def answers(self) -> dict[str, Any]:
        known = vllm(window=16_384)

        def chat(body: Mapping[str, Any]) -> Reply:
            if body.get("max_tokens", 2) <= 1 or "response_format" in body:
                return known[CHAT](body)  # type: ignore[operator] # a function in every script of this server
            return Reply(self.parts(prompt_tokens(body)), kind="text/event-stream")

        return {**known, CHAT: chat}

    def parts(self, read: int) -> Iterator[bytes]:
        for number, piece in enumerate(ANSWER):
            yield (event(piece) + "\n\n").encode()
            if not number and self.gate:
                self.gate.wait(LONGEST_WAIT_S)
        for line in (event(finish="stop"), counts(read, len(ANSWER)), DONE):
            yield (line + "\n\n").encode()


@dataclass
class Browser:
    """Logged-in pages, and what the browser complained of on any of them."""

    page: Any
    server: Served
    complaints: list[str]
    expected: list[str] = field(default_factory=list)  # parts of complaints that a test causes on purpose

    def open(self, path: str) -> Any:
        self.page.goto(self.server.url + path)
        return self.page

    def shot(self, name: str, folder: Path) -> None:
        self.page.screenshot(path=str(Path(os.environ.get("SCREENSHOTS", folder)) / f"{name}.png"))


@pytest.fixture(scope="module")
def talk() -> Talk:
    return Talk()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, talk: Talk) -> Iterator[Served]:
    with (
        ScriptedServer(talk.answers()) as model,
        served(tmp_path_factory.mktemp("web"), TREE, backend="openai", openai_url=f"{model.url}/v1") as running,
    ):
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # Without its own sandbox, which root may not use; the pages are the tests' own.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def session(chromium: Any, server: Served) -> Any:
    """The cookies of whoever may do everything: the server lets nobody try keys often, so one is used once."""
    context = chromium.new_context(base_url=server.url)
    enter(context, server.key)
    state = context.storage_state()
    context.close()
    return state


def enter(context: Any, key: str) -> None:
    answer = context.request.post("/api/v1/sessions", data={"key": key})
    assert answer.ok, answer.text()


@pytest.fixture
def visit(chromium: Any, server: Served, session: Any) -> Iterator[Callable[..., Browser]]:
    made: list[tuple[Any, Browser]] = []

    def visitor(*, key: str | None = None, **options: Any) -> Browser:
        options = {"viewport": {"width": 1280, "height": 860}, **options}
        context = chromium.new_context(base_url=server.url, storage_state=None if key else session, **options)
        context.set_default_timeout(BOUND_MS)
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        browser = Browser(page, server, complaints)
        made.append((context, browser))
        if key:
            enter(context, key)
        return browser

    yield visitor
    for context, browser in made:
        ran = browser.page.evaluate("window.ran")
        context.close()
        left = [text for text in browser.complaints if not any(part in text for part in browser.expected)]
        assert left == []
        assert ran is None, "text of the repository ran as a script"


def expect(locator: Any) -> Any:
    """Waits until what is said of it holds."""
    sync_api.expect.set_options(timeout=BOUND_MS)
    return sync_api.expect(locator)


def test_a_search_from_the_first_page_leads_to_the_line(visit: Callable[..., Browser], tmp_path: Path) -> None:
    browser = visit()
    page = browser.open("/")
    assert page.evaluate("document.activeElement.name") == "q"
    browser.shot("home", tmp_path)
    page.keyboard.type("adds to the value and never overflows")
    page.keyboard.press("Enter")
    first = page.locator(".hit").first
    expect(first.locator(".symbol")).to_have_text("app::Counter::Increment")
    assert first.locator(".keyword, .type, .comment").count() > 0
    expect(page.locator(".sure strong")).to_contain_text("%")
    first.locator("summary").click()
    assert first.locator(".why .bar").count() >= 1
    browser.shot("search", tmp_path)
    first.locator("[data-open]").click()
    marked = page.locator(".line.mark")
    expect(marked.first).to_be_in_viewport()
    assert "value_ += by" in " ".join(marked.all_inner_texts())


def test_filters_leave_what_they_name(visit: Callable[..., Browser]) -> None:
    page = visit().open(f"/w/{WORKSPACE}/search?q=counter+value+shape")
    expect(page.locator(".hit").nth(2)).to_be_visible()
    page.get_by_label("class", exact=True).check()  # at once, without a further click
    page.wait_for_url("**kind=class**")
    assert set(page.locator(".hit .chip").all_inner_texts()) == {"class"}
    page.get_by_label("Path").fill("*shapes.h")
    page.keyboard.press("Enter")
    page.wait_for_url("**path=*shapes.h**")
    assert all("shapes.h:" in place for place in page.locator(".hit .place").all_inner_texts())
    expect(page.get_by_label("class", exact=True)).to_be_checked()
    browser_address = page.url
    page.get_by_label("Path").fill("nowhere/*")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("Nothing was found")
    page.go_back()
    assert page.url == browser_address


def test_keys_move_through_hits_open_them_and_go_back_to_the_box(visit: Callable[..., Browser]) -> None:
    page = visit().open(f"/w/{WORKSPACE}/search?q=counter")
    page.locator("h1").click()
    for key in ("j", "ArrowDown", "k"):
        page.keyboard.press(key)
    expect(page.locator(".hit").nth(0)).to_have_class("card hit current")
    page.keyboard.press("j")
    place = page.locator(".hit.current [data-open]")
    expect(place).to_be_focused()
    page.keyboard.press("w")
    assert page.locator(".hit.current .why").get_attribute("open") is not None
    page.keyboard.press("/")
    expect(page.locator("[data-search]")).to_be_focused()
    page.keyboard.type("/")  # a letter like any other, there
    expect(page.locator("[data-search]")).to_have_value("/")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    path = place.get_attribute("href")
    page.keyboard.press("k")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{path}")


def test_an_answer_streams_and_its_citation_opens_the_snippet(
    visit: Callable[..., Browser], talk: Talk, tmp_path: Path
) -> None:
    talk.gate = threading.Event()
    try:
        browser = visit()
        page = browser.open(f"/w/{WORKSPACE}/ask?q=What+does+Counter::Increment+do+with+the+value%3F&tier=rag")
        expect(page.locator(".rung.active")).to_be_visible()
        expect(page.locator("[data-state]")).to_contain_text("asking")
        expect(page.locator("[data-stop]")).to_be_visible()
    finally:
        talk.gate.set()
        talk.gate = None
    expect(page.locator("[data-state]")).to_contain_text("answered")
    expect(page.locator("[data-answer]")).to_contain_text("app::Counter::Increment adds to the value")
    expect(page.locator(".rung.stands strong")).to_have_text("Moderate prompt")
    page.locator("[data-answer] .cite").first.click()
    snippet = page.locator("#evidence-1 .line")
    expect(snippet.first).to_be_visible()
    assert "Counter" in page.locator("#evidence-1").inner_text()
    expect(page.locator("[data-answer] .cite").first).to_have_attribute("aria-expanded", "true")
    page.locator("#evidence-1 .head").click()
    expect(snippet).to_have_count(0)
    page.locator("h2").first.click()
    page.keyboard.press("1")
    expect(snippet.first).to_be_visible()
    browser.shot("ask", tmp_path)


def test_an_answer_can_be_stopped_and_asked_for_again(visit: Callable[..., Browser], talk: Talk) -> None:
    talk.gate = threading.Event()
    try:
        page = visit().open(f"/w/{WORKSPACE}/ask?q=What+does+Counter::Increment+do%3F&tier=rag")
        expect(page.locator(".rung.active")).to_contain_text("tokens read")
        page.locator("h2").first.click()
        page.keyboard.press("Escape")
        expect(page.locator("[data-state]")).to_contain_text("stopped")
    finally:
        talk.gate.set()
        talk.gate = None
    page.locator("[data-again]").click()
    expect(page.locator("[data-state]")).to_contain_text("answered")


def test_a_question_for_the_tables_is_answered_without_a_model(visit: Callable[..., Browser]) -> None:
    page = visit().open(f"/w/{WORKSPACE}/ask?q=who+calls+Counter::Increment%3F")
    expect(page.locator("[data-state]")).to_contain_text("answered")
    expect(page.locator(".rung.stands strong")).to_have_text("Tables")
    expect(page.locator("[data-answer]")).to_contain_text("src/main.cc:5")


def test_without_evidence_the_page_says_what_is_missing_and_what_may_help(
    visit: Callable[..., Browser], tmp_path: Path
) -> None:
    browser = visit()
    page = browser.open(f"/w/{WORKSPACE}/ask?q=where+is+`ZorblaxTeleporter`+defined%3F")
    expect(page.locator("[data-state]")).to_contain_text("no evidence found")
    expect(page.locator("[data-declined]")).to_contain_text("ZorblaxTeleporter")
    expect(page.locator(".rung.refused")).to_have_count(1)
    browser.shot("no-evidence", tmp_path)


def test_the_graph_of_a_function_expands_by_click_and_by_keyboard(
    visit: Callable[..., Browser], tmp_path: Path
) -> None:
    browser = visit()
    page = browser.open(f"/w/{WORKSPACE}/symbol?name=Frobnicate")
    expect(page.locator(".signature").first).to_contain_text("int Frobnicate(int value)")
    caller = page.locator(".node[data-name='CallsFrobnicate']")
    expect(caller).to_be_visible()
    centre = page.locator(".node.centre")
    assert caller.bounding_box()["x"] < centre.bounding_box()["x"], "callers stand to the left"
    caller.click()
    expect(caller).to_have_attribute("aria-expanded", "true")
    expect(page.locator(".graph-info")).to_contain_text("CallsFrobnicate")
    page.keyboard.press("ArrowRight")
    expect(centre).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(caller).to_be_focused()
    browser.shot("symbol", tmp_path)
    page.keyboard.press("o")
    page.wait_for_url("**/symbol?name=CallsFrobnicate")


def test_the_graph_of_a_class_has_its_bases_above_and_what_derives_below(visit: Callable[..., Browser]) -> None:
    page = visit().open(f"/w/{WORKSPACE}/symbol?name=Square")
    heights = {}
    for name in ("app::Shape", "app::Square", "app::Small"):
        node = page.locator(f".node[data-name='{name}']")
        expect(node).to_be_visible()
        heights[name] = node.bounding_box()["y"]
    assert heights["app::Shape"] < heights["app::Square"] < heights["app::Small"]


def test_light_and_dark_follow_the_system_until_one_is_chosen(visit: Callable[..., Browser], tmp_path: Path) -> None:
    browser = visit(color_scheme="dark")
    page = browser.open(f"/w/{WORKSPACE}/search?q=counter")
    theme = "document.documentElement.dataset.theme"
    colour = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(theme) == "dark"
    dark = page.evaluate(colour)
    browser.shot("search-dark", tmp_path)
    page.locator("h1").click()
    page.keyboard.press("t")
    assert page.evaluate(theme) == "light"
    assert page.evaluate(colour) != dark
    page.reload()
    assert page.evaluate(theme) == "light", "the choice is kept"
    page.locator("[data-theme-switch]").click()
    assert page.evaluate(colour) == dark


def test_a_phone_shows_every_page_without_scrolling_sideways(visit: Callable[..., Browser], tmp_path: Path) -> None:
    browser = visit(viewport={"width": 390, "height": 844}, has_touch=True)
    wide = "document.documentElement.scrollWidth - innerWidth"
    for path in ("", f"search?q={LONG}", "symbol?name=Square", f"ask?q=where+is+{LONG}+defined"):
        page = browser.open(f"/w/{WORKSPACE}/{path}".rstrip("/"))
        page.wait_for_load_state("networkidle")
        assert page.evaluate(wide) <= 0, path
        browser.shot("phone-" + (path.partition("?")[0] or "home"), tmp_path)
    for path in ("/planner?model=qwen3-coder:30b", "/keys"):
        page = browser.open(path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate(wide) <= 0, path
    menu = page.locator("[data-menu]")
    menu.click()
    expect(page.locator("#nav a").first).to_be_visible()
    assert menu.get_attribute("aria-expanded") == "true"
    menu.click()
    expect(page.locator("#nav a").first).to_be_hidden()
    page.set_viewport_size({"width": 1024, "height": 800})
    browser.open(f"/w/{WORKSPACE}/search?q={LONG}")
    assert page.evaluate(wide) <= 0
    assert page.evaluate("document.querySelector('.side').getBoundingClientRect().right") <= 1024


def test_text_of_the_repository_is_never_markup(visit: Callable[..., Browser]) -> None:
    """The fixture checks at the end that nothing ran and that the browser had nothing to refuse."""
    browser = visit()
    page = browser.open(f"/w/{WORKSPACE}/search?q=Frobnicate")
    expect(page.locator(".hit .place").first).to_contain_text(f"{HOSTILE}:")
    assert page.locator(".hit img").count() == 0
    assert "</script><script>window.ran=1</script>" in page.locator(".hits").inner_text()
    expect(page.locator(".covert").first).to_have_text("\\u202e")
    page.locator(".hit [data-open]").first.click()
    expect(page.locator("h1")).to_have_text(HOSTILE)
    browser.open(f"/w/{WORKSPACE}/ask?q=who+calls+Frobnicate%3F")
    expect(page.locator("[data-state]")).to_contain_text("answered")
    page.locator("[data-answer] .cite").first.click()
    expect(page.locator("#evidence-1 .line").first).to_be_visible()
    assert page.locator("main img").count() == 0
    browser.open(f"/w/{WORKSPACE}/search?q=%3Cimg+src%3Dx+onerror%3Dwindow.ran%3D1%3E%22%27")
    expect(page.locator("[data-search]")).to_have_value("<img src=x onerror=window.ran=1>\"'")


def test_what_would_run_is_refused_and_the_refusal_is_noticed_here(visit: Callable[..., Browser]) -> None:
    """So that the check at the end of each test is one that can fail."""
    browser = visit()
    browser.expected += ["Content Security Policy", "404"]
    page = browser.open("/")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=/nothing onerror=window.ran=1>')")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p style=color:red></p>')")
    page.wait_for_load_state("networkidle")
    assert sum("Content Security Policy" in text for text in browser.complaints) >= 2


UNNAMED = """() => {
  const field = "input, select, textarea";
  const named = (made) => made.ariaLabel || (made.matches(field) ? made.labels.length : made.textContent.trim());
  return [...document.querySelectorAll(`${field}, a, button, summary, [role=button], [role=img]`)]
    .filter((made) => made.type !== "hidden" && made.ariaHidden !== "true" && made.getClientRects().length)
    .filter((made) => !named(made))
    .map((made) => made.outerHTML);
}"""


def test_the_keyboard_reaches_everything_by_name_and_the_content_first(visit: Callable[..., Browser]) -> None:
    browser = visit()
    for path in ("search?q=counter", "symbol?name=Square", "ask?q=who+calls+Increment"):
        page = browser.open(f"/w/{WORKSPACE}/{path}")
        page.wait_for_load_state("networkidle")
        assert page.evaluate(UNNAMED) == [], path
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()


def test_the_scripts_spell_out_the_same_characters_as_the_server(visit: Callable[..., Browser]) -> None:
    page = visit().open("/")
    told = page.evaluate(
        """async () => {
          const { visible } = await import(new URL("api.js", document.querySelector("script[type=module]").src));
          const changed = [];
          for (let code = 0; code <= 0xe1fff; code = code === 0x2ffff ? 0xe0000 : code + 1) {
            const made = visible(String.fromCodePoint(code));
            if (made !== String.fromCodePoint(code)) changed.push([code, made]);
          }
          return changed;
        }"""
    )
    looked_at = (*range(0x30000), *range(0xE0000, 0xE2000))
    spelt = ((code, visible(chr(code))) for code in looked_at)
    assert told == [[code, text] for code, text in spelt if text != chr(code)]
    assert len(told) > 4_000


def test_a_key_that_ends_meanwhile_is_told_with_the_way_back_in(visit: Callable[..., Browser], server: Served) -> None:
    made = server.state.keys.create("gone soon", [Grant(WORKSPACE, frozenset({Scope.READ}))])
    browser = visit(key=made.text)
    browser.expected.append("401")
    page = browser.open(f"/w/{WORKSPACE}/ask?q=who+calls+Increment")
    expect(page.locator("[data-state]")).to_contain_text("answered")
    assert page.locator("#nav a[href='/keys']").count() == 0, "what is not granted is not offered"
    server.state.keys.revoke(made.record.key_id)
    page.locator("[data-again]").click()
    expect(page.locator("#banner")).to_contain_text("not logged in any more")
    page.locator("#banner a").click()
    page.wait_for_url("**/login?next=*")
    page.locator("#key").fill("chub_wrong")
    page.locator("main button").click()
    expect(page.locator("[data-refused]")).to_be_visible()
    page.locator("#key").fill(server.key)
    page.locator("main button").click()
    page.wait_for_url(f"**/w/{WORKSPACE}/ask?q=*")


def test_logging_in_leads_to_no_other_site(visit: Callable[..., Browser], server: Served) -> None:
    browser = visit()
    for next_page in (
        "//elsewhere.example/",
        "/\\elsewhere.example/",
        "https://elsewhere.example/",
        "javascript:alert(1)",
    ):
        page = browser.open(f"/login?next={quote(next_page)}")
        page.route("**/api/v1/sessions", lambda route: route.fulfill(status=201, json={}))
        page.locator("#key").fill("any")
        page.locator("main button").click()
        page.wait_for_url(server.url + "/")


def test_a_server_that_is_away_or_busy_is_told_in_a_sentence(visit: Callable[..., Browser]) -> None:
    browser = visit()
    browser.expected += ["ERR_FAILED", "429"]
    page = browser.open("/jobs")
    page.wait_for_load_state("networkidle")
    page.route("**/api/v1/jobs", lambda route: route.abort())
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#banner")).to_contain_text("The server does not answer")
    page.unroute("**/api/v1/jobs")
    busy = {"status": 429, "headers": {"retry-after": "7"}, "json": {"error": "Too many requests.", "hint": "Wait."}}
    page.route("**/api/v1/ask", lambda route: route.fulfill(**busy))
    browser.open(f"/w/{WORKSPACE}/ask?q=who+calls+Increment")
    expect(page.locator("#banner")).to_contain_text("Too many requests.")
    expect(page.locator("#banner .number")).to_contain_text("Again in")
    page.unroute("**/api/v1/ask")
    page.locator("#banner button").click()
    expect(page.locator("[data-state]")).to_contain_text("answered")
    expect(page.locator("#banner")).to_be_hidden()


def test_a_workspace_that_may_not_be_seen_is_none(visit: Callable[..., Browser], server: Served) -> None:
    made = server.state.keys.create("stranger", [Grant("elsewhere", frozenset({Scope.READ}))])
    browser = visit(key=made.text)
    browser.expected.append("404")
    page = browser.open("/")
    expect(page.locator("main")).to_contain_text("No workspace yet")
    assert WORKSPACE not in page.locator("main").inner_text().split()
    browser.open(f"/w/{WORKSPACE}/search?q=counter")
    expect(page.locator("main")).to_contain_text("There is no such workspace")


def test_a_key_is_made_shown_once_and_revoked(visit: Callable[..., Browser], server: Served, tmp_path: Path) -> None:
    browser = visit()
    page = browser.open("/keys")
    page.locator("[name=owner]").fill("<b>Ada</b>")
    page.locator("form button.primary").click()
    secret = page.locator("[data-secret]").inner_text()
    assert server.state.keys.check(secret) is not None
    row = page.locator("tr[data-key]", has_text="<b>Ada</b>")
    expect(row).to_contain_text("active")
    browser.shot("keys", tmp_path)
    row.get_by_role("button", name="Revoke").click()
    assert server.state.keys.check(secret) is not None, "one click is not enough"
    row.get_by_role("button", name="Revoke for good?").click()
    expect(row).to_contain_text("revoked")
    assert server.state.keys.check(secret) is None
    page.reload()
    assert secret not in page.content()


def test_a_job_is_started_and_followed_to_its_end(visit: Callable[..., Browser], tmp_path: Path) -> None:
    browser = visit()
    page = browser.open("/jobs")
    expect(page.locator("[data-jobs]")).to_contain_text("No jobs")
    page.locator("[data-new-job] button").click()
    job = page.locator("[data-job]").first
    sync_api.expect(job).to_have_attribute("data-state", "done", timeout=30_000)
    assert "index" in job.inner_text()
    browser.shot("jobs", tmp_path)


def test_a_request_is_let_pass_by_somebody_else_than_who_asked(visit: Callable[..., Browser], server: Served) -> None:
    asker = Principal("agent", "an agent", (Grant(WORKSPACE, frozenset(Scope)),))
    asked = server.state.approvals.ask(
        asker, WORKSPACE, "run_tests", "0" * 64, {"command": "<b>ctest</b> -R \u202eflush"}
    )
    page = visit().open("/approvals")
    entry = page.locator("[data-approval]")
    expect(entry).to_contain_text("<b>ctest</b> -R \\u202eflush")
    expect(entry).to_contain_text("an agent")
    entry.get_by_role("button", name="Let it pass once").click()
    expect(page.locator("[data-approvals]")).to_contain_text("Nothing waits")
    assert server.state.approvals.take(asked.approval_id, "0" * 64)


def test_what_somebody_else_proposed_is_read_with_what_it_replaces_and_accepted(
    visit: Callable[..., Browser], server: Served
) -> None:
    writer = Principal("agent", "an agent", (Grant(WORKSPACE, frozenset(Scope)),))
    reviewer = Principal("reviewer", "a reviewer", writer.grants)
    (old,) = server.state.lasting.add(writer, WORKSPACE, [Draft(EntryKind.GOTCHA, "", "The counter takes a lock.")])
    server.state.lasting.accept(reviewer, WORKSPACE, old.id)
    said = "The counter takes <b>no</b> lock \u202e."
    (new,) = server.state.lasting.add(writer, WORKSPACE, [Draft(EntryKind.GOTCHA, "", said, supersedes=(old.id,))])
    page = visit().open(f"/w/{WORKSPACE}/knowledge")
    waiting = page.locator("[data-waiting] [data-entry]")
    expect(waiting).to_contain_text("The counter takes <b>no</b> lock \\u202e.")
    expect(waiting).to_contain_text("The counter takes a lock.")
    waiting.get_by_role("button", name="Accept").click()
    expect(page.locator(f"[data-kept] #entry-{new.id}")).to_have_attribute("data-state", "accepted")
    expect(page.locator(f"[data-kept] #entry-{old.id}")).to_contain_text(f"{new.id} took its place")
    expect(page.locator("[data-waiting-section]")).to_be_hidden()
    page.locator("[data-new-entry] [name=text]").fill("Proposed in the page.")
    page.locator("[data-new-entry] button").click()
    expect(page.locator("[data-waiting]")).to_contain_text("Proposed in the page.")


def test_the_planner_draws_memory_against_context(visit: Callable[..., Browser], tmp_path: Path) -> None:
    browser = visit()
    page = browser.open("/planner?model=qwen3-coder:30b")
    page.locator("[name=gpu]").fill("RTX 4090")
    page.locator("[name=ram]").fill("64 GB")
    page.locator("[data-plan] button").click()
    expect(page.locator(".chart svg").first).to_be_visible()
    expect(page.locator(".note.good")).to_contain_text("Recommended")
    assert page.locator(".chart .kv").count() >= 3
    browser.shot("planner", tmp_path)
