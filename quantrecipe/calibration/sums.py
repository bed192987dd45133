"""Sums: what calibration has found so far, in memory and in a file that a stopped run goes on from.

Of each input of matrices, the sum of squares of every column over the tokens, and how many tokens there were; by
expert, or head, where the tensor is a stack of matrices. Matrices that see the same input share one sum: q, k and v, or
gate and up.

The file is NumPy's .npz, not compressed: `about` (JSON), and `squares/NAME`, `weighed/NAME`, `tokens/NAME` for each
sum; `means/NAME` are those that the next look compares with. A file of another `_LAYOUT` isn't gone on from.
"""

from __future__ import annotations

import errno
import json
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.lib.npyio import NpzFile

from quantrecipe.errors import ImportanceError, OutputError
from quantrecipe.importance.measurement import MeasuredTensor
from quantrecipe.whole_file import whole_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DAMAGED", "InputSums", "SumsFile", "write_sums"]

DAMAGED = (
    *(AttributeError, KeyError, TypeError, RecursionError),  # JSON of another shape
    *(OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error),
    *(SyntaxError, tokenize.TokenError),  # an array's header is Python
    *(RuntimeError, MemoryError),  # archives that would be encrypted, arrays that would be huge
)
"""What reading a file of sums raises that another program wrote, or that a disk has damaged."""

_LAYOUT = 2
_FIELDS = ("squares", "weighed", "tokens")
_MEANS = "means/"


@dataclass(slots=True)
class InputSums:
    """Of one input.

    squares: float64 (matrices, columns), each token times the weight of its domain
    weighed: float64 (counts,): sums of those weights; one count for all matrices, or one for each expert
    tokens:  int64 (counts,): how many tokens there were
    """

    squares: NDArray[np.float64]
    weighed: NDArray[np.float64]
    tokens: NDArray[np.int64]

    @classmethod
    def zeros(cls, matrices: int, columns: int, counts: int) -> Self:
        """Nothing seen yet."""
        return cls(np.zeros((matrices, columns)), np.zeros(counts), np.zeros(counts, np.int64))

    @property
    def means(self) -> NDArray[np.float64]:
        """float64 (matrices, columns): mean squares; 0 where no token came."""
        seen = np.maximum(self.weighed, np.finfo(float).tiny)[:, None]
        return self.squares / seen if len(self.weighed) > 1 else self.squares / seen[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class SumsFile:
    """A file of sums that was opened. The arrays are read when they are asked for.

    about:  what the run was told, and how far it came
    shared: by the name of each weight, the name of the sum that it has
    """

    path: Path
    about: dict[str, Any]
    shared: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What the file says; None where there is none, it is damaged, or another version wrote it.

        ImportanceError where the disk doesn't give it, which it may the next time.
        """
        try:
            with _opened(path) as data:
                about = json.loads(bytes(data["about"]))
            if about.get("layout") != _LAYOUT:
                return None
            return cls(path=path, about=about["about"], shared=about["shared"])
        except FileNotFoundError:
            return None
        except DAMAGED:
            return None

    def sums(self) -> dict[str, InputSums]:
        """All sums, by name. One of `DAMAGED` where the file is; ImportanceError where the disk doesn't give it."""
        with _opened(self.path) as data:
            return {
                name: InputSums(*(data[f"{part}/{name}"] for part in _FIELDS))
                for name in dict.fromkeys(self.shared.values())
            }

    def means(self) -> dict[str, NDArray[np.float32]]:
        """The means at the last look, by name."""
        with _opened(self.path) as data:
            return {name.removeprefix(_MEANS): data[name] for name in data.files if name.startswith(_MEANS)}

    def measured(self) -> Iterator[MeasuredTensor]:
        """Each weight's sums as an importance matrix has them: counts are whole, and squares fit them.

        ImportanceError where they can't be read any more, as in `tokens`.
        """
        with _whole(self.path) as data:
            for weight, name in sorted(self.shared.items()):
                weighed, tokens = data[f"weighed/{name}"], data[f"tokens/{name}"]
                counts = np.maximum(np.rint(weighed), tokens > 0).astype(np.int64)
                yield MeasuredTensor(
                    name=weight,
                    size=int(np.prod(_shape(self.path, f"squares/{name}"))),
                    counts=tuple(counts.tolist()),
                    read=_Read(self.path, name, counts),
                )

    def tokens(self) -> dict[str, NDArray[np.int64]]:
        """How many tokens each weight's matrices saw: int64 (counts,)."""
        with _whole(self.path) as data:
            return {weight: data[f"tokens/{name}"] for weight, name in sorted(self.shared.items())}


@dataclass(frozen=True, slots=True)
class _Read:
    """Reads the squares of a sum: float32 (counts, columns of all its matrices)."""

    path: Path
    name: str
    counts: NDArray[np.int64]

    def __call__(self) -> NDArray[np.float32]:
        with _whole(self.path) as data:
            squares, weighed = data[f"squares/{self.name}"], data[f"weighed/{self.name}"]
        squares = squares.reshape(len(self.counts), -1)
        # Weights make counts that aren't whole; the means stay what they are.
        factor = np.divide(self.counts, weighed, out=np.zeros(len(weighed)), where=weighed > 0)
        result: NDArray[np.float32] = (squares * factor[:, None]).astype(np.float32)
        return result


@contextmanager
def _opened(path: Path) -> Iterator[NpzFile]:
    """An archive of arrays. np.load itself leaves a file open that is none."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            if not isinstance(data, NpzFile):
                raise ValueError("a single array")
            yield data
    except FileNotFoundError:
        raise
    except OSError as error:
        _require_disk(path, error)
        raise


@contextmanager
def _whole(path: Path) -> Iterator[NpzFile]:
    """The same of a file that this run has written."""
    try:
        with _opened(path) as data:
            yield data
    except DAMAGED as error:
        what = f"what was found so far can't be read any more ({error})"
        raise ImportanceError(what, "look at the disk, and run the command again", file=path) from error


def _require_disk(path: Path, error: Exception) -> None:
    """ImportanceError where it is the disk's fault: what the next try may read isn't to be thrown away."""
    if isinstance(error, OSError) and error.errno not in (
        None,
        errno.EINVAL,
    ):  # EINVAL: a place that isn't there
        what = f"what was found so far can't be read ({error.strerror or error})"
        remedy = "look at the disk and its connection; the same command goes on from there"
        raise ImportanceError(what, remedy, file=path) from error


def _shape(path: Path, name: str) -> tuple[int, ...]:
    """The shape of an array in a file, from its header alone."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape: tuple[int, ...] = read(member)[0]
        return shape


def write_sums(
    path: Path,
    sums: Mapping[str, InputSums],
    means: Mapping[str, NDArray[np.float32]],
    shared: Mapping[str, str],
    about: Mapping[str, Any],
) -> None:
    """Write the file, which appears when it is whole. OutputError where the disk refuses."""
    text = json.dumps({"layout": _LAYOUT, "about": about, "shared": shared}).encode()
    arrays = {f"{part}/{name}": getattr(found, part) for name, found in sums.items() for part in _FIELDS}
    arrays |= {f"{_MEANS}{name}": mean for name, mean in means.items()}
    try:
        with whole_file(path, mode=0o600) as file:  # it is on its way to be a matrix
            np.savez(file, about=np.frombuffer(text, np.uint8), **arrays)
    except OSError as error:
        what = f"what was found so far can't be saved ({error.strerror or error})"
        remedy = "make room, or name another file with a shorter name, and run the command again"
        raise OutputError(what, remedy, file=path) from error
