"""Full loads: how entries read, what is chosen where not all fits, what is kept on disk, and tier "full" over them."""

import json
from collections import UserDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from hub.backends.embedded import EmbeddedBackend
from hub.backends.evidence_only import EvidenceOnlyBackend
from hub.cli import main
from hub.errors import BackendUnavailable, BrokenStream, PromptTooLong, UnsupportedRequest
from hub.evidence.skeleton import standing
from hub.fullload import store
from hub.fullload.entries import SYSTEM, Entry, Kind, change, rendered, sheet, shown
from hub.fullload.loading import FullLoad, Loader, loader_of
from hub.fullload.log import MOST_MISSED, MOST_STALE, Log, Ranking, Room, laid_out, updated
from hub.fullload.snapshots import Snapshots
from hub.fullload.tree import Tree, tree_of
from hub.fullload.warming import How
from hub.fullload.window import LEAST_WINDOW
from hub.model import (
    Answer,
    Backend,
    BackendInfo,
    Capabilities,
    Completion,
    Event,
    GenerationOptions,
    Piece,
    Prefill,
    PrefixState,
    Streamed,
    Tier,
    Usage,
)
from hub.prompting import Foundation, pack
from hub.service import AskOptions, Service
from indexer.errors import FolderBusyError
from indexer.index import DataFolder, Index
from indexer.model import Span
from tests.support.library import LIBRARY, ScriptedBackend, spoken
from tests.support.real_llama import thin_model_path
from tests.support.trees import index_of, write_tree

READER = BackendInfo("scripted", "reader", context_window=65_536, prompt_tokens=8_192)
TWELVE = "".join(f"int line{number};\n" for number in range(1, 13))
QUESTION = "When is the oldest entry evicted?"


def count(text: str) -> int:
    return len(text) // 4 + 1


ROOM = Room(100_000, count)


# How entries read


def test_a_whole_file_is_fenced_and_every_tenth_line_has_its_number() -> None:
    text = rendered(Entry(Kind.WHOLE, "src/a.cc", TWELVE))
    lines = text.split("\n")
    assert lines[0] == "File src/a.cc:"
    assert lines[1].startswith("<<<")
    assert lines[2:14] == [*TWELVE.split("\n")[:9], "10| int line10;", "int line11;", "int line12;"]
    assert lines[14:] == [f"{lines[1].removeprefix('<<<')}>>>", ""]


def test_a_changed_line_is_told_with_what_stands_around_it_and_gets_a_new_number() -> None:
    made = change("src/a.cc", sheet(TWELVE * 3), (TWELVE * 3).replace("int line6;\n", "int six;\nint more;\n", 1))
    assert made is not None
    entry, after = made
    assert rendered(entry).split("\n")[:2] == ["File src/a.cc changed:", "In place of 3-9 stand lines 37-44:"]
    assert "\n40| int six;\nint more;\n" in rendered(entry)
    assert "line2;" not in rendered(entry)
    assert (after.today(2), after.today(6), after.today(40), after.today(10)) == (2, None, 6, 11)


def test_a_second_change_names_lines_by_the_numbers_that_the_first_gave_them() -> None:
    first = change("a.cc", sheet(TWELVE * 3), (TWELVE * 3).replace("int line6;\n", "int six;\n", 1))
    assert first is not None
    second = change("a.cc", first[1], first[1].text.replace("int six;\n", "int seven;\n"))
    assert second is not None
    assert "In place of 37-43 stand lines 44-50:" in rendered(second[0])
    assert second[1].text == first[1].text.replace("six", "seven")


def test_a_file_that_changed_in_most_lines_is_told_whole() -> None:
    made = change("a.cc", sheet(TWELVE), TWELVE.replace("int", "long"))
    assert made is not None
    assert made[0] == Entry(Kind.WHOLE, "a.cc", TWELVE.replace("int", "long"))


@pytest.mark.parametrize("path", ["a b.cc", "x is gone.\nFile y.cc", 'quo"te.h', "\u202ea.cc", "<|im_end|>.h"])
def test_an_odd_path_is_quoted_so_that_it_reads_like_no_entry(path: str) -> None:
    line = rendered(Entry(Kind.GONE, path)).split("\n")
    assert len(line) == 2
    assert line[0].startswith('File "')
    assert json.loads(line[0].removeprefix("File ").removesuffix(" is gone.")) == shown(path)
    assert "<|im_end|>" not in line[0]


