"""The configuration of other programs, changed by us: nothing is lost, and what is undone leaves no trace."""

import io
import json
import os
import re
import stat
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agents.command import main
from agents.connect import Place, carry_out, connected, disconnected, guide, jsonc, toml_tables
from agents.connect.appending import appended, taken
from agents.connect.clients import CLIENTS, Served, Started, entry
from agents.errors import ConnectError
from tests.support.trees import index_of, write_tree

STARTED = Started("/opt/codehub/bin/codehub", ("mcp", "--workspace", "engine"))
SERVED = Served("https://hub.example/mcp")
VALUE: dict[str, Any] = {"type": "stdio", "command": "/opt/codehub", "args": ["mcp"], "timeout": 600000}
INPUT: dict[str, Any] = {"id": "codehub-key", "type": "promptString"}


def _gaps(newline: str) -> st.SearchStrategy[str]:
    """White space and comments, as they may stand between any two parts."""
    comments = [
        f" // a note, {{ with }} marks{newline}",
        "/* one */",
        f"/* two{newline} lines */",
        f"// \U0001f600 //{newline}",
    ]
    return st.lists(st.sampled_from(["", " ", "  ", "\t", "\n", newline, newline * 2, *comments]), max_size=3).map(
        "".join
    )


@st.composite
def written_json(draw: st.DrawFn) -> str:
    """An object as somebody might have written it: any layout, comments and trailing commas, none of it ours."""
    newline = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    gap, booleans = _gaps(newline), st.booleans()
    names = st.text(st.characters(exclude_categories=["Cs"]), max_size=4).map(lambda name: f"other {name}")

    def plain() -> str:
        values = st.one_of(st.integers(), st.booleans(), st.none(), st.text(max_size=5), st.floats(allow_nan=False))
        return json.dumps(draw(values.filter(lambda value: value not in (float("inf"), float("-inf")))))

    def several(opening: str, parts: list[str]) -> str:
        inner = ",".join(f"{draw(gap)}{part}{draw(gap)}" for part in parts)
        comma = "," + draw(gap) if bool(parts) and draw(booleans) else ""
        return f"{opening}{inner or draw(gap)}{comma}{ {'{': '}', '[': ']'}[opening] }"

    def member(name: str, value: str) -> str:
        return f"{json.dumps(name, ensure_ascii=draw(st.booleans()))}{draw(gap)}:{draw(gap)}{value}"

    def an_object(depth: int) -> str:
        chosen = draw(st.lists(names, max_size=3, unique=True))
        return several("{", [member(name, value(depth + 1)) for name in chosen])

    def value(depth: int) -> str:
        kind = draw(st.integers(0, 3)) if depth < 2 else 0
        if kind == 1:
            return an_object(depth)
        if kind == 2:
            return several("[", [value(depth + 1) for _ in range(draw(st.integers(0, 2)))])
        return plain()

    members = [member(name, value(0)) for name in draw(st.lists(names, max_size=3, unique=True))]
    if draw(st.booleans()):
        members.append(member("mcpServers", an_object(0)))
    if draw(st.booleans()):
        elements = [an_object(1) for _ in range(draw(st.integers(0, 2)))]
        members.append(member("inputs", several("[", elements)))
    return draw(gap) + several("{", draw(st.permutations(members))) + draw(gap)


def both_put(text: str | None) -> str:
    return jsonc.put(jsonc.put(text, "mcpServers", "codehub", VALUE), "inputs", "codehub-key", INPUT)


@settings(max_examples=60)
@given(written_json())
@example("{}")
@example("{ }")
@example("{\n}")
@example("{\r}\n")
@example('{"mcpServers": {}}')
@example('{"mcpServers": { }, }')
@example('{\n  "mcpServers": {\n  }\n}\n')
@example('{\n\t"mcpServers": {\n\t\t"other": {}, // mine\n\t},\n}')
@example('{ "a": 1 // last\n}')
@example('{ "a": 1 // last\r}')
@example("{ // first\n}")
@example('{"inputs": [ /* none\n */ ]}')
def test_what_is_put_in_and_taken_out_leaves_every_byte_as_it_was(text: str) -> None:
    once = jsonc.put(text, "mcpServers", "codehub", VALUE)
    assert jsonc.shown(once, "mcpServers", "codehub") == VALUE
    assert jsonc.put(once, "mcpServers", "codehub", VALUE) == once
    assert jsonc.take(once, "mcpServers", "codehub") == text
    both = both_put(text)
    assert both_put(both) == both
    left = jsonc.take(both, "inputs", "codehub-key")
    assert left is not None
    assert jsonc.take(left, "mcpServers", "codehub") == text


