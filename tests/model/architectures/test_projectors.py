"""Projectors: what the recorded ones don't show, and what can't be converted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.recorded_architectures import write_edited, write_recorded

from quantrecipe.errors import ModelError
from quantrecipe.model.open_model import open_model


def refused(folder: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        open_model(folder, part="mmproj")


def tower_of(name: str, folder: Path, **values: Any) -> dict[str, Any]:
    """The `vision_config` of a folder with other values; None takes one out."""
    config = json.loads((write_recorded(name, folder) / "config.json").read_text(encoding="utf-8"))
    tower = {**config["vision_config"], **values}
    return {key: value for key, value in tower.items() if value is not None}


def test_no_tower_for_pictures(tmp_path: Path) -> None:
    refused(
        write_edited("dotsocr-see", tmp_path, vision_config=...), "no vision_config, so there is no projector"
    )


def test_no_tower_for_sound(tmp_path: Path) -> None:
    refused(write_edited("ultravox-hear", tmp_path, audio_config=...), "has no audio_config")


def test_a_projector_only(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"the language model .* can't be converted; what can be: a projector"
    ):
        open_model(write_recorded("ultravox-hear", tmp_path))


@pytest.mark.parametrize(("name", "what"), [("internvl-see", "image_mean"), ("paddle-see", "max_pixels")])
def test_settings_of_the_preprocessor_are_missing(name: str, what: str, tmp_path: Path) -> None:
    folder = write_recorded(name, tmp_path)
    path = folder / "preprocessor_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    del settings[what]
    path.write_text(json.dumps(settings))
    refused(folder, rf"has no {what} in preprocessor_config.json .*; download that file, too")


def test_llava_is_no_pixtral(tmp_path: Path) -> None:
    tower = tower_of("ministral3", tmp_path / "first", model_type="clip_vision_model")
    refused(write_edited("ministral3", tmp_path, vision_config=tower), r"of the kind 'clip_vision_model'")


def test_internvl_without_its_ratio(tmp_path: Path) -> None:
    refused(write_edited("internvl-see", tmp_path, downsample_ratio=...), "has no downsample_ratio")


def test_the_class_of_the_tower_counts(tmp_path: Path) -> None:
    tower = tower_of("internvl-see", tmp_path / "first", architectures=["SomeVisionModel"])
    refused(write_edited("internvl-see", tmp_path, vision_config=tower), "'SomeVisionModel' is not supported")


def test_windows_that_no_key_can_tell(tmp_path: Path) -> None:
    tower = tower_of("qwen25vl-see", tmp_path / "first", fullatt_block_indexes=[1, 2])
    refused(write_edited("qwen25vl-see", tmp_path, vision_config=tower), "no multiples of 2")


def test_the_feed_forward_length_of_qwen2_vl_is_a_ratio(tmp_path: Path) -> None:
    tower = tower_of("qwen2vl-see", tmp_path / "first", mlp_ratio=2)
    refused(
        write_edited("qwen2vl-see", tmp_path, vision_config=tower),
        r"shape \(128, 32\) \(expected: \(64, 32\)",
    )


def test_the_layer_whose_output_is_used(tmp_path: Path) -> None:
    folder = write_edited("lfm2vl-see", tmp_path, vision_feature_layer=-2)
    assert open_model(folder, part="mmproj").metadata["clip.vision.block_count"].decode() == 3
    refused(write_edited("lfm2vl-see", tmp_path / "again", vision_feature_layer=2), "vision_feature_layer: 2")


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("internvl-see", "vision_model.encoder.layers.2.ls1"),
        ("voxtral-hear", "audio_tower.layers.3.fc1.weight"),
        ("gemma4-hear", "model.audio_tower.layers.1.norm_out.weight"),
        ("gemma4-hear", "model.audio_tower.layers.1.self_attn.q_proj.input_max"),
        ("qwen3omni-hear", "thinker.visual.blocks.1.norm1.weight"),
    ],
)
def test_half_a_tower(name: str, lost: str, tmp_path: Path) -> None:
    folder = write_recorded(name, tmp_path, lambda tensors: tensors.pop(lost))
    refused(folder, "is missing; a part of the model is missing: download it again")


def test_q_k_and_v_of_different_lengths(tmp_path: Path) -> None:
    name = "visual.blocks.0.attn.qkv.bias"
    folder = write_recorded("qwen2vl-see", tmp_path, lambda tensors: tensors.update({name: ("BF16", [95])}))
    refused(folder, "isn't q, k and v of the same length")


def test_a_tower_without_sound_has_no_keys_of_sound(tmp_path: Path) -> None:
    metadata = open_model(write_recorded("gemma4", tmp_path), part="mmproj").metadata
    assert not any("audio" in key for key in metadata)


@pytest.mark.parametrize("ratio", [1e-300, float("nan"), float("inf"), True, "half"])
def test_ratios_that_are_none(ratio: Any, tmp_path: Path) -> None:
    refused(write_edited("internvl-see", tmp_path, downsample_ratio=ratio), "has no downsample_ratio")
    tower = tower_of("qwen2vl-see", tmp_path / "first", mlp_ratio=ratio)
    if ratio is not True:  # a 1, to Python
        refused(write_edited("qwen2vl-see", tmp_path, vision_config=tower), "has the shape")


def test_windows_beyond_the_layers(tmp_path: Path) -> None:
    tower = tower_of("qwen25vl-see", tmp_path / "first", fullatt_block_indexes=[2**40])
    refused(write_edited("qwen25vl-see", tmp_path, vision_config=tower), "has no fullatt_block_indexes")
