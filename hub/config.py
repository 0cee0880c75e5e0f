"""Settings: defaults, then ``codehub.toml``, then ``CODEHUB_*`` variables, then flags. Owns the environment.

Every setting is one row of ``SETTINGS``; a name that stands in no row is an error, so that a misspelt setting is never
ignored.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import platformdirs

from hub.errors import SettingsError

SETTINGS_FILE = "codehub.toml"
_LAST_PORT = 65_535
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,9})?")


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings as meant. Sizes are in the unit of their name; an empty string or 0 means "choose yourself"."""

    data: Path
    backend: str = "auto"  # auto | ollama | embedded | llama-server | openai | none
    ollama_host: str = "http://127.0.0.1:11434"  # or any form that OLLAMA_HOST may have
    ollama_model: str = ""
    ollama_context: int = 16_384  # tokens; a change makes Ollama load the model again
    llama_server_url: str = ""
    llama_server_key: str = field(default="", repr=False)
    openai_url: str = ""  # of vLLM, LM Studio or the like
    openai_model: str = ""
    openai_key: str = field(default="", repr=False)
    embedded_model: str = ""  # path of a GGUF file
    vectors: str = "embedded"  # embedded | the URL of a Chroma server
    use_server: bool = True  # a command asks a server that runs on the same data folder
    embeddings: str = "static"  # static | minilm | ollama:MODEL | none; the latter two come beside the static ones
    prompt_tokens: int = 0
    answer_tokens: int = 768
    ask_probe: bool = False  # a model is asked apart, too, whether its evidence answers the question
    ask_policy: str = "balanced"  # fast | balanced | exhaustive: what a better answer is worth against waiting for it
    wide_tokens: int = 0
    focus_tokens: int = 0
    analysis_tokens: int = 1_000_000  # of all prompts of one analysis
    analysis_minutes: int = 30  # that one may take
    index_max_megabytes: int = 0  # size of one index; 0 means no bound
    index_max_file_kilobytes: int = 2_048
    index_generated: bool = False
    index_exclude: tuple[str, ...] = ()
    index_workers: int = 0
    index_background: bool = True  # what takes longer than looking words up is left to a process of its own
    history_enabled: bool = True
    history_commits: int = 20_000  # the newest, of which the words and changes are kept
    history_merges: int = 20  # the newest, of which is kept what they changed; 0 keeps none
    compiler_commands: str = "auto"  # auto | none | path of a compile_commands.json
    compiler_seconds: int = 60  # a unit
    compiler_megabytes: int = 2_048  # a process
    watch_enabled: bool = True  # a server keeps the indexes of trees up to date while their files change
    watch_mode: str = "auto"  # auto | polling: whether the kernel is asked to tell of changes
    watch_quiet_milliseconds: int = 100  # without a change until it is looked at
    watch_most_milliseconds: int = 1_000  # however much goes on changing
    watch_poll_seconds: float = 2.0  # between two looks where the kernel tells nothing
    watch_reconcile_minutes: int = 10  # after which everything is looked at, whatever was noticed
    calibration_background: bool = True  # calibrate again what has moved on since, in a process of its own
    retrieval_adapt: bool = True  # rank with the weights that `codehub tune` fitted to the tree, where it did
    # The knobs of hub.capacity.profile, which says what may stand in the texts. None leaves a number to the engine.
    profile_context: int = 0
    profile_k_type: str = "auto"
    profile_v_type: str = "auto"
    profile_flash_attention: str = "auto"
    profile_kv_placement: str = "auto"
    profile_gpu_layers: int | None = None
    profile_ram_experts: str = "auto"
    profile_vram_margin_mib: int | None = None
    profile_prefill_chunk: int = 0
    profile_threads: int = 0
    profile_cpus: str = ""
    profile_cpu_strict: bool = False
    profile_numa: str = "auto"
    profile_yarn_factor: float = 1.0
    profile_yarn_original: int = 0
    profile_swa_full: bool = False
    profile_ram_cache_mib: int | None = None
    profile_chunk_reuse: int | None = None
    profile_checkpoints: int | None = None
    profile_slots_folder: str = ""
    profile_parallel: int = 0
    profile_keep_alive: str = "auto"
    snapshots_gigabytes: int = 32  # of saved prefixes together; 0 keeps none
    # Who reads the whole code base. What is left open is as for the other tiers.
    full_backend: str = "same"  # same | ollama | embedded | llama-server | openai
    full_url: str = ""  # of its server
    full_model: str = ""  # its name, or the path of a GGUF file
    full_context: int = 0  # tokens
    # The server. Lists hold names, addresses or pairs as docs/settings.md says.
    server_host: str = "127.0.0.1"
    server_port: int = 8642  # 0 takes any free one
    server_socket: str = ""  # path; empty: in the data folder
    server_hosts: tuple[str, ...] = ()  # that it may be called by, beside the address it listens at
    server_origins: tuple[str, ...] = ()  # of web pages elsewhere that may call it
    server_proxies: tuple[str, ...] = ()  # addresses of proxies whose word is taken for who calls
    server_tls_certificate: str = ""
    server_tls_key: str = ""
    server_allow_plain: bool = False  # to listen beyond this machine without TLS
    server_streams: int = 128  # answers at once
    server_body_kilobytes: int = 4_096
    server_requests_per_minute: int = 600  # of a key
    server_asks_per_minute: int = 60  # of a key
    server_log: str = "text"  # text | json
    server_metrics: str = "key"  # key | open: who may read /metrics
    webhooks_repositories: tuple[str, ...] = ()  # "owner/name=workspace"
    webhooks_github_secret: str = field(default="", repr=False)
    webhooks_gitlab_token: str = field(default="", repr=False)
    webhooks_gitlab_signing_key: str = field(default="", repr=False)
    secrets_redact: bool = True  # what looks like a key or password is not indexed
    secrets_allow: tuple[str, ...] = ()  # gitignore patterns of files that are taken as they are
    agents_mode: str = "ask"  # read | ask | trusted: whether agents run nothing, what a person lets pass, or recipes
    agents_recipes: str = ""  # a file that says what agents may run; recipes.toml in the data folder where empty
    agents_disabled: tuple[str, ...] = ()  # tools that no agent sees
    agents_runs: int = 1  # builds and tests at once
    agents_seconds: int = 600  # of one run, and so are the four that follow
    agents_memory_megabytes: int = 4_096
    agents_processes: int = 256
    agents_disk_megabytes: int = 4_096
    agents_output_kilobytes: int = 256  # kept of it, half from its beginning and half from its end
    agents_cache: bool = True  # builds of a workspace share what ccache keeps
    agents_session_hours: int = 24  # that results and notes of one task are kept
    knowledge_review: str = "other"  # other | none: who accepts what people keep for good


