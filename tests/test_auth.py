"""Keys: made, read, checked, rotated and revoked, by several processes at once, and what they grant."""

import json
import os
import string
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from hub.auth import audit, keys, store
from hub.auth.audit import AuditLog
from hub.auth.keys import grants_of, owner_of
from hub.auth.model import ALL_WORKSPACES, LOCAL, Grant, Principal, Scope
from hub.auth.store import KeyRing
from hub.cli import main
from hub.errors import AccessError, UnknownAccess
from indexer.errors import DataFolderError, SchemaError

READ = (Grant("leveldb", frozenset({Scope.READ})),)
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
def ring(tmp_path: Path, clock: Clock) -> Iterator[KeyRing]:
    opened = KeyRing(tmp_path / store.FILE, clock)
    yield opened
    opened.close()


# What a key is


@given(some.data())
def test_every_key_that_is_made_is_read_as_it_was_made(data: some.DataObject) -> None:
    text, parts = keys.make(lambda kinds, number: data.draw(some.text(kinds, min_size=number, max_size=number)))
    assert keys.read(text) == parts
    assert text == f"chub_{parts.key_id}_{parts.secret}{text[-keys.CHECKSUM_LETTERS :]}"


@given(some.data())
def test_a_key_with_one_letter_changed_is_no_key(data: some.DataObject) -> None:
    text, _ = keys.make(lambda kinds, number: data.draw(some.text(kinds, min_size=number, max_size=number)))
    place = data.draw(some.integers(0, len(text) - 1))
    letter = data.draw(some.sampled_from(string.printable).filter(lambda other: other != text[place]))
    assert keys.read(text[:place] + letter + text[place + 1 :]) is None


@given(some.text())
def test_what_is_no_key_is_read_as_none_and_never_raises(text: str) -> None:
    assert keys.read(text) is None
    assert keys.read(f"chub_{text}") is None


@pytest.mark.parametrize("text", ["", "chub_", "chub__", "chub_" + "0" * 10_000, "chub_" + "é" * 60, "\ud800" * 65])
def test_hostile_texts_are_no_keys(text: str, ring: KeyRing) -> None:
    assert ring.check(text) is None


def test_the_digest_of_a_key_belongs_to_its_id_too() -> None:
    assert keys.digest(keys.Parts("a" * 10, "s" * 43)) != keys.digest(keys.Parts("b" * 10, "s" * 43))


# Checking


def test_a_key_lets_its_holder_in_with_its_grants(ring: KeyRing) -> None:
    made = ring.create("continuous integration", READ)
    assert ring.check(made.text) == Principal(made.record.key_id, "continuous integration", READ)
    assert ring.holder(made.record.key_id) == ring.check(made.text)


def test_the_right_id_with_another_secret_does_not(ring: KeyRing) -> None:
    made, other = ring.create("a", READ), ring.create("b", READ)
    parts = keys.read(other.text)
    assert parts is not None
    forged = iter([made.record.key_id, parts.secret])
    text, _ = keys.make(lambda _kinds, _number: next(forged))
    assert keys.read(text) is not None
    assert ring.check(text) is None


