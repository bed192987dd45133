"""Variants of architectures, against llama.cpp's converter on the same configurations and weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from support.recorded_architectures import VARIANTS, read_variant

from quantrecipe.gguf.values import GGUFValue
from quantrecipe.model.model import Model
from quantrecipe.model.source.floats import from_float32, to_float32
from quantrecipe.model.source.reading import Reading
from quantrecipe.model.storable import as_ggml_writes
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.plan.assign import kept_type


@pytest.mark.parametrize("name", VARIANTS)
def test_equal_to_the_converter_s(name: str, opened: Callable[..., Model]) -> None:
    model, answer = opened(name), read_variant(name)
    expected = {key: (kind, value) for key, kind, value in answer["metadata"]}
    ours = {key for key in model.metadata if not key.startswith("tokenizer.")}
    found = {key: described(model.metadata[key]) for key in model.metadata if key in expected or key in ours}
    assert found == expected
    assert [key for key in found if key in ours] == [key for key in expected if key in ours]
    assert tensors(model) == [
        [tensor, [*as_ggml_writes(tuple(shape))], *rest] for tensor, shape, *rest in answer["tensors"]
    ]


def tensors(model: Model) -> list[list[Any]]:
    """Name, shape, type and hash of each tensor, as it is kept."""
    made = []
    with TensorReader() as reader:
        for tensor in model.tensors:
            source, type_ = model.sources[tensor.name], kept_type(tensor, model)
            raw = source.read(0, source.total_rows, Reading(reader))
            if type_ != source.dtype:
                raw = from_float32(to_float32(raw, source.dtype), type_)
            digest = hashlib.sha256(raw.tobytes()).hexdigest()[:16]
            made.append([tensor.name, [*tensor.shape], type_, digest])
    return made


def described(value: GGUFValue) -> tuple[str, Any]:
    kind = value.type.name + (f"[{value.item_type.name}]" if value.item_type is not None else "")
    return kind, value.decode()
