"""Weights that other programs have quantized → numbers again, row by row, as llama.cpp's converter computes them.

    Fp8         F8_E4M3, F8_E5M2 or I8, times a scale of the tensor, the row (channel) or a block of rows and columns
    PackedInt   compressed-tensors' pack-quantized: int4 or int8 in I32, along the columns, with a scale for each group
    GPTQ        int4 or int8 in I32, along the inputs, with zero points: a row for each input, until it is transposed
    BitNet      -1, 0 and 1, four in a byte, divided by a scale

The product is float32, and rounded once to `gives`. Scales may be of any float type.

Source: llama.cpp's conversion/base.py, dequant_model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quantrecipe.core.eight_bits import rows_from_e4m3, rows_from_e5m2, rows_from_int8
from quantrecipe.model.source.floats import from_float32, to_float32
from quantrecipe.model.source.layout import by_matrix, reshape, stack
from quantrecipe.model.source.reading import Reading
from quantrecipe.model.source.source import Operation, Shape, Stored, TensorSource, fail, label

__all__ = ["GPTQ", "BitNet", "Dequantized", "Fp8", "PackedInt", "as_exponents", "fp8"]

_Bytes = NDArray[np.uint8]
_Floats = NDArray[np.float32]

_KERNELS = {"F8_E4M3": rows_from_e4m3, "F8_E5M2": rows_from_e5m2, "I8": rows_from_int8}
_SCALES = ("F32", "BF16", "F16", "F8_E8M0")

_CHUNK = 1 << 16
"""Numbers that are computed at once: 256 KiB as float32, which stay in a cache through all steps."""


def fp8(weights: TensorSource, scales: TensorSource, block: tuple[int, int] | None = None) -> Fp8:
    """Weights (…, rows, cols) with their scales. `block`: rows and columns that share one; None where shapes say it.

    Without a block there is one scale (shape () or (1,)), one for each matrix of a stack (shape (…), or with ones
    behind it), or one for each row (shape (…, rows) or (…, rows, 1)).
    """
    if len(weights.shape) < 2:
        fail(weights, "is no matrix, so its scales can't be told apart")
    if 0 in weights.shape:
        fail(weights, "is empty", "drop it from the file")
    *stacked, rows, cols = weights.shape
    given = scales.shape
    if block is not None:
        height, width = block
        if height < 1 or width < 1 or given != (*stacked, -(-rows // height), -(-cols // width)):
            what = f"has scales of the shape {given}, which isn't one for each block of {height} x {width}"
            fail(weights, what)
    elif given in ((*stacked, rows), (*stacked, rows, 1)):
        height, width = 1, cols
    elif given in ((*stacked,), (*stacked, 1), (*stacked, 1, 1)) or (not stacked and given == (1,)):
        height, width = rows, cols
    else:
        expected = f"one, or one for each of {rows} rows" + (f" of {stacked[0]} matrices" if stacked else "")
        fail(weights, f"has scales of the shape {given} (expected: {expected})")
    blocks = (*stacked, -(-rows // height), -(-cols // width))
    return Fp8(weights=weights, scales=reshape(as_exponents(scales), blocks), block=(height, width))


def as_exponents(scales: TensorSource) -> TensorSource:
    """Scales that are declared as bytes, as the powers of two that they are: F8_E8M0."""
    return replace(scales, dtype="F8_E8M0") if isinstance(scales, Stored) and scales.dtype == "U8" else scales


@dataclass(frozen=True, kw_only=True, slots=True)
class Dequantized(Operation):
    """What all of these have in common: `gives` is the type that comes out."""

    gives: str = "BF16"

    def round(self, pieces: Iterator[_Floats], count: int) -> _Bytes:
        """float32 rows in pieces, `count` rows in all → stored rows."""
        out = np.empty((count, self.row_bytes), np.uint8)
        done = 0
        for piece in pieces:
            out[done : done + len(piece)] = from_float32(piece, self.gives)
            done += len(piece)
        return out

    def chunks(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The run in pieces that a cache holds."""
        step = max(1, _CHUNK // (self.cols or 1))
        for low in range(first, last, step):
            yield low, min(low + step, last)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fp8(Dequantized):
    """8-bit floats, or integers, times scales.

    weights: (…, rows, cols)
    scales:  (…, ceil(rows / height), ceil(cols / width)), for block (height, width)
    """

    weights: TensorSource
    scales: TensorSource
    block: tuple[int, int]

    def infer(self) -> tuple[Shape, str]:
        if len(self.weights.shape) < 2 or min(self.block) < 1:
            fail(self.weights, f"is no matrix of blocks of {self.block}")
        *stacked, rows, cols = self.weights.shape
        height, width = self.block
        expected = (*stacked, -(-rows // height), -(-cols // width))
        if self.weights.dtype not in _KERNELS:
            fail(self.weights, "isn't of a type of 8-bit floats, nor I8")
        if self.scales.dtype not in _SCALES:
            fail(self.scales, f"can't be a scale (expected: {', '.join(_SCALES)})")
        if self.scales.shape != expected:
            fail(self.weights, f"has scales of the shape {self.scales.shape} (expected: {expected})")
        return self.weights.shape, self.gives

    @property
    def operands(self) -> tuple[TensorSource, ...]:
        return (self.weights, self.scales)

    @property
    def stored_type(self) -> str:
        return "INT8" if self.weights.dtype == "I8" else "FP8"

    @property
    def together(self) -> int:
        height = self.block[0]
        return height if self.rows % height == 0 and height < self.rows else 1

    def stored_bytes(self, rows: int) -> int:
        return self.weights.stored_bytes(rows) + self.scales.stored_bytes(2 + rows // self.block[0])

    def join(self, others: Sequence[Self], shape: Shape) -> Fp8 | None:
        if len(shape) != 3 or any((it.block, it.gives) != (self.block, self.gives) for it in others):
            return None
        every = (self, *others)
        weights, scales = stack([it.weights for it in every]), stack([it.scales for it in every])
        return replace(self, weights=weights, scales=scales)

    def read(self, start: int, stop: int, reading: Reading) -> _Bytes:
        return self.round(self._rows(start, stop, reading), stop - start)

    def _rows(self, start: int, stop: int, reading: Reading) -> Iterator[_Floats]:
        height, width = self.block
        raw = self.weights.read(start, stop, reading)
        done = 0
        for matrix, first, last in by_matrix(start, stop, self.rows):
            begin = matrix * self.scales.rows
            top, bottom = first // height, -(-last // height)
            scales = to_float32(self.scales.read(begin + top, begin + bottom, reading), self.scales.dtype)
            for low, high in self.chunks(first, last):
                values = np.empty((high - low, self.cols), np.float32)
                of_rows = scales[np.arange(low, high) // height - top]
                _KERNELS[self.weights.dtype](raw[done : done + high - low], of_rows, width, values)
                yield values
                done += high - low


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedInt(Dequantized):
    """Integers of `bits` bits, the lowest first in each I32, minus 2^(bits - 1) or a zero point, times a scale.

    packed: I32 (rows, ceil(cols · bits / 32))
    scales: (rows, ceil(cols / group))
    zeros:  I32 (ceil(rows · bits / 32), ceil(cols / group)), packed along the rows; None where there are none
    """

    packed: TensorSource
    scales: TensorSource
    zeros: TensorSource | None = None
    length: int
    group: int
    bits: int = 4

    def infer(self) -> tuple[Shape, str]:
        if self.bits not in (2, 4, 8) or self.group < 1:
            fail(self.packed, f"has integers of {self.bits} bits in groups of {self.group}", _CONVERTER)
        each = 32 // self.bits
        rows, groups = self.packed.rows, -(-self.length // self.group)
        if self.packed.dtype != "I32" or self.packed.shape != (rows, -(-self.length // each)):
            fail(self.packed, f"can't hold {self.length} columns of {self.bits} bits")
        if self.scales.shape != (rows, groups) or self.scales.dtype not in _SCALES:
            fail(self.scales, f"isn't a scale for each group of {self.group} (expected: {(rows, groups)})")
        if self.zeros is not None and (self.zeros.dtype, self.zeros.shape) != (
            "I32",
            (-(-rows // each), groups),
        ):
            fail(
                self.zeros, f"isn't a zero point for each group (expected: I32 {(-(-rows // each), groups)})"
            )
        return (rows, self.length), self.gives

    @property
    def operands(self) -> tuple[TensorSource, ...]:
        return (self.packed, self.scales, *([] if self.zeros is None else [self.zeros]))

    @property
    def stored_type(self) -> str:
        return f"INT{self.bits}"

    @property
    def together(self) -> int:
        return 1 if self.zeros is None else gcd(32 // self.bits, self.rows)

    def read(self, start: int, stop: int, reading: Reading) -> _Bytes:
        return self.round(self._rows(start, stop, reading), stop - start)

    def _rows(self, start: int, stop: int, reading: Reading) -> Iterator[_Floats]:
        raw = self.packed.read(start, stop, reading)
        scales = to_float32(self.scales.read(start, stop, reading), self.scales.dtype)
        offsets = self._offsets(start, stop, reading)
        for low, high in self.chunks(0, stop - start):
            values = _unpacked(raw[low:high], self.bits)[:, : self.length].astype(np.float32)
            values -= _spread(offsets[low:high], self.group, self.length)
            values *= _spread(scales[low:high], self.group, self.length)
            yield values

    def _offsets(self, start: int, stop: int, reading: Reading) -> _Floats:
        """What is taken off the integers of each group: float32 (rows, groups)."""
        if self.zeros is None:
            return np.full((stop - start, self.scales.cols), 2 ** (self.bits - 1), np.float32)
        each = 32 // self.bits
        first = start // each
        raw = self.zeros.read(first, -(-stop // each), reading)
        numbers = _unpacked(raw, self.bits).reshape(len(raw), -1, each).swapaxes(1, 2)
        return numbers.reshape(len(raw) * each, -1)[start - first * each :][: stop - start].astype(np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class GPTQ(Dequantized):
    """A matrix as GPTQ stores it, a row for each input: (inputs, outputs).

    packed: I32 (inputs · bits / 32, outputs), the inputs packed along the rows
    zeros:  I32 (groups, outputs · bits / 32)
    scales: (groups, outputs)
    group_of: I32 (inputs,), the group that each input belongs to
    added:  what is added to the zero points: 1 in the first version of the format, 0 in gptq_v2
    """

    packed: TensorSource
    zeros: TensorSource
    scales: TensorSource
    group_of: TensorSource
    bits: int = 4
    added: int = 1

    def infer(self) -> tuple[Shape, str]:
        if self.bits not in (2, 4, 8):
            fail(self.packed, f"has integers of {self.bits} bits", _CONVERTER)
        if len(self.scales.shape) != 2 or self.scales.dtype not in _SCALES:
            fail(self.scales, "isn't a scale for each group and output")
        each = 32 // self.bits
        inputs, (groups, outputs) = self.packed.rows * each, self.scales.shape
        expected = (
            (self.packed, "I32", (inputs // each, outputs)),
            (self.zeros, "I32", (groups, -(-outputs // each))),
            (self.group_of, "I32", (inputs,)),
        )
        for source, dtype, shape in expected:
            if (source.dtype, source.shape) != (dtype, shape):
                fail(source, f"doesn't go with {label(self.scales)} (expected: {dtype} {shape})")
        return (inputs, outputs), self.gives

    @property
    def operands(self) -> tuple[TensorSource, ...]:
        return (self.packed, self.zeros, self.scales, self.group_of)

    @property
    def stored_type(self) -> str:
        return f"INT{self.bits}"

    @property
    def together(self) -> int:
        return 32 // self.bits

    def read(self, start: int, stop: int, reading: Reading) -> _Bytes:
        return self.round(self._rows(start, stop, reading), stop - start)

    def _rows(self, start: int, stop: int, reading: Reading) -> Iterator[_Floats]:
        each = 32 // self.bits
        first = start // each
        packed = self.packed.read(first, -(-stop // each), reading).view("<u4")
        group_of = self.group_of.read(0, 1, reading).view("<i4").reshape(-1)[start:stop]
        if not group_of.size:
            return
        # Of the groups that are needed: one or two for neighbours, unless act-order has spread them.
        low, high = int(group_of.min()), int(group_of.max()) + 1
        if low < 0 or high > self.scales.rows:
            fail(self.group_of, f"names a group that isn't there (expected: 0 to {self.scales.rows - 1})")
        scales = to_float32(self.scales.read(low, high, reading), self.scales.dtype)
        zeros = _unpacked(self.zeros.read(low, high, reading), self.bits)[:, : self.cols].astype(np.float32)
        group_of = group_of - low
        mask = np.uint32((1 << self.bits) - 1)
        for begin, end in self.chunks(start, stop):
            inputs = np.arange(begin, end)
            groups = group_of[begin - start : end - start]
            shifts = (inputs % each * self.bits).astype(np.uint32)[:, np.newaxis]
            values = (packed[inputs // each - first] >> shifts & mask).astype(np.float32)
            values -= zeros[groups] + np.float32(self.added)
            values *= scales[groups]
            yield values


@dataclass(frozen=True, kw_only=True, slots=True)
class BitNet(Dequantized):
    """Two bits for each weight, the first quarter of the rows in the lowest: (number - 1) / scale.

    packed: U8 (rows / 4, cols)
    scale:  one number
    """

    packed: TensorSource
    scale: TensorSource

    def infer(self) -> tuple[Shape, str]:
        if len(self.packed.shape) != 2 or self.packed.dtype not in ("U8", "I8"):
            fail(self.packed, "isn't a matrix of bytes (expected: U8, four weights in each)")
        if self.scale.shape not in ((), (1,)) or self.scale.dtype not in _SCALES:
            fail(self.scale, "isn't one scale")
        return (4 * self.packed.rows, self.packed.cols), self.gives

    @property
    def operands(self) -> tuple[TensorSource, ...]:
        return (self.packed, self.scale)

    @property
    def stored_type(self) -> str:
        return "TERNARY"

    def read(self, start: int, stop: int, reading: Reading) -> _Bytes:
        return self.round(self._rows(start, stop, reading), stop - start)

    def _rows(self, start: int, stop: int, reading: Reading) -> Iterator[_Floats]:
        scale = to_float32(self.scale.read(0, 1, reading), self.scale.dtype)[0, 0]
        for quarter, first, last in by_matrix(start, stop, self.packed.rows):
            raw = self.packed.read(first, last, reading)
            for low, high in self.chunks(0, last - first):
                numbers = raw[low:high] >> np.uint8(2 * quarter) & np.uint8(3)
                yield (numbers.astype(np.float32) - np.float32(1)) / scale


_CONVERTER = "start from the model's BF16, F16 or F32 weights"


def _unpacked(raw: _Bytes, bits: int) -> _Bytes:
    """Bytes → the integers of so many bits in them, the lowest first: uint8 (n, bytes) → (n, bytes · 8 / bits)."""
    if bits == 8:
        return raw
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return (raw[:, :, np.newaxis] >> shifts & np.uint8((1 << bits) - 1)).reshape(len(raw), -1)


def _spread(values: _Floats, group: int, length: int) -> _Floats:
    """One number for each group → one for each column."""
    return np.repeat(values, group, axis=1)[:, :length]
