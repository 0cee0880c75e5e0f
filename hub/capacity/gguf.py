"""GGUF files, read without believing them: every count and length is held against what there is of the file first.

What a header says comes back as plain values; a file that is cut short, lies or is of another kind is refused in one
sentence. Also writes a copy with another context length, and names a file by a digest that is cheap to take. Knows
nothing of what the metadata means to a planner.

Source of the format: the GGUF specification and gguf.cpp of llama.cpp (2026-10), whose limits are kept.
"""

import contextlib
import hashlib
import os
import re
import shutil
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hub.errors import ModelFileError

# Bytes read in search of the end of the header: most have it in the first step, vocabularies of 260,000 tokens too.
_STEPS = (16 << 20, 256 << 20)
# The largest that are known: 60 keys, 6,000 tensors, a vocabulary of 262,144 with 514,906 merges. They keep a file made
# to be slow from being so.
_MOST_KEYS = 65_536
_MOST_TENSORS = 65_536
_MOST_STRINGS = 2_000_000
_MOST_DIMENSIONS = 4  # as ggml has it
_MOST_NUMBERS = 16_000_000  # in all arrays that are kept
_KEPT_NUMBERS = 4096  # longer arrays are vocabularies
_MAGIC = b"GGUF"
_ALIGNMENT = 32  # unless the metadata says otherwise
_SAMPLES = 64  # pieces of the weights that a fingerprint reads
_SAMPLE = 4096
_PIECE = 8 << 20  # bytes copied at once
_SPLIT = re.compile(r"^(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")
_AGAIN = "Download it again, and compare its size with the page it comes from."
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_STRING, _ARRAY, _UINT32, _FLOAT32 = 8, 9, 4, 6
_SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: _U32,
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: _U64,
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
# Types of weights by their number: name, numbers in a block, bytes of a block. ggml.h and ggml-common.h of llama.cpp.
_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
    42: ("Q2_0", 64, 18),
}
_BLOCKS = {name: (numbers, size) for name, numbers, size in _TYPES.values()}

Scalar = int | float | bool | str


class Skipped(NamedTuple):
    """An array that was passed over, most often the vocabulary."""

    length: int


