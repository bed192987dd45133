"""Sums: what a file keeps of them, and what an importance matrix gets."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from quantrecipe.calibration.sums import DAMAGED, InputSums, SumsFile, write_sums
from quantrecipe.errors import ImportanceError, OutputError


def sums() -> dict[str, InputSums]:
    return {
        "blk.0.attn_q.weight": InputSums(np.array([[2.0, 4.0]]), np.array([3.0]), np.array([2])),
        "blk.0.ffn_up_exps.weight": InputSums(
            np.array([[3.0, 6.0], [0.0, 0.0], [5.0, 1.0]]), np.array([1.25, 0.0, 0.4]), np.array([1, 0, 1])
        ),
        "blk.0.attn_k_b.weight": InputSums(
            np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([5.0]), np.array([5])
        ),
    }


SHARED = {
    "blk.0.attn_q.weight": "blk.0.attn_q.weight",
    "blk.0.attn_k.weight": "blk.0.attn_q.weight",
    "blk.0.ffn_up_exps.weight": "blk.0.ffn_up_exps.weight",
    "blk.0.attn_k_b.weight": "blk.0.attn_k_b.weight",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_sums(
        tmp_path / "s", sums(), {"blk.0.attn_q.weight": np.ones((1, 2), np.float32)}, SHARED, {"groups": 3}
    )
    return tmp_path / "s"


def test_what_was_written_is_read(path: Path) -> None:
    found = SumsFile.read(path)
    assert found is not None
    assert (found.about, found.shared) == ({"groups": 3}, SHARED)
    for name, expected in sums().items():
        got = found.sums()[name]
        assert np.array_equal(got.squares, expected.squares)
        assert np.array_equal(got.weighed, expected.weighed)
        assert np.array_equal(got.tokens, expected.tokens)
    assert found.means()["blk.0.attn_q.weight"].tolist() == [[1, 1]]


def test_means_are_per_expert_where_counts_are() -> None:
    means = sums()["blk.0.ffn_up_exps.weight"].means
    assert means.tolist() == [[2.4, 4.8], [0, 0], [12.5, 2.5]]
    assert sums()["blk.0.attn_k_b.weight"].means.tolist() == [[0.2, 0.4], [0.6, 0.8]]


def test_a_matrix_gets_whole_counts_and_the_same_means(path: Path) -> None:
    found = SumsFile.read(path)
    assert found is not None
    tensors = {tensor.name: tensor for tensor in found.measured()}
    assert list(tensors) == sorted(SHARED)
    experts = tensors["blk.0.ffn_up_exps.weight"]
    assert experts.counts == (1, 0, 1)  # 0.4 is less than half a token, and yet there was one
    assert np.allclose(experts.sums(), [[2.4, 4.8], [0, 0], [12.5, 2.5]])
    heads = tensors["blk.0.attn_k_b.weight"]
    assert (heads.counts, heads.size, heads.sums().shape) == ((5,), 4, (1, 4))
    assert np.array_equal(tensors["blk.0.attn_k.weight"].sums(), tensors["blk.0.attn_q.weight"].sums())
    assert found.tokens()["blk.0.attn_k.weight"].tolist() == [2]


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_a_file_that_is_none_is_begun_anew(path: Path, damage: bytes | None) -> None:
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    assert SumsFile.read(path) is None
    assert SumsFile.read(path.with_name("none")) is None


def test_one_whose_arrays_are_damaged_is_begun_anew(tmp_path: Path) -> None:
    """Wherever a byte is wrong: reading it either gives the same sums, or raises what the caller expects."""
    write_sums(tmp_path / "s", sums(), {}, SHARED, {"groups": 3})
    whole = (tmp_path / "s").read_bytes()
    for place in range(0, len(whole), 17):
        (tmp_path / "s").write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        found = SumsFile.read(tmp_path / "s")
        try:
            read = found.sums() if found is not None else {}
        except DAMAGED:
            continue
        for name, each in read.items():
            assert np.array_equal(each.squares, sums()[name].squares)


def test_another_version_s_file_is_begun_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantrecipe.calibration.sums._LAYOUT", 3)
    assert SumsFile.read(path) is None


def test_a_disk_that_fails_once_isn_t_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else hours of sums would be replaced by a new beginning."""
    found, opened = SumsFile.read(path), Path.open
    assert found is not None

    def fails(self: Path, mode: str = "r") -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "open", fails)
    for read in (lambda: SumsFile.read(path), found.sums, found.means, found.tokens):
        with pytest.raises(ImportanceError, match=r"can't be read \(Input/output error\); look at the disk"):
            read()
    monkeypatch.setattr(Path, "open", opened)
    assert SumsFile.read(path) == found


def test_damage_that_comes_while_it_is_used_is_told(path: Path) -> None:
    found = SumsFile.read(path)
    assert found is not None
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ImportanceError, match="can't be read any more"):
        found.tokens()


@pytest.mark.skipif(os.name != "posix", reason="there are no modes")
def test_it_is_its_owner_s_alone(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_disk_that_refuses(path: Path) -> None:
    with pytest.raises(OutputError, match="what was found so far can't be saved"):
        write_sums(path / "below a file", sums(), {}, SHARED, {})
