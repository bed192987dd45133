"""What is said of a tensor that differs: in which bytes, and in which row and block of it they are."""

from __future__ import annotations

from quantrecipe.output.verify.produced import Produced
from quantrecipe.output.verify.remake import Mismatch
from quantrecipe.output.verify.source import Origin
from quantrecipe.output.verify.verification import Finding
from quantrecipe.registry import Registry

__all__ = ["change", "damage", "difference"]


def damage(
    produced: Produced, registry: Registry, name: str, digest: str, mismatch: Mismatch | None
) -> Finding:
    """Data whose digest isn't the recorded one. `mismatch`: where it differs, if the tensor could be made again."""
    if mismatch is not None:
        return difference(produced, registry, name, mismatch, "isn't what was written")
    extent = produced.extent(name)
    what = (
        f"its data, bytes {extent.offset:,} to {extent.offset + extent.nbytes - 1:,}, isn't what was written"
        f" (XXH3-128 {digest}, recorded {produced.data[name]})"
    )
    return Finding(what=what, tensor=name, file=extent.path, offset=extent.offset)


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
    source = origin.model.sources[name]
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
    """Row over all experts, block, and both in words."""
    extent = produced.extent(name)
    tensor = next(t for t in produced.model.tensors if t.name == name)
    spec = registry.formats[tensor.dtype].spec
    row, rest = divmod(mismatch.offset - extent.offset, spec.row_bytes(tensor.cols))
    block = max(0, rest - spec.row_meta_bytes) // spec.block_bytes
    where = f"row {row % tensor.rows}, block {block}"
    return row, block, f"expert {row // tensor.rows}, {where}" if tensor.experts > 1 else where
