"""Files that lie: each is a ModelError that names the file, at once and without large allocations."""

import os
import re
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.examples import examples

from quantrecipe.errors import ModelError
from quantrecipe.gguf.header import read_header

HUGE = 2**60


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return u64(len(raw)) + raw


def key(name: str | bytes = "key", type_: int = 4, payload: bytes = u32(7)) -> bytes:
    return string(name) + u32(type_) + payload


def tensor(name="a", dims=(32, 4), type_=0, offset=0, n_dims=None) -> bytes:
    count = u32(len(dims) if n_dims is None else n_dims)
    return string(name) + count + b"".join(map(u64, dims)) + u32(type_) + u64(offset)


def gguf(*, magic=b"GGUF", version=3, keys=(), tensors=(), n_keys=None, n_tensors=None, data=512) -> bytes:
    n_keys = len(keys) if n_keys is None else n_keys
    n_tensors = len(tensors) if n_tensors is None else n_tensors
    head = magic + u32(version) + u64(n_tensors) + u64(n_keys) + b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data)


def array(item_type: int, count: int, items: bytes = b"") -> bytes:
    return u32(item_type) + u64(count) + items


def aligned_to(number: int, type_: int = 4) -> bytes:
    return key("general.alignment", type_, struct.pack("<I", number) if type_ == 4 else u64(number))


VALID = gguf(
    keys=[key(), key("text", 8, string("value")), key("list", 9, array(8, 2, string("a") + string("b")))],
    tensors=[tensor("a"), tensor("b", (32,), 0, 512)],
    data=640,
)

BROKEN = {
    "empty file": (b"", "too short"),
    "half a prefix": (VALID[:11], "too short"),
    "another magic": (gguf(magic=b"GGML"), "not a GGUF file"),
    "version 0": (gguf(version=0), "version 0"),
    "version 1": (gguf(version=1), "convert the model again"),
    "version 4": (gguf(version=4), "version 4"),
    "big-endian": (gguf(version=3 << 24), "big-endian"),
    "2^60 keys": (gguf(n_keys=HUGE), "metadata keys"),
    "2^64-1 keys": (gguf(n_keys=2**64 - 1), "metadata keys"),
    "2^60 tensors": (gguf(n_tensors=HUGE), "tensors"),
    "fewer keys than claimed": (gguf(keys=[key()], n_keys=9, data=128), "key"),
    "fewer tensors than claimed": (gguf(tensors=[tensor()], n_tensors=3, data=0), "tensor"),
    "key of 2^60 bytes": (gguf(keys=[u64(HUGE)]), "beyond the end"),
    "key of 2^64-1 bytes": (gguf(keys=[u64(2**64 - 1)]), "beyond the end"),
    "key that isn't UTF-8": (gguf(keys=[key(b"\xff\xfe")]), "not UTF-8"),
    "key twice": (gguf(keys=[key("general.name"), key("general.name")]), "'general.name' is there twice"),
    "unknown value type": (gguf(keys=[key(type_=13)]), "unknown value type 13"),
    "value type 2^32-1": (gguf(keys=[key(type_=2**32 - 1)]), "unknown value type"),
    "string of 2^60 bytes": (gguf(keys=[key("k", 8, u64(HUGE))]), "'k' reaches beyond the end"),
    "string of 2^64-1 bytes": (gguf(keys=[key("k", 8, u64(2**64 - 1))]), "'k' reaches beyond the end"),
    "array of 2^60 bytes": (gguf(keys=[key("k", 9, array(0, HUGE))]), "claims"),
    "array of 2^61 doubles": (gguf(keys=[key("k", 9, array(12, 2**61))]), "claims"),
    "array of 2^60 strings": (gguf(keys=[key("k", 9, array(8, HUGE))]), "claims"),
    "array of 2^60 arrays": (gguf(keys=[key("k", 9, array(9, HUGE))]), "claims"),
    "array of an unknown type": (gguf(keys=[key("k", 9, array(99, 1))]), "unknown value type 99"),
    "a long string in an array": (gguf(keys=[key("k", 9, array(8, 2, string("a") + u64(HUGE)))]), "beyond"),
    "arrays within arrays": (gguf(keys=[key("k", 9, array(9, 1) * 5 + array(0, 0))]), "nests arrays"),
    "thousands of arrays within arrays": (gguf(keys=[key("k", 9, array(9, 1) * 50_000)]), "nests arrays"),
    "alignment 0": (gguf(keys=[aligned_to(0)]), "general.alignment"),
    "alignment 48": (gguf(keys=[aligned_to(48)]), "general.alignment is 48"),
    "alignment 2^31": (gguf(keys=[aligned_to(2**31)]), "general.alignment is 2147483648"),
    "alignment as u64": (gguf(keys=[aligned_to(32, 10)]), "general.alignment is UINT64"),
    "alignment as text": (
        gguf(keys=[key("general.alignment", 8, string("32"))]),
        "general.alignment is STRING",
    ),
    "33 dimensions": (gguf(tensors=[tensor(dims=(1,) * 33)]), "33 dimensions; quantrecipe reads at most 32"),
    "2^32-1 dimensions": (gguf(tensors=[tensor(n_dims=2**32 - 1)]), "4294967295 dimensions"),
    "dimensions of 0 and 2^63": (gguf(tensors=[tensor(dims=(2**63, 0))]), "impossible shape"),
    "a dimension of 2^63": (gguf(tensors=[tensor(dims=(2**63,))]), "impossible shape"),
    "a product of 2^64": (gguf(tensors=[tensor(dims=(2**32, 2**32))]), "impossible shape"),
    "a product of 2^256": (gguf(tensors=[tensor(dims=(2**64 - 1,) * 4)]), "impossible shape"),
    "tensor twice": (gguf(tensors=[tensor("a"), tensor("a", offset=256)]), "'a' is there twice"),
    "tensor that isn't UTF-8": (gguf(tensors=[tensor(b"\xc3\x28")]), "not UTF-8"),
    "tensor name of 2^60 bytes": (gguf(tensors=[u64(HUGE)]), "beyond the end"),
    "offset between alignments": (gguf(tensors=[tensor(offset=16)]), "not a multiple of the alignment"),
    "offset at the end of the file": (gguf(tensors=[tensor(offset=512)]), "beyond the end of the file"),
    "offset 2^60": (gguf(tensors=[tensor(offset=HUGE)]), "beyond the end of the file"),
    "offset 2^64-32": (gguf(tensors=[tensor(offset=2**64 - 32)]), "beyond the end of the file"),
    "same offset twice": (gguf(tensors=[tensor("a"), tensor("b")]), "'a' and 'b' overlap"),
    "no data at all": (gguf(tensors=[tensor()], data=0), "beyond the end of the file"),
}


