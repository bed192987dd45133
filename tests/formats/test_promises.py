"""What the contract promises of every format's encode and decode, whatever the format."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from quantrecipe.api import QuantFormat
from quantrecipe.errors import FormatError, NonFiniteError
from quantrecipe.formats import ALL

CODECS = [fmt for fmt in ALL if fmt.spec.codec]
each_codec = pytest.mark.parametrize("fmt", CODECS, ids=lambda fmt: fmt.spec.name)


def columns(fmt: QuantFormat) -> int:
    return fmt.spec.block * 3 if fmt.spec.block > 1 else 96


def rows_of(fmt: QuantFormat, n: int = 41, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, columns(fmt)), np.float32) * np.float32(0.02)
    rows[::5] *= np.float32(300)
    rows[1::7, ::3] = 0
    return rows


def importance_of(fmt: QuantFormat) -> np.ndarray | None:
    if fmt.spec.importance == "ignored":
        return None
    return np.random.default_rng(1).exponential(1.0, columns(fmt)).astype(np.float32)


@each_codec
def test_any_split_of_the_rows_gives_the_same_bytes(fmt: QuantFormat) -> None:
    rows = rows_of(fmt)
    for importance in {id(w): w for w in (None, importance_of(fmt))}.values():
        if importance is None and fmt.spec.importance == "required":
            continue
        whole = fmt.encode(rows, importance)
        for step in (1, 2, 3, 17):
            parts = [fmt.encode(rows[i : i + step], importance) for i in range(0, len(rows), step)]
            assert np.array_equal(np.concatenate(parts), whole), f"{step} rows at a time"
        back = fmt.decode(whole, rows.shape[1])
        parts = [fmt.decode(whole[i : i + 3], rows.shape[1]) for i in range(0, len(rows), 3)]
        assert np.array_equal(np.concatenate(parts), back)


@each_codec
def test_input_may_be_strided_swapped_unaligned_and_read_only_and_is_not_changed(fmt: QuantFormat) -> None:
    rows, importance = rows_of(fmt), importance_of(fmt)
    data = fmt.encode(rows, importance)
    back = fmt.decode(data, rows.shape[1])

    wide = np.zeros((2 * len(rows), 2 * rows.shape[1]), np.float32)
    wide[::2, ::2] = rows
    swapped = rows.astype(">f4")
    bytes_ = np.zeros(rows.nbytes + 1, np.uint8)
    unaligned = bytes_[1:].view(np.float32).reshape(rows.shape)
    unaligned[:] = rows
    for same in (wide[::2, ::2], np.asfortranarray(rows), swapped, unaligned):
        before = same.copy()
        same.flags.writeable = False
        weights = None if importance is None else np.repeat(importance, 2)[::2]
        assert np.array_equal(fmt.encode(same, weights), data)
        assert np.array_equal(same, before)

    spread = np.zeros((len(data), 2 * data.shape[1]), np.uint8)
    spread[:, ::2] = data
    spread.flags.writeable = False
    assert np.array_equal(fmt.decode(spread[:, ::2], rows.shape[1]), back)


@each_codec
def test_out_is_filled_and_returned(fmt: QuantFormat) -> None:
    rows, importance = rows_of(fmt), importance_of(fmt)
    data = np.full((len(rows), fmt.spec.row_bytes(rows.shape[1])), 0xA5, np.uint8)
    assert fmt.encode(rows, importance, out=data) is data
    assert np.array_equal(data, fmt.encode(rows, importance))
    back = np.full(rows.shape, 7, np.float32)
    assert fmt.decode(data, rows.shape[1], out=back) is back
    assert np.array_equal(back, fmt.decode(data, rows.shape[1]))


@each_codec
def test_no_rows_are_no_bytes(fmt: QuantFormat) -> None:
    k = columns(fmt)
    assert fmt.encode(np.empty((0, k), np.float32), importance_of(fmt)).shape == (0, fmt.spec.row_bytes(k))
    assert fmt.decode(np.empty((0, fmt.spec.row_bytes(k)), np.uint8), k).shape == (0, k)


@each_codec
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_named(fmt: QuantFormat, value: float) -> None:
    rows = rows_of(fmt)
    rows[17, 5] = value
    with pytest.raises(NonFiniteError, match="row 17, column 5"):
        fmt.encode(rows, importance_of(fmt))


@each_codec
def test_an_importance_that_is_not_finite_is_named(fmt: QuantFormat) -> None:
    importance = np.ones(columns(fmt), np.float32)
    importance[9] = np.nan
    with pytest.raises(NonFiniteError, match="column 9"):
        fmt.encode(rows_of(fmt), importance)


@each_codec
def test_what_does_not_fit_is_refused_with_its_shape(fmt: QuantFormat) -> None:
    rows, k = rows_of(fmt, 4), columns(fmt)
    importance = importance_of(fmt)
    with pytest.raises(FormatError, match="float64"):
        fmt.encode(rows.astype(np.float64), importance)
    with pytest.raises(FormatError, match="matrix"):
        fmt.encode(rows[0], importance)
    with pytest.raises(FormatError, match="importance"):
        fmt.encode(rows, np.ones(k - 1, np.float32))
    with pytest.raises(FormatError, match="out must be"):
        fmt.encode(rows, importance, out=np.empty((4, fmt.spec.row_bytes(k) + 1), np.uint8))
    data = fmt.encode(rows, importance)
    with pytest.raises(FormatError, match="out must be"):
        fmt.decode(data, k, out=np.empty((4, 2 * k), np.float32)[:, ::2])
    with pytest.raises(FormatError, match="bytes"):
        fmt.decode(data[:, :-1], k)
    if fmt.spec.block > 1:
        with pytest.raises(FormatError, match="divide"):
            fmt.encode(rows[:, :-1])


@each_codec
def test_the_error_stays_within_the_bound_that_the_format_states(fmt: QuantFormat) -> None:
    rng = np.random.default_rng(3)
    shape = (64, 1024)
    for rows in (rng.standard_normal(shape), rng.laplace(size=shape)):
        x = (rows * 0.02).astype(np.float32)
        importance = np.ones(shape[1], np.float32) if fmt.spec.importance == "required" else None
        back = fmt.decode(fmt.encode(x, importance), shape[1])
        error = np.linalg.norm(x - back) / np.linalg.norm(x)
        assert error <= fmt.spec.error_bound
        assert error >= fmt.spec.error_bound / 2, "the bound says nothing"


@each_codec
def test_threads_do_not_disturb_each_other(fmt: QuantFormat) -> None:
    inputs = [rows_of(fmt, 33, seed) for seed in range(4)]
    importance = importance_of(fmt)
    expected = [fmt.encode(rows, importance) for rows in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(5):
            data = fmt.encode(inputs[i], importance)
            back = fmt.decode(data, columns(fmt))
            if not (np.array_equal(data, expected[i]) and np.isfinite(back).all()):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_importance_is_asked_for_where_it_is_required() -> None:
    for fmt in CODECS:
        if fmt.spec.importance == "required":
            with pytest.raises(FormatError, match="importance"):
                fmt.encode(rows_of(fmt))


def test_importance_changes_bytes_exactly_where_the_spec_says_so() -> None:
    for fmt in CODECS:
        if fmt.spec.importance == "required":
            continue
        rows = rows_of(fmt)
        weights = np.random.default_rng(2).exponential(1.0, rows.shape[1]).astype(np.float32)
        changed = not np.array_equal(fmt.encode(rows, weights), fmt.encode(rows))
        assert changed == (fmt.spec.importance != "ignored"), fmt.spec.name
