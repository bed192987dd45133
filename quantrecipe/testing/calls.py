"""How encode and decode are called: any split of the rows, any thread, any layout of the arrays, `out` or not."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.api import QuantFormat
from quantrecipe.testing.failure import require, same_bytes, same_values
from quantrecipe.testing.sample import columns_of, importance_for, ordinary_rows

if TYPE_CHECKING:
    from quantrecipe.api import FloatArray

__all__ = ["check_layouts", "check_out", "check_repeats", "check_shapes", "check_splits", "check_threads"]

_THREADS = 4
_ROUNDS = 8
_BUSY_ROWS = 301
"""Rows that keep a thread busy long enough for another to get in its way."""
_QUICK_SWITCH = 1e-6
"""Seconds between switches of threads, so that what they share shows itself."""


def check_shapes(fmt: QuantFormat, seed: int = 0) -> None:
    """encode: uint8 (n, row_bytes), decode: float32 (n, k), for any number of rows, none included."""
    k, group = columns_of(fmt), fmt.spec.rows_per_group
    width = fmt.spec.row_bytes(k)
    for n in (0, group, 3 * group, 17 * group):
        data = fmt.encode(ordinary_rows(fmt, n, seed, k)[:n], importance_for(fmt, k, seed))
        require(isinstance(data, np.ndarray), f"encode returns {type(data).__name__}, no array")
        require(data.dtype == np.uint8, f"encode returns {data.dtype}, not uint8")
        require(data.shape == (n, width), f"encode of {n} rows returns {data.shape}, not {(n, width)}")
        back = fmt.decode(data, k)
        require(isinstance(back, np.ndarray), f"decode returns {type(back).__name__}, no array")
        require(back.dtype == np.float32, f"decode returns {back.dtype}, not float32")
        require(back.shape == (n, k), f"decode of {n} rows returns {back.shape}, not {(n, k)}")


def check_out(fmt: QuantFormat, seed: int = 0) -> None:
    """`out` is filled, every byte of it, and returned."""
    rows = ordinary_rows(fmt, 9, seed)
    importance = importance_for(fmt, rows.shape[1], seed)
    plain = fmt.encode(rows, importance)
    for fill in (0x00, 0xFF):
        data = np.full_like(plain, fill)
        require(
            fmt.encode(rows, importance, out=data) is data, "encode doesn't return the `out` it was given"
        )
        same_bytes(fmt.spec, data, plain, f"encode to an `out` that held {fill:#04x}")
    back = fmt.decode(plain, rows.shape[1])
    filled = np.full_like(back, 7)
    require(
        fmt.decode(plain, rows.shape[1], out=filled) is filled, "decode doesn't return the `out` it was given"
    )
    same_values(fmt.spec, filled, back, "decode to an `out`")


def check_splits(fmt: QuantFormat, seed: int = 0) -> None:
    """A row's bytes don't depend on the rows that it comes with, nor on their order."""
    group = fmt.spec.rows_per_group
    rows = ordinary_rows(fmt, 41, seed)
    k = rows.shape[1]
    for importance in _importances(fmt, k, seed):
        whole = fmt.encode(rows, importance)
        back = fmt.decode(whole, k)
        for step in (group, 2 * group, 3 * group, 17 * group):
            starts = range(0, len(rows), step)
            parts = [fmt.encode(rows[i : i + step], importance) for i in starts]
            same_bytes(fmt.spec, np.concatenate(parts), whole, f"encode of {step} rows at a time")
            decoded = [fmt.decode(whole[i : i + step], k) for i in starts]
            same_values(fmt.spec, np.concatenate(decoded), back, f"decode of {step} rows at a time")
        order = np.arange(len(rows)).reshape(-1, group)[::-1].ravel()
        same_bytes(fmt.spec, fmt.encode(rows[order], importance), whole[order], "encode in another order")


def check_repeats(fmt: QuantFormat, seed: int = 0) -> None:
    """The same call gives the same answer, whatever was called in between, and from a fresh instance too."""
    rows, others = ordinary_rows(fmt, 12, seed), ordinary_rows(fmt, 12, seed + 1)
    k = rows.shape[1]
    importance = importance_for(fmt, k, seed)
    first = fmt.encode(rows, importance)
    kept, back = first.copy(), fmt.decode(first, k)
    decoded = back.copy()
    fmt.decode(fmt.encode(others * np.float32(1000), importance_for(fmt, k, seed + 1)), k)
    same_bytes(fmt.spec, first, kept, "what an earlier encode returned, after another call")
    same_values(fmt.spec, back, decoded, "what an earlier decode returned, after another call")
    same_bytes(fmt.spec, fmt.encode(rows, importance), kept, "encode, called again")
    same_values(fmt.spec, fmt.decode(kept, k), decoded, "decode, called again")
    same_bytes(
        fmt.spec, fmt.with_options(fmt.options).encode(rows, importance), kept, "encode of a fresh instance"
    )


def check_threads(fmt: QuantFormat, seed: int = 0) -> None:
    """Threads that encode and decode side by side don't disturb each other."""
    inputs = [ordinary_rows(fmt, _BUSY_ROWS, seed + i) for i in range(_THREADS)]
    k = inputs[0].shape[1]
    importance = importance_for(fmt, k, seed)
    expected = [fmt.encode(rows, importance) for rows in inputs]
    decoded = [fmt.decode(data, k) for data in expected]

    together = threading.Barrier(_THREADS)

    def work(i: int) -> None:
        try:
            for _ in range(_ROUNDS):
                together.wait()
                data = fmt.encode(inputs[i], importance)
                same_bytes(fmt.spec, data, expected[i], f"encode in one of {_THREADS} threads")
                together.wait()
                same_values(fmt.spec, fmt.decode(data, k), decoded[i], f"decode in one of {_THREADS} threads")
        except threading.BrokenBarrierError:
            pass  # another thread failed, and says why
        except BaseException:
            together.abort()
            raise

    with _quick_switches(), ThreadPoolExecutor(_THREADS) as pool:
        for done in [pool.submit(work, i) for i in range(_THREADS)]:
            done.result()


