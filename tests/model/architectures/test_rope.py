"""Rotary embeddings: spellings of the settings, keys of scaling, and Llama 3's factors."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.rope import (
    alpha_scaled_theta,
    full_attention,
    llama3_factors,
    longrope_attention_factor,
    longrope_factors,
    partial_factors,
    rope_pairs,
    rope_parameters,
    rotated,
    sliding_attention,
)
from quantrecipe.model.pairs import i32s


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


def test_llama3_factors_without_a_blend_are_one_or_the_other() -> None:
    raw = llama3_factors(config(rope_scaling=LLAMA3 | {"low_freq_factor": 4.0}), 64)
    assert raw is not None
    assert set(np.frombuffer(raw, "<f4")) == {1.0, 8.0}


def test_a_wavelength_at_an_edge_without_a_blend_has_no_factor() -> None:
    edge = float(np.float32(2 * np.pi))  # the longest frequency's wavelength
    scaling = LLAMA3 | {"low_freq_factor": 1.0, "high_freq_factor": 1.0}
    with pytest.raises(ModelError, match="no frequencies can be made"):
        llama3_factors(config(rope_scaling=scaling | {"original_max_position_embeddings": edge}), 64)


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


class TestKindsOfLayers:
    """Layers with a window may have settings of their own."""

    TWO: ClassVar = {
        "full_attention": {
            "rope_type": "yarn",
            "factor": 4.0,
            "rope_theta": 1e6,
            "partial_rotary_factor": 0.5,
        },
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }

    def test_full_attention_s_are_written_and_the_window_s_base(self) -> None:
        assert keys(rope_parameters=self.TWO, rope_theta=5.0, local_rope_theta=6.0) == {
            "scaling.type": "yarn", "scaling.factor": 4.0, "freq_base": 1e6, "freq_base_swa": 1e4,
        }  # fmt: skip

    def test_families_ask_for_either(self) -> None:
        both = config(rope_parameters=self.TWO)
        assert full_attention(both).rope_number("rope_theta") == 1e6
        windowed = sliding_attention(both)
        assert windowed is not None
        assert windowed.rope_number("rope_theta") == 1e4
        assert sliding_attention(config(rope_theta=5.0)) is None
        assert full_attention(config(rope_theta=5.0)).rope_number("rope_theta") == 5.0

    def test_older_spellings_say_both_bases_flat(self) -> None:
        scaling = {"type": "linear", "factor": 8.0}
        assert keys(rope_theta=1e6, rope_local_base_freq=1e4, rope_scaling=scaling) == {
            "scaling.type": "linear", "scaling.factor": 8.0, "freq_base": 1e6, "freq_base_swa": 1e4,
        }  # fmt: skip

    @pytest.mark.parametrize(
        "name",
        ["global_rope_theta", "rope_global_theta", "rope_theta_global", "rope_theta", "rotary_emb_base"],
    )
    def test_names_of_the_base(self, name: str) -> None:
        assert keys(**{name: 7.0}) == {"freq_base": 7.0}

    @pytest.mark.parametrize(
        "name",
        [
            "local_rope_theta",
            "rope_local_theta",
            "rope_theta_local",
            "swa_rope_theta",
            "rope_local_base_freq",
        ],
    )
    def test_names_of_the_window_s_base(self, name: str) -> None:
        assert keys(**{name: 7.0}) == {"freq_base": 10_000.0, "freq_base_swa": 7.0}

    def test_nothing_is_assumed_of_classes_that_are_not_known(self) -> None:
        path = Path("config.json")
        assert rope_parameters(path, {}) == {"rope_type": "default"}
        assert rope_parameters(path, {"rope_theta": 5.0}, None)["rope_theta"] == 5.0

    def test_config_json_stays_as_it_is(self) -> None:
        values = {"rope_parameters": {"full_attention": {"type": "yarn"}}}
        rope_parameters(Path("config.json"), values)
        assert values == {"rope_parameters": {"full_attention": {"type": "yarn"}}}

    @pytest.mark.parametrize(
        ("rope", "says"),
        [
            ({"full_attention": "yarn"}, "full_attention: 'yarn' .expected: an object"),
            ({"sliding_attention": [1]}, r"sliding_attention: \[1\] .expected: an object"),
            ({"full_attention": {"rope_type": 5}}, "rope_type: 5 "),
            ({"sliding_attention": {"rope_theta": "x"}}, "rope_theta: 'x'"),
        ],
    )
    def test_settings_that_make_no_sense(self, rope: dict[str, Any], says: str) -> None:
        with pytest.raises(ModelError, match=rf"config\.json: says {says}"):
            keys(rope_parameters=rope)


class TestShare:
    """How much of a head is rotated."""

    @pytest.mark.parametrize("name", ["partial_rotary_factor", "rope_pct", "rope_percent"])
    def test_names(self, name: str) -> None:
        assert rotated(config(**{name: 0.25}), 80) == 20

    def test_what_is_assumed(self) -> None:
        assert (rotated(config(), 80), rotated(config(), 80, default=0.5)) == (80, 40)

    def test_the_rest_is_not_rotated(self) -> None:
        assert np.frombuffer(partial_factors(4, 10), "<f4").tolist() == [1, 1, *[np.float32(1e30)] * 3]


@pytest.mark.parametrize(
    ("given", "written"),
    [([8, 4, 4], [8, 4, 4, 0]), ([1], [1, 0, 0, 0]), ([1, 2, 3, 4, 5], [1, 2, 3, 4]), ([], [0, 0, 0, 0])],
)
def test_sections_of_a_multimodal_rotation(given: list[int], written: list[int]) -> None:
    """Four of them, before the base frequency."""
    found = rope_pairs("x", config(rope_theta=7.0, rope_scaling={"mrope_section": given, "type": "default"}))
    assert list(found) == ["x.rope.dimension_sections", "x.rope.freq_base"]
    assert found["x.rope.dimension_sections"] == i32s(written)


@pytest.mark.parametrize("given", [None, 5, "8", [8, "4"], [8, -1], [2**31], [True], [1.0]])
def test_sections_that_make_no_sense(given: Any) -> None:
    with pytest.raises(ModelError, match=r"says mrope_section: .*a list of whole numbers"):
        keys(rope_scaling={"mrope_section": given})


def longrope(**more: Any) -> Config:
    scaling = {"type": "longrope", "long_factor": [1.0, 2], "short_factor": [1.0, 1.5], "rope_theta": 1e4}
    sizes = {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096}
    return config(**sizes | {"rope_scaling": scaling | more.pop("scaling", {})} | more)


class TestLongrope:
    """The two tensors of Phi 3 and MiniCPM, and the factor of Phi 3's attention."""

    def test_tensors(self) -> None:
        assert longrope_factors(longrope(), 4) == {
            "rope_factors_long.weight": np.array([1, 2], "<f4").tobytes(),
            "rope_factors_short.weight": np.array([1, 1.5], "<f4").tobytes(),
        }

    def test_others_have_none(self) -> None:
        assert longrope_factors(config(rope_theta=5.0), 4) == {}
        assert longrope_attention_factor(config(rope_theta=5.0)) is None

    @pytest.mark.parametrize(
        ("name", "given"),
        [
            ("long_factor", [1.0]),
            ("short_factor", [1.0, 2.0, 3.0]),
            ("short_factor", None),
            ("long_factor", "12"),
            ("long_factor", [1.0, "2"]),
            ("long_factor", [1.0, True]),
            ("long_factor", [1.0, 1e39]),
            ("long_factor", [1.0, float("nan")]),
        ],
    )
    def test_factors_that_make_no_sense(self, name: str, given: Any) -> None:
        with pytest.raises(ModelError, match=rf"says {name}: .*a list of 2 numbers, one for each pair"):
            longrope_factors(longrope(scaling={name: given}), 4)

    @pytest.mark.parametrize(
        ("kind", "length", "expected"),
        [
            ("longrope", 131072, 1.1902380714238083),  # Phi 3 with 128k: √(1 + ln 32 / ln 4096)
            ("su", 131072, 1.1902380714238083),
            ("yarn", 131072, 1.3465735902799727),  # 1 + 0.1 ln 32
            ("longrope", 4096, 1.0),
            ("yarn", 2048, 1.0),
        ],
    )
    def test_the_attention_s_factor(self, kind: str, length: int, expected: float) -> None:
        found = longrope_attention_factor(longrope(scaling={"type": kind}, max_position_embeddings=length))
        assert found == pytest.approx(expected, rel=1e-15)

    @pytest.mark.parametrize("original", [0, 1, None])
    def test_a_first_training_that_is_not_known(self, original: Any) -> None:
        made = replace(longrope(), rope=longrope().rope | {"original_max_position_embeddings": original})
        with pytest.raises(ModelError, match="has no original_max_position_embeddings"):
            longrope_attention_factor(made)

    def test_other_kinds_of_scaling(self) -> None:
        with pytest.raises(ModelError, match="says rope_type: 'linear' with long_factor"):
            longrope_attention_factor(longrope(scaling={"type": "linear"}))


class TestAlpha:
    """Hunyuan's dynamic scaling."""

    @pytest.mark.parametrize(
        ("scaling", "dimensions", "theta"),
        [({"alpha": 1000.0}, 128, 11158839.92), ({}, 128, 532032.03), ({"alpha": 1000.0}, 16, 26826957.95)],
    )
    def test_the_base_that_is_written(self, scaling: dict[str, float], dimensions: int, theta: float) -> None:
        found = alpha_scaled_theta(config(rope_scaling={"type": "dynamic"} | scaling), dimensions, 50)
        assert found == pytest.approx(theta, rel=1e-8)

    @pytest.mark.parametrize(
        ("scaling", "dimensions"),
        [({"alpha": 0.0}, 128), ({"alpha": -5.0}, 128), ({"alpha": 5.0}, 2), ({"alpha": 1e38}, 4),
         ({"alpha": 5.0, "rope_theta": -1.0}, 128), ({"alpha": 0.0}, 1)],
    )  # fmt: skip
    def test_settings_that_make_no_sense(self, scaling: dict[str, float], dimensions: int) -> None:
        with pytest.raises(ModelError, match="no frequencies can be made"):
            alpha_scaled_theta(config(rope_scaling={"type": "dynamic"} | scaling), dimensions, 50)
