"""Shape files: a model without its weights, as a small text that can be planned like the model.

    {
      "quantrecipe_shapes": 1,
      "architecture": "llama",
      "metadata": {
        "llama.block_count": 32
      },
      "tensors": [
        {"name": "token_embd.weight", "type": "BF16", "shape": [128256, 4096]},
        {"name": "blk.*.attn_q.weight", "layers": "0-31", "type": "BF16", "shape": [4096, 4096]}
      ]
    }

Tensors of one name, shape and type share a line; `*` stands for the numbers in `layers`. The metadata is what
describes the architecture (keys that begin with its name); the tokenizer stays out, so the header of a planned file
is too small by it. Numbers are u32 and f32, unless {"type": "i64", "value": …} says otherwise, lists too.

The same model gives the same text. `quantrecipe inspect MODEL --shapes` writes it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Annotated, Any, Never

import msgspec
from msgspec import Meta

from quantrecipe.errors import ModelError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.layer_ranges import layer_ranges, read_layer_ranges
from quantrecipe.model.json_file import read_text
from quantrecipe.model.model import Model
from quantrecipe.tensor import TensorInfo, tensor_order
from quantrecipe.typed import Record, json_object, typed

__all__ = ["is_shapes", "open_shapes", "shapes_text"]

_KEY, _VERSION = "quantrecipe_shapes", 1
_TYPES = {
    "u8": ValueType.UINT8, "i8": ValueType.INT8, "u16": ValueType.UINT16, "i16": ValueType.INT16,
    "u32": ValueType.UINT32, "i32": ValueType.INT32, "f32": ValueType.FLOAT32, "bool": ValueType.BOOL,
    "str": ValueType.STRING, "u64": ValueType.UINT64, "i64": ValueType.INT64, "f64": ValueType.FLOAT64,
}  # fmt: skip
_TYPE_NAMES = {type_: name for name, type_ in _TYPES.items()}
_GENERAL = ("general.architecture", "general.file_type", "general.alignment")
_BLOCK = re.compile(r"(?:^|\.)blk\.(0|[1-9][0-9]{0,8})\.")  # of a tower, too: enc.blk.3.attn_q
_MAX_TENSORS = (
    1_000_000  # a line may ask for any number of layers; the largest models have some thousand tensors
)
_MAX_SIZE = 2**60  # weights of a tensor: far above any, and far from what overflows
_MAX_ITEMS = 4096  # of an array: one for each layer or expert, not a vocabulary
_WRITE = "`quantrecipe inspect MODEL --shapes` writes one"


class _Line(Record):
    """Tensors of one name, shape and type."""

    name: Annotated[str, Meta(min_length=1, max_length=300)]
    type: Annotated[str, Meta(min_length=1, max_length=40)]
    shape: Annotated[tuple[Annotated[int, Meta(ge=0, le=_MAX_SIZE)], ...], Meta(max_length=32)]
    layers: Annotated[str, Meta(max_length=10_000)] | None = None


class _Shapes(Record):
    """The content of a shape file."""

    quantrecipe_shapes: int
    architecture: Annotated[str, Meta(min_length=1)]
    tensors: list[_Line]
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


def is_shapes(path: Path) -> bool:
    """True for a file that would hold shapes: JSON, and not the index of a checkpoint."""
    return path.suffix == ".json" and not path.name.endswith(".safetensors.index.json")


def open_shapes(path: Path) -> Model:
    """The model that a shape file describes; it has no sources. ModelError where it isn't one, or makes no sense."""
    try:
        document = json_object(read_text(path))
        if _KEY not in document:
            raise ModelError("is no shape file", _WRITE, file=path)
        if type(document[_KEY]) is not int or document[_KEY] != _VERSION:
            _fail(path, f"is a shape file of version {document[_KEY]!r:.40} (expected: {_VERSION})")
        content = typed(document, _Shapes)
    except ValueError as error:
        _fail(path, f"is no proper shape file: {error}")
    arch = content.architecture
    metadata = {"general.architecture": GGUFValue.of(ValueType.STRING, arch)}
    metadata |= {key: _read_value(path, key, value) for key, value in content.metadata.items()}
    if metadata["general.architecture"].decode() != arch:
        _fail(path, "names two architectures")
    tensors = sorted(_read_tensors(path, content.tensors), key=tensor_order)
    for first, second in pairwise(tensors):
        if first.name == second.name:
            _fail(path, f"has the tensor {first.name!r} twice")
    alignment = metadata["general.alignment"].decode() if "general.alignment" in metadata else 32
    if type(alignment) is not int or alignment < 8 or alignment & (alignment - 1) or alignment > 2**20:
        _fail(path, f"has the alignment {alignment!r:.40} (expected: a power of two)")
    return Model(
        path=path,
        container="shapes",
        arch=arch,
        tensors=tuple(tensors),
        metadata=metadata,
        sources={},
        alignment=alignment,
        files=(path,),
    )


