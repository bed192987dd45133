"""What conditions know of a model: its hyper-parameters, or what its tensors say where it has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.recipes import recipe, rule

from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.model import Model
from quantrecipe.planning import make_plan
from quantrecipe.registry import Registry, load_registry
from quantrecipe.tensor import TensorInfo


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def model(layers: int = 3, *, tied: bool = False, **hyper: int | list[int]) -> Model:
    """A matrix in each layer; `attention__head_count=4` is `llama.attention.head_count`."""
    names = [f"blk.{i}.attn_v.weight" for i in range(layers)]
    ends = ["token_embd.weight", *([] if tied else ["output.weight"])]
    pairs = {"general.architecture": GGUFValue.of(ValueType.STRING, "llama")}
    for key, plain in hyper.items():
        value = (
            GGUFValue.array(ValueType.UINT32, plain)
            if isinstance(plain, list)
            else GGUFValue.of(ValueType.UINT32, plain)
        )
        pairs[f"llama.{key.replace('__', '.')}"] = value
    return Model(
        path=Path("model.gguf"),
        container="shapes",
        arch="llama",
        tensors=tuple(TensorInfo.from_name(name, (64, 256), "BF16") for name in (*ends, *names)),
        metadata=pairs,
        sources={},
    )


def holds(when: str, of: Model, registry: Registry) -> bool:
    """Is the condition true of every matrix in the model's layers? It must be the same for all."""
    plan = make_plan(recipe(rule("attn_v", "Q8_0", when=when), default="F16"), of, registry=registry)
    (type_,) = {a.type for a in plan.assignments if a.tensor.role == "attn_v"}
    return type_ == "Q8_0"


@pytest.mark.parametrize(
    ("hyper", "queries_per_key"),
    [
        ({}, 0),
        ({"attention__head_count_kv": 8}, 0),
        ({"attention__head_count": 32}, 1),
        ({"attention__head_count": 32, "attention__head_count_kv": 32}, 1),
        ({"attention__head_count": 32, "attention__head_count_kv": 8}, 4),
        ({"attention__head_count": 33, "attention__head_count_kv": 8}, 4),
        ({"attention__head_count": 32, "attention__head_count_kv": 0}, 0),
        # layer by layer: layer 0 counts, as in llama-quantize
        ({"attention__head_count": 32, "attention__head_count_kv": [4, 16, 0]}, 8),
        ({"attention__head_count": [24, 32, 32], "attention__head_count_kv": [12, 4, 4]}, 2),
        ({"attention__head_count": 32, "attention__head_count_kv": [0, 8, 8]}, 0),
    ],
)
def test_how_many_query_heads_share_a_key(
    hyper: dict[str, Any], queries_per_key: int, registry: Registry
) -> None:
    assert holds(f"n_gqa == {queries_per_key}", model(block_count=3, **hyper), registry)


@pytest.mark.parametrize(
    ("hyper", "blocks", "layers"),
    [
        ({"block_count": 3}, 3, 3),
        ({"block_count": 3, "nextn_predict_layers": 1}, 3, 2),
        ({"block_count": 5}, 5, 5),  # of which two have no tensors
        ({}, 3, 3),
        ({"nextn_predict_layers": 1}, 3, 2),
    ],
)
def test_how_many_layers_there_are(
    hyper: dict[str, Any], blocks: int, layers: int, registry: Registry
) -> None:
    assert holds(f"n_blocks == {blocks} and n_layers == {layers}", model(**hyper), registry)


def test_how_many_experts_there_are(registry: Registry) -> None:
    assert holds("n_expert == 0", model(), registry)
    assert holds("n_expert == 64", model(expert_count=64), registry)


@pytest.mark.parametrize("tied", [False, True])
def test_embeddings_are_tied_where_there_is_no_output_matrix(tied: bool, registry: Registry) -> None:
    assert holds("tied_embeddings", model(tied=tied), registry) is tied
