"""Deci, AFMoE and Nanbeige: blocks of config.json that say nothing usable, and what llama.cpp has no place for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.recorded_architectures import read_variant

from quantrecipe.errors import ModelError
from quantrecipe.model.model import Model

Opened = Callable[..., Model]


def blocks(part: str, **said: Any) -> list[Any]:
    """The blocks of "nemotron-super", the first of which says something else."""
    first, *others = read_variant("nemotron-super")["config"]["block_configs"]
    return [{**first, part: {**first[part], **said}}, *others]


@pytest.mark.parametrize(
    "given",
    [
        blocks("attention", n_heads_in_group=3),
        blocks("attention", n_heads_in_group=0),
        blocks("attention", n_heads_in_group=True),
        blocks("attention", n_heads_in_group="all"),
        blocks("ffn", ffn_mult=-1.0),
        blocks("ffn", ffn_mult=1e300),
        blocks("ffn", ffn_mult=True),
        [None] * 4,
        [{"attention": {}}] * 4,
        {},
    ],
)
def test_blocks_of_no_known_form(given: Any, opened: Opened) -> None:
    with pytest.raises(ModelError, match="block_configs that don't say"):
        opened("nemotron-super", block_configs=given)


def test_fewer_blocks_than_layers(opened: Opened) -> None:
    with pytest.raises(ModelError, match="has 3 block_configs for 4 layers"):
        opened("nemotron-super", block_configs=blocks("ffn")[:3])


def test_blocks_of_other_sizes(opened: Opened) -> None:
    with pytest.raises(
        ModelError, match=r"layers.0.mlp.down_proj.weight.* by hidden_size, intermediate_size"
    ):
        opened("nemotron-super", block_configs=blocks("ffn", ffn_mult=20.0))


def test_a_layer_without_its_matrix(opened: Opened) -> None:
    with pytest.raises(ModelError, match=r"blk.2.attn_output.weight\) is missing"):
        opened("nemotron-super", weights={"model.layers.2.self_attn.linear_attn.weight": None})


def test_layers_that_do_nothing(opened: Opened) -> None:
    model = opened("nemotron-ultra")
    layers = {tensor.name.split(".")[1] for tensor in model.tensors if tensor.name.startswith("blk.")}
    assert layers == {"0", "2", "3"}
    assert model.metadata["deci.attention.head_count"].decode() == [4, 0, 4, 0]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"mup_enabled": False}, "embeddings that aren't scaled"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "has Llama 3's scaling"),
        ({"sliding_window": 0}, "has no sliding_window"),
        ({"layer_types": ["full_attention"] * 5}, "than every 4th"),
    ],
)
def test_what_llama_cpp_takes_for_granted(said: dict[str, Any], message: str, opened: Opened) -> None:
    with pytest.raises(ModelError, match=message):
        opened("afmoe", **said)


def test_scores_are_divided_where_config_json_is_silent(opened: Opened) -> None:
    model = opened("afmoe-plain", route_norm=None)
    assert model.metadata["afmoe.expert_weights_norm"].decode() is True


def test_as_many_passes_as_there_is_room_for(opened: Opened) -> None:
    assert opened("nanbeige", num_loops=256).metadata["nanbeige.num_loops"].decode() == 256


def test_more_passes_than_llama_cpp_has_room_for(opened: Opened) -> None:
    with pytest.raises(ModelError, match="goes 257 times through 2 layers"):
        opened("nanbeige", num_loops=257)
