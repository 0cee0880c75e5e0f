"""What is kept for good: in force once somebody else accepted it, in its own workspace alone, and never lost."""

import json
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hub.auth.audit import AuditLog
from hub.auth.model import Grant, Principal, Scope
from hub.errors import Forbidden, KnowledgeError, UnknownEntry
from hub.knowledge import Anchor, Anchored, Draft, Entry, EntryKind, Lasting, Review, State, lasting
from hub.knowledge.lasting import AT_THE_TERMINAL, EVERY, FILE, MOST_EVIDENCE
from hub.knowledge.words import MOST_ANCHORS, MOST_TEXT_BYTES, asked
from indexer.errors import DataFolderError
from tests.support.desks import holder

ANN = holder("annskey000", Scope.READ, Scope.KNOWLEDGE, Scope.APPROVE)
WRITER = holder("writerkey0", Scope.READ, Scope.KNOWLEDGE)
BEN = holder("benskey000", Scope.READ, Scope.KNOWLEDGE, Scope.APPROVE)
ADA = holder("adaskey000", Scope.APPROVE)
CLERK = holder("clerkskey0", Scope.READ, Scope.KNOWLEDGE, Scope.ADMIN, Scope.WRITE, Scope.EXECUTE, Scope.INGEST)
READER = holder("readskey00", Scope.READ)
STRANGER = holder("stranger00", *Scope, workspace="other")
AGAIN = Principal("annsother0", ANN.owner, ANN.grants)  # the same person's second key
TERMINAL = Principal(AT_THE_TERMINAL, "ann", (Grant("*", frozenset(Scope)),))
SECRET = "ghp_" + "a1B2" * 9
DAY_S = 86_400.0


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path / "audit.jsonl")


@pytest.fixture
def kept(tmp_path: Path, log: AuditLog, clock: Clock) -> Iterator[Lasting]:
    with closing(Lasting(tmp_path / FILE, log, clock=clock)) as opened:
        yield opened


def draft(text: str, *symbols: str, kind: EntryKind = EntryKind.GOTCHA, **more: object) -> Draft:
    anchors = tuple(Anchored(Anchor(symbol), "d") for symbol in symbols)
    return Draft(kind, "", text, anchors, **more)  # type: ignore[arg-type] # fields of Draft as they are


def add(kept: Lasting, *drafts: Draft, who: Principal = ANN) -> tuple[Entry, ...]:
    return kept.add(who, "w", drafts)


def held(kept: Lasting, *drafts: Draft) -> tuple[Entry, ...]:
    """Added by Ann and accepted by Ben."""
    return tuple(kept.accept(BEN, "w", entry.id) for entry in add(kept, *drafts))


def texts(entries: tuple[Entry, ...]) -> list[str]:
    return [entry.text for entry in entries]


# What holds


def test_what_is_proposed_holds_once_somebody_else_has_accepted_it(kept: Lasting) -> None:
    (entry,) = add(kept, draft("Counters wrap around.", evidence=("src/a.cc:3", "run r1"), commit="c" * 40))
    assert (entry.id, entry.state, entry.author, entry.key) == (1, State.PROPOSED, ANN.owner, "annskey000")
    assert (entry.evidence, entry.commit) == (("src/a.cc:3", "run r1"), "c" * 40)
    assert kept.search(READER, "w") == kept.search(READER, "w", "counters") == ()
    for self in (ANN, AGAIN):
        with pytest.raises(Forbidden, match="not accept it himself"):
            kept.accept(self, "w", 1)
    for other in (READER, holder("executor00", Scope.READ, Scope.EXECUTE)):
        with pytest.raises(Forbidden):
            kept.accept(other, "w", 1)
    assert kept.get(READER, "w", 1).state is State.PROPOSED
    accepted = kept.accept(BEN, "w", 1)
    assert (accepted.state, accepted.reviewer) == (State.ACCEPTED, BEN.owner)
    assert kept.search(READER, "w", "counter wraps") == (accepted,)
    with pytest.raises(KnowledgeError, match="nothing to review"):
        kept.accept(ADA, "w", 1)


def test_a_reviewer_need_not_write_and_whoever_sits_at_the_terminal_accepts_his_own(kept: Lasting) -> None:
    add(kept, draft("one"))
    assert kept.accept(ADA, "w", 1).state is State.ACCEPTED
    add(kept, draft("two"), who=TERMINAL)
    assert kept.accept(TERMINAL, "w", 2).state is State.ACCEPTED
    with pytest.raises(Forbidden, match="knowledge grant"):
        kept.add(ADA, "w", [draft("three")])  # who may review need not write


