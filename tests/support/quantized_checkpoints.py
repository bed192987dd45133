"""Checkpoints whose weights are quantized: recorded layers (tests/data/quantized), with content remade from names."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from quantrecipe.model.architectures.config import Config
from quantrecipe.model.checkpoint import open_checkpoint
from quantrecipe.model.safetensors import Checkpoint

__all__ = ["DATA", "Dtypes", "checkpoint_of", "config_of", "content", "recorded", "write_checkpoint"]

DATA = Path(__file__).parents[1] / "data" / "quantized"
Dtypes = Mapping[str, tuple[str, Sequence[int]]]
"""Name → dtype and shape, as tests/data/quantized/README.md explains them."""

_NARROW = {
    "BF16": 2,
    "F16": 2,
    "F32": 4,
    "U8": 1,
    "I32": 4,
    "I64": 8,
    "F8_E4M3": 1,
    "F8_E8M0": 1,
    "F8_E5M2": 1,
    "I8": 1,
}


def recorded(name: str) -> dict[str, Any]:
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def content(name: str, dtype: str, shape: Sequence[int]) -> bytes:
    """Ordinary numbers of this type, from SHAKE-128 of the name."""
    count = prod(shape)
    random = hashlib.shake_128(name.encode()).digest

    def floats(kept: int, added: int) -> Any:
        return np.frombuffer(random(2 * count), "<u2") & kept | added

    match dtype:
        case "BF16" | "F32":
            bits = floats(0x83FF, 0x3C00)
        case "BF16+" | "F32+":
            bits = floats(0x03FF, 0x3C00)
        case "F16":
            bits = floats(0x8FFF, 0x2000)
        case "F8_E5M2":
            bits = np.frombuffer(random(count), np.uint8) & 0xBF
        case "F8_E4M3":
            bits = np.frombuffer(random(count), np.uint8).copy()
            bits[bits & 0x7F == 0x7F] = 0x38  # no NaN
        case "U8E" | "F8_E8M0":
            bits = (np.frombuffer(random(count), np.uint8) % 8 + 120).astype(np.uint8)
        case "U8" | "I8" | "I32":
            return random(count * _NARROW[dtype])
        case "F32=1":
            bits = np.full(count, 0x3F80, "<u2")
        case _ if dtype.startswith("I64="):
            bits = np.array(json.loads(dtype.removeprefix("I64=")), "<i8")
        case _ if dtype.startswith("I32/"):
            bits = (np.arange(count) // int(dtype.removeprefix("I32/"))).astype("<i4")
        case _:
            raise ValueError(dtype)
    if dtype.startswith("F32"):
        bits = bits.astype("<u4") << 16
    return bits.astype(bits.dtype.newbyteorder("<")).tobytes()


def stored_dtype(dtype: str) -> str:
    """The dtype in the header: "F32" of "F32+"."""
    return {"U8E": "U8"}.get(dtype, dtype.split("=")[0].split("/")[0].rstrip("+"))


def write_checkpoint(path: Path, dtypes: Dtypes) -> None:
    """A safetensors file of these tensors."""
    header: dict[str, Any] = {}
    data = []
    offset = 0
    for name, (dtype, shape) in dtypes.items():
        data.append(content(name, dtype, shape))
        end = offset + len(data[-1])
        header[name] = {"dtype": stored_dtype(dtype), "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"".join(data))


def config_of(folder: Path, settings: Any) -> Config:
    """A config.json that says only how the weights are quantized."""
    return Config(path=folder / "config.json", values={"quantization_config": settings}, rope={})


def checkpoint_of(folder: Path, dtypes: Dtypes) -> Checkpoint:
    write_checkpoint(folder / "model.safetensors", dtypes)
    return open_checkpoint(folder)
