"""open_pickled: weights that PyTorch saved as pickles (pytorch_model.bin), read where they lie, if the user says so.

    pytorch_model.bin                             one file
    pytorch_model.bin.index.json                  {"weight_map": {"NAME": "pytorch_model-00001-of-00002.bin", …}}
    pytorch_model-00001-of-00002.bin, …           shards

A pickle is a program, which runs when it is opened. PyTorch's loader for weights runs none of it, but for a short list
of functions that make tensors (`torch.load(…, weights_only=True)`). It runs in a process of its own, on tensors without
content (FakeTensorMode), and tells where in the file each tensor's numbers are. The file is a ZIP whose members aren't
compressed, so they are read from there like those of safetensors: in rows, and with bounded memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

from quantrecipe.errors import ModelError
from quantrecipe.model.safetensors import Checkpoint, StoredTensor, parse_json_object
from quantrecipe.model.source.source import NUMBERS, Extent
from quantrecipe.wording import shortened

__all__ = ["is_pickled", "open_pickled"]

_SAVE = "save the model as safetensors (in transformers: from_pretrained(FOLDER).save_pretrained(NEW))"
_ONE = "pytorch_model.bin"
_INDEX = "pytorch_model.bin.index.json"
_SECONDS = 600
"""For the loader: it reads the list of tensors, and none of their content."""
_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}  # fmt: skip

_PROGRAM = """
import json, sys, zipfile
try:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
except ImportError as error:
    sys.exit(f"no torch: {error}")
if not zipfile.is_zipfile(sys.argv[1]):
    sys.exit("no zip")
with FakeTensorMode():
    found = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
if not isinstance(found, dict):
    sys.exit("no dictionary")
told = []
for name, it in found.items():
    if isinstance(it, torch.Tensor):
        start = getattr(it.untyped_storage(), "_checkpoint_offset", None)
        if start is None:
            sys.exit("no offsets")
        start += it.storage_offset() * it.element_size()
        told.append([name, str(it.dtype).removeprefix("torch."), list(it.shape), it.is_contiguous(), start])
print(json.dumps(told))
"""


def is_pickled(folder: Path) -> bool:
    """True where a folder's weights are pickles, and there are no safetensors."""
    return next(_files(folder), None) is not None


def open_pickled(folder: Path, *, allow: bool) -> Checkpoint:
    """The checkpoint of a folder of pickles. ModelError unless `allow`, and for what can't be read so."""
    files = tuple(_files(folder))
    if not allow:
        what = f"holds its weights as pickles ({files[0].name}), which are programs that run when they are opened"
        remedy = (
            f"{_SAVE}; or let PyTorch's weights-only loader read them: --allow-pickle (pip install torch)"
        )
        raise ModelError(what, remedy, file=folder)
    tensors: dict[str, StoredTensor] = {}
    for path in files:
        for name, stored in _tensors(path):
            if name in tensors:
                what = f"tensor {name!r} is also in {tensors[name].extent.path.name}"
                raise ModelError(what, "delete the file that isn't part of the model", file=path)
            tensors[name] = stored
    if not tensors:
        raise ModelError("holds no tensors", "give a file that holds a model", file=files[0])
    index = folder / _INDEX
    return Checkpoint(tensors=tensors, files=files, metadata={}, index=index if index.is_file() else None)


def _files(folder: Path) -> Iterator[Path]:
    """The files with weights, in order."""
    index = folder / _INDEX
    if not index.is_file():
        found = sorted(folder.glob("pytorch_model*.bin"))
        yield from [folder / _ONE] if folder / _ONE in found else found
        return
    weight_map = parse_json_object(index.read_bytes(), index, "the index").get("weight_map")
    names = set(weight_map.values()) if isinstance(weight_map, Mapping) else set()
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise ModelError("has no weight_map of file names", "download the model again", file=index)
    for name in sorted(names):
        if not (folder / name).is_file():
            raise ModelError(f"{name} is missing", "download the model again", file=folder)
        yield folder / name


def _tensors(path: Path) -> Iterator[tuple[str, StoredTensor]]:
    size = path.stat().st_size
    for name, dtype, shape, contiguous, start in _told(path):
        if dtype not in _DTYPES or not contiguous:
            how = f"is {dtype}" if dtype not in _DTYPES else "lies in the file in another order than its rows"
            raise ModelError(f"tensor {name!r} {how}, which can't be read", _SAVE, file=path)
        kind = _DTYPES[dtype]
        nbytes = prod(shape) * NUMBERS[kind][1]
        if not 0 <= start <= size - nbytes:
            raise ModelError(
                f"tensor {name!r} reaches beyond the end of the file", "download it again", file=path
            )
        extent = Extent(path=path, offset=start, nbytes=nbytes, file_size=size)
        yield name, StoredTensor(name=name, dtype=kind, shape=tuple(shape), extent=extent)


def _told(path: Path) -> list[tuple[str, str, list[int], bool, int]]:
    """What the loader says of each tensor: name, type, shape, whether its rows follow each other, the first byte."""
    command = [sys.executable, "-c", _PROGRAM, str(path.resolve())]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"PyTorch didn't open it in {_SECONDS} s", _SAVE, file=path) from error
    said = result.stderr.strip().splitlines()
    last = said[-1] if said else ""
    if result.returncode == 0:
        found: Any = json.loads(result.stdout)
        return [tuple(item) for item in found]
    known = {
        "no torch": ("can only be read by PyTorch, which isn't installed", f"pip install torch, or {_SAVE}"),
        "no zip": ("is a pickle of PyTorch's old kind (before 1.6)", _SAVE),
        "no dictionary": ("holds no dictionary of tensors", _SAVE),
        "no offsets": ("can't be read by this PyTorch", f"pip install 'torch>=2.7', or {_SAVE}"),
    }
    for begin, (what, remedy) in known.items():
        if last.startswith(begin):
            raise ModelError(what, remedy, file=path)
    if "Weights only load failed" in result.stderr or "UnpicklingError" in result.stderr:
        what = "holds more than weights: PyTorch's weights-only loader refuses it"
        raise ModelError(what, "don't open it, unless you know who made it", file=path)
    raise ModelError(f"PyTorch can't open it: {shortened(last)}", "download it again", file=path)
