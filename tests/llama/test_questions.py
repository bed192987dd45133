"""Questions and continuations by the real llama.cpp: a model agrees with itself, and letters are its logits'."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantrecipe.evaluate import make_reference, read_text
from quantrecipe.evaluate.continuations import continuation_figures, continue_texts, places_of
from quantrecipe.evaluate.prompts import Prompt, answer
from quantrecipe.evaluate.questions import Question, ask
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry

pytestmark = pytest.mark.llama

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, registry = tmp_path_factory.mktemp("questions"), load_registry(plugins=False)
    model = open_model(ROOT / "examples/tiny-code", registry=registry)
    found = {}
    for name in ("BF16", "Q2_K"):
        plan = make_plan(load_recipe(f"llama.cpp/{name}", registry=registry), model, registry=registry)
        found[name] = apply_plan(plan, folder / f"{name}.gguf", registry=registry).path
    return found


def test_a_model_goes_on_as_itself_and_a_coarse_file_sooner_or_later_otherwise(
    models: dict[str, Path], tmp_path: Path
) -> None:
    text = read_text(ROOT / "tests/data/texts/code.val.txt")
    reference = make_reference(models["BF16"], text, tmp_path / "r", chunks=12)
    places = places_of(reference, 12)
    own, again, coarse = (
        continue_texts(models[name], reference, places) for name in ("BF16", "BF16", "Q2_K")
    )
    assert all(its.until.value == its.length for its in continuation_figures(again, own).agreement)
    short, long = continuation_figures(coarse, own).agreement
    assert short.until.value < 32 and long.whole.value < 0.5
    assert long.same.value < short.same.value < 1


def test_answers_are_what_the_model_generates(models: dict[str, Path]) -> None:
    prompts = ["import sys\nimport", "def add(a, b):\n    return", "class Path:\n    def __init__(self"]
    said = answer(models["BF16"], [Prompt(text=it, line=1) for it in prompts], most=16).texts
    questions = [
        Question(
            line=n,
            prompt=prompt,
            kind="answer",
            answers=(" ".join(next(it for it in text.splitlines() if it.strip()).split()).removesuffix("."),),
        )
        for n, (prompt, text) in enumerate(zip(prompts, said, strict=True), 1)
    ]
    assert ask(models["BF16"], questions, most=16).right == (True, True, True)
    assert not all(ask(models["Q2_K"], questions, most=16).right)


def test_of_choices_the_model_takes_one(models: dict[str, Path]) -> None:
    """In a text in which one letter comes again and again, that letter."""
    for letter, right in (("A", 0), ("C", 2)):
        shots = f"x = {letter}\nAnswer: {letter}\n" * 12
        prompt = f"{shots}x = {letter}\nAnswer:"
        question = Question(line=1, prompt=prompt, kind="choices", choices=4, right=right)
        found = ask(models["BF16"], [question] * 3)
        assert found.said == (letter,) * 3
        assert found.right == (True,) * 3
