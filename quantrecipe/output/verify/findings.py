"""What is said of a tensor that differs: in which bytes, and in which row and block of it they are."""

from __future__ import annotations

from dataclasses import replace

from quantrecipe.core.finite import first_unsound
from quantrecipe.model.source.reading import Reading
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output.transform import number_text, value_text
from quantrecipe.output.verify.produced import Produced
from quantrecipe.output.verify.remake import Mismatch
from quantrecipe.output.verify.source import Origin
from quantrecipe.output.verify.verification import Finding
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

__all__ = ["change", "damage", "difference"]

_PIECE = 1 << 20
"""Bytes of a damaged tensor that are looked at in one go."""


def damage(
    produced: Produced,
    registry: Registry,
    name: str,
    digest: str,
    mismatch: Mismatch | None,
    reader: TensorReader,
) -> Finding:
    """Data whose digest isn't the recorded one. `mismatch`: where it differs, if the tensor could be made again."""
    lost = _lost(produced, registry, name, reader)
    if mismatch is not None:
        found = difference(produced, registry, name, mismatch, "isn't what was written")
        return replace(found, what=found.what + lost)
    extent = produced.extent(name)
    what = (
        f"its data, bytes {extent.offset:,} to {extent.offset + extent.nbytes - 1:,}, isn't what was written"
        f" (XXH3-128 {digest}, recorded {produced.data[name]}){lost}"
    )
    return Finding(what=what, tensor=name, file=extent.path, offset=extent.offset)


def _lost(produced: Produced, registry: Registry, name: str, reader: TensorReader) -> str:
    """What to add where a number that must be finite isn't any more; "" where all are."""
    tensor, source = produced.tensor(name), produced.model.sources[name]
    if tensor.dtype not in registry.formats:  # the header is damaged, or the format's plugin isn't there
        return ""
    spec = registry.formats[tensor.dtype].spec
    rows, row_bytes = tensor.rows * tensor.experts, spec.row_bytes(tensor.cols)
    step = max(1, _PIECE // (row_bytes * spec.rows_per_group)) * spec.rows_per_group
    for start in range(0, rows, step):
        piece = source.read(start, min(start + step, rows), Reading(reader, tensor=name))
        if (found := first_unsound(spec, piece)) is not None:
            number = number_text(found, _row_text(tensor, start + found.row))
            return f"; {number} is {value_text(found)}, which llama.cpp refuses with --check-tensors"
    return ""


def difference(produced: Produced, registry: Registry, name: str, mismatch: Mismatch, what: str) -> Finding:
    """Data that isn't what came out when the tensor was made again."""
    row, block, where = _place(produced, registry, name, mismatch)
    count = "1 byte differs" if mismatch.nbytes == 1 else f"{mismatch.nbytes:,} bytes differ"
    return Finding(
        what=f"its data {what}: {count}, the first at byte {mismatch.offset:,} ({where})",
        tensor=name,
        file=produced.extent(name).path,
        offset=mismatch.offset,
        row=row,
        block=block,
    )


def change(
    produced: Produced,
    registry: Registry,
    origin: Origin,
    name: str,
    digest: str,
    mismatch: Mismatch | None,
) -> Finding:
    """A tensor of the source that isn't what the file was made from."""
    source = origin.resolution.model.sources[name]
    extent = source.extents[0] if source.extents else None
    what = f"isn't what the file was made from (XXH3-128 {digest}, recorded {produced.sources[name]})"
    row = block = None
    if mismatch is not None:
        row, block, where = _place(produced, registry, name, mismatch)
        what += f"; it shows in the result from {where} on"
    elif any(a.tensor.name == name for a in origin.assignments):
        what += "; it gives the same bytes, so the difference is too small to show"
    if extent is None:
        return Finding(what=what, tensor=name, row=row, block=block)
    what += f"; its content begins at byte {extent.offset:,}"
    return Finding(what=what, tensor=name, file=extent.path, offset=extent.offset, row=row, block=block)


def _place(produced: Produced, registry: Registry, name: str, mismatch: Mismatch) -> tuple[int, int, str]:
    """The row, counted over all experts, the block in it, and both as text."""
    extent = produced.extent(name)
    tensor = produced.tensor(name)
    spec = registry.formats[tensor.dtype].spec
    row, rest = divmod(mismatch.offset - extent.offset, spec.row_bytes(tensor.cols))
    block = max(0, rest - spec.row_meta_bytes) // spec.block_bytes
    return row, block, f"{_row_text(tensor, row)}, block {block}"


def _row_text(tensor: TensorInfo, row: int) -> str:
    where = f"row {row % tensor.rows}"
    return f"expert {row // tensor.rows}, {where}" if tensor.experts > 1 else where
