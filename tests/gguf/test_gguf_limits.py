"""What is just within the limits is read; type tags are those of the specification."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import pytest

from quantrecipe.errors import ModelError
from quantrecipe.gguf.header import TensorEntry, read_header
from quantrecipe.gguf.values import SIZES, GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header, padded


def test_type_tags_are_gguf_py_s() -> None:
    assert {it.name: int(it) for it in ValueType} == {it.name: int(it) for it in gguf.GGUFValueType}


@pytest.mark.parametrize(
    ("type_", "size"),
    [
        ("UINT8", 1), ("INT8", 1), ("BOOL", 1), ("UINT16", 2), ("INT16", 2), ("UINT32", 4), ("INT32", 4),
        ("FLOAT32", 4), ("UINT64", 8), ("INT64", 8), ("FLOAT64", 8),
    ],
)  # fmt: skip
def test_sizes_of_scalars(type_: str, size: int) -> None:
    assert len(GGUFValue.of(ValueType[type_], 1).payload) == size
    assert SIZES[ValueType[type_]] == size


def written(
    folder: Path,
    metadata: dict[str, GGUFValue],
    tensors: list[TensorEntry],
    data: int = 64,
    alignment: int = 32,
) -> Path:
    path = folder / "m.gguf"
    path.write_bytes(encode_header(metadata, tensors, alignment) + bytes(data))
    return path


@pytest.mark.parametrize("power", [0, 1, 5, 12, 20])
def test_alignments(tmp_path: Path, power: int) -> None:
    metadata = {"general.alignment": GGUFValue.of(ValueType.UINT32, 2**power)}
    header = read_header(written(tmp_path, metadata, [], alignment=2**power))
    assert header.alignment == 2**power
    assert header.data_start % 2**power == 0


@pytest.mark.parametrize(
    ("alignment", "said"),
    [
        (
            2**21,
            "general.alignment is 2097152; quantrecipe reads at most 1048576; write the file with a smaller",
        ),
        (2**20 + 2, r"general.alignment is 1048578 \(expected: UINT32, a power of two up to 1048576\)"),
        (3, r"general.alignment is 3 \(expected"),
    ],
)
def test_alignments_that_are_none(tmp_path: Path, alignment: int, said: str) -> None:
    metadata = {"general.alignment": GGUFValue.of(ValueType.UINT32, alignment)}
    with pytest.raises(ModelError, match=said):
        read_header(written(tmp_path, metadata, [], alignment=alignment))


def test_thirty_two_dimensions(tmp_path: Path) -> None:
    (tensor,) = read_header(
        written(tmp_path, {}, [TensorEntry(name="a", shape=(1,) * 31 + (16,), ggml_type=0, offset=0)])
    ).tensors
    assert tensor.shape == (1,) * 31 + (16,)


@pytest.mark.parametrize("shape", [(2**63 - 1,), (7, (2**63 - 1) // 7), (0, 2**63 - 1)])
def test_as_many_weights_as_ggml_can_count(tmp_path: Path, shape: tuple[int, ...]) -> None:
    header = read_header(written(tmp_path, {}, [TensorEntry(name="a", shape=shape, ggml_type=0, offset=0)]))
    assert header.tensors[0].shape == shape


@pytest.mark.parametrize("shape", [(2**63,), (2, 2**62), (0, 2**63)])
def test_one_more_is_impossible(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="impossible shape"):
        read_header(written(tmp_path, {}, [TensorEntry(name="a", shape=shape, ggml_type=0, offset=0)]))


def nested(depth: int) -> GGUFValue:
    """Arrays in arrays, the innermost empty."""
    array = struct.Struct("<IQ")
    return GGUFValue(ValueType.ARRAY, array.pack(9, 1) * (depth - 1) + array.pack(4, 0))


def test_four_arrays_in_each_other(tmp_path: Path) -> None:
    header = read_header(written(tmp_path, {"deep": nested(4)}, []))
    assert header.metadata["deep"].decode() == [[[[]]]]
    with pytest.raises(ModelError, match="'deep' nests arrays more than 4 deep"):
        read_header(written(tmp_path, {"deep": nested(5)}, []))


def test_a_tensor_that_begins_at_the_last_byte(tmp_path: Path) -> None:
    """Whether it is long enough is for those to say who know its type."""
    tensors = [TensorEntry(name="a", shape=(16,), ggml_type=0, offset=64)]
    assert read_header(written(tmp_path, {}, tensors, data=65)).rooms() == {"a": 1}
    with pytest.raises(ModelError, match=r"tensor 'a' begins at byte .*, beyond the end of the file"):
        read_header(written(tmp_path, {}, tensors, data=64))


def test_arrays_that_fill_the_file_to_its_end(tmp_path: Path) -> None:
    """Of numbers and of strings; one more item than there is room for is refused before it is read."""
    words = GGUFValue.array(ValueType.STRING, ["a", "", "b"])
    for value in (GGUFValue.array(ValueType.UINT64, [1, 2, 3]), words):
        header = encode_header({"k": value}, [])
        raw = header[: 24 + 8 + 1 + 4 + len(value.payload)]
        path = tmp_path / "m.gguf"
        path.write_bytes(raw)
        assert read_header(path).metadata["k"] == value
        path.write_bytes(raw[:-1])
        with pytest.raises(ModelError, match=r"'k' (claims 3 items, more|reaches beyond)"):
            read_header(path)


@pytest.mark.parametrize(
    ("nbytes", "alignment", "expected"),
    [(0, 32, 0), (1, 32, 32), (31, 32, 32), (32, 32, 32), (33, 32, 64), (5, 1, 5)],
)
def test_padding(nbytes: int, alignment: int, expected: int) -> None:
    assert padded(nbytes, alignment) == expected


def test_values_without_length_or_items() -> None:
    number = GGUFValue.of(ValueType.UINT32, 0)
    assert bool(number)
    with pytest.raises(TypeError, match="a UINT32 has no length"):
        len(number)
    with pytest.raises(TypeError, match="a UINT32 has no items"):
        number.first(1)
    assert (number.item_type, len(GGUFValue.of(ValueType.STRING, "é"))) == (None, 2)
    with pytest.raises(ModelError, match="an array of arrays can be copied"):
        GGUFValue.array(ValueType.ARRAY, [[1]])
