"""encoded: what a tensor loses in a type if an encoder that knows the inputs makes the bytes.

Such an encoder makes the error of single weights larger, and that of the outputs smaller. So D is that of the outputs:
Σ R H Rᵀ / Σ diag(H) x², where R is what a row is off by, and H the Gram matrix of the inputs. For errors that inputs
don't know, which is noise, it is the D of an importance matrix of the same texts; so alphas mean the same.

Where the encoder isn't used (a format that it doesn't accept, no statistics, too few tokens), the bytes are the
format's own, and D is measured in the same way where there is a Gram matrix.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantrecipe.api import Encoder, InputStatistics, QuantFormat
from quantrecipe.errors import ImportanceError
from quantrecipe.plan.statistics import Statistics, input_statistics, matrix_of
from quantrecipe.tensor import TensorInfo

__all__ = ["Encoding", "TensorEncoding"]

Losses = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """An encoder and what it knows. text: of both, by which losses are known again."""

    encoder: Encoder
    statistics: Statistics

    @property
    def text(self) -> str:
        """Name, version and options of the encoder, and the digest of the statistics."""
        options = ", ".join(f"{key} {value}" for key, value in sorted(self.encoder.options.items()))
        said = f"{self.encoder.name} {self.encoder.version}" + (f" ({options})" if options else "")
        return f"{said}, statistics {self.statistics.digest}"

    def of(self, tensor: TensorInfo) -> TensorEncoding | None:
        """For one tensor; None where there are no statistics of its inputs."""
        if tensor.name not in self.statistics:
            return None
        return TensorEncoding(self, tensor)


class TensorEncoding:
    """Of one tensor, in one thread: experts come one after the other, and only the last one's factors are kept."""

    def __init__(self, encoding: Encoding, tensor: TensorInfo) -> None:
        self._encoder, self._statistics, self._tensor = encoding.encoder, encoding.statistics, tensor
        self._expert = -1
        self._gram: NDArray[np.float64] | None = None
        self._given: InputStatistics | None = None
        self._prepared: dict[Hashable, Any] = {}

    def losses(
        self, expert: int, rows: NDArray[np.float32], fmt: QuantFormat, importance: NDArray[np.float32] | None
    ) -> Losses | None:
        """(Σ R H Rᵀ, Σ diag(H) x²) of each row; None where there is no Gram matrix of the expert's inputs.

        ImportanceError, naming the tensor, where the encoder can't use the statistics.
        """
        if expert != self._expert:
            self._begin(expert)
        if self._gram is None:
            return None
        if fmt.spec.companion is not None:
            return None  # its factors are of the whole matrix
        used = importance
        if used is None and fmt.spec.importance == "required":
            used = np.ones(rows.shape[1], np.float32)
        if self._encoder.accepts(fmt) is None and fmt.spec.block > 1:
            data = self._encoder.encode(rows, fmt, used, self._prepared_for(fmt))
        else:
            data = fmt.encode(rows, used)
        off = rows.astype(np.float64) - fmt.decode(data, rows.shape[1])
        lost = np.einsum("ij,ij->i", off @ self._gram, off)
        whole = np.square(rows, dtype=np.float64) @ np.diag(self._gram)
        return np.maximum(lost, 0.0), whole

    def _begin(self, expert: int) -> None:
        self._expert, self._gram, self._given = expert, None, None
        self._prepared.clear()
        number = matrix_of(self._statistics.entry(self._tensor.name), expert, self._encoder)
        if number is None:
            return
        self._given = input_statistics(self._statistics, self._tensor.name, number)
        self._gram = self._given.gram.astype(np.float64)

    def _prepared_for(self, fmt: QuantFormat) -> Any:
        """As in the file: what formats share is prepared once. ImportanceError where it can't be."""
        key = self._encoder.shares(fmt)
        if key not in self._prepared:
            try:
                self._prepared[key] = self._encoder.prepare(self._given, fmt=fmt)
            except ImportanceError as error:
                problem = error.problems[0]
                raise ImportanceError(
                    f"{self._tensor.name}: {problem.what}",
                    problem.remedy,
                    file=problem.file or self._statistics.folder,
                ) from error
        return self._prepared[key]
