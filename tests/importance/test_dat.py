"""The legacy layout: every number in it is held against the file's size."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from support.imatrix_files import dat_bytes

from quantrecipe.errors import ImportanceError
from quantrecipe.importance.read_importance import read_importance


def i32(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}i", *numbers)


def written(folder: Path, raw: bytes) -> Path:
    path = folder / "m.dat"
    path.write_bytes(raw)
    return path


def entry(
    name: bytes = b"a", calls: int = 1, size: int = 1, values: bytes = bytes(4), length: int | None = None
) -> bytes:
    return i32(len(name) if length is None else length) + name + i32(calls, size) + values


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is not an importance matrix, but an empty file"),
        (b"\1\0\0", "its first number, 0, can't be"),
        (i32(0) + entry(), "its first number, 0, can't be"),
        (i32(-1) + entry(), "its first number, -1, can't be"),
        (i32(2) + entry(), "its first number, 2, can't be"),
        (i32(1) + entry(length=0), "its first name would be 0 bytes long"),
        (i32(1) + entry(length=-5), "its first name would be -5 bytes long"),
        (i32(1) + entry(b"x" * 1025), "its first name would be 1025 bytes long"),
        (i32(2) + entry() + entry(b"b", length=0), "entry 2 of 2 has a name of 0 bytes; make it again"),
        (i32(2) + entry() + entry(b"x" * 1025), "entry 2 of 2 has a name of 1025 bytes"),
        (i32(1) + entry(b"\xff"), "the name in entry 1 of 1 is no text"),
        (i32(1) + entry(size=0), "a claims 0 values, and the file has room for 1"),
        (i32(1) + entry(size=-1), "a claims -1 values, and the file has room for 1"),
        (i32(1) + entry(size=2, values=bytes(7)), "a claims 2 values, and the file has room for 1"),
        (i32(1) + entry() + b"\1\0", "ends within the number of chunks; it was cut short"),
        (i32(1) + entry() + i32(1) + b"\1", "ends within the name of the calibration text"),
        (i32(1) + entry() + i32(1, -1), "claims a calibration text with a name of -1 bytes"),
        (i32(1) + entry() + i32(1, 65537) + b"x" * 65537, "claims a calibration text with a name of 65537 bytes"),
        (i32(1) + entry() + i32(1, 5) + b"text", "ends within the name of the calibration text"),
        (i32(1) + entry() + i32(1, 4) + b"text!", "has 1 bytes after its end; make it again"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, raw: bytes, said: str) -> None:
    path = written(tmp_path, raw)
    with pytest.raises(ImportanceError) as error:
        read_importance(path)
    assert said in str(error.value)
    assert error.value.problems[0].file == path


def test_the_smallest_file(tmp_path: Path) -> None:
    found = read_importance(written(tmp_path, i32(1) + entry()))
    assert list(found.entries) == ["a"]
    assert (found.layout, found.chunks, found.chunk_size, found.datasets) == ("dat", 0, 0, ())
    assert (found.entries["a"].size, found.entries["a"].counts) == (1, (1,))


def test_the_longest_names(tmp_path: Path) -> None:
    raw = i32(2) + entry() + entry(b"x" * 1024) + i32(1, 65536) + b"y" * 65536
    found = read_importance(written(tmp_path, raw))
    assert [len(name) for name in found.entries] == [1, 1024]
    assert found.datasets == ("y" * 65536,)


def test_values_of_several_entries(tmp_path: Path) -> None:
    raw = dat_bytes([("a", 2, [1, 2, 3]), ("b", 4, [8])], chunks=7, dataset="text")
    found = read_importance(written(tmp_path, raw))
    assert found.entries["a"].sums.tolist() == [[1, 2, 3]]
    assert found.entries["b"].values.tolist() == [[2]]
    assert (found.chunks, found.datasets) == (7, ("text",))


@pytest.mark.parametrize("chunks", [-3, 0])
def test_chunks_that_are_none(tmp_path: Path, chunks: int) -> None:
    found = read_importance(written(tmp_path, i32(1) + entry() + i32(chunks, 0)))
    assert (found.chunks, found.datasets) == (0, ())


def test_a_text_s_name_that_is_no_utf_8_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    found = read_importance(written(tmp_path, i32(1) + entry() + i32(1, 2) + b"a\xff"))
    assert found.datasets == ("a\ufffd",)
