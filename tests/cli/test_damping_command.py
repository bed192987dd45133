"""quantrecipe damping, with figures of ours in llama.cpp's place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.gram_statistics import write_statistics
from support.models import llama_metadata, llama_tensors, write_gguf

import quantrecipe.engine
import quantrecipe.refine
from quantrecipe.cli.app import app
from quantrecipe.plan.plan import Plan
from quantrecipe.refine import DampedGroup, DampingTried, groups_of

Q, DOWN = "blk.0.attn_q.weight", "blk.0.ffn_down.weight"
RECIPE = "quantrecipe: 1\nname: mine\ndefault: Q4_0\nencoder: feedback\n"


class Finder:
    """In the place of `find_dampings`: attention loses least with the second damping, the rest with none of them."""

    def __init__(self) -> None:
        self.dampings: tuple[float, ...] = ()
        self.texts: list[str] = []

    def __call__(
        self, plan: Plan, held: Path, texts: Sequence[Any], *, dampings: Sequence[float], told: Any, **_: Any
    ) -> list[DampedGroup]:
        assert held.exists()
        self.dampings, self.texts = tuple(dampings), [text.name for text in texts]
        done = []
        for group in groups_of(plan):
            tried = [DampingTried(damping=None, kld_mean=0.01)]
            for number, damping in enumerate(dampings):
                change = -0.2 if number == 1 and group.kind == "attention" else 0.1
                tried.append(
                    DampingTried(damping=damping, kld_mean=0.01 * (1 + change), change=change, error=0.01)
                )
                told(group, tried[-1])
            best = dampings[1] if group.kind == "attention" else None
            done.append(replace(group, tried=tuple(tried), damping=best))
        return done


@pytest.fixture(autouse=True)
def finder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Finder:
    monkeypatch.chdir(tmp_path)
    write_gguf(tmp_path / "model.gguf", llama_tensors(layers=1), llama_metadata())
    (tmp_path / "search.txt").write_text("search here", encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(RECIPE, encoding="utf-8")
    write_statistics(tmp_path, {Q: (256, (900,)), DOWN: (512, (900,))})
    made = Finder()
    monkeypatch.setattr(quantrecipe.refine, "find_dampings", made)
    monkeypatch.setattr(quantrecipe.engine, "require_engine", lambda engine: engine)
    return made


def damping(*more: str, statistics: bool = True) -> Result:
    given = ("--statistics", "made-0") if statistics else ()
    return CliRunner().invoke(app, ["--no-plugins", "damping", "mine.yaml", "model.gguf", *given, *more])


def test_what_was_found_is_shown_and_becomes_a_recipe(finder: Finder) -> None:
    result = damping("--text", "search.txt")
    assert result.exit_code == 0, result.output
    told = " ".join(result.output.split())
    assert "attention, Q4_0, damping 0.03: mean KLD 0.008 (-20.0 %)" in told
    assert "attention Q4_0 0.03 * 0.008 -20.0 ± 1.0 %" in told
    assert "feed-forward Q4_0 predicted * 0.01" in told
    assert "wrote mine-damped.yaml" in told
    assert finder.dampings == (0.01, 0.03, 0.1, 0.3, 1.0)
    assert finder.texts == ["search.txt"]
    planned = CliRunner().invoke(
        app, ["--no-plugins", "plan", "mine-damped.yaml", "model.gguf", "--statistics", "made-0", "--json"]
    )
    assert planned.exit_code == 0, planned.output
    made = {it["name"]: it for it in json.loads(planned.stdout)["tensors"]}
    assert made[Q]["encoder"] == "feedback"
    assert made[Q]["encoder_settled"] == {}
    assert made[DOWN]["encoder_settled"].keys() == {"by", "damping"}


def test_the_recipe_finds_its_parent_from_another_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert damping("--text", "search.txt", "-o", "out/damped.yaml").exit_code == 0
    assert 'extends: "../mine.yaml"' in Path("out/damped.yaml").read_text(encoding="utf-8")
    assert CliRunner().invoke(app, ["--no-plugins", "plan", "out/damped.yaml", "model.gguf"]).exit_code == 0


def test_what_is_tried_can_be_given(finder: Finder) -> None:
    result = damping("--text", "search.txt", "--try", "0.2", "--try", "0.5", "--json")
    assert result.exit_code == 0, result.output
    assert finder.dampings == (0.2, 0.5)
    told = json.loads(result.stdout)
    attention, feed_forward = told["groups"]
    assert told["recipe"] == "mine-damped.yaml"
    assert (attention["kind"], attention["damping"], attention["tensors"]) == ("attention", 0.5, [Q])
    assert [it["damping"] for it in attention["tried"]] == [None, 0.2, 0.5]
    assert feed_forward["damping"] is None


@pytest.mark.parametrize(
    ("more", "statistics", "message"),
    [
        ((), True, "Say with --text"),
        (("--text", "search.txt"), False, "needs the Gram matrices of the model's inputs"),
        (("--text", "nothing.txt"), True, "the text can't be read"),
        (("--text", "search.txt", "-o", "no/damped.yaml"), True, "the folder no doesn't exist"),
        (("--text", "search.txt", "-o", "mine.yaml"), True, "mine.yaml exists"),
        (("--text", "search.txt", "--try", "2"), True, "2.0 is not in the range"),
    ],
)
def test_what_is_refused(finder: Finder, more: tuple[str, ...], statistics: bool, message: str) -> None:
    result = damping(*more, statistics=statistics)
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.output.split())
    assert finder.dampings == ()


def test_a_recipe_with_a_number(finder: Finder) -> None:
    text = RECIPE.replace("feedback", "{name: feedback, damping: 0.1}")
    Path("mine.yaml").write_text(text, encoding="utf-8")
    result = damping("--text", "search.txt")
    assert result.exit_code == 1
    assert "without a number for the damping" in " ".join(result.output.split())
