"""Reference models: each is there by its name, and is what the model's public configuration makes of it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.open_model import open_model
from quantrecipe.model.reference_models import reference_models
from quantrecipe.model.shapes import shapes_text
from quantrecipe.plan.assign import kept_type
from quantrecipe.plan.condition_facts import model_facts
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "tests/data/shapes/configs"
NAMES = [name.removeprefix("shapes/") for name in reference_models()]


@pytest.fixture(scope="module")
def make_shapes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_shapes", ROOT / "tools/make_shapes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_shapes_are_made_of_the_public_configuration(name: str, make_shapes: ModuleType) -> None:
    model = make_shapes.make_model(json.loads((CONFIGS / f"{name}.json").read_text()))
    text = shapes_text(model, {t.name: kept_type(t, model) for t in model.tensors})
    assert text == (ROOT / f"quantrecipe/model/reference/{name}.json").read_text()


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("qwen3-0.6b", 0.751632384),  # with the stored head
        ("qwen3-14b", 14.768307200),
        ("qwen3-30b-a3b", 30.532122624),
        ("meta-llama-3.1-8b-instruct", 8.030261248),
        ("meta-llama-3.1-70b-instruct", 70.553706496),
        ("mistral-7b-instruct-v0.3", 7.248023552),
        ("mixtral-8x7b-instruct-v0.1", 46.702792704),
        ("gpt-oss-120b", 116.829156672),
        ("deepseek-v3.1", 671.026419200),  # without the MTP layer
        ("qwen3-coder-next", 79.674391296),
        ("nvidia-nemotron-3-nano-30b-a3b", 31.577940288),
    ],
)
def test_the_weights_add_up_to_what_the_publisher_says(name: str, billions: float) -> None:
    model = open_model(f"shapes/{name}")
    assert sum(tensor.size for tensor in model.tensors) == round(billions * 1e9)


def test_every_kind_of_model_is_among_them() -> None:
    models = [open_model(f"shapes/{name}") for name in NAMES]
    facts = [model_facts(model, has_importance=False) for model in models]
    roles = [{tensor.role for tensor in model.tensors} for model in models]
    assert any(fact["n_expert"] == 0 for fact in facts)
    assert any(fact["n_expert"] > 1 for fact in facts)
    assert any(fact["tied_embeddings"] for fact in facts)
    assert any("attn_kv_a_mqa" in role for role in roles)
    assert any("ssm_out" in role for role in roles)


def test_a_model_is_called_as_it_was_asked_for() -> None:
    plan = make_plan(load_recipe("llama.cpp/Q4_K_M"), open_model("shapes/qwen3-0.6b"))
    assert plan.to_json()["model"] == "shapes/qwen3-0.6b"


def test_a_file_of_that_name_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes/qwen3-14b").write_bytes(b"not a model")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="qwen3-14b"):
        open_model("shapes/qwen3-14b")


def test_a_name_that_is_not_there_says_which_are() -> None:
    with pytest.raises(ModelError, match=r"did you mean shapes/qwen3-14b\?"):
        open_model("shapes/Qwen3-14")
    with pytest.raises(ModelError, match=r"there are shapes/deepseek-v3\.1, "):
        open_model("shapes/zzz")
