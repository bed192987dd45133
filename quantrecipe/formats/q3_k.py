"""Q3_K: super-blocks of 16 groups of 16 weights, each group with a 6-bit scale.

    256 weights → 32 × eight upper bits of q, 64 × four times two lower bits of q,
                  12 bytes of scales, f16 d (110 bytes)
    byte i              bit g is the upper bit of q of weight 32 g + i
    byte 32 + 32 h + i  the lower bits of q of weight 128 h + 32 c + i in bits 2 c and 2 c + 1
    byte 96 + i         for i below 8, the lower four bits of scale i, then of scale 8 + i
    byte 104 + i        for i below 4, the upper two bits of scales i, 4 + i, 8 + i, 12 + i

    x ≈ d * (scale - 32) * (q - 4)

ggml: block_q3_K, quantize_row_q3_K_ref, quantize_row_q3_K_impl.
"""

from __future__ import annotations

import numpy as np

from quantrecipe.core import (
    DECODE,
    ENCODE,
    ENCODE_WEIGHTED,
    GRID_PUT,
    GRID_SCALES,
    GRID_STEPS,
    GridKernels,
    Kernels,
    kernel,
)
from quantrecipe.core.bits import place
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.jit import disjoint_kernel
from quantrecipe.core.k_quants.superblock import SUPERBLOCK
from quantrecipe.core.k_quants.two_bit_integers import put_two_bit
from quantrecipe.core.lanes import (
    LANES,
    WORKSPACE,
    WT,
    X,
    first_largest,
    load_groups,
    load_importance,
    nearest_int,
    sums_of_squares,
    weigh_by_size,
)
from quantrecipe.core.scalars import F32, I8, I32, ONE, TWO, U8, ZERO, Bytes, Float, Floats, Int, Ints
from quantrecipe.core.scale_searches.make_q3_quants import MANY, make_q3_quants, moves_room, round_moved
from quantrecipe.core.scale_searches.make_qx_quants import (
    KEPT_ISCALE,
    PEAK,
    SCALE,
    make_qx_quants,
    round_signed,
)

__all__ = ["KERNELS"]

TOP = F32(-32)
LENGTH = F32(SUPERBLOCK)

BYTES = 110
N, GROUPS = 16, 16
LOWER, SCALES, D = 32, 96, 108
AT_ONCE = LANES // GROUPS
"""Super-blocks whose groups fill the lanes."""

_load, _load_importance, _weigh = load_groups(N), load_importance(N), weigh_by_size(N)
_search, _search_plain, _round_moved = make_qx_quants(N, 4), make_q3_quants(N, 4), round_moved(N, 4)
_search_scales = make_qx_quants(GROUPS, 32)
_round, _round_scales = round_signed(N, 4), round_signed(GROUPS, 32)


@kernel
def _put_scales(scales: Floats, to: Bytes) -> None:
    """Store sixteen scales of 6 bits in 12 bytes."""
    for i in range(8):
        to[i] = U8(U8(scales[i] & U8(15)) | U8(scales[8 + i] << U8(4)))
    for i in range(4):
        low = U8(scales[i] >> U8(4)) | U8(U8(scales[4 + i] >> U8(4)) << U8(2))
        high = U8(scales[8 + i] >> U8(4)) | U8(U8(scales[12 + i] >> U8(4)) << U8(2))
        to[8 + i] = U8(low | U8(high << U8(4)))


