"""Whether any number is NaN or Inf, at the speed of memory: of a matrix, or among the bytes of a format.

What a format's bytes must not hold is what llama.cpp refuses to load with --check-tensors.
ggml: ggml_validate_row_data.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.core.jit import kernel
from quantrecipe.core.scalars import Bytes, Floats, Int, Ints

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.api import FormatSpec, StoredFloat

__all__ = ["Unsound", "all_finite", "all_sound", "first_unsound"]

EXPONENT = np.uint32(0x7F800000)  # all ones in NaN and Inf, and in no other float32


@dataclass(frozen=True, kw_only=True, slots=True)
class Unsound:
    """The first number of some rows that is NaN or Inf.

    row, block: counted from 0; of interleaved rows the first of the group. block is None for a number of the row
    name:       as the format calls it
    value:      nan, inf or -inf; of an f64 that is beyond float32, the number
    """

    row: int
    block: int | None
    name: str
    kind: str
    value: float


@kernel("boolean(Array(float32, 2, 'C', True))")
def all_finite(rows: Floats) -> Int:
    """rows float32 (n, k) → bool."""
    bits = rows.reshape(rows.size).view(np.uint32)
    largest = np.uint32(0)
    for i in range(bits.size):
        largest = max(largest, np.uint32(bits[i] & EXPONENT))
    return largest < EXPONENT


def all_sound(spec: FormatSpec, data: NDArray[np.uint8]) -> bool:
    """True if every number that the format says must be finite is. data: uint8 (n, row bytes)."""
    cells = _groups(spec, data)
    for number in spec.floats:
        if number.kind == "f64":
            if _f64_beyond(cells).any():
                return False
        elif _is_all_there_is(spec, number):
            if not _words_finite(cells, number):
                return False
        else:
            first, step, count = _where(spec, number, cells.shape[1])
            (at, mask), (also_at, also_mask) = (*number.exponent, *number.exponent)[:2]
            if (
                _largest_masked(cells, first, step, count, at, mask, also_at, also_mask)
                == mask << 8 | also_mask
            ):
                return False
    return True


def first_unsound(spec: FormatSpec, data: NDArray[np.uint8]) -> Unsound | None:
    """The first number, row by row, that is NaN or Inf; None if all are finite. data: uint8 (n, row bytes)."""
    cells = _groups(spec, data)
    found = [(place, number) for number in spec.floats if (place := _first(spec, number, cells)) is not None]
    if not found:
        return None
    (group, cell), number = min(found, key=lambda item: item[0])
    first, step, _ = _where(spec, number, cells.shape[1])
    return Unsound(
        row=group * spec.rows_per_group,
        block=cell if number.per == "block" else None,
        name=number.name,
        kind=number.kind,
        value=_value(number, cells[group, first + step * cell :]),
    )


def _groups(spec: FormatSpec, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The rows, those that are interleaved as one."""
    data = np.require(data, np.uint8, ["C", "A"])
    group = spec.rows_per_group
    return data if group == 1 else data.reshape(len(data) // group, group * data.shape[1])


def _where(spec: FormatSpec, number: StoredFloat, width: int) -> tuple[int, int, int]:
    """In a group of rows of `width` bytes: where the first cell with such a number begins, their distance, how many."""
    if number.per == "row":
        return 0, width, 1
    meta, step = (size * spec.rows_per_group for size in (spec.row_meta_bytes, spec.block_bytes))
    return meta, step, (width - meta) // step


def _is_all_there_is(spec: FormatSpec, number: StoredFloat) -> bool:
    """True for F32, F16 and BF16, whose blocks are the number: they are read as words, several at once."""
    size = {"f16": 2, "bf16": 2, "f32": 4}.get(number.kind)
    return spec.block_bytes == size and spec.row_meta_bytes == 0 and spec.rows_per_group == 1


def _words_finite(cells: NDArray[np.uint8], number: StoredFloat) -> bool:
    if number.kind == "f32":
        return bool(all_finite(cells.view(np.float32)))
    exponent = 0x7C00 if number.kind == "f16" else 0x7F80
    return bool(_largest_exponent(cells.view(np.uint16), exponent) < exponent)


@kernel("uint16(Array(uint16, 2, 'C', True), uint16)")
def _largest_exponent(words: Ints, mask: Int) -> Int:
    flat = words.reshape(words.size)
    largest = np.uint16(0)
    for i in range(flat.size):
        largest = max(largest, np.uint16(flat[i] & mask))
    return largest


@kernel("uint16(Array(uint8, 2, 'C', True), int64, int64, int64, int64, uint8, int64, uint8)")
def _largest_masked(
    cells: Bytes, first: Int, step: Int, count: Int, at: Int, mask: Int, also_at: Int, also_mask: Int
) -> Int:
    """The largest that the masked bits of two bytes of a cell come to, as one number: all ones are the largest of all.

    A cell has few bytes that count, and only those are read.
    """
    flat = cells.reshape(cells.size)
    largest = np.uint16(0)
    for row in range(cells.shape[0]):
        begin = np.uint64(
            row * cells.shape[1] + first
        )  # unsigned: an index that can't be negative needs no test
        for cell in range(count):
            place = begin + np.uint64(cell) * np.uint64(step)
            upper = np.uint16(flat[place + np.uint64(at)] & mask) << np.uint16(8)
            largest = max(largest, np.uint16(upper | np.uint16(flat[place + np.uint64(also_at)] & also_mask)))
    return largest


def _first(spec: FormatSpec, number: StoredFloat, cells: NDArray[np.uint8]) -> tuple[int, int] | None:
    """(group of rows, cell) of the first number that isn't finite."""
    if number.kind == "f64":
        wrong = _f64_beyond(cells)
    else:
        first, step, count = _where(spec, number, cells.shape[1])
        blocks = cells[:, first : first + step * count].reshape(len(cells), count, step)
        wrong = np.ones((len(cells), count), np.bool_)
        for at, mask in number.exponent:
            wrong &= (blocks[:, :, at] & np.uint8(mask)) == mask
    if not wrong.any():
        return None
    group, cell = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return int(group), int(cell)


def _f64_beyond(cells: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """bool (rows, numbers). ggml passes a double to a function of float."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return ~np.isfinite(cells.view(np.float64).astype(np.float32))


def _value(number: StoredFloat, cell: NDArray[np.uint8]) -> float:
    """The number itself, which begins in these bytes."""
    if number.kind == "e8m0":
        return float("nan")  # 255, which is all that it is looked for
    if isinstance(number.at, tuple):
        nibbles = sum(int(cell[at] >> 4) << 4 * place for place, at in enumerate(number.at))
        return float(struct.unpack("<e", struct.pack("<H", nibbles))[0])
    size, letter = {"f16": (2, "<e"), "bf16": (2, "<f"), "f32": (4, "<f"), "f64": (8, "<d")}[number.kind]
    raw = cell[number.at : number.at + size].tobytes()
    return float(struct.unpack(letter, b"\0\0" + raw if number.kind == "bf16" else raw)[0])
