"""`feedback`: the error of each column is carried over to later columns, so that the layer's output comes out right.

    in order    scales of a block are found by the format's own encoder, on weights that hold the errors of all earlier
                blocks, with the conditional variances as importance; then its columns are rounded (`rounding.py`)
    then        rounds of coordinate descent (`descent.py`), with the scales as they are
    at last     rows that the format makes better by itself stay as it makes them (`choice.py`)

Source: GPTQ (Frantar et al., 2022), and LDLQ (Chee et al., 2023), which is the same; the descent as in QuantEase
(Behdin et al., 2023). Types, sizes and the meaning of all bytes stay the format's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from quantrecipe.api import Encoder, InputStatistics, QuantFormat
from quantrecipe.errors import FormatError, ImportanceError

if TYPE_CHECKING:
    from quantrecipe.api import ByteArray, FloatArray
    from quantrecipe.encoders.feedback.factor import Factor
    from quantrecipe.encoders.feedback.order import Together

__all__ = ["Feedback", "predicted_damping"]

_AUTO = "auto"
_DAMPING = 0.5
"""For one token for each column."""
_LEAST, _MOST = 0.01, 1.0
_FLOOR = 1e-4
"""What is added besides, as a part of the mean, for inputs that are always zero."""
_FEWEST = 0.5
"""Tokens for each column of an expert, below which nothing is gained. See docs/feedback.md."""
_FEW_BITS = 3
"""With no more of them, single weights stay in order: large inputs first lost less by the statistics, more on text."""


def predicted_damping(tokens: int, columns: int) -> float:
    """Damping for statistics of so many tokens, to two digits. Measured: see docs/feedback.md."""
    found = _DAMPING / math.sqrt(tokens / columns)
    return float(f"{min(max(found, _LEAST), _MOST):.2g}")


def _by_column(gram: FloatArray, damping: float) -> FloatArray:
    """The matrix with each number of its diagonal raised by a part of itself.

    In large models a few inputs are far larger than all others, and only at few tokens. A part of the diagonal's mean
    would leave nothing of most columns, and would trust what these few tokens say of the large ones.
    """
    import numpy as np  # plans know encoders, and don't load it

    damped = np.array(gram, np.float32)
    damped[np.diag_indices(len(damped))] *= np.float32(1 + damping)
    return damped


class Feedback(Encoder):
    """Error feedback inside any format. See the module."""

    name: ClassVar[str] = "feedback"
    summary: ClassVar[str] = (
        "each rounding error is made good in later columns, by the Gram matrix of the inputs"
    )
    version: ClassVar[int] = 3
    needs_statistics: ClassVar[bool] = True
    option_schema: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "damping": {
                "type": ["number", "string"],
                "minimum": 0,
                "maximum": 1,
                "pattern": f"^{_AUTO}$",
                "default": _AUTO,
                "description": "what is added to the Gram matrix's diagonal, as a part of it; "
                f"{_AUTO}: by how many tokens there are for each column",
            },
            "by": {
                "enum": ["mean", "column"],
                "default": "mean",
                "description": "what a number for the damping is a part of: the diagonal's mean, or each column's own "
                f"value, as with {_AUTO}",
            },
            "rounds": {
                "type": "integer",
                "minimum": 0,
                "maximum": 20,
                "default": 2,
                "description": "rounds of coordinate descent after the feedback",
            },
        }
    )

    def accepts(self, fmt: QuantFormat) -> str | None:
        spec = fmt.spec
        if not spec.codec:
            return f"{spec.name} only passes through"
        if fmt.grid is None and (spec.row_meta_bytes or spec.rows_per_group > 1):
            return f"blocks of {spec.name} can't be encoded one by one, and it has no grid"
        return None

    def settled(self, tokens: int, columns: int) -> Mapping[str, Any]:
        if self.options["damping"] != _AUTO:
            return self.options
        return MappingProxyType(
            {**self.options, "damping": predicted_damping(tokens, columns), "by": "column"}
        )

    def enough(self, tokens: int, columns: int) -> bool:
        least = 1.0 if self.options["damping"] != _AUTO else _FEWEST
        return tokens >= least * columns

    def shares(self, fmt: QuantFormat) -> Together | None:
        from quantrecipe.encoders.feedback.order import kept_together

        together = kept_together(fmt)
        return None if fmt.spec.bits_per_weight <= _FEW_BITS and together[1] == 1 else together

    def prepare(
        self, statistics: InputStatistics | None, *, fmt: QuantFormat | None = None, threads: int = 1
    ) -> Factor:
        from quantrecipe.encoders.feedback.factor import factorize
        from quantrecipe.encoders.feedback.order import order_of

        if statistics is None:
            raise ImportanceError(
                "the encoder feedback needs the Gram matrix of a tensor's inputs",
                "`quantrecipe imatrix compute --gram FOLDER` makes one",
            )
        together = None if fmt is None else self.shares(fmt)
        columns = None if together is None else order_of(statistics.gram.diagonal(), *together)
        gram = statistics.gram
        settled = self.settled(statistics.tokens, len(gram))
        damping = float(settled["damping"])
        if settled["by"] == "column":
            gram, damping = _by_column(gram, damping), _FLOOR
        return factorize(gram, damping, threads, columns=columns)

    def remark(self, prepared: Factor) -> str:
        if prepared.damping == prepared.wanted:
            return ""
        return (
            f"damped by {prepared.damping:g} and not by {prepared.wanted:g}, with which the Gram matrix of its inputs "
            "isn't positive definite"
        )

    def encode(
        self,
        rows: FloatArray,
        fmt: QuantFormat,
        importance: FloatArray | None = None,
        prepared: Factor | None = None,
        *,
        out: ByteArray | None = None,
    ) -> ByteArray:
        from quantrecipe.encoders.feedback.rows import encode_rows

        if prepared is None:
            raise FormatError("the encoder feedback has to be prepared with the statistics of the input")
        if reason := self.accepts(fmt):
            raise FormatError(f"the encoder feedback can't encode {fmt.spec.name}: {reason}")
        rounds = int(self.options["rounds"])
        return encode_rows(rows, fmt, prepared, rounds=rounds, importance=importance, out=out)
