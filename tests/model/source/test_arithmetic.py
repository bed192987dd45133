"""Numbers that are computed, against NumPy on whole arrays, bit for bit."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.sources import in_any_runs, stored

from quantrecipe.errors import ModelError
from quantrecipe.model.source import arithmetic
from quantrecipe.model.source.arithmetic import Add, Inverse, NegExp, Scale, Ternary, Whole
from quantrecipe.model.source.floats import from_float32, to_float32
from quantrecipe.model.source.layout import PadRows
from quantrecipe.model.source.source import Stored, TensorSource

CUTS = st.lists(st.integers(0, 40), max_size=4)
DTYPES = st.sampled_from(["F32", "F16", "BF16"])
GIVES = st.sampled_from(["F32", "F16", "BF16"])
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


def drawn(folder: Path, dtype: str, shape: tuple[int, ...] = (2, 9, 7)) -> tuple[TensorSource, Floats]:
    """Random numbers as they are stored in this type, and as float32."""
    values = np.random.default_rng(5).standard_normal(shape, np.float32) * 8
    raw = from_float32(values.reshape(-1, shape[-1]), dtype)
    bits = raw.view({2: np.uint16, 4: np.uint32}[raw.shape[1] // shape[-1]]).reshape(shape)
    return stored(folder / dtype, bits, dtype), to_float32(raw, dtype).reshape(shape)


def agree(source: TensorSource, expected: Floats, gives: str, cuts: list[int]) -> None:
    assert (source.shape, source.dtype) == (expected.shape, gives)
    rounded = from_float32(expected.reshape(-1, expected.shape[-1]), gives)
    assert in_any_runs(source, cuts).tobytes() == rounded.tobytes()
    assert pickle.loads(pickle.dumps(source)) == source


@given(DTYPES, GIVES, st.floats(-10, 10, width=32), CUTS)
def test_add(folder: Path, dtype: str, gives: str, number: float, cuts: list[int]) -> None:
    source, values = drawn(folder, dtype)
    agree(Add(source=source, number=number, gives=gives), values + np.float32(number), gives, cuts)


@given(DTYPES, GIVES, st.lists(st.floats(-4, 4, width=32), min_size=3, max_size=3), CUTS)
def test_scale(folder: Path, dtype: str, gives: str, factors: list[float], cuts: list[int]) -> None:
    source, values = drawn(folder, dtype)
    runs = tuple(zip((4, 0, 5), factors, strict=True))
    expected = values * np.float32([factors[0]] * 4 + [factors[2]] * 5)[:, np.newaxis]
    agree(Scale(source=source, runs=runs, gives=gives), expected, gives, cuts)


@given(DTYPES, CUTS)
def test_neg_exp(folder: Path, dtype: str, cuts: list[int]) -> None:
    source, values = drawn(folder, dtype)
    expected = -np.exp(values.astype(np.float64))
    agree(NegExp(source=source), expected.astype(np.float32), "F32", cuts)


@given(DTYPES, CUTS)
def test_inverse(folder: Path, dtype: str, cuts: list[int]) -> None:
    source, values = drawn(folder, dtype)
    with np.errstate(divide="ignore"):
        expected = np.float32(1) / values
    agree(Inverse(source=source), expected, "F32", cuts)


@given(DTYPES, GIVES, CUTS)
def test_ternary(folder: Path, dtype: str, gives: str, cuts: list[int]) -> None:
    source, values = drawn(folder, dtype, (18, 7))
    scale = np.float32(np.abs(values).mean(dtype=np.float64))
    inverse = np.float32(1) / scale
    expected = np.clip(np.rint(values * inverse), -1, 1) / inverse
    assert np.unique(np.sign(expected)).tolist() == [-1, 0, 1]
    agree(Ternary(source=source, gives=gives), expected.astype(np.float32), gives, cuts)


def test_ternary_in_blocks_and_slabs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, _ = drawn(folder, "BF16", (200, 7))
    whole = in_any_runs(Ternary(source=source), []).tobytes()
    monkeypatch.setattr(arithmetic, "_CHUNK", 21)
    monkeypatch.setattr(arithmetic, "SLAB", 64 * 14)
    small = Ternary(source=source)
    assert (small.together, small.stored_bytes(5)) == (64, 0)
    assert small.slab == 64 * 14 + 3 * 14
    assert in_any_runs(small, [64, 128]).tobytes() == whole


def test_ternary_of_nearly_nothing(folder: Path) -> None:
    values = np.array([[2e-6, -1e-7], [0, 1e-6]], np.float32)
    source = stored(folder / "tiny", values, "F32")
    found = in_any_runs(Ternary(source=source, gives="F32"), []).view(np.float32)
    assert not found.any()  # divided by 1e-5 at least, they are rounded to 0


def test_in_pieces_of_a_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are known by their numbers in any piece."""
    monkeypatch.setattr(arithmetic, "_CHUNK", 14)
    source, values = drawn(folder, "BF16")
    runs = tuple((1, float(i)) for i in range(9))
    expected = values * np.arange(9, dtype=np.float32)[:, np.newaxis]
    agree(Scale(source=source, runs=runs), expected, "F32", [1, 8, 11])


