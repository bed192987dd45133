"""Layers with experts behind dense ones, and the layers of draft heads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.recorded_architectures import read_variant

from quantrecipe.errors import ModelError
from quantrecipe.model.model import Model

Opened = Callable[..., Model]

DRAFTS = {name: None for name in read_variant("flashd")["weights"] if name.startswith("model.layers.3.")}


def number(model: Model, key: str) -> object:
    return model.metadata[key].decode()


def test_draft_heads_may_be_missing_altogether(opened: Opened) -> None:
    model = opened("flashd", weights=DRAFTS)
    assert number(model, "deepseek2.block_count") == 4
    assert number(model, "deepseek2.nextn_predict_layers") == 1
    assert {tensor.layer for tensor in model.tensors} == {None, 0, 1, 2}


def test_a_draft_head_is_whole_or_not_there(opened: Opened) -> None:
    with pytest.raises(ModelError, match=r"'model.layers.3.eh_proj.weight' .* is missing"):
        opened("flashd", weights={"model.layers.3.eh_proj.weight": None})


def test_one_of_two_draft_heads(opened: Opened) -> None:
    with pytest.raises(ModelError, match=r"5 layers, but there are no tensors of 1 of them \(4\)"):
        opened("flashd", num_nextn_predict_layers=2)


def test_layers_that_are_no_draft_heads_have_to_be_there(opened: Opened) -> None:
    gone = {name: None for name in read_variant("flashd")["weights"] if name.startswith("model.layers.2.")}
    with pytest.raises(ModelError, match=r"no tensors of 1 of them \(2\)"):
        opened("flashd", weights=gone)


def test_draft_heads_of_an_architecture_without(opened: Opened) -> None:
    extra = {
        "model.layers.3.eh_proj.weight": ("BF16", [64, 128]),
        "model.layers.3.enorm.weight": ("BF16", [64]),
    }
    model = opened("v2lite", weights=extra)
    assert {tensor.layer for tensor in model.tensors} == {None, 0, 1, 2}


def test_an_expert_is_missing(opened: Opened) -> None:
    with pytest.raises(ModelError, match=r"'model.layers.2.mlp.experts.3.up_proj.weight' is missing"):
        opened("v32d", weights={"model.layers.2.mlp.experts.3.up_proj.weight": None})


def test_more_dense_layers_than_config_says(opened: Opened) -> None:
    with pytest.raises(ModelError, match=r"'model.layers.1.mlp.gate_proj.weight' .* is missing"):
        opened("v32d", first_k_dense_replace=2)


def test_an_output_that_is_the_embedding_once_more(opened: Opened) -> None:
    model = opened("v2lite", tie_word_embeddings=True)
    assert "output.weight" not in {tensor.name for tensor in model.tensors}


def test_more_dense_layers_than_layers(opened: Opened) -> None:
    """A model that was cut to its first layers."""
    gone = {name: None for name in read_variant("v2lite")["weights"] if not kept(name)}
    model = opened("v2lite", weights=gone, num_hidden_layers=1, first_k_dense_replace=3)
    assert {tensor.layer for tensor in model.tensors} == {None, 0}


def kept(name: str) -> bool:
    return not name.startswith("model.layers.") or name.startswith("model.layers.0.")
