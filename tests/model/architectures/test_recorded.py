"""Many architectures, against llama.cpp's converter on the same folders (tests/data/architectures/README.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.recorded_architectures import (
    DRAFT_HEADS,
    NAMES,
    PROJECTORS,
    VARIANTS,
    inexact,
    read_recorded,
    write_recorded,
)

from quantrecipe.gguf.values import GGUFValue
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.model.source.floats import from_float32, to_float32
from quantrecipe.model.source.reading import Reading
from quantrecipe.model.storable import as_ggml_writes
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.plan.assign import kept_type
from quantrecipe.registry import load_registry

IN_PLACE = {"deepseek4", "gpt-oss", "llama3-nvfp4", "kimi-k2-int4", "qwen2-gptq"}
"""Where what several tensors make stands at the end in the converter's file, and in its place in ours."""

KEYS_IN_PLACE = {"deepseek4"}
"""The same of keys: the converter writes its chat template first."""

OWN_TYPES = {"deepseek4", "modernbert"}
"""Where the converter chooses types (Q8_0 for FP8, BF16 for routers and float32): here a recipe does."""

ADDED = {"kimi-linear": {"tokenizer.ggml.merges"}}
"""What we write besides: transformers 5.24 loses the merges of a tiktoken file, which llama.cpp needs."""

LONG = 16  # longer arrays are recorded as count and hash


@pytest.mark.parametrize("name", NAMES)
def test_equal_to_the_converter_s(name: str, tmp_path: Path) -> None:
    model = open_model(write_recorded(name, tmp_path))
    answer = read_recorded(name)
    about = read_recorded(name, "meta.json")
    ignored = {"tokenizer.ggml.pre"} if about.get("pre_rules_differ") else set()
    found, expected = metadata(model), {key: tuple(value) for key, *value in answer["metadata"]}
    for key in (*about.get("added", ()), *ADDED.get(name, ())):
        assert key not in expected
        del found[key]
    for key in ignored:
        found.pop(key, None)
        expected.pop(key, None)
    assert found == expected
    if name not in KEYS_IN_PLACE:
        assert list(found) == list(expected)
    assert_tensors(name, model, answer["tensors"])


@pytest.mark.parametrize("name", PROJECTORS)
def test_projectors_are_equal_too(name: str, tmp_path: Path) -> None:
    model = open_model(write_recorded(name, tmp_path), part="mmproj")
    answer = read_recorded(name, "reference-mmproj.json")
    expected = {key: tuple(value) for key, *value in answer["metadata"]}
    assert metadata(model) == expected
    assert list(model.metadata) == list(expected)
    assert_tensors(name, model, answer["tensors"])


@pytest.mark.parametrize("name", DRAFT_HEADS)
def test_draft_heads_alone_are_equal_too(
    name: str, opened: Callable[..., Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in VARIANTS:  # these have no vocabulary
        model = opened(name, part="mtp")
    else:
        monkeypatch.undo()
        model = open_model(write_recorded(name, tmp_path), part="mtp")
    answer = read_recorded(name, "reference-mtp.json")
    expected = {key: tuple(value) for key, *value in answer["metadata"]}
    found = metadata(model)
    if name in VARIANTS:
        found = {key: it for key, it in found.items() if key in expected or not key.startswith("tokenizer.")}
    if read_recorded(name, "meta.json").get("pre_rules_differ"):
        del found["tokenizer.ggml.pre"], expected["tokenizer.ggml.pre"]
    assert found == expected
    assert list(found) == list(expected)
    assert_tensors(name, model, answer["tensors"])


def assert_tensors(name: str, model: Model, expected: list[list[Any]]) -> None:
    """The same tensors, order, types and bytes; computed ones within one unit in the last place."""
    order = sorted if name in IN_PLACE else list
    assert order([it.name, it.shape] for it in model.tensors) == order(
        [tensor, as_ggml_writes(tuple(shape))] for tensor, shape, _, _ in expected
    )
    about, answers = inexact(name), {tensor: (type_, digest) for tensor, _, type_, digest in expected}
    with TensorReader() as reader:
        for tensor in model.tensors:
            type_, digest = answers[tensor.name]
            assert kept_type(tensor, model) == type_ or name in OWN_TYPES, tensor.name
            source = model.sources[tensor.name]
            assert (source.shape, source.dtype) == (tensor.shape, tensor.dtype)
            raw = source.read(0, source.total_rows, Reading(reader))
            if type_ == "Q8_0":
                raw = load_registry().format(type_).encode(to_float32(raw, source.dtype))
            elif type_ != source.dtype:
                raw = from_float32(to_float32(raw, source.dtype), type_)
            if tensor.name in about:
                ours, theirs = (np.frombuffer(it, "<i4") for it in (raw.tobytes(), about[tensor.name]))
                assert np.abs(ours.astype(np.int64) - theirs).max(initial=0) <= 1, tensor.name
            else:
                assert hashlib.sha256(raw.tobytes()).hexdigest() == digest, tensor.name


def metadata(model: Model) -> dict[str, tuple[str, Any]]:
    return {key: (described(value), content(value)) for key, value in model.metadata.items()}


def described(value: GGUFValue) -> str:
    return value.type.name + (f"[{value.item_type.name}]" if value.item_type is not None else "")


def content(value: GGUFValue) -> Any:
    decoded = value.decode()
    if isinstance(decoded, list) and len(decoded) > LONG:
        items = [item.encode() if isinstance(item, str) else item for item in decoded]
        if items and isinstance(items[0], bytes):
            raw = b"".join(len(item).to_bytes(8, "little") + item for item in items)
        else:
            raw = value.payload[12:]
        return {"count": len(decoded), "sha256": hashlib.sha256(raw).hexdigest()}
    return decoded
