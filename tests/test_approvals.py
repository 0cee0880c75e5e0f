"""Requests that somebody must let pass: bound to what was asked, used once, and decided by those who may."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from hub.auth import approvals
from hub.auth.approvals import FILE, WAIT_S, Approval, Approvals, Standing
from hub.auth.model import LOCAL, Grant, Principal, Scope
from hub.cli import main
from hub.errors import AccessError, Forbidden, UnknownAccess

AGENT = Principal("agentkey00", "an agent", (Grant("w", frozenset({Scope.READ, Scope.EXECUTE, Scope.APPROVE})),))
ANN = Principal("annskey000", "Ann", (Grant("w", frozenset({Scope.APPROVE})),))
BEN = Principal("benskey000", "Ben", (Grant("w", frozenset({Scope.READ, Scope.ADMIN})),))
CAT = Principal("catskey000", "Cat", (Grant("other", frozenset(Scope)),))


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def waiting(tmp_path: Path, clock: Clock) -> Iterator[Approvals]:
    opened = Approvals(tmp_path / FILE, clock)
    yield opened
    opened.close()


def asked(waiting: Approvals, digest: str = "d1") -> Approval:
    return waiting.ask(AGENT, "w", "build", digest, {"command": ["cmake", "--build", "build"]})


def test_what_is_granted_passes_once_and_as_it_was_asked(waiting: Approvals) -> None:
    request = asked(waiting)
    assert not waiting.take(request.approval_id, "d1"), "nobody has decided yet"
    assert waiting.decide(request.approval_id, ANN, grant=True).standing is Standing.GRANTED
    assert not waiting.take(request.approval_id, "d2"), "something else would run"
    assert not waiting.take("0" * 32, "d1")
    assert waiting.take(request.approval_id, "d1")
    assert not waiting.take(request.approval_id, "d1"), "it was used up"
    assert waiting.one(request.approval_id, ANN).standing is Standing.TAKEN


def test_what_is_denied_never_passes(waiting: Approvals) -> None:
    request = asked(waiting)
    assert waiting.decide(request.approval_id, ANN, grant=False).standing is Standing.DENIED
    assert not waiting.take(request.approval_id, "d1")
    with pytest.raises(AccessError, match="denied"):
        waiting.decide(request.approval_id, ANN, grant=True)


def test_nobody_decides_what_he_has_asked_for_himself(waiting: Approvals) -> None:
    request = asked(waiting)
    with pytest.raises(Forbidden, match="himself"):
        waiting.decide(request.approval_id, AGENT, grant=True)
    assert not waiting.take(request.approval_id, "d1")
    own = waiting.ask(LOCAL, "w", "build", "d", {})
    with pytest.raises(Forbidden):
        waiting.decide(own.approval_id, LOCAL, grant=True)


@pytest.mark.parametrize("stranger", [BEN, CAT, Principal("nobody", "", ())])
def test_a_request_does_not_exist_for_those_who_may_not_approve_there(stranger: Principal, waiting: Approvals) -> None:
    request = asked(waiting)
    assert waiting.pending(stranger) == ()
    told = []
    for approval_id in (request.approval_id, "0" * 32):
        with pytest.raises(UnknownAccess) as caught:
            waiting.decide(approval_id, stranger, grant=True)
        told.append((caught.value.message, caught.value.hint))
        with pytest.raises(UnknownAccess) as caught:
            waiting.one(approval_id, stranger)
        told.append((caught.value.message, caught.value.hint))
    assert len(set(told)) == 1
    assert waiting.one(request.approval_id, ANN).standing is Standing.WAITING


def test_those_who_may_decide_and_whoever_asked_see_what_waits(waiting: Approvals, clock: Clock) -> None:
    first = asked(waiting)
    clock.now += 1
    second = asked(waiting, "d2")
    for principal in (ANN, AGENT, LOCAL, None):
        assert [approval.approval_id for approval in waiting.pending(principal)] == [
            first.approval_id,
            second.approval_id,
        ]
    waiting.decide(first.approval_id, ANN, grant=True)
    assert [approval.approval_id for approval in waiting.pending(ANN)] == [second.approval_id]
    assert second.told == {"command": ["cmake", "--build", "build"]}


def test_the_same_request_is_not_made_twice_while_it_waits(waiting: Approvals, clock: Clock) -> None:
    request = asked(waiting)
    assert asked(waiting).approval_id == request.approval_id
    assert asked(waiting, "d2").approval_id != request.approval_id
    waiting.decide(request.approval_id, ANN, grant=True)
    assert asked(waiting).approval_id != request.approval_id, "a grant is used, not asked for again"
    clock.now += WAIT_S
    assert asked(waiting).standing is Standing.WAITING


def test_what_is_not_decided_in_time_is_over(waiting: Approvals, clock: Clock) -> None:
    request = asked(waiting)
    clock.now += WAIT_S
    assert waiting.pending() == ()
    assert waiting.one(request.approval_id, ANN).standing is Standing.EXPIRED
    with pytest.raises(AccessError, match="expired"):
        waiting.decide(request.approval_id, ANN, grant=True)


def test_a_grant_that_is_not_used_in_time_is_over(waiting: Approvals, clock: Clock) -> None:
    request = asked(waiting)
    clock.now += WAIT_S - 1
    waiting.decide(request.approval_id, ANN, grant=True)
    clock.now += WAIT_S
    assert not waiting.take(request.approval_id, "d1")
    assert waiting.one(request.approval_id, ANN).standing is Standing.EXPIRED


def test_a_clock_that_goes_far_back_voids_what_was_asked_and_granted(waiting: Approvals, clock: Clock) -> None:
    granted, open_still = asked(waiting), asked(waiting, "d2")
    waiting.decide(granted.approval_id, ANN, grant=True)
    clock.now -= 3_600
    assert not waiting.take(granted.approval_id, "d1")
    assert waiting.pending() == ()
    with pytest.raises(AccessError):
        waiting.decide(open_still.approval_id, ANN, grant=True)
    clock.now += 3_590  # a correction of seconds is none
    assert waiting.take(granted.approval_id, "d1")


def _all_at_once(number: int, work: Callable[[int], bool]) -> list[bool]:
    done: list[bool] = []
    start = threading.Barrier(number)

    def run(which: int) -> None:
        start.wait(20)
        done.append(work(which))

    threads = [threading.Thread(target=run, args=(which,)) for which in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == number
    return done


def test_of_those_who_take_a_grant_at_once_one_does(tmp_path: Path, waiting: Approvals, clock: Clock) -> None:
    request = asked(waiting)
    waiting.decide(request.approval_id, ANN, grant=True)
    others = [Approvals(tmp_path / FILE, clock) for _ in range(4)]
    assert sum(_all_at_once(4, lambda which: others[which].take(request.approval_id, "d1"))) == 1
    for other in others:
        other.close()


def test_of_those_who_decide_at_once_one_does(tmp_path: Path, waiting: Approvals, clock: Clock) -> None:
    request = asked(waiting)
    others = [Approvals(tmp_path / FILE, clock) for _ in range(4)]

    def decide(which: int) -> bool:
        try:
            others[which].decide(request.approval_id, ANN, grant=which % 2 == 0)
        except AccessError:
            return False
        return True

    assert sum(_all_at_once(4, decide)) == 1
    for other in others:
        other.close()


def test_a_key_cannot_fill_the_list(waiting: Approvals, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(approvals, "MOST_WAITING", 3)
    for number in range(3):
        asked(waiting, f"d{number}")
    with pytest.raises(AccessError, match="Too many"):
        asked(waiting, "one more")
    assert waiting.ask(ANN, "w", "build", "d", {}).standing is Standing.WAITING, "others are not hindered"
    clock.now += WAIT_S
    assert asked(waiting, "one more").standing is Standing.WAITING


def test_what_nobody_could_read_is_not_asked(waiting: Approvals) -> None:
    with pytest.raises(AccessError):
        waiting.ask(AGENT, "w", "build", "d", {"text": "x" * 100_000})
    for digest in ("", "x" * 1_000):
        with pytest.raises(AccessError):
            waiting.ask(AGENT, "w", "build", digest, {})
    assert waiting.pending() == ()


def test_what_is_long_over_is_forgotten(tmp_path: Path, waiting: Approvals, clock: Clock) -> None:
    request = asked(waiting)
    clock.now += approvals.KEPT_S + WAIT_S + 1
    asked(waiting, "d2")
    with pytest.raises(UnknownAccess):
        waiting.one(request.approval_id, AGENT)


TOLD = some.dictionaries(some.text(max_size=20), some.one_of(some.text(max_size=50), some.integers(), some.none()))


@settings(max_examples=30, deadline=None)
@given(some.text(min_size=1, max_size=100), TOLD, some.text(max_size=30))
def test_whatever_is_told_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, digest: str, told: dict[str, object], tool: str
) -> None:
    waiting = Approvals(tmp_path_factory.mktemp("asked") / FILE)
    clean = {name.encode("utf-8", "replace").decode(): value for name, value in told.items()}
    request = waiting.ask(AGENT, "w", tool, digest, clean)
    assert (dict(request.told), request.tool, request.digest) == (clean, tool, digest)
    waiting.decide(request.approval_id, ANN, grant=True)
    assert waiting.take(request.approval_id, digest)
    waiting.close()


# The command


def test_the_command_lists_grants_and_denies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def shell(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(["approve", *arguments, "--data", str(tmp_path)])
        return code, capsys.readouterr().out

    assert shell() == (1, "Nothing waits for an approval.\n")
    waiting = Approvals(tmp_path / FILE)
    told = {"command": ["make", "\x1b[2J", "\u202eexe.", "é"], "a\nb": 1}
    first, second = waiting.ask(LOCAL, "w", "build", "d1", told), asked(waiting, "d2")
    code, out = shell()
    assert code == 0
    assert out.splitlines()[0].startswith(f"{first.approval_id}  build in w, asked by local")
    assert '  command: ["make", "\\u001b[2J", "\\u202eexe.", "é"]' in out, "a terminal is not told what to do"
    assert "  a\\u000ab: 1" in out

    assert shell(first.approval_id)[0] == 0
    assert waiting.take(first.approval_id, "d1"), "a person at the terminal decides what programs of his ask for"
    assert shell(second.approval_id, "--deny") == (0, "Denied.\n")
    assert not waiting.take(second.approval_id, "d2")
    assert shell(second.approval_id)[0] == 2
    assert shell("\udcff")[0] == 2, "an argument that is no text"
    code, out = shell("--json")
    assert (code, json.loads(out)) == (1, {"approvals": []})
    waiting.close()
