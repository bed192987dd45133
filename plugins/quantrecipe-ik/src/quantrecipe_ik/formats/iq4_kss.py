"""IQ4_KSS: as IQ4_KS, but fours of indices have an even number of ones, and the bit that this saves holds the scale.

    row          → f32 d, then its super-blocks
    256 weights → 64 × u16: a bit of a scale, and fifteen bits of four indices (128 bytes)
    u16 8 g + k  bit 0: bit k of group g's u8: bits 1 to 7 the scale, bit 0 whether it takes the shifted values
                 bits 1 to 15: y, of whose y ^ y >> 1 (as of all sixteen bits, the lowest 0) the four nibbles are the
                 indices of weights 32 g + 2 k, 32 g + 16 + 2 k, 32 g + 2 k + 1 and 32 g + 16 + 2 k + 1

    x ≈ d * (2 scale - 127) * VALUES[index]

ik_llama.cpp: block_iq4_kss, quantize_row_iq4_kss_impl, scramble_table, dequantize_row_iq4_kss. How fours become even is
in `core/even_parity.py`.
"""

from __future__ import annotations

import numpy as np
from quantrecipe.core import DECODE, GridKernels, Kernels, kernel
from quantrecipe.core.bits import place, trips
from quantrecipe.core.jit import GRID_PUT, GRID_SCALES, POINT_SCALES
from quantrecipe.core.scalars import F32, I32, U8, ZERO, Bytes, Float, Floats, Int, Ints

from quantrecipe_ik.core.encoders import encoders
from quantrecipe_ik.core.even_parity import is_odd, rival_index, rival_of
from quantrecipe_ik.core.even_parity_search import FOURS, GROUP, position, search_even
from quantrecipe_ik.core.scales import get_float, inverse, largest_size, odd_level, put_float
from quantrecipe_ik.core.value_tables import FOUR_BITS
from quantrecipe_ik.core.weighing import SUPERBLOCK

__all__ = ["KERNELS"]

MOST = 127
RAISED = F32(1.01)
"""ik_llama.cpp stores d a little larger than the fit says."""

BYTES = 128
D = 4
GROUPS = SUPERBLOCK // GROUP
VALUES, SECOND = FOUR_BITS.values, len(FOUR_BITS.plain)
SHIFT = F32(FOUR_BITS.shifted[0] - FOUR_BITS.plain[0])
POSITIONS = tuple((2 * i, 16 + 2 * i, 2 * i + 1, 17 + 2 * i) for i in range(FOURS))
"""What `position` says, outside of kernels."""
_rival, _rival_shifted = rival_of(FOUR_BITS.plain), rival_of(FOUR_BITS.shifted)


@kernel
def _round(
    x: Floats, weights: Floats, at: Int, dl: Float, shifted: Int, indices: Ints, rivals: Ints, losses: Floats
) -> Float:
    """indices[:] of a group in fours of even parity; their weighted squared error."""
    at, length, iscale = place(at), trips(GROUP, indices), inverse(dl)
    if shifted:
        for i in range(length):
            v, w = x[at + i], weights[at + i]
            indices[i], _, rivals[i], _, losses[i] = _rival_shifted(iscale * v, v, w, dl)
    else:
        for i in range(length):
            v, w = x[at + i], weights[at + i]
            indices[i], _, rivals[i], _, losses[i] = _rival(iscale * v, v, w, dl)
    first, error = place(shifted * SECOND), ZERO
    for four in range(FOURS):
        odd, chosen = I32(0), position(four, 0)
        for member in range(4):
            i = position(four, member)
            odd ^= is_odd(indices[i])
            chosen = i if losses[i] < losses[chosen] else chosen
        if odd:
            indices[chosen] = rival_index(indices[chosen], rivals[chosen])
        for member in range(4):
            i = position(four, member)
            off = x[at + i] - dl * VALUES[first + indices[i]]
            error += weights[at + i] * off * off
    return error


@kernel
def _put_word(to: Bytes, at: Int, packed: Int, bit: Int) -> None:
    """Four indices, the first in the lowest bits, and a bit of what is stored of the group."""
    # The bits' sums, modulo 2, from the lowest up: what y ^ y >> 1 undoes.
    packed ^= packed << 1
    packed ^= packed << 2
    packed ^= packed << 4
    packed ^= packed << 8
    value = ((packed & 0x7FFF) << 1) | bit
    to[at], to[at + 1] = U8(value & 0xFF), U8(value >> 8)