def shapes_text(model: Model, types: Mapping[str, str] | None = None) -> str:
    """The shape file of a model. `types` replaces its tensors' types, by tensor name."""
    lines = [
        "{",
        f'  "{_KEY}": {_VERSION},',
        f'  "architecture": {json.dumps(model.arch)},',
        '  "metadata": {',
        ",\n".join(
            f"    {json.dumps(key)}: {json.dumps(_write_value(value))}"
            for key, value in sorted(model.metadata.items())
            if _describes(key, value, model.arch)
        ),
        "  },",
        '  "tensors": [',
        ",\n".join(f"    {json.dumps(entry)}" for entry in _entries(model, types or {})),
        "  ]",
        "}",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def _describes(key: str, value: GGUFValue, arch: str) -> bool:
    if key == "general.architecture" or not (key in _GENERAL or (arch and key.startswith(f"{arch}."))):
        return False
    return value.type is not ValueType.ARRAY or (len(value) <= _MAX_ITEMS and value.item_type in _TYPE_NAMES)


def _entries(model: Model, types: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[str, str, tuple[int, ...]], list[int]] = {}
    for tensor in sorted(model.tensors, key=tensor_order):
        block = None if "*" in tensor.name else _BLOCK.search(tensor.name)
        name = f"{tensor.name[: block.start(1)]}*{tensor.name[block.end(1) :]}" if block else tensor.name
        layers = groups.setdefault((name, types.get(tensor.name, tensor.dtype), tensor.shape), [])
        if block:
            layers.append(int(block[1]))
    for (name, type_, shape), layers in groups.items():
        where = {"layers": layer_ranges(layers)} if layers else {}
        yield {"name": name, **where, "type": type_, "shape": list(shape)}


def _read_tensors(path: Path, lines: Sequence[_Line]) -> list[TensorInfo]:
    tensors: list[TensorInfo] = []
    for line in lines:
        name = line.name
        if not name.isprintable() or not line.type.isprintable():
            _fail(path, f"has a tensor of the name {name!r:.80} and the type {line.type!r:.40}")
        if math.prod(line.shape) > _MAX_SIZE:
            _fail(path, f"has a tensor of the shape {line.shape!r:.60}: {name}")
        if line.layers is None:
            names = [name]
        elif name.count("*") != 1:
            _fail(path, f"has layers for a tensor whose name doesn't hold one *: {name}")
        else:
            try:
                layers = list(islice(read_layer_ranges(line.layers), _MAX_TENSORS + 1))
            except ValueError:
                _fail(path, f"has layers that aren't like '0-3, 7': {line.layers!r:.60} of {name}")
            names = [name.replace("*", str(layer)) for layer in layers]
        if len(tensors) + len(names) > _MAX_TENSORS:
            _fail(path, f"has more than {_MAX_TENSORS:,} tensors")
        tensors += [TensorInfo.from_name(it, line.shape, line.type) for it in names]
    return tensors


def _write_value(value: GGUFValue) -> Any:
    """Write a value: plainly where it reads back as the same type, else with its type."""
    type_ = value.item_type or value.type
    decoded = value.decode()
    items = [_plain(item, type_) for item in (decoded if isinstance(decoded, list) else [decoded])]
    content = items if isinstance(decoded, list) else items[0]
    if items and all(_natural(item) is type_ for item in items):
        return content
    return {"type": _TYPE_NAMES[type_], "value": content}


def _plain(item: Any, type_: ValueType) -> Any:
    if type_ is ValueType.FLOAT32 and math.isfinite(item):
        import numpy as np  # only to write one: reading plans needs none

        return float(str(np.float32(item)))  # the shortest text that gives the same f32
    return str(item) if isinstance(item, float) and not math.isfinite(item) else item


def _natural(item: Any) -> ValueType | None:
    if isinstance(item, bool):
        return ValueType.BOOL
    if isinstance(item, int):
        return ValueType.UINT32 if 0 <= item < 2**32 else None
    if isinstance(item, float):
        return ValueType.FLOAT32
    return ValueType.STRING if isinstance(item, str) else None


def _read_value(path: Path, key: str, value: Any) -> GGUFValue:
    type_: ValueType | None = None
    if isinstance(value, dict):
        if value.keys() != {"type", "value"} or value["type"] not in list(_TYPES):
            _fail(path, f"has a value that isn't understood, of {key!r:.80}: {value!r:.60}")
        type_, value = _TYPES[value["type"]], value["value"]
    items = value if isinstance(value, list) else [value]
    kinds = {_natural(item) for item in items}
    if type_ is None:
        if len(kinds) != 1 or (type_ := kinds.pop()) is None:
            _fail(path, f"has a value whose type isn't clear, of {key!r:.80}: {value!r:.60}")
    elif not all(_fits(item, type_) for item in items):
        _fail(path, f"has a value that is no {_TYPE_NAMES[type_]}, of {key!r:.80}: {value!r:.60}")
    try:
        return GGUFValue.array(type_, items) if isinstance(value, list) else GGUFValue.of(type_, value)
    except (ModelError, UnicodeEncodeError) as error:
        _fail(path, f"has a value that doesn't fit its type, of {key!r:.80}: {error}")


def _fits(item: Any, type_: ValueType) -> bool:
    if type_ in (ValueType.STRING, ValueType.BOOL):
        return isinstance(item, str if type_ is ValueType.STRING else bool)
    if type_ in (ValueType.FLOAT32, ValueType.FLOAT64):
        return type(item) in (int, float) or item in ("inf", "-inf", "nan")
    return type(item) is int


def _fail(path: Path, what: str) -> Never:
    raise ModelError(what, f"mend it, or write it anew: {_WRITE}", file=path)
