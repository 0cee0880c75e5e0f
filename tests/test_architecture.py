"""The rules of ARCHITECTURE.md, held by reading the source: layers, doors, owners, weight, and the code map."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Lowest first. A module imports from its own layer's left only; names in one entry are peers and do not meet.
LAYERS = {
    "indexer": [
        ["errors", "model", "words", "processes", "secrets", "sharing", "patterns", "ignoring"],
        ["files", "cpp", "documents"],
        ["history"],
        ["chunking", "rows", "embedding", "static_embedding", "vectors", "linking", "watcher", "comparing"],
        ["symbol_table", "parsing"],
        ["carrying", "relinking", "layers"],
        ["index"],
        ["pipeline", "compiler"],
    ],
    "hub": [
        ["errors", "model"],
        ["config", "choosing", "retrieval", "prompting", "capacity", "claims", "auth"],
        ["confidence", "refusal", "evidence", "grounding", "tables", "impact", "backends", "labels", "knowledge"],
        ["answering", "fullload", "measuring", "monitoring", "ladder", "hooking", "reasons", "following"],
        ["changes"],
        ["why"],
        ["analysis"],
        ["asking"],
        ["service"],
        ["shapes", "llama", "remote"],
        ["remembering", "importing"],
        ["wiring"],
        ["indexing", "standing"],
        ["background"],
        ["health", "evaluation"],
        ["tuning", "calibrating", "backup"],
        ["jobs", "workspaces", "follower"],
        ["web"],
        ["http_api"],
        ["cli"],
    ],
    "agents": [
        ["errors", "model"],
        ["patches"],
        [
            "parameters",
            "records",
            "recipes",
            "cursors",
            "text",
            "results",
            "sandbox",
            "worktrees",
            "relay",
            "connect",
        ],
        ["runs", "policy"],
        ["desk"],
        ["exploring"],
        ["tools"],
        ["router"],
        ["mcp_server"],
        ["command"],
    ],
}
PACKAGES = ["indexer", "hub", "agents"]
DOORS = {
    # history, because which commits made some lines is only asked for when somebody wants to know; comparing and the
    # rules of files, because so is what a range of commits changed.
    "hub": {
        *("model", "errors", "index", "pipeline", "processes", "secrets", "patterns", "history"),
        *("comparing", "files", "documents"),  # the last: what comes from outside the tree has headings, too
    },
    # What is decided is of principals, what is looked up goes by services, and what is kept is taken by its own door.
    "agents": {
        *("model", "errors", "service", "auth", "workspaces", "config", "knowledge", "shapes", "prompting"),
        *("secrets", "files", "history", "processes", "remote", "remembering", "reasons", "following", "changes"),
    },
}
# These put parts together and see more.
WIRING = {
    "hub.wiring",
    "hub.indexing",
    "hub.standing",
    "hub.background",
    "hub.health",
    "hub.evaluation",
    "hub.backup",
    "hub.jobs",
    "hub.follower",
    "hub.workspaces",
    "hub.cli",
    "agents.mcp_server",
    "agents.command",
}

OWNERS = {
    "tree_sitter": "indexer.cpp",
    "tree_sitter_cpp": "indexer.cpp",
    "apsw": "indexer.symbol_table hub.auth hub.backup",
    "clang": "indexer.compiler",
    "sqlite3": "nobody",
    "chromadb": "indexer.vectors",
    "onnxruntime": "indexer.embedding",
    "tokenizers": "indexer.embedding hub.backends.vocabulary",
    "pathspec": "indexer.ignoring",
    "filelock": "indexer.index",
    "watchdog": "indexer.watcher",
    "subprocess": "indexer.history.running hub.background hub.jobs hub.follower agents.sandbox agents.worktrees",
    "ollama": "hub.backends.ollama",
    "httpx": "hub.backends.endpoint hub.backends.ollama",  # the latter for the exceptions of its client
    "pynvml": "hub.capacity.nvml",
    "xllamacpp": "hub.backends.embedded",
    "llama_index": "hub.llama hub.importing",  # the latter what documents from outside the tree are read with
    "bs4": "hub.importing",
    "matplotlib": "hub.cli.tuning hub.cli.plotting hub.cli.measuring_plot hub.cli.calibrating_plot",
    "platformdirs": "hub.config",
    "tomllib": "hub.config hub.capacity.cards hub.capacity.catalogue agents.recipes agents.connect",
    "argparse": "hub.cli agents.command",
    "mcp": "agents.mcp_server",
    "mcp_types": "agents.mcp_server",
    "anyio": "agents.mcp_server",
    "rich": "hub.cli",
    "fastapi": "hub.http_api",
    "starlette": "hub.http_api agents.mcp_server",  # the latter for the types of ASGI
    "uvicorn": "hub.http_api",
    "pydantic": "hub.http_api",
    "limits": "nobody",  # its counts in memory follow the wall clock, and keep every caller
    "prometheus_client": "hub.http_api",
    "jinja2": "hub.web",
    "markupsafe": "hub.web",
    "pygments": "nobody",  # its lexers take quadratic time on hostile text
}
# Reading the environment is the settings' business; two libraries leave no other way.
ENVIRONMENT = {
    "hub.config",
    "indexer.history.running",  # git needs PATH and HOME
    "hub.backends.embedded",  # OpenMP reads its waiting policy from there
    "hub.cli",  # OpenBLAS reads how many threads it may use from there
    "agents.sandbox.probing",  # inside of the sandbox it looks whether anything of the server's came through
}
SLOW = {
    *("matplotlib", "chromadb", "onnxruntime", "tokenizers", "llama_index", "ollama", "xllamacpp", "rich", "httpx"),
    *("fastapi", "starlette", "uvicorn", "pydantic", "prometheus_client", "jinja2", "pygments"),
    *("mcp", "mcp_types", "anyio", "watchdog"),
}


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports_of(path: Path) -> tuple[str, ...]:
    """Every imported module, those inside functions too, with names that are modules themselves spelt out."""
    return tuple(_imports_in(path))


def _imports_in(path: Path) -> Iterator[str]:
    names = MODULES.keys()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in inner if name in names]
            yield from found
            if len(found) < len(inner):
                yield node.module


MODULES = dict(modules())


def layer(module: str) -> tuple[int, str] | None:
    package, _, rest = module.partition(".")
    top = rest.split(".")[0]
    for number, peers in enumerate(LAYERS[package]):
        if top in peers:
            return number, top
    return None


# One test for each rule, over all modules: hundreds of tests for each took longer to be told than to be run.


def test_a_module_imports_only_from_lower_layers() -> None:
    assert [wrong for module in MODULES for wrong in imports_from_above(module)] == []


def imports_from_above(module: str) -> Iterator[str]:
    here = layer(module)
    package = module.split(".", maxsplit=1)[0]
    if here is None:
        if module != package:
            yield f"{module} stands in no layer"
        return
    for name in imports_of(MODULES[module]):
        there = layer(name) if name.split(".")[0] == package else None
        if there is not None and there[1] != here[1] and there[0] >= here[0]:
            yield f"{module} imports {name}, which is not below it"


def test_packages_depend_one_way_and_are_entered_by_their_doors() -> None:
    assert [wrong for module in MODULES for wrong in entered_wrongly(module)] == []


def entered_wrongly(module: str) -> Iterator[str]:
    package = module.split(".", maxsplit=1)[0]
    wires = any(module == wired or module.startswith(wired + ".") for wired in WIRING)
    for name in imports_of(MODULES[module]):
        other, _, rest = name.partition(".")
        if other not in PACKAGES or other == package:
            continue
        if PACKAGES.index(other) > PACKAGES.index(package):
            yield f"{module} imports {name}, against the direction"
        elif not wires and rest.split(".")[0] not in DOORS[package]:
            yield f"{module} enters {other} by {name}, which is no door"


def test_each_library_has_one_owner() -> None:
    assert [wrong for module in MODULES for wrong in borrowed(module)] == []


def borrowed(module: str) -> Iterator[str]:
    for name in imports_of(MODULES[module]):
        owners = OWNERS.get(name.split(".")[0], "").split()
        if owners and not any(module == owner or module.startswith(owner + ".") for owner in owners):
            yield f"{module} imports {name}, which {' and '.join(owners)} owns"


def test_only_the_settings_read_the_environment_and_only_the_command_prints() -> None:
    assert [wrong for module in MODULES for wrong in effects(module)] == []


def effects(module: str) -> Iterator[str]:
    for node in ast.walk(parsed(MODULES[module])):
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"} and module not in ENVIRONMENT:
            yield f"{module}:{node.lineno} reads the environment"
        prints = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        if prints and not module.startswith(("hub.cli", "agents.command")):
            yield f"{module}:{getattr(node, 'lineno', 0)} prints"


def test_a_module_says_what_it_is_for_and_is_neither_a_drawer_nor_a_giant() -> None:
    assert [wrong for module in MODULES for wrong in shapeless(module)] == []


def shapeless(module: str) -> Iterator[str]:
    lines = MODULES[module].read_text(encoding="utf-8").count("\n")
    if not ast.get_docstring(parsed(MODULES[module])):
        yield f"{module} has no docstring"
    if lines > 600:
        yield f"{module} has {lines} lines"
    if set(module.split(".")) & {"utils", "util", "helpers", "common", "base", "manager", "misc"}:
        yield f"{module} is named for nothing that it holds"


def test_every_module_stands_in_the_code_map() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert text.count("\n") < 200
    text += (ROOT / "docs" / "modules.md").read_text(encoding="utf-8")
    mapped = set(re.findall(r"`((?:indexer|hub|agents)[\w/]*(?:\.py|/))`", text))
    actual = set()
    for name, path in MODULES.items():
        relative = path.relative_to(ROOT).as_posix()
        actual.add(relative.removesuffix("__init__.py") if relative.endswith("__init__.py") else relative)
        assert name
    assert mapped == actual


@pytest.mark.parametrize(
    "imported",
    ["hub.cli", "hub.wiring", "hub.cli.reading", "hub.cli.upkeep", "indexer.pipeline", "indexer.index", "agents"],
)
def test_slow_libraries_wait_until_they_are_needed(imported: str) -> None:
    code = f"import sys, {imported}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert not SLOW & set(done.stdout.split())


def test_help_needs_no_part_of_the_index() -> None:
    code = "import sys, hub.cli; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert not {"numpy", "apsw", "tree_sitter", "indexer.index"} & set(done.stdout.split())