def test_writing_and_administering_let_nobody_say_what_holds(kept: Lasting) -> None:
    (entry,) = add(kept, draft("one"))
    (other,) = add(kept, draft("two"), who=WRITER)
    kept.accept(BEN, "w", other.id)
    for attempt in (
        lambda: kept.accept(CLERK, "w", entry.id),
        lambda: kept.reject(CLERK, "w", entry.id, ""),
        lambda: kept.retire(CLERK, "w", other.id, ""),
        lambda: kept.retire(WRITER, "w", other.id, "its author, but it was accepted"),
        lambda: kept.reaffirm(CLERK, "w", other.id, []),
        lambda: kept.rollback(CLERK, "w", entry.batch),
        lambda: kept.rollback(WRITER, "w", other.batch),
    ):
        with pytest.raises(Forbidden, match="approve grant"):
            attempt()
    assert [kept.get(ANN, "w", each).state for each in (entry.id, other.id)] == [State.PROPOSED, State.ACCEPTED]


def test_what_nobody_has_accepted_yet_its_author_takes_back(kept: Lasting) -> None:
    one, two, three = (add(kept, draft(text), who=WRITER)[0] for text in ("one", "two", "three"))
    kept.reject(WRITER, "w", one.id, "")
    kept.retire(WRITER, "w", two.id, "")
    kept.rollback(WRITER, "w", three.batch)
    assert {entry.state for entry in kept.search(ANN, "w", states=EVERY)} == {State.RETIRED}


def test_where_nobody_has_to_review_it_holds_at_once(tmp_path: Path, log: AuditLog) -> None:
    with closing(Lasting(tmp_path / "other.db", log, Review.NONE)) as kept:
        (entry,) = add(kept, draft("one"))
        assert (entry.state, entry.reviewer) == (State.ACCEPTED, "")
        (newer,) = add(kept, draft("two", supersedes=(1,)))
        assert kept.get(READER, "w", 1).superseded_by == (newer.id,)


def test_what_is_superseded_comes_last_with_what_took_its_place_from_the_acceptance_on(kept: Lasting) -> None:
    held(kept, draft("the cache is global"))
    add(kept, draft("the cache is per thread", supersedes=(1,)))
    assert [(entry.id, entry.state) for entry in kept.search(READER, "w", "cache")] == [(1, State.ACCEPTED)]
    kept.accept(BEN, "w", 2)
    found = kept.search(READER, "w", "global cache")
    assert [(entry.id, entry.state) for entry in found] == [(2, State.ACCEPTED), (1, State.SUPERSEDED)]
    assert (found[0].supersedes, found[1].superseded_by) == ((1,), (2,))
    kept.retire(ANN, "w", 2, "neither is so")
    assert [entry.id for entry in kept.search(READER, "w", "cache")] == [1]
    assert kept.get(READER, "w", 1).state is State.SUPERSEDED, "retiring brings nothing back"


def test_a_rejected_or_retired_entry_is_kept_with_the_reason_and_shown_only_when_asked_for(kept: Lasting) -> None:
    add(kept, draft("one"))
    assert kept.reject(BEN, "w", 1, "untrue").reason == "untrue"
    held(kept, draft("two"))
    kept.retire(BEN, "w", 2, "the code is gone")
    assert kept.search(READER, "w") == ()
    everything = kept.search(READER, "w", states=EVERY)
    assert [(entry.id, entry.state, entry.reason) for entry in everything] == [
        (2, State.RETIRED, "the code is gone"),
        (1, State.RETIRED, "untrue"),
    ]
    with pytest.raises(KnowledgeError, match="retired already"):
        kept.retire(BEN, "w", 2, "")
    held(kept, draft("two"))  # may be said again
    assert texts(kept.search(READER, "w")) == ["two"]


def test_what_has_expired_no_longer_shows(kept: Lasting, clock: Clock) -> None:
    held(kept, draft("until tomorrow", expires_at=clock.now + DAY_S), draft("for ever"))
    assert texts(kept.search(READER, "w")) == ["for ever", "until tomorrow"]
    clock.now += DAY_S
    assert texts(kept.search(READER, "w")) == ["for ever"]
    assert kept.get(READER, "w", 1).state is State.EXPIRED
    with pytest.raises(KnowledgeError, match="expired already"):
        add(kept, draft("late", expires_at=clock.now))


