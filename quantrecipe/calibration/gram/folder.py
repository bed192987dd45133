"""A folder of Gram matrices: a file for each input, and an index that says what they are of.

    FOLDER/DIGEST/index.json           see `GramIndex`; written anew after each file, so that a stopped run goes on
    FOLDER/DIGEST/blk.0.attn_q.weight.npy
                                       NumPy's .npy: float32 (matrices, columns (columns + 1) / 2), means of x xᵀ

A matrix is symmetric, so its upper triangle is there, row by row, each from the diagonal on. That is half of the disk,
which is what there is least of: for a dense model of 8 billion weights 16 GiB and not 33. To unfold one takes a
hundredth of the time of the factorisation that it is for.

DIGEST is of all that decides the content, so that other texts or another model are in another folder beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import xxhash

from quantrecipe.errors import ImportanceError, OutputError
from quantrecipe.importance.provenance import Provenance
from quantrecipe.plain_data import plain
from quantrecipe.typed import Natural, NotNegative, Positive, Record, json_object, typed
from quantrecipe.whole_file import whole_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GramEntry", "GramIndex", "Grams", "read_gram", "write_array", "write_index"]

_INDEX = "index.json"
_VERSION = 1
_PLAIN = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)
"""Names of tensors, as llama.cpp has them: nothing that leads out of the folder."""
_PIECE = 1 << 22  # bytes that are written at a time
_BLOCK = 256  # columns
_MOST_READ = 1 << 28  # bytes of an index
_AGAIN = "remove the folder, and compute it again"


@dataclass(frozen=True, kw_only=True, slots=True)
class GramEntry:
    """The Gram matrices of one input, as they are in a file.

    name:     of the file, and of the weight that llama.cpp multiplies the input with at first
    weights:  all that it is multiplied with
    matrices: one; or one for each head of a stack of matrices, or for each expert
    tokens:   how many each is the mean of: one number, or one for each expert
    weighed:  the sums of what these tokens count, by the weights of their domains
    digest:   XXH3-128 of the numbers in the file
    """

    name: str
    weights: tuple[str, ...]
    columns: Positive
    matrices: Positive
    tokens: tuple[Natural, ...]
    weighed: tuple[NotNegative, ...]
    digest: str

    @property
    def rank_at_most(self) -> int:
        """Of the matrix that has fewest tokens: no more than these, and no more than it has columns."""
        return min(self.columns, *self.tokens)

    @property
    def singular(self) -> int:
        """Matrices that have fewer tokens than columns, so that they have no inverse without damping."""
        few = sum(tokens < self.columns for tokens in self.tokens)
        return few if len(self.tokens) > 1 else few * self.matrices

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers in its file."""
        return 4 * self.matrices * _triangle(self.columns)


@dataclass(frozen=True, kw_only=True, slots=True)
class GramIndex:
    """What a folder says of itself.

    digest:     of all that decides the content; the folder's name
    experts:    "shared": one matrix for all experts of a tensor; "each": one for each
    provenance: the model, the texts and how they were run
    inputs:     those that are finished
    of:         how many there are to be
    behind:     what the model was changed by while its inputs were collected; "" where it wasn't
    """

    digest: str
    experts: str
    provenance: Provenance
    inputs: tuple[GramEntry, ...]
    of: int
    behind: str = ""

    @property
    def complete(self) -> bool:
        """Whether all inputs are there."""
        return len(self.inputs) == self.of

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """What is in a folder; None where there is no index. ImportanceError for one that is damaged."""
        path = folder / _INDEX
        try:
            if path.stat().st_size > _MOST_READ:
                raise ValueError(f"has more than {_MOST_READ:,} bytes")
            said = json_object(path.read_bytes())
            check = said.pop("check", None)  # earlier versions wrote none
            if check is not None and check != _check_of(said):
                raise ValueError("it isn't as it was written: its checksum is another one")
            found = typed(said, _Index)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ImportanceError(f"can't be read ({error.strerror or error})", file=path) from error
        except ValueError as error:
            raise ImportanceError(f"is no index of Gram matrices: {error}", _AGAIN, file=path) from error
        if found.version != _VERSION:
            what = f"is of version {found.version}, and this quantrecipe reads version {_VERSION}"
            raise ImportanceError(what, "use the quantrecipe that wrote it, or compute it again", file=path)
        index = cls(
            digest=found.digest,
            experts=found.experts,
            provenance=found.provenance,
            inputs=found.inputs,
            of=found.of,
            behind=found.behind,
        )
        _check(index, path)
        return index

    def with_input(self, entry: GramEntry, order: Sequence[str]) -> GramIndex:
        """The same with one more that is finished. order: names of all inputs, since any may be finished first"""
        inputs = sorted((*self.inputs, entry), key=lambda it: order.index(it.name))
        return replace(self, inputs=tuple(inputs))


