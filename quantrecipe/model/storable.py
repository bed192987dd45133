"""What a GGUF can hold: a tensor of a checkpoint as one of a GGUF, or the reason why it can't be."""

from __future__ import annotations

from pathlib import Path
from typing import Never

from quantrecipe.errors import ModelError
from quantrecipe.model.source.source import Shape, TensorSource
from quantrecipe.tensor import MAX_DIMS, TensorInfo

__all__ = ["as_ggml_writes", "as_tensor_info", "check_name", "check_storable"]

_READABLE = {"F64", "F32", "F16", "BF16", "I8", "I16", "I32", "I64", "MXFP4", "NVFP4"}  # ggml's names, too
_MAX_NAME = 64  # ggml: GGML_MAX_NAME, a terminating zero included


def as_ggml_writes(shape: Shape) -> Shape:
    """Without outer lengths of 1: ggml has four lengths for every tensor, and writes up to the last that isn't 1."""
    outer = next((place for place, length in enumerate(shape[:-1]) if length != 1), max(len(shape) - 1, 0))
    return shape[outer:]


def as_tensor_info(source: TensorSource, name: str | None = None) -> TensorInfo:
    """The tensor as it is called in the GGUF. ModelError for what a GGUF can't hold.

    name: the one that llama.cpp knows, in a Hugging Face folder; then it has to be what llama.cpp can load, too.
    Without one the tensor keeps its own, and may be for another program.
    """
    if name is None:
        _check_dtype(source)
    else:
        check_storable(source)
    name = source.stored_name if name is None else name
    check_name(name, source.extents[0].path if source.extents else None)
    return TensorInfo.from_name(name, source.shape, source.dtype)


def check_storable(source: TensorSource) -> None:
    """ModelError for dtypes that a GGUF can't hold, and for shapes that llama.cpp doesn't load."""
    _check_dtype(source)
    if len(source.shape) > MAX_DIMS:
        what = f"has {len(source.shape)} dimensions; llama.cpp loads at most {MAX_DIMS}"
        _fail(source, what, "drop or reshape it in the file")
    if 0 in source.shape:
        _fail(source, f"is empty: its shape is {source.shape}", "drop it from the file")


def _check_dtype(source: TensorSource) -> None:
    if source.dtype not in _READABLE:
        remedy = "start from the model's BF16, F16 or F32 weights"
        _fail(source, f"has the dtype {source.dtype}, which can't be converted", remedy)


def check_name(name: str, file: Path | None) -> None:
    """Raise a ModelError for a name that ggml has no room for."""
    if (size := len(name.encode())) >= _MAX_NAME:
        what = f"the name of tensor {name!r} has {size} bytes; ggml loads at most {_MAX_NAME - 1}"
        raise ModelError(what, "rename it, or leave it out", file=file)


def _fail(source: TensorSource, what: str, remedy: str) -> Never:
    raise ModelError(f"tensor {source.stored_name!r} {what}", remedy, file=source.extents[0].path)