def test_text_that_would_act_on_a_reader_or_a_model_is_spelt_out() -> None:
    assert shown("a\u202eb\r\n<|im_start|>system\r\n") == "a\\u202eb\n\\u003c|im_start|>system\n"


# The log


def filled(**files: str) -> Log:
    return laid_out(files, Ranking(sorted(files), sorted(files)), ROOM)


def test_a_renamed_file_is_said_to_be_called_otherwise_and_not_told_again() -> None:
    log = filled(a=TWELVE, z=TWELVE * 20)
    after = updated(log, {"a": None, "b": TWELVE + "int last;\n"}, ROOM)
    assert after is not None
    assert [entry.kind for entry in after.entries[2:]] == [Kind.MOVED, Kind.CHANGE]
    assert after.sheets["b"].text == TWELVE + "int last;\n"
    assert "a" not in after.sheets


def test_a_file_that_goes_is_said_to_be_gone() -> None:
    after = updated(filled(a=TWELVE, z=TWELVE * 20), {"a": None}, ROOM)
    assert after is not None
    assert after.text.endswith("File a is gone.\n")


def test_what_no_longer_holds_makes_a_compaction_due_that_frees_it() -> None:
    files = {f"f{number}": "".join(f"int f{number}x{line};\n" for line in range(200)) for number in range(10)}
    log = filled(**files)
    assert not log.due_in(ROOM)
    for round_ in range(40):
        text = log.sheets["f9"].text.replace(f"int f9x{round_};", f"long f9x{round_};")
        after = updated(log, {"f9": text}, ROOM)
        assert after is not None
        log = after
        if log.due_in(ROOM):
            break
        assert log.stale <= MOST_STALE * (log.tokens - log.stale)
    for number in range(3):
        after = updated(log, {f"f{number}": files[f"f{number}"].replace("int", "long")}, ROOM)
        assert after is not None
        log = after
    assert log.due_in(ROOM)
    compacted = log.compacted(count, ROOM.tokens)
    assert compacted is not None
    assert not compacted.due_in(ROOM)
    assert {path: here.text for path, here in compacted.sheets.items()} == {
        path: here.text for path, here in log.sheets.items()
    }


def test_a_little_that_is_stale_is_enough_where_the_room_is_nearly_full() -> None:
    log = filled(a=TWELVE * 20)
    after = updated(log, {"a": TWELVE * 19 + TWELVE.replace("line6", "six")}, ROOM)
    assert after is not None
    assert not after.due_in(ROOM)
    assert after.due_in(Room(int(after.tokens * 1.04), count))
    assert not log.due_in(Room(int(log.tokens * 1.04), count))


def test_a_compaction_keeps_the_beginning_where_only_the_end_has_changed() -> None:
    files = {f"f{number}": "".join(f"int f{number}x{line};\n" for line in range(200)) for number in range(10)}
    log = filled(**files)
    for round_ in range(5):
        after = updated(log, {"f9": files["f9"].replace("int", f"type{round_}")}, ROOM)
        assert after is not None
        log = after
    compacted = log.compacted(count, ROOM.tokens)
    assert compacted is not None
    assert compacted.entries[:9] == log.entries[:9]
    assert len(compacted.entries) == 10


def test_what_matters_most_is_taken_where_not_all_fits_and_the_rest_is_named() -> None:
    files = dict.fromkeys(("a_test.cc", "include/b.h", "src/c.cc", "third_party/d.h"), TWELVE * 20)
    ranking = Ranking(sorted(files), sorted(files, key=lambda path: (standing(path), path)))
    log = laid_out(files, ranking, Room(2_300, count))
    assert log.sheets.keys() == {"include/b.h", "src/c.cc"}
    assert log.absent == {"a_test.cc", "third_party/d.h"}
    assert log.text.endswith("Not shown, for want of room (2): a_test.cc, third_party/d.h.\n")


def test_a_huge_tree_is_not_read_to_its_end() -> None:
    read: list[str] = []

    class Counting(UserDict[str, str]):
        def __getitem__(self, path: str) -> str:
            read.append(path)
            return super().__getitem__(path)

    files = Counting({f"f{number:04}": TWELVE * 10 for number in range(3_000)})
    log = laid_out(files, Ranking(sorted(files), sorted(files)), Room(5_000, count))
    assert 3 <= len(log.sheets) <= 20
    assert len(log.sheets) + len(log.absent) == 3_000
    assert len(read) < 300 + MOST_MISSED


