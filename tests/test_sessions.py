"""Notes of one task: seen under their handle by their key until their end, and by nobody else at any time."""

import json
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from hub.auth.model import Principal, Scope
from hub.errors import KnowledgeError, UnknownSession
from hub.knowledge import Anchor, Note, NoteKind, Session, Sessions, sessions
from hub.knowledge.sessions import FILE
from hub.knowledge.words import MOST_ANCHORS, MOST_TEXT_BYTES
from tests.support.desks import holder

ANN = holder("annskey000", Scope.READ, Scope.KNOWLEDGE)
BEN = holder("benskey000", Scope.READ, Scope.KNOWLEDGE)
ELSEWHERE = holder("annskey000", Scope.READ, workspace="other")
HOUR_S = 3_600.0
SECRET = "ghp_" + "a1B2" * 9


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(tmp_path: Path, clock: Clock) -> Iterator[Sessions]:
    with closing(Sessions(tmp_path / FILE, clock, 24 * HOUR_S)) as opened:
        yield opened


def note(kept: Sessions, handle: str, text: str, *anchors: Anchor, title: str = "", who: Principal = ANN) -> Note:
    return kept.note(who, handle, NoteKind.NOTE, title, text, anchors, "me")


def texts(notes: tuple[Note, ...]) -> list[str]:
    return [each.text for each in notes]


def test_a_note_is_found_by_its_words_by_names_and_by_the_parts_of_names(kept: Sessions) -> None:
    handle = kept.open(ANN, "w").handle
    note(kept, handle, "The flusher waits for MakeRoomForWrite.")
    note(kept, handle, "Timeouts are in milliseconds.")
    assert texts(kept.notes(ANN, handle, "makeroomforwrite")) == ["The flusher waits for MakeRoomForWrite."]
    assert texts(kept.notes(ANN, handle, "room")) == ["The flusher waits for MakeRoomForWrite."]
    assert texts(kept.notes(ANN, handle, "which timeout?")) == ["Timeouts are in milliseconds."]
    assert kept.notes(ANN, handle, "compaction") == ()
    assert kept.notes(ANN, handle, "'; DROP TABLE notes; -- %_*\"") == ()
    assert len(kept.notes(ANN, handle)) == 2


def test_rare_words_lead_and_of_equals_the_newest(kept: Sessions) -> None:
    handle = kept.open(ANN, "w").handle
    for number in range(4):
        note(kept, handle, f"the cache, entry {number}")
    note(kept, handle, "the log of it")
    found = texts(kept.notes(ANN, handle, "cache log", limit=3))
    assert found == ["the log of it", "the cache, entry 3", "the cache, entry 2"]


def test_notes_near_symbols_and_files_are_found_those_about_most_of_them_first(kept: Sessions) -> None:
    handle = kept.open(ANN, "w").handle
    note(kept, handle, "about the file", Anchor(path="db/impl.cc", line=3))
    note(kept, handle, "about both", Anchor("leveldb::DBImpl::Get", "db/impl.cc", 9))
    note(kept, handle, "about another Get", Anchor("Cache::Get"))
    note(kept, handle, "about nothing")
    assert texts(kept.near(ANN, handle, ["DBImpl::Get"], ["db/impl.cc"])) == ["about both", "about the file"]
    assert texts(kept.near(ANN, handle, ["Get"], [])) == ["about another Get", "about both"]
    assert kept.near(ANN, handle, ["et"], ["impl.cc"]) == ()


def test_the_same_note_again_is_one_note_and_the_newest(kept: Sessions) -> None:
    handle = kept.open(ANN, "w").handle
    note(kept, handle, "first")
    note(kept, handle, "second")
    note(kept, handle, "first")
    assert texts(kept.notes(ANN, handle)) == ["first", "second"]


