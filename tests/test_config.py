"""Settings: which place wins, what a misspelt name or a wrong type is told, and every row's way through all places."""

import os
from pathlib import Path

import platformdirs
import pytest

from hub.backends import ollama
from hub.backends.ollama.server import Server
from hub.config import SETTINGS, SETTINGS_FILE, Settings, _Setting, load
from hub.errors import BackendUnavailable, SettingsError


def own(folder: Path) -> dict[str, str]:
    """The environment of a user who names the file in there as his."""
    return {"CODEHUB_CONFIG": str(folder / SETTINGS_FILE)}


def written(folder: Path, text: str) -> Path:
    (folder / SETTINGS_FILE).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def no_file_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's configuration folder, empty."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setattr(platformdirs, "user_config_dir", lambda *_, **__: str(home))
    return home


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    settings = load({}, {}, tmp_path)
    assert settings == Settings(data=Path(platformdirs.user_data_dir("codehub", appauthor=False)))
    assert (settings.backend, settings.embeddings, settings.ollama_host) == ("auto", "static", ollama.DEFAULT_HOST)


def test_each_place_overrides_those_before_it(tmp_path: Path) -> None:
    folder = written(tmp_path, 'backend = "none"\n[ask]\nanswer_tokens = 2\nprompt_tokens = 2\n[index]\nworkers = 2\n')
    variables = {"CODEHUB_ANSWER_TOKENS": "3", "CODEHUB_PROMPT_TOKENS": "3", "PATH": "/bin"}
    settings = load({"prompt_tokens": 4, "answer_tokens": None}, variables, folder)
    defaults = load({}, {}, tmp_path.parent)
    assert defaults.index_max_file_kilobytes == settings.index_max_file_kilobytes  # nowhere given
    assert (settings.backend, settings.index_workers) == ("none", 2)  # the file over the defaults
    assert settings.answer_tokens == 3  # a variable over the file; a flag that is None is not given
    assert settings.prompt_tokens == 4  # a flag over all


