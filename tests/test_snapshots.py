"""Saved prefixes: what an engine is handed is what was saved, and the folder stays within its bounds."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hub.errors import BackendError, SnapshotError
from hub.fullload.snapshots import KEPT_FREE, STALE_S, Kept, Snapshots, key_of
from hub.fullload.warming import LEAST_REUSED, How, warm
from hub.model import (
    BackendInfo,
    Capabilities,
    Completion,
    GenerationOptions,
    Prefill,
    PrefixState,
    Prompt,
    Streamed,
    Timings,
    TokenLogprob,
    Usage,
)

MADE = "llama.cpp b1, model 8c2e06, k q8_0 v q8_0, yarn 1 0, chatml"
OPTIONS = GenerationOptions()


class Engine:
    """Writes and reads states as llama.cpp does: into its folder, by file name, and dies of a state cut short."""

    def __init__(self, folder: Path, size: int = 1000) -> None:
        self.folder = folder
        self.size = size
        self.read: list[bytes] = []

    def state(self, key: str) -> bytes:
        """What is written for a key, as many bytes as asked."""
        return (key.encode() * (self.size // len(key) + 1))[: self.size]

    def save_of(self, key: str, *, dies: bool = False, full: bool = False) -> Callable[[str], PrefixState]:
        def save(name: str) -> PrefixState:
            content = self.state(key)
            (self.folder / name).write_bytes(content[: len(content) // 2] if dies or full else content)
            if dies:
                raise BackendError("The server died.")
            return PrefixState(len(content) // 10, len(content), 0.1)

        return save

    def load(self, name: str) -> PrefixState:
        content = (self.folder / name).read_bytes()
        self.read.append(content)
        return PrefixState(len(content) // 10, len(content), 0.1)


def store(folder: Path, quota: int = 10_000, free: int = KEPT_FREE * 2) -> Snapshots:
    return Snapshots(folder, quota, free=lambda _path: free)


def key(prefix: str) -> str:
    return key_of(MADE, prefix)


def put(snapshots: Snapshots, engine: Engine, prefix: str) -> None:
    snapshots.keep(MADE, prefix, engine.save_of(key(prefix)), label=prefix)


def restore(snapshots: Snapshots, engine: Engine, prefix: str) -> Kept | None:
    kept = snapshots.find(MADE, prefix)
    if kept:
        snapshots.restore(kept, engine.load)
    return kept


def test_a_state_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    snapshots, engine = store(tmp_path), Engine(tmp_path)
    put(snapshots, engine, "base")
    kept = restore(snapshots, engine, "base")
    assert kept is not None
    assert (kept.tokens, kept.bytes, kept.label) == (100, 1000, "base")
    assert engine.read == [engine.state(key("base"))]


def test_a_state_is_found_by_another_process_that_looks_later(tmp_path: Path) -> None:
    put(store(tmp_path), Engine(tmp_path), "base")
    assert store(tmp_path).find(MADE, "base") is not None


@given(st.text(), st.text(), st.text(), st.text())
def test_whatever_a_state_depends_on_is_part_of_its_name(made: str, prefix: str, other: str, another: str) -> None:
    assert (key_of(made, prefix) == key_of(other, another)) == ((made, prefix) == (other, another))
    assert key_of(made + other, another) != key_of(made, other + another) or not other


@given(st.lists(st.text("ab", max_size=4), max_size=4), st.text("ab", max_size=6))
def test_the_longest_beginning_that_is_kept_is_found(
    tmp_path_factory: pytest.TempPathFactory, kept: list[str], prefix: str
) -> None:
    folder = tmp_path_factory.mktemp("states")
    snapshots, engine = store(folder, 1 << 20), Engine(folder)
    for beginning in kept:
        put(snapshots, engine, beginning)
    snapshots.keep("another make", prefix, engine.save_of(key(prefix)))
    found = snapshots.find(MADE, prefix)
    beginnings = [beginning for beginning in kept if prefix.startswith(beginning)]
    assert (found.label if found else None) == max(beginnings, key=len, default=None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(damage=st.data())
def test_a_damaged_state_never_reaches_the_engine(tmp_path: Path, damage: st.DataObject) -> None:
    folder = tmp_path / str(os.urandom(6).hex())
    snapshots, engine = store(folder), Engine(folder)
    put(snapshots, engine, "base")
    whole = engine.state(key("base"))
    state = folder / f"{key('base')}.kv"
    kind = damage.draw(st.sampled_from(["cut", "longer", "bit", "gone", "empty"]))
    if kind == "cut":
        state.write_bytes(whole[: damage.draw(st.integers(0, len(whole) - 1))])
    elif kind == "longer":
        state.write_bytes(whole + damage.draw(st.binary(min_size=1, max_size=9)))
    elif kind == "bit":
        place, bit = damage.draw(st.integers(0, len(whole) - 1)), damage.draw(st.integers(0, 7))
        state.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
    elif kind == "gone":
        state.unlink()
    else:
        state.write_bytes(b"")
    with suppress(SnapshotError):
        assert restore(snapshots, engine, "base") is None
    assert engine.read == []
    assert restore(snapshots, engine, "base") is None  # it is not tried again
    put(snapshots, engine, "base")
    assert restore(snapshots, engine, "base") is not None


@pytest.mark.parametrize(
    "sheet",
    [b"", b"{", b"[]", b'{"version": 1}', b'{"version": 99}', b"\xff\xfe", b'{"version": 1, "made": {"engine": 3}}'],
)
def test_a_damaged_sheet_makes_its_state_count_for_nothing(tmp_path: Path, sheet: bytes) -> None:
    snapshots, engine = store(tmp_path), Engine(tmp_path)
    put(snapshots, engine, "base")
    (tmp_path / f"{key('base')}.json").write_bytes(sheet)
    assert snapshots.kept() == []
    assert restore(snapshots, engine, "base") is None
    put(snapshots, engine, "base")
    assert [kept.label for kept in snapshots.kept()] == ["base"]


def test_a_state_that_was_renamed_is_not_taken_for_another(tmp_path: Path) -> None:
    snapshots, engine = store(tmp_path), Engine(tmp_path)
    put(snapshots, engine, "base")
    for ending in (".kv", ".json"):
        shutil.copy(tmp_path / f"{key('base')}{ending}", tmp_path / f"{key('other')}{ending}")
    assert restore(snapshots, engine, "other") is None


@pytest.mark.parametrize("way", ["dies", "full"])
def test_a_save_that_fails_leaves_nothing_behind(tmp_path: Path, way: str) -> None:
    snapshots, engine = store(tmp_path), Engine(tmp_path)
    save = engine.save_of(key("base"), **{way: True})
    with pytest.raises((BackendError, SnapshotError)):
        snapshots.keep(MADE, "base", save)
    assert list(tmp_path.iterdir()) == []
    assert snapshots.find(MADE, "base") is None


def test_a_state_that_the_engine_refuses_is_removed_and_its_reason_told(tmp_path: Path) -> None:
    snapshots, engine = store(tmp_path), Engine(tmp_path)
    put(snapshots, engine, "base")

    def refuse(_name: str) -> PrefixState:
        raise BackendError("Another KV type.")

    kept = snapshots.find(MADE, "base")
    assert kept is not None
    with pytest.raises(BackendError, match="Another KV type"):
        snapshots.restore(kept, refuse)
    assert snapshots.kept() == []


def test_a_state_larger_than_the_quota_is_refused_before_it_is_written(tmp_path: Path) -> None:
    snapshots, engine = store(tmp_path, quota=1_500), Engine(tmp_path)
    put(snapshots, engine, "base")  # 250 bytes a character
    with pytest.raises(SnapshotError, match="may take"):
        snapshots.keep(MADE, "base and more", engine.load)
    assert engine.read == []


def test_a_state_that_turns_out_larger_than_the_quota_is_not_kept(tmp_path: Path) -> None:
    snapshots, engine = store(tmp_path, quota=999), Engine(tmp_path)
    with pytest.raises(SnapshotError, match="may take"):
        put(snapshots, engine, "base")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_before_anything_is_written(tmp_path: Path) -> None:
    snapshots, engine = store(tmp_path, free=KEPT_FREE - 1), Engine(tmp_path)
    with pytest.raises(SnapshotError, match="too little"):
        put(snapshots, engine, "base")
    assert list(tmp_path.iterdir()) == []


def test_what_was_used_last_stays(tmp_path: Path) -> None:
    snapshots, engine = store(tmp_path, quota=2_500), Engine(tmp_path)
    for age, prefix in ((300, "old"), (200, "mid")):
        put(snapshots, engine, prefix)
        sheet = tmp_path / f"{key(prefix)}.json"
        os.utime(sheet, (sheet.stat().st_mtime - age,) * 2)
    restore(snapshots, engine, "old")
    put(snapshots, engine, "new")
    assert {kept.label for kept in snapshots.kept()} == {"old", "new"}


def test_what_died_half_way_is_swept_up_once_it_is_old(tmp_path: Path) -> None:
    put(store(tmp_path), Engine(tmp_path), "base")
    for name in ("a.1.part", "b.kv"):
        path = tmp_path / name
        path.write_bytes(b"half")
        os.utime(path, (path.stat().st_mtime - STALE_S - 1,) * 2)
    (tmp_path / "c.2.part").write_bytes(b"another process is writing this")
    store(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if key("base") not in path.name) == ["c.2.part"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SnapshotError, match="cannot be made"):
        store(tmp_path / "file" / "folder")


def test_the_folder_stays_within_its_quota_and_gives_back_what_was_put_in(tmp_path: Path) -> None:
    class Machine(RuleBasedStateMachine):
        quota = 3_000

        @initialize()
        def start(self) -> None:
            self.folder = tmp_path / os.urandom(6).hex()
            self.engine = Engine(self.folder)
            self.snapshots = store(self.folder, self.quota)
            self.saved: set[str] = set()

        @rule(prefix=st.sampled_from("abcdef"), size=st.integers(1, 3_500))
        def save(self, prefix: str, size: int) -> None:
            self.engine.size = size
            try:
                put(self.snapshots, self.engine, prefix)
            except SnapshotError:
                assert size > self.quota
            else:
                self.saved.add(prefix)

        @rule(prefix=st.sampled_from("abcdef"))
        def take_back(self, prefix: str) -> None:
            before = len(self.engine.read)
            kept = restore(self.snapshots, self.engine, prefix)
            assert len(self.engine.read) == before + (kept is not None)
            if kept:
                assert prefix in self.saved
                assert self.engine.read[-1][:40] == key(prefix).encode()[: kept.bytes]
                assert len(self.engine.read[-1]) == kept.bytes

        @rule(prefix=st.sampled_from("abcdef"))
        def forget(self, prefix: str) -> None:
            self.snapshots.forget(key(prefix))
            assert self.snapshots.find(MADE, prefix) is None

        @rule()
        def begin_again(self) -> None:
            self.snapshots = store(self.folder, self.quota)

        @precondition(lambda self: hasattr(self, "folder"))
        @invariant()
        def within_bounds(self) -> None:
            sizes = [path.stat().st_size for path in self.folder.iterdir() if path.suffix == ".kv"]
            assert sum(sizes) <= self.quota
            assert sum(kept.bytes for kept in self.snapshots.kept()) == sum(sizes)

    run_state_machine_as_test(Machine, settings=settings(max_examples=25, stateful_step_count=20, deadline=None))


class Reader:
    """A backend that knows a prefix or does not: it counts characters, and reuses what it holds from the beginning."""

    def __init__(
        self, folder: Path, *, reuses: bool = True, rope: float = 1.0, made: str = MADE, can: Capabilities | None = None
    ) -> None:
        self.folder = folder
        self.reuses = reuses
        self.made = made
        self.rope = rope  # what its reading of a prefix depends on without its files saying so
        self.read_with = rope
        self.held = ""
        self.can = can or Capabilities(cached_tokens=True, prefix_files=True, progress=True, logprobs=True)
        self.asked: list[GenerationOptions] = []

    def info(self) -> BackendInfo:
        return BackendInfo("reader", "m", 100_000, 50_000)

    def capabilities(self) -> Capabilities:
        return self.can

    def count_tokens(self, text: str) -> int:
        return len(text)

    def stream(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Streamed]:
        self.asked.append(options)
        text = prompt.system + prompt.user
        same = takewhile(lambda pair: pair[0] == pair[1], zip(self.held, text, strict=False))
        cached = sum(1 for _ in same) if self.reuses else 0
        self.held = text
        if options.progress:
            yield Prefill(len(text), len(text), cached)
        yield "x"
        if not cached:
            self.read_with = self.rope
        chance = -0.1 if self.read_with == self.rope else -4.0
        said = (TokenLogprob("x", chance, (("x", chance), ("y", -5.0))),) if options.logprobs else ()
        timings = Timings(prompt_s=(len(text) - cached) / 1000)
        yield Completion("x", Usage(len(text), 1, cached), logprobs=said, timings=timings)

    def identity(self) -> str:
        return self.made

    def save_prefix(self, name: str) -> PrefixState:
        (self.folder / name).write_text(f"{self.read_with}\n{self.held}")
        return PrefixState(len(self.held), (self.folder / name).stat().st_size, 0.0)

    def restore_prefix(self, name: str) -> PrefixState:
        rope, _, self.held = (self.folder / name).read_text().partition("\n")
        self.read_with = float(rope)
        return PrefixState(len(self.held), len(self.held), 0.0)

    def erase_prefix(self) -> None:
        self.held = ""

    def close(self) -> None: ...


def prefix_of(text: str) -> Prompt:
    return Prompt("system", text, (), (), len(text))


BASE = "void f();\n" * 1000


def test_a_prefix_is_read_once_and_then_restored(tmp_path: Path) -> None:
    snapshots = store(tmp_path, quota=1 << 20)
    told: list[Prefill] = []
    first = warm(Reader(tmp_path), prefix_of(BASE), OPTIONS, snapshots=snapshots, tell=told.append)
    assert (first.how, first.cached) == (How.READ, 0)
    assert first.kept is not None
    assert first.kept.prefill_s == pytest.approx(first.tokens / 1000)
    assert [progress.total for progress in told] == [first.tokens]
    restarted = Reader(tmp_path)
    second = warm(restarted, prefix_of(BASE), OPTIONS, snapshots=snapshots)
    assert (second.how, second.cached, second.notes) == (How.RESTORED, second.tokens, ())
    assert all(asked.max_tokens == 1 for asked in restarted.asked)


def test_a_prefix_that_the_engine_still_holds_is_said_to_be_held(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    warm(reader, prefix_of(BASE), OPTIONS)
    assert warm(reader, prefix_of(BASE), OPTIONS).how is How.HELD


def test_a_longer_prefix_begins_with_the_state_of_a_shorter_one(tmp_path: Path) -> None:
    snapshots = store(tmp_path, quota=1 << 20)
    warm(Reader(tmp_path), prefix_of(BASE), OPTIONS, snapshots=snapshots)
    little = prefix_of(BASE + "int g();\n")
    after = warm(Reader(tmp_path), little, OPTIONS, snapshots=snapshots)
    assert after.how is How.RESTORED
    assert after.tokens - (after.cached or 0) == len("int g();\n")
    assert [kept.key for kept in snapshots.kept()] == [key_of(MADE, f"system\0{BASE}")]  # too little to keep anew
    much = prefix_of(BASE + "int g();\n" * 500)
    warm(Reader(tmp_path), much, OPTIONS, snapshots=snapshots)
    assert [kept.key for kept in snapshots.kept()] == [key_of(MADE, f"system\0{much.user}")]  # in the place of the old


def test_an_engine_that_reads_everything_again_is_found_out_once(tmp_path: Path) -> None:
    snapshots = store(tmp_path, quota=1 << 20)
    for _ in range(2):
        found = warm(Reader(tmp_path, reuses=False), prefix_of(BASE), OPTIONS, snapshots=snapshots)
    assert found.how is How.READ
    assert found.kept is None
    assert any("reads everything again" in note for note in found.notes)
    assert snapshots.kept() == []
    later = warm(Reader(tmp_path, reuses=False), prefix_of(BASE), OPTIONS, snapshots=snapshots)
    assert any("reads everything again" in note for note in later.notes)
    assert snapshots.kept() == []
    other = Reader(tmp_path, made="another model")
    assert warm(other, prefix_of(BASE), OPTIONS, snapshots=snapshots).kept is not None
    assert 0 < LEAST_REUSED < 1


def test_a_backend_without_prefix_files_is_only_read_to(tmp_path: Path) -> None:
    reader = Reader(tmp_path, can=Capabilities())
    found = warm(reader, prefix_of(BASE), OPTIONS, snapshots=store(tmp_path))
    assert (found.how, found.kept) == (How.READ, None)
    assert list(tmp_path.iterdir()) == []
    assert not reader.asked[0].progress


def test_a_damaged_state_is_a_note_and_the_prefix_is_read(tmp_path: Path) -> None:
    snapshots = store(tmp_path, quota=1 << 20)
    warm(Reader(tmp_path), prefix_of(BASE), OPTIONS, snapshots=snapshots)
    state = next(tmp_path.glob("*.kv"))
    state.write_bytes(state.read_bytes()[:-1] + b"?")
    found = warm(Reader(tmp_path), prefix_of(BASE), OPTIONS, snapshots=snapshots)
    assert (found.how, found.cached) == (How.READ, 0)
    assert any("damaged" in note for note in found.notes)
    assert found.kept is not None


def test_a_state_that_cannot_be_kept_is_a_note_and_the_prefix_is_warm(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    found = warm(reader, prefix_of(BASE), OPTIONS, snapshots=store(tmp_path, quota=10))
    assert found.kept is None
    assert any("not kept on disk" in note for note in found.notes)
    assert reader.held.endswith(BASE)


def test_a_state_that_means_something_else_to_the_engine_now_is_dropped_and_read_again(tmp_path: Path) -> None:
    snapshots = store(tmp_path, quota=1 << 20)
    warm(Reader(tmp_path), prefix_of(BASE), OPTIONS, snapshots=snapshots)
    same = warm(Reader(tmp_path), prefix_of(BASE), OPTIONS, snapshots=snapshots)
    assert same.how is How.RESTORED
    restarted = Reader(tmp_path, rope=4.0)
    found = warm(restarted, prefix_of(BASE), OPTIONS, snapshots=snapshots)
    assert (found.how, found.cached) == (How.READ, 0)
    assert any("RoPE" in note for note in found.notes)
    assert restarted.read_with == 4.0
    assert found.kept is not None
    again = warm(Reader(tmp_path, rope=4.0), prefix_of(BASE), OPTIONS, snapshots=snapshots)
    assert again.how is How.RESTORED
