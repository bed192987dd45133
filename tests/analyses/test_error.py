"""error and imatrix: relative, row by row, the same for any chunk, 0 where nothing is lost."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

import quantrecipe.analyses.squares as module
from quantrecipe import load_registry
from quantrecipe.analyses.error import Error
from quantrecipe.analyses.imatrix import Imatrix
from quantrecipe.api import FormatSpec, QuantFormat
from quantrecipe.errors import NonFiniteError
from quantrecipe.tensor import TensorInfo

Floats = NDArray[np.float32]


class Integers(QuantFormat):
    """Rounds to whole numbers, four rows at a time."""

    spec: ClassVar[FormatSpec] = FormatSpec(
        name="INT", ggml_type=900, block=1, block_bytes=4, rows_per_group=4, dialect="test"
    )

    def encode(self, rows: Floats, importance: Floats | None = None, *, out: Any = None) -> Any:
        assert len(rows) % 4 == 0
        return np.rint(rows).astype("<f4").view(np.uint8)

    def decode(self, data: Any, k: int, *, out: Any = None) -> Floats:
        return np.asarray(data.view("<f4"), np.float32)


def oracle(rows: Floats, importance: Floats | None = None) -> float:
    weight = np.ones(rows.shape[1]) if importance is None else importance.astype(float)
    lost = whole = 0.0
    for row in rows.astype(float):
        off, energy = row - np.rint(row), float((weight * row**2).sum())
        noise = float((weight * off**2).sum())
        along = float((weight * off * row).sum() ** 2 / energy)
        lost += max(noise, min(noise + module.ALONG * along, energy))
        whole += energy
    return lost / whole


class Scaled(Integers):
    """Makes every weight larger by a hundredth, and nothing else."""

    def decode(self, data: Any, k: int, *, out: Any = None) -> Floats:
        return super().decode(data, k) * np.float32(1.01)

    def encode(self, rows: Floats, importance: Floats | None = None, *, out: Any = None) -> Any:
        return rows.astype("<f4").view(np.uint8)


@pytest.fixture
def rows() -> Floats:
    return (np.random.default_rng(3).standard_normal((64, 48)) * 3).astype(np.float32)


def test_is_the_relative_squared_error(rows: Floats) -> None:
    assert Error().score(rows, Integers()) == pytest.approx(oracle(rows), rel=1e-12)


def test_what_goes_along_with_the_weights_counts_more(rows: Floats) -> None:
    assert Error().score(rows, Scaled()) == pytest.approx((1 + module.ALONG) * 0.01**2, rel=1e-4)


def test_to_lose_everything_is_1(rows: Floats) -> None:
    assert Error().score(rows * np.float32(0.001), Integers()) == pytest.approx(1)


def test_is_weighted_by_importance(rows: Floats) -> None:
    importance = np.random.default_rng(4).random(48, dtype=np.float32)
    score = Imatrix().score(rows, Integers(), importance)
    assert score == pytest.approx(oracle(rows, importance), rel=1e-12)
    assert score != pytest.approx(oracle(rows), rel=1e-3)
    assert Error().score(rows, Integers(), importance) == Error().score(rows, Integers())


def test_without_importance_both_are_the_same(rows: Floats) -> None:
    assert Imatrix().score(rows, Integers()) == Error().score(rows, Integers())


@pytest.mark.parametrize("analysis", [Error(), Imatrix()], ids=lambda item: item.name)
def test_what_needs_importance_is_measured_without(analysis: Any) -> None:
    needy = load_registry(plugins=False).formats["IQ2_XXS"]
    wide = np.random.default_rng(5).standard_normal((4, 256)).astype(np.float32)
    assert 0.05 < analysis.score(wide, needy) < 0.2


def test_each_row_is_told_by_itself(rows: Floats) -> None:
    lost, whole = Error().row_losses(rows, Integers())
    again = [Error().row_losses(rows[start : start + 4], Integers()) for start in range(0, 64, 4)]
    assert (np.concatenate([part[0] for part in again]) == lost).all()
    assert (np.concatenate([part[1] for part in again]) == whole).all()
    assert whole.sum() == pytest.approx((rows.astype(float) ** 2).sum(), rel=1e-12)


def test_does_not_depend_on_scale_of_importance(rows: Floats) -> None:
    importance = np.random.default_rng(4).random(48, dtype=np.float32)
    score = Imatrix().score(rows, Integers(), importance)
    assert Imatrix().score(rows, Integers(), importance * 1024) == pytest.approx(score, rel=1e-12)


def test_takes_rows_in_pieces_that_fit_the_groups(rows: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Error().score(rows, Integers())
    monkeypatch.setattr(module, "_CHUNK_WEIGHTS", 7 * 48)  # seven rows; groups are of four
    assert Error().score(rows, Integers()) == pytest.approx(whole, rel=1e-12)


def test_of_zeros_is_zero() -> None:
    assert Error().score(np.zeros((4, 8), np.float32), Integers()) == 0


def test_of_what_is_not_lost_is_zero() -> None:
    assert Error().score(np.full((4, 8), 3, np.float32), Integers()) == 0


def test_is_never_nan() -> None:
    with pytest.raises(NonFiniteError, match="INT"):
        Error().score(np.full((4, 8), np.inf, np.float32), Integers())


def test_falls_with_the_bits_of_real_formats(rows: Floats) -> None:
    formats = load_registry(plugins=False).formats
    wide = np.tile(rows, (1, 16))
    losses = [Error().score(wide, formats[name]) for name in ("BF16", "F16", "F32")]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == 0


@pytest.mark.parametrize("analysis", [Error(), Imatrix()], ids=lambda item: item.name)
@pytest.mark.parametrize(
    ("name", "times"),
    [("output.weight", 0), ("token_embd.weight", 0), ("blk.3.ffn_down.weight", module.ALONG)],
)
def test_head_and_embeddings_count_every_part_of_an_error_alike(
    analysis: Any, name: str, times: float, rows: Floats
) -> None:
    here = analysis.for_tensor(TensorInfo.from_name(name, rows.shape, "F32"))
    assert here.score(rows, Scaled()) == pytest.approx((1 + times) * 0.01**2, rel=1e-4)
    assert (here.name, here.version) == (analysis.name, analysis.version)
    assert analysis.score(rows, Scaled()) == pytest.approx((1 + module.ALONG) * 0.01**2, rel=1e-4)
