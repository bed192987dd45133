"""What a format says of itself: its numbers, which tensors it accepts, its options, its factor."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.errors import FormatError
from quantrecipe.tensor import TensorInfo
from quantrecipe.testing.failure import require
from quantrecipe.testing.sample import columns_of, importance_for, ordinary_rows

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["check_accepts", "check_factor", "check_floats", "check_options", "check_sizes", "check_spec"]

_BLOCKS = (1, 2, 3, 5, 8, 13)
_LARGEST_TYPE_ID = 2**31 - 1


def check_spec(fmt: QuantFormat, seed: int = 0) -> None:
    """The numbers make sense, and people are told what it is."""
    spec = fmt.spec
    require(spec.block >= 1 and spec.block_bytes >= 1, "a block has at least one weight and one byte")
    require(spec.row_meta_bytes >= 0, "row_meta_bytes is negative")
    require(spec.rows_per_group >= 1, "rows_per_group is less than 1")
    require(0 <= spec.ggml_type <= _LARGEST_TYPE_ID, "ggml_type doesn't fit a GGUF file (0 … 2³¹ - 1)")
    require(spec.version >= 1, "version counts from 1")
    require(spec.summary.strip(), "summary is empty: `quantrecipe formats` shows it")
    require("\n" not in spec.summary, "summary is one line")
    require(spec.exactness.strip(), "exactness is empty: say what the bytes are held to")
    require(spec.importance in ("ignored", "optional", "advised", "required"), "importance has no such level")
    require(math.isfinite(spec.error_bound) and spec.error_bound >= 0, "error_bound is no number")
    require(spec.fallback != spec.name, "fallback is the format itself")
    if spec.companion is not None:
        require(
            spec.companion.isidentifier(), "companion is the ending of a tensor's name: letters, digits, _"
        )


def check_sizes(fmt: QuantFormat, seed: int = 0) -> None:
    """The bytes of a row are what the spec says, for many widths; what doesn't divide is a FormatError."""
    spec = fmt.spec
    for blocks in _BLOCKS:
        k = blocks * spec.block
        stated = spec.row_meta_bytes + blocks * spec.block_bytes
        require(spec.row_bytes(k) == stated, f"row_bytes({k}) is {spec.row_bytes(k)} instead of {stated}")
        rows = ordinary_rows(fmt, 2, seed, k)
        data = fmt.encode(rows, importance_for(fmt, k, seed))
        require(
            data.shape == (len(rows), stated),
            f"encode gives {data.shape[-1]} bytes for a row of {k} weights, and the spec says {stated}",
        )
        shape = (3, 2 * spec.rows_per_group, k)
        want = math.prod(shape[:2]) * stated
        require(spec.tensor_bytes(shape) == want, f"tensor_bytes({shape}) isn't {want}")
    for k in (0, *((spec.block - 1, spec.block + 1) if spec.block > 1 else ())):
        _refuses(f"row_bytes({k})", partial(spec.row_bytes, k))


def check_accepts(fmt: QuantFormat, seed: int = 0) -> None:
    """accepts() says None of what encode takes; of what it doesn't, the reason, and encode raises FormatError."""
    k, group = columns_of(fmt), fmt.spec.rows_per_group
    fits = TensorInfo.from_name("blk.0.ffn_up.weight", (4 * group, k), "F32")
    require(
        (reason := fmt.accepts(fits)) is None,
        f"accepts() refuses {fits.shape}, whole blocks and groups: {reason}",
    )
    odd = []
    if fmt.spec.block > 1:
        odd.append((4 * group, k + 1))
    if group > 1:
        odd.append((4 * group + 1, k))
    for shape in odd:
        reason = fmt.accepts(TensorInfo.from_name("blk.0.ffn_up.weight", shape, "F32"))
        require(isinstance(reason, str) and reason, f"accepts() gives no reason against {shape}")
        rows = np.ones(shape, np.float32)
        importance = None if importance_for(fmt, 1, seed) is None else np.ones(shape[1], np.float32)
        _refuses(f"encode of {shape}", partial(fmt.encode, rows, importance))


