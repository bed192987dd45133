"""Step 3.5: lists of layers that are too short or say something that llama.cpp doesn't do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.model import Model
from quantrecipe.model.source.reading import Reading
from quantrecipe.model.tensor_reader import TensorReader

Opened = Callable[..., Model]


def test_the_list_of_layers_ends_before_the_draft_heads(opened: Opened) -> None:
    model = opened("step35", layer_types=["full_attention", "sliding_attention", "sliding_attention"],
                   partial_rotary_factors=[0.5, 1.0, 1.0])  # fmt: skip
    assert model.metadata["step35.attention.head_count"].decode() == [4, 6, 6, 4]


def test_other_parts_are_rotated(opened: Opened) -> None:
    with pytest.raises(ModelError, match="rotates other parts of heads"):
        opened("step35", partial_rotary_factors=[1.0, 1.0, 1.0, 1.0])


def test_numbers_of_layers_that_are_none(opened: Opened) -> None:
    with pytest.raises(ModelError, match="says moe_layers_enum: '1,two'"):
        opened("step35", moe_layers_enum="1,two")


def test_factors_of_half_a_head(opened: Opened) -> None:
    model = opened("step35")
    source = model.sources["rope_freqs.weight"]
    with TensorReader() as reader:
        factors = source.read(0, 1, Reading(reader)).view("<f4").reshape(-1)
    assert source.shape == (8,)
    assert np.array_equal(factors[4:], [1, 1, 1, 1])  # the half that layers with full attention don't rotate
    assert factors[0] == 1
    assert factors[3] == 2  # the longest of the others, by the whole factor


def test_limits_that_are_no_numbers(opened: Opened) -> None:
    with pytest.raises(ModelError, match="other things than numbers in swiglu_limits"):
        opened("step35", swiglu_limits=[None, "7", 7.0])