@settings(max_examples=60)
@given(written_json(), st.data())
def test_all_that_is_not_ours_stands_there_as_before_in_the_same_order(text: str, data: st.DataObject) -> None:
    changed = jsonc.put(text, "mcpServers", "codehub", VALUE)
    # What was there is all still there, in its order: the text with one or two pieces put into it.
    rest = iter(changed)
    assert all(letter in rest for letter in text)
    other = data.draw(st.sampled_from([{"command": "x"}, {**VALUE, "args": []}]))
    replaced = jsonc.put(changed, "mcpServers", "codehub", other)
    assert jsonc.put(replaced, "mcpServers", "codehub", VALUE) == changed


@given(st.text(st.sampled_from(list('{}[]:,"\\/* \n\rabtu0129-.eE')), max_size=40))
def test_any_text_is_read_as_json_reads_it_or_refused_with_its_place(text: str) -> None:
    try:
        read = jsonc.read(text).value()
    except ConnectError as error:
        assert error.message.startswith("Line ")  # noqa: PT017 - what is refused is one of two good ends
        with pytest.raises(ValueError, match=r".*"):
            json.loads(text)
        return
    try:
        assert json.loads(text) == read
    except ValueError:
        assert "/" in text or "," in text  # comments and trailing commas are what we read beyond it


def test_an_entry_gets_the_layout_of_the_file() -> None:
    text = '{\r\n\t"mcpServers": {\r\n\t\t"other": {"url": "x"} // theirs\r\n\t}\r\n}\r\n'
    assert jsonc.put(text, "mcpServers", "codehub", {"command": "c", "args": ["mcp"]}) == (
        '{\r\n\t"mcpServers": {\r\n\t\t"other": {"url": "x"}, // theirs\r\n\t\t"codehub": {\r\n'
        '\t\t\t"command": "c",\r\n\t\t\t"args": ["mcp"]\r\n\t\t}\r\n\t}\r\n}\r\n'
    )
    assert jsonc.put('{"a": 1}', "mcpServers", "codehub", {"command": "c"}) == (
        '{"a": 1, "mcpServers": { "codehub": {"command": "c"} }}'
    )


def test_an_entry_that_was_made_by_hand_goes_with_its_comma_and_nothing_else() -> None:
    first = '{"mcpServers": {\n  // ours\n  "codehub": {"command": "c"}, // theirs:\n  "other": {}\n}}'
    assert jsonc.take(first, "mcpServers", "codehub") == ('{"mcpServers": {\n  // ours // theirs:\n  "other": {}\n}}')
    last = '{"mcpServers": {"other": {}, /* ours */ "codehub": {}}}'
    assert jsonc.take(last, "mcpServers", "codehub") == '{"mcpServers": {"other": {} /* ours */}}'


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "Line 1, column 1"),
        ("[]", "Line 1, column 1"),
        ('{"a": 1', "Line 1, column 8"),
        ('{\n  "a": tru\n}', "Line 2, column 8"),
        ('{"a": 1}\n}', "Line 2, column 1"),
        ('{"a" 1}', "Line 1, column 6"),
        ('{"a": 1 "b": 2}', "Line 1, column 9"),
        ("{'a': 1}", "Line 1, column 2"),
        ('{"a": /* without end }', "Line 1, column 7"),
        ('{"a": "\n"}', "Line 1, column 7"),
        ('{"mcpServers": []}', "Line 1, column 16"),
        ('{"mcpServers": null}', "Line 1, column 16"),
        ('{"mcpServers": {}, "mcpServers": {}}', "Line 1, column 20"),
        ('{"mcpServers": {"codehub": 1, "codehub": 2}}', "Line 1, column 31"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
        ('{"a": ' + "1" * 10_000 + "}", "the number is too long"),
        ('{"a": "' + "\\" * 100_001 + '"}', "Line 1, column 7"),
    ],
)
def test_what_is_no_json_or_says_it_otherwise_is_refused_with_its_place(text: str, place: str) -> None:
    with pytest.raises(ConnectError, match=place):
        jsonc.put(text, "mcpServers", "codehub", VALUE)


# -- TOML