def test_a_batch_is_taken_back_as_a_whole_and_what_it_replaced_holds_again(kept: Lasting) -> None:
    held(kept, draft("old"))
    imported = held(kept, draft("new", supersedes=(1,)), draft("more"))
    (last,) = held(kept, draft("newest", supersedes=(2,)))
    assert len({entry.batch for entry in imported}) == 1
    assert last.batch != imported[0].batch
    assert kept.get(READER, "w", 1).superseded_by == (2,)
    assert [entry.state for entry in kept.rollback(BEN, "w", imported[0].batch)] == [State.RETIRED] * 2
    assert kept.get(READER, "w", 1).superseded_by == (4,), "what came after it still holds"
    kept.rollback(BEN, "w", last.batch)
    assert [(entry.id, entry.state) for entry in kept.search(READER, "w")] == [(1, State.ACCEPTED)]
    for unknown in ("b_00000000", ""):
        with pytest.raises(UnknownEntry):
            kept.rollback(BEN, "w", unknown)


def test_two_that_hold_for_one_place_are_told_of_each_other(kept: Lasting) -> None:
    place = Draft(EntryKind.GOTCHA, "", "of a line", (Anchored(Anchor("", "a.cc", 3)),))
    held(
        kept,
        draft("locks", "ns::f", "ns::g"),
        draft("does not lock", "ns::f"),
        draft("decided", "ns::f", kind=EntryKind.DECISION),
        draft("elsewhere", "ns::h"),
        place,
        Draft(EntryKind.GOTCHA, "", "of another line", (Anchored(Anchor("", "a.cc", 4)),)),
        Draft(EntryKind.GOTCHA, "", "of the same line", place.anchors),
    )
    rivals = {entry.text: texts(kept.rivals(entry)) for entry in kept.search(READER, "w")}
    assert {text: others for text, others in rivals.items() if others} == {
        "locks": ["does not lock"],
        "does not lock": ["locks"],
        "of a line": ["of the same line"],
        "of the same line": ["of a line"],
    }
    held(kept, draft("locks twice", "ns::g", supersedes=(2,)))
    assert texts(kept.rivals(kept.get(READER, "w", 1))) == ["locks twice"]
    assert kept.rivals(kept.get(READER, "w", 2)) == ()


def test_what_is_reaffirmed_has_the_digests_of_the_code_as_it_is(kept: Lasting) -> None:
    held(kept, draft("so", "f", "g"))
    entry = kept.reaffirm(BEN, "w", 1, ["e", ""])
    assert [each.digest for each in entry.anchors] == ["e", ""]
    assert (entry.reaffirmed_by, entry.author) == (BEN.owner, ANN.owner)
    add(kept, draft("not yet"))
    with pytest.raises(KnowledgeError, match="is proposed"):
        kept.reaffirm(BEN, "w", 2, [])


# Who sees and does it


def test_an_entry_of_another_workspace_is_one_that_never_was(kept: Lasting, log: AuditLog) -> None:
    held(kept, draft("ours"))
    kept.add(STRANGER, "other", [draft("theirs")])
    recorded = len(log.entries())
    told = set()
    for attempt in (
        lambda: kept.get(STRANGER, "w", 1),
        lambda: kept.get(STRANGER, "nowhere", 1),
        lambda: kept.get(ANN, "w", 2),
        lambda: kept.get(ANN, "w", 10**30),
        lambda: kept.add(STRANGER, "w", [draft("mine")]),
        lambda: kept.accept(STRANGER, "w", 1),
        lambda: kept.retire(STRANGER, "w", 1, ""),
        lambda: kept.reaffirm(STRANGER, "nowhere", 1, []),
        lambda: kept.rollback(STRANGER, "w", kept.get(ANN, "w", 1).batch),
        lambda: kept.rollback(STRANGER, "other", kept.get(ANN, "w", 1).batch),
        lambda: kept.add(STRANGER, "other", [draft("instead", supersedes=(2,))]),
    ):
        with pytest.raises(UnknownEntry) as refused:
            attempt()
        told.add((refused.value.message, refused.value.hint))
    assert len(told) == 1
    assert kept.search(STRANGER, "w", states=EVERY) == ()
    assert kept.get(STRANGER, "other", 1).text == "theirs", "numbers tell nothing of other workspaces"
    assert len(log.entries()) == recorded


