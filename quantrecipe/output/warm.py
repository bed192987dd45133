"""compile_kernels: get every kernel that plans need compiled, before the clock and the progress bar start."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quantrecipe.api import QuantFormat
from quantrecipe.plan.plan import Plan
from quantrecipe.registry import Registry

__all__ = ["compile_kernels", "warm"]


def compile_kernels(plans: Sequence[Plan], registry: Registry) -> None:
    """Run each encoder and decoder of the plans once, on one group of rows of one block."""
    assignments = [a for plan in plans for a in plan.assignments]
    for dtype in sorted({a.tensor.dtype for a in assignments}):
        source = registry.formats[dtype]
        if source.spec.codec:
            warm(source, decode=True)
    wanted = {(a.type, a.importance): a.format for a in assignments if a.format.spec.codec}
    for (_, weighted), target in sorted(wanted.items(), key=lambda item: item[0]):
        warm(target, weighted=weighted)


def warm(fmt: QuantFormat, *, weighted: bool = False, decode: bool = False) -> None:
    """Compile a format's encoder, or its decoder."""
    spec = fmt.spec
    if decode:
        fmt.decode(np.zeros((spec.rows_per_group, spec.row_bytes(spec.block)), np.uint8), spec.block)
        return
    rows = np.linspace(-1, 1, spec.rows_per_group * spec.block, dtype=np.float32).reshape(
        spec.rows_per_group, -1
    )
    fmt.encode(rows, np.ones(spec.block, np.float32) if weighted or spec.importance == "required" else None)