TABLE = {"command": "/opt/codehub", "args": ["mcp", 'a "b" \\ c'], "startup_timeout_sec": 30}
PATH = ("mcp_servers", "codehub")
_TOML_LINES = [
    "# a note with [brackets] and \"quotes'",
    'model = "o" # [mcp_servers.codehub]',
    "[other]",
    "[mcp_servers.other]",
    '[mcp_servers."codehub 2"]',
    "[[list.of]]",
    'text = """\n[mcp_servers.codehub]\ncommand = "no"\n"""',
    "plain = '''\n[x]\n'''",
    "list = [\n  [1, 2], # ]\n  [3],\n]",
    "inner = {a = 1, b = ['}']}",
    "",
    "   ",
    "number = nan",
]


@given(st.lists(st.sampled_from(_TOML_LINES), max_size=7), st.sampled_from(["\n", "\r\n"]), st.integers(0, 2))
@example([], "\n", 0)
@example([], "\n", 1)
def test_a_table_is_put_in_and_taken_out_without_a_trace(lines: list[str], newline: str, ends: int) -> None:
    text = newline.join(line.replace("\n", newline) for line in lines) + newline * ends
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        with pytest.raises(ConnectError, match="TOML"):
            toml_tables.put(text, PATH, TABLE)
        return
    once = toml_tables.put(text, PATH, TABLE)
    assert toml_tables.shown(once, PATH) == TABLE
    assert toml_tables.put(once, PATH, TABLE) == once
    assert toml_tables.take(once, PATH) == text
    assert once.startswith(text)


def test_a_table_in_the_middle_is_replaced_and_taken_out_with_those_below_it() -> None:
    before = '# mine\nmodel = "o"\n\n'
    after = "\n# about the other\n[mcp_servers.other]\ncommand = 'x'\n"
    text = f'{before}[ mcp_servers . "codehub" ]\ncommand = "old"\n[mcp_servers.codehub.env]\nA = "1"\n{after}'
    changed = toml_tables.put(text, PATH, {"command": "new"})
    assert changed == f'{before}[mcp_servers.codehub]\ncommand = "new"\n{after}'
    assert toml_tables.take(changed, PATH) == before.removesuffix("\n") + after


@pytest.mark.parametrize(
    "text",
    [
        "mcp_servers = {other = {command = 'x'}}",
        'mcp_servers.codehub.command = "x"',
        "[mcp_servers]\ncodehub = {command = 'x'}",
        "[mcp_servers.codehub]\na = 1\n[other]\n[mcp_servers.codehub.env]\nb = 1",
        "a = 1\na = 2",
        "a = " + "[" * 5_000,
    ],
)
def test_a_table_that_stands_there_otherwise_is_left_to_a_person(text: str) -> None:
    with pytest.raises(ConnectError) as refused:
        toml_tables.put(text, PATH, TABLE)
    assert refused.value.hint


@given(st.text(st.sampled_from("ab \t\n\r#"), max_size=12))
def test_a_block_at_the_end_is_taken_out_without_a_trace(text: str) -> None:
    changed = appended(text, "BEGIN\nEND")
    start = changed.index("BEGIN")
    assert taken(changed, start, changed.rindex("END") + 3) == text
    assert taken(appended(None, "BEGIN"), 0, 5) is None
    guided = guide.put(text)
    assert guide.put(guided) == guided
    assert guide.take(guided) == text


def test_marks_that_are_no_pair_are_refused() -> None:
    for text in (guide.BEGIN, guide.END, f"{guide.END}\n{guide.BEGIN}", f"{guide.SECTION}\n{guide.SECTION}"):
        with pytest.raises(ConnectError, match="marks"):
            guide.put(text)


# -- files


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("server", [STARTED, SERVED], ids=["started", "served"])
@pytest.mark.parametrize("is_user", [False, True], ids=["project", "user"])
def test_a_client_is_connected_and_disconnected_as_if_nothing_had_been(
    client: str, server: Started | Served, is_user: bool, tmp_path: Path
) -> None:
    place = Place(tmp_path, is_user=is_user)
    assert carry_out(connected(CLIENTS[client], server, place, with_guide=True)) == ()
    again = connected(CLIENTS[client], server, place, with_guide=True)
    assert not again.is_any()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 2
    assert not any("hub_" in path.read_text(encoding="utf-8") for path in written)
    carry_out(disconnected(CLIENTS[client], place, with_guide=True))
    assert list(tmp_path.rglob("*"))[:1] == ([] if not is_user or client != "vscode" else [tmp_path / ".config"])


