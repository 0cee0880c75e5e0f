"""Laws of full loads: for any sequence of edits, what a reader of the prompt believes is the tree as it is."""

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import PromptTooLong
from hub.fullload.differences import renamed, replaced, with_context
from hub.fullload.entries import MARKED_LINES, NAMED_ABSENT, Entry, Kind, rendered, sheet, shown
from hub.fullload.log import MOST_STALE_EVER, Log, Ranking, Room, laid_out, updated
from hub.fullload.store import DamagedError, Kept, Shelf
from hub.grounding import Verdict, checked
from indexer.model import Span
from tests.support.library import prompt_of

LINE = st.sampled_from(
    ["}", "int x = 0;", "", "  return x;", "// why", "10| odd", "<<<a1b2c3", "File a.cc is gone.", "\r"]
)
TEXT = st.builds(
    lambda lines, end: "\n".join(lines) + end,
    st.lists(st.one_of(LINE, st.integers(0, 40).map(lambda n: f"line {n};")), max_size=40),
    st.sampled_from(["", "\n"]),
).map(shown)
PATH = st.sampled_from(["a.cc", "b.h", "src/c.cc", "src/d.cc", "src/deep/e.cc", "f is gone.txt", "g:\n.md"])
TREE = st.dictionaries(PATH, TEXT, min_size=1, max_size=6)
# A change of a tree: new texts, files taken out, names swapped for others, a few lines put in somewhere.
EDIT = st.one_of(
    st.tuples(st.just("write"), PATH, TEXT),
    st.tuples(st.just("remove"), PATH, st.just("")),
    st.tuples(st.just("insert"), PATH, LINE),
    st.tuples(st.just("move"), PATH, PATH),
    st.tuples(st.just("compact"), PATH, st.just("")),
)
EDITS = st.lists(st.lists(EDIT, min_size=1, max_size=3), max_size=6)


def count(text: str) -> int:
    return len(text) // 3 + 1


AMPLE = Room(10**9, count)


def by_path(tree: Mapping[str, str]) -> Ranking:
    return Ranking(sorted(tree), sorted(tree))


def edited(tree: Mapping[str, str], edits: list[tuple[str, str, str]]) -> dict[str, str]:
    new = dict(tree)
    for kind, path, text in edits:
        if kind == "write":
            new[path] = text
        elif kind == "remove":
            new.pop(path, None)
        elif kind == "insert" and path in new:
            lines = new[path].split("\n")
            lines.insert(len(lines) // 2, text)
            new[path] = shown("\n".join(lines))
        elif kind == "move" and path in new and text not in new:
            new[text] = new.pop(path)
    return new


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str | None]:
    found: dict[str, str | None] = dict.fromkeys(old.keys() - new.keys())
    return found | {path: text for path, text in new.items() if old.get(path) != text}