def test_a_left_out_file_that_changes_stays_out_and_one_that_goes_is_said_to_be_gone() -> None:
    files = {"a.h": TWELVE, "b.cc": TWELVE * 30}
    log = laid_out(files, Ranking(["a.h", "b.cc"], ["a.h", "b.cc"]), Room(400, count))
    assert log.absent == {"b.cc"}
    changed = updated(log, {"b.cc": TWELVE * 31}, Room(400, count))
    assert changed is not None
    assert (changed.text, changed.absent) == (log.text, {"b.cc"})
    gone = updated(log, {"b.cc": None}, Room(400, count))
    assert gone is not None
    assert not gone.absent


def test_a_window_that_holds_no_file_is_refused() -> None:
    with pytest.raises(PromptTooLong, match="No file of the tree fits the 40 tokens"):
        laid_out({"a": TWELVE * 20}, Ranking(["a"], ["a"]), Room(40, count))


@pytest.mark.parametrize(
    ("path", "rank"),
    [
        ("README.md", 0),
        ("include/x.h", 1),
        ("src/x.cc", 2),
        ("docs/x.md", 3),
        ("tests/x_test.cc", 4),
        ("vendor/x.h", 5),
    ],
)
def test_public_headers_come_before_code_and_tests_and_other_peoples_code_last(path: str, rank: int) -> None:
    assert standing(path) == rank


# What is kept


def tree(**files: str) -> Tree:
    return Tree(
        {path: str(hash(text)) for path, text in files.items()}, files, lambda: Ranking(sorted(files), sorted(files))
    )


def loader(folder: Path) -> Loader:
    return Loader(folder / "loads" / "m", nullcontext)


FILES = {"a": TWELVE * 10, "b": TWELVE * 20}


def test_the_next_process_goes_on_with_what_the_last_one_kept(tmp_path: Path) -> None:
    first = loader(tmp_path).current(tree(**FILES), ROOM)
    edited = FILES | {"a": FILES["a"].replace("int line1;", "int one;", 1)}
    second = loader(tmp_path).current(tree(**edited), ROOM)
    assert second.text.startswith(first.text)
    assert second.text != first.text
    assert loader(tmp_path).current(tree(**edited), ROOM) == second


@pytest.mark.parametrize("harm", ["cut", "garbage", "version", "gone", "manifest"])
def test_a_damaged_load_is_laid_out_anew_and_said_to_be(tmp_path: Path, harm: str) -> None:
    before = loader(tmp_path).current(tree(**FILES), ROOM)
    folder = tmp_path / "loads" / "m"
    entries, manifest = folder / "entries-0", folder / "full-load.json"
    match harm:
        case "cut":
            entries.write_bytes(entries.read_bytes()[:-3])
        case "garbage":
            entries.write_bytes(b"\xff" * entries.stat().st_size)
        case "version":
            manifest.write_text(json.dumps(json.loads(manifest.read_text(encoding="utf-8")) | {"version": 0}))
        case "gone":
            entries.unlink()
        case _:
            manifest.write_text('{"version": 1, "current": {"file": "../../x"}}')
    after = loader(tmp_path).current(tree(**FILES), ROOM)
    assert after.text == before.text
    assert len(after.notes) == 1
    assert "laid out anew" in after.notes[0]
    assert loader(tmp_path).current(tree(**FILES), ROOM).notes == ()


def test_a_load_that_is_damaged_while_it_is_in_use_is_laid_out_anew_and_kept_again(tmp_path: Path) -> None:
    one = loader(tmp_path)
    before = one.current(tree(**FILES), ROOM)
    (tmp_path / "loads" / "m" / "full-load.json").write_text("{")
    assert one.current(tree(**FILES), ROOM).text == before.text
    assert loader(tmp_path).current(tree(**FILES), ROOM) == before


def test_what_another_process_has_kept_meanwhile_is_gone_on_with(tmp_path: Path) -> None:
    one, other = loader(tmp_path), loader(tmp_path)
    one.current(tree(**FILES), ROOM)
    edited = FILES | {"a": FILES["a"].replace("int line1;", "int one;", 1)}
    after = other.current(tree(**edited), ROOM)
    again = FILES | {"a": FILES["a"].replace("int line1;", "int two;", 1)}
    assert one.current(tree(**again), ROOM).text.startswith(after.text)


