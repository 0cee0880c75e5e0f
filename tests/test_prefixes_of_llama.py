"""Saved prefixes with the real engine: what is restored is used, and what is not the same is noticed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hub.backends.embedded import EmbeddedBackend
from hub.capacity.model import KvType
from hub.capacity.profile import Profile
from hub.errors import BackendUnavailable
from hub.fullload.snapshots import Snapshots
from hub.fullload.warming import How, Warmth, warm
from hub.model import Completion, GenerationOptions, Prompt
from tests.support.real_llama import model_path, thin_model_path

WINDOW = 1024
OPTIONS = GenerationOptions(max_tokens=16, timeout_s=120)
SYSTEM = "You explain C++."
LINES = [f"int area_{n}(int side) {{ return side * {n}; }}\n" for n in range(24)]
BASE = "".join(LINES)


@contextmanager
def engine(
    folder: Path, *, kv: KvType = KvType.F16, yarn: float = 1.0, model: Path | None = None
) -> Iterator[EmbeddedBackend]:
    try:
        profile = Profile(k_type=kv, v_type=kv, yarn_factor=yarn)
        backend = EmbeddedBackend(
            model or thin_model_path(), context_window=WINDOW, profile=profile, slots_folder=folder
        )
    except BackendUnavailable as missing:
        pytest.skip(f"needs the embedded llama.cpp: {missing.message}")
    try:
        yield backend
    finally:
        backend.close()


def prompt(backend: EmbeddedBackend, user: str) -> Prompt:
    return Prompt(SYSTEM, user, (), (), backend.count_tokens(SYSTEM) + backend.count_tokens(user))


def warmed(backend: EmbeddedBackend, snapshots: Snapshots, text: str = BASE) -> Warmth:
    return warm(backend, prompt(backend, text), OPTIONS, snapshots=snapshots)


def answer(backend: EmbeddedBackend, question: str) -> Completion:
    *_, end = backend.stream(prompt(backend, BASE + question), OPTIONS)
    assert isinstance(end, Completion)
    return end


@pytest.mark.parametrize("kv", [KvType.F16, KvType.Q8_0])
def test_after_a_restart_only_the_question_is_read_and_the_answer_is_the_same(tmp_path: Path, kv: KvType) -> None:
    question = "What does area_3 return?"
    with engine(tmp_path, kv=kv) as backend:
        assert warmed(backend, Snapshots(tmp_path)).how is How.READ
        before = answer(backend, question)
    with engine(tmp_path, kv=kv) as backend:
        found = warmed(backend, Snapshots(tmp_path))
        assert (found.how, found.notes) == (How.RESTORED, ())
        assert found.cached is not None
        assert found.tokens - found.cached <= 16
        after = answer(backend, question)
        assert after.text == before.text
        assert after.usage.cached is not None
        assert after.usage.cached >= found.tokens - 16
    with engine(tmp_path, kv=kv) as backend:
        fresh = answer(backend, question)
        assert (fresh.text, fresh.usage.cached) == (before.text, 0)


def test_a_prefix_that_has_grown_reads_only_what_is_new(tmp_path: Path) -> None:
    with engine(tmp_path) as backend:
        warmed(backend, Snapshots(tmp_path))
    with engine(tmp_path) as backend:
        grown = BASE + "int added() { return 7; }\n"
        found = warmed(backend, Snapshots(tmp_path), grown)
        assert found.how is How.RESTORED
        assert found.cached is not None
        assert found.tokens - found.cached <= backend.count_tokens("int added() { return 7; }\n") + 16


@pytest.mark.parametrize("change", [{"kv": KvType.Q8_0}, {"yarn": 2.0}])
def test_a_state_of_other_settings_is_not_taken(tmp_path: Path, change: dict[str, object]) -> None:
    with engine(tmp_path) as backend:
        warmed(backend, Snapshots(tmp_path))
    with engine(tmp_path, **change) as backend:  # type: ignore[arg-type] # the values fit their names
        found = warmed(backend, Snapshots(tmp_path))
        assert (found.how, found.notes) == (How.READ, ())
    assert len(Snapshots(tmp_path).kept()) == 2


def test_a_state_cut_short_does_not_reach_the_engine_which_it_would_end(tmp_path: Path) -> None:
    with engine(tmp_path) as backend:
        warmed(backend, Snapshots(tmp_path))
        state = next(tmp_path.glob("*.kv"))
        whole = state.read_bytes()
        state.write_bytes(whole[: len(whole) // 2])
        backend.erase_prefix()
        assert warmed(backend, Snapshots(tmp_path)).how is How.READ
        damaged = bytearray(state.read_bytes())
        damaged[len(damaged) // 2] ^= 0xFF
        state.write_bytes(damaged)
        found = warmed(backend, Snapshots(tmp_path))
        assert any("damaged" in note for note in found.notes)
        assert found.kept is not None


def test_a_state_read_under_another_rope_scale_is_found_out_by_what_the_model_would_say(tmp_path: Path) -> None:
    """As with a server elsewhere, whose RoPE settings nobody tells: the identity stays the same.

    What a few layers say does not depend on where a word stands, so that these have all of them and a short text.
    """
    text = "".join(LINES[:8])
    with engine(tmp_path, model=model_path()) as backend:
        warmed(backend, Snapshots(tmp_path), text)
    with engine(tmp_path, yarn=4.0, model=model_path()) as backend:
        (kept,) = Snapshots(tmp_path).kept()
        backend.identity = lambda: kept.made  # type: ignore[method-assign] # nothing tells the two apart
        found = warmed(backend, Snapshots(tmp_path), text)
        assert found.how is How.READ
        assert any("RoPE" in note for note in found.notes)
