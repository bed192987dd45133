"""The script that makes defaults.json, as far as it runs without transformers; and that the table obeys it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from quantrecipe.model.architectures.completion import known_model_types
from quantrecipe.packaged import packaged_table

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_defaults", ROOT / "tools/make_defaults.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(kw_only=True)
class Likeness:
    """What a configuration class of transformers looks like: defaults, and values that follow from others."""

    model_type: ClassVar = "likeness"
    attribute_map: ClassVar = {"width": "hidden_size"}

    width: int = 64
    num_attention_heads: int = 4
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    betas: tuple[float, ...] = (1.0, 2.0)
    hidden_dropout: float = 0.1
    use_cache: bool = True
    pad_token_id: int | None = None
    rope_parameters: dict[str, Any] | None = None
    lists: list[int] = field(default_factory=list)

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Likeness:
        named = {{"hidden_size": "width"}.get(key, key): value for key, value in given.items()}
        theta = named.pop("rope_theta", 5.0)
        named.pop("partial_rotary_factor", None)
        made = cls(**named)
        made.num_key_value_heads = made.num_key_value_heads or made.num_attention_heads
        made.rope_parameters = {"rope_theta": theta, "rope_type": "default"} | (made.rope_parameters or {})
        return made

    def to_dict(self) -> dict[str, Any]:
        return {{"width": "hidden_size"}.get(key, key): value for key, value in vars(self).items()}


def test_a_line_has_what_shape_and_arithmetic_depend_on(script: ModuleType) -> None:
    assert script.entry(Likeness) == {
        "values": {"betas": [1.0, 2.0], "hidden_size": 64, "num_attention_heads": 4},
        "aliases": {"width": "hidden_size"},
        "rope": {"rope_theta": 5.0},
        "fills": ["num_key_value_heads"],
    }


def test_rotary_settings_that_are_assumed_where_none_are_given(script: ModuleType) -> None:
    class Yarn(Likeness):
        @classmethod
        def from_dict(cls, given: dict[str, Any]) -> Likeness:
            scaled = {"rope_type": "yarn", "factor": 4.0}
            return Likeness.from_dict({"rope_parameters": scaled} | given)

    assert script.rope_defaults(Yarn) == {
        "alone": {"rope_type": "yarn", "factor": 4.0}, "beside": {"rope_theta": 5.0},
    }  # fmt: skip


def test_what_the_converter_registers(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "conversion").mkdir()
    text = '@ModelBase.register("LlamaForCausalLM",\n    "MixtralForCausalLM")\n@ModelBase.example("x/Y")\n'
    (tmp_path / "conversion/llama.py").write_text(text)
    assert script.converter_classes(tmp_path) == {"llamaforcausallm", "mixtralforcausallm"}


def test_what_stays_out_stays_out(script: ModuleType) -> None:
    assert known_model_types() & script.AS_WRITTEN.keys() == set()
    for kind, line in packaged_table("model/architectures/defaults.json")["model_types"].items():
        kept = [key for key in line.get("values", {}) if script._NOT_SHAPE.search(key)]
        assert kept == [], kind
