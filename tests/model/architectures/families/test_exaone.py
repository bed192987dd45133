"""EXAONE: windows, and draft heads that share what they are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.recorded_architectures import edit_config, write_recorded

from quantrecipe.errors import ModelError
from quantrecipe.model.open_model import open_model

Weights = dict[str, tuple[str, list[int]]]


def text(**values: Any) -> Any:
    return lambda config: config["text_config"].update(values)


def test_heads_of_their_own(tmp_path: Path) -> None:
    def two(weights: Weights) -> None:
        for name in [name for name in weights if name.startswith("mtp.layers.0.")]:
            weights[name.replace(".0.", ".1.")] = weights[name]

    folder = write_recorded("exaone45", tmp_path, two)
    model = open_model(edit_config(folder, text(mtp_share_layers=False)))
    first, second = (model.sources[f"blk.{layer}.attn_q.weight"].extents for layer in (4, 5))
    assert first != second
    assert model.sources["blk.4.nextn.eh_proj.weight"] == model.sources["blk.5.nextn.eh_proj.weight"]


def test_a_shared_layer_is_for_all_heads(tmp_path: Path) -> None:
    model = open_model(write_recorded("exaone45", tmp_path))
    assert model.sources["blk.4.attn_q.weight"] == model.sources["blk.5.attn_q.weight"]


def test_heads_that_config_json_doesn_t_know(tmp_path: Path) -> None:
    folder = edit_config(
        write_recorded("exaone45", tmp_path), text(num_nextn_predict_layers=0, mtp_share_layers=False)
    )
    model = open_model(folder)
    assert "exaone4.nextn_predict_layers" not in model.metadata
    assert model.metadata["exaone4.block_count"].decode() == 4


def test_a_head_without_its_joint(tmp_path: Path) -> None:
    folder = write_recorded("exaonemoe", tmp_path, lambda it: it.pop("mtp.fc.weight"))
    with pytest.raises(ModelError, match=r"blk\.4\.nextn\.eh_proj\.weight\) is missing"):
        open_model(folder)


def test_fewer_types_than_layers(tmp_path: Path) -> None:
    folder = edit_config(write_recorded("exaone4", tmp_path), layer_types=["full_attention"] * 3)
    with pytest.raises(ModelError, match="has 3 values for 4 layers under layer_types"):
        open_model(folder)
