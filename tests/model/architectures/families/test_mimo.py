"""MiMo V2: layers of two kinds, and checkpoints that can't be read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.model import Model

Opened = Callable[..., Model]
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}


def test_fused_matrices_in_fp8(opened: Opened) -> None:
    with pytest.raises(ModelError, match="in the order of the machines"):
        opened("mimo25", quantization_config=FP8)


def test_experts_in_mxfp4(opened: Opened) -> None:
    with pytest.raises(ModelError, match="experts in MXFP4 beside weights in FP8"):
        opened("mimo25", quantization_config={**FP8, "store_dtype": "mxfp4"})


def test_a_pattern_that_is_too_short(opened: Opened) -> None:
    with pytest.raises(ModelError, match="2 values for 3 layers under hybrid_layer_pattern"):
        opened("mimo25", hybrid_layer_pattern=[0, 1])


def test_a_fourth_draft_head(opened: Opened) -> None:
    with pytest.raises(ModelError, match="more than 3 draft heads"):
        opened("mimo25", weights={"model.mtp.layers.3.enorm.weight": ("BF16", [64])})


def test_layers_of_the_other_kind_have_other_shapes(opened: Opened) -> None:
    with pytest.raises(ModelError, match=r"'model.layers.0.self_attn.qkv_proj.weight' .* has the shape"):
        opened("mimo25", hybrid_layer_pattern=[1, 1, 1])