def test_too_large_an_exponent(folder: Path) -> None:
    source = stored(folder / "large", np.array([[90.0, -200.0]], np.float32), "F32")
    assert in_any_runs(NegExp(source=source), []).view(np.float32).tolist() == [[-np.inf, -0.0]]


def total(a: Floats, b: Floats) -> Floats:
    """The sum of all of one, times the other, turned."""
    return np.float32(a.sum()) * b.T


def wrong_shape(a: Floats) -> Floats:
    return a.reshape(-1)


@given(GIVES, CUTS)
def test_whole(folder: Path, gives: str, cuts: list[int]) -> None:
    a, a_values = drawn(folder, "F32", (3, 5))
    b, b_values = drawn(folder, "BF16", (4, 6))
    source = Whole(function=total, sources=(a, b), becomes=(6, 4), gives=gives)
    agree(source, np.float32(a_values.sum()) * b_values.T, gives, cuts)
    assert source.together == 6


def test_functions_go_by_their_names(folder: Path) -> None:
    a, _ = drawn(folder, "F32", (3, 5))
    with pytest.raises(ValueError, match="isn't a function of a module"):
        Whole(function=lambda values: values, sources=(a,), becomes=(3, 5))
    with pytest.raises(ValueError, match=r"wrong_shape made \(15,\) \(expected: \(3, 5\)\)"):
        in_any_runs(Whole(function=wrong_shape, sources=(a,), becomes=(3, 5)), [])


Q8 = Stored(name="q", shape=(4, 32), dtype="Q8_0", extents=())
LARGE = Stored(name="large", shape=(4096, 4096), dtype="BF16", extents=())


def test_only_a_matrix_has_one_scale(folder: Path) -> None:
    source, _ = drawn(folder, "BF16", (2, 3, 4))
    with pytest.raises(ModelError, match="is no matrix of numbers"):
        Ternary(source=source)


def test_what_can_t_be_computed(folder: Path) -> None:
    source, _ = drawn(folder, "BF16")
    with pytest.raises(ModelError, match=r"'q' \(Q8_0 \(4, 32\)\) can't be computed with"):
        Add(source=Q8, number=1)
    with pytest.raises(ModelError, match="can't be computed with to give Q8_0"):
        NegExp(source=source, gives="Q8_0")
    with pytest.raises(ModelError, match="has 9 rows, and factors for 8"):
        Scale(source=source, runs=((3, 1.0), (5, 2.0)))
    with pytest.raises(ModelError, match="has blocks, and no numbers"):
        Whole(function=total, sources=(source, Q8), becomes=(1, 1))
    with pytest.raises(ModelError, match="has to be known whole, and has 33,554,432 bytes"):
        Whole(function=total, sources=(LARGE,), becomes=(1, 1))
    with pytest.raises(ModelError, match="has more than"):
        PadRows(source=LARGE, count=1)