def test_a_file_that_was_there_keeps_its_bytes_its_mode_and_its_mark(tmp_path: Path) -> None:
    place, file = Place(tmp_path, is_user=True), tmp_path / ".claude.json"
    before = b'\xef\xbb\xbf{\r\n  "oauth": "x", // kept\r\n}'
    file.write_bytes(before)
    file.chmod(0o600)
    (kept,) = carry_out(connected(CLIENTS["claude"], STARTED, place, with_guide=False))
    assert kept.read_bytes() == before
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert file.read_bytes().startswith(b'\xef\xbb\xbf{\r\n  "oauth": "x", // kept\r\n  "mcpServers": {\r\n')
    assert carry_out(disconnected(CLIENTS["claude"], place, with_guide=False)) == ()
    assert file.read_bytes() == before
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_what_others_wrote_meanwhile_stays_when_it_is_undone(tmp_path: Path) -> None:
    place, file = Place(tmp_path), tmp_path / ".codex" / "config.toml"
    carry_out(connected(CLIENTS["codex"], STARTED, place, with_guide=False))
    file.write_text(file.read_text(encoding="utf-8") + '\n[mcp_servers.other]\ncommand = "x"\n', encoding="utf-8")
    (kept,) = carry_out(disconnected(CLIENTS["codex"], place, with_guide=False))
    assert file.read_text(encoding="utf-8") == '\n[mcp_servers.other]\ncommand = "x"\n'
    assert "codehub" in kept.read_text(encoding="utf-8")


def test_the_section_for_agents_stays_until_the_last_client_of_the_project_goes(tmp_path: Path) -> None:
    place, section = Place(tmp_path), tmp_path / guide.FILE
    section.write_text("# Ours\n", encoding="utf-8")
    for name in ("claude", "codex"):
        carry_out(connected(CLIENTS[name], STARTED, place, with_guide=True))
    carry_out(disconnected(CLIENTS["claude"], place, with_guide=None))
    assert guide.BEGIN in section.read_text(encoding="utf-8")
    carry_out(disconnected(CLIENTS["codex"], place, with_guide=None))
    assert section.read_text(encoding="utf-8") == "# Ours\n"


def test_a_link_inside_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / "dotfiles" / "mcp.json").write_text("{}", encoding="utf-8")
    (tmp_path / ".mcp.json").symlink_to("dotfiles/mcp.json")
    carry_out(connected(CLIENTS["claude"], STARTED, Place(tmp_path), with_guide=False))
    assert (tmp_path / ".mcp.json").is_symlink()
    assert "codehub" in (tmp_path / "dotfiles" / "mcp.json").read_text(encoding="utf-8")


def _leads_out(project: Path, outside: Path) -> None:
    (outside / "mcp.json").write_text("{}", encoding="utf-8")
    (project / ".cursor").symlink_to(outside)


def _dangles(project: Path, _outside: Path) -> None:
    (project / ".cursor").mkdir()
    (project / ".cursor" / "mcp.json").symlink_to("nothing")


def _circles(project: Path, _outside: Path) -> None:
    (project / ".cursor").symlink_to(".cursor")


def _is_a_folder(project: Path, _outside: Path) -> None:
    (project / ".cursor" / "mcp.json").mkdir(parents=True)


def _is_no_utf8(project: Path, _outside: Path) -> None:
    (project / ".cursor").mkdir()
    (project / ".cursor" / "mcp.json").write_bytes('{"ä": 1}'.encode("utf-16"))


def _is_huge(project: Path, _outside: Path) -> None:
    (project / ".cursor").mkdir()
    with (project / ".cursor" / "mcp.json").open("wb") as file:
        file.truncate((16 << 20) + 1)


