"""What a session's process does for probes: weights replaced, and read again from the file; inputs looked at.

Weights are handled in pieces, so that an exchange takes no memory of the size of a tensor, and no second copy of one is
kept: what a weight was is in the file that the session has open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.engine.session import Tell
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate.reference import read_reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.engine.graph import Product

    Reduce = Callable[[NDArray[np.float32]], NDArray[np.float64]]

__all__ = ["Held", "inputs_of", "put", "used_of", "write_part"]

_PIECE = 1 << 24  # bytes
_COMPARED = 1 << 12  # bytes at either end of a weight


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A tensor in a file: where its bytes are, and ggml's number of its type."""

    name: str
    ggml_type: int
    path: Path
    offset: int
    nbytes: int

    def pieces(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """(where in the tensor, bytes) from first to last. EvaluationError where the file doesn't have them."""
        for start in range(0, self.nbytes, _PIECE):
            yield start, self.piece(start, min(_PIECE, self.nbytes - start))

    def piece(self, start: int, count: int) -> NDArray[np.uint8]:
        """Bytes of the tensor, from one on. EvaluationError where the file doesn't have them."""
        try:
            found: NDArray[np.uint8] = np.fromfile(self.path, np.uint8, count, offset=self.offset + start)
        except OSError as error:
            raise EvaluationError(f"can't be read ({error.strerror or error})", file=self.path) from error
        if found.size < count:
            raise EvaluationError(f"ends before {self.name} does: it was changed meanwhile", file=self.path)
        return found


def used_of(model: LanguageModel, tensors: Sequence[Held], *, tell: Tell) -> list[str]:
    """Names of those that llama.cpp uses for text; rounding others does nothing.

    EvaluationError where one of them can't be written, or isn't in memory as it is in the file.
    """
    used = []
    for held in tensors:
        weight = model.weights.get(held.name)
        if weight is None:
            continue
        if (weight.nbytes, weight.ggml_type) != (held.nbytes, held.ggml_type) or not _is_there(model, held):
            what = f"llama.cpp has {held.name} in memory in another way than in the file, so it can't be exchanged"
            raise EvaluationError(what, file=model.path)
        used.append(held.name)
    return used


def _is_there(model: LanguageModel, held: Held) -> bool:
    """True if both ends of a tensor are in memory what they are in the file; where it is rearranged, they aren't."""
    count = min(_COMPARED, held.nbytes)
    return all(
        np.array_equal(held.piece(start, count), model.read(held.name, slice(start, start + count)))
        for start in (0, held.nbytes - count)
    )


def write_part(model: LanguageModel, name: str, offset: int, data: NDArray[np.uint8], *, tell: Tell) -> None:
    """Replace bytes of a weight, from one on."""
    model.write(name, data, offset)


def put(model: LanguageModel, tensors: Sequence[Held], *, tell: Tell) -> None:
    """Give weights the bytes that they have in a file: the one that is open, or another with the same types."""
    for held in tensors:
        for start, data in held.pieces():
            model.write(held.name, data, start)


def inputs_of(
    model: LanguageModel, reference: Path, names: Sequence[str], function: Reduce, *, tell: Tell
) -> dict[str, NDArray[np.float64]]:
    """What `function` makes of each matrix's inputs, summed over the chunks of a reference; of a stack, for each.

    tell: after some chunks, how many are done and how many there are
    """
    chunks = read_reference(reference).tokens
    looking = _Looking(names, function)
    together = model.side_by_side(chunks.shape[1])
    for start in range(0, len(chunks), together):
        model.run(chunks[start : start + together], looking)
        tell((min(start + together, len(chunks)), len(chunks)))
    return looking.found


class _Looking:
    """A Watch that reduces the inputs of some matrices as they pass."""

    def __init__(self, names: Sequence[str], function: Reduce) -> None:
        self.found: dict[str, NDArray[np.float64]] = {}
        self._names = frozenset(names)
        self._function = function

    def wants(self, product: Product) -> bool:
        return product.weight in self._names and product.kind != "lookup"

    def see(self, product: Product) -> bool:
        if not product.is_float32:
            what = f"llama.cpp multiplies {product.weight} with inputs that aren't float32, which can't be looked at"
            raise EvaluationError(what, "use a build for the CPU")
        for number, rows in _by_matrix(product):
            if len(rows):
                rows.flags.writeable = False  # they may be llama.cpp's own memory
                self._add(product, number, np.asarray(self._function(rows), np.float64))
        return True

    def _add(self, product: Product, number: int, made: NDArray[np.float64]) -> None:
        if not np.isfinite(made).all():
            what = f"the inputs of {product.weight} are NaN or Inf, or what is made of them is"
            raise EvaluationError(what, "`quantrecipe verify` looks into the weights")
        stacked = product.matrices > 1
        if product.weight not in self.found:
            shape = (product.matrices, *made.shape) if stacked else made.shape
            self.found[product.weight] = np.zeros(shape)
        whole = self.found[product.weight]
        if stacked:
            whole[number] += made
        else:
            whole += made


def _by_matrix(product: Product) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(number of the matrix, its inputs: float32 (tokens, columns)), for each of a stack."""
    inputs = product.inputs()
    columns = inputs.shape[-1]
    if product.kind == "by expert":
        chosen = product.chosen()
        for number in np.unique(chosen).tolist():
            token, place = np.nonzero(chosen == number)
            # What goes into the experts is the same for all that a token goes to, or of each its own.
            yield number, inputs[0, token, place if inputs.shape[2] > 1 else 0]
        return
    each = max(1, inputs.shape[1] // product.matrices)  # several heads may share a matrix
    for number in range(product.matrices):
        part = inputs if product.matrices == 1 else inputs[:, number * each : (number + 1) * each]
        yield number, part.reshape(-1, columns)
