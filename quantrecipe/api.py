"""The contract between quantrecipe and its plugins.

A plugin is a module named by an entry point of group `quantrecipe`. It implements hooks (see
`quantrecipe.hookspecs`) that take no arguments and return the objects defined here; behaviour lives in
those objects. The built-in formats and analyses come through the same door.

What a format promises, and quantrecipe relies on:

* The unit is the row. A tensor of n rows is n independent encodings of `spec.row_bytes(k)` bytes each, so
  rows may be encoded in any grouping (a multiple of `spec.rows_per_group` at a time), in any order, in any
  thread, and the bytes are the same.
* `encode` and `decode` are re-entrant, keep no state between calls, release the GIL in their long loops, never
  change their input, and take strided and read-only arrays.
* The same input gives the same bytes on every machine, at every thread count, at any time.
* Importance is one vector for all rows of a call: the caller splits at experts.
* A format may also offer the second half of encoding, as a `Grid`: rounding again with the scales that are there.
* What is not finite never becomes a silently wrong block: `encode` raises NonFiniteError.

The module is light: it imports neither numba nor any kernel.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

import pluggy

from quantrecipe.errors import FormatError, PluginError, Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from quantrecipe.tensor import TensorInfo

    FloatArray = NDArray[np.float32]
    DoubleArray = NDArray[np.float64]
    ByteArray = NDArray[np.uint8]

__all__ = [
    "API_VERSION",
    "OLDEST_API_VERSION",
    "Analysis",
    "Change",
    "Effect",
    "Encoder",
    "Executor",
    "FormatSpec",
    "Grid",
    "ImportanceLevel",
    "InputStatistics",
    "LostTaskError",
    "ModelAnalysis",
    "Order",
    "Outcome",
    "PointGrid",
    "QuantFormat",
    "RecipeFolder",
    "Reduce",
    "StoredFloat",
    "Study",
    "Task",
    "TensorAnalysis",
    "Workers",
    "hookimpl",
    "sendable",
]

API_VERSION = 1
"""Raised when a plugin written for the previous version may have to be changed."""

OLDEST_API_VERSION = 1
"""Plugins written for this version still load, with a note where it isn't the newest. It follows a year later."""

hookimpl = pluggy.HookimplMarker("quantrecipe")
"""Marks a function of a plugin module as the implementation of the hook of its name."""

