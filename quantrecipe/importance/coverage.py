"""Coverage: what an importance matrix has to say on a model, known before any work starts.

Typical gaps: `token_embd` and, unless llama-imatrix was asked for it, `output`; MTP layers, which no
calibration runs; experts that the calibration text never reached.

Of a model of which only the shapes are at hand there is no matrix. Plans that need one are made as if calibration had
reached every matrix (`assumed_importance`); they have no values to be executed with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from quantrecipe.errors import ImportanceError
from quantrecipe.importance.matrix import Fit, Importance, ImportanceEntry, digest_of
from quantrecipe.plain_data import fields_of
from quantrecipe.tensor import TensorInfo, nextn_layers, tensor_order

__all__ = ["Coverage", "TensorCoverage", "assumed_importance", "coverage"]

_PATH = Path("assumed-imatrix.gguf")


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorCoverage:
    """A tensor, and how the importance matrix fits it."""

    tensor: TensorInfo
    fit: Fit

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        return {
            "name": self.tensor.name,
            **fields_of(self.fit, "status", "expected", "found"),
            "experts": self.tensor.experts,
            "unseen_experts": self.fit.unseen,
            "entry": self.fit.entry or None,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """What an importance matrix covers.

    importance: the matrix
    tensors:    the tensors that were asked about, in the order layer, name
    unmatched:  names of entries that belong to no tensor of the model, and stand in for none
    nextn:      numbers of the layers for next-token prediction (MTP), which calibration usually doesn't run
    """

    importance: Importance
    tensors: tuple[TensorCoverage, ...]
    unmatched: tuple[str, ...] = ()
    nextn: tuple[int, ...] = ()

    @property
    def covered(self) -> tuple[TensorCoverage, ...]:
        """Tensors that have importance; those with unseen experts are among them."""
        return tuple(item for item in self.tensors if item.fit.usable)

    @property
    def partly(self) -> tuple[TensorCoverage, ...]:
        """Tensors with experts that calibration never reached."""
        return self._with("unseen experts")

    @property
    def missing(self) -> tuple[TensorCoverage, ...]:
        """Tensors that the matrix says nothing of."""
        return self._with("missing")

    @property
    def misfit(self) -> tuple[TensorCoverage, ...]:
        """Tensors whose entry has the wrong size."""
        return self._with("misfit")

    @property
    def standing_in(self) -> tuple[TensorCoverage, ...]:
        """Tensors that take the entry of another matrix, which sees the same inputs."""
        return tuple(item for item in self.tensors if item.fit.entry not in ("", item.tensor.name))

    def _with(self, status: str) -> tuple[TensorCoverage, ...]:
        return tuple(item for item in self.tensors if item.fit.status == status)

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        return {
            "file": self.importance.path,
            **fields_of(self.importance, "layout", "digest", "datasets", "chunks"),
            "entries": len(self.importance.entries),
            "tensors": self.tensors,
            "unmatched_entries": self.unmatched,
            "nextn_layers": self.nextn,
        }


def coverage(
    tensors: Iterable[TensorInfo], importance: Importance, *, model: Iterable[TensorInfo]
) -> Coverage:
    """How the matrix fits each of `tensors`, those that are to be quantized; `model` has all there are.

    ImportanceError where most entries fit no tensor of the model: it is the matrix of another one.
    """
    asked = sorted(tensors, key=tensor_order)
    known = {tensor.name: tensor for tensor in (*model, *asked)}
    used = {e.name for it in known.values() if importance.covers(it) for e in importance.entries_of(it)}
    unmatched = tuple(sorted(importance.entries.keys() - known.keys() - used))
    fitting = len(used)
    if 2 * fitting < len(importance.entries):
        raise _of_another_model(importance, known, unmatched, fitting)
    return Coverage(
        importance=importance,
        tensors=tuple(TensorCoverage(tensor=tensor, fit=importance.fit(tensor)) for tensor in asked),
        unmatched=unmatched,
        nextn=tuple(sorted(nextn_layers(known.values()))),
    )


def _of_another_model(
    importance: Importance, known: dict[str, TensorInfo], unmatched: tuple[str, ...], fitting: int
) -> ImportanceError:
    total = len(importance.entries)
    wrong = [
        f"{name} has {entry.size:,} values (expected: {known[name].cols * known[name].experts:,})"
        for name, entry in importance.entries.items()
        if name in known and not importance.covers(known[name])
    ]
    example = wrong[0] if wrong else f"the model has no tensor {unmatched[0]}"
    return ImportanceError(
        f"is the importance matrix of another model: {fitting} of its {total} entries match it ({example})",
        "make one from this model with llama-imatrix",
        file=importance.path,
    )


def assumed_importance(tensors: Sequence[TensorInfo]) -> Importance:
    """Importance that covers every matrix of `tensors` but the embeddings, which calibration leaves out."""
    entries = {
        tensor.name: ImportanceEntry(
            name=tensor.name,
            size=tensor.cols * tensor.experts,
            counts=(1,) * tensor.experts,
            layout="gguf",
            path=_PATH,
            offset=0,
            digest="assumed",
        )
        for tensor in tensors
        if tensor.name.endswith(".weight") and len(tensor.shape) > 1 and tensor.layer is not None
    }
    return Importance(
        path=_PATH, layout="gguf", entries=MappingProxyType(entries), digest=digest_of("gguf", entries)
    )
