"""CheckFailure, and how it says where two answers differ: which row, which block, which bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from quantrecipe.api import FormatSpec

__all__ = ["CheckFailure", "require", "same_bytes", "same_values"]


class CheckFailure(AssertionError):  # noqa: N818  # a promise that isn't kept, rather than an error
    """A promise of the contract that a plugin doesn't keep; the text says where, with the seed's own rows."""


def require(holds: object, what: str) -> None:
    """Raise a CheckFailure unless the condition holds."""
    if not holds:
        raise CheckFailure(what)


def same_bytes(spec: FormatSpec, got: Any, expected: Any, when: str) -> None:
    """uint8 (n, row_bytes) beside uint8 (n, row_bytes): CheckFailure names the first byte that differs."""
    require(
        got.shape == expected.shape,
        f"{when}: the bytes have shape {got.shape} instead of {expected.shape}",
    )
    rows, at = np.nonzero(got != expected)
    if not len(rows):
        return
    row, byte = int(rows[0]), int(at[0])
    was, is_ = int(expected[row, byte]), int(got[row, byte])
    raise CheckFailure(
        f"{when}: {len(rows)} of {got.size} bytes differ, first in row {row}, {_block_of(spec, byte)}: "
        f"{is_:#04x} instead of {was:#04x} (bits {_bits(was ^ is_)})"
    )


def same_values(spec: FormatSpec, got: Any, expected: Any, when: str) -> None:
    """float32 (n, k) beside float32 (n, k), bit for bit: CheckFailure names the first weight that differs."""
    require(
        got.shape == expected.shape,
        f"{when}: the weights have shape {got.shape} instead of {expected.shape}",
    )
    bits = [np.ascontiguousarray(values, np.float32).view(np.uint32) for values in (got, expected)]
    rows, at = np.nonzero(bits[0] != bits[1])
    if not len(rows):
        return
    row, column = int(rows[0]), int(at[0])
    raise CheckFailure(
        f"{when}: {len(rows)} of {got.size} weights differ, first in row {row}, column {column} "
        f"(weight {column % spec.block} of block {column // spec.block}): {got[row, column]!r} instead of "
        f"{expected[row, column]!r} (bits {_bits(int(bits[0][row, column] ^ bits[1][row, column]))})"
    )


def _block_of(spec: FormatSpec, byte: int) -> str:
    if byte < spec.row_meta_bytes:
        return f"byte {byte} of the row's own data"
    block, within = divmod(byte - spec.row_meta_bytes, spec.block_bytes)
    return f"byte {within} of block {block}"


def _bits(differing: int) -> str:
    """0b1010 → "1, 3"."""
    return ", ".join(str(bit) for bit in range(differing.bit_length()) if differing >> bit & 1)