ImportanceLevel = Literal["ignored", "optional", "advised", "required"]
"""What importance is to a format: without effect; used if given; llama-quantize refuses to go without; the
encoder can't go without."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFloat:
    """A floating-point number in a format's bytes that must be finite: a scale, a minimum, or the weight itself.

    kind: "f16", "bf16", "f32" or "f64", little-endian, or "e8m0": one byte, of which 255 is NaN. An f64 must be
          finite as a float32, as ggml has it
    at:   the byte at which it begins. Of an f16 that is split into four nibbles (IQ1_M): the bytes whose upper halves
          they are, the lowest nibble first
    name: what the engine calls it: "d", "dmin"
    per:  "block": `at` counts from the block's first byte; "row": from the row's, which has row_meta_bytes before
          its blocks. Where rows are interleaved, from those of the whole group
    """

    kind: Literal["f16", "bf16", "f32", "f64", "e8m0"]
    at: int | tuple[int, int, int, int] = 0
    name: str = "d"
    per: Literal["block", "row"] = "block"

    @property
    def exponent(self) -> tuple[tuple[int, int], ...]:
        """(byte, bits of it): those bits are all ones in NaN and Inf, and in no other number."""
        if isinstance(self.at, tuple):
            return (self.at[3], 0x70), (self.at[2], 0xC0)
        first = self.at
        if self.kind == "e8m0":
            return ((first, 0xFF),)
        # Of each: bytes in all, the exponent's bits in the last byte, and in the one before.
        nbytes, upper, lower = {
            "f16": (2, 0x7C, 0),
            "bf16": (2, 0x7F, 0x80),
            "f32": (4, 0x7F, 0x80),
            "f64": (8, 0x7F, 0xF0),
        }[self.kind]
        last = first + nbytes - 1
        return ((last, upper), (last - 1, lower)) if lower else ((last, upper),)


@dataclass(frozen=True, kw_only=True, slots=True)
class FormatSpec:
    """The facts of a format; all sizes in a plan come from here.

    name:           what recipes call it, unique among all installed plugins: "Q4_K"
    ggml_type:      the type id in GGUF files
    block:          weights that are coded together; divides the number of columns
    block_bytes:    bytes of one block
    row_meta_bytes: bytes that each row carries besides its blocks
    rows_per_group: rows that are interleaved in the file; divides the number of rows of each matrix
    dialect:        who reads files with this type: "ggml" for mainline llama.cpp, "ik" for ik_llama.cpp, …
    importance:     see ImportanceLevel
    uniform_is_none: True where the same importance for all columns gives the bytes of none
    exactness:      what encode's bytes are held to: "byte-equal to ggml", or a sentence
    error_bound:    largest relative RMSE, ‖x - decode(encode(x))‖ / ‖x‖, on Gaussian and Laplace rows
    version:        raised whenever encode's bytes change; part of every hash
    fallback:       the format to try where this one doesn't accept a tensor, None where there is none
    companion:      None, or the suffix of an F32 tensor that the file has beside the weights ("scale":
                    blk.0.attn_q.scale beside blk.0.attn_q.weight), with one factor for each expert: the engine
                    multiplies by it what it decodes. `QuantFormat.factor` chooses it, `encode` gets rows divided by it
    floats:         the floating-point numbers among its bytes, all of which must be finite: what is written is held
                    against this, as ggml_validate_row_data does. Where none is stated, large weights are decoded again
    codec:          False for types that only pass through (I8 … I64)
    file_type:      `general.file_type` of a file that is mostly of this type, None to say nothing
    summary:        one line for `quantrecipe formats`
    """

    name: str
    ggml_type: int
    block: int
    block_bytes: int
    row_meta_bytes: int = 0
    rows_per_group: int = 1
    dialect: str = "ggml"
    importance: ImportanceLevel = "ignored"
    uniform_is_none: bool = False
    exactness: str = "byte-equal to ggml"
    error_bound: float = 0.0
    version: int = 1
    fallback: str | None = None
    companion: str | None = None
    floats: tuple[StoredFloat, ...] = ()
    codec: bool = True
    file_type: int | None = None
    summary: str = ""

    @property
    def bits_per_weight(self) -> float:
        """Bits per weight of the blocks, without the rows' metadata."""
        return 8 * self.block_bytes / self.block

    def row_bytes(self, k: int) -> int:
        """Bytes of a row of k weights. FormatError if k is not a multiple of the block."""
        if k <= 0 or k % self.block:
            raise FormatError(
                f"{self.name} stores blocks of {self.block} weights, and {k} don't divide into them"
            )
        return self.row_meta_bytes + k // self.block * self.block_bytes

    def tensor_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a tensor of this shape (slowest dimension first). FormatError if rows don't divide."""
        if 0 in shape:
            return 0
        cols = shape[-1] if shape else 1
        return prod(shape[:-1]) * self.row_bytes(cols)


class QuantFormat(ABC):
    """One way to store a row of weights. Instances are immutable values: the spec and a set of options.

    A subclass defines `spec`, `encode` and `decode`; one with options also `option_schema`.
    """

    spec: ClassVar[FormatSpec]
    option_schema: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """JSON Schema of each option by its name; `default` is what holds when a rule doesn't set it."""

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        """Options are checked against `option_schema` by the recipe loader; a stray one is a FormatError here."""
        self.options = _with_defaults(lambda: self.spec.name, self.option_schema, options)

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """The same format with these options."""
        return type(self)(options)

    def accepts(self, tensor: TensorInfo) -> str | None:
        """None if the tensor can be stored in this format, else the reason: "768 columns don't divide by 512"."""
        if tensor.cols % self.spec.block:
            return f"its {tensor.cols} columns don't divide into blocks of {self.spec.block}"
        if tensor.rows % self.spec.rows_per_group:
            return f"its {tensor.rows} rows don't divide into groups of {self.spec.rows_per_group}"
        return None

    @abstractmethod
    def encode(
        self, rows: FloatArray, importance: FloatArray | None = None, *, out: ByteArray | None = None
    ) -> ByteArray:
        """rows: float32 (n, k), importance: float32 (k,) → uint8 (n, row_bytes(k)), written to `out` if given.

        FormatError for columns that don't divide, or missing importance where it is required; NonFiniteError
        where a weight or an importance is NaN or Inf.
        """

    @abstractmethod
    def decode(self, data: ByteArray, k: int, *, out: FloatArray | None = None) -> FloatArray:
        """data: uint8 (n, row_bytes(k)) → float32 (n, k), written to `out` if given. Never fails on odd bytes."""

    @property
    def grid(self) -> Grid | PointGrid | None:
        """The second half of `encode`: what weights may become once the scales are there. None: not offered."""
        return None

    def factor(self, peak: float) -> float:
        """Of a format with a companion tensor: what a matrix is divided by before `encode`. Positive and finite.

        peak: the largest magnitude among the matrix's weights.
        """
        raise FormatError(f"{self.spec.name} has no companion tensor")

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.spec.name}({options})"