@kernel
def _get_scale(source: Bytes, g: Int) -> Float:
    """Scale g of the 12 bytes, -32 to 31, as float32."""
    low = U8(source[g % 8] >> U8(4 * (g // 8))) & U8(15)
    high = U8(source[8 + g % 4] >> U8(2 * (g // 4))) & U8(3)
    return F32(I32(low | U8(high << U8(4))) - I32(32))


@kernel
def _head_plain(scales: Floats, packed: Bytes, to: Bytes) -> None:
    """d and scales of a super-block from those of its groups: the one of largest size becomes -32."""
    peak = first_largest(scales, 0, GROUPS)
    iscale = TOP / peak if peak != ZERO else ZERO
    put_half(to, D, ONE / iscale if peak != ZERO else ZERO)
    for g in range(GROUPS):
        # Via a byte with a sign, as in ggml.
        scale = I32(I8(nearest_int(iscale * scales[g]) & 255))
        packed[g] = U8(I32(min(max(scale, I32(-32)), I32(31)) + I32(32))) if peak != ZERO else U8(0)
    _put_scales(packed, to[SCALES:])


@kernel
def _scales(to: Bytes, scales: Floats) -> None:
    """What the bytes of a super-block hold already: d times each scale."""
    d = get_half(to, D)
    for g in range(GROUPS):
        scales[g] = d * _get_scale(to[SCALES:], g)


@disjoint_kernel
def _put_upper(levels: Bytes, to: Bytes) -> None:
    for i in range(32):
        low = U8(levels[i] >> U8(2)) | U8(U8(levels[32 + i] >> U8(2)) << U8(1))
        low |= U8(U8(levels[64 + i] >> U8(2)) << U8(2)) | U8(U8(levels[96 + i] >> U8(2)) << U8(3))
        high = U8(levels[128 + i] >> U8(2)) | U8(U8(levels[160 + i] >> U8(2)) << U8(1))
        high |= U8(U8(levels[192 + i] >> U8(2)) << U8(2)) | U8(U8(levels[224 + i] >> U8(2)) << U8(3))
        to[i] = U8(low | U8(high << U8(4)))


@kernel
def _pack(levels: Bytes, to: Bytes) -> None:
    _put_upper(levels, to)
    put_two_bit(levels, to[LOWER:])


@kernel(ENCODE)
def _encode(rows: Floats, out: Bytes) -> None:
    blocks = rows.size // SUPERBLOCK
    x, to = rows.reshape(blocks, SUPERBLOCK), out.reshape(blocks, BYTES)
    flat = rows.reshape(rows.size)
    room, found, nothing_kept = (
        moves_room(),
        np.empty(MANY, np.float32),
        np.zeros(KEPT_ISCALE + GROUPS, np.float32),
    )
    levels, packed, scales = (
        np.empty(SUPERBLOCK, np.uint8),
        np.empty(GROUPS, np.uint8),
        np.empty(GROUPS, np.float32),
    )
    for first in range(0, blocks, MANY // GROUPS):
        count = min(MANY // GROUPS, blocks - first)
        _search_plain(flat, first * GROUPS, count * GROUPS, room, found)
        for b in range(count):
            block = to[first + b]
            _head_plain(found[b * GROUPS :], packed, block)
            _scales(block, scales)
            _round(x[first + b], 0, GROUPS, scales, nothing_kept, 0, levels)
            for g in range(GROUPS):
                if scales[g] == ZERO:
                    _round_moved(flat, place((first + b) * SUPERBLOCK + g * N), levels, place(g * N))
            _pack(levels, block)


@kernel
def _find_weighted(
    x: Floats, importance: Floats, first: Int, count: Int, s: Floats, t: Floats, kept: Floats
) -> None:
    """Scale and count of each group to t, one super-block per lane; what its integers follow from to kept.

    x: flat. A weight counts importance * sqrt(2 * mean square of the super-block + its own square).
    """
    squares, even = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    sums_of_squares(x, first, count, SUPERBLOCK, squares)
    for b in range(0, count, AT_ONCE):
        filled = min(AT_ONCE, count - b)
        _load(x, (first + b) * GROUPS, filled * GROUPS, s)
        _load_importance(importance, (first + b) * GROUPS, filled * GROUPS, s)
        for j in range(LANES):
            even[j] = TWO * squares[b + min(j // GROUPS, filled - 1)] / LENGTH
        _weigh(even, s)
        for j in range(LANES):
            even[j] = ZERO
        for i in range(N):
            for j in range(LANES):
                even[j] += s[WT + i * LANES + j]
        _search(s)
        for j in range(LANES):
            lane, g = b + j // GROUPS, j % GROUPS
            t[X + g * LANES + lane], t[WT + g * LANES + lane] = s[SCALE + j], even[j]
            kept[KEPT_ISCALE + lane * GROUPS + g] = s[KEPT_ISCALE + j]
    for g in range(GROUPS):
        for lane in range(count, LANES):
            t[X + g * LANES + lane] = t[X + g * LANES + count - 1]
            t[WT + g * LANES + lane] = t[WT + g * LANES + count - 1]


@kernel
def _beyond(t: Floats, lane: Int, packed: Bytes) -> Float:
    """d, where the weights are so large that a group's scale is infinite: in ggml all scales then round to nothing."""
    d = ZERO
    for g in range(GROUPS):
        packed[g] = U8(32)
        d += t[WT + g * LANES + lane] * ZERO  # NaN, unless what every group counts is finite
    return d


@kernel(ENCODE_WEIGHTED)
def _encode_weighted(rows: Floats, importance: Floats, out: Bytes) -> None:
    blocks = rows.size // SUPERBLOCK
    x, to = rows.reshape(blocks, SUPERBLOCK), out.reshape(blocks, BYTES)
    s, t = np.empty(WORKSPACE, np.float32), np.empty(WORKSPACE, np.float32)
    kept = np.empty(KEPT_ISCALE + LANES * GROUPS, np.float32)
    levels, packed, scales = (
        np.empty(SUPERBLOCK, np.uint8),
        np.empty(GROUPS, np.uint8),
        np.empty(GROUPS, np.float32),
    )
    searched = np.zeros(1, np.float32)  # no other scale: the search's integers are the answer
    for first in range(0, blocks, LANES):
        count = min(LANES, blocks - first)
        _find_weighted(rows.reshape(rows.size), importance, first, count, s, t, kept)
        _search_scales(t)
        for lane in range(count):
            block = to[first + lane]
            for g in range(GROUPS):
                scales[g] = t[X + g * LANES + lane]
            d = t[SCALE + lane]
            _round_scales(scales, 0, 1, searched, t, lane, packed)
            if np.isinf(t[PEAK + lane]):
                d = _beyond(t, lane, packed)
            put_half(block, D, d)
            _put_scales(packed, block[SCALES:])
            _scales(block, scales)
            _round(x[first + lane], 0, GROUPS, scales, kept, lane * GROUPS, levels)
            _pack(levels, block)


@disjoint_kernel
def _sixteen(
    source: Bytes, lower: Int, upper: Int, shift: Float, scales: Floats, g: Int, x: Floats, first: Int
) -> None:
    """Sixteen bytes, each with lower bits of four groups, which lie 32 weights apart, and sixteen of upper bits."""
    lower, upper, first = place(lower), place(upper), place(first)
    scale0, scale1, scale2, scale3 = scales[g], scales[g + 2], scales[g + 4], scales[g + 6]
    for i in range(N):
        low, high = I32(source[lower + i]), I32(I32(source[upper + i]) >> I32(shift))
        x[first + i] = scale0 * F32(I32(low & I32(3)) + I32(I32(high & I32(1)) << I32(2)) - I32(4))
        x[first + 32 + i] = scale1 * F32(
            I32(I32(low >> I32(2)) & I32(3)) + I32(I32(high & I32(2)) << I32(1)) - I32(4)
        )
        x[first + 64 + i] = scale2 * F32(I32(I32(low >> I32(4)) & I32(3)) + I32(high & I32(4)) - I32(4))
        x[first + 96 + i] = scale3 * F32(I32(low >> I32(6)) + I32(I32(high & I32(8)) >> I32(1)) - I32(4))


@kernel(DECODE)
def _decode(data: Bytes, rows: Floats) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    blocks = data.reshape(x.size // SUPERBLOCK, BYTES)
    scales = np.empty(GROUPS, np.float32)
    for b in range(x.size // SUPERBLOCK):
        first, at = b * SUPERBLOCK, b * BYTES
        _scales(blocks[b], scales)
        for part in range(2):
            upper, lower = at + N * part, at + LOWER + N * part
            _sixteen(source, lower, upper, 0, scales, part, x, first + N * part)
            _sixteen(source, lower + 32, upper, 4, scales, 8 + part, x, first + 128 + N * part)


@kernel(GRID_SCALES)
def _grid_scales(data: Bytes, scales: Floats, offsets: Floats) -> None:
    blocks = scales.size // GROUPS
    source, to = data.reshape(blocks, BYTES), scales.reshape(blocks, GROUPS)
    offsets[:] = ZERO
    for b in range(blocks):
        _scales(source[b], to[b])


@kernel(GRID_PUT)
def _grid_put(choices: Bytes, data: Bytes) -> None:
    blocks = choices.size // SUPERBLOCK
    levels, to = choices.reshape(blocks, SUPERBLOCK), data.reshape(blocks, BYTES)
    for b in range(blocks):
        _pack(levels[b], to[b])


@kernel(GRID_STEPS)
def _grid_put_steps(steps: Ints, lows: Ints, data: Bytes) -> None:  # it has no offsets
    blocks = steps.size // GROUPS
    from_, to, packed = steps.reshape(blocks, GROUPS), data.reshape(blocks, BYTES), np.empty(GROUPS, np.uint8)
    for b in range(blocks):
        for g in range(GROUPS):
            packed[g] = U8(from_[b, g] + 32)
        _put_scales(packed, to[b, SCALES:])


GRID = GridKernels(
    values=tuple(range(-4, 4)), group=N, scales=_grid_scales, put=_grid_put,
    steps=(-32, 31), put_steps=_grid_put_steps,
)  # fmt: skip
KERNELS = Kernels(encode=_encode, encode_weighted=_encode_weighted, decode=_decode, grid=GRID)
