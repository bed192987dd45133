"""Phi: factors for long contexts, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.recorded_architectures import edit_config, write_recorded, write_variant

from quantrecipe.errors import ModelError
from quantrecipe.model import huggingface
from quantrecipe.model.open_model import open_model


@pytest.fixture(autouse=True)
def no_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "tokenizer_pairs", lambda *_, **__: {})


def rope(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda config: config["rope_scaling"].update(values)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (rope(long_factor=[1.0] * 7), "says long_factor.*8 numbers"),
        (rope(short_factor=None), "says short_factor: None"),
        (lambda it: it.update(num_local_experts=8), "is missing"),
        (lambda it: it.update(num_experts_per_tok=9), "sent to 9 of 4 experts"),
        (lambda it: it.update(intermediate_size=32), "by num_experts, intermediate_size, hidden_size"),
    ],
)
def test_configurations_that_are_refused(
    edit: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    folder = edit_config(write_recorded("phimoe", tmp_path), edit)
    with pytest.raises(ModelError, match=message):
        open_model(folder)


def test_a_part_of_a_head_has_factors_of_its_length(tmp_path: Path) -> None:
    folder = write_variant("phi4mini", tmp_path, partial_rotary_factor=1.0)
    with pytest.raises(ModelError, match=r"says long_factor.*8 numbers"):
        open_model(folder)


@pytest.mark.parametrize("name", ["mlp.gate_up_proj.weight", "self_attn.qkv_proj.weight"])
def test_fused_matrices_have_to_be_there(name: str, tmp_path: Path) -> None:
    folder = write_recorded("phi3", tmp_path, lambda weights: weights.pop(f"model.layers.1.{name}"))
    with pytest.raises(ModelError, match=rf"layers\.1\.{name}.*is missing"):
        open_model(folder)
