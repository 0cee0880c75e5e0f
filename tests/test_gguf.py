"""GGUF files: read as their writer meant them, refused where they are damaged, copied with a longer context."""

import errno
import os
import shutil
import struct
from pathlib import Path
from types import SimpleNamespace

import gguf as reference
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.backends import embedded
from hub.capacity import gguf
from hub.capacity.model import Load, Placement
from hub.errors import ModelFileError
from tests.support import gguf_models, oracle, real_llama

VOCABULARY = 70_000


def small(path: Path, *, alignment: int = 32) -> Path:
    """A file with a value of every type, a vocabulary, and matrices of several types."""
    writer = reference.GGUFWriter(path, "llama")
    if alignment != 32:
        writer.add_custom_alignment(alignment)
    writer.add_uint8("a.u8", 200)
    writer.add_int8("a.i8", -5)
    writer.add_uint16("a.u16", 60_000)
    writer.add_int16("a.i16", -300)
    writer.add_int32("a.i32", -70_000)
    writer.add_uint64("a.u64", 1 << 60)
    writer.add_int64("a.i64", -(1 << 60))
    writer.add_float64("a.f64", 0.1)
    writer.add_bool("a.yes", True)
    writer.add_string("a.text", "größer")
    writer.add_array("a.numbers", [1, 2, 3])
    writer.add_array("a.words", ["one", "two"])
    writer.add_context_length(4096)
    writer.add_block_count(1)
    writer.add_rope_freq_base(10_000.0)
    writer.add_token_list([f"token {number}" for number in range(100)])
    writer.add_tensor("token_embd.weight", np.arange(64 * 8, dtype=np.float32).reshape(8, 64))
    writer.add_tensor("blk.0.attn_q.weight", np.ones((5, 3), np.float16))
    writer.add_tensor("blk.0.ffn_up.weight", np.zeros((4, 34), np.uint8), raw_dtype=reference.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return small(tmp_path_factory.mktemp("gguf") / "small.gguf").read_bytes()


def refused(path: Path) -> ModelFileError:
    with pytest.raises(ModelFileError) as caught:
        gguf.read_header(path)
    error = caught.value
    assert error.message.endswith((".", "!"))
    assert "\n" not in error.message
    assert error.hint
    return error


def test_a_file_reads_as_its_writer_meant_it(tmp_path: Path) -> None:
    header = gguf.read_header(small(tmp_path / "small.gguf"))
    assert header.version == 3
    assert header.metadata["general.architecture"] == "llama"
    assert [header.metadata[f"a.{key}"] for key in ("u8", "i8", "u16", "i16", "i32", "u64", "i64", "f64")] == [
        *(200, -5, 60_000, -300, -70_000, 1 << 60, -(1 << 60), 0.1)
    ]
    assert header.metadata["a.yes"] is True
    assert header.metadata["a.text"] == "größer"
    assert header.metadata["a.numbers"] == (1, 2, 3)
    assert header.metadata["a.words"] == ("one", "two")
    assert header.metadata["tokenizer.ggml.tokens"] == gguf.Skipped(100)
    assert header.tensors == (
        gguf.Tensor("token_embd.weight", (64, 8), "F32", 64 * 8 * 4),
        gguf.Tensor("blk.0.attn_q.weight", (3, 5), "F16", 3 * 5 * 2),
        gguf.Tensor("blk.0.ffn_up.weight", (32, 4), "Q8_0", 4 * 34),
    )
    assert header.file_bytes == (tmp_path / "small.gguf").stat().st_size


def test_a_real_model_reads_as_another_reader_reads_it() -> None:
    path = embedded._packaged_model()
    ours, theirs = gguf.read_header(path, vocabulary=True), reference.GGUFReader(path)
    assert ours.data_offset == theirs.data_offset
    for key, value in ours.metadata.items():
        contents = theirs.fields[key].contents()
        assert value == (tuple(contents) if isinstance(contents, list) else contents), key
    assert [(one.name, one.shape, one.type, one.bytes) for one in ours.tensors] == [
        (one.name, tuple(map(int, one.shape)), one.tensor_type.name, int(one.n_bytes)) for one in theirs.tensors
    ]


def test_every_type_of_weights_has_the_size_that_the_reference_says() -> None:
    for kind, (numbers, size) in reference.GGML_QUANT_SIZES.items():
        if kind.name != "Q8_1":  # of computing only, never of a file
            assert gguf.tensor_bytes((numbers * 3, 5), kind.name) == size * 15, kind


@pytest.mark.parametrize("name", ["llama-3.1-8b", "gpt-oss-20b", "qwen3.5-35b-a3b"])
def test_models_whose_weights_are_a_hole_read_like_any_other(name: str, tmp_path: Path) -> None:
    header = gguf.read_header(gguf_models.sparse(tmp_path / "model.gguf", name))
    reader = reference.GGUFReader(tmp_path / "model.gguf")
    assert sum(tensor.bytes for tensor in header.tensors) == sum(int(tensor.n_bytes) for tensor in reader.tensors)


def test_a_vocabulary_is_passed_over_unless_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "words.gguf"
    writer = reference.GGUFWriter(path, "llama")
    words = [f"w{number}" for number in range(VOCABULARY)]
    writer.add_token_list(words)
    writer.add_token_scores([0.5] * VOCABULARY)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    assert gguf.read_header(path).metadata["tokenizer.ggml.tokens"] == gguf.Skipped(VOCABULARY)
    assert gguf.read_header(path).metadata["tokenizer.ggml.scores"] == gguf.Skipped(VOCABULARY)
    assert gguf.read_header(path, vocabulary=True).metadata["tokenizer.ggml.tokens"] == tuple(words)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(cut=st.integers(0))
def test_a_file_that_is_cut_short_is_refused_wherever_it_is_cut(whole: bytes, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.gguf"
    header_end = gguf.read_header(_written(path, whole)).data_offset
    last = header_end + 2048 + 32 + 4 * 34  # where the last matrix ends
    _written(path, whole[: cut % last])
    assert refused(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=500)
@given(changes=st.lists(st.tuples(st.integers(0), st.binary(min_size=1, max_size=8)), min_size=1, max_size=3))
def test_a_damaged_file_is_refused_or_describes_what_it_holds(
    whole: bytes, tmp_path: Path, changes: list[tuple[int, bytes]]
) -> None:
    data = bytearray(whole)
    for where, new in changes:
        at = where % len(data)
        data[at : at + len(new)] = new
    path = _written(tmp_path / "changed.gguf", bytes(data))
    header = read_or_refused(path)
    if header is None:
        return
    assert header.data_offset + sum(tensor.bytes for tensor in header.tensors) <= len(data)
    assert len({tensor.name for tensor in header.tensors}) == len(header.tensors)
    assert all(tensor.bytes == gguf.tensor_bytes(tensor.shape, tensor.type) for tensor in header.tensors)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.booleans())
def test_what_is_no_model_is_refused(tmp_path: Path, data: bytes, begun: bool) -> None:
    assert refused(_written(tmp_path / "noise.gguf", (b"GGUF\x03\0\0\0" if begun else b"") + data))


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def header_of(fields: bytes = b"", tensors: bytes = b"", *, field_count: int = 0, tensor_count: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensor_count, field_count) + fields + tensors


def read_or_refused(path: Path) -> gguf.Header | None:
    try:
        return gguf.read_header(path)
    except ModelFileError:
        return None


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


HUGE = (1 << 64) - 1
LIES = {
    "more keys than any file": (header_of(field_count=HUGE), "claims"),
    "more tensors than any file": (header_of(tensor_count=HUGE), "claims"),
    "a text longer than the file": (header_of(text("k") + struct.pack("<IQ", 8, HUGE), field_count=1), "cut short"),
    "an array longer than the file": (
        header_of(text("k") + struct.pack("<IIQ", 9, 4, HUGE), field_count=1),
        "cut short",
    ),
    "too many strings": (header_of(text("k") + struct.pack("<IIQ", 9, 8, HUGE), field_count=1), "strings"),
    "arrays in arrays": (header_of(text("k") + struct.pack("<IIQ", 9, 9, 1), field_count=1), "not known"),
    "an unknown type of value": (header_of(text("k") + struct.pack("<I", 77), field_count=1), "not known"),
    "a key twice": (header_of((text("k") + struct.pack("<IB", 0, 1)) * 2, field_count=2), "twice"),
    "a key that is no text": (
        header_of(struct.pack("<Q", 2) + b"\xff\xfe" + struct.pack("<IB", 0, 1), field_count=1),
        "no text",
    ),
    "a key longer than allowed": (header_of(struct.pack("<Q", 1 << 20) + bytes(1 << 20), field_count=1), "too long"),
    "an alignment that is no power of two": (
        header_of(text("general.alignment") + struct.pack("<II", 4, 24), field_count=1),
        "alignment",
    ),
    "no dimensions": (header_of(tensors=text("t") + struct.pack("<IIQ", 0, 0, 0), tensor_count=1), "dimensions"),
    "an unknown type of weights": (header_of(tensors=tensor("t", (32,), 99, 0), tensor_count=1), "type 99"),
    "rows that no block fits": (header_of(tensors=tensor("t", (33, 2), 8, 0), tensor_count=1), "shape"),
    "a side of nothing": (header_of(tensors=tensor("t", (32, 0), 0, 0), tensor_count=1), "shape"),
    "more numbers than can be counted": (
        header_of(tensors=tensor("t", (1 << 40, 1 << 40), 0, 0), tensor_count=1),
        "shape",
    ),
    "weights that overlap": (
        header_of(tensors=tensor("t", (8,), 0, 0) + tensor("u", (8,), 0, 0), tensor_count=2) + bytes(4096),
        "does not lie",
    ),
    "a tensor twice": (
        header_of(tensors=tensor("t", (8,), 0, 0) + tensor("t", (8,), 0, 32), tensor_count=2) + bytes(4096),
        "twice",
    ),
    "weights beyond the end": (header_of(tensors=tensor("t", (1 << 20,), 0, 0), tensor_count=1), "bytes are missing"),
    "another byte order": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "the first version": (b"GGUF" + struct.pack("<III", 1, 0, 0) + bytes(16), "version 1"),
    "another kind of file": (b"PK\x03\x04" + bytes(100), "not a GGUF"),
    "nothing": (b"", "empty"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_named(lie: str, tmp_path: Path) -> None:
    data, word = LIES[lie]
    assert word in refused(_written(tmp_path / "lie.gguf", data)).message


def test_a_file_of_zeros_that_claims_millions_of_strings_is_refused_without_reading_them_all(tmp_path: Path) -> None:
    path = tmp_path / "zeros.gguf"
    with path.open("wb") as file:
        file.write(header_of(text("k") + struct.pack("<IIQ", 9, 8, 1 << 32), field_count=1))
        file.truncate(1 << 36)
    assert "strings" in refused(path).message


def test_how_much_of_a_download_is_missing_is_told(whole: bytes, tmp_path: Path) -> None:
    path = _written(tmp_path / "half.gguf", whole[:-500])
    assert "bytes are missing" in refused(path).message
    assert "download" in refused(path).hint


def test_what_is_not_a_plain_file_is_refused_at_once(tmp_path: Path) -> None:
    assert "no file" in refused(tmp_path / "absent.gguf").message
    assert "not a file" in refused(tmp_path).message
    os.mkfifo(tmp_path / "pipe.gguf")
    assert "not a file" in refused(tmp_path / "pipe.gguf").message


def parts_of(folder: Path, count: int) -> list[Path]:
    paths = []
    for number in range(count):
        path = folder / f"model-{number + 1:05}-of-{count:05}.gguf"
        writer = reference.GGUFWriter(path, "llama")
        writer.add_uint16("split.count", count)
        writer.add_uint16("split.no", number)
        writer.add_tensor(f"blk.{number}.weight", np.ones((4, 8), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        paths.append(path)
    return paths


def test_a_model_in_parts_is_read_whole_from_any_of_them(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, 3)
    headers = [gguf.read_header(part) for part in parts]
    assert headers[0] == headers[1] == headers[2]
    assert [one.name for one in headers[0].tensors] == ["blk.0.weight", "blk.1.weight", "blk.2.weight"]
    assert headers[0].file_bytes == sum(part.stat().st_size for part in parts)
    assert len({gguf.fingerprint(part) for part in parts}) == 1


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, 3)
    parts[1].unlink()
    assert parts[1].name in refused(parts[0]).message
    lonely = parts[2].rename(tmp_path / "renamed.gguf")
    assert "one of 3 parts" in refused(lonely).message


def test_fingerprints_tell_files_apart_and_not_their_names(whole: bytes, tmp_path: Path) -> None:
    first = _written(tmp_path / "first.gguf", whole)
    assert gguf.fingerprint(first) == gguf.fingerprint(_written(tmp_path / "second.gguf", whole))
    changed = bytearray(whole)
    changed[-1] ^= 1
    assert gguf.fingerprint(_written(tmp_path / "third.gguf", bytes(changed))) != gguf.fingerprint(first)
    assert len(gguf.fingerprint(first)) == 32


@pytest.mark.parametrize("alignment", [32, 64, 4096])
def test_an_extended_copy_has_other_metadata_and_the_same_weights(alignment: int, tmp_path: Path) -> None:
    source = small(tmp_path / "small.gguf", alignment=alignment)
    before = source.read_bytes()
    seen: list[tuple[int, int]] = []
    done = gguf.extend(source, tmp_path / "long.gguf", 4, lambda so_far, of: seen.append((so_far, of)))
    assert source.read_bytes() == before
    assert (done.context, done.original, done.factor) == (16_384, 4096, 4.0)
    old, new = gguf.read_header(source, vocabulary=True), gguf.read_header(done.path, vocabulary=True)
    changed = {key: value for key, value in new.metadata.items() if old.metadata.get(key) != value}
    assert changed == {
        "llama.context_length": 16_384,
        "llama.rope.scaling.type": "yarn",
        "llama.rope.scaling.factor": 4.0,
        "llama.rope.scaling.original_context_length": 4096,
    }
    assert old.metadata.keys() <= new.metadata.keys()
    assert old.tensors == new.tensors
    assert before[old.data_offset :] == done.path.read_bytes()[new.data_offset :]
    assert new.data_offset % alignment == 0
    assert seen[-1] == (done.path.stat().st_size, done.path.stat().st_size)
    assert any("4096" in change for change in done.changes)
    theirs = reference.GGUFReader(done.path)
    assert np.array_equal(theirs.tensors[0].data, np.arange(64 * 8, dtype=np.float32).reshape(8, 64))


def test_extending_twice_scales_from_what_the_model_was_trained_to(tmp_path: Path) -> None:
    source = small(tmp_path / "small.gguf")
    once = gguf.extend(source, tmp_path / "once.gguf", 2)
    twice = gguf.extend(once.path, tmp_path / "twice.gguf", 4)
    assert (twice.context, twice.original, twice.factor) == (32_768, 4096, 8.0)
    assert any("already" in warning for warning in twice.warnings)
    assert any("8-fold" in warning for warning in twice.warnings)
    metadata = gguf.read_header(twice.path).metadata
    assert metadata["llama.rope.scaling.factor"] == 8.0
    assert metadata["llama.rope.scaling.original_context_length"] == 4096


def architecture(path: Path, name: str) -> Path:
    writer = reference.GGUFWriter(path, name)
    writer.add_context_length(4096)
    writer.add_tensor("token_embd.weight", np.ones((4, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def no_change(path: Path, target: Path, factor: float = 2.0) -> str:
    before = sorted(target.parent.iterdir())
    with pytest.raises(ModelFileError) as caught:
        gguf.extend(path, target, factor)
    assert sorted(target.parent.iterdir()) == before
    assert caught.value.hint
    return caught.value.message


def test_what_cannot_be_extended_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    source, target = small(tmp_path / "small.gguf"), tmp_path / "target.gguf"
    assert "no sense" in no_change(source, target, 0.5)
    assert "no sense" in no_change(source, target, float("nan"))
    assert "positions" in no_change(architecture(tmp_path / "mamba.gguf", "mamba"), target)
    assert "learn" in no_change(architecture(tmp_path / "gpt2.gguf", "gpt2"), target)
    folder = tmp_path / "parts"
    folder.mkdir()
    assert "parts" in no_change(parts_of(folder, 2)[0], target)
    _written(target, b"mine")
    assert "exists" in no_change(source, target)
    assert target.read_bytes() == b"mine"
    with pytest.raises(ModelFileError, match="cannot be written"):
        gguf.extend(source, tmp_path / "absent" / "target.gguf", 2)


def test_a_hybrid_model_is_extended_with_a_warning(tmp_path: Path) -> None:
    done = gguf.extend(architecture(tmp_path / "h.gguf", "granitehybrid"), tmp_path / "target.gguf", 2)
    assert any("states" in warning for warning in done.warnings)


def test_a_full_disk_is_told_and_no_half_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = small(tmp_path / "small.gguf"), tmp_path / "target.gguf"

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert "No space left" in no_change(source, target)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=100, used=100, free=0))
        assert "no room" in no_change(source, target)


def test_a_stopped_copy_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(done: int, whole: int) -> None:
        raise KeyboardInterrupt

    source = small(tmp_path / "small.gguf")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        gguf.extend(source, tmp_path / "target.gguf", 2, stop)
    assert sorted(tmp_path.iterdir()) == before


def test_an_extended_model_is_loaded_by_llama_cpp_with_its_new_context(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    done = gguf.extend(embedded._packaged_model(), tmp_path / "long.gguf", 2)
    assert done.context == 16_384
    (told,) = oracle.ask([(done.path, Load(context=16_384, placement=Placement.CPU))])
    assert (told.trained, told.original, told.scaling) == (16_384, 8192, "yarn")
    assert told.cells == (16_384,)


def test_an_extended_model_reads_and_writes_beyond_what_it_was_trained_to(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    source = gguf_models.tiny(tmp_path / "tiny.gguf", "llama")  # trained to 512 tokens
    done = gguf.extend(source, tmp_path / "long.gguf", 4)
    prompt = {"prompt": [100 + number % 50 for number in range(700)], "n_predict": 4, "temperature": 0}
    answers = []
    for path in (source, done.path):
        server = real_llama.start(path, 2048, "", 1)
        answers.append(httpx.post(f"{server.listening_address}/completion", json=prompt, timeout=100))
        del server
    assert answers[0].status_code == 400  # exceeds the available context
    assert answers[1].status_code == 200
    told = answers[1].json()
    assert (told["timings"]["prompt_n"], told["timings"]["predicted_n"]) == (700, 4)
    assert not told["truncated"]
