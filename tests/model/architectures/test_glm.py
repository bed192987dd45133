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
