"""Rotary settings in the spellings of older files, for the classes that read them in their own ways."""

from __future__ import annotations

from typing import Any

import pytest

from quantrecipe.model.architectures.completion import complete

LINEAR = {"rope_type": "linear", "factor": 8.0}


def rope(kind: str, **values: Any) -> Any:
    return complete({"model_type": kind, "num_hidden_layers": 6, **values})["rope_parameters"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"rope_theta": 1e4, "rope_type": "default"}),
        ({"rope_theta": 5.0, "rope_scaling": None}, {"rope_theta": 5.0, "rope_type": "default"}),
        ({"rope_theta": None}, {"rope_theta": 1e4, "rope_type": "default"}),
        ({"rope_scaling": LINEAR, "rope_theta": 5.0}, LINEAR | {"rope_theta": 5.0}),
        ({"rope_scaling": LINEAR | {"rope_theta": 6.0}, "rope_theta": 5.0}, LINEAR | {"rope_theta": 6.0}),
        ({"rope_scaling": LINEAR, "rope_parameters": {"rope_theta": 7.0}}, LINEAR | {"rope_theta": 1e4}),
        ({"rope_scaling": {}, "rope_parameters": {"rope_theta": 7.0}}, {"rope_theta": 7.0, "rope_type": "default"}),
        ({"rope_scaling": {"type": "yarn"}, "max_position_embeddings": 64},
         {"type": "yarn", "rope_type": "yarn", "rope_theta": 1e4, "original_max_position_embeddings": 64}),
        ({"rope_scaling": {"type": "yarn", "original_max_position_embeddings": 32}},
         {"type": "yarn", "rope_type": "yarn", "rope_theta": 1e4, "original_max_position_embeddings": 32}),
        ({"partial_rotary_factor": 0.25}, {"rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 0.25}),
    ],
)  # fmt: skip
def test_most_classes(values: dict[str, Any], expected: dict[str, Any]) -> None:
    assert rope("llama", **values) == expected
    assert "rope_scaling" not in complete({"model_type": "llama", **values})


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("gpt_neox", {"rotary_emb_base": 5.0, "rotary_pct": 0.5},
         {"rope_theta": 5.0, "partial_rotary_factor": 0.5, "rope_type": "default"}),
        ("minimax_m2", {"rotary_dim": 64, "head_dim": 128},
         {"rope_theta": 5e6, "partial_rotary_factor": 0.5, "rope_type": "default"}),
        ("glm4", {}, {"rope_theta": 1e4, "partial_rotary_factor": 0.5, "rope_type": "default"}),
        ("phi3", {"rope_scaling": {"type": "su"}},
         {"type": "su", "rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 1.0}),
        ("qwen2_vl_text", {"rope_scaling": {"type": "mrope"}, "partial_rotary_factor": 0.5},
         {"type": "mrope", "rope_type": "default", "rope_theta": 1e6}),
        ("hunyuan_vl_text", {"rope_scaling": {"rope_type": "xdrope", "alpha": 5.0}},
         {"rope_type": "dynamic", "alpha": 5.0, "rope_theta": 1e4}),
        ("gpt_oss", {"rope_theta": 5.0},
         {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
          "original_max_position_embeddings": 4096, "rope_theta": 5.0}),
        ("gpt_oss", {"rope_scaling": LINEAR}, LINEAR | {"rope_theta": 150000.0}),
        ("qwen3_vl_vision", {}, {"rope_theta": 1e4, "rope_type": "axial"}),
        ("apertus", {"rope_theta": 5.0}, {"rope_type": "llama3", "rope_theta": 12e6, "factor": 8.0,
         "original_max_position_embeddings": 8192, "low_freq_factor": 1.0, "high_freq_factor": 4.0}),
    ],
)  # fmt: skip
def test_classes_of_their_own(kind: str, values: dict[str, Any], expected: dict[str, Any]) -> None:
    assert rope(kind, **values) == expected


def two(full: dict[str, Any], sliding: dict[str, Any]) -> dict[str, Any]:
    usual = {"rope_type": "default"}
    return {"full_attention": usual | full, "sliding_attention": usual | sliding}


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("gemma3_text", {}, two({"rope_theta": 1e6}, {"rope_theta": 1e4})),
        ("gemma3_text", {"rope_theta": 5.0, "rope_local_base_freq": 6.0, "rope_scaling": LINEAR},
         two({"rope_theta": 5.0} | LINEAR, {"rope_theta": 6.0})),
        ("gemma3_text", {"rope_parameters": {"full_attention": LINEAR, "sliding_attention": None}},
         two({"rope_theta": 1e6} | LINEAR, {"rope_theta": 1e4})),
        ("modernbert", {"global_rope_theta": 5.0, "local_rope_theta": 6.0, "rope_scaling": LINEAR},
         two({"rope_theta": 5.0} | LINEAR, {"rope_theta": 6.0} | LINEAR)),
        ("olmo3", {"rope_theta": 5.0, "rope_scaling": {"rope_type": "yarn"}, "max_position_embeddings": 64},
         two({"rope_theta": 5.0, "rope_type": "yarn", "original_max_position_embeddings": 64}, {"rope_theta": 5e5})),
        ("gemma4_text", {}, two({"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
                                {"rope_theta": 1e4})),
        ("laguna", {"rope_parameters": {"full_attention": {"rope_theta": 5.0}}},
         {"full_attention": {"rope_theta": 5.0}}),
        ("ministral", {"layer_types": ["full_attention"] * 6,
                       "rope_parameters": {"full_attention": {"type": "linear"}}, "rope_theta": 5.0},
         {"full_attention": {"type": "linear", "rope_type": "linear", "rope_theta": 5.0}}),
    ],
)  # fmt: skip
def test_settings_for_each_kind_of_layer(kind: str, values: dict[str, Any], expected: dict[str, Any]) -> None:
    assert rope(kind, **values) == expected


@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "laguna", "phi3"])
@pytest.mark.parametrize("name", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("junk", ["yarn", [1], 5])
def test_settings_that_are_no_objects_stay_for_the_error(kind: str, name: str, junk: Any) -> None:
    assert complete({"model_type": kind, name: junk})[name] == junk
    nested = {"full_attention": junk}
    assert complete({"model_type": kind, "rope_parameters": nested})["rope_parameters"] == nested


def test_the_table_stays_as_it_is() -> None:
    rope("gemma4_text")["full_attention"]["rope_theta"] = 3
    rope("gpt_oss")["factor"] = 3
    assert rope("gemma4_text")["full_attention"]["rope_theta"] == 1e6
    assert rope("gpt_oss")["factor"] == 32.0