def check_layouts(fmt: QuantFormat, seed: int = 0) -> None:
    """Strided, transposed, byte-swapped, unaligned and read-only arrays give the same answer, and aren't changed."""
    rows = ordinary_rows(fmt, 10, seed)
    k = rows.shape[1]
    importance = importance_for(fmt, k, seed)
    data = fmt.encode(rows.copy(), None if importance is None else importance.copy())
    back = fmt.decode(data.copy(), k)
    for name, same in _layouts(rows):
        for weights_name, weights in _weight_layouts(importance):
            when = f"encode of {name} rows{weights_name}"
            before = same.copy()
            same_bytes(fmt.spec, fmt.encode(same, weights), data, when)
            require(np.array_equal(same, before), f"{when} changes its input")
            require(_equal(weights, importance), f"{when} changes the importance")
    writable = rows.copy()
    weights = None if importance is None else importance.copy()
    fmt.encode(writable, weights)
    same_values(fmt.spec, writable, rows, "the rows after encode (it must not change its input)")
    require(_equal(weights, importance), "encode changes the importance")

    spread = np.zeros((len(data), 2 * data.shape[1]), np.uint8)
    spread[:, ::2] = data
    for name, given in (("strided", spread[:, ::2]), ("ordinary", data.copy())):
        before = given.copy()
        same_values(fmt.spec, fmt.decode(given, k), back, f"decode of {name} bytes")
        same_bytes(fmt.spec, given, before, f"the {name} bytes after decode (it must not change its input)")
        given.flags.writeable = False
        same_values(fmt.spec, fmt.decode(given, k), back, f"decode of {name} read-only bytes")


def _equal(one: FloatArray | None, other: FloatArray | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other)


def _layouts(rows: FloatArray) -> Iterator[tuple[str, Any]]:
    wide = np.zeros((2 * len(rows), 2 * rows.shape[1]), np.float32)
    wide[::2, ::2] = rows
    shifted = np.zeros(rows.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(rows.shape)
    shifted[:] = rows
    for name, same in (
        ("read-only", rows.copy()),
        ("strided", wide[::2, ::2]),
        ("column-major", np.asfortranarray(rows)),
        ("byte-swapped", rows.astype(rows.dtype.newbyteorder())),
        ("unaligned", shifted),
    ):
        same.flags.writeable = False
        yield name, same


def _weight_layouts(importance: FloatArray | None) -> Iterator[tuple[str, Any]]:
    if importance is None:
        yield "", None
    else:
        yield "", importance.copy()
        strided = np.repeat(importance, 2)[::2]
        strided.flags.writeable = False
        yield ", with strided read-only importance", strided


def _importances(fmt: QuantFormat, k: int, seed: int) -> Iterator[FloatArray | None]:
    """None, unless the format can't do without; and one, if it has a use for it."""
    if fmt.spec.importance != "required":
        yield None
    if (importance := importance_for(fmt, k, seed)) is not None:
        yield importance


@contextmanager
def _quick_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_QUICK_SWITCH)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
