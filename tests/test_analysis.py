"""Reading a whole code base part after part: what the parts hold, what becomes of notes, stopping and going on."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.analysis import (
    MAP_SYSTEM,
    REDUCE_SYSTEM,
    Analysed,
    Bounds,
    Journal,
    Reader,
    Said,
    Summary,
    analyse,
    labels_in,
    planned,
    relabelled,
)
from hub.analysis.journal import MOST_JOURNALS
from hub.answering import Lexicon
from hub.cli import main
from hub.errors import BackendUnavailable, PromptTooLong, UnsupportedRequest
from hub.llama import summarize_tree
from hub.model import (
    BackendInfo,
    Capabilities,
    Completion,
    Event,
    GenerationOptions,
    Part,
    Prefill,
    Prompt,
    Streamed,
    Usage,
)
from indexer.index import Index
from indexer.model import Chunk, Span, SymbolId, chunk_id
from tests.support.library import library_index
from tests.support.scripted_server import ScriptedServer, llama_cpp

QUESTION = "How is the oldest entry evicted, and who counts?"
SMALL = Bounds(part_tokens=1_800, answer_tokens=300)


def count(text: str) -> int:
    return len(text)


class Speaker:
    """Says to each prompt what it is told to; errors are raised. Remembers its prompts."""

    def __init__(self, say: Callable[[Prompt], str | Exception], info: BackendInfo | None = None) -> None:
        self._say = say
        self._info = info or BackendInfo("spoken", "speaker", 8_192, 2_048)
        self.prompts: list[Prompt] = []
        self.open_streams = 0

    @property
    def parts(self) -> list[Prompt]:
        return [prompt for prompt in self.prompts if prompt.system == MAP_SYSTEM]

    def info(self) -> BackendInfo:
        return self._info

    def count_tokens(self, text: str) -> int:
        return count(text)

    def capabilities(self) -> Capabilities:
        return Capabilities(progress=True)

    def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
        assert prompt.tokens + options.max_tokens <= self._info.context_window
        self.prompts.append(prompt)
        said = self._say(prompt)
        self.open_streams += 1
        try:
            yield Prefill(prompt.tokens, prompt.tokens)
            if isinstance(said, Exception):
                raise said
            yield from re.findall(r"\S+\s*", said)
            yield Completion(said, Usage(prompt.tokens, count(said)))
        finally:
            self.open_streams -= 1

    def close(self) -> None:
        pass


def quoting(prompt: Prompt) -> str:
    """Of a part, that its first piece is there; of notes, all of them."""
    if prompt.system == MAP_SYSTEM:
        return f"This is in {prompt.citations[0].span.path.rpartition('/')[2].split('.')[0]} [1]."
    return prompt.user.split("<<<")[1].split("\n", 1)[1].split("\n")[0]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with library_index(tmp_path_factory.mktemp("analysis")) as opened:
        yield opened


def lexicon_of(index: Index) -> Lexicon:
    return Lexicon(
        index.text.term_weights(QUESTION),
        index.text.stems,
        lambda name: index.text.holds(name) or bool(index.facts.symbols_named(name, 1)),
    )


def reader_of(index: Index, backend: Speaker, bounds: Bounds = SMALL, journal: Journal | None = None) -> Reader:
    return Reader(backend, lexicon_of(index), index.table.chunks_of, summarize_tree, bounds, journal, clock=lambda: 0.0)


def files_of(index: Index) -> list[str]:
    return sorted(index.table.known_files())


def run(
    index: Index, backend: Speaker, bounds: Bounds = SMALL, journal: Journal | None = None, tell: object = None
) -> Analysed:
    reader = reader_of(index, backend, bounds, journal)
    return analyse(planned(QUESTION, files_of(index), reader), reader, tell or (lambda _event: None))  # type: ignore[arg-type]


def lines_of(index: Index, span: Span) -> str:
    text = "".join(chunk.text for chunk in index.table.chunks_of(span.path))
    return "\n".join(text.split("\n")[span.first_line - 1 : span.last_line])


# What the parts hold

texts = st.lists(st.text("ab \n{}[]", max_size=60), min_size=1, max_size=12).map("\n".join)


def chunk_of(path: str, first: int, text: str) -> Chunk:
    lines = text.count("\n") + (not text.endswith("\n"))
    return Chunk(
        chunk_id(path, first, "", text), Span(path, first, first + lines - 1), f"{path} | f", text, SymbolId("f")
    )


@given(st.dictionaries(st.sampled_from("abcd"), texts, min_size=1), st.integers(700, 1_500))
@settings(max_examples=60)
def test_the_parts_of_a_plan_fit_and_hold_every_line_once(files: dict[str, str], room: int) -> None:
    backend = Speaker(lambda _prompt: "")
    reader = Reader(
        backend,
        Lexicon((), str.split, lambda _name: True),
        lambda path: [chunk_of(path, 1, files[path])],
        summarize_tree,
        Bounds(part_tokens=room + count(MAP_SYSTEM)),
    )
    plan = planned("Why?", files, reader)
    assert plan.left_out == ()
    held: dict[str, list[tuple[int, str]]] = {path: [] for path in files}
    for part in plan.parts:
        assert part.tokens == count(part.system) + count(part.user) <= room + count(MAP_SYSTEM)
        places = [(citation.span.path, citation.span.first_line) for citation in part.citations]
        assert places == sorted(places)
        for citation, text in zip(part.citations, part.evidence, strict=True):
            assert citation.span.last_line - citation.span.first_line == text.count("\n")
            held[citation.span.path].append((citation.span.first_line, text))
    for path, pieces in held.items():
        assert "\n".join(text for _, text in sorted(pieces)) == files[path].removesuffix("\n")


def test_a_chunk_that_no_part_holds_is_cut_between_lines_and_a_line_that_none_holds_is_named() -> None:
    long = "\n".join(f"int number_{n} = {n};" for n in range(400))
    files = {"long.cc": long, "wide.cc": "x" * 1_500, "short.cc": "int y;"}
    reader = Reader(
        Speaker(lambda _prompt: ""),
        Lexicon((), str.split, lambda _name: True),
        lambda path: [chunk_of(path, 1, files[path])],
        summarize_tree,
        SMALL,
    )
    plan = planned("Why?", files, reader)
    assert plan.left_out == ("wide.cc",)
    shown = "\n".join(text for part in plan.parts for text in part.evidence)
    assert shown == long + "\nint y;"


def test_the_files_named_first_are_read_first_and_what_the_bounds_leave_out_is_named(index: Index) -> None:
    files = ["src/main.cc", *(path for path in files_of(index) if path != "src/main.cc")]
    whole = planned(QUESTION, files, reader_of(index, Speaker(quoting)))
    assert len(whole.parts) >= 3
    assert (
        whole.parts[0].citations[0].span.path == "src/cache.cc" or whole.parts[0].citations[-1].span.path in files[:4]
    )
    assert "src/main.cc" in {citation.span.path for citation in whole.parts[0].citations}
    bounds = replace(SMALL, most_tokens=sum(part.tokens for part in whole.parts[:2]))
    cut = planned(QUESTION, files, reader_of(index, Speaker(quoting), bounds))
    assert cut.parts == whole.parts[:2]
    shown = {citation.span.path for part in cut.parts for citation in part.citations}
    assert set(cut.left_out) | shown == set(files)
    assert "src/main.cc" not in cut.left_out
    assert cut.tokens < whole.tokens


def test_the_seconds_bound_a_plan_as_the_tokens_do(index: Index) -> None:
    reader = replace(reader_of(index, Speaker(quoting)), seconds_of=lambda prompt, _answer: prompt / 10)
    whole = planned(QUESTION, files_of(index), reader)
    first = whole.parts[0].tokens / 10
    cut = planned(QUESTION, files_of(index), replace(reader, bounds=replace(SMALL, most_seconds=first)))
    assert cut.parts == whole.parts[:1]
    assert cut.seconds == pytest.approx(first)
    assert cut.left_out


@pytest.mark.parametrize(
    ("info", "error", "says"),
    [
        (BackendInfo("evidence only", "none", 8_192, 8_192, writes=False), UnsupportedRequest, "no language model"),
        (BackendInfo("tiny", "smol", 8_192, 1_600, evidence_first=True), UnsupportedRequest, "too small"),
        (BackendInfo("narrow", "n", 1_000, 900), PromptTooLong, "too little"),
    ],
    ids=["no model", "a tiny model", "a narrow window"],
)
def test_who_cannot_take_notes_is_refused_with_a_way_out(
    index: Index, info: BackendInfo, error: type[Exception], says: str
) -> None:
    backend = Speaker(quoting, info)
    with pytest.raises(error) as raised:
        planned(QUESTION, files_of(index), reader_of(index, backend))
    assert says in raised.value.message  # type: ignore[attr-defined]
    assert raised.value.hint  # type: ignore[attr-defined]
    assert not backend.prompts


# What becomes of notes


def test_notes_of_all_parts_come_together_with_labels_that_point_at_what_was_noted(index: Index) -> None:
    backend = Speaker(quoting)
    done = run(index, backend)
    assert len(backend.parts) == done.parts_read >= 3
    (root,) = (prompt for prompt in backend.prompts if prompt.system == REDUCE_SYSTEM)
    for note in range(1, done.parts_read + 1):
        assert f"[{note}]" in root.user
    assert labels_in(done.text) == [citation.label for citation in done.citations] == [1]
    assert [text.strip() for text in done.prompt.evidence] == [lines_of(index, c.span).strip() for c in done.citations]
    assert done.usage.prompt == sum(prompt.tokens for prompt in backend.prompts)


def test_every_label_of_a_long_tree_of_notes_points_at_the_part_that_it_came_from(index: Index) -> None:
    def say(prompt: Prompt) -> str:
        if prompt.system == MAP_SYSTEM:
            citation = prompt.citations[-1]
            return f"The path {citation.span.path} is read [{citation.label}]."
        notes = prompt.user.split("<<<")[1].split("\n", 1)[1]
        return " ".join(dict.fromkeys(re.findall(r"The path \S+ is read \[\d+\]\.", notes)))

    done = run(index, Speaker(say), Bounds(part_tokens=1_300, answer_tokens=400))
    pairs = re.findall(r"The path (\S+) is read \[(\d+)\]", done.text)
    by_label = {citation.label: citation.span.path for citation in done.citations}
    assert len(pairs) >= 3
    assert [by_label[int(label)] for _, label in pairs] == [path for path, _ in pairs]
    assert [int(label) for _, label in pairs] == list(range(1, len(pairs) + 1))


def test_a_part_that_says_nothing_leaves_no_note_and_a_single_note_needs_no_summary(index: Index) -> None:
    def say(prompt: Prompt) -> str:
        holds = any(citation.span.path == "docs/eviction.md" for citation in prompt.citations)
        return "The oldest goes first [1]." if holds else "NOTHING."

    backend = Speaker(say)
    done = run(index, backend)
    assert done.text == "The oldest goes first [1]."
    assert len(done.citations) == 1
    assert backend.prompts == backend.parts


def test_a_note_that_begins_with_nothing_and_cites_something_is_a_note(index: Index) -> None:
    def say(prompt: Prompt) -> str:
        return "Nothing but EvictOldest evicts [1]." if prompt.system == MAP_SYSTEM else quoting(prompt)

    assert run(index, Speaker(say)).text.startswith("Nothing but EvictOldest evicts [1].")


@pytest.mark.parametrize("said", ["NOTHING", "Nothing.", "**NOTHING**", "Nothing here speaks to the question."])
def test_where_no_part_says_anything_the_text_is_empty(index: Index, said: str) -> None:
    done = run(index, Speaker(lambda _prompt: said))
    assert (done.text, done.citations, done.prompt.evidence) == ("", (), ())
    assert done.parts_read >= 3


@pytest.mark.parametrize(
    "said",
    ["It calls `Vanish` [1].", "I think so.", "", "so it goes " * 200],
    ids=["an invented name", "no citation", "no text", "a loop"],
)
def test_a_note_that_fails_its_checks_is_replaced_by_what_the_comments_say(index: Index, said: str) -> None:
    done = run(index, Speaker(lambda prompt: said if prompt.system == MAP_SYSTEM else quoting(prompt)))
    assert "Vanish" not in done.text
    assert "so it goes" not in done.text
    assert "longest ago" in done.text
    assert done.citations
    assert any("nothing that could be relied on" in note for note in done.notes)


def test_a_footnote_in_a_comment_is_no_citation() -> None:
    files = {"a.cc": "// The oldest entry goes first, see [1] and [77] for why.\nint f();\n", "b.cc": "int g();\n"}
    reader = Reader(
        Speaker(lambda _prompt: "I think so."),
        Lexicon((("oldest", 1.0),), str.split, lambda _name: True),
        lambda path: [chunk_of(path, 1, files[path])],
        summarize_tree,
        SMALL,
        clock=lambda: 0.0,
    )
    done = analyse(planned("What of the oldest?", ["b.cc", "a.cc"], reader), reader, lambda _event: None)
    assert [citation.span.path for citation in done.citations] == ["a.cc"]
    assert labels_in(done.text) == [1]


def test_a_summary_that_fails_its_checks_is_replaced_by_the_notes(index: Index) -> None:
    def say(prompt: Prompt) -> str:
        return "`Vanish` does it all [1]." if prompt.system == REDUCE_SYSTEM else quoting(prompt)

    done = run(index, Speaker(say))
    assert "Vanish" not in done.text
    assert len(labels_in(done.text)) == len(done.citations) == done.parts_read
    assert any("Notes stand as they were taken" in note for note in done.notes)


def test_a_loop_is_stopped_at_the_second_round_and_its_request_cancelled(index: Index) -> None:
    class Endless(Speaker):
        def stream(self, prompt: Prompt, _options: GenerationOptions) -> Iterator[Streamed]:
            self.prompts.append(prompt)
            self.open_streams += 1
            try:
                for _ in range(100_000):
                    self.said += 1
                    yield "round and round it goes without an end "
            finally:
                self.open_streams -= 1

        said = 0

    backend = Endless(quoting)
    done = run(index, backend)
    assert backend.open_streams == 0
    assert backend.said < 4 * len(backend.prompts) + 100
    assert "round" not in done.text


# Bounds, stopping and going on


def test_the_cost_is_told_before_anything_is_read_and_each_part_with_what_is_left(index: Index) -> None:
    backend = Speaker(quoting)
    events: list[Event] = []
    read_at: list[int] = []

    def tell(event: Event) -> None:
        events.append(event)
        if isinstance(event, Part):
            read_at.append(len(backend.prompts))

    reader = reader_of(index, backend)
    plan = planned(QUESTION, files_of(index), reader)
    analyse(plan, reader, tell)
    told = [event for event in events if isinstance(event, Part)]
    total = len(plan.parts)
    assert told[0] == Part(0, total, plan.tokens, plan.seconds)
    assert [part.number for part in told] == list(range(total + 1))
    assert read_at == [0, *range(total)]
    left = [part.tokens for part in told[1:]]
    assert left == sorted(left, reverse=True)
    assert plan.tokens >= sum(prompt.tokens for prompt in backend.parts)
    assert any(isinstance(event, Prefill) for event in events)


def test_when_its_time_is_over_it_reads_no_further_part_and_names_what_it_did_not_read(index: Index) -> None:
    times = iter(range(0, 100_000, 100))
    backend = Speaker(quoting)
    reader = replace(reader_of(index, backend), clock=lambda: float(next(times)))
    plan = planned(QUESTION, files_of(index), reader)
    late = replace(reader, bounds=replace(SMALL, most_seconds=250.0))
    done = analyse(plan, late, lambda _event: None)
    assert done.parts_read == len(backend.parts) == 2
    assert done.text
    assert any("time of 250 s ended after 2 parts" in note for note in done.notes)
    unread = {citation.span.path for part in plan.parts[2:] for citation in part.citations}
    assert any(f"{len(unread)} files are left out" in note for note in done.notes)


class Stopped(Exception):
    """The user has had enough."""


@pytest.mark.parametrize("stop", [Stopped, KeyboardInterrupt])
def test_an_analysis_that_was_stopped_goes_on_where_it_was(
    index: Index, tmp_path: Path, stop: type[BaseException]
) -> None:
    def stop_at_third(event: Event) -> None:
        if isinstance(event, Part) and event.number == 3:
            raise stop

    whole = run(index, Speaker(quoting))
    first = Speaker(quoting)
    with pytest.raises(stop):
        run(index, first, journal=Journal(tmp_path, QUESTION), tell=stop_at_third)
    assert len(first.prompts) == 2
    assert first.open_streams == 0
    second = Speaker(quoting)
    done = run(index, second, journal=Journal(tmp_path, QUESTION))
    assert len(second.parts) == done.parts_read - 2
    assert (done.text, done.citations) == (whole.text, whole.citations)
    assert "2 answers about parts were known from an analysis before." in done.notes
    third = Speaker(quoting)
    assert run(index, third, journal=Journal(tmp_path, QUESTION)).text == whole.text
    assert third.prompts == []


def test_a_user_who_stops_while_a_part_is_read_cancels_its_request(index: Index) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Prefill):
            raise Stopped

    backend = Speaker(quoting)
    with pytest.raises(Stopped):
        run(index, backend, tell=stop)
    assert len(backend.prompts) == 1
    assert backend.open_streams == 0


def test_an_engine_that_goes_away_ends_it_and_what_was_read_is_kept(index: Index, tmp_path: Path) -> None:
    def say(prompt: Prompt) -> str | Exception:
        return quoting(prompt) if len(gone.prompts) < 3 else BackendUnavailable("It went away.", "Start it.")

    gone = Speaker(say)
    with pytest.raises(BackendUnavailable):
        run(index, gone, journal=Journal(tmp_path, QUESTION))
    back = Speaker(quoting)
    done = run(index, back, journal=Journal(tmp_path, QUESTION))
    assert len(back.parts) == done.parts_read - 2


def test_a_part_that_the_engine_finds_too_long_is_left_out_and_named(index: Index) -> None:
    def say(prompt: Prompt) -> str | Exception:
        return PromptTooLong("It is too long.", "Less.") if len(backend.prompts) == 1 else quoting(prompt)

    backend = Speaker(say)
    done = run(index, backend)
    assert done.parts_read == len(backend.parts) - 1
    assert "A part was left out: It is too long." in done.notes
    assert any(note.startswith("Not all was read") for note in done.notes)


def test_what_a_journal_holds_is_checked_again(index: Index, tmp_path: Path) -> None:
    run(index, Speaker(quoting), journal=Journal(tmp_path, QUESTION))
    (file,) = tmp_path.glob("*.jsonl")
    text = file.read_text(encoding="utf-8")
    file.write_text(re.sub(r"This is in \w+", "It calls Vanish()", text) + '{"key": 3}\n[]\n{"ke\n', encoding="utf-8")
    done = run(index, Speaker(quoting), journal=Journal(tmp_path, QUESTION))
    assert "Vanish" not in done.text
    assert done.text


def test_the_journals_of_the_newest_analyses_are_kept_and_no_more(tmp_path: Path) -> None:
    for number in range(MOST_JOURNALS + 5):
        Journal(tmp_path, f"question {number}").keep("key", Said("text"))
    assert len(list(tmp_path.glob("*.jsonl"))) == MOST_JOURNALS
    newest = Journal(tmp_path, f"question {MOST_JOURNALS + 4}")
    assert newest.said("key") == Said("text")


def test_where_nothing_can_be_kept_the_analysis_says_so_and_ends_well(index: Index, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, no folder", encoding="utf-8")
    done = run(index, Speaker(quoting), journal=Journal(tmp_path / "taken", QUESTION))
    assert done.text
    assert any("cannot be kept for another run" in note for note in done.notes)


# The command

Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shell(
    tmp_path: Path, index: Index, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shell]:
    """``codehub ask --tier analysis`` in this process, answered by a scripted llama.cpp server."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with ScriptedServer(llama_cpp(1_500)) as server:
        monkeypatch.setenv("CODEHUB_BACKEND", "llama-server")
        monkeypatch.setenv("CODEHUB_LLAMA_SERVER_URL", server.url)
        monkeypatch.setenv("CODEHUB_EMBEDDINGS", "none")

        def call(*arguments: str) -> tuple[int, str, str]:
            capsys.readouterr()
            data = ("--data", str(index.root.parent / "data"), "--workspace", "w")
            code = main(["ask", QUESTION, "--tier", "analysis", *data, *arguments])
            return code, *capsys.readouterr()

        yield call


