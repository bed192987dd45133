"""The output's key-value pairs: the model's own, what llama-quantize adds, and where the file comes from.

Provenance (all under `quantrecipe.`) lets anybody who holds the file see how it was made, and make it again:

    version               of quantrecipe
    recipe.name           name of the recipe
    recipe                its whole text, parents flattened in
    recipe.digest         XXH3-128 of what the recipe means
    plan.digest           XXH3-128 of what was written where
    importance.digest     XXH3-128 of the importance matrix, if one was used
    encoders              array: name, version and options of each encoder that made bytes, as JSON, if there was one
    statistics.digest     XXH3-128 of the statistics of inputs, if an encoder used some
    encoders.remarked     array of uint32, in the order of the tensors, if an encoder used statistics: of how many of a
                          tensor's matrices it couldn't use them with its options as they are
    encoding.xxh3_128     array, in the order of the tensors: XXH3-128 of type, options and importance of each
    source.xxh3_128       the same of each tensor's bytes as the source stores them
    data.xxh3_128         the same of each tensor's data in the file
    header.xxh3_64        array, XXH3-64 of each other pair and of each tensor's entry: see `header_hashes`

No time, path, user or machine is recorded, so that the same input gives the same file everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from quantrecipe import __version__
from quantrecipe.api import Encoder
from quantrecipe.errors import PlanError
from quantrecipe.gguf.file_types import FILE_TYPES, file_type_name
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.model import Model
from quantrecipe.plan.header_hashes import HEADER_HASHES
from quantrecipe.plan.label import main_type, untrue
from quantrecipe.plan.plan import Assignment
from quantrecipe.plan.resolution import Resolution
from quantrecipe.plan.statistics import settled_ranges
from quantrecipe.recipe.recipe import KEEP, Recipe

if TYPE_CHECKING:  # most plans have no matrix: what reads one is loaded with it
    from quantrecipe.importance.matrix import Importance

__all__ = [
    "DATA_HASHES",
    "ENCODINGS",
    "OURS",
    "PLAN_DIGEST",
    "REMARKED",
    "SOURCE_HASHES",
    "STATISTICS_DIGEST",
    "build_metadata",
    "declared_label",
    "hashes_value",
    "remarked_value",
]

ENCODINGS = "quantrecipe.encoding.xxh3_128"
SOURCE_HASHES = "quantrecipe.source.xxh3_128"
DATA_HASHES = "quantrecipe.data.xxh3_128"
PLAN_DIGEST = "quantrecipe.plan.digest"
OURS = "quantrecipe."
RECIPE = "quantrecipe.recipe"
RECIPE_NAME = "quantrecipe.recipe.name"
RECIPE_DIGEST = "quantrecipe.recipe.digest"
IMPORTANCE_DIGEST = "quantrecipe.importance.digest"
ENCODERS = "quantrecipe.encoders"
STATISTICS_DIGEST = "quantrecipe.statistics.digest"
REMARKED = "quantrecipe.encoders.remarked"
VERSION = "quantrecipe.version"
PROVENANCE = (
    *(VERSION, RECIPE_NAME, RECIPE, RECIPE_DIGEST, PLAN_DIGEST, IMPORTANCE_DIGEST),
    *(ENCODERS, STATISTICS_DIGEST, REMARKED),
    *(ENCODINGS, SOURCE_HASHES, DATA_HASHES, HEADER_HASHES),
)
"""All keys of the provenance, in the order in which they are written."""

_DIGEST_LENGTH = 32  # hex digits of 128 bits
_QUANTIZATION_VERSION = 2  # ggml: GGML_QNT_VERSION
_SPLIT = "split."  # says which shard of a model a file is


def build_metadata(resolution: Resolution, assignments: Sequence[Assignment]) -> dict[str, GGUFValue]:
    """All pairs in the order in which they are written; digests that aren't known yet are zeros of their length."""
    recipe, model, importance = resolution.recipe, resolution.model, resolution.selected
    of_layers = resolution.of_layers
    pairs = {
        key: of_layers.get(key, value)
        for key, value in model.metadata.items()
        if not key.startswith((OURS, _SPLIT))
    }
    new = {"general.quantization_version": _u32(_QUANTIZATION_VERSION)}
    if (file_type := _file_type(resolution, assignments)) is not None:
        new["general.file_type"] = _u32(file_type)
    new |= recipe.metadata
    if importance is not None:
        new |= _imatrix_pairs(importance)
    block_count = f"{model.arch}.block_count"
    if block_count in of_layers:
        new[block_count] = of_layers[block_count]
    for key, value in new.items():  # what is set anew moves to the end, as in llama-quantize
        pairs.pop(key, None)
        pairs[key] = value
    if resolution.settings.provenance:
        pairs.update(_provenance(resolution, assignments))
    return pairs


