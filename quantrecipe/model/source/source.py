"""TensorSource: an expression that says what a tensor is made of; Stored and Constant, its leaves.

An expression is a value: frozen, picklable, without open files. It knows its shape and type before anything is read,
and gives any run of rows through a `Reading`. Rows are counted over all matrices of a stack, slowest first: row r of
expert e is number e · rows + r. So a tensor of n rows is n pieces of work that nobody needs in one place.

Importing this module loads no numpy: a plan of a GGUF evaluates nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Never, Self, TypeAlias

from quantrecipe.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from quantrecipe.model.source.reading import Reading

__all__ = [
    "NUMBERS",
    "STORED_TYPES",
    "Constant",
    "Extent",
    "Leaf",
    "Operation",
    "Shape",
    "Stored",
    "TensorSource",
    "fail",
    "label",
    "leaves_of",
]

Shape: TypeAlias = tuple[int, ...]

NUMBERS = {
    "F64": ("<f8", 8), "F32": ("<f4", 4), "F16": ("<f2", 2), "BF16": ("<u2", 2),
    "F8_E4M3": ("u1", 1), "F8_E5M2": ("u1", 1), "F8_E8M0": ("u1", 1), "BOOL": ("u1", 1),
    "I8": ("i1", 1), "I16": ("<i2", 2), "I32": ("<i4", 4), "I64": ("<i8", 8),
    "U8": ("u1", 1), "U16": ("<u2", 2), "U32": ("<u4", 4), "U64": ("<u8", 8),
}  # fmt: skip
"""Types whose numbers stand one after the other: NumPy's type of the same bits, and the bytes of each number."""