class Reader:
    """What a careful reader takes the files to be, from the prompt's text alone, and what it says is not shown."""

    _NAME = r'("(?:[^"\\]|\\.)*"|[\w.+~@/-]+)'
    _OPEN = r"(, no line end at its end)?:"
    _HUNK = re.compile(rf"In place of ([0-9, -]+) stand lines (\d+)(?:-(\d+))?{_OPEN}")
    _ENTRY = re.compile(
        rf"File {_NAME}{_OPEN}|File {_NAME} (changed):|File {_NAME} is now called {_NAME}\.|File {_NAME} is gone\."
        r"|Not shown, for want of room \(\d+\): (.*)\."
    )

    def __init__(self, prompt: str) -> None:
        self._lines = prompt.split("\n")
        self._at = 0
        self._told: dict[str, dict[int, str]] = {}  # every line of a file by its number
        self._standing: dict[str, list[int]] = {}
        self.absent: list[str] = []
        while self._at < len(self._lines) - 1:
            entry = self._ENTRY.fullmatch(self._lines[self._at])
            assert entry, self._lines[self._at]
            self._at += 1
            whole, open_end, changed, _, before, after, gone, absent = entry.groups()
            if whole:
                lines = self._fenced(1, bool(open_end))
                self._told[plain(whole)] = dict(enumerate(lines, 1))
                self._standing[plain(whole)] = list(range(1, len(lines) + 1))
            elif changed:
                while hunk := self._HUNK.fullmatch(self._lines[self._at]):
                    self._replace(plain(changed), hunk)
            elif before:
                self._told[plain(after)] = self._told.pop(plain(before))
                self._standing[plain(after)] = self._standing.pop(plain(before))
            elif gone:
                self._standing.pop(plain(gone), None)
            else:
                self.absent.append(absent)

    @property
    def files(self) -> dict[str, str]:
        return {path: "".join(self._told[path][n] for n in standing) for path, standing in self._standing.items()}

    def _replace(self, path: str, hunk: re.Match[str]) -> None:
        self._at += 1
        gone: list[int] = []
        for part in hunk[1].split(", "):
            low, _, high = part.partition("-")
            gone += range(int(low), int(high or low) + 1)
        first, last = int(hunk[2]), int(hunk[3] or hunk[2])
        lines = self._fenced(first, bool(hunk[4]))
        assert last == first + len(lines) - 1
        assert first == max(self._told[path]) + 1
        standing = self._standing[path]
        place = standing.index(gone[0])
        assert standing[place : place + len(gone)] == gone
        standing[place : place + len(gone)] = range(first, last + 1)
        self._told[path] |= dict(enumerate(lines, first))

    def _fenced(self, first: int, open_end: bool) -> list[str]:
        fence = re.fullmatch(r"<<<([0-9a-f]{6})", self._lines[self._at])
        assert fence, self._lines[self._at]
        end = self._lines.index(f"{fence[1]}>>>", self._at)
        found = [f"{line}\n" for line in self._lines[self._at + 1 : end]]
        for number, line in enumerate(found, first):
            if number % MARKED_LINES == 0:
                assert line.startswith(f"{number}| ")
                found[number - first] = line.removeprefix(f"{number}| ")
        if open_end:
            found[-1] = found[-1].removesuffix("\n")
        self._at = end + 1
        return found


def plain(written: str) -> str:
    return str(json.loads(written)) if written.startswith('"') else written


def states(tree: dict[str, str], steps: list[list[tuple[str, str, str]]]) -> list[tuple[dict[str, str], Log]]:
    """The tree and its log after each step; a step that says so compacts first."""
    log = laid_out(tree, by_path(tree), AMPLE)
    found = [(tree, log)]
    for edits in steps:
        if any(kind == "compact" for kind, _, _ in edits):
            log = log.compacted(count, 10**9) or log
        new = edited(tree, edits)
        after = updated(log, changes(tree, new), AMPLE)
        assert after is not None
        tree, log = new, after
        found.append((tree, log))
    return found


@given(TREE, EDITS)
def test_a_reader_of_the_prompt_believes_the_tree_as_it_is(
    tree: dict[str, str], steps: list[list[tuple[str, str, str]]]
) -> None:
    for now, log in states(tree, steps):
        reader = Reader(log.text)
        assert reader.files == now == {path: here.text for path, here in log.sheets.items()}
        assert not reader.absent


@given(TREE, EDITS)
def test_the_prompt_only_grows_at_its_end_until_it_is_compacted(
    tree: dict[str, str], steps: list[list[tuple[str, str, str]]]
) -> None:
    tree = {**tree, "filler.h": "".join(f"int filler{number};\n" for number in range(2_000))}
    log = laid_out(tree, by_path(tree), AMPLE)
    for edits in steps:
        new = edited(tree, edits)
        appended = log.copy()
        appended.tell(changes(tree, new), count)
        after = updated(log, changes(tree, new), AMPLE)
        assert after is not None
        assert appended.text.startswith(log.text)
        if appended.stale <= MOST_STALE_EVER * (appended.tokens - appended.stale):
            assert after.text == appended.text
        else:
            assert after.tokens < appended.tokens
        tree, log = new, after


@given(TREE, EDITS)
def test_equal_states_come_to_equal_bytes(tree: dict[str, str], steps: list[list[tuple[str, str, str]]]) -> None:
    one, other = states(tree, steps)[-1][1], states(dict(reversed(tree.items())), steps)[-1][1]
    assert one.text == other.text
    same = updated(one, {}, AMPLE)
    assert same is not None
    assert same.stale <= one.stale
    assert same.text == one.text or same.tokens < one.tokens


