"""llama.cpp loads what quantrecipe writes, and the model is still the model."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.perplexity import perplexity

from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry

pytestmark = pytest.mark.llama

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "tests/data/texts/code.val.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Perplexity of the example model, by recipe; llama.cpp loads each file."""
    folder = tmp_path_factory.mktemp("perplexity")
    registry = load_registry(plugins=False)
    model = open_model(ROOT / "examples/tiny-code", registry=registry)
    result = {}
    for name in (
        "llama.cpp/BF16",
        "llama.cpp/Q8_0",
        str(ROOT / "recipes/code-model.yaml"),
        "llama.cpp/Q4_K_M",
    ):
        recipe = load_recipe(name, registry=registry)
        path = apply_plan(make_plan(recipe, model, registry=registry), folder / f"{recipe.name}.gguf").path
        result[recipe.name], tokens = perplexity(path, TEXT)
        print(f"{recipe.name:12} {result[recipe.name]:8.3f}  ({tokens} tokens)")  # noqa: T201  # for the log of CI
    return result


def test_bf16_is_the_trained_model(measured: dict[str, float]) -> None:
    assert measured["BF16"] == pytest.approx(40.786, abs=0.05)  # llama-perplexity -c 512 on the same text


def test_q8_0_is_within_half_a_percent(measured: dict[str, float]) -> None:
    assert abs(measured["Q8_0"] / measured["BF16"] - 1) < 0.005


def test_the_code_recipe_is_within_what_the_readme_states(measured: dict[str, float]) -> None:
    assert measured["code-model"] / measured["BF16"] - 1 < 0.01
