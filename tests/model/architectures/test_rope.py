"""Rotary embeddings: spellings of the settings, keys of scaling, and Llama 3's factors."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.rope import llama3_factors, rope_pairs, rope_parameters


def config(**values: Any) -> Config:
    path = Path("config.json")
    return Config(path=path, values=values, rope=rope_parameters(path, values, 10_000.0))


def keys(**values: Any) -> dict[str, Any]:
    found = rope_pairs("x", config(**values))
    return {key.removeprefix("x.rope."): pytest.approx(value.decode()) for key, value in found.items()}


LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    ("dim", "factor", "digest"),
    [
        (128, 8.0, "8b516af9cb5db26ed32831eb6f493dd6"),  # Llama 3.1 of every size, 3.3
        (64, 32.0, "d25a6d176d9313062b8f86440c88649f"),  # Llama 3.2 1B
        (128, 32.0, "af00a6286e9cba87733f6e5dd6b09a2b"),  # Llama 3.2 3B
    ],
)
def test_llama3_factors_are_pytorch_s(dim: int, factor: float, digest: str) -> None:
    scaling = LLAMA3 | {"factor": factor, "original_max_position_embeddings": 8192}
    made = llama3_factors(config(rope_theta=500_000.0, rope_scaling=scaling), dim)
    assert made is not None
    assert hashlib.sha256(made).hexdigest()[:32] == digest


def test_llama3_factors_rise_from_one_to_the_factor() -> None:
    scaling = LLAMA3 | {"factor": 8.0, "original_max_position_embeddings": 8192}
    made = llama3_factors(config(rope_theta=500_000.0, rope_scaling=scaling), 128)
    factors = np.frombuffer(made or b"", np.float32)
    assert (factors.size, factors[0], factors[-1]) == (64, 1, 8)
    assert np.all(np.diff(factors) >= 0)


def test_llama3_factors_without_a_blend_are_refused() -> None:
    with pytest.raises(ModelError, match="equal low_freq_factor"):
        llama3_factors(config(rope_scaling=LLAMA3 | {"low_freq_factor": 4.0}), 64)


def test_others_have_no_factors() -> None:
    assert llama3_factors(config(rope_scaling={"type": "linear", "factor": 2.0}), 64) is None


@pytest.mark.parametrize("name", ["rope_type", "type"])
@pytest.mark.parametrize("container", ["rope_scaling", "rope_parameters"])
def test_spellings(name: str, container: str) -> None:
    expected = {"scaling.type": "linear", "scaling.factor": 4.0, "freq_base": 7.0}
    assert keys(rope_theta=7.0, **{container: {name: "linear", "factor": 4.0}}) == expected


def test_yarn() -> None:
    scaling = {"type": "yarn", "factor": 4.0, "beta_fast": 32, "attn_factor": 1.5, "rope_theta": 1e6}
    assert keys(max_position_embeddings=4096, rope_scaling=scaling) == {
        "scaling.type": "yarn",
        "scaling.factor": 4.0,
        "scaling.original_context_length": 4096,
        "scaling.yarn_attn_factor": 1.5,
        "scaling.yarn_beta_fast": 32.0,
        "freq_base": 1e6,
    }


def test_longrope_and_defaults() -> None:
    assert keys(rope_scaling={"type": "su"}) == {"scaling.type": "longrope", "freq_base": 10_000.0}
    assert keys(rope_scaling=None) == {"freq_base": 10_000.0}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"rope_parameters": {"rope_type": [1, 2]}}, r"rope_type: \[1, 2\]"),
        ({"rope_scaling": {"type": {}}}, r"rope_type: \{\}"),
        ({"rope_scaling": "yarn"}, "rope_scaling: 'yarn' .expected: an object"),
        ({"rope_scaling": {}, "rope_parameters": [1]}, r"rope_parameters: \[1\]"),
        ({"rope_scaling": LLAMA3 | {"factor": 0}}, "no frequencies can be made"),
        ({"rope_scaling": LLAMA3 | {"factor": -4}}, "no frequencies can be made"),
        ({"rope_scaling": LLAMA3, "rope_theta": -1}, "no frequencies can be made"),
        ({"rope_scaling": LLAMA3 | {"factor": float("nan")}}, "factor: nan"),
        ({"rope_scaling": LLAMA3 | {"factor": 10**50}}, "factor: 1000"),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=rf"config\.json: .*{says}"):
        llama3_factors(config(**values), 64)


WHOLE = {"rope_theta": 500_000.0, "max_position_embeddings": 131072}


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("factor", 8.0),
        ("low_freq_factor", 1.0),
        ("high_freq_factor", 4.0),
        ("original_max_position_embeddings", 8192),
    ],
)
def test_what_llama_3_s_scaling_assumes(name: str, default: float) -> None:
    """Values of Llama 3.1, which its converter takes where config.json leaves one out."""
    whole = LLAMA3 | {"factor": 8.0, "original_max_position_embeddings": 8192}
    without = {key: value for key, value in whole.items() if key != name}
    values: dict[str, Any] = WHOLE | {"max_position_embeddings": None, "rope_scaling": without}
    assert llama3_factors(config(**values), 128) == llama3_factors(config(**WHOLE, rope_scaling=whole), 128)
    assert whole[name] == default


def test_the_base_frequency_that_llama_3_s_scaling_assumes() -> None:
    rope = {"rope_type": "llama3", "original_max_position_embeddings": 8192}
    silent = Config(path=Path("config.json"), values={}, rope=rope)
    said = Config(path=Path("config.json"), values={}, rope=rope | {"rope_theta": 10_000.0})
    assert llama3_factors(silent, 64) == llama3_factors(said, 64)


@pytest.mark.parametrize("kind", ["llama3", "yarn", "longrope", "linear"])
def test_the_context_length_of_the_first_training(kind: str) -> None:
    """Only some kinds of scaling start from it; config.json may have it within the settings or beside them."""
    path = Path("config.json")

    def length(values: dict[str, Any], **rope: Any) -> Any:
        found = rope_parameters(path, values | {"rope_scaling": {"rope_type": kind, **rope}}, 1e4)
        return found.get("original_max_position_embeddings")

    own = kind != "linear"
    assert length({"max_position_embeddings": 7}) == (7 if own else None)
    assert length({"max_position_embeddings": 7}, original_max_position_embeddings=5) == 5
    assert length({"original_max_position_embeddings": 6}, original_max_position_embeddings=5) == (
        6 if own else 5
    )


@pytest.mark.parametrize(
    ("values", "kind", "theta"),
    [
        ({}, "default", 1e4),
        ({"rope_theta": 7.0}, "default", 7.0),
        ({"rope_parameters": {"rope_theta": 8.0, "rope_type": "yarn"}}, "yarn", 8.0),
        ({"rope_parameters": {"rope_theta": 8.0}, "rope_theta": 7.0}, "default", 8.0),
        ({"rope_scaling": {"type": "linear"}, "rope_parameters": {"rope_type": "yarn"}}, "linear", 1e4),
        ({"rope_scaling": {}, "rope_parameters": {"rope_type": "yarn"}}, "yarn", 1e4),
        ({"rope_scaling": {"type": "linear", "rope_type": "yarn"}}, "yarn", 1e4),
    ],
)
def test_which_spelling_counts(values: dict[str, Any], kind: str, theta: float) -> None:
    before = repr(values)
    found = rope_parameters(Path("config.json"), values, 1e4)
    assert (found["rope_type"], found["rope_theta"]) == (kind, theta)
    assert repr(values) == before


def test_what_each_kind_of_scaling_writes() -> None:
    numbers = {
        "factor": 4.0,
        "beta_fast": 32,
        "beta_slow": 1,
        "extrapolation_factor": 0.5,
        "attention_factor": 0.75,
    }
    assert keys(rope_scaling={"type": "linear", **numbers}) == {
        "scaling.type": "linear", "scaling.factor": 4.0, "freq_base": 10_000.0,
    }  # fmt: skip
    assert list(keys(rope_scaling={"type": "yarn", **numbers}).items()) == [
        ("scaling.type", "yarn"),
        ("scaling.factor", 4.0),
        ("scaling.yarn_ext_factor", 0.5),
        ("scaling.yarn_attn_factor", 0.75),
        ("scaling.yarn_beta_fast", 32.0),
        ("scaling.yarn_beta_slow", 1.0),
        ("freq_base", 10_000.0),
    ]
    assert keys(rope_scaling={"type": "yarn", "beta_fast": 32}) == {"freq_base": 10_000.0}
    assert keys(rope_scaling={"type": "dynamic", "factor": 2.0}) == {"freq_base": 10_000.0}
    both = {"type": "yarn", "factor": 4.0, "attention_factor": 0.5, "attn_factor": 1.5}
    assert keys(rope_scaling=both)["scaling.yarn_attn_factor"] == 0.5