@given(TREE, EDITS)
def test_a_line_keeps_its_number_and_its_number_leads_to_where_it_stands(
    tree: dict[str, str], steps: list[list[tuple[str, str, str]]]
) -> None:
    for now, log in states(tree, steps):
        for path, here in log.sheets.items():
            standing = here.standing()
            places = {number: here.today(number) for number in range(len(here.lines) + 2)}
            assert sorted(place for place in places.values() if place) == list(range(1, len(standing) + 1))
            assert all(standing[place - 1] == here.lines[number - 1] for number, place in places.items() if place)
            assert "".join(standing) == now[path]


@given(TREE, EDITS, st.integers(100, 900))
def test_no_load_is_beyond_its_room_and_no_file_is_left_out_unnamed(
    tree: dict[str, str], steps: list[list[tuple[str, str, str]]], tokens: int
) -> None:
    room = Room(tokens, count)
    log: Log | None = None
    old: dict[str, str] = {}
    for edits in [[], *steps]:
        tree = edited(tree, edits)
        try:
            after = updated(log, changes(old, tree), room) if log else None
            log = after or laid_out(tree, by_path(tree), room)
        except PromptTooLong:
            log = None
        old = tree
        if log is None:
            continue
        reader = Reader(log.text)
        assert sum(map(count, map(rendered, log.entries))) == log.tokens <= tokens
        assert reader.files == {path: tree[path] for path in log.sheets}
        assert log.sheets.keys() | log.absent == tree.keys()
        assert not log.sheets.keys() & log.absent
        named = {name for line in reader.absent for name in names(line)}
        assert log.absent <= named


def names(listed: str) -> list[str]:
    return [plain(name) for name in re.findall(r'"(?:[^"\\]|\\.)*"|[^, ]+', listed)]


@given(st.sets(st.from_regex(r"[a-c]{1,2}(/[a-c]{1,2}){0,3}\.cc", fullmatch=True), min_size=1, max_size=200))
def test_what_is_not_shown_is_named_or_counted_in_its_folder(paths: set[str]) -> None:
    text = rendered(Entry(Kind.ABSENT, paths=tuple(paths)))
    assert text.startswith(f"Not shown, for want of room ({len(paths)}): ")
    listed = text.partition(": ")[2].removesuffix(".\n").split(", ")
    if len(paths) <= NAMED_ABSENT:
        assert set(listed) == paths
        return
    folders = {name.partition(" (")[0]: int(name.partition(" (")[2].removesuffix(")")) for name in listed}
    assert sum(folders.values()) == len(paths)
    assert all(any(path.startswith(folder) or folder == "./" for folder in folders) for path in paths)
    assert len(listed) <= NAMED_ABSENT


LINES = st.lists(st.sampled_from(["a", "b", "c", "}", "", "x", "y", "z"]), max_size=40)


@given(LINES, LINES, st.integers(0, 4))
def test_replacing_what_was_found_makes_the_new_lines_of_the_old_ones(
    old: list[str], new: list[str], context: int
) -> None:
    for parts in (replaced(old, new), with_context(replaced(old, new), context, len(old))):
        made = list(old)
        for part in reversed(parts):
            made[part.first : part.end] = new[part.new_first : part.new_end]
        assert made == new
        assert all(one.end < other.first for one, other in pairwise(parts))
    assert not replaced(old, old)


@given(st.dictionaries(PATH, LINES), st.dictionaries(PATH.map(lambda path: f"new/{path}"), LINES))
def test_each_file_is_the_new_name_of_one_other_at_most(gone: dict[str, list[str]], come: dict[str, list[str]]) -> None:
    found = renamed(gone, come)
    assert len(set(found.values())) == len(found)
    assert found.keys() <= come.keys()
    for new, old in found.items():
        assert gone[old]
        assert come[new]


@given(TREE, EDITS)
def test_what_is_kept_is_read_back_as_it_was(tree: dict[str, str], steps: list[list[tuple[str, str, str]]]) -> None:
    with TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder) / "shelf")
        assert shelf.read() == (None, None)
        kept: Kept | None = None
        for _, log in states(tree, steps):
            same = kept is not None and log.entries[: kept.records] == kept.log.entries[: kept.records]
            fresh = Kept(log, {"a.cc": "digest"})
            if kept is not None and same:
                fresh = Kept(log, fresh.sources, kept.name, kept.records, kept.size, kept.chain)
            kept, _ = shelf.write(fresh, None)
            found, following = shelf.read()
            assert following is None
            assert found is not None
            assert (found.log.entries, found.log.costs, found.log.text) == (log.entries, log.costs, log.text)
            assert found.log.sheets == log.sheets
            assert found.log.absent == log.absent
            assert found.sources == {"a.cc": "digest"}


