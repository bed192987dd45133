"""Sums of importance matrices: llama-imatrix's own, and weighted ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.imatrix_files import write_gguf_imatrix

from quantrecipe.errors import ImportanceError
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.merge import merged, whole_ratios
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.importance.to_dat import encode_dat
from quantrecipe.importance.to_gguf import encode_gguf

DATA = Path(__file__).parent.parent / "data" / "imatrix"
NAME = "blk.0.ffn_up_exps.weight"


def matrix(
    path: Path, rows: Sequence[Sequence[float]], counts: Sequence[float], name: str = NAME
) -> Importance:
    return read_importance(write_gguf_imatrix(path, {name: (np.float32(rows), counts)}, datasets=[path.stem]))


@pytest.mark.parametrize(
    ("sources", "recorded"),
    [
        (["imatrix.code.gguf", "imatrix.prose.gguf"], "imatrix.merged.gguf"),
        (["experts/a.gguf", "experts/b.gguf"], "experts/a+b.gguf"),
        (["experts/a.dat", "experts/b.gguf"], "experts/a-dat+b.gguf"),
        (["experts/b.gguf", "experts/a.gguf", "experts/a.gguf"], "experts/b+a+a.dat"),
    ],
)
def test_bytes_are_those_of_llama_imatrix(sources: list[str], recorded: str) -> None:
    found = merged([read_importance(DATA / source) for source in sources])
    encoded = (encode_dat if recorded.endswith(".dat") else encode_gguf)(found)
    assert b"".join(encoded.pieces()) == (DATA / recorded).read_bytes()


class TestWeights:
    def test_say_how_many_times_a_file_counts(self) -> None:
        a, b = (read_importance(DATA / "experts" / name) for name in ("a.gguf", "b.gguf"))
        listed, weighted = merged([a, a, b]), merged([a, b], weights=[2, 1])
        assert weighted.chunks == listed.chunks
        for expected, found in zip(listed.tensors, weighted.tensors, strict=True):
            assert (found.name, found.counts) == (expected.name, expected.counts)
            np.testing.assert_array_equal(found.sums(), expected.sums())

    def test_no_seen_expert_is_lost(self, tmp_path: Path) -> None:
        a = matrix(tmp_path / "a.gguf", [[3, 3], [5, 7]], [900, 1])
        b = matrix(tmp_path / "b.gguf", [[2, 2], [0, 0]], [500, 0])
        found = merged([a, b], weights=[0.1, 0.9]).tensors[0]
        assert found.counts == (900 + 9 * 500, 1)
        np.testing.assert_array_equal(found.sums(), [[21, 21], [5, 7]])

    @pytest.mark.parametrize(
        ("weights", "ratios"),
        [((2, 1), (2, 1)), ((0.7, 0.3), (7, 3)), ((1 / 3, 2 / 3), (1, 2)), ((5, 5, 5), (1, 1, 1))],
    )
    def test_are_ratios(self, weights: Sequence[float], ratios: Sequence[int]) -> None:
        assert whole_ratios(weights) == ratios

    @given(st.lists(st.integers(1, 99), min_size=2, max_size=4), st.sampled_from([1, 2, 10, 100]))
    def test_keep_their_proportions(self, weights: list[int], over: int) -> None:
        found = whole_ratios([weight / over for weight in weights])
        assert all(a * weights[0] == b * found[0] for a, b in zip(found, weights, strict=True))

    @pytest.mark.parametrize("bad", [(1, 0), (1, -2), (1, float("nan")), (1, float("inf"))])
    def test_are_positive(self, bad: Sequence[float]) -> None:
        with pytest.raises(ImportanceError, match="not positive: 1, "):
            whole_ratios(bad)

    @pytest.mark.parametrize("bad", [(1, 1e-9), (1, 1e9), (0.001, 999.999)])
    def test_have_a_simple_ratio(self, bad: Sequence[float]) -> None:
        with pytest.raises(ImportanceError, match="no simple ratio"):
            whole_ratios(bad)


class TestFilesThatDiffer:
    def test_one_count_holds_for_all_matrices(self, tmp_path: Path) -> None:
        one = matrix(tmp_path / "one.gguf", [[1, 2, 3, 4]], [10])
        two = matrix(tmp_path / "two.gguf", [[1, 1], [1, 1]], [5, 0])
        for order in ([one, two], [two, one]):
            found = merged(order).tensors[0]
            assert found.counts == (15, 10)
            np.testing.assert_array_equal(found.sums(), [[2, 3], [4, 5]])

    def test_texts_stand_in_the_order_of_the_files(self, tmp_path: Path) -> None:
        one, two = (matrix(tmp_path / f"{name}.gguf", [[1]], [1]) for name in ("one", "two"))
        assert merged([two, one]).datasets == ("two", "one")

    def test_other_sizes_are_another_model(self, tmp_path: Path) -> None:
        one = matrix(tmp_path / "one.gguf", [[1, 2]], [1])
        two = matrix(tmp_path / "two.gguf", [[1, 2, 3]], [1])
        with pytest.raises(
            ImportanceError, match=rf"two\.gguf: {NAME} has 3 values \(expected: 2, as in .*one"
        ):
            merged([one, two])

    def test_other_numbers_of_experts(self, tmp_path: Path) -> None:
        one = matrix(tmp_path / "one.gguf", [[1, 2, 3]] * 2, [1] * 2)
        two = matrix(tmp_path / "two.gguf", [[1, 2]] * 3, [1] * 3)
        with pytest.raises(ImportanceError, match=r"has 3 counts \(expected: 2"):
            merged([one, two])

    def test_nothing_in_common(self, tmp_path: Path) -> None:
        one = matrix(tmp_path / "one.gguf", [[1]], [1])
        two = matrix(tmp_path / "two.gguf", [[1]], [1], "v.blk.0.ffn_up.weight")
        with pytest.raises(ImportanceError, match=r"two\.gguf: has no tensor in common"):
            merged([one, two])

    def test_sums_too_large(self, tmp_path: Path) -> None:
        one = matrix(tmp_path / "one.gguf", [[3e38]], [1])
        with pytest.raises(ImportanceError, match="larger than float32 can hold"):
            merged([one, one]).tensors[0].sums()