def test_another_key_an_unknown_handle_and_one_that_has_ended_are_told_alike(kept: Sessions, clock: Clock) -> None:
    handle = kept.open(ANN, "w").handle
    ended = kept.open(ANN, "w").handle
    kept.end(ANN, ended)
    told = set()
    for who, tried in (
        (BEN, handle),
        (ANN, "s_" + "0" * 32),
        (ANN, ended),
        (ELSEWHERE, handle),
        (ANN, ""),
        (ANN, "x" * 999),
    ):
        with pytest.raises(UnknownSession) as caught:
            kept.get(who, tried)
        told.add((caught.value.message, caught.value.hint))
    clock.now += 24 * HOUR_S
    with pytest.raises(UnknownSession) as caught:
        kept.get(ANN, handle)
    told.add((caught.value.message, caught.value.hint))
    assert len(told) == 1
    assert "remember" in told.pop()[1], "it says how to get a new one"


def test_a_session_that_was_seen_to_end_stays_so_when_the_clock_goes_back(kept: Sessions, clock: Clock) -> None:
    handle = kept.open(ANN, "w").handle
    note(kept, handle, "kept")
    clock.now += 24 * HOUR_S
    other = kept.open(BEN, "w").handle
    clock.now -= 2 * HOUR_S
    with pytest.raises(UnknownSession):
        kept.notes(ANN, handle)
    clock.now += 2 * HOUR_S
    assert kept.get(BEN, other).workspace == "w"


def test_a_session_from_the_future_is_void_until_the_clock_is_right_again(kept: Sessions, clock: Clock) -> None:
    handle = kept.open(ANN, "w").handle
    clock.now -= 30.0
    assert kept.get(ANN, handle), "a little is forgiven"
    clock.now -= HOUR_S
    with pytest.raises(UnknownSession):
        kept.get(ANN, handle)
    clock.now += HOUR_S
    assert kept.get(ANN, handle)


def test_the_file_is_for_its_owner_alone_and_gives_no_handle_away(kept: Sessions, tmp_path: Path) -> None:
    handle = kept.open(ANN, "w").handle
    note(kept, handle, "something")
    assert len(handle) == len("s_") + 32, "128 bits"
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        assert handle.encode() not in file.read_bytes()
        assert handle.removeprefix("s_").encode() not in file.read_bytes()


def test_secrets_are_gone_before_anything_is_kept(kept: Sessions, tmp_path: Path) -> None:
    handle = kept.open(ANN, "w").handle
    made = kept.note(
        ANN, handle, NoteKind.NOTE, f"with {SECRET}", f"token {SECRET} here", [Anchor(SECRET, SECRET)], SECRET
    )
    assert "[redacted:github-token]" in made.text
    assert kept.notes(ANN, handle, SECRET.lower()) == ()
    assert SECRET not in repr(kept.notes(ANN, handle))
    for file in tmp_path.iterdir():
        assert SECRET.encode() not in file.read_bytes()
        assert SECRET.lower().encode() not in file.read_bytes(), "nor among the words"


def test_covert_characters_are_spelt_out_and_half_characters_do_no_harm(kept: Sessions) -> None:
    handle = kept.open(ANN, "w").handle
    made = note(kept, handle, "a\u202eb\ud800\0", title="c\u200bd\ne")
    assert made.text == "a\\u202eb\\ud800\\u0000"
    assert made.title == "c\\u200bd e"
    json.dumps(made.text).encode()


@pytest.mark.parametrize("text", ["", " \n\t", "x" * (MOST_TEXT_BYTES + 1), "ä" * MOST_TEXT_BYTES])
def test_a_note_of_nothing_or_of_too_much_is_refused(kept: Sessions, text: str) -> None:
    handle = kept.open(ANN, "w").handle
    with pytest.raises(KnowledgeError):
        note(kept, handle, text)
    assert kept.notes(ANN, handle) == ()


def test_too_many_anchors_are_refused(kept: Sessions) -> None:
    handle = kept.open(ANN, "w").handle
    with pytest.raises(KnowledgeError, match="anchors"):
        note(kept, handle, "x", *[Anchor(f"s{n}") for n in range(MOST_ANCHORS + 1)])


