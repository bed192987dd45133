"""IQ4_NL: a scale for 32 weights, and sixteen values that lie closer together around zero.

    32 weights → f16 d, 16 × two 4-bit indices (18 bytes)
    byte 2 + i holds the index of weight i in its lower half, of weight 16 + i in its upper half

    x ≈ d * VALUES[index]

ggml: block_iq4_nl, quantize_iq4_nl. The values are in `core/nonlinear.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from quantrecipe.api import FormatSpec, StoredFloat
from quantrecipe.core import DECODE, ENCODE, ENCODE_WEIGHTED, KernelFormat, Kernels, kernel
from quantrecipe.core.half import get_half, put_half
from quantrecipe.core.lanes import LANES, WORKSPACE
from quantrecipe.core.nonlinear import GROUP, SCALE, VALUES, find_plain, find_weighted, round_values
from quantrecipe.core.scalars import U8

__all__ = ["IQ4_NL"]

BYTES = 18
_find_weighted = find_weighted(GROUP)


@kernel(ENCODE)
def _encode(rows: Any, out: Any) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    s = np.empty(WORKSPACE, np.float32)
    groups = x.size // GROUP
    for first in range(0, groups, LANES):
        count = min(LANES, groups - first)
        find_plain(x, first, count, s)
        _finish(x, first, count, s, to)


@kernel(ENCODE_WEIGHTED)
def _encode_weighted(rows: Any, importance: Any, out: Any) -> None:
    x, to = rows.reshape(rows.size), out.reshape(out.size)
    s = np.empty(WORKSPACE, np.float32)
    groups = x.size // GROUP
    for first in range(0, groups, LANES):
        count = min(LANES, groups - first)
        _find_weighted(x, importance, first, count, s)
        _finish(x, first, count, s, to)


@kernel
def _finish(x: Any, first: Any, count: Any, s: Any, to: Any) -> None:
    """Round and pack with the scales that were found; ggml rounds with them as they were before they became f16."""
    for lane in range(count):
        at = (first + lane) * BYTES
        put_half(to, at, s[SCALE + lane])
        round_values(x, (first + lane) * GROUP, s[SCALE + lane], to, at + 2)


@kernel(DECODE)
def _decode(data: Any, rows: Any) -> None:
    x, source = rows.reshape(rows.size), data.reshape(data.size)
    for block in range(x.size // GROUP):
        first, at = block * GROUP, block * BYTES
        d = get_half(source, at)
        for i in range(GROUP // 2):
            q = source[at + 2 + i]
            x[first + i] = d * VALUES[q & U8(15)]
            x[first + GROUP // 2 + i] = d * VALUES[q >> U8(4)]


class IQ4_NL(KernelFormat):  # noqa: N801  # the field's name
    """4.5 bits, uneven values with a scale for 32 weights."""

    spec = FormatSpec(
        name="IQ4_NL",
        ggml_type=20,
        block=GROUP,
        block_bytes=BYTES,
        floats=(StoredFloat(kind="f16"),),
        importance="optional",
        error_bound=0.1,
        fallback="F16",
        file_type=25,  # LLAMA_FTYPE_MOSTLY_IQ4_NL
        summary="4 bits, uneven values: better than Q4_0 at its size, for rows that don't divide by 256",
    )
    kernels = Kernels(encode=_encode, encode_weighted=_encode_weighted, decode=_decode)
