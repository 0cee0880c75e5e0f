"""What finds meaning and what writes answers: embedders, the language model, its server, Chroma's server."""

import importlib.util
import json
import re
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from hub import indexing, wiring
from hub.capacity import host
from hub.config import changed
from hub.errors import BackendError, BackendUnavailable, HubError
from hub.health.machine import read_text
from hub.health.model import Checklist, Finding, Grade, Surroundings, failed, fine, warning

# Of Ollama: probabilities with every line, and requests that say when a prompt was cut (docs/ollama.md).
LEAST_OLLAMA = (0, 12, 11)
# Seconds. A server on this machine or next to it answers a question about itself at once. 0.5 to 5.
ANSWER_S = 2.0
# Seconds. One that takes longer is far away, or busy. 0.1 to 2.
SLOW_S = 0.5
MOST_BYTES = 1 << 16  # of an answer that is read

# What lets long contexts fit and stay, with what it is for; docs/profiles.md has the values.
_OLLAMA_VARIABLES = {
    "OLLAMA_FLASH_ATTENTION": "a long context in less memory",
    "OLLAMA_KV_CACHE_TYPE": "a KV cache of half the size",
    "OLLAMA_KEEP_ALIVE": "a model that stays loaded",
    "OLLAMA_NUM_PARALLEL": "users at once, each of which takes its share of the window",
}
_EVERYWHERE = re.compile(r"(?:https?://)?(?:0\.0\.0\.0|\[?::\]?|\*|(?=:))(?::\d+|$|/)")  # ":11434" names no host


def embeddings(around: Surroundings) -> Finding:
    settings = around.settings
    encoder = indexing.encoder_source(settings)
    sources = (*indexing.instant_sources(settings), *((encoder,) if encoder else ()))
    if not sources:
        return warning("embeddings", "switched off", "Search uses text and symbols only.")
    loaded = [source.load() for source in sources]
    return fine("embeddings", "; ".join(f"{each.name}, {each.dimensions} dimensions" for each in loaded))


def language_model(around: Surroundings) -> Finding:
    with closing(wiring.backend(around.settings)) as backend:
        info = backend.info()
    if not info.writes:
        missing = "" if importlib.util.find_spec("xllamacpp") else "pip install 'code-knowledge-hub[embedded]', or "
        return warning("language model", "none: answers quote the evidence", f"{missing}start Ollama.")
    return fine("language model", f"{info.model} through {info.name}, {info.context_window} tokens")


def profile(around: Surroundings) -> Finding | None:
    """Whether all that the profile asks for is codehub's to apply; None where it asks for nothing."""
    settings = around.settings
    if settings.backend == "none" or not any(name.startswith("profile_") for name in changed(settings)):
        return None
    from hub.capacity.profile import Status, settle  # noqa: PLC0415 - for those who have set one

    engine = wiring.engine(settings)
    rows = settle(wiring.profile(settings), engine)
    cannot = ", ".join(row.knob for row in rows if row.status is Status.UNSUPPORTED)
    outside = ", ".join(row.knob for row in rows if row.status is Status.NEEDS_ENVIRONMENT)
    parts = [f"{engine} cannot: {cannot}"] if cannot else []
    parts += [f"to be set where {engine} is started: {outside}"] if outside else []
    if not parts:
        return fine("profile", f"all of it is applied to {engine}")
    hint = "codehub profile shows how, and codehub profile --check what runs."
    detail = "; ".join(parts)
    return warning("profile", detail, hint) if cannot else Finding("profile", Grade.OK, detail, hint)