def hashes_value(digests: Sequence[str]) -> GGUFValue:
    """The value of SOURCE_HASHES or DATA_HASHES; its length depends on the number of digests alone."""
    return GGUFValue.array(ValueType.STRING, digests)


def remarked_value(counts: Sequence[int]) -> GGUFValue:
    """The value of REMARKED; its length depends on how many counts there are alone."""
    return GGUFValue.array(ValueType.UINT32, counts)


def _provenance(resolution: Resolution, assignments: Sequence[Assignment]) -> dict[str, GGUFValue]:
    recipe, importance, statistics = resolution.recipe, resolution.selected, resolution.statistics
    unknown = "0" * _DIGEST_LENGTH
    pairs = {
        VERSION: _text(__version__),
        RECIPE_NAME: _text(recipe.name),
        RECIPE: _text(recipe.text),
        RECIPE_DIGEST: _text(recipe.digest),
        PLAN_DIGEST: _text(unknown),
    }
    if importance is not None:
        pairs[IMPORTANCE_DIGEST] = _text(importance.digest)
    encoders: dict[str, list[Assignment]] = {}
    for a in assignments:
        if a.encoder is not None:
            encoders.setdefault(_said_of(a.encoder), []).append(a)
    if encoders:
        said = [_with_settled(it, members) for it, members in sorted(encoders.items())]
        pairs[ENCODERS] = GGUFValue.array(ValueType.STRING, said)
    if statistics is not None and any(a.inputs for a in assignments):
        pairs[STATISTICS_DIGEST] = _text(statistics.digest)
        pairs[REMARKED] = remarked_value([0] * len(assignments))
    pairs[ENCODINGS] = GGUFValue.array(ValueType.STRING, [a.encoding for a in assignments])
    pairs[SOURCE_HASHES] = pairs[DATA_HASHES] = hashes_value([unknown] * len(assignments))
    pairs[HEADER_HASHES] = hashes_value([])  # each file of the output gets as many as it needs
    return pairs


def _said_of(encoder: Encoder) -> str:
    said = {"name": encoder.name, "version": encoder.version, "options": dict(encoder.options)}
    return json.dumps(said, sort_keys=True)


def _with_settled(said: str, members: Sequence[Assignment]) -> str:
    """The same with the least and the most that options came to which are left to the statistics."""
    ranges = settled_ranges(members)
    return json.dumps(json.loads(said) | {"settled": ranges}, sort_keys=True) if ranges else said


def _imatrix_pairs(importance: Importance) -> dict[str, GGUFValue]:
    """What llama-quantize says of the importance matrix that it used."""
    pairs = {"quantize.imatrix.file": _text(importance.label)}
    if importance.datasets:
        pairs["quantize.imatrix.dataset"] = _text(importance.datasets[0])
    pairs["quantize.imatrix.entries_count"] = _u32(len(importance.entries))
    if importance.chunks > 0:
        pairs["quantize.imatrix.chunks_count"] = _u32(importance.chunks)
    return pairs


def _file_type(resolution: Resolution, assignments: Sequence[Assignment]) -> int | None:
    """The label that the recipe gives; one that it inherits, where that is true; else that of most weights' type."""
    recipe, registry = resolution.recipe, resolution.registry
    number = declared_label(recipe, resolution.model)
    types = [(a.tensor, a.type) for a in assignments]
    if number is not None and (
        recipe.file_type_fixed or untrue(file_type_name(number), types, resolution.model, registry) is None
    ):
        return number
    most = main_type(types)
    return None if most is None else registry.format(most.type).spec.file_type


def declared_label(recipe: Recipe, model: Model) -> int | None:
    """The number that the recipe names, or has from a parent; None where it leaves it to the types."""
    if recipe.file_type == KEEP:
        kept = model.metadata.get("general.file_type")
        return int(kept.decode()) if kept is not None and kept.type is ValueType.UINT32 else None
    if recipe.file_type is None:
        return None
    try:
        return FILE_TYPES[recipe.file_type]
    except KeyError:
        raise PlanError(
            f"unknown file_type {recipe.file_type!r}", f"known: {', '.join(FILE_TYPES)}", file=recipe.file
        ) from None


def _u32(number: int) -> GGUFValue:
    return GGUFValue.of(ValueType.UINT32, number)


def _text(text: str) -> GGUFValue:
    return GGUFValue.of(ValueType.STRING, text)
