"""The GGUF layout of importance matrices.

    general.type = "imatrix"   imatrix.datasets   imatrix.chunk_count   imatrix.chunk_size
    NAME.in_sum2  float32 (matrices, columns): sums of the squares of the inputs
    NAME.counts   float32 (matrices, 1): over how many tokens; one count where all matrices saw the same ones
    quantrecipe.imatrix.…  where it comes from, which quantrecipe writes: see `provenance`

Source: llama.cpp, tools/imatrix/imatrix.cpp and common/imatrix-loader.cpp.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from quantrecipe.errors import ImportanceError, ModelError, Problem
from quantrecipe.gguf.header import GGUFHeader, TensorEntry, read_header
from quantrecipe.importance.matrix import read_floats
from quantrecipe.importance.provenance import KEYS, PREFIX, CalibrationText, Provenance
from quantrecipe.importance.raw import RawEntry, RawImportance
from quantrecipe.typed import Natural, NotNegative, Record, typed

__all__ = ["COUNTS", "SUMS", "parse_gguf"]

SUMS, COUNTS = ".in_sum2", ".counts"
"""What the names of tensors end with."""

_F32 = 0  # ggml: GGML_TYPE_F32
_MAX_COUNT = 2.0**62  # tokens: rounded, it still fits the 64-bit numbers that the digest is made of


class _Stored(Record):
    """What the keys hold, each under its name with underscores."""

    version: str = ""
    engine: str = ""
    model_fingerprint: str = ""
    model_xxh3_128: str = ""
    text_names: tuple[str, ...] = ()
    text_xxh3_128: tuple[str, ...] = ()
    text_tokens: tuple[Natural, ...] = ()
    text_weights: tuple[NotNegative, ...] = ()
    template_xxh3_128: str = ""
    contexts: tuple[Natural, ...] = ()
    seed: Natural | None = None
    skip: Natural | None = None
    chunks: Natural | None = None
    all_experts: bool | None = None


def parse_gguf(path: Path) -> RawImportance:
    """The entries of a GGUF file. ImportanceError where it isn't an importance matrix, or is damaged."""
    try:
        header = read_header(path)
    except ModelError as error:
        raise ImportanceError(
            Problem(what=p.what, remedy=p.remedy, file=path) for p in error.problems
        ) from error
    tensors = {tensor.name: tensor for tensor in header.tensors}
    names = {name.removesuffix(SUMS) for name in tensors if name.endswith(SUMS)}
    names |= {name.removesuffix(COUNTS) for name in tensors if name.endswith(COUNTS)}
    if not names:
        raise _not_one(header)
    rooms = header.rooms()
    # Sorted as the file's writer sorts them; tensors with other endings are measurements of later versions.
    entries = [_entry(header, rooms, tensors, name) for name in sorted(names)]
    datasets = _metadata(header, "imatrix.datasets", [])
    return RawImportance(
        layout="gguf",
        entries=tuple(entries),
        datasets=tuple(str(name) for name in datasets) if isinstance(datasets, list) else (),
        chunks=_number(header, "imatrix.chunk_count"),
        chunk_size=_number(header, "imatrix.chunk_size"),
        others=tuple(name for name in tensors if not name.endswith((SUMS, COUNTS))),
        provenance=_provenance(header),
    )


def _entry(header: GGUFHeader, rooms: dict[str, int], tensors: dict[str, TensorEntry], name: str) -> RawEntry:
    for suffix, other in ((SUMS, COUNTS), (COUNTS, SUMS)):
        if name + suffix not in tensors:
            raise ImportanceError(
                f"has {name}{other} but no {name}{suffix}", "make it again", file=header.path
            )
    sums_at, size = _floats(header, rooms, tensors[name + SUMS])
    counts_at, n_counts = _floats(header, rooms, tensors[name + COUNTS])
    if size % n_counts:
        raise ImportanceError(
            f"{name} has {size:,} sums for {n_counts:,} counts, which don't divide",
            "make it again",
            file=header.path,
        )
    counts = read_floats(header.path, counts_at, n_counts)
    if not (np.isfinite(counts) & (counts >= 0) & (counts < _MAX_COUNT)).all():
        raise ImportanceError(
            f"{name} has counts that are negative or no numbers", "make it again", file=header.path
        )
    rounded = tuple(math.floor(float(count) + 0.5) for count in counts)
    return RawEntry(name=name, size=size, counts=rounded, offset=sums_at)