def connection(around: Surroundings) -> Finding:
    """That whoever runs the model is reached, and how fast."""
    settings = around.settings
    url = {
        "none": "",
        "embedded": "",
        "ollama": settings.ollama_host,
        "llama-server": settings.llama_server_url,
        "openai": settings.openai_url,
        "auto": settings.llama_server_url or settings.openai_url or settings.ollama_host,
    }[settings.backend]
    if not url:
        return fine("connection", "none needed: the model runs in this process, or there is none")
    began = time.monotonic()
    if not _listens(url):
        if settings.backend == "auto" and not (settings.llama_server_url or settings.openai_url):
            return fine("connection", f"nothing listens at {url}, so the model runs in this process")
        return failed("connection", f"nothing listens at {url}", "Start it, or correct its address in codehub.toml.")
    took = time.monotonic() - began
    if took > SLOW_S:
        return warning("connection", f"{url} took {took:.1f} s to be reached", "Look at the network between.")
    return fine("connection", f"{url} was reached in {1_000 * took:.0f} ms")


def ollama(around: Surroundings) -> Finding | None:
    """Ollama, its version and its models; None where the settings have no use for it."""
    settings = around.settings
    used = settings.backend in {"auto", "ollama"} or settings.embeddings.startswith("ollama:")
    if not used and settings.full_backend != "ollama":
        return fine("ollama", "not used") if around.checklist is Checklist.SINGLE else None
    from hub.backends.ollama.server import Server  # noqa: PLC0415 - 0.2 s for those who look

    server = Server(settings.ollama_host, read_s=ANSWER_S)
    if not server.listens():
        detail = f"does not answer at {server.address}"
        if settings.backend == "auto":
            return Finding("ollama", Grade.WARNING, detail, _GET_OLLAMA)
        return Finding("ollama", Grade.FAILED, detail, _GET_OLLAMA)
    return _versed(server.version(), set(server.installed()), server.address, settings.ollama_model)


def _versed(version: tuple[int, ...], models: set[str], address: str, wanted: str) -> Finding:
    detail = f"{'.'.join(map(str, version)) or 'of no release'} at {address}, {len(models)} models"
    if not models:
        return warning("ollama", detail, "ollama pull qwen2.5-coder:7b (codehub plan says what fits).")
    if wanted and not {wanted, f"{wanted}:latest"} & models:
        return failed("ollama", f"{detail}, none named {wanted}", f"ollama pull {wanted}")
    if version and version < LEAST_OLLAMA:
        least = ".".join(map(str, LEAST_OLLAMA))
        return warning("ollama", detail, f"Upgrade it to {least} or newer: older ones tell less of what they read.")
    return fine("ollama", detail)


_GET_OLLAMA = "https://ollama.com/download, then ollama pull qwen2.5-coder:7b; it is not needed to search."


def ollama_environment(around: Surroundings) -> Finding | None:
    """What Ollama was started with, where this user may see it; None where it does not run here."""
    pids = host.named(around.places, re.compile("ollama"))
    if not pids:
        return None
    for pid in pids:
        text = read_text(around.places.proc / str(pid) / "environ")
        if text:
            told = dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)
            return _judged(told)
    hint = "systemctl show ollama --property=Environment shows it to you."
    return Finding("ollama environment", Grade.OK, "another user's process, so it is not shown here", hint)


def _judged(told: dict[str, str]) -> Finding:
    subject = "ollama environment"
    if _EVERYWHERE.match(told.get("OLLAMA_HOST", "")):
        hint = "OLLAMA_HOST=127.0.0.1:11434: Ollama asks nobody for a key (deploy/systemd/ollama.service.d)."
        return warning(subject, f"OLLAMA_HOST={told['OLLAMA_HOST']}: everyone on the network may use it", hint)
    if told.get("OLLAMA_ORIGINS", "") == "*":
        return warning(subject, "OLLAMA_ORIGINS=*: any web page may use it", "Take it out, or name the origins.")
    given = [f"{name}={told[name]}" for name in _OLLAMA_VARIABLES if told.get(name)]
    missing = [f"{name} ({what})" for name, what in _OLLAMA_VARIABLES.items() if not told.get(name)]
    detail = "; ".join(filter(None, (" ".join(given), f"not set: {', '.join(missing)}" if missing else "")))
    if "OLLAMA_FLASH_ATTENTION" in " ".join(missing):
        hint = "codehub profile --engine ollama --format systemd writes it; deploy/systemd/ollama.service.d has it."
        return warning(subject, detail, hint)
    return fine(subject, detail)