@dataclass(frozen=True, kw_only=True)
class Grams(Mapping[str, "NDArray[np.float32]"]):
    """The Gram matrices of a folder, by the name of each weight. Each is read when it is asked for.

    grams[weight]: float32 (columns, columns); (matrices, columns, columns) of a stack, or by expert. ImportanceError
    where its file is damaged.
    """

    folder: Path
    index: GramIndex

    def __getitem__(self, weight: str) -> NDArray[np.float32]:
        entry = self.entry(weight)
        found = [self.matrix(weight, number) for number in range(entry.matrices)]
        return found[0] if entry.matrices == 1 else np.stack(found)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, weight: str) -> GramEntry:
        """What is known of the input of a weight. KeyError where there is none."""
        return self._entries[weight]

    def matrix(self, weight: str, number: int = 0) -> NDArray[np.float32]:
        """One matrix, whole: float32 (columns, columns). IndexError where there aren't as many."""
        entry = self.entry(weight)
        if not 0 <= number < entry.matrices:
            raise IndexError(f"{weight} has {entry.matrices} Gram matrices, and no number {number}")
        size = _triangle(entry.columns)
        path = self._open(entry)
        try:
            with path.open("rb") as file:
                file.seek(len(_header(entry.matrices, entry.columns)) + 4 * size * number)
                triangle = np.fromfile(file, "<f4", size)
        except OSError as error:
            raise _not_read(path, error) from error
        if triangle.size != size or not np.isfinite(triangle).all():
            raise ImportanceError("is damaged", _AGAIN, file=self._path(entry))
        return _unfolded(triangle, entry.columns)

    @property
    def digest(self) -> str:
        """Of all that decides the content: model, texts, and how they were run."""
        return self.index.digest

    @property
    def fingerprint(self) -> str:
        """Of the model, as `str(fingerprint(model))` writes it; "" where it isn't known."""
        return self.index.provenance.fingerprint

    def verify(self) -> None:
        """Read all files, and hold them against their digests. ImportanceError names the first that is damaged."""
        for entry in self.index.inputs:
            digest, path = xxhash.xxh3_128(), self._open(entry)
            try:
                with path.open("rb") as file:
                    file.seek(len(_header(entry.matrices, entry.columns)))
                    while data := file.read(_PIECE):
                        digest.update(data)
            except OSError as error:
                raise _not_read(path, error) from error
            if digest.hexdigest() != entry.digest:
                what = "doesn't hold what was written: its digest is another one"
                raise ImportanceError(what, _AGAIN, file=self._path(entry))

    @property
    def _entries(self) -> dict[str, GramEntry]:
        return {weight: entry for entry in self.index.inputs for weight in entry.weights}

    def _path(self, entry: GramEntry) -> Path:
        return self.folder / f"{entry.name}.npy"

    def _open(self, entry: GramEntry) -> Path:
        """The path of a file that has the header and the size that it is to have. ImportanceError otherwise."""
        path, header = self._path(entry), _header(entry.matrices, entry.columns)
        try:
            with path.open("rb") as file:
                begins, size = file.read(len(header)), path.stat().st_size
        except OSError as error:
            raise _not_read(path, error) from error
        expected = len(header) + entry.nbytes
        if size != expected:
            raise ImportanceError(f"has {size:,} bytes (expected: {expected:,})", _AGAIN, file=path)
        if begins != header:
            what = f"isn't float32 ({entry.matrices}, {_triangle(entry.columns):,}), as the index says"
            raise ImportanceError(what, _AGAIN, file=path)
        return path


def read_gram(folder: str | Path) -> Grams:
    """The Gram matrices in a folder: FOLDER/DIGEST, or FOLDER where there is one of them. Sizes are checked.

    ImportanceError where there is none, or more than one, or it isn't complete, or a file is damaged.
    """
    folder = Path(folder)
    index = GramIndex.read(folder)
    if index is None:
        inside = sorted(it.parent for it in folder.glob(f"*/{_INDEX}"))
        if not inside:
            remedy = "`quantrecipe imatrix compute --gram FOLDER` makes one"
            what = f"is no folder of Gram matrices: it has no {_INDEX}"
            raise ImportanceError(what, remedy, file=folder)
        if len(inside) > 1:
            names = ", ".join(it.name for it in inside)
            what = f"has Gram matrices of {len(inside)} models or texts: {names}"
            raise ImportanceError(what, f"name one of them, such as {inside[0]}", file=folder)
        folder = inside[0]
        index = GramIndex.read(folder)
    if index is None or not index.complete:
        done = f"{len(index.inputs)} of {index.of}" if index is not None else "none"
        what = f"isn't complete: {done} of its inputs are finished"
        raise ImportanceError(what, "run the command again that made it: it goes on from there", file=folder)
    grams = Grams(folder=folder, index=index)
    for entry in index.inputs:
        grams._open(entry)
    return grams