def _floats(header: GGUFHeader, rooms: dict[str, int], tensor: TensorEntry) -> tuple[int, int]:
    """Offset in the file, and number, of a tensor's float32 values."""
    size = math.prod(tensor.shape)
    if tensor.ggml_type != _F32:
        raise ImportanceError(
            f"{tensor.name} is not F32 (type id {tensor.ggml_type})", "make it again", file=header.path
        )
    if not 0 < 4 * size <= rooms[tensor.name]:
        room = max(0, rooms[tensor.name]) // 4
        raise ImportanceError(
            f"{tensor.name} claims {size:,} values, and the file has room for {room:,}",
            "it was cut short or damaged; copy or make it again",
            file=header.path,
        )
    return header.data_start + tensor.offset, size


def _not_one(header: GGUFHeader) -> ImportanceError:
    kind = _metadata(header, "general.type", "")
    arch = _metadata(header, "general.architecture", "")
    what = "is a model" if arch or kind == "model" else f"is a GGUF file of type {kind!r}"
    return ImportanceError(
        f"{what}, not an importance matrix (expected: tensors named *{SUMS} and *{COUNTS})",
        "make one from the model with llama-imatrix",
        file=header.path,
    )


def _provenance(header: GGUFHeader) -> Provenance | None:
    """What quantrecipe wrote of where the matrix comes from; None where there is nothing of it.

    Keys of later versions are left alone. ImportanceError for a key of another type, and for lists of texts that
    aren't equally long.
    """
    document = {
        key.replace(".", "_"): value.decode()
        for key in KEYS
        if (value := header.metadata.get(PREFIX + key)) is not None
    }
    if not document:
        return None
    try:
        stored = typed(document, _Stored)
        texts = _texts_of(stored)
    except ValueError as error:
        raise ImportanceError(
            f"has a damaged provenance ({PREFIX}…): {error}",
            "make the matrix again",
            file=header.path,
        ) from error
    return Provenance(
        texts=texts,
        template=stored.template_xxh3_128,
        contexts=stored.contexts,
        fingerprint=stored.model_fingerprint,
        model=stored.model_xxh3_128,
        version=stored.version,
        engine=stored.engine,
        seed=stored.seed,
        skip=stored.skip,
        chunks=stored.chunks,
        all_experts=stored.all_experts,
    )


def _texts_of(stored: _Stored) -> tuple[CalibrationText, ...]:
    """The texts, whose facts stand in lists side by side. ValueError where these aren't equally long."""
    names, digests, tokens, weights = (
        stored.text_names,
        stored.text_xxh3_128,
        stored.text_tokens,
        stored.text_weights,
    )
    if len({len(names), len(digests), len(tokens), len(weights)}) > 1:
        raise ValueError(
            f"text: {len(names)} names, {len(digests)} digests, {len(tokens)} numbers of tokens, {len(weights)} weights"
        )
    return tuple(
        CalibrationText(name=name, digest=digest, tokens=count, weight=weight)
        for name, digest, count, weight in zip(names, digests, tokens, weights, strict=True)
    )


def _number(header: GGUFHeader, key: str) -> int:
    value = _metadata(header, key, 0)
    return int(value) if isinstance(value, int) and value > 0 else 0


def _metadata(header: GGUFHeader, key: str, default: Any) -> Any:
    value = header.metadata.get(key)
    return default if value is None else value.decode()
