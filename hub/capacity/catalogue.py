"""Models that people run, with the numbers that planning needs, so that one can be planned before it is downloaded.

``find`` takes a model's name as Ollama, Hugging Face or a file spell it, with or without a quantisation, and builds its
shape the way a file's is built: metadata and tensors out of ``catalogue.toml``, through ``architecture.shape_of``. What
is in the table was checked against a published configuration; what could not be is not in it.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from hub.capacity import layouts
from hub.capacity.architecture import shape_of
from hub.capacity.gguf import Tensor, tensor_bytes
from hub.capacity.layouts import Plan
from hub.capacity.model import ModelShape
from hub.errors import NotInCatalogue

DEFAULT_QUANTIZATION = "Q4_K_M"
_NEAREST = 4

_QUANTIZATION = re.compile(
    r"(?<![a-z0-9])(?:ud-)?(i?q\d_k_(?:xxl|xl|xs|l|m|s)|i?q\d_k|i?q\d_(?:xxs|xs|nl|0|1|s|m)|mxfp4|bf16|f16|fp16|f32|fp32)(?![a-z0-9])"
)
# Words of names that do not tell one model of the table from another.
_NOISE = re.compile(
    r"(?<![a-z0-9])(?:instruct|chat|it|hf|gguf|base|latest|meta|google|ibm|text|preview|moe|qat|v0\.[0-9]|imatrix|ud)"
    r"(?![a-z0-9])"
)
_DATE = re.compile(r"(?<![a-z0-9])2[4-6][01]\d(?![a-z0-9])")


@dataclass(frozen=True, slots=True)
class Entry:
    """One model: what it is called first, what else it is called, and where its numbers come from."""

    name: str
    aliases: tuple[str, ...]
    plan: Plan
    quantization: str  # in which it is usually run
    source: str
    note: str


def models() -> tuple[str, ...]:
    """The names of all models, in the order of the file: families together, small ones first."""
    return tuple(entry.name for entry in _entries())


def entry(name: str) -> Entry:
    """The model that the name means. Raises NotInCatalogue."""
    return _resolved(name)[0]


@cache
def find(name: str) -> ModelShape:
    """The shape of "qwen2.5-coder:14b", "Qwen2.5-Coder-14B-Instruct-Q5_K_M.gguf" or the like.

    Without a quantisation in the name it is the usual one: Q4_K_M, or MXFP4 where the model comes so. Raises
    NotInCatalogue.
    """
    found, quantization = _resolved(name)
    plan = found.plan
    placed = layouts.layout(plan)
    kinds = layouts.types(plan, placed, quantization)
    tensors = [
        Tensor(tensor.name, tensor.shape, kind, tensor_bytes(tensor.shape, kind))
        for tensor, kind in zip(placed, kinds, strict=True)
    ]
    metadata = {f"{plan.architecture}.{key}": value for key, value in plan.metadata.items()}
    metadata["general.architecture"] = plan.architecture
    shape = shape_of(metadata, tensors, name=found.name, source="catalogue")
    notes = (*shape.notes, found.note) if found.note else shape.notes
    return replace(shape, quantization=quantization, notes=notes)


def _resolved(name: str) -> tuple[Entry, str]:
    text = name.strip().lower().rsplit("/", 1)[-1].removesuffix(".gguf")
    said = _QUANTIZATION.search(text)
    quantization = _recipe(said[1], name) if said else ""
    if said:
        text = text[: said.start()] + text[said.end() :]
    known = _index()
    for spelling in (_plain(text), _key(text), _key(_DATE.sub("", text))):
        if (found := known.get(spelling)) is not None:
            return found, quantization or found.quantization
    raise NotInCatalogue(f"There is no model {name!r} in the catalogue.", _nearest(_key(text)))


def _recipe(said: str, name: str) -> str:
    recipe = said.upper().replace("FP16", "F16").replace("FP32", "F32")
    if recipe not in layouts.RECIPES:
        raise NotInCatalogue(
            f"How large {name} is with {recipe} cannot be told from its name.",
            f"Give its file, or one of {', '.join(layouts.RECIPES)}.",
        )
    return recipe


def _nearest(key: str) -> str:
    known = _index()
    near = difflib.get_close_matches(key, known, n=2 * _NEAREST, cutoff=0.6)
    shown = list(dict.fromkeys(known[one].name for one in near))[:_NEAREST]
    if not shown:
        return "`codehub plan` without a model lists all of them; a GGUF file can be planned, too."
    return f"Near it are: {', '.join(shown)}. A GGUF file can be planned, too."


def _plain(text: str) -> str:
    """Letters, digits, and the points that part digits: 1.5B is not 15B."""
    return re.sub(r"[^a-z0-9.]|(?<!\d)\.|\.(?!\d)", "", text.lower())


def _key(text: str) -> str:
    return _plain(_NOISE.sub("", text.lower()))


@cache
def _index() -> Mapping[str, Entry]:
    index: dict[str, Entry] = {}
    for spelt in (_plain, _key):  # a whole name says more than one without its common words
        for one in _entries():
            for spelling in (one.name, *one.aliases):
                index.setdefault(spelt(spelling), one)
    return index


@cache
def _entries() -> tuple[Entry, ...]:
    tree = tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text(encoding="utf-8"))
    return tuple(_entry(row) for row in tree["model"])


def _entry(row: dict[str, object]) -> Entry:
    metadata = row["metadata"]
    aliases = row.get("aliases", [])
    assert isinstance(metadata, dict)
    assert isinstance(aliases, list)
    vocabulary = metadata.pop("vocab_size")
    return Entry(
        name=str(row["name"]),
        aliases=tuple(aliases),
        plan=Plan(
            architecture=str(row["architecture"]),
            metadata={key: tuple(value) if isinstance(value, list) else value for key, value in metadata.items()},
            vocabulary=vocabulary,
            tied=bool(row.get("tied", False)),
            keys_are_values=bool(row.get("keys_are_values", False)),
        ),
        quantization=str(row.get("quantization", DEFAULT_QUANTIZATION)),
        source=str(row["source"]),
        note=str(row.get("note", "")),
    )