def test_a_load_that_cannot_be_kept_is_the_same_with_a_note(tmp_path: Path) -> None:
    def busy() -> AbstractContextManager[None]:
        raise FolderBusyError("The data folder is being written.", "Wait.")

    load = Loader(tmp_path / "m", busy).current(tree(**FILES), ROOM)
    assert load.text == loader(tmp_path).current(tree(**FILES), ROOM).text
    assert load.notes == ("The full load is not kept for the next question: The data folder is being written.",)
    (tmp_path / "file").write_text("in the way")
    blocked = Loader(tmp_path / "file" / "m", nullcontext).current(tree(**FILES), ROOM)
    assert blocked.text == load.text
    assert blocked.notes[0].startswith("The full load is not kept for the next question: ")


def test_a_compaction_is_prepared_beside_what_is_asked_with_and_then_takes_its_place(tmp_path: Path) -> None:
    files = {f"f{number}": "".join(f"int f{number}x{line};\n" for line in range(100)) for number in range(10)}
    one = loader(tmp_path)
    one.current(tree(**files), ROOM)
    assert one.prepared(tree(**files), ROOM) is None
    edited = files | {name: files[name].replace("int", "long") for name in ("f1", "f2", "f3")}
    before = one.current(tree(**edited), ROOM)
    assert before.due
    following = one.prepared(tree(**edited), ROOM)
    assert following is not None
    assert following.tokens < before.tokens
    assert one.current(tree(**edited), ROOM).text == before.text
    more = edited | {"f5": files["f5"].replace("f5x50;", "fifty;")}
    grown, next_grown = one.current(tree(**more), ROOM), one.prepared(tree(**more), ROOM)
    assert grown.text.startswith(before.text)
    assert next_grown is not None
    assert next_grown.text.startswith(following.text)
    loader(tmp_path).adopt()  # by another process
    assert one.current(tree(**more), ROOM).text == next_grown.text
    assert one.prepared(tree(**more), ROOM) is None


def test_only_so_many_layouts_are_kept(tmp_path: Path) -> None:
    for number in range(store.MOST_KEPT + 2):
        loader_of(tmp_path, f"model {number}", nullcontext).current(tree(**FILES), ROOM)
    assert len(list(tmp_path.iterdir())) == store.MOST_KEPT


def test_a_smaller_room_compacts_or_lays_out_anew(tmp_path: Path) -> None:
    loader(tmp_path).current(tree(**FILES), ROOM)
    small = loader(tmp_path).current(tree(**FILES), Room(900, count))
    assert small.tokens <= 900
    assert small.left_out == ("b",)


# Tier "full"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    index_of(write_tree(folder / "tree", LIBRARY), folder / "data")
    return folder


def made(
    folder: Path, backend: Callable[[], Backend], snapshots: Callable[[], Snapshots | None] = lambda: None
) -> Service:
    data = DataFolder(folder / "data")
    return Service(
        Index.for_reading(data, "w"),
        list,
        backend,
        AskOptions(),
        lambda: 0.0,
        cache(lambda model: loader_of(folder / "loads", model, data.owned)),
        snapshots,
    )


def ask(folder: Path, backend: Backend, question: str = QUESTION) -> tuple[Answer, list[Event]]:
    events: list[Event] = []
    service = made(folder, lambda: backend)
    try:
        answer = service.ask(question, Tier.FULL, events.append)
    finally:
        service.close()
    assert "".join(event.text for event in events if isinstance(event, Piece)) == answer.text
    return answer, events


def load_of(folder: Path) -> FullLoad:
    service = made(folder, lambda: ScriptedBackend(info=READER))
    try:
        return service.full_load()
    finally:
        service.close()


def test_every_file_stands_in_the_prompt_before_the_evidence_and_the_question_last(folder: Path) -> None:
    backend = ScriptedBackend(*spoken("The oldest goes [1]."), info=READER)
    answer, _ = ask(folder, backend)
    (prompt,) = backend.prompts
    assert prompt.system == SYSTEM
    assert prompt.user.startswith(load_of(folder).text)
    for path, text in LIBRARY.items():
        assert f"File {path}:\n" in prompt.user
        assert str(text).split("\n")[2] in prompt.user
    assert prompt.user.index("\n[1] ") > prompt.user.index("File tests/cache_test.cc:")
    assert prompt.user.endswith(f"Question: {QUESTION}\nAnswer with citations:")
    assert prompt.tokens <= READER.context_window
    assert (answer.tier, answer.text) == (Tier.FULL, "The oldest goes [1].")