VALUES: dict[str, tuple[str, str, object]] = {  # field: as in the file, as in a variable, as meant
    "data": ('"/srv/hub"', "/srv/hub", Path("/srv/hub")),
    "backend": ('"llama-server"', "llama-server", "llama-server"),
    "ollama_host": ('"gpu:11434"', "gpu:11434", "gpu:11434"),
    "ollama_model": ('"coder"', "coder", "coder"),
    "ollama_context": ("8_192", "8192", 8192),
    "llama_server_url": ('"http://gpu:8080"', "http://gpu:8080", "http://gpu:8080"),
    "llama_server_key": ("", "secret", "secret"),
    "openai_url": ('"http://gpu:8000/v1"', "http://gpu:8000/v1", "http://gpu:8000/v1"),
    "openai_model": ('"qwen"', "qwen", "qwen"),
    "openai_key": ("", "secret", "secret"),
    "embedded_model": ('"m.gguf"', "m.gguf", "m.gguf"),
    "vectors": ('"http://gpu:8000"', "http://gpu:8000", "http://gpu:8000"),
    "use_server": ("false", "0", False),
    "embeddings": ('"ollama:nomic"', "ollama:nomic", "ollama:nomic"),
    "prompt_tokens": ("9000", "9000", 9000),
    "answer_tokens": ("99", "99", 99),
    "ask_probe": ("true", "true", True),
    "ask_policy": ('"fast"', "fast", "fast"),
    "wide_tokens": ("4096", "4096", 4096),
    "focus_tokens": ("6144", "6144", 6144),
    "analysis_tokens": ("50_000", "50000", 50_000),
    "analysis_minutes": ("5", "5", 5),
    "index_max_megabytes": ("7", "7", 7),
    "index_max_file_kilobytes": ("7", "7", 7),
    "index_generated": ("true", "1", True),
    "index_exclude": ('["a/*", "b"]', f"a/*{os.pathsep}b", ("a/*", "b")),
    "index_workers": ("3", "3", 3),
    "index_background": ("false", "0", False),
    "history_enabled": ("false", "0", False),
    "history_commits": ("500", "500", 500),
    "history_merges": ("5", "5", 5),
    "compiler_commands": ('"none"', "none", "none"),
    "compiler_seconds": ("7", "7", 7),
    "compiler_megabytes": ("512", "512", 512),
    "watch_enabled": ("false", "0", False),
    "watch_mode": ('"polling"', "polling", "polling"),
    "watch_quiet_milliseconds": ("50", "50", 50),
    "watch_most_milliseconds": ("500", "500", 500),
    "watch_poll_seconds": ("0.5", "0.5", 0.5),
    "watch_reconcile_minutes": ("5", "5", 5),
    "calibration_background": ("false", "0", False),
    "retrieval_adapt": ("false", "0", False),
    "profile_context": ("131_072", "131072", 131_072),
    "profile_k_type": ('"q8_0"', "q8_0", "q8_0"),
    "profile_v_type": ('"bf16"', "bf16", "bf16"),
    "profile_flash_attention": ('"on"', "on", "on"),
    "profile_kv_placement": ('"ram"', "ram", "ram"),
    "profile_gpu_layers": ("0", "0", 0),
    "profile_ram_experts": ('"fit"', "fit", "fit"),
    "profile_vram_margin_mib": ("512", "512", 512),
    "profile_prefill_chunk": ("1024", "1024", 1024),
    "profile_threads": ("8", "8", 8),
    "profile_cpus": ('"0-3"', "0-3", "0-3"),
    "profile_cpu_strict": ("true", "true", True),
    "profile_numa": ('"isolate"', "isolate", "isolate"),
    "profile_yarn_factor": ("2.5", "2.5", 2.5),
    "profile_yarn_original": ("4096", "4096", 4096),
    "profile_swa_full": ("true", "1", True),
    "profile_ram_cache_mib": ("0", "0", 0),
    "profile_chunk_reuse": ("256", "256", 256),
    "profile_checkpoints": ("8", "8", 8),
    "profile_slots_folder": ('"/srv/slots"', "/srv/slots", "/srv/slots"),
    "profile_parallel": ("2", "2", 2),
    "profile_keep_alive": ('"30m"', "30m", "30m"),
    "snapshots_gigabytes": ("8", "8", 8),
    "full_backend": ('"llama-server"', "llama-server", "llama-server"),
    "full_url": ('"http://127.0.0.1:8081"', "http://127.0.0.1:8081", "http://127.0.0.1:8081"),
    "full_model": ('"deep"', "deep", "deep"),
    "full_context": ("262144", "262144", 262_144),
    "server_host": ('"10.0.0.1"', "10.0.0.1", "10.0.0.1"),
    "server_port": ("9000", "9000", 9000),
    "server_socket": ('"/run/hub"', "/run/hub", "/run/hub"),
    "server_hosts": ('["hub.example"]', "hub.example", ("hub.example",)),
    "server_origins": ('["https://a", "b"]', "https://a,b", ("https://a", "b")),
    "server_proxies": ('["10.0.0.2"]', "10.0.0.2", ("10.0.0.2",)),
    "server_tls_certificate": ('"c.pem"', "c.pem", "c.pem"),
    "server_tls_key": ('"k.pem"', "k.pem", "k.pem"),
    "server_allow_plain": ("true", "1", True),
    "server_streams": ("5", "5", 5),
    "server_body_kilobytes": ("64", "64", 64),
    "server_requests_per_minute": ("7", "7", 7),
    "server_asks_per_minute": ("8", "8", 8),
    "server_log": ('"json"', "json", "json"),
    "server_metrics": ('"open"', "open", "open"),
    "webhooks_repositories": ('["a/b=c"]', "a/b=c", ("a/b=c",)),
    "webhooks_github_secret": ("", "secret", "secret"),
    "webhooks_gitlab_token": ("", "secret", "secret"),
    "webhooks_gitlab_signing_key": ("", "secret", "secret"),
    "secrets_redact": ("false", "0", False),
    "secrets_allow": ('["a", "b/"]', f"a{os.pathsep}b/", ("a", "b/")),
    "agents_mode": ('"read"', "read", "read"),
    "agents_recipes": ('"/etc/recipes.toml"', "/etc/recipes.toml", "/etc/recipes.toml"),
    "agents_disabled": ('["run", "remember"]', "run,remember", ("run", "remember")),
    "agents_runs": ("2", "2", 2),
    "agents_seconds": ("60", "60", 60),
    "agents_memory_megabytes": ("512", "512", 512),
    "agents_processes": ("64", "64", 64),
    "agents_disk_megabytes": ("128", "128", 128),
    "agents_output_kilobytes": ("32", "32", 32),
    "agents_cache": ("false", "0", False),
    "agents_session_hours": ("2", "2", 2),
    "knowledge_review": ('"none"', "none", "none"),
}