def test_an_unknown_id_is_compared_as_a_known_one_is(ring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    known, other = ring.create("a", READ), ring.create("b", READ)
    parts = keys.read(other.text)
    assert parts is not None
    compared: list[tuple[int, int]] = []
    same = keys.same

    def counted(one: bytes, two: bytes) -> bool:
        compared.append((len(one), len(two)))
        return same(one, two)

    monkeypatch.setattr(keys, "same", counted)
    for key_id in (known.record.key_id, "0" * keys.ID_LETTERS):
        drawn = iter([key_id, parts.secret])
        assert ring.check(keys.make(lambda _kinds, _number, drawn=drawn: next(drawn))[0]) is None
    assert compared == [(32, 32), (32, 32)]


def test_an_expired_key_does_not_let_in_from_its_last_second_on(ring: KeyRing, clock: Clock) -> None:
    made = ring.create("a", READ, clock.now + DAY_S)
    clock.now += DAY_S - 1
    assert ring.check(made.text)
    clock.now += 1
    assert ring.check(made.text) is None
    assert ring.holder(made.record.key_id) is None
    assert [record.state(clock.now) for record in ring.records()] == ["expired"]


def test_a_revoked_key_stays_revoked_whatever_the_clock_says(ring: KeyRing, clock: Clock) -> None:
    made = ring.create("a", READ, clock.now + DAY_S)
    assert ring.revoke(made.record.key_id)
    assert not ring.revoke(made.record.key_id), "it was revoked before"
    for moment in (clock.now, clock.now - 10 * DAY_S, 0.0, clock.now + 10 * DAY_S):
        clock.now = moment
        assert ring.check(made.text) is None
        assert ring.holder(made.record.key_id) is None
        assert [record.state(moment) for record in ring.records()] == ["revoked"]


def test_a_key_revoked_by_another_connection_is_refused_at_the_next_check(
    tmp_path: Path, ring: KeyRing, clock: Clock
) -> None:
    made = ring.create("a", READ)
    assert ring.check(made.text)
    other = KeyRing(tmp_path / store.FILE, clock)
    assert other.revoke(made.record.key_id)
    assert ring.check(made.text) is None
    assert ring.holder(made.record.key_id) is None
    fresh = other.create("b", READ)
    assert ring.check(fresh.text), "one made there counts at once, too"
    other.close()


def test_a_revocation_is_not_undone_by_checks_in_other_threads(ring: KeyRing, clock: Clock) -> None:
    """Every check a minute on, so that each of them notes the use, which writes into what is kept of the keys."""
    made = ring.create("a", READ)
    stop = threading.Event()
    late: list[Principal] = []
    revoked = threading.Event()

    def check() -> None:
        while not stop.is_set():
            clock.now += 61
            after = revoked.is_set()
            found = ring.check(made.text)
            if after and found:
                late.append(found)

    threads = [threading.Thread(target=check) for _ in range(3)]
    for thread in threads:
        thread.start()
    ring.revoke(made.record.key_id)
    revoked.set()
    for _ in range(200):
        assert ring.check(made.text) is None
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not late


def test_the_file_holds_no_part_of_a_secret_and_only_its_owner_may_read_it(tmp_path: Path, ring: KeyRing) -> None:
    made = ring.create("a", READ)
    parts = keys.read(made.text)
    assert parts is not None
    ring.check(made.text)
    files = sorted(tmp_path.glob(f"{store.FILE}*"))
    assert any(parts.key_id.encode() in file.read_bytes() for file in files), "the journal is looked at, too"
    for file in files:
        content = file.read_bytes()
        for start in range(len(parts.secret) - 8):
            assert parts.secret[start : start + 8].encode() not in content
        assert file.stat().st_mode & 0o077 == 0
    assert parts.secret not in repr(made)
    assert parts.secret not in repr(parts)


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path, clock: Clock) -> None:
    KeyRing(tmp_path / store.FILE, clock).close()
    (tmp_path / store.FILE).chmod(0o644)
    KeyRing(tmp_path / store.FILE, clock).close()
    assert (tmp_path / store.FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_what_root_makes_in_the_folder_of_a_user_is_the_users(tmp_path: Path, clock: Clock) -> None:
    """As when an administrator makes a key for a server that runs as a user of its own."""
    os.chown(tmp_path, 4_242, 4_343)
    with closing(KeyRing(tmp_path / store.FILE, clock)) as ring:
        ring.create("a", READ)
        AuditLog(tmp_path / audit.FILE).append(LOCAL, "key.create", "", "done")
        files = sorted(tmp_path.iterdir())
        assert {path.name for path in files} >= {store.FILE, audit.FILE, "audit.head", f"{store.FILE}-wal"}
        for path in files:
            assert (path.stat().st_uid, path.stat().st_gid) == (4_242, 4_343), path
            assert path.stat().st_mode & 0o077 == 0


def test_a_link_in_the_place_of_the_file_is_refused(tmp_path: Path, clock: Clock) -> None:
    KeyRing(tmp_path / "elsewhere.db", clock).close()
    (tmp_path / store.FILE).symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(DataFolderError, match="is a link"):
        KeyRing(tmp_path / store.FILE, clock)


def test_a_damaged_file_lets_nobody_in(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / store.FILE).write_bytes(b"no database " * 1_000)
    with pytest.raises(DataFolderError, match="damaged"):
        KeyRing(tmp_path / store.FILE, clock)


def test_a_file_of_another_form_is_told_apart(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    KeyRing(tmp_path / store.FILE, clock).close()
    monkeypatch.setattr(store, "FORM", store.FORM + 1)
    with pytest.raises(SchemaError):
        KeyRing(tmp_path / store.FILE, clock)


def test_a_store_that_cannot_be_read_raises_and_does_not_let_in(tmp_path: Path, ring: KeyRing) -> None:
    made = ring.create("a", READ)
    ring.close()
    with pytest.raises(DataFolderError):
        ring.check(made.text)


def test_the_last_use_is_kept_once_a_minute(tmp_path: Path, ring: KeyRing, clock: Clock) -> None:
    made = ring.create("a", READ)
    began = clock.now
    ring.check(made.text)
    clock.now += store.USED_EVERY_S - 1
    ring.check(made.text)
    other = KeyRing(tmp_path / store.FILE, clock)
    assert [record.last_used_at for record in other.records()] == [began]
    clock.now += 1
    ring.check(made.text)
    assert [record.last_used_at for record in other.records()] == [clock.now]
    other.close()


def test_a_check_does_not_wait_for_a_writer(tmp_path: Path, ring: KeyRing, clock: Clock) -> None:
    made = ring.create("a", READ)
    other = KeyRing(tmp_path / store.FILE, clock)
    with other._database.transaction():
        changing = threading.Thread(target=ring.create, args=("b", READ))  # which waits
        changing.start()
        clock.now += 3600
        assert ring.check(made.text), "only when it was used is not noted"
        assert ring.holder(made.record.key_id)
        assert changing.is_alive()
    changing.join(20)
    assert [record.last_used_at for record in ring.records()] == [None, None]
    other.close()


# The first one, and those that follow


def test_the_first_key_may_do_everything_and_is_made_once(tmp_path: Path, ring: KeyRing, clock: Clock) -> None:
    made = ring.first_key()
    assert made is not None
    principal = ring.check(made.text)
    assert principal is not None
    assert all(principal.may(scope) for scope in Scope)
    assert ring.first_key() is None
    ring.revoke(made.record.key_id)
    assert ring.first_key() is None, "whoever revoked the last key does not get a new one shown in a log"


def test_two_servers_that_start_at_once_make_one_first_key(tmp_path: Path) -> None:
    made: list[bool] = []
    start = threading.Barrier(4)

    def begin() -> None:
        start.wait(20)
        with closing(KeyRing(tmp_path / store.FILE)) as ring:
            made.append(ring.first_key() is not None)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(made) == [False, False, False, True]


def test_a_rotated_key_ends_at_once_or_after_its_grace(ring: KeyRing, clock: Clock) -> None:
    first = ring.create("a", READ, clock.now + 10 * DAY_S)
    second = ring.rotate(first.record.key_id)
    assert ring.check(first.text) is None
    clock.now += DAY_S
    third = ring.rotate(second.record.key_id, grace_s=60)
    assert ring.check(second.text)
    assert ring.check(third.text)
    clock.now += 60
    assert ring.check(second.text) is None
    found = ring.check(third.text)
    assert found is not None
    assert (found.owner, found.grants) == ("a", READ)
    assert third.record.expires_at == clock.now - 60 + 10 * DAY_S, "it lasts as long as the first was made for"
    states = {record.key_id: (record.replaced_by, record.state(clock.now)) for record in ring.records()}
    assert states == {
        first.record.key_id: (second.record.key_id, "revoked"),
        second.record.key_id: (third.record.key_id, "expired"),
        third.record.key_id: (None, "active"),
    }


def test_grace_does_not_make_a_key_last_longer_than_it_would_have(ring: KeyRing, clock: Clock) -> None:
    made = ring.create("a", READ, clock.now + 60)
    ring.rotate(made.record.key_id, grace_s=3600)
    clock.now += 60
    assert ring.check(made.text) is None


def test_what_cannot_be_rotated_is_told(ring: KeyRing, clock: Clock) -> None:
    with pytest.raises(UnknownAccess):
        ring.rotate("0" * 10)
    made = ring.create("a", READ)
    ring.rotate(made.record.key_id, grace_s=60)
    with pytest.raises(AccessError, match="replaced"):
        ring.rotate(made.record.key_id)
    for grace_s in (-1.0, float("nan"), float("inf")):
        with pytest.raises(AccessError):
            ring.rotate(made.record.key_id, grace_s)
    clock.now += 60
    with pytest.raises(AccessError):
        ring.rotate(made.record.key_id)
    assert len(ring.records()) == 2, "a refused rotation makes nothing"


@pytest.mark.parametrize("owner", ["", "  ", "x" * 101, "two\nlines", "a\u202eb", "a\x00b", "\ud800"])
def test_an_owner_that_cannot_be_shown_is_refused(owner: str, ring: KeyRing) -> None:
    with pytest.raises(AccessError):
        ring.create(owner, READ)
    assert ring.records() == ()


@pytest.mark.parametrize("expires_in_s", [0.0, -1.0, float("inf"), float("nan")])
def test_a_key_that_would_not_work_or_never_end_is_not_made(expires_in_s: float, ring: KeyRing, clock: Clock) -> None:
    with pytest.raises(AccessError):
        ring.create("a", READ, clock.now + expires_in_s)


def test_a_key_that_may_do_nothing_is_not_made(ring: KeyRing) -> None:
    for nothing in ((), (Grant("w", frozenset()),)):
        with pytest.raises(AccessError):
            ring.create("a", nothing)


class Ring(RuleBasedStateMachine):
    """Whatever is done in whatever order, by two servers of one folder: who is let in is as the history says."""

    made = Bundle("made")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.rings = [KeyRing(Path(self.folder.name) / store.FILE, self.clock) for _ in range(2)]
        self.ends: dict[str, float] = {}
        self.revoked: set[str] = set()
        self.replaced: set[str] = set()

    @rule(target=made, which=some.integers(0, 1), lasts_s=some.sampled_from([30.0, 100.0, None]))
    def create(self, which: int, lasts_s: float | None) -> str:
        text = self.rings[which].create("a", READ, None if lasts_s is None else self.clock.now + lasts_s).text
        self.ends[text] = float("inf") if lasts_s is None else self.clock.now + lasts_s
        return text

    @rule(which=some.integers(0, 1), text=made)
    def revoke(self, which: int, text: str) -> None:
        assert self.rings[which].revoke(text.split("_")[1]) == (text not in self.revoked)
        self.revoked.add(text)

    @rule(target=made, which=some.integers(0, 1), text=made, grace_s=some.sampled_from([0.0, 20.0]))
    def rotate(self, which: int, text: str, grace_s: float) -> Any:
        try:
            new = self.rings[which].rotate(text.split("_")[1], grace_s)
        except AccessError:
            assert text in self.revoked or text in self.replaced or self.ends[text] <= self.clock.now
            return multiple()
        assert text not in self.revoked | self.replaced
        assert self.ends[text] > self.clock.now
        self.ends[new.text] = float("inf") if new.record.expires_at is None else new.record.expires_at
        self.ends[text] = min(self.ends[text], self.clock.now + grace_s)
        self.replaced.add(text)
        if not grace_s:
            self.revoked.add(text)
        return new.text

    @rule(seconds=some.sampled_from([-200.0, -5.0, 10.0, 61.0]))
    def time_goes_on_or_back(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def who_is_let_in_is_as_the_history_says(self) -> None:
        for text, ends in self.ends.items():
            expected = text not in self.revoked and self.clock.now < ends
            for ring in self.rings:
                assert (ring.check(text) is not None) == expected
                assert (ring.holder(text.split("_")[1]) is not None) == expected

    def teardown(self) -> None:
        for ring in self.rings:
            ring.close()
        self.folder.cleanup()


TestRing = Ring.TestCase
TestRing.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)


# Grants

NAMES = some.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True)
GRANTS = some.lists(
    some.builds(Grant, some.one_of(NAMES, some.just(ALL_WORKSPACES)), some.frozensets(some.sampled_from(Scope))),
    max_size=5,
)


@given(GRANTS, some.sampled_from(Scope), NAMES)
def test_no_grant_reaches_another_workspace(granted: list[Grant], scope: Scope, asked: str) -> None:
    principal = Principal("k", "o", tuple(granted))
    own = [grant for grant in granted if grant.workspace in (asked, ALL_WORKSPACES)]
    assert principal.may(scope, asked) == any(scope in grant.scopes for grant in own)
    assert principal.sees(asked) == any(grant.scopes for grant in own)
    without = Principal("k", "o", tuple(grant for grant in granted if grant not in own))
    assert not without.sees(asked)
    assert not without.may(scope, asked)


@given(GRANTS, some.sampled_from(Scope))
def test_what_is_granted_everywhere_is_granted_everywhere(granted: list[Grant], scope: Scope) -> None:
    principal = Principal("k", "o", tuple(granted))
    everywhere = [grant for grant in granted if grant.workspace == ALL_WORKSPACES]
    assert principal.may(scope) == any(scope in grant.scopes for grant in everywhere)
    assert principal.sees(ALL_WORKSPACES) == any(grant.scopes for grant in everywhere)
    if principal.may(scope):
        assert principal.may(scope, "any")


@settings(max_examples=25, deadline=None)
@given(GRANTS.filter(lambda granted: granted and all(grant.scopes for grant in granted)))
def test_grants_come_out_of_the_store_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, granted: list[Grant]
) -> None:
    path = tmp_path_factory.mktemp("ring") / store.FILE
    ring = KeyRing(path)
    text = ring.create("a", granted).text
    ring.close()
    again = KeyRing(path)
    found = again.check(text)
    again.close()
    assert found is not None
    assert found.grants == tuple(granted)