def as_asked(around: Surroundings) -> Finding | None:
    """Whether the model that is loaded has the window that the settings ask for; None where nothing can be seen."""
    settings = around.settings
    from hub.backends import running  # noqa: PLC0415 - for those who look
    from hub.capacity.profile import Knob  # noqa: PLC0415 - as above

    if settings.llama_server_url and settings.backend in {"auto", "llama-server"}:
        wanted, name = settings.profile_context, "llama-server"
        seen = running.of_llama_server(settings.llama_server_url, settings.llama_server_key)
    elif settings.backend in {"auto", "ollama"} and not settings.openai_url and _listens(settings.ollama_host):
        wanted, name = settings.profile_context or settings.ollama_context, "ollama"
        try:
            seen = running.of_ollama(settings.ollama_host, settings.ollama_model)
        except BackendUnavailable:
            return fine("context", "no model is loaded, so its window cannot be seen")
    else:
        return None
    window = int(seen[Knob.CONTEXT]) if Knob.CONTEXT in seen else 0
    if wanted and window and window < wanted:
        return warning(
            "context", f"{name} runs with {window} tokens, {wanted} are asked for", "codehub profile --check"
        )
    return fine("context", f"{name} runs with {window or 'unknown'} tokens")


def model_server(around: Surroundings) -> Finding | None:
    """vLLM, a llama.cpp server or another one of OpenAI's interface; None where none is set."""
    settings = around.settings
    url, key = settings.openai_url, settings.openai_key
    subject = "vllm service"
    if not url:
        if around.checklist is not Checklist.TEAM:
            return None
        return fine(subject, "none is set ([openai] url); deploy/systemd/vllm.service runs one for a team")
    told = _asked(f"{url.removesuffix('/').removesuffix('/v1')}/v1/models", key)
    models = told.get("data")
    names = [str(entry.get("id")) for entry in models if isinstance(entry, dict)] if isinstance(models, list) else []
    if not names:
        return failed(subject, f"{url} serves no model", "Look at its log: journalctl -u vllm.")
    if settings.openai_model and settings.openai_model not in names:
        return failed(
            subject, f"{url} serves {', '.join(names)}, not {settings.openai_model}", "Correct [openai] model."
        )
    unit = around.places.sys / "fs/cgroup/system.slice/vllm.service"
    return fine(subject, f"{url} serves {', '.join(names)}" + (", as a service of systemd" if unit.exists() else ""))


def chroma_server(around: Surroundings) -> Finding | None:
    """The server of vectors, where one is set."""
    url = around.settings.vectors
    if url == "embedded":
        return None
    told = _asked(f"{url.removesuffix('/')}/api/v2/heartbeat")
    if "nanosecond heartbeat" not in told:
        return failed("chroma server", f"{url} is none", 'Correct vectors, or set it to "embedded".')
    return fine("chroma server", f"answers at {url}")


def _asked(url: str, key: str = "") -> dict[str, object]:
    """A JSON object, of a server that answers soon. Raises HubError."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        with closing(kind(parts.hostname or "", parts.port, timeout=ANSWER_S)) as line:
            line.request("GET", parts.path, headers=headers)
            answer = line.getresponse()
            status, body = answer.status, answer.read(MOST_BYTES)
        told = json.loads(body) if status == _OK else {}
    except (OSError, ValueError, HTTPException) as error:
        raise HubError(f"{url} does not answer: {error}.", "Start it, or correct its address.") from None
    if status != _OK:
        raise HubError(f"{url} answers with status {status}.", "Correct its address or its key.")
    return told if isinstance(told, dict) else {}


_OK = 200


def _listens(url: str) -> bool:
    from hub.backends.ollama.server import Server  # noqa: PLC0415 - 0.2 s for those who look

    try:
        return Server(url).listens()
    except BackendError:
        return False
