"""read_importance: an importance matrix from a file of either layout, checked as a whole."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import numpy as np
import xxhash

from quantrecipe.errors import ImportanceError, Problem, abridged
from quantrecipe.gguf.header import MAGIC
from quantrecipe.importance.from_dat import parse_dat
from quantrecipe.importance.from_gguf import parse_gguf
from quantrecipe.importance.matrix import Importance, ImportanceEntry, digest_of, read_floats
from quantrecipe.importance.raw import RawEntry, RawImportance
from quantrecipe.misplaced import is_gguf_inside, misplaced

__all__ = ["read_importance"]

_PIECE = 1 << 20
"""Values that are checked at a time: 4 MiB."""


def read_importance(path: str | Path) -> Importance:
    """The importance matrix in a GGUF or legacy .dat file; the layout is told from the content.

    ImportanceError where the file can't be read, isn't an importance matrix, or holds what no calibration
    gives: NaN, Inf, negative values, a tensor twice.
    """
    path = Path(path)
    if not is_gguf_inside(path) and (wrong := misplaced(path, "importance matrix")):
        raise ImportanceError(*wrong, file=path)
    raw = parse_gguf(path) if _magic(path) == MAGIC else parse_dat(path)
    entries: dict[str, ImportanceEntry] = {}
    problems: list[Problem] = []
    for entry in raw.entries:
        if entry.name in entries:
            problems.append(Problem(what=f"{entry.name} is there twice", remedy="make it again", file=path))
            continue
        digest, problem = _check(path, raw, entry)
        if problem is not None:
            problems.append(problem)
        entries[entry.name] = ImportanceEntry(
            name=entry.name,
            size=entry.size,
            counts=entry.counts,
            layout=raw.layout,
            path=path,
            offset=entry.offset,
            digest=digest,
        )
    if problems:
        raise ImportanceError(abridged(problems))
    return Importance(
        path=path,
        layout=raw.layout,
        entries=MappingProxyType(entries),
        datasets=raw.datasets,
        chunks=raw.chunks,
        chunk_size=raw.chunk_size,
        others=raw.others,
        digest=digest_of(raw.layout, entries),
        provenance=raw.provenance,
    )


def _magic(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC))
    except OSError as error:
        raise ImportanceError(
            f"can't be read: {error.strerror or error}",
            "give an importance matrix that llama-imatrix made",
            file=path,
        ) from error


def _check(path: Path, raw: RawImportance, entry: RawEntry) -> tuple[str, Problem | None]:
    """The digest of an entry, and what is wrong with its values, in pieces of bounded size."""
    digest = xxhash.xxh3_128(np.asarray([len(entry.counts), *entry.counts], "<i8").tobytes())
    problem = None
    for start in range(0, entry.size, _PIECE):
        piece = read_floats(path, entry.offset + 4 * start, min(_PIECE, entry.size - start))
        digest.update(piece.astype("<f4", copy=False).data)
        good = np.isfinite(piece) & (piece >= 0)
        if problem is None and not good.all():
            bad = int(np.argmin(good))
            problem = Problem(
                what=f"{entry.name} has the value {piece[bad]} at position {start + bad} (a sum of squares)",
                remedy="the calibration run went wrong there; make the importance matrix again",
                file=path,
            )
    return digest.hexdigest(), problem
