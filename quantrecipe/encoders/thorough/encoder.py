"""`thorough`: every weight for itself, as in plain encoding, but with scales that were looked for at length.

ggml's encoders try a few dozen scales of a group, round the scales of a block, and stay with that. Here the search goes
on from what they found (`search.py`), and each weight takes the nearest value that it may have. What counts is the
weighted squared error of a block, Σ importance * (weight - decoded)². A block in which that doesn't become smaller
stays as the format makes it. What the search looks at is a little more (`losses.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from quantrecipe.api import Encoder, Grid, QuantFormat
from quantrecipe.errors import FormatError

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray

__all__ = ["Thorough"]


class Thorough(Encoder):
    """A search for scales beyond the format's own. See the module."""

    name: ClassVar[str] = "thorough"
    summary: ClassVar[str] = "every weight for itself, with scales that are looked for at length"
    version: ClassVar[int] = 1

    def accepts(self, fmt: QuantFormat) -> str | None:
        spec, grid = fmt.spec, fmt.grid
        if not spec.codec:
            return f"{spec.name} only passes through"
        if not isinstance(grid, Grid):
            return f"{spec.name} has no grid of values for single weights"
        if grid.fours:
            return f"the values that {spec.name} may take depend on each other"
        if spec.row_meta_bytes or spec.rows_per_group > 1:
            return f"blocks of {spec.name} can't be encoded one by one"
        kinds = [it.kind for it in spec.floats]
        alone = grid.group == spec.block and kinds in (["f16"], ["f16", "f16"], ["e8m0"])
        if not alone and grid.steps is None:
            return f"the scales of {spec.name} can't be set"
        return None

    def encode(
        self,
        rows: FloatArray,
        fmt: QuantFormat,
        importance: FloatArray | None = None,
        prepared: Any = None,
        *,
        out: ByteArray | None = None,
    ) -> ByteArray:
        from quantrecipe.encoders.thorough.improve import improve_rows

        if reason := self.accepts(fmt):
            raise FormatError(f"the encoder thorough can't encode {fmt.spec.name}: {reason}")
        out = fmt.encode(rows, importance, out=out)
        improve_rows(rows, fmt, importance, out)
        return out