@pytest.mark.parametrize(("raw", "says"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_an_error_that_names_it(tmp_path, raw, says):
    path = tmp_path / "broken.gguf"
    path.write_bytes(raw)
    tracemalloc.start()
    start = time.thread_time()
    with pytest.raises(ModelError) as caught:
        read_header(path)
    spent, (_, peak) = time.thread_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.problems[0].remedy
    assert spent < 1
    assert peak < 4 * len(raw) + 300_000


WHOLE = re.compile(
    "version|big-endian|unknown value type|value type|alignment [0-9a]|key twice|tensor twice|33 dim|within arrays"
)


@pytest.mark.parametrize("name", [name for name in BROKEN if WHOLE.search(name)])
def test_a_file_that_may_be_whole_is_not_called_damaged(tmp_path, name):
    """What isn't supported, or what its writer got wrong, doesn't become right by downloading it again."""
    path = tmp_path / "other.gguf"
    path.write_bytes(BROKEN[name][0])
    with pytest.raises(ModelError) as caught:
        read_header(path)
    assert "damaged" not in str(caught.value)


def test_the_file_that_the_fuzzers_start_from_is_right(tmp_path):
    path = tmp_path / "valid.gguf"
    path.write_bytes(VALID)
    assert [entry.shape for entry in read_header(path).tensors] == [(4, 32), (32,)]


def test_a_header_cut_short_anywhere_is_an_error(tmp_path):
    path = tmp_path / "cut.gguf"
    for length in range(len(VALID) - 640):
        path.write_bytes(VALID[:length])
        with pytest.raises(ModelError, match=r"cut\.gguf: "):
            read_header(path)


def test_a_header_that_never_ends_is_given_up(tmp_path):
    path = tmp_path / "sparse.gguf"
    with path.open("wb") as file:
        file.write(gguf(keys=[key("blob", 9, array(0, 2**32))], data=0))
        file.truncate(2**33)
    with pytest.raises(ModelError, match="'blob' would make the header larger than 256 MiB"):
        read_header(path)


def test_a_missing_file_and_a_folder_are_errors(tmp_path):
    with pytest.raises(ModelError, match=r"none\.gguf: there is no such file"):
        read_header(tmp_path / "none.gguf")
    with pytest.raises(ModelError, match="is not a regular file"):
        read_header(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelError, match="is not a regular file"):
        read_header(tmp_path / "pipe.gguf")


def read_or_refuse(path: Path, raw: bytes) -> None:
    """Anything but a header or a ModelError is a bug."""
    path.write_bytes(raw)
    try:
        header = read_header(path)
    except ModelError:
        return
    assert sum(map(len, (value.payload for value in header.metadata.values()))) <= len(raw)
    rooms = header.rooms()
    assert all(rooms[t.name] == 0 if 0 in t.shape else rooms[t.name] > 0 for t in header.tensors)
    for value in header.metadata.values():
        value.decode()


FUZZ = settings(
    max_examples=examples(400), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(st.binary(max_size=200))
def test_random_bytes_are_a_header_or_a_model_error(tmp_path, noise):
    read_or_refuse(tmp_path / "noise.gguf", noise)
    read_or_refuse(tmp_path / "noise.gguf", VALID[:8] + noise)
    read_or_refuse(tmp_path / "noise.gguf", VALID[:24] + noise)


NASTY = st.sampled_from([0, 1, 7, 8, 9, 12, 31, 32, 2**31, 2**32 - 1, 2**60, 2**63 - 1, 2**63, 2**64 - 1])


@FUZZ
@given(
    edits=st.lists(st.tuples(st.integers(0, len(VALID) - 640), st.one_of(NASTY, st.integers(0, 255)))),
    width=st.sampled_from(["<B", "<I", "<Q"]),
    cut=st.one_of(st.none(), st.integers(0, len(VALID))),
)
@example(edits=[(8, 2**63 - 1)], width="<Q", cut=None)
def test_a_valid_header_with_changes_is_a_header_or_a_model_error(tmp_path, edits, width, cut):
    raw = bytearray(VALID)
    size = struct.calcsize(width)
    for at, number in edits:
        raw[at : at + size] = struct.pack(width, number % 256**size)
    read_or_refuse(tmp_path / "changed.gguf", bytes(raw[:cut]))
