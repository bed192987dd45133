"""Tiny folders of many architectures, and what llama.cpp's converter made of each (tests/data/architectures/README.md).

    for name in NAMES: write_recorded(name, tmp_path), read_recorded(name)
    for name in VARIANTS: the same of variants, which have no vocabulary

Weights are remade from their names: bytes of SHAKE-128, formed into ordinary numbers of the tensor's type.
"""

from __future__ import annotations

import base64
import hashlib
import json
import lzma
import struct
import tarfile
from collections.abc import Callable, Mapping
from functools import cache
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DRAFT_HEADS",
    "NAMES",
    "PROJECTORS",
    "VARIANTS",
    "edit_config",
    "inexact",
    "read_recorded",
    "read_variant",
    "write_edited",
    "write_recorded",
    "write_variant",
    "write_weights",
]

_DATA = Path(__file__).parents[1] / "data" / "architectures"
_ARCHIVES = sorted(_DATA.glob("*.tar.xz"))
_VARIANTS_FILES = sorted(_DATA.glob("variants*.json.xz"))
_WIDTHS = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1, "F8_E8M0": 1, "U8": 1, "I8": 1, "I32": 4, "I64": 8}


@cache
def _archive() -> Mapping[str, Mapping[str, bytes]]:
    """The archives' content: folder → file → bytes. They are read once, in a tenth of a second."""
    found: dict[str, dict[str, bytes]] = {}
    for path in _ARCHIVES:
        with tarfile.open(path) as archive:
            for member in archive:
                name, _, rest = member.name.partition("/")
                file = archive.extractfile(member)
                if file is not None:
                    found.setdefault(name, {})[rest] = file.read()
    return found


def _having(file: str) -> tuple[str, ...]:
    return tuple(sorted(name for name, files in _archive().items() if file in files))


NAMES = _having("reference.json")
PROJECTORS = _having("reference-mmproj.json")
DRAFT_HEADS = _having("reference-mtp.json")


def read_recorded(name: str, file: str = "reference.json") -> dict[str, Any]:
    """A JSON file of a folder: weights.json, reference.json and those of parts, meta.json (perhaps absent: {})."""
    return dict(json.loads(_archive()[name].get(file, b"{}")))


def inexact(name: str) -> dict[str, bytes]:
    """Tensors that the converter computes by functions that differ from library to library, by the last bit."""
    found = read_recorded(name, "meta.json").get("inexact", {})
    return {tensor: base64.b64decode(raw) for tensor, raw in found.items()}


def write_recorded(
    name: str, parent: Path, change: Callable[[dict[str, tuple[str, list[int]]]], object] | None = None
) -> Path:
    """The folder, made whole under `parent`; `change` may alter the weights: name → type and shape."""
    folder = parent
    for file, raw in _archive()[name].items():
        path = PurePosixPath(file)
        if path.parts[0] == "hf":
            folder = parent / path.parts[1]
            target = folder.joinpath(*path.parts[2:])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(raw)
    tensors = read_recorded(name, "weights.json")
    if change is not None:
        change(tensors)
    write_weights(folder / "model.safetensors", tensors)
    return folder


def write_edited(
    name: str,
    parent: Path,
    change: Callable[[dict[str, tuple[str, list[int]]]], object] | None = None,
    **values: Any,
) -> Path:
    """The same with other hyper-parameters in config.json; `...` takes one out."""
    folder = write_recorded(name, parent, change)
    path = folder / "config.json"
    whole = {**json.loads(path.read_text(encoding="utf-8")), **values}
    path.write_text(json.dumps({key: value for key, value in whole.items() if value is not ...}))
    return folder


def edit_config(
    folder: Path, edit: Callable[[dict[str, Any]], object] = lambda values: None, **more: Any
) -> Path:
    """The folder again, after `edit` changed the content of its config.json; `more` are values at its root."""
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    edit(values)
    path.write_text(json.dumps(values | more), encoding="utf-8")
    return folder


@cache
def _variants() -> Mapping[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for file in _VARIANTS_FILES:
        found |= json.loads(lzma.decompress(file.read_bytes()))
    return found


VARIANTS = tuple(sorted(_variants()))


def write_variant(
    name: str, parent: Path, weights: Mapping[str, tuple[str, list[int]] | None] | None = None, **changes: Any
) -> Path:
    """The folder of a variant, which has no vocabulary.

    `changes` are for config.json's root, `weights` for the checkpoint: type and shape; None takes something out.
    """
    folder = parent / name
    folder.mkdir()
    config = {**_variants()[name]["config"], **changes}
    config = {key: value for key, value in config.items() if key not in changes or value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    for file, content in _variants()[name].get("files", {}).items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(json.dumps(content))
    tensors = {**_variants()[name]["weights"], **(weights or {})}
    write_weights(folder / "model.safetensors", {name: it for name, it in tensors.items() if it is not None})
    return folder


def read_variant(name: str) -> dict[str, Any]:
    """Its "config", "weights", perhaps other "files", and the converter's answer: "metadata" and "tensors"."""
    return _variants()[name]


def write_weights(path: Path, tensors: Mapping[str, tuple[str, list[int]]]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset, parts = 0, []
    for name, (kind, shape) in tensors.items():
        raw = _content(name, kind, prod(shape))
        header[name] = {
            "dtype": _dtype(kind),
            "shape": list(shape),
            "data_offsets": [offset, offset + len(raw)],
        }
        parts.append(raw)
        offset += len(raw)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(parts))


def _dtype(kind: str) -> str:
    """The type that safetensors has for one of weights.json: "BF16+" has BF16 numbers above zero."""
    for begin in ("I64", "I32", "BF16", "F32"):
        if kind.startswith(begin):
            return begin
    return "U8" if kind == "U8E" else kind


def _content(name: str, kind: str, count: int) -> bytes:
    def drawn(nbytes: int, dtype: str) -> NDArray[Any]:
        return np.frombuffer(hashlib.shake_128(name.encode()).digest(nbytes), dtype)

    if kind == "BF160":
        return bytes(2 * count)
    if kind in ("BF16", "BF16+", "F32", "F32+"):  # between 2^-7 and 2; "+" leaves out the sign
        numbers = (drawn(2 * count, "<u2") & (0x03FF if kind.endswith("+") else 0x83FF)) | 0x3C00
        if kind.startswith("BF16"):
            return numbers.astype("<u2").tobytes()
        return (numbers.astype("<u4") << 16).astype("<u4").tobytes()
    if kind == "F16":
        return ((drawn(2 * count, "<u2") & 0x8FFF) | 0x2000).astype("<u2").tobytes()
    if kind == "F8_E4M3":
        raw = drawn(count, "u1").copy()
        raw[(raw & 0x7F) == 0x7F] = 0x38  # no NaN
        return raw.tobytes()
    if kind in ("U8E", "F8_E8M0"):  # exponents
        return (drawn(count, "u1") % 8 + 120).astype("u1").tobytes()
    if kind == "I64%4":
        return (drawn(count, "u1") % 4).astype("<i8").tobytes()
    if kind.startswith("I64="):
        return np.array(json.loads(kind[4:]), "<i8").tobytes()
    if kind.startswith("F32="):
        return np.array(json.loads(kind[4:]), "<f4").tobytes()
    if kind.startswith("I32/"):
        return (np.arange(count) // int(kind[4:])).astype("<i4").tobytes()
    return drawn(count * _WIDTHS[kind], "u1").tobytes()