def test_all_questions_share_the_beginning_of_their_prompt(folder: Path) -> None:
    backend = ScriptedBackend(*spoken("So it is [1]."), info=READER)
    for question in (QUESTION, "What counts?", "x" * 5_000):
        ask(folder, backend, question)
    shared = load_of(folder).text
    assert all(prompt.user.startswith(shared) for prompt in backend.prompts)


def test_the_evidence_has_no_line_numbers_that_could_be_taken_for_those_of_the_files(folder: Path) -> None:
    backend = ScriptedBackend(*spoken("So it is [1]."), info=READER)
    ask(folder, backend)
    evidence = backend.prompts[0].user.partition("Evidence:\n")[2]
    assert "[1] src/cache.cc app::Cache::EvictOldest\n" in evidence


def test_a_citation_by_path_and_line_gets_a_label_and_leads_to_the_lines(folder: Path) -> None:
    text = "The entry goes first [src/cache.cc:17-18]. It counts in src/counter.cc:7. So [1]."
    answer, _ = ask(folder, ScriptedBackend(*spoken(text), info=READER))
    spans = {citation.label: citation.span for citation in answer.citations}
    place, other = (
        label for label, span in spans.items() if span in (Span("src/cache.cc", 17, 18), Span("src/counter.cc", 7, 7))
    )
    assert answer.text == f"The entry goes first [{place}]. It counts in src/counter.cc:7 [{other}]. So [1]."
    assert answer.notes == ()


@pytest.mark.parametrize("cited", ["src/cache.cc:9999", "src/nowhere.cc:3", "src/cache.cc:20-4", "cache.cc:0"])
def test_a_citation_of_lines_that_were_not_sent_is_removed_and_noted(folder: Path, cited: str) -> None:
    answer, _ = ask(folder, ScriptedBackend(*spoken(f"So it is [1]. And so on [{cited}]."), info=READER))
    assert answer.text == "So it is [1]. And so on."
    assert answer.notes == (f"Removed citations that were not in the prompt: [{cited}].",)


def test_a_citation_by_path_alone_grounds_an_answer(folder: Path) -> None:
    answer, _ = ask(folder, ScriptedBackend(*spoken("It counts [counter.cc:7]."), info=READER))
    assert [citation.span for citation in answer.citations] == [Span("src/counter.cc", 7, 7)]
    assert "The evidence itself" not in answer.text


def test_an_answer_to_what_search_does_not_find_may_come_from_the_files(folder: Path) -> None:
    backend = ScriptedBackend(*spoken("It is so [src/counter.cc:7]."), info=READER)
    answer, _ = ask(folder, backend, "zyzzyva quux?")
    assert answer.tier is Tier.FULL
    assert [citation.span.path for citation in answer.citations] == ["src/counter.cc"]


def test_a_model_that_says_nothing_where_search_finds_nothing_declines(folder: Path) -> None:
    answer, _ = ask(folder, ScriptedBackend(BrokenStream("It broke.", ""), info=READER), "zyzzyva quux?")
    assert answer.declined
    assert "It broke." in answer.notes


def test_a_stream_that_breaks_leaves_the_evidence(folder: Path) -> None:
    answer, _ = ask(folder, ScriptedBackend(BrokenStream("It broke.", "Look."), info=READER))
    assert answer.text.startswith("The entry that was read longest ago") or "void Cache::EvictOldest() {" in answer.text
    assert "It broke. Look." in answer.notes


def test_reading_is_told_as_it_goes_on_where_the_backend_can(folder: Path) -> None:
    class Telling(ScriptedBackend):
        def capabilities(self) -> Capabilities:
            return Capabilities(progress=True)

    backend = Telling(
        Prefill(10, 100, 5), Prefill(100, 100, 5), *spoken("So it is [1].", Usage(100, 4, 5)), info=READER
    )
    answer, events = ask(folder, backend)
    assert [event for event in events if isinstance(event, Prefill)] == [Prefill(10, 100, 5), Prefill(100, 100, 5)]
    assert backend.options[0].progress
    assert answer.usage == Usage(100, 4, 5)
    stopped, _ = ask(folder, Telling(Prefill(100, 100, 5), *spoken("It calls `Vanish` [1]. And more."), info=READER))
    assert stopped.usage == Usage(100, 0, 5)
    plain = ScriptedBackend(*spoken("So it is [1]."), info=READER)
    ask(folder, plain)
    assert not plain.options[0].progress


