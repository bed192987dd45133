"""Which file each tensor goes to, and where in it its data lies: every offset is known before a byte is read.

    header, padded | tensor | padding | tensor | padding …

Each tensor starts at a multiple of the alignment. A model may be split into shards, named and marked as
llama.cpp's gguf-split does it: the first has the metadata, each says which of how many it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from quantrecipe.errors import PlanError
from quantrecipe.gguf.header import ALIGNMENT_KEY, TensorEntry
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import header_size, padded
from quantrecipe.plan.header_hashes import HEADER_HASHES, with_room
from quantrecipe.plan.plan import Assignment, PlannedFile

__all__ = ["SplitLimits", "entries", "lay_out"]

_MARKS = ("split.no", "split.tensors.count", "split.count")  # the order of llama.cpp's gguf-split
_MARKS_WHEN_KEPT = (
    "split.no",
    "split.count",
    "split.tensors.count",
)  # the order of llama-quantize --keep-split


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitLimits:
    """Limits that say when to begin another shard.

    max_bytes:   no file is larger, header included
    max_tensors: no file has more
    shards:      the shard of each tensor by its name, as the source has them
    """

    max_bytes: int | None = None
    max_tensors: int | None = None
    shards: Mapping[str, int] | None = None


def lay_out(
    assignments: Sequence[Assignment],
    metadata: Mapping[str, GGUFValue],
    alignment: int,
    limits: SplitLimits | None,
) -> tuple[PlannedFile, ...]:
    """The files, and in each of them the tensors at their final offsets."""
    if limits is None:
        return (_file(assignments, metadata, alignment),)
    total = len(assignments)
    keys = _MARKS_WHEN_KEPT if limits.shards is not None else _MARKS
    shared = {key: metadata[key] for key in (ALIGNMENT_KEY, HEADER_HASHES) if key in metadata}
    heads = (metadata, shared)  # as gguf-split does it: the model's metadata stand in the first shard alone
    # Marks of shard 0 of 0 have the size of any others: how many there are isn't known before they are filled.
    groups = list(
        _groups(assignments, [{**head, **_marks(0, 0, total, keys)} for head in heads], alignment, limits)
    )
    return tuple(
        _file(group, {**heads[min(number, 1)], **_marks(number, len(groups), total, keys)}, alignment)
        for number, group in enumerate(groups)
    )


def entries(assignments: Sequence[Assignment], *, header: int) -> list[TensorEntry]:
    """The tensors as the header lists them; `header` is what their offsets count from."""
    return [
        TensorEntry(
            name=a.tensor.name,
            shape=a.tensor.shape,
            ggml_type=a.format.spec.ggml_type,
            offset=a.offset - header,
        )
        for a in assignments
    ]


def _file(
    assignments: Sequence[Assignment], metadata: Mapping[str, GGUFValue], alignment: int
) -> PlannedFile:
    metadata = with_room(metadata, len(assignments))
    header = header_size(metadata, entries(assignments, header=0), alignment)
    placed, end = [], header
    for a in assignments:
        placed.append(replace(a, offset=end))
        end += padded(a.nbytes, alignment)
    return PlannedFile(metadata=metadata, assignments=tuple(placed), header=header, nbytes=end)


def _groups(
    assignments: Sequence[Assignment],
    metadata: Sequence[Mapping[str, GGUFValue]],
    alignment: int,
    limits: SplitLimits,
) -> Iterator[Sequence[Assignment]]:
    """The tensors of each shard. `metadata` of the first, and of the others."""
    if limits.shards is not None:
        for number in sorted(set(limits.shards.values())):
            yield [a for a in assignments if limits.shards[a.owner or a.tensor.name] == number]
        return
    max_tensors = limits.max_tensors or len(assignments)
    size = _Size(metadata[0], alignment)
    group: list[Assignment] = []
    for a in assignments:
        if group and (len(group) == max_tensors or size.too_large(a, limits.max_bytes)):
            yield group
            group, size = [], _Size(metadata[1], alignment)
        if not group and size.too_large(a, limits.max_bytes):
            raise PlanError(
                f"a file with {a.tensor.name} alone has {size.with_(a):,} bytes, "
                f"more than the {limits.max_bytes:,} that --split-max-size allows",
                f"allow at least {-(-size.with_(a) // 1_000_000)}M",
            )
        group.append(a)
        size.add(a)
    yield group


class _Size:
    """The size of a file while tensors are added to it."""

    def __init__(self, metadata: Mapping[str, GGUFValue], alignment: int) -> None:
        self._alignment = alignment
        self._header = header_size(with_room(metadata, 0), [], 1)
        self._hash = header_size(with_room(metadata, 1), [], 1) - self._header
        self._data = 0

    def add(self, a: Assignment) -> None:
        self._header += _entry_size(a) + self._hash
        self._data += padded(a.nbytes, self._alignment)

    def with_(self, a: Assignment) -> int:
        """Bytes that the file would have if this tensor were added."""
        header = padded(self._header + _entry_size(a) + self._hash, self._alignment)
        return header + self._data + padded(a.nbytes, self._alignment)

    def too_large(self, a: Assignment, limit: int | None) -> bool:
        return limit is not None and self.with_(a) > limit


def _entry_size(a: Assignment) -> int:
    """Bytes that the header spends on a tensor."""
    return header_size({}, entries([a], header=0), 1) - header_size({}, [], 1)


def _marks(number: int, count: int, tensors: int, keys: Sequence[str]) -> dict[str, GGUFValue]:
    """The pairs that say which shard a file is, in the types that llama.cpp's gguf-split gives them."""
    marks = {
        "split.no": GGUFValue.of(ValueType.UINT16, number),
        "split.count": GGUFValue.of(ValueType.UINT16, count),
        "split.tensors.count": GGUFValue.of(ValueType.INT32, tensors),
    }
    return {key: marks[key] for key in keys}
