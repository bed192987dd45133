"""Numbers that are computed, in float32 as llama.cpp's converter computes them, and rounded once to what comes out.

    Add      x + number                      Gemma's norms, which lack their 1
    Cast     x in another type               what llama.cpp wants in F16
    Scale    x · factor, by rows             multipliers that a configuration has for parts of a matrix
    NegExp   -exp(x)                         Mamba's A, which is stored as a logarithm
    Inverse  1 / x                           factors by which weights were multiplied before they were quantized
    Ternary  -s, 0 or s                      BitNet's matrices, as the model computes with them
    Whole    function(tensor, …)             of small tensors that have to be known whole

`gives` is the type that comes out: "F32" for what a GGUF holds in float32, "BF16" for matrices.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantrecipe.model.source.floats import as_array, from_float32, to_float32
from quantrecipe.model.source.layout import SLAB
from quantrecipe.model.source.reading import Reading
from quantrecipe.model.source.source import NUMBERS, Operation, Shape, TensorSource, fail

__all__ = ["Add", "Cast", "Elementwise", "Inverse", "NegExp", "Scale", "Ternary", "Whole"]

_Bytes = NDArray[np.uint8]
_Floats = NDArray[np.float32]

_CHUNK = 1 << 16
"""Numbers that are computed at once: 256 KiB as float32, which stay in a cache through all steps."""

_MOST = 1 << 24
"""Bytes of the operands of a function of whole tensors; what is larger has to be streamed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Elementwise(Operation):
    """Each number by itself, or with those of its row."""

    source: TensorSource
    gives: str = "F32"

    def infer(self) -> tuple[Shape, str]:
        if self.source.dtype not in NUMBERS or self.gives not in ("F32", "F16", "BF16"):
            fail(self.source, f"can't be computed with to give {self.gives}")
        return self.source.shape, self.gives

    @property
    def operands(self) -> tuple[TensorSource, ...]:
        return (self.source,)

    @property
    def together(self) -> int:
        return self.source.together

    def read(self, start: int, stop: int, reading: Reading) -> _Bytes:
        raw = self.source.read(start, stop, reading)
        out = np.empty((stop - start, self.row_bytes), np.uint8)
        step = max(1, _CHUNK // (self.cols or 1))
        for low in range(0, stop - start, step):
            piece = slice(low, min(low + step, stop - start))
            values = to_float32(raw[piece], self.source.dtype)
            out[piece] = from_float32(self.compute(values, start + low), self.gives)
        return out

    @abstractmethod
    def compute(self, values: _Floats, start: int) -> _Floats:
        """float32 (n, cols), of row `start` on → the same shape."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Add(Elementwise):
    """Each number with `number` added."""

    number: float

    def compute(self, values: _Floats, start: int) -> _Floats:
        return values + np.float32(self.number)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cast(Elementwise):
    """The same numbers in another type: what has to be F16 in a GGUF, for instance."""

    def compute(self, values: _Floats, start: int) -> _Floats:
        return values


@dataclass(frozen=True, kw_only=True, slots=True)
class NegExp(Elementwise):
    """-exp(x): computed in float64, rounded once. PyTorch's float32 may differ by one unit in the last place."""

    def compute(self, values: _Floats, start: int) -> _Floats:
        with np.errstate(over="ignore"):  # Inf, which whoever encodes it refuses
            return (-np.exp(values.astype(np.float64))).astype(np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Inverse(Elementwise):
    """1 / x; of 0 it is infinite, which whoever writes it refuses."""

    def compute(self, values: _Floats, start: int) -> _Floats:
        with np.errstate(divide="ignore"):
            return np.float32(1) / values


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale(Elementwise):
    """Each number times a factor.

    runs: (rows, factor): of each matrix, the first so many rows by the first factor, the next by the second, …
    """

    runs: tuple[tuple[int, float], ...]

    def infer(self) -> tuple[Shape, str]:
        found = Elementwise.infer(self)
        if sum(rows for rows, _ in self.runs) != self.source.rows or any(rows < 0 for rows, _ in self.runs):
            fail(
                self.source,
                f"has {self.source.rows} rows, and factors for {sum(rows for rows, _ in self.runs)}",
            )
        return found

    def compute(self, values: _Floats, start: int) -> _Floats:
        factors = np.repeat(
            np.array([factor for _, factor in self.runs], np.float32), [rows for rows, _ in self.runs]
        )
        rows = np.arange(start, start + len(values)) % (self.rows or 1)
        return values * factors[rows, np.newaxis]


_LEAST_MEAN = np.float32(1e-5)  # conversion/bitnet.py: weight_quant


@dataclass(frozen=True, kw_only=True, slots=True)
class Ternary(Operation):
    """A matrix whose numbers become -s, 0 or s, with s the mean of their magnitudes: x / s is rounded.

    The mean takes the whole matrix, which is read for each slab of rows. It is summed in float64: PyTorch's, in
    float32, may differ by one unit in the last place, which is seldom seen in BF16.
    """

    source: TensorSource
    gives: str = "BF16"

    def infer(self) -> tuple[Shape, str]:
        if len(self.source.shape) != 2 or self.source.dtype not in NUMBERS:
            fail(self.source, "is no matrix of numbers, so it has no mean to be rounded by")
        return self.source.shape, self.gives

    @property
    def operands(self) -> tuple[TensorSource, ...]:
        return (self.source,)

    @property
    def together(self) -> int:
        return max(1, min(self.rows, max(64, SLAB // (self.row_bytes or 1) // 64 * 64)))

    @property
    def slab(self) -> int:
        return self.together * self.row_bytes + self._block * self.source.row_bytes + self.source.slab

    @property
    def _block(self) -> int:
        """Rows that are read at once."""
        together = self.source.together
        return min(self.rows, max(together, _CHUNK // (self.cols or 1) // together * together))

    def stored_bytes(self, rows: int) -> int:
        return 0  # what is read passes by, and isn't kept

    def read(self, start: int, stop: int, reading: Reading) -> _Bytes:
        mean = np.float32(
            sum(
                np.abs(values).sum(dtype=np.float64)
                for _, values in self._blocks(0, self.total_rows, reading)
            )
            / max(1, self.total_rows * self.cols)
        )
        inverse = np.float32(1) / max(mean, _LEAST_MEAN)
        out = np.empty((stop - start, self.row_bytes), np.uint8)
        for low, values in self._blocks(start, stop, reading):
            signs = np.clip(np.rint(values * inverse), -1, 1)
            out[low - start : low - start + len(values)] = from_float32(signs / inverse, self.gives)
        return out

    def _blocks(self, start: int, stop: int, reading: Reading) -> Iterator[tuple[int, _Floats]]:
        """The rows as float32, some at a time: (first row, (n, cols))."""
        for low in range(start, stop, self._block):
            passing = reading.passing()
            raw = self.source.read(low, min(low + self._block, stop), passing)
            yield low, to_float32(raw, self.source.dtype)
            reading.add(passing)


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole(Operation):
    """What a function makes of whole tensors, of which it gets arrays of their shapes.

    function: of a module, so that it goes by its name when the expression is pickled
    becomes, gives: shape and type of the outcome
    """

    function: Callable[..., NDArray[Any]]
    sources: tuple[TensorSource, ...]
    becomes: Shape
    gives: str = "F32"

    def infer(self) -> tuple[Shape, str]:
        home = sys.modules.get(self.function.__module__)
        if getattr(home, self.function.__qualname__, None) is not self.function:
            raise ValueError(
                f"{self.function.__qualname__} isn't a function of a module, so it can't be pickled"
            )
        for source in self.sources:
            if source.dtype not in NUMBERS:
                fail(source, "has blocks, and no numbers that could be computed with")
        if (large := sum(it.total_rows * it.row_bytes for it in self.sources)) > _MOST:
            fail(
                self.sources[0],
                f"has to be known whole, and has {large:,} bytes",
                "convert it with llama.cpp",
            )
        return self.becomes, self.gives

    @property
    def operands(self) -> tuple[TensorSource, ...]:
        return self.sources

    @property
    def together(self) -> int:
        return self.rows or 1  # so that it is computed once for each matrix at most

    def stored_bytes(self, rows: int) -> int:
        return sum(source.stored_bytes(source.total_rows) for source in self.sources)

    def read(self, start: int, stop: int, reading: Reading) -> _Bytes:
        operands = [
            as_array(it.read(0, it.total_rows, reading), it.dtype).reshape(it.shape) for it in self.sources
        ]
        made = np.asarray(self.function(*operands), np.float32)
        if made.shape != self.becomes:
            raise ValueError(f"{self.function.__name__} made {made.shape} (expected: {self.becomes})")
        rows = made.reshape(self.total_rows, self.cols)[start:stop]
        return from_float32(rows, self.gives)
