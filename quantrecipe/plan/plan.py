"""Plan: what will be written, tensor by tensor, to the byte. A value: printable, comparable, serialisable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from quantrecipe.api import Encoder, QuantFormat
from quantrecipe.gguf.values import GGUFValue
from quantrecipe.model.model import Model
from quantrecipe.notebook import Shown, data_frame
from quantrecipe.plain_data import fields_of, plain, rounded_bits
from quantrecipe.plan.spending import Spending
from quantrecipe.tensor import TensorInfo
from quantrecipe.units import bytes_text

if TYPE_CHECKING:  # most plans have no matrix: what reads one is loaded with it
    import pandas

    from quantrecipe.importance.coverage import Coverage
    from quantrecipe.importance.matrix import Importance
    from quantrecipe.plan.statistics import Statistics

__all__ = ["Assignment", "Plan", "PlannedFile"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """What a plan makes of one tensor.

    tensor:     as the source has it
    format:     the type it gets, with the rule's options
    nbytes:     of its data in the output
    offset:     of its data, from the start of the file that it is in
    because:    what decided: `recipes/code-model.yaml:14`, or why it stays as it is
    why:        the rule's reason
    wanted:     the type that the recipe asked for, where a fallback took its place, else None
    misfit:     why the wanted type doesn't accept the tensor, else ""
    copied:     True where the source's bytes are the output's bytes
    importance: True where the importance matrix covers the tensor and the format uses it
    owner:      of a companion tensor: the name of the tensor whose factors it holds, else None
    encoding:   XXH3-128, in hex, of all that its bytes depend on besides the source: format, options, importance,
                encoder and its statistics
    encoder:    what makes the bytes; None where the format makes them by itself
    inputs:     the name under which the statistics have the tensor's input, "" where none are used
    made_of:    digest of those statistics
    settled:    options that the encoder leaves to the statistics, with what they come to: one value, or one for each
                expert, None for those that are left to the format
    lacking:    why the encoder that the recipe wants isn't used, else ""
    """

    tensor: TensorInfo
    format: QuantFormat
    nbytes: int
    offset: int
    because: str
    why: str = ""
    wanted: str | None = None
    misfit: str = ""
    copied: bool = False
    importance: bool = False
    owner: str | None = None
    encoding: str = ""
    encoder: Encoder | None = None
    inputs: str = ""
    made_of: str = ""
    settled: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    lacking: str = ""

    @property
    def type(self) -> str:
        """Name of the type that the tensor gets."""
        return self.format.spec.name

    @property
    def bits_per_weight(self) -> float:
        """Bits per weight as stored; 0 where there are none."""
        return 8 * self.nbytes / self.tensor.size if self.tensor.size else 0.0

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        return {
            **fields_of(self.tensor, "name", "shape"),
            "source_type": self.tensor.dtype,
            "type": self.type,
            "options": self.format.options,
            **fields_of(self, "nbytes", "offset"),
            "bits_per_weight": rounded_bits(self.bits_per_weight),
            **fields_of(self, "because", "why"),
            "fallback_from": self.wanted,
            "fallback_reason": self.misfit,
            "importance": self.importance,
            "encoder": None if self.encoder is None else self.encoder.name,
            "encoder_reason": self.lacking,
            "encoder_settled": self.settled,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedFile:
    """One file of the output: the only one, or one of several shards.

    metadata:    its key-value pairs, in order; where a value is only known once the sources were read (the
                 hashes of `SOURCE_HASHES`), a placeholder of its length stands in
    assignments: in the order in which they are written
    header:      bytes before the first tensor's data
    nbytes:      of the whole file
    """

    metadata: Mapping[str, GGUFValue]
    assignments: tuple[Assignment, ...]
    header: int
    nbytes: int

    def to_json(self) -> dict[str, Any]:
        """The sizes of the file; its tensors stand in the plan."""
        return {"nbytes": self.nbytes, "header_nbytes": self.header, "tensors": len(self.assignments)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A recipe resolved against a model: everything that `apply` needs besides the model's bytes.

    recipe_digest: Recipe.digest
    files:       what will be written: one file, or several shards, the first of which has the metadata
    coverage:    how the importance matrix covers the tensors whose types use it
    digest:      XXH3-128 of what will be written where, in hex
    spending:    what became of the budget, where types were chosen within one
    statistics:  what encoders know of the inputs
    """

    recipe: str
    recipe_file: str
    recipe_digest: str
    model: Model
    files: tuple[PlannedFile, ...]
    importance: Importance | None
    coverage: Coverage | None
    alignment: int
    warnings: tuple[str, ...]
    digest: str
    spending: Spending | None = None
    statistics: Statistics | None = None

    @property
    def assignments(self) -> tuple[Assignment, ...]:
        """What becomes of each tensor, in the order in which they are written."""
        return tuple(a for file in self.files for a in file.assignments)

    @property
    def metadata(self) -> Mapping[str, GGUFValue]:
        """The output's key-value pairs, which the first file has."""
        return self.files[0].metadata

    @property
    def written(self) -> Model:
        """The model as the output describes it: without pruned layers, and with what the recipe's metadata says."""
        return replace(self.model, metadata=self.metadata)

    @property
    def nbytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.nbytes for file in self.files)

    @property
    def size(self) -> int:
        """Number of weights of all tensors together."""
        return sum(a.tensor.size for a in self.assignments)

    @property
    def bits_per_weight(self) -> float:
        """Bits per weight of all tensors' data together."""
        return 8 * sum(a.nbytes for a in self.assignments) / max(1, self.size)

    @property
    def fallbacks(self) -> tuple[Assignment, ...]:
        """The tensors that didn't get the type that the recipe asked for."""
        return tuple(a for a in self.assignments if a.wanted is not None)

    def __repr__(self) -> str:
        """A line, since a plan of a large model has tens of thousands of tensors."""
        return (
            f"<Plan {self.recipe!r} of {str(self.model.path)!r}: {len(self.assignments)} tensors, "
            f"{bytes_text(self.nbytes)}, {self.bits_per_weight:.2f} bits per weight>"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: a line for each group of tensors that are treated alike."""
        return self._shown().html()

    def __rich__(self) -> Shown:
        """What rich prints: the same."""
        return self._shown()

    def _shown(self) -> Shown:
        from quantrecipe.plan.group import group

        rows = [
            (
                it.role,
                it.layers,
                str(len(it.members)),
                it.first.type,
                f"{it.first.bits_per_weight:.2f}",
                bytes_text(it.nbytes),
                it.first.because,
                it.first.why,
            )
            for it in group(self.assignments)
        ]
        headings = ("tensor", "layers", "count", "type", "bits/weight", "size", "decided by", "why")
        return Shown(
            title=repr(self)[1:-1],
            headings=headings,
            rows=rows,
            numbers=("count", "bits/weight", "size"),
            texts=("tensor", "layers", "decided by"),
            extra=("why",),
        )

    def to_pandas(self) -> pandas.DataFrame:
        """A data frame with a line for each tensor, in the order of the file. ImportError where there is no pandas."""
        columns = (
            *(
                "name",
                "layer",
                "role",
                "shape",
                "size",
                "source_type",
                "type",
                "bits_per_weight",
                "nbytes",
            ),
            *("offset", "because", "why", "fallback_from", "importance"),
        )
        records = [
            {
                **fields_of(a.tensor, "name", "layer", "role", "shape", "size"),
                "source_type": a.tensor.dtype,
                **fields_of(a, "type", "bits_per_weight", "nbytes", "offset", "because", "why", "importance"),
                "fallback_from": a.wanted,
            }
            for a in self.assignments
        ]
        return data_frame(records, columns)

    def to_json(self) -> dict[str, Any]:
        """Plain data, as `quantrecipe plan --json` prints it; documented in docs/cli.md."""
        losses = self.spending.losses if self.spending else {}
        document = {
            **fields_of(self, "recipe", "recipe_file"),
            "model": self.model.path,
            "architecture": self.model.arch,
            "weights": self.size,
            "nbytes": self.nbytes,
            "files": self.files,
            "bits_per_weight": rounded_bits(self.bits_per_weight),
            **fields_of(self, "digest", "warnings", "coverage"),
            "budget": self.spending,
            "tensors": [a.to_json() | {"loss": losses.get(a.tensor.name)} for a in self.assignments],
        }
        return plain(document)  # type: ignore[no-any-return]  # a dict stays one
