"""Importance, and how it fits a tensor.

Importance is the mean square of each input of a matrix, over the tokens of a calibration text. A tensor of
stacked matrices has one vector for each: experts see different tokens.

The values stay in the file until a tensor asks for its own: for a large mixture of experts they are over a
gigabyte. The file was read and checked as a whole by then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
import xxhash

from quantrecipe.errors import ImportanceError
from quantrecipe.importance.provenance import Provenance
from quantrecipe.importance.stand_ins import SHARED, stand_ins
from quantrecipe.tensor import TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]

__all__ = ["Fit", "Importance", "ImportanceEntry", "Layout", "digest_of", "read_floats"]

Layout = Literal["gguf", "dat"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportanceEntry:
    """What the file says about one tensor.

    size:   number of values: columns times matrices
    counts: gguf: how many tokens each matrix saw, or all of them together where there is one count;
            dat: how many times the tensor was used
    path, offset: where the values lie, float32 little-endian, before they are divided by the counts
    digest: XXH3-128 of counts and values
    """

    name: str
    size: int
    counts: tuple[int, ...]
    layout: Layout
    path: Path
    offset: int
    digest: str

    @property
    def sums(self) -> FloatArray:
        """float32 (counts, size / counts): what the file holds, not yet divided. Read from it each time."""
        return read_floats(self.path, self.offset, self.size).reshape(len(self.counts), -1)

    @property
    def values(self) -> FloatArray:
        """float32 (counts, size / counts): means of squares, as llama-quantize has them; 1 where unseen.

        Read from the file each time.
        """
        sums = self.sums
        for number, count in enumerate(self.counts):
            if count > 0:
                sums[number] /= np.float32(count)
            elif self.layout == "gguf":
                sums[number] = 1
        return sums


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """How a matrix fits a tensor.

    covered         each of the tensor's matrices has a vector
    unseen experts  so it has, but calibration never reached those in `unseen`: their inputs all count as 1
    missing         the importance matrix has nothing of this name
    misfit          it has `found` values where the tensor needs `expected`

    entry:  name of the entry that is used: the tensor's own, or one that sees the same inputs; "" if none fits
    others: names of entries that see the same inputs, too, and don't say the same
    """

    status: Literal["covered", "missing", "misfit", "unseen experts"]
    expected: int
    found: int = 0
    unseen: tuple[int, ...] = ()
    entry: str = ""
    others: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """True if there is importance that the tensor can be quantized with."""
        return self.status in ("covered", "unseen experts")


@dataclass(frozen=True, kw_only=True, slots=True)
class Importance:
    """An importance matrix.

    path:       the file
    layout:     "gguf", or "dat" for the older files without a magic number
    entries:    by the tensor's GGUF name
    datasets:   names of the calibration texts
    chunks:     how many chunks of text it was measured on, 0 where the file doesn't say
    chunk_size: tokens in a chunk, 0 where the file doesn't say
    others:     names of tensors in the file that are no sums and no counts; they are left alone
    digest:     XXH3-128 of all names, counts and values; the same for any order of the entries
    include, exclude: texts that names had to contain, or not to, to be among the entries: see `only`
    numbers:    the layer that each had before layers were pruned, by the one that it has: see `renumbered`
    provenance: where it comes from; None where the file doesn't say, as llama-imatrix's and .dat files don't
    """

    path: Path
    layout: Layout
    entries: Mapping[str, ImportanceEntry]
    datasets: tuple[str, ...] = ()
    chunks: int = 0
    chunk_size: int = 0
    others: tuple[str, ...] = ()
    digest: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    numbers: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    provenance: Provenance | None = None

    @property
    def label(self) -> str:
        """What an output file calls it: the file's name, without the folders of whoever made it."""
        return self.path.name

    @property
    def fingerprint(self) -> str:
        """Of the model that it was made from, as the file states it (model/fingerprint); "" where it doesn't."""
        return self.provenance.fingerprint if self.provenance is not None else ""

    def only(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Importance:
        """The entries whose name contains a text of `include` (all, where it is empty) and none of `exclude`.

        So do llama-quantize's --include-weights and --exclude-weights, which it takes one at a time.
        """
        kept = {name: entry for name, entry in self.entries.items() if _chosen(name, include, exclude)}
        return replace(self._with(kept), include=tuple(include), exclude=tuple(exclude))

    def renumbered(self, layers: Mapping[int, int]) -> Importance:
        """The entries under the numbers that their layers get: old → new. Other layers' entries are left out.

        For pruned models: a layer's importance follows it. What lies outside the layers stays. ValueError where
        two layers would get one number.
        """
        if len(set(layers.values())) != len(layers):
            raise ValueError(f"two layers get the same number: {dict(layers)}")
        kept: dict[str, ImportanceEntry] = {}
        for name, entry in self.entries.items():
            match = _LAYER.search(name)
            if match is None:
                kept[name] = entry
            elif (new := layers.get(int(match[1]))) is not None:
                renamed = f"{name[: match.start(1)]}{new}{name[match.end(1) :]}"
                kept[renamed] = replace(entry, name=renamed)
        numbers = MappingProxyType({new: old for old, new in layers.items()})
        return replace(self._with(kept), numbers=numbers)

    def _with(self, entries: dict[str, ImportanceEntry]) -> Importance:
        return replace(self, entries=MappingProxyType(entries), digest=digest_of(self.layout, entries))

    def entry(self, tensor: TensorInfo) -> ImportanceEntry | None:
        """What is known of the tensor's inputs: its own entry, whatever its size, or one that stands in and fits."""
        return next(iter(self.entries_of(tensor)), None)

    def entries_of(self, tensor: TensorInfo) -> list[ImportanceEntry]:
        """The tensor's own entry, whatever its size; else those that see the same inputs and fit, the one that saw most
        tokens first.

        None stands in where the recipe lets nothing count under the tensor's own name.
        """
        if (own := self.entries.get(tensor.name)) is not None:
            return [own]
        names = stand_ins(tensor)
        if not any(name in self.entries for name in names):
            return []
        old = self.numbers.get(tensor.layer, tensor.layer) if tensor.layer is not None else None
        if not _chosen(f"blk.{old}.{tensor.role}.weight", self.include, self.exclude):
            return []
        found = [self.entries[name] for name in names if name in self.entries]
        return sorted(
            (entry for entry in found if _fits(entry, tensor)), key=lambda entry: -sum(entry.counts)
        )

    def fit(self, tensor: TensorInfo) -> Fit:
        """How the entry of this name, or one that stands in for it, fits the tensor."""
        expected = tensor.cols * tensor.experts
        found = self.entries_of(tensor)
        if not found:
            return Fit(status="missing", expected=expected)
        entry, *others = found
        if not _fits(entry, tensor):
            return Fit(status="misfit", expected=expected, found=entry.size)
        unseen = _unseen(entry, tensor)
        return Fit(
            status="unseen experts" if unseen else "covered",
            expected=expected,
            found=entry.size,
            unseen=unseen,
            entry=entry.name,
            others=tuple(other.name for other in others if not _alike(entry, other)),
        )

    def covers(self, tensor: TensorInfo) -> bool:
        """True if there is importance of the right size for this tensor."""
        entry = self.entry(tensor)
        return entry is not None and _fits(entry, tensor)

    def for_tensor(self, tensor: TensorInfo) -> FloatArray | None:
        """float32 (experts, cols), one vector for each matrix of the tensor, or None.

        None also for a token embedding of another size, as in llama-quantize; any other tensor of another
        size is an ImportanceError.
        """
        entry = self.entry(tensor)
        if entry is None:
            return None
        if _fits(entry, tensor):
            return _vectors(entry, tensor)
        if tensor.role in _EMBEDDINGS:
            return None
        raise ImportanceError(
            f"{tensor.name} has {entry.size:,} values of importance (expected: {tensor.cols:,} columns times "
            f"{tensor.experts:,} matrices)",
            "use the importance matrix that was made from this model",
            file=self.path,
        )


_EMBEDDINGS = ("token_embd", "per_layer_token_embd")
"""Looked up, not multiplied: what importance matrices say of them doesn't fit (so in llama-quant.cpp)."""


_LAYER = re.compile(r"blk\.([0-9]{1,9})\.")
"""Where llama-quantize finds the layer's number, anywhere in the name (llama-quant.cpp: remap_imatrix)."""


def digest_of(layout: Layout, entries: Mapping[str, ImportanceEntry]) -> str:
    """XXH3-128 of what entries say under which names, in whatever order."""
    digest = xxhash.xxh3_128(layout.encode())
    for name in sorted(entries):
        digest.update(f"\0{name}\0{entries[name].digest}".encode())
    return digest.hexdigest()


def read_floats(path: Path, offset: int, count: int) -> FloatArray:
    """float32 (count,), writable. ImportanceError where the file has become shorter."""
    floats = np.empty(count, "<f4")
    try:
        with path.open("rb") as file:
            file.seek(offset)
            got = file.readinto(floats.data.cast("B"))
    except OSError as error:
        raise ImportanceError(f"can't be read: {error.strerror or error}", file=path) from error
    if got != floats.nbytes:
        raise ImportanceError(
            "has become shorter while it was read", "is something writing to it?", file=path
        )
    return floats.astype(np.float32, copy=False)


def _fits(entry: ImportanceEntry, tensor: TensorInfo) -> bool:
    shared = tensor.role in SHARED and entry.name != tensor.name
    return entry.size == tensor.cols * (1 if shared else tensor.experts)


def _vectors(entry: ImportanceEntry, tensor: TensorInfo) -> FloatArray:
    """float32 (experts, cols) of an entry that fits: one vector for each matrix of the tensor, or the same for all."""
    vectors = entry.values.reshape(-1, tensor.cols)
    return vectors if len(vectors) == tensor.experts else np.repeat(vectors, tensor.experts, axis=0)


def _chosen(name: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Does the name contain a text of `include` (any name does, where it is empty) and none of `exclude`?"""
    return (not include or any(text in name for text in include)) and not any(
        text in name for text in exclude
    )


_ALIKE = 1e-3
"""Means that differ by no more than this part of them are the same: a .dat file rounds twice."""


def _alike(entry: ImportanceEntry, other: ImportanceEntry) -> bool:
    """Do both say the same of the same inputs, but for rounding? The files are read only if their digests differ."""
    if entry.digest == other.digest:
        return True
    ours, theirs = entry.values.ravel(), other.values.ravel()
    return bool(np.allclose(ours, theirs, rtol=_ALIKE, atol=0))


def _unseen(entry: ImportanceEntry, tensor: TensorInfo) -> tuple[int, ...]:
    """Matrices that calibration never reached. A .dat file marks them by ones alone."""
    if entry.layout == "dat":
        ones = (_vectors(entry, tensor) == 1).all(axis=1)
        return tuple(int(number) for number in np.flatnonzero(ones)) if tensor.experts > 1 else ()
    zero = [number for number, count in enumerate(entry.counts) if count <= 0]
    if len(entry.counts) == tensor.experts:
        return tuple(zero)
    return tuple(range(tensor.experts)) if zero else ()