@pytest.mark.parametrize("prepare", [_leads_out, _dangles, _circles, _is_a_folder, _is_no_utf8, _is_huge])
def test_what_leads_out_or_is_no_file_of_text_is_refused_and_stays(
    prepare: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    project, outside = tmp_path / "project", tmp_path / "outside"
    project.mkdir()
    outside.mkdir()
    prepare(project, outside)
    before = {path: path.stat(follow_symlinks=False).st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(ConnectError) as refused:
        connected(CLIENTS["cursor"], STARTED, Place(project), with_guide=True)
    assert refused.value.hint
    assert {path: path.stat(follow_symlinks=False).st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_file_that_changes_between_the_question_and_the_answer_is_left_alone(tmp_path: Path) -> None:
    plan = connected(CLIENTS["claude"], STARTED, Place(tmp_path), with_guide=False)
    (tmp_path / ".mcp.json").write_text('{"theirs": 1}', encoding="utf-8")
    with pytest.raises(ConnectError, match="changed meanwhile"):
        carry_out(plan)
    assert (tmp_path / ".mcp.json").read_text(encoding="utf-8") == '{"theirs": 1}'


def test_of_many_at_once_one_writes_and_the_others_are_told(tmp_path: Path) -> None:
    file = tmp_path / ".mcp.json"
    file.write_text("{}", encoding="utf-8")
    servers = [Started(f"/opt/{number}/codehub", ("mcp",)) for number in range(8)]
    plans = [connected(CLIENTS["claude"], server, Place(tmp_path), with_guide=False) for server in servers]
    ready, ends = threading.Barrier(len(plans)), []

    def attempt(number: int) -> None:
        ready.wait(30)
        try:
            carry_out(plans[number])
            ends.append(number)
        except ConnectError as error:
            assert "changed meanwhile" in error.message  # noqa: PT017 - in a thread of its own
            ends.append(-1)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(len(plans))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    (winner,) = [number for number in ends if number >= 0]
    assert len(ends) == len(plans)
    assert jsonc.shown(file.read_text(encoding="utf-8"), "mcpServers", "codehub")["command"] == servers[winner].command


def test_a_folder_that_cannot_be_written_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("nothing is forbidden to root")
    plan = connected(CLIENTS["claude"], STARTED, Place(tmp_path), with_guide=False)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ConnectError, match="cannot be written"):
            carry_out(plan)
    finally:
        tmp_path.chmod(0o700)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "server",
    [
        Served("ftp://hub.example/mcp"),
        Served("https://user:word@hub.example/mcp"),
        Served("https://hub.example/mcp?key=1"),
        Served("https://hub.example/${HOME}"),
        Served("http://hub.example/mcp"),
        Served("https://["),
        Served("https://hub.example/mcp", "not a name"),
        Served("https://hub.example/mcp", "hub_0123_secret/="),
        Served("https://hub.example/mcp", "CODEHUB_KEY"),
        Started("/home/$USER/codehub", ("mcp",)),
        Started("/opt/codehub", ("mcp", "--workspace", "a\nb")),
    ],
    ids=repr,
)
def test_what_would_give_a_secret_away_or_be_replaced_is_refused(server: Started | Served) -> None:
    with pytest.raises(ConnectError) as refused:
        entry(CLIENTS["claude"], server)
    assert "word" not in refused.value.message + refused.value.hint.replace("password", "")


def test_an_address_without_a_path_is_that_of_the_tools() -> None:
    assert entry(CLIENTS["cursor"], Served("http://127.0.0.1:8642/")).server["url"] == "http://127.0.0.1:8642/mcp"
    assert entry(CLIENTS["cursor"], Served("http://[::1]:8642")).server["url"] == "http://[::1]:8642/mcp"
    assert entry(CLIENTS["cursor"], Served("https://hub.example/x/mcp")).server["url"] == "https://hub.example/x/mcp"


def test_an_input_that_is_needed_no_more_goes(tmp_path: Path) -> None:
    place, file = Place(tmp_path), tmp_path / ".vscode" / "mcp.json"
    carry_out(connected(CLIENTS["vscode"], SERVED, place, with_guide=False))
    assert json.loads(file.read_text(encoding="utf-8"))["inputs"][0]["password"] is True
    carry_out(connected(CLIENTS["vscode"], STARTED, place, with_guide=False))
    assert json.loads(file.read_text(encoding="utf-8")) == {
        "servers": {"codehub": entry(CLIENTS["vscode"], STARTED).server}
    }


# -- the command


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """In a project, with a program that is installed there, a home of its own, and nobody at the terminal."""
    project, program = tmp_path / "project", tmp_path / "codehub"
    project.mkdir()
    program.touch()
    monkeypatch.chdir(project)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CODEHUB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("sys.argv", [str(program)])

    def run(*arguments: str) -> tuple[int, str]:
        code = main(["connect", *arguments])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


def test_without_consent_the_change_is_shown_and_nothing_is_written(
    command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, shown = command("claude", "--http", "https://hub.example")
    assert code == 1
    assert '+    "codehub": {' in shown
    assert "+++ " in shown
    assert "Nothing was written; call it with --yes." in shown
    assert list((tmp_path / "project").iterdir()) == []


def test_with_consent_it_is_written_and_undone(command: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, shown = command("claude", "--http", "https://hub.example", "--yes", "--json")
    told = json.loads(shown)
    assert (code, told["written"], [file["change"] for file in told["files"]]) == (0, True, ["created", "created"])
    assert command("claude", "--http", "https://hub.example")[0] == 0, "there is nothing to be asked for"
    assert command("claude", "--remove", "--yes")[0] == 0
    assert list((tmp_path / "project").iterdir()) == []
    code, shown = command("claude", "--remove")
    assert (code, "nothing to change" in shown) == (0, True)


def test_where_no_tree_is_indexed_it_says_what_to_do(command: Callable[..., tuple[int, str]]) -> None:
    code, shown = command("cursor", "--yes")
    assert (code, "codehub index" in shown) == (2, True)
    code, shown = command("cursor", "--key-variable", "X")
    assert (code, "--http" in shown) == (2, True)


def test_in_the_users_own_configuration_the_program_is_started_where_the_agent_works(
    command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, _ = command("gemini", "--user", "--yes")
    assert code == 0
    told = json.loads((tmp_path / "home" / ".gemini" / "settings.json").read_text(encoding="utf-8"))
    assert told["mcpServers"]["codehub"] == {
        "command": str(tmp_path / "codehub"),
        "args": ["mcp", "--data", str(tmp_path / "data")],
        "timeout": 600000,
        "trust": False,
    }
    assert not (tmp_path / "home" / guide.FILE).exists()


def test_in_an_indexed_tree_its_workspace_is_named_from_any_folder_of_it(
    command: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = write_tree(tmp_path / "tree", {"src/a.cc": "int a();\n"})
    (tmp_path / "data").mkdir()
    index_of(tree, tmp_path / "data")
    monkeypatch.chdir(tree / "src")
    assert command("codex", "--yes")[0] == 0
    told = tomllib.loads((tree / ".codex" / "config.toml").read_text(encoding="utf-8"))
    arguments = ["mcp", "--workspace", "w", "--data", str(tmp_path / "data")]
    assert told["mcp_servers"]["codehub"]["args"] == arguments
    assert guide.BEGIN in (tree / guide.FILE).read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert command("codex", "--yes")[0] == 2, "which tree is meant is not guessed"
    assert command("codex", "--workspace", "w")[0] == 0, "there is nothing to change"
    assert command("codex", "--workspace", "w", "--remove", "--yes")[0] == 0
    assert [path.name for path in tree.iterdir()] == ["src"]


@pytest.mark.parametrize(
    ("answer", "written"), [("y\n", True), ("Yes\n", True), ("\n", False), ("no\n", False), ("", False)]
)
def test_at_a_terminal_a_person_is_asked(
    answer: str, written: bool, command: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(answer))
    code, shown = command("cursor", "--http", "https://hub.example", "--no-agents-md")
    assert "Write this? [y/N]" in shown
    assert code == (0 if written else 1)
    assert (tmp_path / "project" / ".cursor" / "mcp.json").exists() == written


# -- the documentation

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(r"^```(jsonc?|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^```markdown\n(<!-- codehub.*?)\n```$", re.MULTILINE | re.DOTALL)


def _blocks(page: Path) -> list[tuple[str, str]]:
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def test_the_page_about_agents_shows_what_is_written(tmp_path: Path) -> None:
    page, written = ROOT / "docs" / "agents.md", []
    for client in CLIENTS.values():
        for server in (Started("/home/you/.local/bin/codehub", ("mcp", "--workspace", "engine")), SERVED):
            plan = connected(client, server, Place(tmp_path), with_guide=False)
            written.append((plan.changes[0].after or b"").decode())
    assert [block for _, block in _blocks(page)] == written
    assert _SECTION.findall(page.read_text(encoding="utf-8")) == [guide.SECTION]


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_what_a_page_shows_of_a_configuration_can_be_read_and_is_what_a_client_takes(page: Path) -> None:
    known: dict[str, set[str]] = {}  # by container, which three clients have in common
    for client in CLIENTS.values():
        for server in (STARTED, SERVED):
            known.setdefault(client.container, set()).update(entry(client, server).server)
    for kind, block in _blocks(page):
        read = tomllib.loads(block) if kind == "toml" else jsonc.read(block).value()
        for container in known.keys() & (read if isinstance(read, dict) else {}):
            assert set(read[container].get("codehub", {})) <= known[container]
            assert (container == "mcp_servers") == (kind == "toml")
