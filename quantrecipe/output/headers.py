"""write_headers: the headers of a plan's files, with the hashes that are known once all tensors are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quantrecipe.errors import OutputError
from quantrecipe.gguf.values import GGUFValue
from quantrecipe.gguf.write_header import encode_header
from quantrecipe.output.partfile import PartFile
from quantrecipe.plan.header_hashes import with_header_hashes
from quantrecipe.plan.layout import entries
from quantrecipe.plan.metadata import (
    DATA_HASHES,
    REMARKED,
    SOURCE_HASHES,
    hashes_value,
    remarked_value,
)
from quantrecipe.plan.plan import Plan, PlannedFile

__all__ = ["encoded_headers", "write_headers"]


def write_headers(
    plan: Plan,
    parts: Sequence[PartFile],
    sources: Mapping[str, str],
    written: Mapping[str, str],
    remarked: Mapping[str, int],
) -> None:
    """Write the headers; arguments as of `encoded_headers`."""
    headers = encoded_headers(plan, sources, written, remarked)
    for header, file, part in zip(headers, plan.files, parts, strict=True):
        part.write(memoryview(header), 0)
        if part.left:  # what lies between tensors has no hash in the journal
            _write_gaps(file, part)


def encoded_headers(
    plan: Plan, sources: Mapping[str, str], written: Mapping[str, str], remarked: Mapping[str, int]
) -> list[bytes]:
    """The headers of a plan's files. A companion's source is that of its owner.

    sources, written: XXH3-128, in hex, of what each tensor was made from, and of its data
    remarked: on how many matrices of a tensor its encoder made remarks
    """
    known = {
        SOURCE_HASHES: hashes_value([sources[a.owner or a.tensor.name] for a in plan.assignments]),
        DATA_HASHES: hashes_value([written[a.tensor.name] for a in plan.assignments]),
        REMARKED: remarked_value([remarked.get(a.tensor.name, 0) for a in plan.assignments]),
    }
    return [_header(plan, file, known) for file in plan.files]


def _write_gaps(file: PlannedFile, part: PartFile) -> None:
    ends = [a.offset + a.nbytes for a in file.assignments]
    for end, begin in zip(ends, [*(a.offset for a in file.assignments[1:]), file.nbytes], strict=True):
        if begin > end:
            part.write(memoryview(bytes(begin - end)), end)


def _header(plan: Plan, file: PlannedFile, known: Mapping[str, GGUFValue]) -> bytes:
    tensors = entries(file.assignments, header=file.header)
    metadata = with_header_hashes(
        {key: known.get(key, value) for key, value in file.metadata.items()}, tensors
    )
    header = encode_header(metadata, tensors, plan.alignment)
    if len(header) != file.header:
        raise OutputError(f"the header came out at {len(header)} bytes, and the plan said {file.header}")
    return header