@dataclass(frozen=True, slots=True)
class _Setting:
    """One row: the field, its place in the file, and the values it may take; ``least`` bounds numbers.

    What is ``secret`` is read from the environment alone, so that it gets into no file that is shared.
    """

    field: str
    table: str
    key: str
    choices: tuple[str, ...] = ()
    least: int = 0
    secret: bool = False
    separator: str = os.pathsep  # between the entries of a list in a variable

    @property
    def variable(self) -> str:
        return f"CODEHUB_{self.field.upper()}"

    @property
    def guarded(self) -> bool:
        """Whether it decides where code is sent and kept, or who may do what: then a tree has no say in it."""
        return self.table in _GUARDED_TABLES or self.field in _GUARDED


_GUARDED_TABLES = frozenset({"agents", "knowledge", "server", "webhooks"})
_GUARDED = frozenset(
    {
        *(
            "data",
            "ollama_host",
            "llama_server_url",
            "openai_url",
            "full_url",
            "vectors",
            "embedded_model",
            "full_model",
        ),
        *("secrets_redact", "profile_slots_folder"),
    }
)
_KV_TYPES = ("auto", "f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
SETTINGS = (
    _Setting("data", "", "data"),
    _Setting("backend", "", "backend", ("auto", "ollama", "embedded", "llama-server", "openai", "none")),
    _Setting("ollama_host", "ollama", "host"),
    _Setting("ollama_model", "ollama", "model"),
    _Setting("ollama_context", "ollama", "context", least=1),
    _Setting("llama_server_url", "llama_server", "url"),
    _Setting("llama_server_key", "llama_server", "key", secret=True),
    _Setting("openai_url", "openai", "url"),
    _Setting("openai_model", "openai", "model"),
    _Setting("openai_key", "openai", "key", secret=True),
    _Setting("embedded_model", "embedded", "model"),
    _Setting("vectors", "", "vectors"),
    _Setting("use_server", "", "use_server"),
    _Setting("embeddings", "", "embeddings"),
    _Setting("prompt_tokens", "ask", "prompt_tokens"),
    _Setting("answer_tokens", "ask", "answer_tokens", least=1),
    _Setting("ask_probe", "ask", "probe"),
    _Setting("ask_policy", "ask", "policy", ("fast", "balanced", "exhaustive")),
    _Setting("wide_tokens", "ask", "wide_tokens"),
    _Setting("focus_tokens", "ask", "focus_tokens"),
    _Setting("analysis_tokens", "ask", "analysis_tokens", least=1),
    _Setting("analysis_minutes", "ask", "analysis_minutes", least=1),
    _Setting("index_max_megabytes", "index", "max_megabytes"),
    _Setting("index_max_file_kilobytes", "index", "max_file_kilobytes"),
    _Setting("index_generated", "index", "generated"),
    _Setting("index_exclude", "index", "exclude"),
    _Setting("index_workers", "index", "workers"),
    _Setting("index_background", "index", "background"),
    _Setting("history_enabled", "history", "enabled"),
    _Setting("history_commits", "history", "commits", least=1),
    _Setting("history_merges", "history", "merges"),
    _Setting("compiler_commands", "compiler", "commands"),
    _Setting("compiler_seconds", "compiler", "seconds", least=1),
    _Setting("compiler_megabytes", "compiler", "megabytes", least=64),
    _Setting("watch_enabled", "watch", "enabled"),
    _Setting("watch_mode", "watch", "mode", ("auto", "polling")),
    _Setting("watch_quiet_milliseconds", "watch", "quiet_milliseconds", least=1),
    _Setting("watch_most_milliseconds", "watch", "most_milliseconds", least=1),
    _Setting("watch_poll_seconds", "watch", "poll_seconds"),
    _Setting("watch_reconcile_minutes", "watch", "reconcile_minutes", least=1),
    _Setting("calibration_background", "calibration", "background"),
    _Setting("retrieval_adapt", "retrieval", "adapt"),
    _Setting("profile_context", "profile", "context"),
    _Setting("profile_k_type", "profile", "k_type", _KV_TYPES),
    _Setting("profile_v_type", "profile", "v_type", _KV_TYPES),
    _Setting("profile_flash_attention", "profile", "flash_attention", ("auto", "on", "off")),
    _Setting("profile_kv_placement", "profile", "kv_placement", ("auto", "gpu", "ram")),
    _Setting("profile_gpu_layers", "profile", "gpu_layers"),
    _Setting("profile_ram_experts", "profile", "ram_experts"),
    _Setting("profile_vram_margin_mib", "profile", "vram_margin_mib"),
    _Setting("profile_prefill_chunk", "profile", "prefill_chunk"),
    _Setting("profile_threads", "profile", "threads"),
    _Setting("profile_cpus", "profile", "cpus"),
    _Setting("profile_cpu_strict", "profile", "cpu_strict"),
    _Setting("profile_numa", "profile", "numa", ("auto", "distribute", "isolate", "numactl")),
    _Setting("profile_yarn_factor", "profile", "yarn_factor", least=1),
    _Setting("profile_yarn_original", "profile", "yarn_original"),
    _Setting("profile_swa_full", "profile", "swa_full"),
    _Setting("profile_ram_cache_mib", "profile", "ram_cache_mib"),
    _Setting("profile_chunk_reuse", "profile", "chunk_reuse"),
    _Setting("profile_checkpoints", "profile", "checkpoints"),
    _Setting("profile_slots_folder", "profile", "slots_folder"),
    _Setting("profile_parallel", "profile", "parallel"),
    _Setting("profile_keep_alive", "profile", "keep_alive"),
    _Setting("snapshots_gigabytes", "snapshots", "gigabytes"),
    _Setting("full_backend", "full", "backend", ("same", "ollama", "embedded", "llama-server", "openai")),
    _Setting("full_url", "full", "url"),
    _Setting("full_model", "full", "model"),
    _Setting("full_context", "full", "context"),
    _Setting("server_host", "server", "host"),
    _Setting("server_port", "server", "port"),
    _Setting("server_socket", "server", "socket"),
    _Setting("server_hosts", "server", "hosts", separator=","),
    _Setting("server_origins", "server", "origins", separator=","),
    _Setting("server_proxies", "server", "proxies", separator=","),
    _Setting("server_tls_certificate", "server", "tls_certificate"),
    _Setting("server_tls_key", "server", "tls_key"),
    _Setting("server_allow_plain", "server", "allow_plain"),
    _Setting("server_streams", "server", "streams", least=1),
    _Setting("server_body_kilobytes", "server", "body_kilobytes", least=1),
    _Setting("server_requests_per_minute", "server", "requests_per_minute", least=1),
    _Setting("server_asks_per_minute", "server", "asks_per_minute", least=1),
    _Setting("server_log", "server", "log", ("text", "json")),
    _Setting("server_metrics", "server", "metrics", ("key", "open")),
    _Setting("webhooks_repositories", "webhooks", "repositories", separator=","),
    _Setting("webhooks_github_secret", "webhooks", "github_secret", secret=True),
    _Setting("webhooks_gitlab_token", "webhooks", "gitlab_token", secret=True),
    _Setting("webhooks_gitlab_signing_key", "webhooks", "gitlab_signing_key", secret=True),
    _Setting("secrets_redact", "secrets", "redact"),
    _Setting("secrets_allow", "secrets", "allow"),
    _Setting("agents_mode", "agents", "mode", ("read", "ask", "trusted")),
    _Setting("agents_recipes", "agents", "recipes"),
    _Setting("agents_disabled", "agents", "disabled", separator=","),
    _Setting("agents_runs", "agents", "runs", least=1),
    _Setting("agents_seconds", "agents", "seconds", least=1),
    _Setting("agents_memory_megabytes", "agents", "memory_megabytes", least=64),
    _Setting("agents_processes", "agents", "processes", least=8),
    _Setting("agents_disk_megabytes", "agents", "disk_megabytes", least=16),
    _Setting("agents_output_kilobytes", "agents", "output_kilobytes", least=4),
    _Setting("agents_cache", "agents", "cache"),
    _Setting("agents_session_hours", "agents", "session_hours", least=1),
    _Setting("knowledge_review", "knowledge", "review", ("other", "none")),
)


def load(
    flags: Mapping[str, object], environment: Mapping[str, str] = os.environ, folder: Path | None = None
) -> Settings:
    """Settings from all four places. ``flags`` maps field names to values; None means not given.

    The file is looked for in ``folder`` (the current one by default), then in the user's configuration folder; the
    variable CODEHUB_CONFIG names another. Raises SettingsError.
    """
    values: dict[str, object] = {"data": Path(platformdirs.user_data_dir("codehub", appauthor=False))}
    if host := environment.get("OLLAMA_HOST"):
        values["ollama_host"] = host
    file = _find_file(environment, folder or Path.cwd())
    if file is not None:
        values |= _from_file(file, own=bool(environment.get("CODEHUB_CONFIG")) or file == _own_file())
    known = {setting.variable: setting for setting in SETTINGS}
    for name, text in environment.items():
        if name.startswith("CODEHUB_") and name != "CODEHUB_CONFIG":
            if name not in known:
                raise SettingsError(f"{name} is no setting.", f"Known: {', '.join(sorted(known))}.")
            values[known[name].field] = _parse(known[name], text, name)
    values |= {field: value for field, value in flags.items() if value is not None}
    return _checked(values)


def notify_socket(environment: Mapping[str, str] = os.environ) -> str:
    """Where a service manager waits to be told that a server is ready (sd_notify(3)); "" where none does."""
    return environment.get("NOTIFY_SOCKET", "")


def changed(settings: Settings) -> tuple[str, ...]:
    """The fields that are not as they are without anybody's doing, in their order."""
    untouched = Settings(settings.data)
    return tuple(row.field for row in SETTINGS if getattr(settings, row.field) != getattr(untouched, row.field))


def fingerprint(settings: Settings) -> str:
    """The same for settings with which the same question gets the same answer. Tells none of them."""
    other = (
        "server_",
        "webhooks_",
        "index_",
        "compiler_",
        "history_",
        "secrets_",
        "calibration_",
        "watch_",
        "agents_",
        "knowledge_",
    )
    asked = {"data", "use_server", "ask_policy"}  # where, and what goes with each question
    told = [
        getattr(settings, row.field) for row in SETTINGS if not row.field.startswith(other) and row.field not in asked
    ]
    return blake2b(repr(told).encode(), digest_size=16).hexdigest()


def _checked(values: Mapping[str, object]) -> Settings:
    settings = Settings(**{**values, "data": Path(str(values["data"])).expanduser().absolute()})  # type: ignore[arg-type] # _parse made the types
    for setting in SETTINGS:
        value = getattr(settings, setting.field)
        if setting.choices and value not in setting.choices:
            raise SettingsError(
                f"{setting.field} is {value!r}.",
                f"It may be {', '.join(setting.choices[:-1])} or {setting.choices[-1]}.",
            )
        if isinstance(value, int | float) and not value >= setting.least:
            raise SettingsError(f"{setting.field} is {value}.", f"It must be {setting.least} or more.")
    if settings.vectors != "embedded" and not settings.vectors.startswith(("http://", "https://")):
        raise SettingsError(
            f"vectors is {settings.vectors!r}.", "It may be embedded, or a Chroma server such as http://127.0.0.1:8000."
        )
    if settings.server_port > _LAST_PORT:
        raise SettingsError(f"server_port is {settings.server_port}.", f"It must be {_LAST_PORT} or less.")
    kind, _, model = settings.embeddings.partition(":")
    if settings.embeddings not in {"static", "minilm", "none"} and not (kind == "ollama" and model):
        raise SettingsError(
            f"embeddings is {settings.embeddings!r}.", "It may be static, minilm, ollama:MODEL or none."
        )
    return settings


def _find_file(environment: Mapping[str, str], folder: Path) -> Path | None:
    if named := environment.get("CODEHUB_CONFIG"):
        return Path(named).expanduser()
    candidates = (folder / SETTINGS_FILE, _own_file())
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _own_file() -> Path:
    return Path(platformdirs.user_config_dir("codehub", appauthor=False)) / SETTINGS_FILE


def _from_file(file: Path, *, own: bool) -> dict[str, object]:
    """The settings in it. Where it is not the user's ``own`` it may have come with a tree."""
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}.", "Check CODEHUB_CONFIG.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is no TOML: {error}.", "Mend the line or remove the file.") from None
    known = {(setting.table, setting.key): setting for setting in SETTINGS}
    values: dict[str, object] = {}
    for table, key, value in _leaves(tree):
        where = f"{table}.{key}" if table else key
        if (table, key) not in known:
            raise SettingsError(f"{where} in {file} is no setting.", "See docs/settings.md for all of them.")
        setting = known[table, key]
        if setting.guarded and not setting.secret and not own:
            raise SettingsError(
                f"{where} stands in {file}, which may have come with a tree.",
                f"Write it into your own {_own_file()}, or name this file in CODEHUB_CONFIG if you trust it.",
            )
        if setting.secret:
            raise SettingsError(
                f"{where} stands in {file}.", f"Keys belong in no file that is shared: set {setting.variable} instead."
            )
        values[setting.field] = _typed(setting, value, f"{where} in {file}")
    return values


