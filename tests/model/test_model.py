from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.model import Model
from quantrecipe.model.source.dequantize import Fp8
from quantrecipe.model.source.layout import rope_order, stack
from quantrecipe.model.source.source import Stored
from quantrecipe.tensor import TensorInfo


def model(*names: str, **hyper: Any) -> Model:
    """A model of these tensors; a list is an array of INT32."""
    types = {int: ValueType.UINT32, float: ValueType.FLOAT32, str: ValueType.STRING, bool: ValueType.BOOL}
    return Model(
        path=Path("m"),
        container="shapes",
        arch="llama",
        tensors=tuple(TensorInfo.from_name(name, (2, 2), "F32") for name in names),
        metadata={
            f"llama.{key.replace('__', '.')}": (
                GGUFValue.array(ValueType.INT32, value)
                if isinstance(value, list)
                else GGUFValue.of(types[type(value)], value)
            )
            for key, value in hyper.items()
        },
        sources={},
    )


def test_blocks_for_next_token_prediction_are_no_layers() -> None:
    found = model(block_count=5, nextn_predict_layers=1)
    assert (found.n_blocks, found.n_layers) == (5, 4)


def test_a_file_without_hyper_parameters_has_the_layers_of_its_tensors() -> None:
    found = model("output.weight", "blk.0.attn_q.weight", "blk.6.attn_q.weight")
    assert (found.n_blocks, found.n_layers) == (7, 7)
    assert model("output.weight").n_layers == 0
    assert model("blk.2.attn_q.weight", nextn_predict_layers=1).n_layers == 2


def test_never_fewer_than_no_layers() -> None:
    assert model(block_count=1, nextn_predict_layers=2).n_layers == 0


def test_the_head_is_the_output_or_the_embedding() -> None:
    assert model("token_embd.weight", "output.weight").head == "output.weight"
    assert model("token_embd.weight").head == "token_embd.weight"
    assert model("blk.0.attn_q.weight").head is None


def test_a_number_for_each_layer() -> None:
    found = model(attention__head_count_kv=[8, 0, 4])
    assert [found.number("attention.head_count_kv", 9, layer=layer) for layer in range(4)] == [8, 0, 4, 9]
    assert found.number("attention.head_count_kv") == 8
    assert found.hyperparameter("attention.head_count_kv") == [8, 0, 4]


@pytest.mark.parametrize("value", ["eight", [], float("nan"), float("inf")])
def test_what_is_no_number_counts_as_missing(value: Any) -> None:
    assert model(block_count=value).number("block_count", 3) == 3


def test_missing() -> None:
    assert model().number("expert_count") == 0
    assert model().hyperparameter("expert_count") is None


def test_how_a_source_is_stored() -> None:
    """Of what is put together, as the first of it; without weights, as the shape file says."""
    scales = Stored(name="s", shape=(1, 1), dtype="F32", extents=())
    weights = Stored(name="w", shape=(2, 2), dtype="F8_E4M3", extents=())
    numbers = Fp8(weights=weights, scales=scales, block=(2, 2))
    name = "blk.0.ffn_up_exps.weight"
    tensor = TensorInfo.from_name(name, (3, 2, 2), "BF16")
    stacked = replace(model(name), sources={name: rope_order(stack([numbers] * 3), 1)})
    assert stacked.source_type(tensor) == "FP8"
    assert model(name).source_type(tensor) == "BF16"
