"""Q5_K: super-blocks of 8 groups of 32 weights, each group with a 6-bit scale and minimum.

    256 weights → f16 d, f16 dmin, 12 bytes of scales and minima (see `core/six_bit.py`),
                  32 × eight upper bits of q, 128 × two times four lower bits of q (176 bytes)
    byte 16 + i         bit g is the upper bit of q of weight 32 g + i
    byte 48 + 32 p + i  lower bits of weight 64 p + i in its lower half, of weight 64 p + 32 + i in its upper half

    x ≈ d * scale * q - dmin * minimum

ggml: block_q5_K, quantize_row_q5_K_ref, quantize_row_q5_K_impl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.api import FormatSpec, QuantFormat, StoredFloat
from quantrecipe.core import DECODE, ENCODE, ENCODE_WEIGHTED, decode_rows, encode_rows, kernel
from quantrecipe.core.bits import place
from quantrecipe.core.half import get_half
from quantrecipe.core.lanes import LANES, WORKSPACE
from quantrecipe.core.scale_positive import TABLE
from quantrecipe.core.six_bit import HEAD, head_plain, head_weighted, minimum_of, scale_of
from quantrecipe.core.superblock import (
    FOUND,
    KEPT_BASES,
    KEPT_ISCALES,
    SUPERBLOCK,
    find_plain,
    find_weighted,
    round_with,
)

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["Q5_K"]

F32 = np.float32
U8 = np.uint8

BYTES = 176
N, GROUPS = 32, 8

_find = find_plain(N, nmax=31, rmin=-0.5, rdelta=0.1, nstep=15)
_find_weighted = find_weighted(N, nmax=31, rmin=-0.9, rdelta=0.05, nstep=36, sigma=2.0)
_round = round_with(N, 31)


class Q5_K(QuantFormat):  # noqa: N801  # the field's name
    """5.5 bits, with a scale and a minimum for 32 weights."""

    spec = FormatSpec(
        name="Q5_K",
        ggml_type=13,
        block=SUPERBLOCK,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16"), StoredFloat(kind="f16", at=2, name="dmin")),
        importance="optional",
        error_bound=0.045,
        fallback="Q5_1",
        file_type=17,  # LLAMA_FTYPE_MOSTLY_Q5_K_M
        summary="5-bit k-quant: close to the original",
    )

    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        return encode_rows(self.spec, rows, importance, out, plain=_encode, weighted=_encode_weighted)

    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        return decode_rows(self.spec, data, k, out, _decode)


@kernel(ENCODE)
def _encode(rows: Any, out: Any) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    s, found = np.empty(WORKSPACE, np.float32), np.empty(FOUND * GROUPS * LANES, np.float32)
    levels = np.empty(SUPERBLOCK, np.uint8)
    blocks = x.size // SUPERBLOCK
    for first in range(0, blocks, LANES):
        count = min(LANES, blocks - first)
        _find(x, first, count, s, found)
        for lane in range(count):
            head_plain(found, lane, to, (first + lane) * BYTES)
            _pack(x, first + lane, found, lane, levels, to)


@kernel(ENCODE_WEIGHTED)
def _encode_weighted(rows: Any, importance: Any, out: Any) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    s, found = np.empty(WORKSPACE, np.float32), np.empty(FOUND * GROUPS * LANES, np.float32)
    t, levels = np.empty(TABLE, np.float32), np.empty(SUPERBLOCK, np.uint8)
    blocks = x.size // SUPERBLOCK
    for first in range(0, blocks, LANES):
        count = min(LANES, blocks - first)
        _find_weighted(x, importance, first, count, s, found)
        head_weighted(found, count, 63, t, to, first * BYTES, BYTES)
        for lane in range(count):
            _pack(x, first + lane, found, lane, levels, to)


@kernel
def _pack(x: Any, block: Any, found: Any, lane: Any, levels: Any, to: Any) -> None:
    """Round a super-block with the scales and minima that its head holds, and store the integers."""
    at = place(block * BYTES)
    d, dmin = get_half(to, at), get_half(to, at + 2)
    for g in range(GROUPS):
        iscale = found[(KEPT_ISCALES * GROUPS + g) * LANES + lane]
        base = found[(KEPT_BASES * GROUPS + g) * LANES + lane]
        scale, minimum = d * scale_of(to, at + 4, g), dmin * minimum_of(to, at + 4, g)
        _round(x, block * SUPERBLOCK + g * N, scale, minimum, iscale, base, levels, g * N)
    for i in range(N):
        upper = U8(0)
        for g in range(GROUPS):
            upper |= U8(U8(levels[g * N + i] >> U8(4)) << U8(g))
        to[at + HEAD + i] = upper
    for p in range(GROUPS // 2):
        for i in range(N):
            lower = levels[2 * p * N + i] & U8(15)
            to[at + HEAD + N + p * N + i] = lower | U8(levels[(2 * p + 1) * N + i] << U8(4))


@kernel(DECODE)
def _decode(data: Any, rows: Any) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for block in range(x.size // SUPERBLOCK):
        at = place(block * BYTES)
        d, dmin = get_half(source, at), get_half(source, at + 2)
        for p in range(GROUPS // 2):
            scale0, low0 = d * scale_of(source, at + 4, 2 * p), dmin * minimum_of(source, at + 4, 2 * p)
            scale1, low1 = (
                d * scale_of(source, at + 4, 2 * p + 1),
                dmin * minimum_of(source, at + 4, 2 * p + 1),
            )
            first = place(block * SUPERBLOCK) + 2 * p * N
            for i in range(N):
                q = source[at + HEAD + N + p * N + i]
                upper = U8(source[at + HEAD + i] >> U8(2 * p))
                x[first + i] = scale0 * F32((q & U8(15)) | U8((upper & U8(1)) << U8(4))) - low0
                x[first + N + i] = scale1 * F32((q >> U8(4)) | U8((upper & U8(2)) << U8(3))) - low1