def check_options(fmt: QuantFormat, seed: int = 0) -> None:
    """Every option has a schema with a default; a stray option is a FormatError; options make another value."""
    for name, schema in fmt.option_schema.items():
        require("default" in schema, f"option {name!r} has no default, so a rule without it means nothing")
    same = fmt.with_options(fmt.options)
    require(same.spec == fmt.spec, "with_options changes the spec")
    require(dict(same.options) == dict(fmt.options), "with_options loses an option")
    _refuses("an option that the schema doesn't have", lambda: fmt.with_options({"no such option": 1}))


def check_factor(fmt: QuantFormat, seed: int = 0) -> None:
    """Of a format with a companion tensor: a positive and finite factor for any magnitude, zero included."""
    if fmt.spec.companion is None:
        return
    for peak in (0.0, 1e-45, 1e-8, 0.02, 1.0, 448.0, 1e12, float(np.finfo(np.float32).max)):
        factor = fmt.factor(peak)
        require(math.isfinite(factor) and factor > 0, f"factor({peak}) is {factor}")


def check_floats(fmt: QuantFormat, seed: int = 0) -> None:
    """What `floats` names is where it says: NaN there spoils the weights that it is for, and nothing else gives NaN."""
    spec = fmt.spec
    for number in spec.floats:
        reach = max(at for at, _ in number.exponent)
        room = (spec.row_meta_bytes if number.per == "row" else spec.block_bytes) * spec.rows_per_group
        require(
            min(at for at, _ in number.exponent) >= 0 and reach < room,
            f"{number.name} lies outside its {number.per}",
        )
    k = columns_of(fmt)
    rows = ordinary_rows(fmt, 4, seed)
    data = fmt.encode(rows, importance_for(fmt, k, seed))
    for number in spec.floats:
        spoilt = data.copy()
        cells = _cells(spec, number, spoilt)
        for at, bits in number.exponent:
            cells[1, -1, at] |= bits
        lost = ~np.isfinite(_decoded(fmt, spoilt, k)).reshape(len(cells), spec.rows_per_group, -1)
        size = k if number.per == "row" else spec.block
        require(
            lost[1, :, -size:].any(),
            f"NaN or Inf in {number.name} of a {number.per} reaches none of its weights",
        )
        lost[1, :, -size:] = False
        require(not lost.any(), f"NaN or Inf in {number.name} of a {number.per} reaches weights of another")
    random = np.random.default_rng(seed).integers(
        0, 256, (64 * spec.rows_per_group, data.shape[1]), dtype=np.uint8
    )
    for number in spec.floats:
        _make_finite(_cells(spec, number, random), number)
    for row, column in np.argwhere(~np.isfinite(_decoded(fmt, random, k)))[:1]:
        require(
            False,
            f"random bytes in which what `floats` names is finite decode to NaN or Inf, in row {row}, column {column}: "
            "name every number that must be finite, where it is and of its kind",
        )


def _make_finite(cells: ByteArray, number: StoredFloat) -> None:
    """Change the numbers that are NaN or Inf, and those of wide kinds that are so large that products may overflow."""
    (at, bits), *_ = number.exponent
    if number.kind != "f16":  # without the upper bit of its exponent a number is below 2
        cells[..., at] &= 0xFF ^ (1 << (bits.bit_length() - 1))
        return
    wrong = np.all([(cells[..., place] & mask) == mask for place, mask in number.exponent], axis=0)
    cells[..., at][wrong] &= 0xFF ^ (bits & -bits)


def _cells(spec: FormatSpec, number: StoredFloat, data: ByteArray) -> ByteArray:
    """A view (groups of rows, cells that have such a number, bytes of one)."""
    group = spec.rows_per_group
    rows = data.reshape(len(data) // group, -1)
    meta = spec.row_meta_bytes * group
    if number.per == "row":
        return rows[:, None, :meta]
    return rows[:, meta:].reshape(len(rows), -1, spec.block_bytes * group)


def _decoded(fmt: QuantFormat, data: ByteArray, k: int) -> FloatArray:
    with np.errstate(all="ignore"):
        return fmt.decode(data, k)


def _refuses(what: str, act: Callable[[], object]) -> None:
    try:
        act()
    except FormatError:
        return
    except Exception as error:  # noqa: BLE001  # whatever a plugin raises is the finding
        require(False, f"{what} raises {type(error).__name__} ({error}); FormatError is what callers report")
    require(False, f"{what} is taken; it should be a FormatError")