def test_every_setting_stands_in_one_row() -> None:
    assert [row.field for row in SETTINGS] == list(Settings.__dataclass_fields__) == list(VALUES)
    assert len({(row.table, row.key) for row in SETTINGS}) == len(SETTINGS)


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.field)
def test_a_setting_can_be_given_in_the_file_and_as_a_variable(row: _Setting, tmp_path: Path) -> None:
    in_file, in_variable, meant = VALUES[row.field]
    heading = f"[{row.table}]\n" if row.table else ""
    from_variable = load({}, {row.variable: in_variable}, tmp_path.parent)
    assert getattr(from_variable, row.field) == meant
    if not row.secret:
        from_file = load({}, own(written(tmp_path, f"{heading}{row.key} = {in_file}\n")), tmp_path.parent)
        assert getattr(from_file, row.field) == meant
    assert meant != getattr(load({}, {}, tmp_path.parent), row.field)


@pytest.mark.parametrize("row", [row for row in SETTINGS if row.guarded and not row.secret], ids=lambda row: row.field)
def test_where_code_goes_and_who_may_act_is_not_taken_from_a_file_that_may_have_come_with_a_tree(
    row: _Setting, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="may have come with a tree") as refusal:
        load(
            {},
            {},
            written(tmp_path, (f"[{row.table}]\n" if row.table else "") + f"{row.key} = {VALUES[row.field][0]}\n"),
        )
    assert "CODEHUB_CONFIG" in refusal.value.hint


