"""A right format, and formats that are wrong in one thing each, with the check that finds it."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from quantrecipe.api import FormatSpec, Grid, QuantFormat, StoredFloat
from quantrecipe.errors import FormatError, NonFiniteError

__all__ = ["FORMAT_MUTANTS", "DependsOnOrder", "NoRowsFail", "ReturnsItsBuffer", "Right", "RightGrid"]


class RightGrid(Grid):
    values = tuple(range(-127, 128))
    group = 32

    def scales(self, data: Any, k: int) -> Any:
        cells = np.ascontiguousarray(data).reshape(len(data), k // 32, 34)
        scales = np.ascontiguousarray(cells[..., :2]).view(np.float16).astype(np.float32)[..., 0]
        return scales, np.zeros_like(scales)

    def store(self, data: Any, choices: Any) -> None:
        cells = data.reshape(len(data), -1, 34)
        cells[..., 2:] = (
            (choices.astype(np.int16) - 127).astype(np.int8).view(np.uint8).reshape(len(data), -1, 32)
        )


class Right(QuantFormat):
    """32 weights → f16 scale + 32 × int8; importance chooses among nine scales near the usual one."""

    spec: ClassVar[FormatSpec] = FormatSpec(
        name="RIGHT",
        ggml_type=901,
        block=32,
        block_bytes=34,
        dialect="test",
        importance="optional",
        uniform_is_none=True,
        exactness="the same bytes on every machine",
        error_bound=0.008,
        fallback="F16",
        floats=(StoredFloat(kind="f16"),),
        summary="a format that is right",
    )

    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        n, k = rows.shape
        width = self.spec.row_bytes(k)
        x = np.ascontiguousarray(rows, np.float32).reshape(n, k // 32, 32)
        if not np.isfinite(x).all() or (importance is not None and not np.isfinite(importance).all()):
            raise NonFiniteError("NaN or Inf")
        weights = np.ones(k, np.float32) if importance is None else np.asarray(importance, np.float32)
        w = self.weights(weights).reshape(1, k // 32, 32)
        scale, codes = self.search(x, w)
        cells = np.empty((n, k // 32, 34), np.uint8)
        cells[..., :2] = scale[..., None].view(np.uint8)
        cells[..., 2:] = codes.view(np.uint8)
        data = cells.reshape(n, width)
        if out is None:
            return data
        out[...] = data
        return out

    @property
    def grid(self) -> Grid:
        return RightGrid()

    def weights(self, weights: Any) -> Any:
        return np.where(weights.max() > 0, weights / max(weights.max(), np.float32(1e-30)), np.float32(1))

    def search(self, x: Any, w: Any) -> tuple[Any, Any]:
        with np.errstate(over="ignore"):
            peak = np.abs(x).max(axis=2)
            best, best_loss, best_codes = None, None, None
            for step in range(9):
                scale = np.minimum(peak / np.float32(127 - step), np.float32(65504)).astype(np.float16)
                wide = scale.astype(np.float32)[..., None]
                inverse = np.where(wide > 0, 1 / np.where(wide > 0, wide, 1), 0)
                codes = np.clip(np.rint(x.astype(np.float64) * inverse), -127, 127).astype(np.int8)
                loss = (w * np.square(codes * wide.astype(np.float64) - x)).sum(axis=2)
                if best is None:
                    best, best_loss, best_codes = scale, loss, codes
                else:
                    better = loss < best_loss
                    best = np.where(better, scale, best)
                    best_codes = np.where(better[..., None], codes, best_codes)
                    best_loss = np.where(better, loss, best_loss)
        return best, best_codes

    def decode(self, data: Any, k: int, *, out: Any = None) -> Any:
        n = len(data)
        cells = np.ascontiguousarray(data).reshape(n, k // 32, 34)
        scale = np.ascontiguousarray(cells[..., :2]).view(np.float16).astype(np.float32)
        rows = (np.ascontiguousarray(cells[..., 2:]).view(np.int8) * scale).reshape(n, k)
        if out is None:
            return rows.astype(np.float32)
        out[...] = rows
        return out


class WrongRowBytes(Right):
    """Says 35 bytes, writes 34."""

    spec = replace(Right.spec, row_meta_bytes=1)

    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        short = np.empty((len(rows), rows.shape[1] // 32 * 34), np.uint8)
        return _encode_right(rows, importance, short)


def _encode_right(rows: Any, importance: Any, out: Any) -> Any:
    return Right().encode(rows, importance, out=out)


class ChangesInput(Right):
    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        answer = super().encode(rows, importance, out=out)
        if rows.flags.writeable:
            rows[rows == 0] = 1e-9
        return answer


class ChangesImportance(Right):
    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        answer = super().encode(rows, importance, out=out)
        if importance is not None and importance.flags.writeable:
            importance /= np.float32(importance.max())
        return answer


class DecodeChangesInput(Right):
    def decode(self, data: Any, k: int, *, out: Any = None) -> Any:
        answer = super().decode(data, k, out=out)
        if data.flags.writeable:
            data[:, 0] ^= 1
        return answer


class ScratchOfThreads(Right):
    """All threads share one buffer."""

    scratch: ClassVar[dict[tuple[int, ...], Any]] = {}

    def search(self, x: Any, w: Any) -> tuple[Any, Any]:
        buffer = self.scratch.setdefault(x.shape, np.empty(x.shape, np.float32))
        buffer[...] = x
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.001)  # a kernel works on it for so long, while other threads run
        return super().search(buffer, w)


class DependsOnTheThread(Right):
    def search(self, x: Any, w: Any) -> tuple[Any, Any]:
        scale, codes = super().search(x, w)
        if threading.current_thread() is not threading.main_thread():
            codes = codes.copy()
            codes[..., 0] ^= 1
        return scale, codes


class DependsOnChunks(Right):
    """One scale for all rows of the call."""

    def search(self, x: Any, w: Any) -> tuple[Any, Any]:
        return super().search(np.clip(x, -x.std() * 6, x.std() * 6), w)


class DependsOnOrder(Right):
    def search(self, x: Any, w: Any) -> tuple[Any, Any]:
        scale, codes = super().search(x, w)
        codes = codes.copy()
        codes[1::2, :, 0] ^= 1
        return scale, codes


class DependsOnTheLastCall(Right):
    calls: ClassVar[list[int]] = [0]

    def search(self, x: Any, w: Any) -> tuple[Any, Any]:
        self.calls[0] += 1
        scale, codes = super().search(x, w)
        codes = codes.copy()
        codes[..., 0] ^= self.calls[0] % 2
        return scale, codes


class ReturnsItsBuffer(Right):
    """What it returned is overwritten by the next call."""

    buffers: ClassVar[dict[tuple[int, ...], Any]] = {}

    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        answer = super().encode(rows, importance, out=out)
        if out is not None:
            return answer
        buffer = self.buffers.setdefault(answer.shape, np.empty_like(answer))
        buffer[...] = answer
        return buffer


class LetsNaNThrough(Right):
    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        return super().encode(
            np.nan_to_num(rows, nan=0.0, posinf=np.inf, neginf=-np.inf), importance, out=out
        )


class LetsInfThrough(Right):
    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        rows = np.where(np.isinf(rows), np.float32(1), rows)
        return super().encode(rows, importance, out=out)


class LetsLastColumnThrough(Right):
    """Looks for NaN everywhere but in the last column."""

    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        rows = rows.copy()
        rows[:, -1] = np.nan_to_num(rows[:, -1])
        return super().encode(rows, importance, out=out)


class LetsNaNImportanceThrough(Right):
    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        importance = None if importance is None else np.nan_to_num(importance)
        return super().encode(rows, importance, out=out)


class RaisesValueErrorForNaN(Right):
    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        try:
            return super().encode(rows, importance, out=out)
        except NonFiniteError:
            raise ValueError("NaN") from None


class DecodesOneStepOff(Right):
    def decode(self, data: Any, k: int, *, out: Any = None) -> Any:
        off = np.ascontiguousarray(data).copy()
        cells = off.reshape(len(off), -1, 34)
        cells[..., 2:] = (cells[..., 2:].view(np.int8) + np.int8(1)).view(np.uint8)
        return super().decode(off, k, out=out)


class DecodesTheLastWeightOneStepOff(Right):
    def decode(self, data: Any, k: int, *, out: Any = None) -> Any:
        off = np.ascontiguousarray(data).copy()
        cells = off.reshape(len(off), -1, 34)
        cells[..., -1] += 1
        return super().decode(off, k, out=out)


class SwapsNeighbours(Right):
    def decode(self, data: Any, k: int, *, out: Any = None) -> Any:
        rows = super().decode(data, k)
        swapped = rows.reshape(len(rows), -1, 2)[..., ::-1].reshape(rows.shape)
        if out is None:
            return swapped
        out[...] = swapped
        return out


class DecodeFailsOnOddBytes(Right):
    def decode(self, data: Any, k: int, *, out: Any = None) -> Any:
        rows = super().decode(data, k, out=out)
        if not np.isfinite(rows).all():
            raise FormatError("damaged")
        return rows


class DecodesToDoubles(Right):
    def decode(self, data: Any, k: int, *, out: Any = None) -> Any:
        return (
            super().decode(data, k, out=out).astype(np.float64)
            if out is None
            else super().decode(data, k, out=out)
        )


class ForgetsOut(Right):
    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        return super().encode(rows, importance)


class LeavesPartOfOut(Right):
    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        answer = super().encode(rows, importance)
        if out is None:
            return answer
        out[:, :-1] = answer[:, :-1]
        return out


class MisreadsStrides(Right):
    """Reads the memory from the first weight on, whatever the strides are."""

    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        if rows.ndim == 2 and rows.strides[1] not in (4, rows.strides[0]) and rows.dtype == np.float32:
            rows = np.lib.stride_tricks.as_strided(rows, rows.shape, (4 * rows.shape[1], 4))
        return super().encode(rows, importance, out=out)


class MisreadsByteOrder(Right):
    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        if not rows.dtype.isnative:
            rows = np.nan_to_num(np.ascontiguousarray(rows).view(np.float32), posinf=0, neginf=0)
        return super().encode(rows, importance, out=out)


class NoRowsFail(Right):
    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        rows[0]
        return super().encode(rows, importance, out=out)


class FailsOnZeros(Right):
    def search(self, x: Any, w: Any) -> tuple[Any, Any]:
        scale, codes = super().search(x, w)
        return np.where(scale == 0, np.float16(0.01), scale), np.where(
            scale[..., None] == 0, np.int8(1), codes
        )


class IgnoresImportance(Right):
    def weights(self, weights: Any) -> Any:
        return np.ones_like(weights)


class UsesImportanceUpsideDown(Right):
    def weights(self, weights: Any) -> Any:
        return 1 / (weights + np.float32(1e-3) * (weights.max() if weights.max() > 0 else 1))


class UsesImportanceAlthoughIgnored(Right):
    spec = replace(Right.spec, importance="ignored", uniform_is_none=False)

    def weights(self, weights: Any) -> Any:
        return np.arange(1, len(weights) + 1, dtype=np.float32) * weights


class UniformImportanceDiffers(Right):
    def weights(self, weights: Any) -> Any:
        return np.arange(1, len(weights) + 1, dtype=np.float32) if weights[0] != 1 else weights


class NeedsNoImportanceAfterAll(Right):
    spec = replace(Right.spec, importance="required", uniform_is_none=False)


class PromisesTooMuch(Right):
    spec = replace(Right.spec, error_bound=0.004)


class PromisesTooLittle(Right):
    spec = replace(Right.spec, error_bound=0.5)


class SpecArithmeticOff(Right):
    class _Spec(FormatSpec):
        def row_bytes(self, k: int) -> int:
            return super().row_bytes(k) + (k > 128)

    spec = _Spec(**{name: getattr(Right.spec, name) for name in Right.spec.__dataclass_fields__})


class AcceptsEverything(Right):
    def accepts(self, tensor: Any) -> None:
        return None


class AcceptsNothing(Right):
    def accepts(self, tensor: Any) -> str:
        return "not today"


class RaisesValueErrorForOddColumns(Right):
    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        if rows.shape[1] % 32:
            raise ValueError("no")
        return super().encode(rows, importance, out=out)


class OptionWithoutDefault(Right):
    option_schema = {"steps": {"type": "integer"}}  # noqa: RUF012  # as an author would write it


class TakesAnyOption(Right):
    def __init__(self, options: Any = None) -> None:
        super().__init__({})


class StatesNoFloats(Right):
    """As plugins that are older than the field do; users notice nothing, its author does."""

    spec = replace(Right.spec, floats=())


class StatesAFloatElsewhere(Right):
    spec = replace(Right.spec, floats=(StoredFloat(kind="f16", at=2),))


class StatesAFloatBeyondTheBlock(Right):
    spec = replace(Right.spec, floats=(StoredFloat(kind="f16", at=33),))


class StatesAFloatOfTheRow(Right):
    spec = replace(Right.spec, floats=(StoredFloat(kind="f16", per="row"),))


class StatesTheWrongKind(Right):
    spec = replace(Right.spec, floats=(StoredFloat(kind="e8m0", at=1),))


class FallsBackToNothing(Right):
    spec = replace(Right.spec, fallback="NOT_THERE")


class FallsBackToBlocks(Right):
    spec = replace(Right.spec, name="WRONG", fallback="RIGHT")


class SaysNothing(Right):
    spec = replace(Right.spec, summary=" ")


class TakesAName(Right):
    spec = replace(Right.spec, name="Q4_K")


class TakesATypeId(Right):
    spec = replace(Right.spec, dialect="ggml", ggml_type=12)


FORMAT_MUTANTS: list[tuple[type[Right], str]] = [
    (WrongRowBytes, "sizes"),
    (ChangesInput, "layouts"),
    (ChangesImportance, "layouts"),
    (DecodeChangesInput, "layouts"),
    (ScratchOfThreads, "threads"),
    (DependsOnTheThread, "threads"),
    (DependsOnChunks, "splits"),
    (DependsOnOrder, "splits"),
    (DependsOnTheLastCall, "repeats"),
    (ReturnsItsBuffer, "repeats"),
    (LetsNaNThrough, "non_finite"),
    (LetsInfThrough, "non_finite"),
    (LetsLastColumnThrough, "non_finite"),
    (LetsNaNImportanceThrough, "non_finite"),
    (RaisesValueErrorForNaN, "non_finite"),
    (DecodesOneStepOff, "error_bound"),
    (DecodesTheLastWeightOneStepOff, "twice"),
    (SwapsNeighbours, "error_bound"),
    (DecodeFailsOnOddBytes, "random_bytes"),
    (DecodesToDoubles, "shapes"),
    (ForgetsOut, "out"),
    (LeavesPartOfOut, "out"),
    (MisreadsStrides, "layouts"),
    (MisreadsByteOrder, "layouts"),
    (NoRowsFail, "shapes"),
    (FailsOnZeros, "zeros"),
    (IgnoresImportance, "importance"),
    (UsesImportanceUpsideDown, "importance"),
    (UsesImportanceAlthoughIgnored, "importance"),
    (UniformImportanceDiffers, "uniform_importance"),
    (NeedsNoImportanceAfterAll, "importance"),
    (PromisesTooMuch, "error_bound"),
    (PromisesTooLittle, "error_bound"),
    (SpecArithmeticOff, "sizes"),
    (AcceptsEverything, "accepts"),
    (AcceptsNothing, "accepts"),
    (RaisesValueErrorForOddColumns, "accepts"),
    (OptionWithoutDefault, "options"),
    (TakesAnyOption, "options"),
    (StatesNoFloats, "floats"),
    (StatesAFloatElsewhere, "floats"),
    (StatesAFloatBeyondTheBlock, "floats"),
    (StatesAFloatOfTheRow, "floats"),
    (StatesTheWrongKind, "floats"),
    (FallsBackToNothing, "fallback_ends"),
    (FallsBackToBlocks, "fallback_ends"),
    (SaysNothing, "spec"),
    (TakesAName, "unique"),
    (TakesATypeId, "unique"),
]