@pytest.mark.parametrize(
    ("scopes", "workspaces", "expected"),
    [
        (["read"], [], {"*": {"read"}}),
        (["read", "ingest"], ["a"], {"a": {"read", "ingest"}}),
        (["read"], ["a", "b:admin"], {"a": {"read"}, "b": {"admin"}}),
        ([], ["a:read,ingest"], {"a": {"read", "ingest"}}),
        (["read"], ["a", "a:ingest"], {"a": {"read", "ingest"}}),
        (["read"], ["*"], {"*": {"read"}}),
    ],
)
def test_grants_are_read_as_they_are_typed(
    scopes: list[str], workspaces: list[str], expected: dict[str, set[str]]
) -> None:
    assert {grant.workspace: set(grant.scopes) for grant in grants_of(scopes, workspaces)} == expected


@pytest.mark.parametrize(
    ("scopes", "workspaces"),
    [
        ([], []),
        ([], ["a"]),
        (["read"], ["a:ingest"]),  # no workspace would take the shared scope
        (["fly"], ["a"]),
        (["read"], ["../a"]),
        (["read"], ["A"]),
        (["read"], [""]),
        ([], ["a:"]),
        ([], ["a:read,"]),
        ([], [":read"]),
    ],
)
def test_grants_that_make_no_sense_are_refused(scopes: list[str], workspaces: list[str]) -> None:
    with pytest.raises(AccessError):
        grants_of(scopes, workspaces)


