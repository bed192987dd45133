"""How an importance matrix fits tensors: dense, experts, stacked heads, embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support.imatrix_files import dat_bytes, write_gguf_imatrix

from quantrecipe.errors import ImportanceError
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.tensor import TensorInfo

EXPERTS = "blk.1.ffn_down_exps.weight"
SUMS = np.arange(1, 13, dtype=np.float32).reshape(3, 4)


def tensor(name: str, *shape: int) -> TensorInfo:
    return TensorInfo.from_name(name, shape, "BF16")


def matrix(
    tmp_path: Path,
    name: str,
    sums: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    counts: Sequence[float],
) -> Importance:
    return read_importance(write_gguf_imatrix(tmp_path / "m.gguf", {name: (sums, counts)}))


class TestDense:
    def test_has_one_vector(self, tmp_path: Path) -> None:
        info = tensor("blk.0.attn_q.weight", 8, 4)
        importance = matrix(tmp_path, info.name, SUMS[:1], [2])
        found = importance.for_tensor(info)
        assert found is not None
        np.testing.assert_array_equal(found, SUMS[:1] / 2)
        assert found.shape == (1, 4)
        assert importance.fit(info).status == "covered"
        assert importance.covers(info)

    def test_without_entry(self, tmp_path: Path) -> None:
        importance = matrix(tmp_path, "blk.0.attn_q.weight", SUMS[:1], [2])
        other = tensor("blk.9.attn_q.weight", 8, 4)
        assert importance.for_tensor(other) is None
        assert importance.fit(other).status == "missing"
        assert not importance.covers(other)

    def test_of_another_size(self, tmp_path: Path) -> None:
        importance = matrix(tmp_path, "blk.0.attn_q.weight", SUMS[:1], [2])
        wide = tensor("blk.0.attn_q.weight", 8, 16)
        assert importance.fit(wide).status == "misfit"
        assert (importance.fit(wide).expected, importance.fit(wide).found) == (16, 4)
        assert not importance.covers(wide)
        with pytest.raises(ImportanceError, match=r"m\.gguf: blk\.0\.attn_q\.weight has 4 values"):
            importance.for_tensor(wide)

    def test_token_embedding_of_another_size_has_none(self, tmp_path: Path) -> None:
        importance = matrix(tmp_path, "token_embd.weight", SUMS[:1], [2])
        embedding = tensor("token_embd.weight", 100, 16)
        assert importance.for_tensor(embedding) is None
        assert importance.fit(embedding).status == "misfit"

    def test_never_reached(self, tmp_path: Path) -> None:
        info = tensor("blk.0.attn_q.weight", 8, 4)
        importance = matrix(tmp_path, info.name, SUMS[:1], [0])
        assert importance.fit(info).unseen == (0,)
        np.testing.assert_array_equal(importance.for_tensor(info), np.ones((1, 4)))


class TestExperts:
    def test_each_has_its_vector(self, tmp_path: Path) -> None:
        importance = matrix(tmp_path, EXPERTS, SUMS, [1, 2, 4])
        found = importance.for_tensor(tensor(EXPERTS, 3, 8, 4))
        np.testing.assert_array_equal(found, SUMS / np.float32([[1], [2], [4]]))

    def test_unseen_ones_count_as_one(self, tmp_path: Path) -> None:
        importance = matrix(tmp_path, EXPERTS, SUMS, [1, 0, 0])
        info = tensor(EXPERTS, 3, 8, 4)
        found = importance.for_tensor(info)
        assert found is not None
        np.testing.assert_array_equal(found[1:], np.ones((2, 4)))
        fit = importance.fit(info)
        assert (fit.status, fit.unseen, fit.usable) == ("unseen experts", (1, 2), True)
        assert importance.covers(info)

    def test_unseen_ones_in_a_legacy_file(self, tmp_path: Path) -> None:
        """Its writer stores calls, which is 1 once it is divided by calls."""
        path = tmp_path / "m.dat"
        path.write_bytes(dat_bytes([(EXPERTS, 7, [*SUMS[0], *([7.0] * 4), *SUMS[2]])]))
        importance = read_importance(path)
        info = tensor(EXPERTS, 3, 8, 4)
        assert importance.fit(info).unseen == (1,)
        found = importance.for_tensor(info)
        assert found is not None
        np.testing.assert_array_equal(found[2], SUMS[2] / np.float32(7))

    def test_ones_of_a_dense_matrix_in_a_legacy_file_are_values(self, tmp_path: Path) -> None:
        """They are a mark only where experts may be left out."""
        path = tmp_path / "m.dat"
        path.write_bytes(dat_bytes([("blk.0.ffn_up.weight", 7, [7.0] * 4)]))
        fit = read_importance(path).fit(tensor("blk.0.ffn_up.weight", 8, 4))
        assert (fit.status, fit.unseen) == ("covered", ())

    def test_another_number_of_experts(self, tmp_path: Path) -> None:
        importance = matrix(tmp_path, EXPERTS, SUMS, [1, 2, 4])
        assert importance.fit(tensor(EXPERTS, 4, 8, 4)).status == "misfit"


class TestStackedHeads:
    """A dense 3-D tensor, such as the attn_k_b of multi-head latent attention."""

    NAME = "blk.0.attn_k_b.weight"

    @pytest.mark.parametrize("counts", [[5], [5, 5, 5]], ids=["one count", "as many counts as slices"])
    def test_is_cut_into_slices(self, tmp_path: Path, counts: list[float]) -> None:
        sums = SUMS if len(counts) > 1 else SUMS.reshape(1, 12)
        importance = matrix(tmp_path, self.NAME, sums, counts)
        info = tensor(self.NAME, 3, 8, 4)
        np.testing.assert_array_equal(importance.for_tensor(info), SUMS / np.float32(5))
        assert importance.fit(info).status == "covered"

    def test_one_count_of_zero_is_all_unseen(self, tmp_path: Path) -> None:
        importance = matrix(tmp_path, self.NAME, SUMS.reshape(1, 12), [0])
        info = tensor(self.NAME, 3, 8, 4)
        assert importance.fit(info).unseen == (0, 1, 2)
        np.testing.assert_array_equal(importance.for_tensor(info), np.ones((3, 4)))


def test_a_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    importance = matrix(tmp_path, EXPERTS, SUMS, [1, 2, 4])
    path = tmp_path / "m.gguf"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ImportanceError, match="has become shorter"):
        importance.for_tensor(tensor(EXPERTS, 3, 8, 4))


def test_values_are_read_anew_and_may_be_changed(tmp_path: Path) -> None:
    importance = matrix(tmp_path, EXPERTS, SUMS, [1, 1, 1])
    importance.entries[EXPERTS].values[...] = 0
    np.testing.assert_array_equal(importance.entries[EXPERTS].values, SUMS)
