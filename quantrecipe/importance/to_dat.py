"""A measurement as a legacy .dat importance matrix (layout: see `dat`): the bytes that llama-imatrix writes.

The layout has one number of calls for each tensor, where a GGUF has tokens for each expert. So means are kept,
and how sure they are is not: an expert that saw one token looks like its busy neighbours. Experts that
calibration never reached get ones, which is what llama-quantize makes of them, too.

Source: llama.cpp, tools/imatrix/imatrix.cpp: save_imatrix_legacy.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from quantrecipe.errors import ImportanceError
from quantrecipe.importance.measurement import (
    DEFAULT_CHUNK_SIZE,
    EncodedImportance,
    MeasuredTensor,
    Measurement,
)

__all__ = ["encode_dat"]

_I32 = struct.Struct("<i")
_LARGEST = 2**31 - 1  # the layout has 32-bit numbers


def encode_dat(measurement: Measurement) -> EncodedImportance:
    """The file. ImportanceError where nothing at all was seen, or a number is too large for the layout."""
    stored = [tensor for tensor in measurement.tensors if tensor.unseen < len(tensor.counts)]
    if not stored:
        raise ImportanceError("no tensor was seen in calibration, so a .dat file would be empty")
    numbers = (measurement.chunks, *(tensor.size for tensor in stored))
    numbers += tuple(_calls(tensor, measurement.chunk_size) for tensor in stored)
    if max(numbers) > _LARGEST:
        raise ImportanceError(f"the number {max(numbers):,} is too large for a .dat file", "write a GGUF")
    dataset = measurement.datasets[-1].encode() if measurement.datasets else b""  # as llama-imatrix chooses
    trailer = _I32.pack(measurement.chunks) + _I32.pack(len(dataset)) + dataset

    def pieces() -> Iterator[bytes]:
        yield _I32.pack(len(stored))
        for tensor in stored:
            yield from _entry(tensor, measurement.chunk_size)
        yield trailer

    entries = sum(3 * _I32.size + len(tensor.name.encode()) + 4 * tensor.size for tensor in stored)
    return EncodedImportance(
        layout="dat",
        nbytes=_I32.size + entries + len(trailer),
        pieces=pieces,
        lost=_lost(measurement, stored),
    )


def _calls(tensor: MeasuredTensor, chunk_size: int) -> int:
    """How many chunks the tensor saw, rounded up."""
    return -(-max(tensor.counts) // chunk_size)


def _entry(tensor: MeasuredTensor, chunk_size: int) -> Iterator[bytes]:
    name, calls = tensor.name.encode(), _calls(tensor, chunk_size)
    yield _I32.pack(len(name)) + name + _I32.pack(calls) + _I32.pack(tensor.size)
    values = tensor.sums()
    for number, count in enumerate(tensor.counts):
        if count == 0:
            values[number] = 1
        else:
            values[number] /= np.float32(count)
    values *= np.float32(calls)
    yield values.astype("<f4", copy=False).tobytes()


def _lost(measurement: Measurement, stored: list[MeasuredTensor]) -> tuple[str, ...]:
    size = measurement.chunk_size
    lost = []
    if several := [tensor for tensor in stored if len(set(tensor.counts)) > 1]:
        lost.append(f"how many tokens each expert saw ({_tensors(len(several))})")
    if any(count % size for tensor in stored for count in tensor.counts[:1] if len(tensor.counts) == 1):
        lost.append(f"counts of tokens that are no whole chunks of {size}")
    if unseen := sum(tensor.unseen for tensor in stored):
        experts = "1 expert" if unseen == 1 else f"{unseen:,} experts"
        lost.append(f"that {experts} saw no token: their importance is 1, as llama-quantize has it")
    if absent := len(measurement.tensors) - len(stored):
        lost.append(f"{_tensors(absent)} that saw no token at all")
    if size != DEFAULT_CHUNK_SIZE:
        lost.append(f"the chunk size, {size}")
    if measurement.provenance is not None:
        lost.append("where it comes from (the model, the texts and how they were run)")
    if len(measurement.datasets) > 1:
        lost.append(f"calibration texts but the last: {', '.join(measurement.datasets[:-1])}")
    return tuple(lost)


def _tensors(count: int) -> str:
    return "1 tensor" if count == 1 else f"{count:,} tensors"