def test_a_name_of_an_owner_is_kept_without_the_space_around_it() -> None:
    assert owner_of("  Zoë  ") == "Zoë"


# The command

Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([*arguments, "--data", str(tmp_path / "data")])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_the_command_makes_lists_rotates_and_revokes_keys(shell: Shell, tmp_path: Path) -> None:
    code, out, _ = shell("keys", "list")
    assert (code, "no key yet" in out) == (1, True)
    assert not (tmp_path / "data").exists(), "looking makes nothing"

    code, out, _ = shell("keys", "create", "--owner", "ci", "--workspace", "a", "--expires", "90d", "--json")
    assert code == 0
    made = json.loads(out)
    assert made["grants"] == [{"workspace": "a", "scopes": ["read"]}]
    ring = KeyRing(tmp_path / "data" / store.FILE)
    assert ring.check(made["key"])

    code, out, _ = shell("keys", "list")
    assert code == 0
    assert f"{made['key_id']}  active   ci: read in a; last used" in out
    assert made["key"] not in out

    code, out, _ = shell("keys", "rotate", made["key_id"], "--grace", "1h", "--json")
    assert code == 0
    second = json.loads(out)
    assert ring.check(made["key"])
    assert ring.check(second["key"])

    code, out, _ = shell("keys", "revoke", made["key_id"])
    assert code == 0
    assert ring.check(made["key"]) is None, "in the process that runs, and at once"
    ring.close()

    code, out, _ = shell("keys", "list", "--json")
    states = {entry["key_id"]: entry["state"] for entry in json.loads(out)["keys"]}
    assert states == {made["key_id"]: "revoked", second["key_id"]: "active"}

    code, out, _ = shell("audit", "show", "--json")
    told = [(entry["action"], entry["who"]) for entry in json.loads(out)["entries"]]
    assert told == [("key.revoke", "terminal"), ("key.rotate", "terminal"), ("key.create", "terminal")]
    assert made["key"][-20:] not in out