def test_every_change_and_every_denial_is_recorded_without_a_word_of_what_was_said(
    kept: Lasting, log: AuditLog
) -> None:
    held(kept, draft("something told in confidence"), draft("another"))
    kept.reaffirm(BEN, "w", 1, [])
    kept.retire(BEN, "w", 1, "a reason")
    kept.rollback(BEN, "w", kept.get(ANN, "w", 1).batch)
    add(kept, draft("third"))
    with pytest.raises(Forbidden):
        kept.accept(ANN, "w", 3)
    with pytest.raises(Forbidden):
        kept.retire(READER, "w", 3, "")
    kept.reject(BEN, "w", 3, "no")
    written = [(entry.action, entry.who, entry.outcome) for entry in reversed(log.entries())]
    assert written == [
        ("knowledge.add", "annskey000", "done"),
        ("knowledge.accept", "benskey000", "done"),
        ("knowledge.accept", "benskey000", "done"),
        ("knowledge.reaffirm", "benskey000", "done"),
        ("knowledge.retire", "benskey000", "done"),
        ("knowledge.rollback", "benskey000", "done"),
        ("knowledge.add", "annskey000", "done"),
        ("knowledge.accept", "annskey000", "denied"),
        ("knowledge.retire", "readskey00", "denied"),
        ("knowledge.reject", "benskey000", "done"),
    ]
    assert "confidence" not in log.path.read_text()
    assert all(entry.workspace == "w" for entry in log.entries())


def test_what_cannot_be_recorded_is_not_done(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("no folder")
    with closing(Lasting(tmp_path / FILE, AuditLog(tmp_path / "file" / "audit.jsonl"), clock=clock)) as kept:
        with pytest.raises(DataFolderError):
            add(kept, draft("unseen"))
        assert kept.search(READER, "w", states=EVERY) == ()


# What is kept


def test_secrets_are_gone_and_covert_characters_spelt_out_before_anything_is_kept(
    kept: Lasting, tmp_path: Path
) -> None:
    told = Draft(
        EntryKind.DECISION,
        f"with {SECRET}",
        f"a\u202eb {SECRET}",
        (Anchored(Anchor(SECRET, SECRET, 1)),),
        SECRET,
        (SECRET, "line\nbreak"),
    )
    (entry,) = add(kept, told)
    kept.reject(BEN, "w", 1, SECRET)
    assert entry.text == "a\\u202eb [redacted:github-token]"
    assert entry.evidence[1] == "line break"
    assert SECRET not in repr(kept.get(ANN, "w", 1))
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        assert SECRET.encode() not in file.read_bytes()
        assert SECRET.lower().encode() not in file.read_bytes()


@pytest.mark.parametrize(
    "wrong",
    [
        draft(" \n"),
        draft("x" * (MOST_TEXT_BYTES + 1)),
        draft("x", *[f"s{n}" for n in range(MOST_ANCHORS + 1)]),
        draft("x", evidence=("e",) * (MOST_EVIDENCE + 1)),
        draft("x", supersedes=(0,)),
        draft("x", supersedes=(2,)),
        draft("x", supersedes=(-1,)),
        draft("known"),
    ],
)
def test_a_wrong_draft_is_refused_and_nothing_of_its_batch_is_kept(kept: Lasting, wrong: Draft) -> None:
    with pytest.raises(KnowledgeError):
        add(kept, draft("known"), wrong)
    assert kept.search(READER, "w", states=EVERY) == ()


def test_a_key_cannot_fill_the_store_with_what_nobody_reviews(kept: Lasting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lasting, "MOST_PROPOSED", 2)
    add(kept, draft("one"), draft("two"))
    with pytest.raises(KnowledgeError, match="wait for a review"):
        add(kept, draft("three"))
    add(kept, draft("three"), who=BEN)
    monkeypatch.setattr(lasting, "MOST_ENTRIES", 3)
    with pytest.raises(KnowledgeError, match="has 3 entries"):
        add(kept, draft("four"), who=BEN)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lasting]:
    folder = tmp_path_factory.mktemp("kept")
    with closing(Lasting(folder / FILE, AuditLog(folder / "audit.jsonl"), Review.NONE)) as opened:
        yield opened


@settings(max_examples=25, deadline=None)
@given(text=some.text(max_size=60), title=some.text(max_size=30), query=some.text(max_size=40))
def test_any_text_is_kept_and_searched_without_harm(shared: Lasting, text: str, title: str, query: str) -> None:
    try:
        (entry,) = shared.add(ANN, "w", [Draft(EntryKind.STANDARD, title, text)])
    except KnowledgeError:
        assert not text.strip()
        return
    json.dumps([entry.title, entry.text]).encode()
    assert shared.get(ANN, "w", entry.id) == entry
    assert entry in shared.search(ANN, "w", entry.text, 200) or not asked(entry.text)
    shared.search(ANN, "w", query)
    shared.rollback(ANN, "w", entry.batch)


# The law


