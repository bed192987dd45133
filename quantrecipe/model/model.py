"""Model: what a model file holds, under the names that the GGUF will use; and where its bytes are.

Who asks for the number of layers, or for any other hyper-parameter, asks the Model: it is the one place that knows
what stands for what a file leaves out, and that some files give a number for each layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from quantrecipe.errors import ModelError
from quantrecipe.gguf.values import GGUFValue
from quantrecipe.layer_ranges import layer_ranges
from quantrecipe.model.source.source import TensorSource
from quantrecipe.notebook import Shown, data_frame
from quantrecipe.plain_data import fields_of
from quantrecipe.tensor import TensorInfo, head_name

if TYPE_CHECKING:
    import pandas

__all__ = ["Container", "Model"]

Container = Literal["gguf", "huggingface", "safetensors", "shapes"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """Tensors and metadata of a model, read from headers alone.

    path:      as the user gave it
    container: what it was read from
    arch:      GGUF architecture name ("llama"); "" where a GGUF doesn't say
    tensors:   in the source's order, GGUF names
    metadata:  the key-value pairs of the GGUF, in the order in which they are written; those that describe a
               quantization (`general.file_type`, `general.quantization_version`) are the source's, and a
               Hugging Face folder's stand where llama.cpp's converter puts them, with what BF16 has there
    sources:   by tensor name: what each is made of, with the shape and dtype of the tensor
    alignment: of tensor data in the GGUF
    files:     every file that was read
    """

    path: Path
    container: Container
    arch: str
    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, GGUFValue]
    sources: Mapping[str, TensorSource]
    alignment: int = 32
    files: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        """A line: a model has hundreds of tensors, and its metadata a vocabulary."""
        weights = sum(it.size for it in self.tensors)
        return (
            f"<Model {str(self.path)!r}: {self.arch or self.container}, {self.n_blocks} layers, "
            f"{weights:,} weights in {len(self.tensors)} tensors>"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: a line for each role and shape."""
        return self._shown().html()

    def __rich__(self) -> Shown:
        """What rich prints: the same."""
        return self._shown()

    def _shown(self) -> Shown:
        groups: dict[tuple[str, tuple[int, ...], str], list[TensorInfo]] = {}
        for it in self.tensors:
            groups.setdefault((it.role, it.shape, it.dtype), []).append(it)
        rows = [
            (
                role,
                layer_ranges(it.layer for it in members if it.layer is not None),
                str(len(members)),
                " × ".join(map(str, shape)),
                dtype,
                f"{sum(it.size for it in members):,}",
            )
            for (role, shape, dtype), members in groups.items()
        ]
        headings = ("tensor", "layers", "count", "shape", "type", "weights")
        return Shown(
            title=repr(self)[1:-1],
            headings=headings,
            rows=rows,
            numbers=("count", "weights"),
            texts=("tensor", "layers"),
        )

    def to_pandas(self) -> pandas.DataFrame:
        """A data frame with a line for each tensor, in the source's order. ImportError where there is no pandas."""
        columns = ("name", "layer", "role", "shape", "dtype", "size")
        return data_frame([fields_of(it, *columns) for it in self.tensors], columns)

    @property
    def has_weights(self) -> bool:
        """Whether there are bytes to read: a shape file describes a model without them."""
        return self.container != "shapes"

    def require_weights(self, remedy: str) -> None:
        """Raise a ModelError, with this remedy, if there are no weights."""
        if not self.has_weights:
            raise ModelError("has the shapes of a model, but no weights", remedy, file=self.path)

    def source_type(self, tensor: TensorInfo) -> str:
        """How the tensor's weights are stored: its type, or FP8, INT4, … where they become numbers while they are read.

        Where there are no weights, the type that the shape file says.
        """
        source = self.sources.get(tensor.name)
        return tensor.dtype if source is None else source.stored_type

    @property
    def head(self) -> str | None:
        """Name of the tensor that makes the logits: the output matrix, or the embedding that stands in for it."""
        return head_name(self.tensors)

    @property
    def n_blocks(self) -> int:
        """How many blocks (`blk.N.`) the model has, those for next-token prediction (nextn, MTP) included."""
        # A file without hyper-parameters, such as bare safetensors, still has its tensors.
        seen = max((tensor.layer + 1 for tensor in self.tensors if tensor.layer is not None), default=0)
        return self.number("block_count", seen)

    @property
    def n_layers(self) -> int:
        """How many layers every token goes through: the blocks without those for next-token prediction."""
        return max(0, self.n_blocks - self.number("nextn_predict_layers"))

    def hyperparameter(self, key: str) -> Any:
        """What the metadata has under ARCHITECTURE.KEY: a plain value, a list, or None where there is none."""
        value = self.metadata.get(f"{self.arch}.{key}")
        return None if value is None else value.decode()

    def number(self, key: str, default: int = 0, *, layer: int = 0) -> int:
        """A hyper-parameter as a whole number: that of the layer, where the file has one for each.

        `default` stands for what is missing, and for what is no number.
        """
        value = self.hyperparameter(key)
        if isinstance(value, list):
            value = value[layer] if layer < len(value) else None
        return int(value) if isinstance(value, int | float) and math.isfinite(value) else default