def test_the_text_of_a_new_key_says_what_it_may_do(shell: Shell) -> None:
    code, out, _ = shell("keys", "create", "--owner", "ci", "-w", "a:read,ingest", "-w", "b", "--scope", "execute")
    assert code == 0
    first, text, warning = out.splitlines()
    assert first.endswith("for ci: ingest, read in a; execute in b")
    assert keys.read(text)
    assert "shown this once" in warning


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("keys", "create", "--owner", "x", "--scope", "fly"), "'fly' is no scope."),
        (("keys", "create", "--owner", "x", "--expires", "soon"), "'soon' is no time."),
        (("keys", "create", "--owner", "x", "--expires", "1999-01-01"), "would have expired already"),
        (("keys", "--workspace", "a", "create", "--owner", "x"), "stands behind the action"),
        (("keys", "revoke", "nobody"), "There is no such key"),
        (("keys", "rotate", "nobody"), "There is no such key"),
        (("keys", "rotate", "nobody", "--grace", "long"), "'long' is no length of time."),
        (("approve", "nothing"), "There is no such request"),
    ],
)
def test_what_is_asked_wrongly_is_one_sentence_and_a_way_out(
    arguments: tuple[str, ...], sentence: str, shell: Shell
) -> None:
    code, out, err = shell(*arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 2
