"""GLM: what is refused, with what would help."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.recorded_architectures import read_variant

from quantrecipe.errors import ModelError
from quantrecipe.model.model import Model

Opened = Callable[..., Model]


def test_dense_layers_that_only_a_list_tells(opened: Opened) -> None:
    kinds = ["dense", "sparse", "sparse"]
    with pytest.raises(ModelError, match='"first_k_dense_replace": 1'):
        opened("flashd", first_k_dense_replace=None, mlp_layer_types=kinds)


def test_both_are_fine(opened: Opened) -> None:
    opened("flashd", mlp_layer_types=["dense", "sparse", "sparse"])


def test_chatglm_itself(opened: Opened) -> None:
    with pytest.raises(ModelError, match="-hf"):
        opened("glm", architectures=["ChatGLMModel"], num_layers=3)


@pytest.mark.parametrize(
    "part", [0.3, 1.5]
)  # 16 · 0.3 = 4 is even, of a head of 16; 24 is more than a head has
def test_the_rotated_part_fits_a_head(part: float, opened: Opened) -> None:
    text = {
        "rope_parameters": {
            "rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000, "partial_rotary_factor": part,
        },
    }  # fmt: skip
    if part < 1:
        assert opened("glmocrd", **with_text(text)).metadata["glm4.rope.dimension_count"].decode() == 4
    else:
        with pytest.raises(ModelError, match="of which 24 in each 16 can't be pairs"):
            opened("glmocrd", **with_text(text))


def with_text(changes: dict[str, object]) -> dict[str, object]:
    return {"text_config": {**read_variant("glmocrd")["config"]["text_config"], **changes}}


def test_indexers_of_other_layers(opened: Opened) -> None:
    with pytest.raises(ModelError, match="2 values for 3 layers under indexer_types"):
        opened("dsad", indexer_types=["full", "shared"])


def test_one_kind_of_indexer_for_all_layers(opened: Opened) -> None:
    with pytest.raises(ModelError, match=r"says indexer_types: 'full' .*a list"):
        opened("dsad", indexer_types="full")


def test_a_larger_base_frequency(opened: Opened) -> None:
    assert opened("glm", rope_ratio=500).metadata["chatglm.rope.freq_base"].decode() == 5_000_000


def test_an_indexer_that_another_layer_has(opened: Opened) -> None:
    """A layer with latent attention has its own, unless it is said to share one."""
    weights = read_variant("glm5n")["weights"]
    gone = {name: None for name in weights if ".layers.1.self_attn.indexer." in name}
    with pytest.raises(ModelError, match=r"blk.1.indexer.k_norm.weight\) is missing"):
        opened("glm5n", weights=gone)


def test_layers_that_share_an_indexer(opened: Opened) -> None:
    text = {**read_variant("glm5n")["config"]["text_config"], "indexer_types": ["full", "shared", "full"]}
    gone = {name: None for name in read_variant("glm5n")["weights"] if ".layers.1.self_attn.indexer." in name}
    names = {tensor.name for tensor in opened("glm5n", weights=gone, text_config=text).tensors}
    assert "blk.3.indexer.k_norm.weight" in names
    assert "blk.1.indexer.k_norm.weight" not in names
