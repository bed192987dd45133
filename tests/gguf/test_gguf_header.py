"""Headers of whole files, ours and gguf-py's, with everything that a header can hold."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from quantrecipe.gguf.header import TensorEntry, read_header
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header, header_size

SCALARS = {
    ValueType.UINT8: 255,
    ValueType.INT8: -128,
    ValueType.UINT16: 65535,
    ValueType.INT16: -32768,
    ValueType.UINT32: 2**32 - 1,
    ValueType.INT32: -(2**31),
    ValueType.FLOAT32: 0.5,
    ValueType.BOOL: True,
    ValueType.STRING: "naïve 中 \0 text",
    ValueType.UINT64: 2**64 - 1,
    ValueType.INT64: -(2**63),
    ValueType.FLOAT64: 0.1,
}

METADATA = {
    "general.architecture": GGUFValue.of(ValueType.STRING, "llama"),
    **{f"scalar.{type_.name}": GGUFValue.of(type_, value) for type_, value in SCALARS.items()},
    **{f"array.{type_.name}": GGUFValue.array(type_, [value] * 3) for type_, value in SCALARS.items()},
    "array.empty": GGUFValue.array(ValueType.STRING, []),
}
TENSORS = (
    TensorEntry(name="token_embd.weight", shape=(4, 32), ggml_type=0, offset=0),
    TensorEntry(name="blk.0.ffn_down_exps.weight", shape=(2, 3, 32), ggml_type=8, offset=512),
    TensorEntry(name="output_norm.weight", shape=(32,), ggml_type=0, offset=736),
)


def write(path: Path, metadata=METADATA, tensors=TENSORS, data=bytes(864), alignment=32) -> Path:
    path.write_bytes(encode_header(metadata, tensors, alignment) + data)
    return path


def test_what_was_written_is_read_in_its_order(tmp_path):
    header = read_header(write(tmp_path / "a.gguf"))
    assert list(header.metadata.items()) == list(METADATA.items())
    assert header.tensors == TENSORS
    assert (header.version, header.alignment) == (3, 32)
    assert header.data_start == header_size(METADATA, TENSORS) == header.file_size - 864


@pytest.mark.parametrize("type_", SCALARS, ids=lambda type_: type_.name)
def test_every_type_decodes_to_what_it_was(tmp_path, type_):
    metadata = read_header(write(tmp_path / "a.gguf")).metadata
    assert metadata[f"scalar.{type_.name}"].decode() == pytest.approx(SCALARS[type_])
    assert metadata[f"array.{type_.name}"].decode() == pytest.approx([SCALARS[type_]] * 3)
    assert len(metadata[f"array.{type_.name}"]) == 3
    assert metadata[f"array.{type_.name}"].item_type is type_


def test_version_2_has_the_same_layout(tmp_path):
    path = write(tmp_path / "a.gguf")
    raw = bytearray(path.read_bytes())
    raw[4] = 2
    path.write_bytes(raw)
    header = read_header(path)
    assert header.version == 2
    assert header.tensors == TENSORS


def test_nested_arrays_are_carried_as_they_are(tmp_path):
    inner = GGUFValue.array(ValueType.STRING, ["a", "bc"]).payload
    nested = GGUFValue(ValueType.ARRAY, (9).to_bytes(4, "little") + (2).to_bytes(8, "little") + inner * 2)
    header = read_header(write(tmp_path / "a.gguf", {"nested": nested}))
    assert header.metadata["nested"] == nested
    assert header.metadata["nested"].decode() == [["a", "bc"], ["a", "bc"]]


def test_the_alignment_that_the_metadata_states_holds(tmp_path):
    metadata = {"general.alignment": GGUFValue.of(ValueType.UINT32, 4096)}
    tensors = [TensorEntry(name="a", shape=(32,), ggml_type=0, offset=4096)]
    path = write(tmp_path / "a.gguf", metadata, tensors, bytes(8192), alignment=4096)
    header = read_header(path)
    assert (header.alignment, header.data_start) == (4096, 4096)
    with pytest.raises(ValueError, match=r"aligned to 64, but general\.alignment says 4096"):
        encode_header(metadata, tensors, 64)
    with pytest.raises(ValueError, match=r"aligned to 64, but general\.alignment says 32"):
        encode_header({}, tensors, 64)


def test_rooms_end_at_the_next_tensor_or_the_end_of_the_file(tmp_path):
    backwards = TENSORS[::-1]  # the order of the entries needn't be that of the data
    header = read_header(write(tmp_path / "a.gguf", {}, backwards))
    assert header.rooms() == {
        "token_embd.weight": 512,
        "blk.0.ffn_down_exps.weight": 224,
        "output_norm.weight": 128,
    }


def test_tensors_of_many_dimensions_and_of_none_and_without_elements(tmp_path):
    """ggml loads four dimensions; GGUF has no such limit. What has no elements has no bytes, wherever it begins."""
    tensors = (
        TensorEntry(name="empty", shape=(0, 256), ggml_type=0, offset=0),
        TensorEntry(name="five", shape=(2, 1, 2, 1, 8), ggml_type=0, offset=0),
        TensorEntry(name="scalar", shape=(), ggml_type=0, offset=128),
        TensorEntry(name="late", shape=(4, 0), ggml_type=0, offset=128),
        TensorEntry(name="last", shape=(256, 0), ggml_type=12, offset=160),
    )
    header = read_header(write(tmp_path / "a.gguf", {}, tensors, bytes(160)))
    assert header.tensors == tensors
    assert header.rooms() == {"empty": 0, "five": 128, "scalar": 32, "late": 0, "last": 0}


def test_a_file_of_metadata_alone_needs_no_padding(tmp_path):
    path = write(tmp_path / "vocab.gguf", {"key": GGUFValue.of(ValueType.STRING, "text")}, (), b"")
    path.write_bytes(path.read_bytes().rstrip(b"\0"))
    header = read_header(path)
    assert header.data_start > header.file_size
    assert (header.metadata["key"].decode(), header.tensors, header.rooms()) == ("text", (), {})


def test_a_header_longer_than_one_read_is_read_on(tmp_path):
    words = [f"token {i}" * (1 + i % 7) for i in range(30_000)]
    value = GGUFValue.array(ValueType.STRING, words)
    blob = GGUFValue.array(ValueType.UINT8, np.arange(400_000, dtype=np.uint8))
    header = read_header(write(tmp_path / "a.gguf", {"a": value, "b": blob, "c": value}))
    assert header.metadata == {"a": value, "b": blob, "c": value}
    assert header.metadata["c"].decode() == words
    assert header.tensors == TENSORS


@pytest.fixture(scope="module")
def by_gguf_py(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gguf-py") / "model.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_float32("llama.rope.freq_base", 1e4)
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_token_list(["<s>", "</s>", "naïve", "中"])
    writer.add_token_scores([0.0, -1.0, -2.5, 1e-8])
    writer.add_token_types([3, 3, 1, 1])
    writer.add_tensor("token_embd.weight", np.ones((4, 32), np.float32))
    writer.add_tensor("blk.0.ffn_down_exps.weight", np.ones((2, 3, 5), np.float16))
    writer.add_tensor("output_norm.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_gguf_pys_files_are_read_as_gguf_py_reads_them(by_gguf_py):
    header, peer = read_header(by_gguf_py), GGUFReader(by_gguf_py)
    assert header.data_start == peer.data_offset
    fields = {key: field.contents() for key, field in peer.fields.items() if not key.startswith("GGUF.")}
    assert {key: value.decode() for key, value in header.metadata.items()} == fields
    assert list(header.metadata) == list(fields)
    assert [(t.name, t.shape, t.ggml_type, t.offset + header.data_start) for t in header.tensors] == [
        (t.name, tuple(map(int, t.shape[::-1])), int(t.tensor_type), t.data_offset) for t in peer.tensors
    ]


def test_the_bytes_are_those_that_gguf_py_writes(by_gguf_py):
    header = read_header(by_gguf_py)
    written = encode_header(header.metadata, header.tensors, header.alignment)
    assert written == by_gguf_py.read_bytes()[: header.data_start]
    assert len(written) == header_size(header.metadata, header.tensors, header.alignment)


def test_gguf_py_reads_what_we_write(tmp_path):
    peer = GGUFReader(write(tmp_path / "a.gguf"))
    assert peer.fields["array.STRING"].contents() == [SCALARS[ValueType.STRING]] * 3
    assert [tensor.name for tensor in peer.tensors] == [tensor.name for tensor in TENSORS]


def test_reading_headers_imports_neither_compiler_nor_peer():
    check = "import sys, quantrecipe.model.open_model, quantrecipe.gguf.header; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert not {"numba", "gguf", "scipy", "click", "rich"} & set(loaded.split())
