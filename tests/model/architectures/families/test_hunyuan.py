"""Hunyuan: alpha, numbers for each layer, and the ends of texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.recorded_architectures import read_variant, write_recorded

from quantrecipe.errors import ModelError
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model

Opened = Callable[..., Model]


def dynamic(**changes: object) -> dict[str, object]:
    return {
        "rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0},
        "rope_parameters": None,
        **changes,
    }


def test_alpha_makes_the_base_frequency_larger(opened: Opened) -> None:
    model = opened("hydense", **dynamic(max_position_embeddings=32768, rope_theta=10000.0))
    assert model.metadata["hunyuan-dense.rope.freq_base"].decode() == pytest.approx(10000 * 1000 ** (16 / 14))
    assert model.metadata["hunyuan-dense.context_length"].decode() == 262144


def test_alpha_for_another_context(opened: Opened) -> None:
    with pytest.raises(ModelError, match="stretches a context of 4096 by alpha"):
        opened("hydense", **dynamic(max_position_embeddings=4096, rope_theta=10000.0))


def test_alpha_for_another_theta(opened: Opened) -> None:
    with pytest.raises(ModelError, match="stretches a rope_theta of 50000 by alpha"):
        opened("hydense", **dynamic(max_position_embeddings=32768, rope_theta=50000.0))


@pytest.mark.parametrize("name", ["moe_topk", "moe_intermediate_size", "num_shared_expert"])
def test_layers_that_differ(name: str, opened: Opened) -> None:
    with pytest.raises(ModelError, match=rf"says {name}: \[1, 2\] \(llama.cpp has one for all layers\)"):
        opened("hymoe", **{name: [1, 2, 2]})


def test_one_number_for_all_layers(opened: Opened) -> None:
    assert opened("hymoe", moe_topk=3).metadata["hunyuan-moe.expert_used_count"].decode() == 3


def test_ends_of_texts_and_turns(tmp_path: Path) -> None:
    folder = write_recorded("hunyuan-dense", tmp_path)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [300, 301]}))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eod_token_id": 299}))
    model = open_model(folder)
    assert model.metadata["tokenizer.ggml.eos_token_id"].decode() == 299
    assert model.metadata["tokenizer.ggml.eot_token_id"].decode() == 300


def test_alpha_by_sections_is_for_any_context(opened: Opened) -> None:
    rope = {
        "rope_type": "dynamic",
        "alpha": 1000.0,
        "factor": 1.0,
        "mrope_section": [2, 2, 2, 2],
        "rope_theta": 10000.0,
    }
    text = {
        **read_variant("hyvl")["config"]["text_config"],
        "rope_parameters": rope,
        "max_position_embeddings": 4096,
    }
    model = opened("hyvl", text_config=text)
    assert model.metadata["hunyuan_vl.rope.scaling.alpha"].decode() == 1000
    assert model.metadata["hunyuan_vl.rope.freq_base"].decode() == 10000
    assert model.metadata["hunyuan_vl.context_length"].decode() == 4096