@dataclass
class _Known:
    """An entry as somebody would write it on a card."""

    text: str
    author: Principal
    batch: str
    over: tuple[int, ...]
    state: str = "proposed"
    accepted: bool = False  # at any time, unless it was rolled back


@dataclass
class _Cards:
    cards: dict[int, _Known] = field(default_factory=dict)

    def replaced(self, number: int) -> bool:
        """Whether something accepted stands above it, or above what was to stand there and does not."""
        above = [each for each, card in self.cards.items() if number in card.over]
        return any(self.cards[each].accepted or self.replaced(each) for each in above)

    def state(self, number: int) -> State:
        state = State(self.cards[number].state)
        return State.SUPERSEDED if state is State.ACCEPTED and self.replaced(number) else state


WHERE = some.sampled_from(["w", "other"])
WHO = some.sampled_from(["ann", "ben"])
NUMBER = some.integers(1, 6)


class Keeping(RuleBasedStateMachine):
    """Two people, two workspaces that each of them sees, two processes' worth of the store."""

    @initialize()
    def begin(self) -> None:
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(TemporaryDirectory()))
        self.log = AuditLog(folder / "audit.jsonl")
        self.stores = [self.stack.enter_context(closing(Lasting(folder / FILE, self.log))) for _ in range(2)]
        self.cards = {"w": _Cards(), "other": _Cards()}
        both = (Grant("w", frozenset(Scope)), Grant("other", frozenset(Scope)))
        self.people = {name: Principal(f"{name}skey000", name, both) for name in ("ann", "ben")}
        self.count = 0

    @rule(where=WHERE, who=WHO, over=some.sets(NUMBER, max_size=2), size=some.integers(1, 2))
    def adds(self, where: str, who: str, over: set[int], size: int) -> None:
        cards = self.cards[where].cards
        over = {number for number in over if number in cards}
        self.count += 1
        drafts = [draft(f"{where} says {self.count} {n}", "f", supersedes=tuple(over)) for n in range(size)]
        for entry in self.stores[0].add(self.people[who], where, drafts):
            cards[entry.id] = _Known(entry.text, self.people[who], entry.batch, tuple(over))

    @rule(where=WHERE, who=WHO, number=NUMBER)
    def accepts(self, where: str, who: str, number: int) -> None:
        card = self.cards[where].cards.get(number)
        if card and card.state == "proposed" and card.author is not self.people[who]:
            self.stores[1].accept(self.people[who], where, number)
            card.state, card.accepted = "accepted", True
        else:
            with pytest.raises((KnowledgeError, Forbidden)):
                self.stores[1].accept(self.people[who], where, number)

    @rule(where=WHERE, number=NUMBER, reject=some.booleans())
    def ends(self, where: str, number: int, reject: bool) -> None:
        card = self.cards[where].cards.get(number)
        with suppress(KnowledgeError):
            end = self.stores[0].reject if reject else self.stores[0].retire
            end(self.people["ann"], where, number, "")
            assert card
            assert card.state == "proposed" if reject else card.state != "retired"
            card.state = "retired"

    @rule(where=WHERE, number=NUMBER)
    def rolls_back(self, where: str, number: int) -> None:
        cards = self.cards[where].cards
        if number in cards:
            self.stores[1].rollback(self.people["ben"], where, cards[number].batch)
            for card in cards.values():
                if card.batch == cards[number].batch:
                    card.state, card.accepted = "retired", False

    @invariant()
    def each_workspace_shows_what_holds_there_and_nothing_else(self) -> None:
        for where, cards in getattr(self, "cards", {}).items():
            reader = holder("readskey00", Scope.READ, workspace=where)
            want = {number: (cards.cards[number].text, cards.state(number)) for number in cards.cards}
            everything = self.stores[0].search(reader, where, "says", 200, EVERY)
            assert {entry.id: (entry.text, entry.state) for entry in everything} == want
            shown = self.stores[1].search(reader, where, "says", 200)
            assert {entry.id for entry in shown} == {
                number for number, (_, state) in want.items() if state in (State.ACCEPTED, State.SUPERSEDED)
            }
            places = [entry.state is State.SUPERSEDED for entry in shown]
            assert places == sorted(places), "what was superseded comes last"
            other = "other" if where == "w" else "w"
            assert self.stores[0].search(reader, other, "says", 200, EVERY) == ()
            assert all(each.workspace == where for entry in shown for each in self.stores[0].rivals(entry))

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            assert self.log.verify().broken_at is None
            self.stack.close()


TestKeeping = Keeping.TestCase
TestKeeping.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
