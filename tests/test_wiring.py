"""What the settings put together."""

from dataclasses import replace
from pathlib import Path

import pytest

from hub.config import Settings
from hub.errors import BackendUnavailable, SettingsError, SnapshotError
from hub.wiring import backend, deep_settings, has_deep_backend, snapshots


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data")


def test_one_model_reads_everything_unless_another_is_named(settings: Settings) -> None:
    assert not has_deep_backend(settings)
    assert deep_settings(settings) is settings


@pytest.mark.parametrize(
    ("named", "field", "value"),
    [
        ({"full_backend": "ollama", "full_url": "http://127.0.0.1:11435"}, "ollama_host", "http://127.0.0.1:11435"),
        (
            {"full_backend": "llama-server", "full_url": "http://127.0.0.1:8081"},
            "llama_server_url",
            "http://127.0.0.1:8081",
        ),
        ({"full_backend": "openai", "full_url": "http://127.0.0.1:8000"}, "openai_url", "http://127.0.0.1:8000"),
        ({"full_backend": "ollama", "full_model": "qwen3-coder:30b"}, "ollama_model", "qwen3-coder:30b"),
        ({"full_backend": "embedded", "full_model": "deep.gguf"}, "embedded_model", "deep.gguf"),
        ({"full_backend": "embedded", "full_context": 131_072}, "profile_context", 131_072),
        ({"backend": "openai", "full_model": "deep"}, "openai_model", "deep"),
    ],
)
def test_who_reads_the_whole_code_base_differs_in_what_is_named_only(
    settings: Settings, named: dict[str, object], field: str, value: object
) -> None:
    daily = replace(settings, **named)  # type: ignore[arg-type] # the values fit their names
    deep = deep_settings(daily)
    assert getattr(deep, field) == value
    assert deep.backend == named.get("full_backend", daily.backend)
    assert replace(deep, backend=daily.backend, **{field: getattr(daily, field)}) == daily  # type: ignore[arg-type] # as above


@pytest.mark.parametrize("kind", ["auto", "ollama"])
def test_two_windows_of_one_model_on_one_ollama_are_refused(settings: Settings, kind: str) -> None:
    with pytest.raises(SettingsError) as refused:
        deep_settings(replace(settings, backend=kind, full_context=262_144))
    assert "full.url" in refused.value.hint


def test_an_address_of_nobody_knows_what_is_refused(settings: Settings) -> None:
    with pytest.raises(SettingsError, match=r"full\.url"):
        deep_settings(replace(settings, full_url="http://127.0.0.1:8081"))


def test_an_index_that_may_only_be_read_keeps_no_states_and_needs_none(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    read_only = replace(settings, data=tmp_path / "file", backend="embedded")
    with pytest.raises(SnapshotError):
        snapshots(read_only)
    try:
        made = backend(read_only)
    except BackendUnavailable as missing:
        pytest.skip(f"needs the embedded llama.cpp: {missing.message}")
    assert not made.capabilities().prefix_files
    made.close()
    with pytest.raises(SnapshotError):  # a folder that was asked for by name is not left out in silence
        backend(replace(read_only, profile_slots_folder=str(tmp_path / "file" / "slots")))


def test_states_lie_where_the_engine_writes_them(settings: Settings, tmp_path: Path) -> None:
    found = snapshots(settings)
    assert found is not None
    assert found.folder == settings.data / "prefixes"
    assert snapshots(replace(settings, snapshots_gigabytes=0)) is None
    elsewhere = replace(settings, backend="llama-server", llama_server_url="http://127.0.0.1:8080")
    assert snapshots(elsewhere) is None  # it was not told to us where that server writes
    named = snapshots(replace(elsewhere, profile_slots_folder=str(tmp_path / "slots")))
    assert named is not None
    assert named.folder == tmp_path / "slots"
