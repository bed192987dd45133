"""From a tensor in a safetensors file to a tensor that a GGUF can hold, or the reason why none can."""

from __future__ import annotations

from quantrecipe.errors import ModelError
from quantrecipe.model.safetensors import StoredTensor
from quantrecipe.tensor import TensorInfo

__all__ = ["as_tensor_info"]

_READABLE = {"F64", "F32", "F16", "BF16", "I8", "I16", "I32", "I64"}  # ggml has the same, by the same names
_MAX_DIMS = 4  # ggml: GGML_MAX_DIMS


def as_tensor_info(stored: StoredTensor, name: str | None = None) -> TensorInfo:
    """The tensor as it is called in the GGUF. ModelError for dtypes and shapes that a GGUF can't hold."""
    if stored.dtype not in _READABLE:
        remedy = "start from the model's BF16, F16 or F32 weights"
        _fail(stored, f"has the dtype {stored.dtype}, which can't be converted", remedy)
    if len(stored.shape) > _MAX_DIMS:
        what = f"has {len(stored.shape)} dimensions; a GGUF holds at most {_MAX_DIMS}"
        _fail(stored, what, "drop or reshape it in the file")
    if 0 in stored.shape:
        _fail(stored, f"is empty: its shape is {stored.shape}", "drop it from the file")
    return TensorInfo.from_name(stored.name if name is None else name, stored.shape or (1,), stored.dtype)


def _fail(stored: StoredTensor, what: str, remedy: str) -> None:
    raise ModelError(f"tensor {stored.name!r} {what}", remedy, file=stored.extent.path)