STORED_TYPES = ("FP8", "INT2", "INT4", "INT8", "TERNARY")
"""What is stored of weights that no format of a GGUF has, and that become numbers while they are read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """A run of bytes in a file.

    file_size: of the whole file when its header was read: a changed file is noticed; None if unknown
    """

    path: Path
    offset: int
    nbytes: int
    file_size: int | None = None


class TensorSource(ABC):
    """What a tensor is made of. Subclasses are frozen dataclasses; their fields are checked when they are made."""

    __slots__ = ()

    # Not at run time: a dataclass would take the property for the default of its field of the same name.
    if TYPE_CHECKING:

        @property
        def shape(self) -> Shape:
            """In NumPy's order, slowest first; () for a single number."""

        @property
        def dtype(self) -> str:
            """The type that comes out: a format ("BF16", "Q8_0"), or a dtype of safetensors within an expression."""

    @property
    @abstractmethod
    def row_bytes(self) -> int:
        """Bytes of a row that comes out."""

    @property
    @abstractmethod
    def operands(self) -> tuple[TensorSource, ...]:
        """The sources that this one is made of; () for a leaf."""

    @abstractmethod
    def read(self, start: int, stop: int, reading: Reading) -> NDArray[np.uint8]:
        """Any run of rows: uint8 (stop - start, row_bytes), C-contiguous, not to be written to.

        Memory is in proportion to the rows, but for what `together` and the class say.
        """

    @property
    def together(self) -> int:
        """Rows that are best read at once: runs that begin and end at a multiple of it read nothing twice.

        It divides the rows of a matrix, or is the most that fits a slab (`Transpose`).
        """
        return 1

    def stored_bytes(self, rows: int) -> int:
        """How many stored bytes are in memory when so many rows are read, about: a buffer of this size is enough."""
        return sum(it.stored_bytes(rows) for it in self.operands)

    @property
    def slab(self) -> int:
        """Bytes that a run of rows takes however few they are: those of a transposed matrix's slab, or 0."""
        return max((operand.slab for operand in self.operands), default=0)

    @property
    def cols(self) -> int:
        """Length of a row."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        """How many rows one matrix has."""
        return self.shape[-2] if len(self.shape) > 1 else 1

    @property
    def total_rows(self) -> int:
        """How many rows there are in all matrices together."""
        return prod(self.shape[:-1])

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """What is stored, each leaf once, in the order in which the expression names them."""
        return tuple(dict.fromkeys(leaves_of(self)))

    @property
    def extents(self) -> tuple[Extent, ...]:
        """Where in which files the leaves are."""
        return tuple(extent for leaf in self.leaves for extent in leaf.extents)

    @property
    def nbytes(self) -> int:
        """Bytes of all leaves, those that come from no file included."""
        return sum(leaf.nbytes for leaf in self.leaves)

    @property
    def stored_name(self) -> str:
        """The name of the first stored tensor that it is made of: what errors call it."""
        return next(leaves_of(self)).name

    @property
    def stored_type(self) -> str:
        """How the weights are stored: a type ("BF16", "MXFP4", "Q8_0"), or one of STORED_TYPES.

        Of sources that are put together it is that of the first.
        """
        return self.operands[0].stored_type if self.operands else self.dtype

    def join(self, others: Sequence[Self], shape: Shape) -> TensorSource | None:
        """This one's rows and then those of the others, as a single value of this class; None where there is none."""
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation(TensorSource):
    """What is done to other sources. `shape` and `dtype` follow from them, once, when it is made."""

    shape: Shape = field(init=False, repr=False, compare=False)
    dtype: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        shape, dtype = self.infer()
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "dtype", dtype)

    @abstractmethod
    def infer(self) -> tuple[Shape, str]:
        """Shape and dtype; ModelError, with the name of the stored tensor, where the operands don't fit."""

    @property
    def row_bytes(self) -> int:
        return self.cols * NUMBERS[self.dtype][1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored(TensorSource):
    """Bytes of files as they lie: a tensor of a GGUF or of a safetensors file, or some of them as one.

    name:    of the first stored tensor, for errors
    extents: one after the other they are the rows (several where experts are stacked, or rows are left out)
    """

    name: str
    shape: Shape
    dtype: str
    extents: tuple[Extent, ...]

    @property
    def nbytes(self) -> int:
        return sum(extent.nbytes for extent in self.extents)

    @property
    def row_bytes(self) -> int:
        if self.dtype in NUMBERS:
            return self.cols * NUMBERS[self.dtype][1]
        return self.nbytes // (self.total_rows or 1)  # of blocks, whose sizes only the registry knows

    @property
    def operands(self) -> tuple[TensorSource, ...]:
        return ()

    def stored_bytes(self, rows: int) -> int:
        return rows * self.row_bytes

    def read(self, start: int, stop: int, reading: Reading) -> NDArray[np.uint8]:
        width = self.row_bytes
        return reading.stored(self, start * width, stop * width).reshape(stop - start, width)

    def join(self, others: Sequence[Self], shape: Shape) -> Stored:
        extents = (*self.extents, *(extent for other in others for extent in other.extents))
        return replace(self, shape=shape, extents=extents)

    def reshaped(self, shape: Shape) -> Stored:
        """The same bytes as rows of another length. The caller knows that the type has no blocks that they'd cut."""
        return replace(self, shape=shape)

    def cut(self, start: int, stop: int) -> Stored:
        """Rows `start` to `stop` of each matrix."""
        width, rows = self.row_bytes, self.rows
        pieces = [
            piece
            for matrix in range(self.total_rows // rows if rows else 0)
            for piece in self.between((matrix * rows + start) * width, (matrix * rows + stop) * width)
        ]
        return replace(self, shape=(*self.shape[:-2], stop - start, self.cols), extents=tuple(pieces))

    def between(self, begin: int, end: int) -> Iterator[Extent]:
        """Where these of its bytes are."""
        for extent in self.extents:
            if end <= 0:
                return
            first, last = max(begin, 0), min(end, extent.nbytes)
            if first < last:
                yield replace(extent, offset=extent.offset + first, nbytes=last - first)
            begin, end = begin - extent.nbytes, end - extent.nbytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Constant(TensorSource):
    """Content that comes from no file, such as frequency factors that a Hugging Face folder has in its config.json."""

    shape: Shape
    dtype: str
    data: bytes
    name: str = ""

    @property
    def extents(self) -> tuple[Extent, ...]:
        return ()

    @property
    def nbytes(self) -> int:
        return len(self.data)

    @property
    def row_bytes(self) -> int:
        return self.cols * NUMBERS[self.dtype][1]

    @property
    def operands(self) -> tuple[TensorSource, ...]:
        return ()

    def stored_bytes(self, rows: int) -> int:
        return 0

    def read(self, start: int, stop: int, reading: Reading) -> NDArray[np.uint8]:
        width = self.row_bytes
        return reading.constant(self, start * width, stop * width).reshape(stop - start, width)


Leaf: TypeAlias = Stored | Constant


def leaves_of(source: TensorSource) -> Iterator[Leaf]:
    """Go through the leaves, those that stand in several places several times."""
    if isinstance(source, Stored | Constant):
        yield source
    for operand in source.operands:
        yield from leaves_of(operand)


def label(source: TensorSource) -> str:
    """A source in a message: the name of the stored tensor that it begins with, its type and shape."""
    return f"tensor {source.stored_name!r} ({source.dtype} {source.shape})"


def fail(source: TensorSource, what: str, remedy: str = "download the model again") -> Never:
    """Raise a ModelError about the stored tensor that a source begins with."""
    file = next((extent.path for extent in source.extents), None)
    raise ModelError(f"{label(source)} {what}", remedy, file=file)