@pytest.mark.parametrize(
    ("info", "error", "sentence"),
    [
        (replace(READER, context_window=LEAST_WINDOW - 1), PromptTooLong, f"at least {LEAST_WINDOW} tokens"),
        (replace(READER, evidence_first=True), UnsupportedRequest, "reader is too small"),
        (EvidenceOnlyBackend().info(), BackendUnavailable, "no language model"),
    ],
)
def test_a_model_that_cannot_read_a_code_base_is_refused_with_a_way_out(
    folder: Path, info: BackendInfo, error: type[Exception], sentence: str
) -> None:
    backend = ScriptedBackend(info=info)
    with pytest.raises(error, match=sentence) as refusal:
        ask(folder, backend)
    assert "--tier" in getattr(refusal.value, "hint", "")
    assert not backend.prompts


def test_a_file_that_does_not_fit_is_named_in_a_note(tmp_path: Path) -> None:
    big = {"src/big.cc": "".join(f"int big{number} = {number};\n" for number in range(3_000))}
    index_of(write_tree(tmp_path / "tree", {**LIBRARY, **big}), tmp_path / "data")
    info = replace(READER, context_window=LEAST_WINDOW)
    answer, _ = ask(tmp_path, ScriptedBackend(*spoken("So it is [1]."), info=info))
    assert "The window has no room for 1 of the files, such as src/big.cc." in answer.notes
    assert answer.tier is Tier.FULL


