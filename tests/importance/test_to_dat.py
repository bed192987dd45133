"""Legacy importance matrices are llama-imatrix's, byte for byte, and say what they leave out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.imatrix_files import write_gguf_imatrix

from quantrecipe.errors import ImportanceError
from quantrecipe.importance.measurement import EncodedImportance, measured
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.importance.to_dat import encode_dat

DATA = Path(__file__).parent.parent / "data" / "imatrix"
NAME = "blk.0.ffn_up.weight"


def content(encoded: EncodedImportance) -> bytes:
    data = b"".join(encoded.pieces())
    assert len(data) == encoded.nbytes
    return data


@pytest.mark.parametrize(
    ("source", "chunk_size", "recorded"),
    [
        ("imatrix.code.gguf", None, "imatrix.code.dat"),
        ("imatrix.code.dat", None, "imatrix.code.dat"),
        ("experts/a.gguf", None, "experts/a.dat"),
        ("experts/a.gguf", 100, "experts/a-c100.dat"),
    ],
)
def test_bytes_are_those_of_llama_imatrix(source: str, chunk_size: int | None, recorded: str) -> None:
    found = encode_dat(measured(read_importance(DATA / source), chunk_size=chunk_size))
    assert content(found) == (DATA / recorded).read_bytes()


def test_importance_is_kept(tmp_path: Path) -> None:
    new = read_importance(DATA / "experts" / "a.gguf")
    path = tmp_path / "m.dat"
    path.write_bytes(content(encode_dat(measured(new))))
    old = read_importance(path)
    for name, entry in old.entries.items():
        expected = new.entries[name].values.reshape(1, -1)
        np.testing.assert_allclose(entry.values, expected, rtol=3e-7)
    assert new.entries.keys() - old.entries.keys() == {"blk.1.ffn_up_exps.weight"}


class TestLosses:
    def test_nothing_that_matters(self) -> None:
        assert encode_dat(measured(read_importance(DATA / "imatrix.code.gguf"))).lost == ()

    def test_experts(self) -> None:
        assert encode_dat(measured(read_importance(DATA / "experts" / "a.gguf"))).lost == (
            "how many tokens each expert saw (2 tensors)",
            "counts of tokens that are no whole chunks of 512",
            "that 2 experts saw no token: their importance is 1, as llama-quantize has it",
            "1 tensor that saw no token at all",
            "calibration texts but the last: one.txt",
        )

    def test_chunk_size(self) -> None:
        matrix = read_importance(DATA / "imatrix.code.gguf")
        assert encode_dat(measured(matrix, chunk_size=256)).lost == ("the chunk size, 256",)


def test_nothing_seen_at_all(tmp_path: Path) -> None:
    zeros = np.zeros((2, 4), np.float32)
    matrix = read_importance(write_gguf_imatrix(tmp_path / "m.gguf", {NAME: (zeros, [0, 0])}))
    with pytest.raises(ImportanceError, match="no tensor was seen"):
        encode_dat(measured(matrix))


def test_numbers_that_the_layout_can_not_hold(tmp_path: Path) -> None:
    ones = np.ones((1, 4), np.float32)
    matrix = read_importance(write_gguf_imatrix(tmp_path / "m.gguf", {NAME: (ones, [2.0**50])}))
    with pytest.raises(ImportanceError, match=r"too large for a \.dat file; write a GGUF"):
        encode_dat(measured(matrix))