@kernel
def _get_stored(source: Bytes, at: Int) -> Int:
    """The scale and the table of the group whose words begin at this byte."""
    stored = I32(0)
    for four in range(FOURS):
        stored |= I32(source[at + 2 * four] & U8(1)) << four
    return stored


@kernel
def _finish(
    x: Floats, weights: Floats, scales: Floats, counts: Floats, shifted: Int, k: Int, to: Bytes
) -> None:
    """Quantize the scales of each row, round its weights with them, fit d to what came out, and pack."""
    width, groups = D + k // SUPERBLOCK * BYTES, k // GROUP
    indices, others = np.empty(GROUP, np.int32), np.empty(GROUP, np.int32)
    rivals, losses = np.empty(GROUP, np.int32), np.empty(GROUP, np.float32)
    for row in range(x.size // k):
        start = place(row * width)
        to[start : start + width] = U8(0)
        d = largest_size(scales, row * groups, groups) / F32(MOST)
        if d == ZERO:
            put_float(to, start, d)
            continue
        iscale = inverse(d)
        sxl, sl2 = ZERO, ZERO
        for g in range(groups):
            first = place((row * groups + g) * GROUP)
            level = odd_level(iscale * scales[row * groups + g])
            dl = d * F32(level)
            error = _round(x, weights, first, dl, 0, indices, rivals, losses)
            other = I32(_round(x, weights, first, dl, 1, others, rivals, losses) < error)
            if other:
                indices[:] = others
            stored = I32(level + MOST) | other
            for four in range(FOURS):
                packed = I32(0)
                for member in range(4):
                    i = position(four, member)
                    packed |= indices[i] << (4 * member)
                    q = VALUES[other * SECOND + indices[i]] * F32(level)
                    sxl += weights[first + i] * q * x[first + i]
                    sl2 += weights[first + i] * q * q
                _put_word(to, start + D + 2 * (g * FOURS + four), packed, (stored >> four) & 1)
        put_float(to, start, RAISED * (sxl / sl2) if sl2 > ZERO else d)


_encode, _encode_weighted = encoders(GROUP, "square", 2.0, search_even, _finish)


@kernel(DECODE)
def _decode(data: Bytes, rows: Floats) -> None:
    k, source, width = rows.shape[1], data.reshape(data.size), data.shape[1]
    for row in range(rows.shape[0]):
        x, start = rows[row], place(row * width)
        d = get_float(source, start)
        for g in range(k // GROUP):
            at = start + D + 2 * FOURS * g
            stored = _get_stored(source, at)
            scale, table = d * F32((stored & 254) - MOST), SECOND * (stored & 1)
            for four in range(FOURS):
                y = I32(source[at + 2 * four] & U8(254)) | I32(source[at + 2 * four + 1]) << 8
                y ^= y >> 1
                for member in range(4):
                    x[g * GROUP + position(four, member)] = scale * VALUES[table + ((y >> (4 * member)) & 15)]


@kernel(GRID_SCALES)
def _scales_of(data: Bytes, scales: Floats, offsets: Floats) -> None:
    offsets[:] = ZERO
    for row in range(data.shape[0]):
        d = get_float(data[row], 0)
        for g in range(scales.shape[1]):
            scales[row, g] = d * F32((_get_stored(data[row], D + 2 * FOURS * g) & 254) - MOST)


@kernel(POINT_SCALES)
def _shifts_of(data: Bytes, shifts: Floats) -> None:
    for row in range(data.shape[0]):
        for g in range(shifts.shape[1]):
            shifts[row, g] = SHIFT if _get_stored(data[row], D + 2 * FOURS * g) & 1 else ZERO


@kernel(GRID_PUT)
def _put(choices: Bytes, data: Bytes) -> None:
    for row in range(data.shape[0]):
        to = data[row]
        for g in range(choices.shape[1] // GROUP):
            for four in range(FOURS):
                packed, at = I32(0), D + 2 * (g * FOURS + four)
                for member in range(4):
                    packed |= I32(choices[row, g * GROUP + position(four, member)]) << (4 * member)
                _put_word(to, at, packed, I32(to[at] & U8(1)))


GRID = GridKernels(
    values=tuple(map(float, FOUR_BITS.plain)), group=GROUP, scales=_scales_of, shifts=_shifts_of, put=_put,
    fours=POSITIONS, odd=tuple(bool(index.bit_count() % 2) for index in range(SECOND)),
)  # fmt: skip

KERNELS = Kernels(encode=_encode, encode_weighted=_encode_weighted, decode=_decode, grid=GRID)
