"""What is remembered during a task shows to its own key, by its own handle, until it ends, and nowhere else.

What people keep for good shows once it was accepted, with where it comes from. A machine opens sessions, notes
canaries, promotes some, lets time pass, changes hands, and looks in every way there is: search_knowledge, explore,
HTTP, and the evidence of an answer.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agents.model import Call
from agents.parameters import checked
from agents.tools.explore import EXPLORE
from agents.tools.knowing import REMEMBER, SEARCH_KNOWLEDGE
from hub.auth.model import Grant, Principal
from hub.auth.model import Scope as Right
from hub.errors import Forbidden, UnknownSession
from hub.http_api.app import application
from hub.knowledge import Draft, EntryKind, NoteKind, Sessions, State
from hub.remembering import drafted, evidence
from tests.support.asgi import ask, bearer, sent
from tests.support.desks import desk_in
from tests.support.server_state import state_in

LIFETIME_S = 3_600.0
WRITES = frozenset({Right.READ, Right.KNOWLEDGE})
ACTS = ("note", "note", "propose", "promote", "review", "end", "time")
WHO = some.sampled_from(["ann", "ben"])
TOLD = "Increment never overflows in practice"  # words of the tree, so that a question finds it


@dataclass
class _Opened:
    """A session as somebody would write it on a card."""

    owner: str
    handle: str
    until: float
    canaries: list[str]


@dataclass
class _Kept:
    canary: str
    author: str
    number: int
    state: State
    evidence: tuple[str, ...]


class Remembering(RuleBasedStateMachine):
    """Two keys of two people in one workspace, and a clock that goes on when it is told to."""

    @initialize()
    def begin(self) -> None:
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(TemporaryDirectory()))
        self.now = 1_800_000_000.0
        self.desk = self.stack.enter_context(desk_in(folder))
        self.desk.sessions.close()
        self.desk.sessions = Sessions(folder / "data" / "timed.db", lambda: self.now, LIFETIME_S)
        self.stack.callback(self.desk.sessions.close)
        state = self.stack.enter_context(state_in(folder / "data", server_requests_per_minute=100_000))
        self.app = application(state)
        keys = {name: state.keys.create(name, (Grant("w", WRITES),)) for name in ("ann", "ben")}
        self.keys = {name: key.text for name, key in keys.items()}
        self.people = {name: Principal(key.record.key_id, name, key.record.grants) for name, key in keys.items()}
        self.reviewer = Principal("reviewer00", "cid", (Grant("w", frozenset({Right.READ, Right.APPROVE})),))
        self.sessions: list[_Opened] = []
        self.kept: list[_Kept] = []
        self.count = 0

    def canary(self) -> str:
        self.count += 1
        return f"zq{'abcdefghij'[self.count % 10]}{self.count}canary"

    def called(self, tool: Any, who: str, **arguments: Any) -> str:
        return str(tool.run(self.desk, Call(self.people[who]), checked(tool.parameters, arguments)))

    # One rule for all acts: rules of their own would be left out of whole runs by hypothesis, to try the others.
    @rule(data=some.data(), act=some.sampled_from(ACTS), who=WHO, other=WHO)
    def something_happens_and_is_looked_at(self, data: some.DataObject, act: str, who: str, other: str) -> None:
        match act:
            case "note":
                self.notes(who, own=data.draw(some.booleans()))
            case "propose":
                self.proposes(who)
            case "promote":
                self.promotes(data)
            case "review":
                self.reviews(data, accept=data.draw(some.booleans()))
            case "end":
                self.ends(data)
            case _:
                self.now += data.draw(some.sampled_from([1.0, LIFETIME_S / 2, LIFETIME_S]))
        if self.sessions:
            self.looks_with_a_handle(data.draw(some.sampled_from(self.sessions)), other)
        if data.draw(some.booleans()):
            self.looks_without_one(other)

    def notes(self, who: str, *, own: bool) -> None:
        mine = [each for each in self.sessions if each.owner == who and each.until > self.now]
        canary = self.canary()
        session = mine[-1] if own and mine else None
        if session is None:
            opened = self.desk.sessions.open(self.people[who], "w")
            session = _Opened(who, opened.handle, opened.until, [])
            self.sessions.append(session)
        self.called(REMEMBER, who, text=f"{TOLD}: {canary}", about="Increment", session=session.handle)
        session.canaries.append(canary)

    def proposes(self, who: str) -> None:
        canary = self.canary()
        self.called(REMEMBER, who, text=f"{TOLD}: {canary}", about="Increment", lasting="gotcha", evidence="run r1")
        entry = self.desk.lasting.search(self.people[who], "w", "", 1, (State.PROPOSED,))[0]
        assert canary in entry.text
        self.kept.append(_Kept(canary, who, entry.id, State.PROPOSED, ("run r1",)))

    def promotes(self, data: some.DataObject) -> None:
        """A note becomes an entry, which tells what it was."""
        live = [each for each in self.sessions if each.until > self.now]
        if not live:
            return
        session = data.draw(some.sampled_from(live))
        who = self.people[session.owner]
        note = self.desk.sessions.notes(who, session.handle)[0]
        canary = note.text.rpartition(" ")[2]
        if any(each.canary == canary for each in self.kept):
            return
        said = f"a {note.kind.value} of a session, by {note.source}"
        draft = Draft(EntryKind.GOTCHA, note.title, note.text, evidence=(said,))
        (entry,) = self.desk.lasting.add(who, "w", [draft])
        self.kept.append(_Kept(canary, session.owner, entry.id, State.PROPOSED, (said,)))

    def reviews(self, data: some.DataObject, *, accept: bool) -> None:
        if not self.kept:
            return
        card = data.draw(some.sampled_from(self.kept))
        for name in ("ann", "ben"):  # neither his own nor, without the scope, another's
            try:
                self.desk.lasting.accept(self.people[name], "w", card.number)
            except Forbidden:
                continue
            raise AssertionError("accepted by one who may not")
        if card.state is State.PROPOSED:
            if accept:
                self.desk.lasting.accept(self.reviewer, "w", card.number)
            else:
                self.desk.lasting.reject(self.reviewer, "w", card.number, "no")
            card.state = State.ACCEPTED if accept else State.RETIRED

    def ends(self, data: some.DataObject) -> None:
        live = [each for each in self.sessions if each.until > self.now]
        if live:
            session = data.draw(some.sampled_from(live))
            self.desk.sessions.end(self.people[session.owner], session.handle)
            session.until = self.now

    def looks_with_a_handle(self, session: _Opened, who: str) -> None:
        live = session.owner == who and session.until > self.now
        for tool, arguments in (
            (SEARCH_KNOWLEDGE, {"query": "canary overflows"}),
            (EXPLORE, {"question": "Increment"}),
        ):
            try:
                shown = self.called(tool, who, session=session.handle, **arguments)
            except UnknownSession:
                assert not live
                continue
            assert live, "a handle that is another's, or has ended, opened something"
            self.only(shown, {*session.canaries, *self.in_force()})
        if live:
            assert self.desk.sessions.notes(self.people[who], session.handle, "overflows", 200)

    def looks_without_one(self, who: str) -> None:
        reply = ask(self.app, sent("GET", "/api/v1/knowledge?query=overflows&limit=200", bearer(self.keys[who])))[0]
        with self.desk.workspaces.opened(self.people[who], "w") as service:
            hits = service.search(TOLD, 10).hits
            passages = evidence(self.desk.lasting, service, TOLD, hits)
        for shown in (
            self.called(SEARCH_KNOWLEDGE, who, query="overflows"),
            self.called(EXPLORE, who, question="Counter::Increment"),
            reply.body.decode(),
            "".join(stretch.text for passage in passages for stretch in passage.body),
        ):
            self.only(shown, self.in_force())
        assert all(canary in reply.body.decode() for canary in self.in_force())

    def in_force(self) -> set[str]:
        return {each.canary for each in self.kept if each.state is State.ACCEPTED}

    def only(self, shown: str, allowed: set[str]) -> None:
        every = {each for session in self.sessions for each in session.canaries} | {each.canary for each in self.kept}
        assert not [canary for canary in every - allowed if canary in shown]

    @invariant()
    def what_was_promoted_tells_where_it_comes_from(self) -> None:
        for card in getattr(self, "kept", []):
            entry = self.desk.lasting.get(self.reviewer, "w", card.number)
            assert (entry.author, entry.key) == (card.author, self.people[card.author].key_id)
            assert (entry.evidence, entry.state) == (card.evidence, card.state)
            assert entry.reviewer == ("cid" if card.state is not State.PROPOSED else "")

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()


TestRemembering = Remembering.TestCase
# A run says enough as it is: to make it smaller takes minutes.
TestRemembering.settings = settings(max_examples=4, stateful_step_count=16, deadline=None, phases=[Phase.generate])


class RollingBack(RuleBasedStateMachine):
    """Whatever batches were accepted on top of each other: taking one back leaves what there was without it."""

    @initialize()
    def begin(self) -> None:
        self.stack = ExitStack()
        self.desk = self.stack.enter_context(desk_in(Path(self.stack.enter_context(TemporaryDirectory()))))
        self.author = Principal("authorkey0", "ann", (Grant("w", WRITES),))
        self.reviewer = Principal("reviewer00", "cid", (Grant("w", frozenset({Right.READ, Right.APPROVE})),))
        self.count = 0

    def shown(self) -> dict[int, tuple[str, State, tuple[int, ...]]]:
        found = self.desk.lasting.search(self.reviewer, "w", "", 200)
        return {entry.id: (entry.text, entry.state, entry.superseded_by) for entry in found}

    @rule(size=some.integers(1, 3), data=some.data(), keep=some.booleans())
    def a_batch_that_is_taken_back_leaves_no_trace(self, size: int, data: some.DataObject, keep: bool) -> None:
        before = self.shown()
        over = data.draw(some.sets(some.sampled_from(sorted(before)), max_size=3)) if before else set()
        drafts = []
        for _ in range(size):
            self.count += 1
            draft, _unknown = drafted(None, EntryKind.GOTCHA, "", f"said {self.count}", ["Increment"])
            drafts.append(Draft(draft.kind, draft.title, draft.text, draft.anchors, supersedes=tuple(sorted(over))))
        entries = self.desk.lasting.add(self.author, "w", drafts)
        assert self.shown() == before, "what nobody accepted changes nothing"
        for entry in entries:
            self.desk.lasting.accept(self.reviewer, "w", entry.id)
        assert all(self.shown()[number][1] is State.SUPERSEDED for number in over)
        if not keep:
            self.desk.lasting.rollback(self.reviewer, "w", entries[0].batch)
            assert self.shown() == before

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()


TestRollingBack = RollingBack.TestCase
TestRollingBack.settings = settings(max_examples=4, stateful_step_count=6, deadline=None, phases=[Phase.generate])


def test_a_note_is_of_no_session_but_its_own(tmp_path: Path) -> None:
    """The canaries sing for whoever may hear them: without this the laws would hold of tools that show nothing."""
    ann = Principal("annskey000", "ann", (Grant("w", WRITES),))
    with desk_in(tmp_path) as desk:
        handle = desk.sessions.open(ann, "w").handle
        desk.sessions.note(ann, handle, NoteKind.NOTE, "", f"{TOLD}: zqcanary")
        for session, shows in ((handle, True), ("", False)):
            arguments = checked(SEARCH_KNOWLEDGE.parameters, {"query": "overflows", "session": session})
            assert ("zqcanary" in str(SEARCH_KNOWLEDGE.run(desk, Call(ann), arguments))) is shows