def test_the_command_tells_its_parts_and_cites_what_they_said(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = shell()
    assert code == 0
    total = re.search(r"(\d+) parts to read: \d+ tokens, about \d+ s", err)
    assert total
    assert f"part {total[1]} of {total[1]}" in err
    assert int(total[1]) >= 2
    assert out.startswith("It is in [1]")
    assert "Sources:" in out
    code, out, err = shell("--json")
    told = json.loads(out)
    assert (code, err, told["tier"], told["tried"]) == (0, "", "analysis", ["analysis"])
    assert len(told["citations"]) == 1
    assert told["usage"]["prompt"] == 0
    monkeypatch.setenv("CODEHUB_ANALYSIS_TOKENS", "1200")
    _, out, _ = shell("--json")
    assert any(note.startswith("Not all was read") for note in json.loads(out)["notes"])


def test_without_a_model_the_command_refuses_an_analysis_and_says_the_way_out(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEHUB_BACKEND", "none")
    code, out, err = shell()
    assert (code, out) == (2, "")
    assert "no language model" in err
    assert "Ollama" in err


# Labels

labelled = st.lists(
    st.sampled_from(["a ", "[1]", "[2, 3]", "`b[1]` ", "`[2]`", "[9]", "x[", "] ", "{context_str}"])
).map("".join)


@given(labelled)
def test_relabelling_keeps_everything_but_the_numbers(text: str) -> None:
    numbers = {label: label + 10 for label in labels_in(text)}
    changed = relabelled(text, numbers)
    assert labels_in(changed) == [label + 10 for label in labels_in(text)]
    assert relabelled(changed, {label + 10: label for label in numbers}) == text


def test_a_number_of_any_length_is_read_or_left() -> None:
    assert labels_in(f"[{'9' * 5_000}] [7]") == [7]


def test_subscripts_in_code_are_no_labels() -> None:
    assert labels_in("`buffer[0]` and buffer [3], `[4]`") == [3, 4]
    assert relabelled("`buffer[0]` holds [3][5].", {3: 1, 0: 7}) == "`buffer[0]` holds [1]."


# The summarizer


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(60, 300), st.integers(10, 25))
@settings(max_examples=60, deadline=None)
def test_the_tree_comes_to_its_root_whatever_the_notes(sizes: list[int], room: int, longest: int) -> None:
    calls: list[str] = []

    def write(notes: str) -> str:
        assert len(notes.split()) <= room
        calls.append(notes)
        return " ".join(notes.split()[:longest])

    notes = [" ".join(f"w{number}.{word}" for word in range(size)) for number, size in enumerate(sizes)]
    text = summarize_tree(notes, Summary(write, lambda text: len(text.split()), room, longest))
    assert text == " ".join(calls[-1].split()[:longest])
    assert len(calls) <= 2 * len(sizes)
    assert {word for note in notes for word in note.split()} <= set(" ".join(calls).split())


def test_a_note_is_cut_only_where_it_is_longer_than_a_call_takes() -> None:
    calls: list[str] = []

    def write(notes: str) -> str:
        calls.append(notes)
        return "put together {context_str} {query_str}"

    notes = [f"{'first ' * 30}[{n}]" for n in range(10)]
    text = summarize_tree(notes, Summary(write, lambda text: len(text.split()), 100, 10))
    assert text == "put together {context_str} {query_str}"
    assert all(part in notes for call in calls[:-1] for part in call.split("\n\n"))


def test_a_summary_without_room_for_two_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        summarize_tree(["a", "b"], Summary(str, len, 100, 60))


def test_what_writing_raises_comes_out_of_the_tree_unchanged() -> None:
    def write(_notes: str) -> str:
        raise BackendUnavailable("It went away.", "Start it.")

    with pytest.raises(BackendUnavailable):
        summarize_tree(["a", "b"], Summary(write, len, 1_000, 100))


def test_planning_and_reading_need_no_llama_index() -> None:
    code = "import sys, hub.analysis; print('llama_index' in {name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    assert done.stdout.strip() == "False"
