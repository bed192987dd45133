"""Which types are slow here, and whether IQ is slower than Q, by what was measured."""

from __future__ import annotations

import pytest
from support.timed_machine import PROMPT, TOKEN, profile

from quantrecipe.model.open_model import open_model
from quantrecipe.registry import load_registry
from quantrecipe.speed.verdicts import iq_or_q, slow_types

BITS = {name: fmt.spec.bits_per_weight for name, fmt in load_registry(plugins=False).formats.items()}
MEASURED = profile(open_model("shapes/qwen3-0.6b"))


def test_a_type_is_slow_where_it_is_smaller_than_q8_0_and_takes_longer() -> None:
    assert TOKEN["IQ3_S"] * BITS["IQ3_S"] > TOKEN["Q8_0"] * BITS["Q8_0"]
    assert slow_types(MEASURED, BITS) == {"IQ2_XXS", "IQ3_S"}


def test_pairs_are_compared_by_the_time_for_the_same_weights() -> None:
    four, three = iq_or_q(MEASURED, BITS)  # of the third pair nothing was measured
    assert (four.iq, four.q, three.iq, three.q) == ("IQ4_XS", "Q4_K", "IQ3_S", "Q3_K")
    ratio = TOKEN["IQ4_XS"] * BITS["IQ4_XS"] / (TOKEN["Q4_K"] * BITS["Q4_K"])
    assert four.answers == pytest.approx(ratio)
    assert four.prompts == pytest.approx(PROMPT["IQ4_XS"] / PROMPT["Q4_K"])