def test_an_edit_adds_to_the_prefix_and_citations_lead_to_where_lines_stand_now(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", LIBRARY)
    index_of(root, tmp_path / "data")
    before = load_of(tmp_path)
    text = str(LIBRARY["src/cache.cc"]).replace('#include "log.h"\n', '#include "log.h"\n\n// Caches.\n', 1)
    write_tree(root, {"src/cache.cc": text})
    index_of(root, tmp_path / "data")
    after = load_of(tmp_path)
    assert after.text.startswith(before.text)
    assert after.place("src/cache.cc", 20, 20) == Span("src/cache.cc", 22, 22)
    assert after.place("src/cache.cc", 2, 2) is None
    answer, _ = ask(tmp_path, ScriptedBackend(*spoken("So it is [src/cache.cc:20]."), info=READER))
    assert [citation.span for citation in answer.citations] == [Span("src/cache.cc", 22, 22)]


def test_what_is_to_be_read_before_a_question_is_how_its_prompt_begins(folder: Path) -> None:
    backend = ScriptedBackend(*spoken("So it is [1]."), info=READER)
    service = made(folder, lambda: backend)
    assert service.warm().how is How.READ
    service.ask(QUESTION, Tier.FULL)
    service.close()
    prefix, prompt = backend.prompts
    assert backend.options[0].max_tokens == 1
    assert prompt.system == prefix.system
    assert prompt.user.startswith(prefix.user)
    assert prefix.tokens < prompt.tokens


def test_what_is_due_is_read_beside_what_is_asked_with_and_then_taken(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", LIBRARY)
    index_of(root, tmp_path / "data")
    grown = load_of(tmp_path)
    lines = [f"int value_{number}() {{ return 0; }}\n" for number in range(60)]
    for edit in range(60):
        lines[edit] = lines[edit].replace("0;", "1;")
        write_tree(root, {"src/cache.cc": "".join(lines)})
        index_of(root, tmp_path / "data")
        grown = load_of(tmp_path)
        if grown.due:
            break
    assert grown.due
    backend = ScriptedBackend(*spoken("x"), info=READER)
    service = made(tmp_path, lambda: backend)
    service.warm()
    service.close()
    after = load_of(tmp_path)
    assert backend.prompts[0].user == after.text
    assert after.tokens < grown.tokens
    assert not after.due


def test_a_saved_state_is_taken_back_once_for_several_questions(tmp_path: Path, folder: Path) -> None:
    class Keeping(ScriptedBackend):
        def __init__(self, *script: Streamed, info: BackendInfo) -> None:
            super().__init__(*script, info=info)
            self.files: list[str] = []

        def capabilities(self) -> Capabilities:
            return Capabilities(prefix_files=True)

        def identity(self) -> str:
            return "scripted"

        def save_prefix(self, name: str) -> PrefixState:
            (tmp_path / "states" / name).write_text(self.prompts[-1].user)
            self.files.append("saved")
            return PrefixState(10, 0, 0.0)

        def restore_prefix(self, _name: str) -> PrefixState:
            self.files.append("restored")
            return PrefixState(10, 0, 0.0)

        def erase_prefix(self) -> None: ...

    snapshots = Snapshots(tmp_path / "states")

    def asked(*tiers: Tier) -> list[str]:
        backend = Keeping(*spoken("So it is [1]."), info=READER)
        service = made(folder, lambda: backend, lambda: snapshots)
        for tier in tiers:
            service.ask(QUESTION, tier)
        service.close()
        return backend.files

    assert asked(Tier.FULL) == ["saved"]
    assert asked(Tier.FULL, Tier.FULL) == ["restored"]
    assert asked(Tier.FULL, Tier.RAG, Tier.FULL) == ["restored", "restored"]  # the other prompt took its place
    assert asked(Tier.RAG) == []
    (kept,) = snapshots.kept()
    assert kept.label == "w"


def test_another_model_may_read_the_whole_code_base(folder: Path) -> None:
    daily = ScriptedBackend(*spoken("So it is [1]."), info=BackendInfo("scripted", "daily", 8_192, 4_096))
    deep = ScriptedBackend(*spoken("So it is [1]."), info=replace(READER, model="deep"))
    data = DataFolder(folder / "data")
    service = Service(
        Index.for_reading(data, "w"),
        list,
        lambda: daily,
        AskOptions(),
        lambda: 0.0,
        cache(lambda model: loader_of(folder / "loads", model, data.owned)),
        deep=lambda: deep,
    )
    assert service.ask(QUESTION, Tier.FULL).model == "deep"
    assert service.ask(QUESTION, Tier.RAG).model == "daily"
    service.close()
    assert (len(daily.prompts), len(deep.prompts)) == (1, 1)
    assert daily.closed
    assert deep.closed


def test_a_model_that_has_to_be_loaded_again_is_said(folder: Path) -> None:
    class Reloading(ScriptedBackend):
        def reload_ahead(self) -> str:
            return "It is loaded again."

    answer, _ = ask(folder, Reloading(*spoken("So it is [1]."), info=READER))
    assert "It is loaded again." in answer.notes


def test_a_path_can_be_kept_out_of_every_prompt(folder: Path) -> None:
    with Index.for_reading(DataFolder(folder / "data"), "w") as index:
        found = tree_of(index, lambda path: not path.endswith(".md"))
        assert "src/cache.cc" in found.sources
        assert "README.md" not in found.sources
        assert dict(found.texts)["src/cache.cc"] == str(LIBRARY["src/cache.cc"])
        ranking = found.ranking()
        assert sorted(ranking.worth) == list(ranking.order) == sorted(found.sources)
        with pytest.raises(KeyError):
            found.texts["README.md"]


def test_the_command_says_why_it_cannot_show_the_code_base_and_what_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--data", str(folder / "data"), "--workspace", "w", "--backend", "none"]
    assert main(["ask", "--tier", "full", QUESTION, *where]) == 2
    assert capsys.readouterr().err.startswith("codehub: There is no language model to read the whole code base.\n")
    assert main(["ask", "--tier", "full", QUESTION, *where, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["hint"].startswith("Leave --tier away")


# With a real engine


def test_an_engine_reads_only_what_is_new_after_a_question_and_after_an_edit() -> None:
    backend = EmbeddedBackend(thin_model_path())
    room = Room(2_000, backend.count_tokens)
    options = GenerationOptions(max_tokens=1)
    log = laid_out({"a": TWELVE * 2}, Ranking(["a"], ["a"]), room)
    after = updated(log, {"a": TWELVE.replace("int line6;", "int six;") + TWELVE}, room)
    assert after is not None
    cached = []
    try:
        for told, question in ((log, "What is line1?"), (log, "Is there a six?"), (after, "Is there a six?")):
            foundation = Foundation(SYSTEM, told.text, backend.count_tokens(SYSTEM) + told.tokens)
            prompt = pack(question, (), 8_000, backend.count_tokens, foundation)
            (end,) = [item for item in backend.stream(prompt, options) if isinstance(item, Completion)]
            cached.append(end.usage.cached or 0)
    finally:
        backend.close()
    assert cached[0] == 0
    assert min(cached[1:]) >= 0.98 * log.tokens