def _leaves(tree: Mapping[str, object]) -> list[tuple[str, str, object]]:
    leaves: list[tuple[str, str, object]] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves += [(key, inner, leaf) for inner, leaf in value.items()]
        else:
            leaves.append(("", key, value))
    return leaves


def _typed(setting: _Setting, value: object, where: str) -> object:
    default = _kind_of(setting)
    if default is float and type(value) is int:
        return float(value)
    if default == tuple[str, ...] and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if default is Path and isinstance(value, str) and value:
        return Path(value)
    if isinstance(default, type) and type(value) is default:
        return value
    raise SettingsError(f"{where} is {value!r}.", f"It must be {_kind(default)}.")


def _parse(setting: _Setting, text: str, where: str) -> object:
    kind = _kind_of(setting)
    if kind is Path:
        return _typed(setting, text, where)
    if kind is bool:
        if text.lower() not in {"0", "1", "true", "false"}:
            raise SettingsError(f"{where} is {text!r}.", "It must be true or false.")
        return text.lower() in {"1", "true"}
    if kind is int:
        if not text.isdecimal():
            raise SettingsError(f"{where} is {text!r}.", "It must be a whole number.")
        return int(text)
    if kind is float:
        if not _NUMBER.fullmatch(text):
            raise SettingsError(f"{where} is {text!r}.", "It must be a number.")
        return float(text)
    if kind == tuple[str, ...]:
        return tuple(part for part in text.split(setting.separator) if part)
    return text


def _kind_of(setting: _Setting) -> object:
    """The type of a setting's value, where there is one."""
    kind: object = Settings.__dataclass_fields__[setting.field].type
    return int if kind == int | None else kind


def _kind(kind: object) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    return next((words for known, words in names.items() if kind is known), "a list of texts")