def test_a_full_session_lets_what_runs_told_go_first_and_then_takes_no_more(
    kept: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MOST_NOTES", 3)
    handle = kept.open(ANN, "w").handle
    note(kept, handle, "mine")
    for number in range(3):
        kept.note(ANN, handle, NoteKind.FINDING, "", f"finding {number}", (), "run of tests, r")
    assert texts(kept.notes(ANN, handle)) == ["finding 2", "finding 1", "mine"]
    note(kept, handle, "mine too")
    note(kept, handle, "mine as well")
    assert texts(kept.notes(ANN, handle)) == ["mine as well", "mine too", "mine"]
    with pytest.raises(KnowledgeError, match="3 notes already"):
        note(kept, handle, "one too many")


def test_the_oldest_session_of_a_key_goes_and_no_key_takes_those_of_others(
    kept: Sessions, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MOST_OF_KEY", 3)
    monkeypatch.setattr(sessions, "MOST_IN_ALL", 4)
    theirs = kept.open(BEN, "w").handle
    mine = []
    for _ in range(5):
        clock.now += 1
        mine.append(kept.open(ANN, "w").handle)
    alive = []
    for handle in mine:
        try:
            alive.append(kept.get(ANN, handle).handle)
        except UnknownSession:
            continue
    assert alive == mine[-3:]
    clock.now += 1
    kept.open(BEN, "w")
    assert kept.get(BEN, theirs), "the key that has most gives way"
    with pytest.raises(UnknownSession):
        kept.get(ANN, mine[2])


def test_what_a_later_run_may_have_mended_is_marked_and_nothing_else(kept: Sessions) -> None:
    handle = kept.open(ANN, "w").handle
    kept.note(ANN, handle, NoteKind.FINDING, "", "of tests", (), "run of tests, r1")
    kept.note(ANN, handle, NoteKind.FINDING, "", "of tests_all", (), "run of tests_all, r2")
    kept.note(ANN, handle, NoteKind.RUN, "", "the run", (), "run of tests, r1")
    other = kept.open(ANN, "w").handle
    kept.note(ANN, other, NoteKind.FINDING, "", "of another session", (), "run of tests, r1")
    assert kept.overtaken(ANN, handle, "run of tests, ", "r3 passed") == 1
    marked = {each.text: each.later for each in (*kept.notes(ANN, handle), *kept.notes(ANN, other))}
    assert marked == {"of tests": "r3 passed", "of tests_all": "", "the run": "", "of another session": ""}


def test_a_workspace_that_is_not_seen_has_no_sessions(kept: Sessions) -> None:
    with pytest.raises(UnknownSession):
        kept.open(ANN, "other")


def test_processes_share_the_file_and_each_note_is_kept_once(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom hub.auth.model import LOCAL\n"
        "from hub.knowledge import NoteKind, Sessions\n"
        "kept = Sessions(Path(sys.argv[1]))\n"
        "for n in range(10):\n"
        "    kept.note(LOCAL, sys.argv[2], NoteKind.NOTE, '', f'{sys.argv[3]} {n}')\n"
        "kept.close()\n"
    )
    path = tmp_path / FILE
    local = replace(holder("local", Scope.READ), key_id="local")
    with closing(Sessions(path)) as here:
        handle = here.open(local, "w").handle
        running = [
            subprocess.Popen([sys.executable, "-c", program, str(path), handle, name], cwd=Path(__file__).parent.parent)
            for name in ("one", "two")
        ]
        try:
            assert [process.wait(timeout=60) for process in running] == [0, 0]
        finally:
            for process in running:
                process.kill()
                process.wait(timeout=60)
        assert sorted(texts(here.notes(local, handle, limit=50))) == sorted(
            f"{name} {n}" for name in ("one", "two") for n in range(10)
        )


class Isolation(RuleBasedStateMachine):
    """Two processes' worth of Sessions on one file, three keys, handles that get about, and a clock that moves."""

    handles = Bundle("handles")

    @initialize()
    def begin(self) -> None:
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name) / FILE
        self.clock = Clock()
        self.open = [Sessions(self.path, self.clock, HOUR_S) for _ in range(2)]
        self.owners: dict[str, tuple[Principal, float]] = {}  # key's holder and the end, by handle
        self.gone: set[str] = set()
        self.said: dict[str, set[str]] = {}
        self.count = 0

    @rule(target=handles, who=some.sampled_from([ANN, BEN]), which=some.integers(0, 1))
    def opens(self, who: Principal, which: int) -> str:
        session: Session = self.open[which].open(who, "w")
        self._time_passed()
        self.owners[session.handle] = (who, session.until)
        self.said[session.handle] = set()
        return session.handle

    @rule(handle=handles, which=some.integers(0, 1))
    def writes(self, handle: str, which: int) -> None:
        self.count += 1
        text = f"words {self.count}"
        who, _ = self.owners[handle]
        if self._lives(handle):
            self.open[which].note(who, handle, NoteKind.NOTE, "", text, [Anchor("ns::f")])
            self.said[handle].add(text)
        else:
            with pytest.raises(UnknownSession):
                self.open[which].note(who, handle, NoteKind.NOTE, "", text)
        self._time_passed()

    @rule(handle=handles, which=some.integers(0, 1))
    def ends(self, handle: str, which: int) -> None:
        if self._lives(handle):
            self.open[which].end(self.owners[handle][0], handle)
            self.gone.add(handle)
            self._time_passed()

    @rule(seconds=some.sampled_from([1.0, 600.0, HOUR_S, -20.0, -HOUR_S / 2]))
    def the_clock_moves(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(handle=handles, which=some.integers(0, 1), who=some.sampled_from([ANN, BEN, ELSEWHERE]))
    def reads(self, handle: str, which: int, who: Principal) -> None:
        kept = self.open[which]
        mine = who is self.owners[handle][0] and self._lives(handle)
        reading: tuple[Callable[[], tuple[Note, ...]], ...] = (
            lambda: kept.notes(who, handle, limit=200),
            lambda: kept.notes(who, handle, "words", limit=200),
            lambda: kept.near(who, handle, ["f"], [], limit=200),
        )
        for read in reading:
            seen: set[str] | None
            try:
                seen = set(texts(read()))
            except UnknownSession:
                seen = None
            assert seen == (self.said[handle] if mine else None)
        self._time_passed()

    @invariant()
    def nothing_is_left_of_what_has_ended(self) -> None:
        if hasattr(self, "open") and self.gone:
            with closing(apsw.Connection(str(self.path))) as file:
                left = int(str(file.execute("SELECT count(*) FROM notes").fetchall()[0][0]))
            assert left <= sum(len(said) for handle, said in self.said.items() if handle not in self.gone)

    def teardown(self) -> None:
        if hasattr(self, "open"):
            for each in self.open:
                each.close()
            self.folder.cleanup()

    def _lives(self, handle: str) -> bool:
        _, until = self.owners[handle]
        began = until - HOUR_S
        return handle not in self.gone and began - sessions.CLOCK_SLACK_S <= self.clock.now < until

    def _time_passed(self) -> None:
        """Every call ends what is past its time, for good."""
        self.gone |= {handle for handle, (_, until) in self.owners.items() if until <= self.clock.now}


TestIsolation = Isolation.TestCase
TestIsolation.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sessions]:
    with closing(Sessions(tmp_path_factory.mktemp("lasting") / FILE)) as opened:
        yield opened


@settings(max_examples=30, deadline=None)
@given(kept_text=some.text(max_size=60), query=some.text(max_size=60))
def test_any_text_is_kept_and_searched_without_harm(lasting: Sessions, kept_text: str, query: str) -> None:
    handle = lasting.open(ANN, "w").handle
    try:
        made = note(lasting, handle, kept_text)
    except KnowledgeError:
        assert not kept_text.strip()
        return
    assert lasting.notes(ANN, handle) == (made,)
    assert set(lasting.notes(ANN, handle, query)) <= {made}
    assert lasting.notes(ANN, handle, made.text) in ((made,), ()), "() where it has no word"