def write_array(
    folder: Path, name: str, columns: int, matrices: int, rows: Iterable[NDArray[np.float32]]
) -> str:
    """Write the file of an input, which appears when it is whole: the digest of its numbers. OutputError."""
    path, digest = folder / f"{name}.npy", xxhash.xxh3_128()
    if not _PLAIN.fullmatch(name):
        raise OutputError(f"a tensor can't be called {name!r} where it names a file", file=folder)
    try:
        with whole_file(path) as file:
            file.write(_header(matrices, columns))
            waiting = bytearray()
            for row in rows:
                waiting += row.astype("<f4", copy=False).tobytes()
                if len(waiting) >= _PIECE:
                    digest.update(waiting)
                    file.write(waiting)
                    waiting.clear()
            digest.update(waiting)
            file.write(waiting)
    except OSError as error:
        raise _not_written(path, error) from error
    return digest.hexdigest()


def write_index(folder: Path, index: GramIndex) -> None:
    """Write what is finished by now. OutputError where the disk refuses."""
    document = {
        "version": _VERSION,
        "digest": index.digest,
        "experts": index.experts,
        "of": index.of,
        "behind": index.behind,
        "provenance": plain(index.provenance),
        "inputs": [plain(entry) for entry in index.inputs],
    }
    path = folder / _INDEX
    try:
        with whole_file(path) as file:
            said = document | {"check": _check_of(document)}
            file.write(json.dumps(said, indent=1).encode() + b"\n")
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: Path, error: OSError) -> OutputError:
    what = f"can't be written ({error.strerror or error})"
    remedy = "make room, and run the command again: inputs that are finished aren't computed anew"
    return OutputError(what, remedy, file=path)


def _not_read(path: Path, error: OSError) -> ImportanceError:
    return ImportanceError(f"can't be read ({error.strerror or error})", _AGAIN, file=path)


def _check_of(document: dict[str, Any]) -> str:
    """The checksum of what an index says: XXH3-64, in hex, of its JSON in one form."""
    return xxhash.xxh3_64_hexdigest(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


def _unfolded(triangle: NDArray[np.float32], columns: int) -> NDArray[np.float32]:
    whole = np.zeros((columns, columns), np.float32)
    begin = 0
    for row in range(columns):
        whole[row, row:] = triangle[begin : begin + columns - row]
        begin += columns - row
    # By blocks, so that what is read and what is written are both near each other.
    for start in range(0, columns, _BLOCK):
        end = min(start + _BLOCK, columns)
        block = whole[start:end, start:end]
        block += np.triu(block, 1).T
        whole[end:, start:end] = whole[start:end, end:].T
    return whole


def _triangle(columns: int) -> int:
    return columns * (columns + 1) // 2


def _header(matrices: int, columns: int) -> bytes:
    """How a .npy file of this shape begins. Source: numpy.lib.format, version 1.0."""
    said = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({matrices}, {_triangle(columns)}), }}"
    padded = said.ljust(-(-(len(said) + 11) // 64) * 64 - 11)
    return b"\x93NUMPY\x01\x00" + (len(padded) + 1).to_bytes(2, "little") + padded.encode() + b"\n"


class _Index(Record):
    version: int
    digest: str
    experts: str
    of: Natural
    provenance: Provenance
    inputs: tuple[GramEntry, ...]
    behind: str = ""


def _check(index: GramIndex, path: Path) -> None:
    """ImportanceError for what can't be: names of files that are none, weights twice, counts that don't fit."""
    weights = [weight for entry in index.inputs for weight in entry.weights]
    wrong = next(
        (
            entry
            for entry in index.inputs
            if not _PLAIN.fullmatch(entry.name)
            or not entry.weights
            or not len(entry.tokens) == len(entry.weighed) in (1, entry.matrices)
        ),
        None,
    )
    if wrong is not None or len(set(weights)) != len(weights) or len(index.inputs) > index.of:
        what = "says what can't be" + (f" of the input {wrong.name!r:.80}" if wrong is not None else "")
        raise ImportanceError(what, _AGAIN, file=path)
