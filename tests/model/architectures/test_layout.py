"""Lengths of tensors, as llama.cpp works them out of the GGUF; and pooling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families import ALL, by_class
from quantrecipe.model.architectures.layout import length

POOLED = by_class(ALL)["Qwen3ForCausalLM"][-1]  # the first is for rerankers
SIZES = {
    "vocab_size": 1000, "hidden_size": 96, "intermediate_size": 260, "num_attention_heads": 6,
    "num_key_value_heads": 2, "num_experts": 8, "num_experts_per_tok": 5,
}  # fmt: skip


def config(folder: Path = Path(), **values: Any) -> Config:
    return Config(path=folder / "config.json", values=values, rope={})


@pytest.mark.parametrize(
    ("name", "more", "expected"),
    [
        ("vocab_size", {}, 1000),
        ("hidden_size", {}, 96),
        ("intermediate_size", {}, 260),
        ("head_dim", {}, 16),
        ("head_dim", {"head_dim": 20}, 20),
        ("head_dim / 2", {"head_dim": 21}, 10),
        ("num_attention_heads · head_dim", {}, 96),
        ("num_attention_heads · head_dim", {"head_dim": 20}, 120),
        ("num_key_value_heads · head_dim", {}, 32),
        ("num_key_value_heads · head_dim", {"num_key_value_heads": None}, 96),
        ("num_experts", {}, 8),
        ("moe_intermediate_size", {}, 52),
        ("moe_intermediate_size", {"moe_intermediate_size": 7}, 7),
        ("shared_expert_intermediate_size", {}, 260),
        ("shared_expert_intermediate_size", {"shared_expert_intermediate_size": 9}, 9),
    ],
)
def test_a_length(name: str, more: dict[str, Any], expected: int) -> None:
    assert length(config(**SIZES | more), name, 0, {}) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("2 · hidden_size", 192),
        ("hidden_size + 3 · vocab_size + 1", 3097),
        ("n_groups", 4),
        ("of_layer", 207),
        ("2 · of_layer + hidden_size", 510),
    ],
)
def test_an_expression(expression: str, expected: int) -> None:
    found = length(
        config(**SIZES, n_groups=4), expression, 7, {"of_layer": lambda config, layer: 200 + layer}
    )
    assert found == expected


def folder_with(folder: Path, modules: Any, settings: Any = None) -> Config:
    (folder / "modules.json").write_text(modules if isinstance(modules, str) else json.dumps(modules))
    if settings is not None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling/config.json").write_text(json.dumps(settings))
    return config(folder)


MODULES = [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"}]


class TestPooling:
    """llama.cpp: enum llama_pooling_type."""

    @pytest.mark.parametrize(
        ("settings", "number"),
        [
            ({"pooling_mode_mean_tokens": True}, 1),
            ({"pooling_mode_cls_token": True}, 2),
            ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, 3),
            ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, 1),
            ({"pooling_mode": "mean"}, 1),
            ({"pooling_mode": "cls"}, 2),
            ({"pooling_mode": "lasttoken"}, 3),
            ({"pooling_mode": "cls", "pooling_mode_lasttoken": True}, 3),
        ],
    )
    def test_kinds(self, tmp_path: Path, settings: dict[str, Any], number: int) -> None:
        found = POOLED.pairs(folder_with(tmp_path, MODULES, settings))
        assert {key: value.decode() for key, value in found.items()} == {"qwen3.pooling_type": number}

    @pytest.mark.parametrize("settings", [{}, {"pooling_mode_max_tokens": True}, {"pooling_mode": "max"}])
    def test_kinds_that_llama_cpp_doesn_t_have(self, tmp_path: Path, settings: dict[str, Any]) -> None:
        with pytest.raises(
            ModelError, match=r"asks for a kind of pooling that llama.cpp doesn't have"
        ) as error:
            POOLED.pairs(folder_with(tmp_path, MODULES, settings))
        assert error.value.problems[0].file == tmp_path / "1_Pooling/config.json"

    def test_folders_without(self, tmp_path: Path) -> None:
        assert POOLED.pairs(config(tmp_path)) == {}
        assert POOLED.pairs(folder_with(tmp_path, MODULES[:1])) == {}

    @pytest.mark.parametrize(
        ("modules", "said"),
        [
            ("[", "is not a list of modules"),
            ([1], "is not a list of modules"),
            ([{"type": "x.Pooling"}], "is not a list of modules"),
            ([{"type": 3, "path": ""}], "is not a list of modules"),
            ([{"type": "x.Pooling", "path": "a\nb"}], "is not a list of modules"),
            ([{"type": "x.Pooling", "path": "/etc"}], "points outside its folder: '/etc'"),
            ([{"type": "x.Pooling", "path": "a/../../b"}], "points outside its folder"),
        ],
    )
    def test_what_is_refused(self, tmp_path: Path, modules: Any, said: str) -> None:
        with pytest.raises(ModelError, match=f"modules.json: {said}"):
            POOLED.pairs(folder_with(tmp_path, modules))