@pytest.mark.parametrize("row", [row for row in SETTINGS if row.secret], ids=lambda row: row.field)
def test_a_key_is_not_taken_from_a_file_and_shown_nowhere(row: _Setting, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="stands in") as refusal:
        load({}, {}, written(tmp_path, f"[{row.table}]\n{row.key} = 'open sesame'\n"))
    assert row.variable in refusal.value.hint
    assert "sesame" not in refusal.value.message + refusal.value.hint
    assert "sesame" not in repr(load({}, {row.variable: "open sesame"}, tmp_path.parent))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('bakend = "none"', "bakend"),
        ("[ollama]\nmodle = 'x'", "ollama.modle"),
        ("[olama]\nmodel = 'x'", "olama.model"),
        ("[backend]\nname = 'x'", "backend.name"),
        ("[index.deep]\nworkers = 2", "index.deep"),
        ("host = 'x'", "host"),
    ],
)
def test_an_unknown_name_in_the_file_is_an_error_that_names_it(text: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refusal:
        load({}, {}, written(tmp_path, text))
    assert refusal.value.message == f"{name} in {tmp_path / SETTINGS_FILE} is no setting."
    assert refusal.value.hint


def test_an_unknown_variable_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(SettingsError, match=r"^CODEHUB_BAKEND is no setting\.$") as refusal:
        load({}, {"CODEHUB_BAKEND": "none"})
    assert all(row.variable in refusal.value.hint for row in SETTINGS)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[ask]\nanswer_tokens = '9'", "It must be a whole number."),
        ("[ask]\nanswer_tokens = 9.5", "It must be a whole number."),
        ("[ask]\nanswer_tokens = true", "It must be a whole number."),
        ("[ask]\nanswer_tokens = -1", "It must be 1 or more."),
        ("[ask]\nanswer_tokens = 0", "It must be 1 or more."),
        ("[ask]\nprompt_tokens = -1", "It must be 0 or more."),
        ("[index]\ngenerated = 1", "It must be true or false."),
        ("[index]\nexclude = 'a'", "It must be a list of texts."),
        ("[index]\nexclude = [1]", "It must be a list of texts."),
        ("backend = 1", "It must be text."),
        ("data = 1", "It must be a path."),
        ("data = ''", "It must be a path."),
        ("backend = 'gpt'", "It may be auto, ollama, embedded, llama-server, openai or none."),
        ("embeddings = 'ollama:'", "It may be static, minilm, ollama:MODEL or none."),
        ("embeddings = 'ollama'", "It may be static, minilm, ollama:MODEL or none."),
        ("[profile]\nyarn_factor = 0.5", "It must be 1 or more."),
        ("[profile]\nyarn_factor = nan", "It must be 1 or more."),
        ("[profile]\nyarn_factor = 'x'", "It must be a number."),
        ("[profile]\ngpu_layers = -1", "It must be 0 or more."),
        ("[profile]\ngpu_layers = 1.5", "It must be a whole number."),
        ("[profile]\nflash_attention = 'yes'", "It may be auto, on or off."),
        ("embeddings = 'bert'", "It may be static, minilm, ollama:MODEL or none."),
    ],
)
def test_a_value_of_the_wrong_kind_in_the_file_is_told_what_it_must_be(text: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refusal:
        load({}, own(written(tmp_path, text)))
    assert refusal.value.hint == hint
    assert " is " in refusal.value.message


@pytest.mark.parametrize(
    ("variable", "text", "hint"),
    [
        ("CODEHUB_ANSWER_TOKENS", "many", "It must be a whole number."),
        ("CODEHUB_ANSWER_TOKENS", "", "It must be a whole number."),
        ("CODEHUB_ANSWER_TOKENS", "0", "It must be 1 or more."),
        ("CODEHUB_INDEX_GENERATED", "maybe", "It must be true or false."),
        ("CODEHUB_DATA", "", "It must be a path."),
        ("CODEHUB_PROFILE_GPU_LAYERS", "all", "It must be a whole number."),
        ("CODEHUB_PROFILE_YARN_FACTOR", "-2", "It must be a number."),
        ("CODEHUB_PROFILE_YARN_FACTOR", "inf", "It must be a number."),
        ("CODEHUB_BACKEND", "", "It may be auto, ollama, embedded, llama-server, openai or none."),
    ],
)
def test_a_value_of_the_wrong_kind_in_a_variable_is_told_what_it_must_be(variable: str, text: str, hint: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        load({}, {variable: text})
    assert refusal.value.hint == hint


@pytest.mark.parametrize("flags", [{"backend": "gpt"}, {"prompt_tokens": -1}])
def test_flags_are_checked_as_well(flags: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        load(flags, {})


@pytest.mark.parametrize("content", [b"backend = ", b"\xff\xfe", b"[ask\n"])
def test_a_file_that_is_no_toml_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / SETTINGS_FILE).write_bytes(content)
    with pytest.raises(SettingsError, match="is no TOML"):
        load({}, {}, tmp_path)


def test_the_file_is_looked_for_where_a_variable_says_then_here_then_with_the_user(
    tmp_path: Path, no_file_of_the_user: Path
) -> None:
    written(no_file_of_the_user, "[index]\nworkers = 1")
    assert load({}, {}, tmp_path).index_workers == 1
    written(tmp_path, "[index]\nworkers = 2")
    assert load({}, {}, tmp_path).index_workers == 2
    named = tmp_path / "other.toml"
    named.write_text("[index]\nworkers = 3", encoding="utf-8")
    assert load({}, {"CODEHUB_CONFIG": str(named)}, tmp_path).index_workers == 3
    with pytest.raises(SettingsError, match="cannot be read") as refusal:
        load({}, {"CODEHUB_CONFIG": str(tmp_path / "absent.toml")}, tmp_path)
    assert "CODEHUB_CONFIG" in refusal.value.hint


def test_a_home_folder_is_expanded(tmp_path: Path) -> None:
    assert load({"data": Path("~/hub")}, {}, tmp_path).data == Path.home() / "hub"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1:11500", "http://127.0.0.1:11500"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("gpu.lan", "http://gpu.lan:11434"),
        ("http://gpu.lan", "http://gpu.lan:80"),
        ("https://gpu.lan/", "https://gpu.lan:443"),
        ("https://gpu.lan:9000/ollama", "https://gpu.lan:9000/ollama"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("[::]", "http://[::1]:11434"),
        (":8000", "http://127.0.0.1:8000"),
    ],
)
def test_ollamas_own_variable_is_understood_in_all_its_forms(host: str, address: str, tmp_path: Path) -> None:
    assert Server(load({}, {"OLLAMA_HOST": host}, tmp_path).ollama_host).address == address


def test_our_own_settings_go_before_ollamas_variable(tmp_path: Path) -> None:
    variables = {"OLLAMA_HOST": "one", "CODEHUB_OLLAMA_HOST": "two"}
    assert load({}, variables, tmp_path).ollama_host == "two"
    assert load({}, {"OLLAMA_HOST": "one"} | own(written(tmp_path, "[ollama]\nhost = 'three'"))).ollama_host == "three"
    assert load({}, {"OLLAMA_HOST": ""}, tmp_path.parent).ollama_host == ollama.DEFAULT_HOST


def test_a_host_that_is_no_address_costs_the_model_and_not_the_settings(tmp_path: Path) -> None:
    settings = load({}, {"OLLAMA_HOST": "http://gpu:port"}, tmp_path)
    with pytest.raises(BackendUnavailable, match="is not an address"):
        ollama.find(settings.ollama_host)


def test_every_setting_stands_in_the_page_of_settings_with_its_default() -> None:
    page = (Path(__file__).parent.parent / "docs" / "settings.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if "` | `CODEHUB_" in line]
    rows = {line.split("|")[2].strip(" `"): line for line in lines}
    assert rows.keys() == {setting.variable for setting in SETTINGS}
    for setting in SETTINGS:
        default = getattr(Settings(data=Path()), setting.field)
        if default not in (Path(), "", 0, (), None):
            shown = str(default).lower() if isinstance(default, bool) else str(default)
            assert shown in rows[setting.variable], setting.field