class Tensor(NamedTuple):
    """One matrix of weights. The first dimension is the one that lies together in memory."""

    name: str
    shape: tuple[int, ...]
    type: str  # as ggml names it: "Q4_K"
    bytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says of itself; of a file in parts, all parts together with the metadata of the first."""

    path: Path
    version: int
    metadata: Mapping[str, object]  # int, float, bool, str, a tuple of them, or Skipped
    tensors: tuple[Tensor, ...]
    data_offset: int  # where the weights start, in the first part
    file_bytes: int


@dataclass(frozen=True, slots=True)
class Extension:
    """A copy that was written, and what is different in it."""

    path: Path
    context: int  # tokens
    original: int  # tokens the model was trained to
    factor: float  # of RoPE scaling, all of it
    changes: tuple[str, ...]  # "key = value (before: value)"
    warnings: tuple[str, ...]


def tensor_bytes(shape: tuple[int, ...], kind: str) -> int:
    """Bytes of weights of this shape and type. Raises ModelFileError where there are none such."""
    known = _BLOCKS.get(kind.upper())
    if known is None:
        raise ModelFileError(f"Weights of the type {kind[:40]!r} are not known here.", "Update codehub.")
    numbers, size = known
    count = 1
    for length in shape:
        count *= length
    if not shape or min(shape) < 1 or shape[0] % numbers:
        raise ModelFileError(f"A matrix of shape {shape} cannot be stored as {kind}.", _AGAIN)
    return count // numbers * size


def read_header(path: Path, *, vocabulary: bool = False) -> Header:
    """The header of a GGUF file, of all its parts if it is one of ``NAME-00001-of-00003.gguf``.

    Arrays as long as a vocabulary come as Skipped unless ``vocabulary`` asks for them. Raises ModelFileError.
    """
    parts = _parts(path)
    read = [_read(part, vocabulary=vocabulary and not number) for number, part in enumerate(parts)]
    first = read[0]
    metadata = {field.key: field.value for field in first.fields}
    declared = metadata.get("split.count", 1)
    if isinstance(declared, int) and declared > 1 and declared != len(parts):
        raise ModelFileError(
            f"{path.name} is one of {declared} parts, and its name does not tell where the others are.",
            f"Name the parts as they were downloaded: {path.stem}-00001-of-{declared:05}.gguf and so on.",
        )
    tensors = tuple(tensor for part in read for tensor in part.tensors)
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise ModelFileError(f"{path.name} holds a tensor twice.", _AGAIN)
    size = sum(part.file_bytes for part in read)
    return Header(parts[0], first.version, metadata, tensors, first.data_offset, size)


def fingerprint(path: Path) -> str:
    """32 hexadecimal digits that tell files apart: headers, sizes, and 64 pieces of the weights. Raises ModelFileError.

    Takes milliseconds where a digest of all would take minutes; who changes a few weights on purpose goes unnoticed.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in _parts(path):
        header = _read(part, vocabulary=False)
        with _opened(part) as file:
            digest.update(_U64.pack(header.file_bytes))
            digest.update(file.read(header.data_offset))
            room = max(0, header.file_bytes - header.data_offset - _SAMPLE)
            for number in range(_SAMPLES):
                file.seek(header.data_offset + room * number // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def extend(source: Path, target: Path, factor: float, progress: Callable[[int, int], None] | None = None) -> Extension:
    """Writes a copy of ``source`` whose metadata ask for YaRN, so that its context is ``factor`` times as long.

    The source is only read and no weight changes. ``progress`` is told the bytes done and in all. Raises ModelFileError
    and then leaves nothing behind: the source is not fit for it, the target exists, or the disk is full.
    """
    if len(_parts(source)) > 1:
        raise ModelFileError(
            f"{source.name} is one of several parts.", "Join them first: llama-gguf-split --merge FIRST_PART JOINED."
        )
    if not 1 < factor <= 64:  # beyond 64 nothing has ever been shown to work
        raise ModelFileError(f"A factor of {factor:g} makes no sense.", "Choose one above 1; up to 4 is usual.")
    if target.exists():
        raise ModelFileError(f"{target} exists already.", "Choose another name with --output; nothing is overwritten.")
    parsed = _read(source, vocabulary=False)
    replaced, extension = _extended(parsed, target, factor)
    old = {field.key: field for field in parsed.fields}
    with _opened(source) as file:
        head = file.read(parsed.data_offset)
        kept = [head[field.start : field.end] for field in parsed.fields if field.key not in replaced]
        made = [_field_bytes(key, kind, value) for key, (kind, value) in replaced.items()]
        count = len(parsed.fields) + len(replaced.keys() - old.keys())
        start = b"".join(
            [
                head[:16],
                _U64.pack(count),
                *kept,
                *made,
                head[parsed.tensors_start : parsed.tensors_end],
            ]
        )
        start += bytes(-len(start) % parsed.alignment)
        _write(target, start, file, parsed.file_bytes - parsed.data_offset, progress)
    return extension


class _Field(NamedTuple):
    key: str
    kind: int
    value: object
    start: int  # where key, type and value lie in the file
    end: int


@dataclass(frozen=True, slots=True)
class _Parsed:
    version: int
    fields: tuple[_Field, ...]
    tensors: tuple[Tensor, ...]
    tensors_start: int
    tensors_end: int
    data_offset: int
    alignment: int
    file_bytes: int


class _Short(Exception):
    """The bytes at hand end before the header does. Never leaves this module."""


class _Lie(Exception):
    """What the file says cannot be. Never leaves this module."""


def _parts(path: Path) -> list[Path]:
    split = _SPLIT.match(path.name)
    if split is None:
        return [path]
    stem, count = split["stem"], int(split["count"])
    if not 1 <= int(split["number"]) <= count <= 1000:  # more parts than any model was ever cut into
        return [path]
    parts = [path.with_name(f"{stem}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    for part in parts:
        if path.is_file() and not part.is_file():
            raise ModelFileError(f"{part.name} is missing beside {path.name}.", "Download all parts into one folder.")
    return parts


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file, with what the system says about it in our words. Only plain files: a pipe would wait for ever."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelFileError(f"{path} is not a file.", "Give the path of a .gguf file.")
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise ModelFileError(f"There is no file {path}.", "Give the path of a .gguf file.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelFileError(f"{path} cannot be read: {reason}.", "Look at its permissions and its disk.") from error


def _read(path: Path, *, vocabulary: bool) -> _Parsed:
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = b""
        for step in _STEPS:
            data += file.read(step - len(data))
            try:
                return _parse(path, data, size, vocabulary=vocabulary)
            except _Short:
                if len(data) < step:
                    raise ModelFileError(
                        f"{path.name} is cut short: it ends at {size:,} bytes, inside its header.", _AGAIN
                    ) from None
            except _Lie as lie:
                raise ModelFileError(f"{path.name} is damaged: {lie}.", _AGAIN) from None
    raise ModelFileError(f"The header of {path.name} is longer than {_STEPS[-1]:,} bytes.", _AGAIN)


def _parse(path: Path, data: bytes, size: int, *, vocabulary: bool) -> _Parsed:
    cursor = _Cursor(data, vocabulary=vocabulary)
    version = _version(path, cursor, size)
    tensor_count, field_count = cursor.number(_U64), cursor.number(_U64)
    if field_count > _MOST_KEYS or tensor_count > _MOST_TENSORS:
        raise _Lie(f"it claims {field_count:,} keys and {tensor_count:,} tensors")
    fields = tuple(cursor.field() for _ in range(field_count))
    values = {field.key: field.value for field in fields}
    if len(values) != len(fields):
        raise _Lie("it has a key twice")
    alignment = values.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20 or alignment & (alignment - 1):
        raise _Lie("its alignment is no power of two")
    tensors_start = cursor.at
    tensors, length = _tensors(cursor, tensor_count, alignment)
    data_offset = cursor.at + -cursor.at % alignment
    if tensors and data_offset + length > size:
        raise ModelFileError(
            f"{path.name} is cut short: {data_offset + length - size:,} of {data_offset + length:,} bytes are missing.",
            "The download did not end; start it again.",
        )
    return _Parsed(version, fields, tensors, tensors_start, cursor.at, data_offset, alignment, size)


def _version(path: Path, cursor: "_Cursor", size: int) -> int:
    if not size:
        raise ModelFileError(f"{path.name} is empty.", _AGAIN)
    if not cursor.starts_with(_MAGIC):
        raise ModelFileError(
            f"{path.name} is not a GGUF file.", "Give a model in GGUF, as llama.cpp and Ollama use it."
        )
    version = cursor.number(_U32)
    if version in {2, 3}:
        return version
    if version and not version & 0xFFFF:
        raise ModelFileError(f"{path.name} is big-endian.", "Get the little-endian file, or convert the model again.")
    raise ModelFileError(
        f"{path.name} is GGUF version {version}; 2 and 3 can be read.", "Convert the model again, or update codehub."
    )


def _tensors(cursor: "_Cursor", count: int, alignment: int) -> tuple[tuple[Tensor, ...], int]:
    """The tensors, and the bytes from the first one's start to the last one's end."""
    tensors = []
    where = end = 0
    for _ in range(count):
        tensor, offset = cursor.tensor()
        if offset != where:
            raise _Lie(f"the tensor {tensor.name!r} does not lie where the ones before it end")
        end = where + tensor.bytes  # the last one may come without what would align one after it
        where = end + -end % alignment
        tensors.append(tensor)
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise _Lie("it has a tensor twice")
    return tuple(tensors), end


class _Cursor:
    """A place in the bytes, which moves on with everything read. Raises _Short at their end."""

    def __init__(self, data: bytes, *, vocabulary: bool) -> None:
        self._data = data
        self._vocabulary = vocabulary
        self._numbers = self._texts = 0  # in arrays, so far
        self.at = 0

    def starts_with(self, magic: bytes) -> bool:
        return self._bytes(len(magic)) == magic

    def number(self, kind: struct.Struct) -> int:
        return int(kind.unpack_from(self._data, self._take(kind.size))[0])

    def field(self) -> _Field:
        start = self.at
        length = self.number(_U64)
        if length > 0xFFFF:  # the specification's limit
            raise _Lie("the name of a key is too long")
        try:
            key = self._bytes(length).decode("utf-8")
        except UnicodeDecodeError:
            raise _Lie("the name of a key is no text") from None
        kind = self.number(_U32)
        return _Field(key, kind, self._value(key, kind), start, self.at)

    def tensor(self) -> tuple[Tensor, int]:
        length = self.number(_U64)
        if length > 1024:  # ggml allows 63; longer ones are no names
            raise _Lie("the name of a tensor is too long")
        try:
            name = self._bytes(length).decode("utf-8")
        except UnicodeDecodeError:
            raise _Lie("the name of a tensor is no text") from None
        dimensions = self.number(_U32)
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise _Lie(f"the tensor {name!r} has {dimensions} dimensions")
        shape = tuple(self.number(_U64) for _ in range(dimensions))
        number = self.number(_U32)
        offset = self.number(_U64)
        if number not in _TYPES:
            raise _Lie(f"the tensor {name!r} is of type {number}, which is not known here")
        kind, numbers, size = _TYPES[number]
        count = 1
        for side in shape:
            count *= side
        if min(shape) < 1 or count >= 1 << 63 or shape[0] % numbers:
            raise _Lie(f"the tensor {name!r} cannot have the shape {shape}")
        return Tensor(name, shape, kind, count // numbers * size), offset

    def _value(self, key: str, kind: int) -> object:
        scalar = _SCALARS.get(kind)
        if scalar is not None:
            (value,) = scalar.unpack_from(self._data, self._take(scalar.size))
            return value
        if kind == _STRING:
            return self._bytes(self.number(_U64)).decode("utf-8", "replace")
        if kind != _ARRAY:
            raise _Lie(f"the value of {key[:80]!r} is of type {kind}, which is not known")
        element, count = self.number(_U32), self.number(_U64)
        if element == _STRING:
            return self._strings(key, count)
        scalar = _SCALARS.get(element)
        if scalar is None:
            raise _Lie(f"{key[:80]!r} is an array of type {element}, which is not known")
        start = self._take(count * scalar.size)
        if count > _KEPT_NUMBERS and not self._vocabulary:
            return Skipped(count)
        self._numbers += count
        if self._numbers > _MOST_NUMBERS:
            raise _Lie(f"its arrays hold more than {_MOST_NUMBERS:,} numbers")
        return struct.unpack_from(f"<{count}{scalar.format[1]}", self._data, start)

    def _strings(self, key: str, count: int) -> object:
        self._texts += count
        if self._texts > _MOST_STRINGS:
            raise _Lie(f"{key[:80]!r} claims {count:,} strings")
        data, end, at = self._data, len(self._data), self.at
        if count * 8 > end - at:
            raise _Short
        length_at = _U64.unpack_from
        if count > 64 and not self._vocabulary:  # longer lists of strings are vocabularies
            for _ in range(count):
                if at + 8 > end:
                    raise _Short
                at += 8 + length_at(data, at)[0]
            if at > end:
                raise _Short
            self.at = at
            return Skipped(count)
        return tuple(self._bytes(self.number(_U64)).decode("utf-8", "replace") for _ in range(count))

    def _bytes(self, length: int) -> bytes:
        start = self._take(length)
        return self._data[start : start + length]

    def _take(self, length: int) -> int:
        start = self.at
        if start + length > len(self._data):
            raise _Short
        self.at = start + length
        return start


# Positions are learnt or ALiBi's: what was not learnt cannot be reached by scaling.
_WITHOUT_ROPE = frozenset({"gpt2", "starcoder", "mpt", "bloom", "refact", "jais", "bert", "t5"})
# They remember in states and have no positions at all; a longer context is a number in their metadata only.
_RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv7", "rwkv6qwen2", "arwkv7"})
# Some layers have attention without RoPE, or none at all.
_HYBRID_WITHOUT_ROPE = frozenset({"jamba", "granitehybrid", "nemotron_h", "nemotron_h_moe", "kimi-linear"})


def _extended(parsed: _Parsed, target: Path, factor: float) -> tuple[dict[str, tuple[int, Scalar]], Extension]:
    """Keys to write with their types and values, and the account of it."""
    values = {field.key: field.value for field in parsed.fields}
    architecture = values.get("general.architecture")
    trained = values.get(f"{architecture}.context_length")
    if not isinstance(architecture, str) or not isinstance(trained, int) or isinstance(trained, bool) or trained < 1:
        raise ModelFileError("The file does not say to what context it was trained.", "It is no language model.")
    if architecture in _WITHOUT_ROPE:
        raise ModelFileError(
            f"Models of the architecture {architecture} learn each position, so that their context cannot be extended.",
            "Choose a model that was trained to more.",
        )
    if architecture in _RECURRENT:
        raise ModelFileError(
            f"Models of the architecture {architecture} have no positions that could be scaled.",
            "They read texts of any length as they are, and remember less and less of them.",
        )
    old_type = values.get(f"{architecture}.rope.scaling.type")
    known = values.get(f"{architecture}.rope.scaling.original_context_length")
    original = known if isinstance(known, int) and 0 < known <= trained else trained
    context = int(trained * factor)
    if context >= 1 << 31:
        raise ModelFileError(f"A context of {context:,} tokens is more than llama.cpp counts.", "Choose less.")
    scale = context / original
    replaced: dict[str, tuple[int, Scalar]] = {
        f"{architecture}.context_length": (_UINT32, context),
        f"{architecture}.rope.scaling.type": (_STRING, "yarn"),
        f"{architecture}.rope.scaling.factor": (_FLOAT32, scale),
        f"{architecture}.rope.scaling.original_context_length": (_UINT32, original),
    }
    changes = []
    for key, (_, value) in replaced.items():
        before = f" (before: {values[key]})" if key in values else ""
        shown = f"{value:g}" if isinstance(value, float) else value
        changes.append(f"{key} = {shown}{before}")
    warnings = tuple(_warnings(parsed, architecture, scale, old_type))
    return replaced, Extension(target, context, original, scale, tuple(changes), warnings)


def _warnings(parsed: _Parsed, architecture: str, scale: float, old_type: object) -> Iterator[str]:
    names = {tensor.name for tensor in parsed.tensors}
    if scale > 4:  # the YaRN paper and the models that ship with it stop there or had training
        yield f"RoPE is scaled {scale:g}-fold; beyond 4-fold, recall falls off in models that were not trained for it."
    if old_type not in {None, "none"}:
        yield f"The model carries scaling of the kind {str(old_type)[:40]!r} already; it is replaced by YaRN."
    elif names & {"rope_freqs.weight", "rope_factors_long.weight", "blk.0.rope_freqs.weight"}:
        yield "The model carries scaling in its weights (rope_freqs or rope_factors) already; YaRN adds to it."
    if architecture in _HYBRID_WITHOUT_ROPE:
        yield f"Layers of {architecture} remember in states or see no positions; there YaRN changes nothing."
    yield "Answers about short texts may become slightly worse; keep the original for these."


def _field_bytes(key: str, kind: int, value: Scalar) -> bytes:
    name = key.encode()
    start = _U64.pack(len(name)) + name + _U32.pack(kind)
    if isinstance(value, str):
        text = value.encode()
        return start + _U64.pack(len(text)) + text
    return start + _SCALARS[kind].pack(value)


def _write(
    target: Path, start: bytes, source: BinaryIO, length: int, progress: Callable[[int, int], None] | None
) -> None:
    """Writes what comes from ``source`` after ``start``, under another name until all of it is there."""
    whole = len(start) + length
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if shutil.disk_usage(target.parent).free < whole:
            raise ModelFileError(
                f"There is no room for {whole:,} bytes in {target.parent}.",
                "Name a file on another disk with --output.",
            )
        with part.open("xb") as file:
            file.write(start)
            done = len(start)
            while piece := source.read(_PIECE):
                file.write(piece)
                done += len(piece)
                if progress is not None:
                    progress(done, whole)
            file.flush()
            os.fsync(file.fileno())
        if done != whole:
            raise ModelFileError("The source changed while it was copied.", "Wait until it is whole, and try again.")
        _rename(part, target)
    except OSError as error:
        raise ModelFileError(
            f"{target} cannot be written: {error.strerror or error}.", "Name another place with --output."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def _rename(part: Path, target: Path) -> None:
    """Gives the file its name unless another has taken it meanwhile."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # file systems without hard links
        if target.exists():
            raise
        part.rename(target)
