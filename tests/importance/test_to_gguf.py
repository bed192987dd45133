"""GGUF importance matrices are llama-imatrix's, byte for byte, from either layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.imatrix_files import dat_bytes, write_gguf, write_gguf_imatrix

from quantrecipe.errors import ImportanceError
from quantrecipe.importance.measurement import EncodedImportance, measured
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.importance.to_gguf import encode_gguf

DATA = Path(__file__).parent.parent / "data" / "imatrix"
NAME = "blk.0.ffn_up.weight"


def content(encoded: EncodedImportance) -> bytes:
    data = b"".join(encoded.pieces())
    assert len(data) == encoded.nbytes
    return data


@pytest.mark.parametrize(
    ("source", "recorded"),
    [
        ("imatrix.code.gguf", "imatrix.code.gguf"),
        ("imatrix.merged.gguf", "imatrix.merged.gguf"),
        ("experts/a.gguf", "experts/a.gguf"),
        ("experts/a.dat", "experts/a-dat.gguf"),
    ],
)
def test_bytes_are_those_of_llama_imatrix(source: str, recorded: str) -> None:
    assert content(encode_gguf(measured(read_importance(DATA / source)))) == (DATA / recorded).read_bytes()


def test_from_dat_the_importance_is_the_same_to_the_bit(tmp_path: Path) -> None:
    old = read_importance(DATA / "imatrix.code.dat")
    path = tmp_path / "new.gguf"
    path.write_bytes(content(encode_gguf(measured(old))))
    new = read_importance(path)
    assert (new.datasets, new.chunks, new.chunk_size) == (old.datasets, 190, 512)
    for name, entry in old.entries.items():
        np.testing.assert_array_equal(new.entries[name].values, entry.values)


def test_an_entry_without_calls_keeps_its_values(tmp_path: Path) -> None:
    source, path = tmp_path / "m.dat", tmp_path / "m.gguf"
    source.write_bytes(dat_bytes([(NAME, 0, [2, 4, 8])]))
    path.write_bytes(content(encode_gguf(measured(read_importance(source)))))
    np.testing.assert_array_equal(read_importance(path).entries[NAME].values, [[2, 4, 8]])


def test_a_dat_file_does_not_say_its_chunk_size(tmp_path: Path) -> None:
    source = tmp_path / "m.dat"
    source.write_bytes(dat_bytes([(NAME, 3, [6, 12])], chunks=3))
    matrix = read_importance(source)
    assert measured(matrix).tensors[0].counts == (3 * 512,)
    other = measured(matrix, chunk_size=100)
    assert (other.tensors[0].counts, other.chunks, other.chunk_size) == ((300,), 3, 100)
    np.testing.assert_array_equal(other.tensors[0].sums(), [[600, 1200]])


def test_files_that_say_nothing_of_themselves(tmp_path: Path) -> None:
    ones = np.ones((1, 8), np.float32)
    path = write_gguf(tmp_path / "m.gguf", {f"{NAME}.in_sum2": ones, f"{NAME}.counts": ones[:, :1] * 2000})
    found = measured(read_importance(path))
    assert (found.datasets, found.chunks, found.chunk_size) == ((), 3, 512)
    path.write_bytes(content(encode_gguf(found)))
    assert read_importance(path).chunks == 3


def test_a_name_that_llama_cpp_would_not_read(tmp_path: Path) -> None:
    source = tmp_path / "m.dat"
    source.write_bytes(dat_bytes([("x" * 55, 1, [1.0]), ("y" * 56, 1, [1.0])]))
    with pytest.raises(ImportanceError, match=r"the name yyy.* is too long .*63 bytes"):
        encode_gguf(measured(read_importance(source)))


def test_sums_too_large_for_the_layout_are_an_error(tmp_path: Path) -> None:
    source = tmp_path / "m.dat"
    source.write_bytes(dat_bytes([(NAME, 1, [3e38])]))
    with pytest.raises(ImportanceError, match=f"{NAME}: a sum of squares is larger than float32"):
        content(encode_gguf(measured(read_importance(source))))


def test_tensors_that_are_not_understood_are_named(tmp_path: Path) -> None:
    ones = np.ones((1, 8), np.float32)
    tensors = {f"{NAME}.in_sum2": ones, f"{NAME}.counts": ones[:, :1], f"{NAME}.in_max": ones}
    assert read_importance(write_gguf(tmp_path / "m.gguf", tensors)).others == (f"{NAME}.in_max",)


def test_the_order_of_the_source_does_not_matter(tmp_path: Path) -> None:
    one = (np.float32([[1, 2]]), [3])
    two = (np.float32([[3, 4, 5]]), [6])
    paths = [
        write_gguf_imatrix(tmp_path / "ab.gguf", {"a.weight": one, "b.weight": two}),
        write_gguf_imatrix(tmp_path / "ba.gguf", {"b.weight": two, "a.weight": one}),
    ]
    first, second = (content(encode_gguf(measured(read_importance(path)))) for path in paths)
    assert first == second


def test_more_chunks_than_the_layout_can_say(tmp_path: Path) -> None:
    """As matrices give that are added up with large weights."""
    matrix = measured(read_importance(DATA / "imatrix.code.gguf"))
    assert encode_gguf(replace(matrix, chunks=2**32 - 1)).nbytes
    with pytest.raises(
        ImportanceError, match=r"chunks, 4,294,967,296, is too large .*; give smaller weights"
    ):
        encode_gguf(replace(matrix, chunks=2**32))
