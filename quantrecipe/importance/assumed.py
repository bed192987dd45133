"""assumed_importance: a matrix that isn't there, for plans of models that aren't there either.

A recipe may give types that need importance, or ask for it in its conditions. What it would do to a model of which only
the shapes are at hand can be planned as if calibration had reached every matrix. Such a plan has no values to be
executed with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

from quantrecipe.importance.matrix import Importance, ImportanceEntry, digest_of
from quantrecipe.tensor import TensorInfo

__all__ = ["assumed_importance"]

_PATH = Path("assumed-imatrix.gguf")


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