def _with_defaults(
    name: Callable[[], str], schema: Mapping[str, Any], options: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """The options of the object of this name: those given, and the defaults of others. FormatError for a stray one."""
    given = dict(options or {})
    if unknown := sorted(given.keys() - schema.keys()):
        known = ", ".join(sorted(schema)) or "none"
        raise FormatError(f"{name()} has no option {unknown[0]!r}", f"its options: {known}")
    defaults = {option: said["default"] for option, said in schema.items() if "default" in said}
    return MappingProxyType(defaults | given)


class Grid(ABC):
    """The second half of encoding: what a row's weights may become with the scales that its bytes hold, and storing it.

    `encode` finds scales, and rounds with them. Who rounds in another way, as error feedback does, takes the scales
    from `encode`'s bytes, chooses a value for each weight, and stores the choices in these bytes:

        data = fmt.encode(rows, importance)
        scales, offsets = fmt.grid.scales(data, k)
        fmt.grid.store(data, choices)

    Then `decode` gives, for each weight, scales * values[choice] + offsets of its group, where the product and the sum
    are each rounded to float32. Scales and offsets stay what they were, to the bit. Groups may also move the values by
    `shifts`; then it is scale * (value + shift) + offset, and the first sum is rounded too.

    Four weights may save a bit, as in ik_llama.cpp's IQ4_KSS: of each of the `fours`, an even number takes values that
    are `odd`. Other choices can't be stored.

    A format may also let scales be set, so that others can look for them. Where a block is one group, its floats (see
    `FormatSpec.floats`) are the scale and, if there are two, the offset. Where it has several groups, the scale of each
    is the first float times a stored integer, and its offset is minus the second one times another, where each product
    is rounded to float32; `store_steps` writes these integers.

    values: float32, at most 256: what the choices 0, 1, 2, … stand for, in any order. `encode` may know more of them
    group:  how many weights in a row have a scale and an offset in common; divides the format's block
    steps:  the lowest and the highest of the integers of scales; None where `store_steps` isn't offered
    lows:   the same of those of offsets; None where there are none
    fours:  places within a group: each weight of a group is in one of them. () where weights are free
    odd:    for each value, whether it is odd; () where weights are free
    """

    values: tuple[float, ...]
    group: int
    fours: tuple[tuple[int, int, int, int], ...] = ()
    odd: tuple[bool, ...] = ()
    steps: tuple[int, int] | None = None
    lows: tuple[int, int] | None = None

    @abstractmethod
    def scales(self, data: ByteArray, k: int) -> tuple[FloatArray, FloatArray]:
        """data: uint8 (n, row_bytes(k)) → (scales, offsets), both float32 (n, k / group)."""

    def shifts(self, data: ByteArray, k: int) -> FloatArray | None:
        """What each group adds to the values: float32 (n, k / group), which `store` leaves. None: nothing."""
        return None

    @abstractmethod
    def store(self, data: ByteArray, choices: ByteArray) -> None:
        """choices: uint8 (n, k), each below len(values), written to data: uint8 (n, row_bytes(k)), C-contiguous.

        FormatError where of one of the `fours` an odd number is odd.
        """

    def store_steps(self, data: ByteArray, steps: NDArray[np.int16], lows: NDArray[np.int16] | None) -> None:
        """steps, lows: int16 (n, k / group), written to data, in which all else stays. lows is None without `lows`."""
        raise FormatError("the integers of this format's scales can't be set")


class PointGrid(ABC):
    """The same where two, four or eight weights are one choice: the sizes of weights are points, and signs are apart.

    `decode` gives scale * size * sign for each weight, where the product is rounded to float32. Where points are
    `signed`, it is scale * (value + shift), in which the sum is exact.

    points: float32 (books * p, size): the sizes of 2, 4 or 8 weights, none negative. The choices are the points'
            numbers within their book, so p is at most 65,536
    group:  how many weights in a row have a scale, and a book, in common; a multiple of 8
    even:   True where of each eight weights an even number is negative
    signed: True where points have signs of their own. No others are stored then
    books:  how many books of p points there are, one after the other; each group has the points of one of them. Of
            pairs there is one, of at most 4,096
    """

    points: FloatArray
    group: int
    even: bool
    signed: bool = False
    books: int = 1

    @abstractmethod
    def scales(self, data: ByteArray, k: int) -> FloatArray:
        """data: uint8 (n, row_bytes(k)) → float32 (n, k / group)."""

    def shifts(self, data: ByteArray, k: int) -> FloatArray | None:
        """Of signed points, what each group adds to their values: float32 (n, k / group). None: nothing."""
        return None

    def books_of(self, data: ByteArray, k: int) -> ByteArray | None:
        """Which book each group has: uint8 (n, k / group), which `store` leaves. None: the first."""
        return None

    @abstractmethod
    def store(self, data: ByteArray, choices: NDArray[np.uint16], signs: ByteArray) -> None:
        """Write choices and signs to data: uint8 (n, row_bytes(k)), C-contiguous.

        choices: uint16 (n, k / size), each below p
        signs:   uint8 (n, k / 8); bit i is set where weight i of the eight is negative. Nothing for signed points
        """


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InputStatistics:
    """What is known of the inputs that a matrix is multiplied with.

    gram:   the mean of x xᵀ over the inputs x: float32 (k, k), symmetric, read-only. Of fewer tokens than columns it
            is singular
    tokens: how many inputs that is the mean of
    """

    gram: FloatArray
    tokens: int


class Encoder(ABC):
    """A way from weights to the bytes of any format. Instances are immutable values: a name and a set of options.

    What depends on the matrix's inputs alone is done once for each matrix, by `prepare`; what it returns goes to each
    call of `encode`, from several threads at once. Rows are apart, as `QuantFormat` promises it: a row's bytes depend
    on the row, the format, the importance, the statistics and the options, and on nothing else.
    """

    name: ClassVar[str]
    """What recipes call it, unique among all installed plugins."""
    summary: ClassVar[str]
    """One line for `quantrecipe plugins`."""
    version: ClassVar[int] = 1
    """Raised whenever its bytes change."""
    needs_statistics: ClassVar[bool] = False
    """True for one that can't go without InputStatistics."""
    option_schema: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """As in QuantFormat."""

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        """A stray option is a FormatError."""
        self.options = _with_defaults(lambda: self.name, self.option_schema, options)

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """The same encoder with these options."""
        return type(self)(options)

    def accepts(self, fmt: QuantFormat) -> str | None:
        """None if it can make this format's bytes, else the reason."""
        return None

    def settled(self, tokens: int, columns: int) -> Mapping[str, Any]:
        """The options as they hold for a matrix. One that leaves something to the statistics says here what that is.

        Plans show it before any work, so it depends on how much the statistics are of, and not on what they say.

        tokens: how many inputs they are of; columns: of the matrix
        """
        return self.options

    def enough(self, tokens: int, columns: int) -> bool:
        """Whether statistics of so many tokens are enough for an expert; its format makes it by itself where not.

        Fewer tokens than columns are a Gram matrix that has no inverse. A matrix that isn't one of several is never
        made of those, whatever this says.
        """
        return tokens >= columns

    def shares(self, fmt: QuantFormat) -> Hashable:
        """What `prepare` has to know of a format. Where it is equal, what was prepared for one serves the other."""
        return None

    def prepare(
        self, statistics: InputStatistics | None, *, fmt: QuantFormat | None = None, threads: int = 1
    ) -> Any:
        """What `encode` needs of a matrix's inputs. The threads change nothing but the time.

        fmt: what the matrix becomes; None: anything
        ImportanceError for statistics that are missing, or can't be used: NaN, nothing but zeros.
        """
        return None

    def remark(self, prepared: Any) -> str:
        """What the user has to know of what `prepare` returned, "" if nothing: options that couldn't hold, for example.

        It follows the tensor's name and a colon: "damped by 0.1 and not by 0.01, since …". The file that is written
        counts the matrices that had a remark.
        """
        return ""

    @abstractmethod
    def encode(
        self,
        rows: FloatArray,
        fmt: QuantFormat,
        importance: FloatArray | None = None,
        prepared: Any = None,
        *,
        out: ByteArray | None = None,
    ) -> ByteArray:
        """rows: float32 (n, k), of one matrix → uint8 (n, row_bytes(k)), as `QuantFormat.encode`, with its errors.

        prepared: what `prepare` made of the statistics of this matrix
        """


class Analysis(ABC):
    """A way to know what a type costs. Instances are immutable values; each is of one of the two kinds below.

    What giving a type to a tensor costs is alpha × D: a TensorAnalysis says how much the tensor itself loses
    (D, from its weights alone), a ModelAnalysis how much the model's output moves per unit of that (alpha).
    """

    name: ClassVar[str]
    """What the command line calls it, unique among all installed plugins."""
    summary: ClassVar[str]
    """One line for `quantrecipe plugins`."""
    version: ClassVar[int] = 1
    """Raised whenever its numbers change: what an older version measured is measured again."""


class TensorAnalysis(Analysis):
    """How much a tensor loses in a format: D = Σ lost / Σ whole, over its rows.

    Sums over rows can be sampled, split among threads and put together again, and the sampling error is known;
    so an analysis says what each row loses, and leaves the adding up to its caller.
    """

    @abstractmethod
    def row_losses(
        self, rows: FloatArray, fmt: QuantFormat, importance: FloatArray | None = None
    ) -> tuple[DoubleArray, DoubleArray]:
        """rows: float32 (n, k), importance: float32 (k,) → (lost, whole), both float64 (n,), finite, not negative.

        Rows are of one matrix (one expert), a multiple of `fmt.spec.rows_per_group`; a row's numbers don't depend
        on the others. Re-entrant, as formats are. NonFiniteError where a weight is NaN or Inf.
        """

    def for_tensor(self, tensor: TensorInfo) -> TensorAnalysis:
        """The analysis for this tensor, of the same name and version: itself, unless it tells tensors apart."""
        return self

    def score(self, rows: FloatArray, fmt: QuantFormat, importance: FloatArray | None = None) -> float:
        """D of these rows: 0 where nothing is lost, and for zeros that stay zeros; what is lost where all were zero."""
        lost, whole = (float(sums.sum()) for sums in self.row_losses(rows, fmt, importance))
        return lost / whole if whole > 0 else lost


Change: TypeAlias = "Callable[[FloatArray, int], FloatArray]"
"""Other weights for a tensor: (its own rows, the number of the first) → rows of the same shape, float32 and finite.

Own rows are float32 (n, k), read-only, and counted over all experts. They come in pieces of any size and order, from
several threads at once: a row may depend on itself and on its number, and on no other row of the piece.
"""

Reduce: TypeAlias = "Callable[[FloatArray], DoubleArray]"
"""What is kept of a matrix's inputs: float32 (tokens, k) → float64, always of the same shape.

It runs where the model is open, in another process: a function at the top level of a module that can be imported, or
`functools.partial` of one. The inputs are read-only, and only there during the call. What it returns is added up.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """How far the model's output moved: mean KL divergence per token from that of the base, in nats.

    standard_error: of the mean, from the spread over chunks of the text; what the base's own rounding may do is in it,
                    too
    """

    kld: float
    standard_error: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """What a ModelAnalysis works with.

    tensors:  those whose alpha is wanted, in the order layer, name
    n_layers: of the model
    losses:   D of each tensor in each type, as a TensorAnalysis measured it
    prior:    alpha of each tensor as the prior has it, for where nothing better is known
    doubt:    how sure that is: the standard deviation of the logarithm of alpha
    file:     results of others, if the user gave some
    probes:   how often `evaluate` and `swap` may be called, together; `evaluate_part` counts as its share of that
    evaluate: what the output of the real engine does when these tensors (name → type) are rounded and all others
              are left at the base, which is nearly exact; None where there is no engine or no text. What was
              evaluated before comes back at once, and counts as a probe all the same
    swap:     the same, when these tensors (name → Change) have other weights; None where `evaluate` is. What it takes
              in memory doesn't grow with the tensors
    parts:    into how many parts the text is divided, each of which is spread over all of it
    evaluate_part: as `evaluate`, on the part of the text that has this number, from 0; None where `evaluate` is
    expect:   hears what `evaluate_part` will probably be asked (None in place of the part's number: `evaluate`), first
              what comes next and then the likeliest, before it is asked: where several can be evaluated at the same
              time, so many are begun. It takes no more of them than that, so they may be made one by one. None where
              one is evaluated after the other
    look:     what a Reduce makes of the inputs of each of these matrices, while the base reads the text: float64
              arrays by tensor name, summed over all tokens; (experts, …) of tensors that hold experts. What the engine
              doesn't use for text is left out. No probe, though it takes a pass. None where `evaluate` is;
              EvaluationError where the engine can't be looked into
    progress: is told what is being done, and the share of it that is done, from 0 to 1
    """

    tensors: tuple[TensorInfo, ...]
    n_layers: int
    losses: Mapping[str, Mapping[str, float]]
    prior: Mapping[str, float]
    doubt: Mapping[str, float]
    file: Path | None = None
    probes: int = 0
    evaluate: Callable[[Mapping[str, str]], Effect] | None = None
    swap: Callable[[Mapping[str, Change]], Effect] | None = None
    parts: int = 1
    evaluate_part: Callable[[Mapping[str, str], int], Effect] | None = None
    expect: Callable[[Iterable[tuple[Mapping[str, str], int | None]]], None] | None = None
    look: Callable[[Reduce, Sequence[str]], Mapping[str, DoubleArray]] | None = None
    progress: Callable[[str, float], None] = lambda what, share: None


class ModelAnalysis(Analysis):
    """How much the model's output moves per unit of loss in each tensor."""

    @abstractmethod
    def weigh(self, study: Study) -> Mapping[str, float]:
        """Alpha by tensor name: finite, not negative, mean KL divergence per unit of D where it was measured.

        Tensors that it leaves out keep the prior's. SensitivityError where it lacks what it needs: a file, an engine.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What workers are opened from: the same for all workers of a run, picklable, and small beside the work.

    function: "package.module:name". A worker calls it once, as name(given, threads), and calls what it returns with the
              `given` of one task after the other, never with two at once. That returns the task's result
    given:    what the function needs
    packages: name and version of all that a worker has to have: quantrecipe, and plugins whose things are used
    memory:   bytes that each worker takes, about, such as those of a model that it holds; 0 for little. An executor has
              no more workers on a machine than its memory has room for, but always one, and says where that is fewer
              than were wanted
    """

    function: str
    given: Any
    packages: tuple[tuple[str, str], ...] = ()
    memory: int = 0

    def open(self, threads: int = 1) -> Callable[[Task], Outcome]:
        """To be called in a worker: what does tasks there. It raises nothing but KeyboardInterrupt and SystemExit.

        threads: that a task may use
        PluginError where a package is missing or has another version; whatever the function raises.
        """
        import platform
        import time
        from importlib import import_module

        where = f"{platform.node()} (process {os.getpid()})"
        problems = [
            it for name, version in self.packages if (it := _unlike(name, version, where)) is not None
        ]
        if problems:
            raise PluginError(problems)
        module, _, name = self.function.partition(":")
        do = getattr(import_module(module), name)(self.given, threads)

        def outcome(task: Task) -> Outcome:
            begin = time.monotonic()
            result: Any = None
            failed: Exception | None = None
            lost = ""
            try:
                result = do(task.given)
            except LostTaskError as error:
                lost = str(error) or "it was lost"
            except Exception as error:  # noqa: BLE001  # it is raised again where the tasks come from
                failed = sendable(error, where)
            seconds = time.monotonic() - begin
            return Outcome(
                number=task.number, where=where, result=result, error=failed, lost=lost, seconds=seconds
            )

        return outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A piece of work. To do it twice, one after the other or at the same time, gives the same result twice.

    number: counted from 0
    given:  what the worker's function is called with: picklable
    nbytes: that it reads and returns, about; or another measure of the work, the same for all tasks of an order, such
            as tokens: time goes with it
    what:   for people
    """

    number: int
    given: Any
    nbytes: int = 1
    what: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a task, or of a worker.

    number: of the task; None for what is about a worker: `error` says why it couldn't be opened, which ends the run, or
            `lost` what else there is to tell, which doesn't
    where:  which worker, for people
    result: what the function returned
    error:  what it raised (see `sendable`). The run ends with it: another worker would meet the same
    lost:   why nothing came of it, "" otherwise: the worker died, its machine went away, or the function raised a
            LostTaskError. Another does the task then. It is told to the user
    seconds: that it took
    """

    number: int | None
    where: str = ""
    result: Any = None
    error: Exception | None = None
    lost: str = ""
    seconds: float = 0.0


class LostTaskError(Exception):
    """For a worker's function to raise where what it works with has died, such as a process of its own; says of what.

    The task is lost, as if the worker had died: it is done again, by this worker or by another.
    """


def sendable(error: Exception, where: str) -> Exception:
    """An error as it travels between processes: its traceback is a note. What can't be pickled is a RuntimeError."""
    import pickle
    import traceback

    told = "".join(traceback.format_exception(error))
    try:
        found: Exception = pickle.loads(pickle.dumps(error))  # what was pickled here
    except Exception:  # noqa: BLE001  # an exception of anybody's may need more than its text
        found = RuntimeError(f"{type(error).__name__}: {error}")
    found.add_note(f"on {where}:\n{told}")
    return found


def _unlike(name: str, version: str, where: str) -> Problem | None:
    """What is wrong with a package here; None where it has that version."""
    from importlib import metadata

    remedy = f"install {name} {version} there"
    if name == "quantrecipe":
        from quantrecipe import __version__ as found  # a source tree that isn't installed has it, too
    else:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            return Problem(what=f"the worker on {where} has no {name}", remedy=remedy)
    if found == version:
        return None
    return Problem(what=f"the worker on {where} has {name} {found} (expected: {version})", remedy=remedy)


class Workers(ABC):
    """Workers that were opened for an order. A context manager, which closes them. For one thread at a time.

    `executors.run_tasks` gives them tasks: not more than twice `width` at once, those of lost workers to others, and
    those of slow workers a second time when others have nothing to do. So this needs to know nothing but how to begin
    a task, and what has ended.
    """

    @property
    @abstractmethod
    def width(self) -> int:
        """Tasks that can run at the same time now. It may change: 0 means that workers are yet to come."""

    @property
    def per_machine(self) -> int:
        """How many of them may be on one machine, and share its memory: all, unless the executor knows better."""
        return self.width

    @abstractmethod
    def begin(self, task: Task) -> None:
        """Have a worker do it: at once, or as soon as one is free. A task that is on its way may be begun again."""

    @abstractmethod
    def ended(self, seconds: float) -> Outcome | None:
        """Something that has ended, each once, in any order; waits so long for it. None if nothing has.

        A task that was begun twice ends twice. PluginError where no worker is left, and none will come.
        """

    @abstractmethod
    def close(self) -> None:
        """End all workers. What they are doing is thrown away."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Executor(ABC):
    """Something that runs tasks: threads, processes, a cluster. Instances are immutable: a name and a set of options.

    A worker is opened once from an `Order`, and then does one `Task` after the other. On another machine it has nothing
    but what the order and the tasks say, the packages that are installed there, and the files that both see.
    """

    name: ClassVar[str]
    """What the command line calls it, unique among all installed plugins."""
    summary: ClassVar[str]
    """One line for `quantrecipe plugins`."""
    option_schema: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """JSON Schema of each option that `--executor-option` may give, with `default` and `description`."""

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        """A stray option is a FormatError."""
        self.options = _with_defaults(lambda: self.name, self.option_schema, options)

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """The same executor with these options."""
        return type(self)(options)

    @abstractmethod
    def open(self, order: Order) -> Workers:
        """Workers that call `order.open()` wherever they are. PluginError where there can't be any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeFolder:
    """A folder of recipes that a plugin ships: `PREFIX/NAME` in `extends` means `folder/NAME.yaml`.

    A prefix may end in a version: `mine@v2`. `mine/NAME` then means the newest version that is installed.
    """

    prefix: str
    folder: Path