@given(TREE, TREE, st.data())
def test_a_crash_between_any_two_bytes_leaves_the_state_before_or_a_damage_that_is_noticed(
    tree: dict[str, str], other: dict[str, str], data: st.DataObject
) -> None:
    with TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder))
        log = laid_out(tree, by_path(tree), AMPLE)
        kept, _ = shelf.write(Kept(log, {}), None)
        manifest = (Path(folder) / "full-load.json").read_bytes()
        after = updated(log, changes(tree, other), AMPLE)
        assert after is not None
        same = after.entries[: kept.records] == log.entries
        fresh = Kept(after, {}, kept.name, kept.records, kept.size, kept.chain) if same else Kept(after, {})
        shelf.write(fresh, None)
        if not (Path(folder) / kept.name).exists():
            return  # it was compacted: the file before is gone, and only after the manifest was replaced
        # The entries were written, wholly or in part, and the manifest was not replaced.
        file = Path(folder) / kept.name
        whole = file.read_bytes()
        file.write_bytes(whole[: data.draw(st.integers(kept.size, len(whole)))])
        (Path(folder) / "full-load.json").write_bytes(manifest)
        found, _ = shelf.read()
        assert found is not None
        assert found.log.text == log.text
        again, _ = shelf.write(Kept(after, {}, found.name, found.records, found.size, found.chain), None)
        assert again.log.text == after.text
        assert file.read_bytes() == whole or not same


@given(TREE, st.data())
def test_a_changed_byte_is_noticed(tree: dict[str, str], data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder))
        kept, _ = shelf.write(Kept(laid_out(tree, by_path(tree), AMPLE), {}), None)
        file = Path(folder) / kept.name
        damaged = bytearray(file.read_bytes())
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] ^= data.draw(st.integers(1, 255))
        file.write_bytes(damaged)
        with pytest.raises(DamagedError):
            shelf.read()


@given(TEXT, st.integers(1, 60))
def test_a_file_told_whole_is_numbered_from_one(text: str, number: int) -> None:
    here = sheet(text)
    assert here.text == text
    assert here.today(number) == (number if number <= len(here.lines) else None)


SAID = st.lists(
    st.sampled_from(
        [
            "It is so",
            " [1]",
            " [7]",
            " [a.cc:3]",
            " [a.cc:3-4, b.h:9]",
            " [nowhere.cc:1]",
            " a.cc:2",
            " `b.h:90`",
            ".",
            ". ",
            " [src/deep/e.cc:1-2; x.h:3]",
            " see b.h:3-1",
            "\n",
            " and",
            " [a.cc:",
            "]",
            " [[a.cc:3]]",
            " 12:30",
            " x.y:4",
        ]
    ),
    max_size=14,
)


@given(SAID, st.integers(1, 9))
def test_a_place_that_is_shown_has_a_label_and_was_sent_whatever_the_pieces(parts: list[str], size: int) -> None:
    known = {"a.cc": 5, "b.h": 9, "src/deep/e.cc": 3}

    def place(path: str, first: int, last: int) -> Span | None:
        return Span(path, first + 100, last + 100) if 1 <= first <= last <= known.get(path, 0) else None

    text = "".join(parts)
    outcomes = []
    for pieces in ([text], [text[start : start + size] for start in range(0, len(text), size)]):
        verdict = Verdict()
        shown_text = "".join(checked(pieces, prompt_of("int x;"), "why?", lambda _name: True, verdict, place))
        outcomes.append((shown_text, verdict.places, verdict.unknown_labels, verdict.used))
        labels = {int(label) for listed in re.findall(r"\[([0-9, ]+)\]", shown_text) for label in listed.split(",")}
        assert labels <= {1} | set(verdict.places.values())
        assert set(verdict.places.values()) == set(range(2, 2 + len(verdict.places)))
        assert all(span.first_line > 100 and span.last_line - 100 <= known[span.path] for span in verdict.places)
        assert not re.search(r"(?:a\.cc|b\.h|e\.cc|nowhere\.cc|x\.h):\d{1,2}\b", shown_text)
    assert outcomes[0] == outcomes[1]
