"""safetensors headers: whole ones are read, and those that lie are a ModelError that names the file."""

import json
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples

from quantrecipe.errors import ModelError
from quantrecipe.model.safetensors import read_safetensors_header

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny-code" / "model.safetensors"
HUGE = 2**60


def safetensors(header: object, data: int = 0, *, length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + bytes(data)


def entry(dtype="F32", shape=(2, 2), offsets=(0, 16)) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_the_example_is_read():
    header = read_safetensors_header(EXAMPLE)
    assert len(header.tensors) == 38
    assert header.metadata == {"format": "pt"}
    embedding = header.tensors["model.embed_tokens.weight"]
    assert (embedding.dtype, embedding.shape) == ("BF16", (2048, 256))
    assert embedding.extent.nbytes == 2048 * 256 * 2
    assert embedding.extent.file_size == header.file_size == EXAMPLE.stat().st_size


def test_tensors_come_in_the_order_of_their_data_whatever_their_dtypes(tmp_path):
    path = tmp_path / "a.safetensors"
    entries = {
        "late": entry("F8_E4M3", (3,), (26, 29)),
        "six bits": entry("F6_E2M3", (4,), (29, 32)),
        "unknown": entry("Q9_NEW", (5, 5), (32, 39)),
        "early": entry("I64", (1,), (0, 8)),
        "scalar": entry("BF16", (), (8, 10)),
        "middle": entry("F32", (2, 2), (10, 26)),
        "empty": entry("F16", (0, 7), (10, 10)),
    }
    path.write_bytes(safetensors(entries, 39))
    header = read_safetensors_header(path)
    assert list(header.tensors) == ["early", "scalar", "empty", "middle", "late", "six bits", "unknown"]
    start = header.file_size - 39
    assert [tensor.extent.offset - start for tensor in header.tensors.values()] == [0, 8, 10, 10, 26, 29, 32]
    assert header.tensors["unknown"].extent.nbytes == 7
    assert header.metadata == {}


def test_a_file_without_tensors_is_read(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors({"__metadata__": {"a": "b"}}))
    assert read_safetensors_header(path).metadata == {"a": "b"}


TWICE = b'{"a": %s, "a": %s}' % (json.dumps(entry()).encode(), json.dumps(entry()).encode())

BROKEN = {
    "empty file": (b"", "not a whole safetensors file"),
    "half a length": (b"\1\0\0", "not a whole safetensors file"),
    "length 0": (safetensors(b""), "a header of 0"),
    "length 2^60": (safetensors({}, length=HUGE), "not a whole safetensors file"),
    "length 2^64-1": (safetensors({}, length=2**64 - 1), "not a whole safetensors file"),
    "length one too many": (safetensors({}, length=3), "not a whole safetensors file"),
    "not JSON": (safetensors(b"{]"), "not valid JSON"),
    "not UTF-8": (safetensors(b'{"\xff": 1}'), "not valid JSON"),
    "UTF-16": (safetensors('{"a": 1}'.encode("utf-16")), "not valid JSON"),
    "half a surrogate pair": (safetensors(b'{"\\ud800": 1}'), "not valid JSON"),
    "a list": (safetensors([]), "not a JSON object"),
    "a number": (safetensors(b"7"), "not a JSON object"),
    "NaN": (safetensors(b'{"a": NaN}'), "NaN is not a JSON number"),
    "a number of 10,000 digits": (safetensors(b'{"a": ' + b"1" * 10_000 + b"}"), "not valid JSON"),
    "nested lists": (safetensors(b"[" * 100_000), "nested too deeply"),
    "nested objects": (safetensors(b'{"a":' * 100_000), "nested too deeply"),
    "name twice": (safetensors(TWICE, 16), "'a' is there twice"),
    "field twice": (safetensors(b'{"a": {"dtype": "F32", "dtype": "F16"}}'), "'dtype' is there twice"),
    "metadata twice": (safetensors(b'{"__metadata__": {}, "__metadata__": {}}'), "is there twice"),
    "metadata of numbers": (safetensors({"__metadata__": {"a": 1}}), "not an object of strings"),
    "metadata as a list": (safetensors({"__metadata__": []}), "not an object of strings"),
    "entry is a list": (safetensors({"a": []}), "'a' has no proper entry"),
    "entry without a shape": (
        safetensors({"a": {"dtype": "F32", "data_offsets": [0, 0]}}),
        "no proper entry",
    ),
    "entry with a stray field": (safetensors({"a": {**entry(), "more": 1}}, 16), "no proper entry"),
    "dtype is a number": (
        safetensors({"a": entry(7)}, 16),
        "'a' has no proper entry: dtype: expected `str`",
    ),
    "shape is a number": (
        safetensors({"a": {**entry(), "shape": 4}}, 16),
        "no proper entry: shape: expected `array`",
    ),
    "negative dimension": (safetensors({"a": entry(shape=(-2, -2))}, 16), "shape[0]: expected `int` >= 0"),
    "fractional dimension": (
        safetensors({"a": entry(shape=(2.0, 2))}, 16),
        "shape[0]: expected `int`, got `float`",
    ),
    "true as a dimension": (
        safetensors({"a": entry(shape=(True, 4))}, 16),
        "shape[0]: expected `int`, got `bool`",
    ),
    "dimension 2^64": (safetensors({"a": entry(shape=(2**64,))}, 16), "no proper entry: shape[0]"),
    "overflowing shape": (safetensors({"a": entry(shape=(2**62, 2**62, 4))}, 16), "doesn't make 16 bytes"),
    "a thousand dimensions": (
        safetensors({"a": entry(shape=[2**62] * 1000)}, 16),
        "expected `array` of length <= 32",
    ),
    "shape larger than its data": (safetensors({"a": entry(shape=(2, 3))}, 16), "doesn't make 16 bytes"),
    "shape smaller than its data": (safetensors({"a": entry("BF16")}, 16), "doesn't make 16 bytes"),
    "half bytes": (safetensors({"a": entry("F4", (3,), (0, 1))}, 1), "doesn't make 1 bytes"),
    "three offsets": (
        safetensors({"a": entry(offsets=(0, 8, 16))}, 16),
        "data_offsets: expected `array` of length 2",
    ),
    "offsets in reverse": (safetensors({"a": entry(offsets=(16, 0))}, 16), "impossible data_offsets"),
    "negative offsets": (
        safetensors({"a": entry(offsets=(-16, 0))}, 16),
        "data_offsets[0]: expected `int` >= 0",
    ),
    "true as an offset": (
        safetensors({"a": entry("U8", (1,), (False, True))}, 1),
        "data_offsets[0]: expected `int`",
    ),
    "offsets as text": (
        safetensors({"a": entry(offsets=("0", "16"))}, 16),
        "expected `int`, got `str`",
    ),
    "offset beyond the file": (safetensors({"a": entry()}, 15), "'a' reaches beyond the end of the file"),
    "offset 2^60": (safetensors({"a": entry(offsets=(HUGE, HUGE + 16))}, 16), "beyond the end"),
    "offset 2^64": (
        safetensors({"a": entry(offsets=(2**64, 2**64 + 16))}, 16),
        "no proper entry: data_offsets[0]",
    ),
    "overlap": (safetensors({"a": entry(), "b": entry(offsets=(8, 24))}, 24), "'a' and tensor 'b' overlap"),
    "same bytes twice": (safetensors({"a": entry(), "b": entry()}, 16), "overlap"),
    "gap": (safetensors({"a": entry(), "b": entry(offsets=(20, 36))}, 36), "4 bytes before tensor 'b'"),
    "gap at the start": (safetensors({"a": entry(offsets=(4, 20))}, 20), "4 bytes before tensor 'a'"),
    "bytes left over": (safetensors({"a": entry()}, 17), "1 bytes after tensor 'a'"),
}


@pytest.mark.parametrize(("raw", "says"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_an_error_that_names_it(tmp_path, raw, says):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(raw)
    tracemalloc.start()
    start = time.thread_time()
    with pytest.raises(ModelError) as caught:
        read_safetensors_header(path)
    spent, (_, peak) = time.thread_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.problems[0].remedy
    assert len(str(caught.value)) < 600
    assert spent < 1
    assert peak < 20 * len(raw) + 300_000


def test_a_header_above_the_formats_limit_is_refused_unread(tmp_path):
    path = tmp_path / "sparse.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100_000_001))
        file.truncate(2**30)
    tracemalloc.start()
    with pytest.raises(ModelError, match="the format allows 100,000,000"):
        read_safetensors_header(path)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


VALID = safetensors({"__metadata__": {"format": "pt"}, "a": entry(), "b": entry("BF16", (4,), (16, 24))}, 24)
FUZZ = settings(
    max_examples=examples(400), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


def read_or_refuse(path: Path, raw: bytes) -> None:
    """Anything but a header or a ModelError is a bug."""
    path.write_bytes(raw)
    try:
        header = read_safetensors_header(path)
    except ModelError:
        return
    assert sum(tensor.extent.nbytes for tensor in header.tensors.values()) <= len(raw)


@FUZZ
@given(st.binary(max_size=100))
def test_random_bytes_are_a_header_or_a_model_error(tmp_path, noise):
    read_or_refuse(tmp_path / "noise.safetensors", noise)
    read_or_refuse(tmp_path / "noise.safetensors", safetensors(noise))


@FUZZ
@given(JSON, JSON, JSON, st.integers(0, 20))
@pytest.mark.slow
def test_random_entries_are_a_header_or_a_model_error(tmp_path, dtype, shape, offsets, data):
    for header in (
        {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}},
        {"a": entry("U8", (4,), (0, 4)) | {"shape": shape}},
        {"a": entry("U8", (4,), (0, 4)) | {"data_offsets": offsets}, "__metadata__": dtype},
    ):
        read_or_refuse(tmp_path / "noise.safetensors", safetensors(header, data))


@FUZZ
@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255))), st.integers(0, len(VALID)))
def test_a_valid_file_with_changes_is_a_header_or_a_model_error(tmp_path, edits, cut):
    raw = bytearray(VALID)
    for at, byte in edits:
        raw[at] = byte
    read_or_refuse(tmp_path / "changed.safetensors", bytes(raw))
    read_or_refuse(tmp_path / "changed.safetensors", bytes(raw[:cut]))


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [
        ("BOOL", 8), ("U8", 8), ("I8", 8), ("U16", 16), ("I16", 16), ("U32", 32), ("I32", 32), ("U64", 64),
        ("I64", 64), ("F4", 4), ("F6_E2M3", 6), ("F6_E3M2", 6), ("F8_E4M3", 8), ("F8_E5M2", 8), ("F8_E8M0", 8),
        ("F16", 16), ("BF16", 16), ("F32", 32), ("F64", 64), ("C64", 64),
    ],
)  # fmt: skip
def test_every_dtype_has_its_size(tmp_path, dtype, bits):
    """Four of them fill whole bytes, and a byte more or less is refused."""
    path = tmp_path / "a.safetensors"
    for more, fits in ((0, True), (1, False), (-1, False)):
        nbytes = 4 * bits // 8 + more
        path.write_bytes(safetensors({"a": entry(dtype, (4,), (0, nbytes))}, nbytes))
        if fits:
            assert read_safetensors_header(path).tensors["a"].extent.nbytes == nbytes
        else:
            with pytest.raises(
                ModelError, match=f"tensor 'a' is {dtype} .*, which doesn't make {nbytes} bytes"
            ):
                read_safetensors_header(path)


def test_as_many_dimensions_as_are_read(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors({"a": entry("U8", (1,) * 32, (0, 1))}, 1))
    assert len(read_safetensors_header(path).tensors["a"].shape) == 32
    path.write_bytes(safetensors({"a": entry("U8", (1,) * 33, (0, 1))}, 1))
    with pytest.raises(ModelError, match="length <= 32"):
        read_safetensors_header(path)
