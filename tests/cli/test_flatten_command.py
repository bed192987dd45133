"""quantrecipe flatten, and --set wherever a recipe is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.cli import main

Output = pytest.CaptureFixture[str]

RECIPE = """\
quantrecipe: 1
default: Q4_K
variables:
  values: Q6_K
  early: {type: layers, default: first 1}
rules:
  - tensors: attn_v
    layers: $early
    type: $values
    why: values
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a recipe that has variables, one that hasn't, and a model."""
    monkeypatch.chdir(tmp_path)
    Path("mix.yaml").write_text(RECIPE, encoding="utf-8")
    Path("plain.yaml").write_text("quantrecipe: 1\ndefault: Q8_0\n", encoding="utf-8")
    write_gguf(
        Path("model.gguf"), llama_tensors(layers=4, hidden=256, vocab=32), llama_metadata(block_count=4)
    )


def types(capsys: Output, *args: str) -> dict[str, str]:
    assert main(["plan", "mix.yaml", "model.gguf", "--json", *args]) == 0
    plan = json.loads(capsys.readouterr().out)
    return {it["name"]: it["type"] for it in plan["tensors"] if "attn_v" in it["name"]}


def test_a_plan_takes_the_settings(capsys: Output) -> None:
    assert list(types(capsys).values()) == ["Q6_K", "Q4_K", "Q4_K", "Q4_K"]
    set_ = types(capsys, "--set", "values=Q8_0", "--set", "early=first 2, 3")
    assert list(set_.values()) == ["Q8_0", "Q8_0", "Q4_K", "Q8_0"]


def test_each_of_several_recipes_takes_the_settings_of_its_variables(capsys: Output) -> None:
    args = ["apply", "mix.yaml", "plain.yaml", "model.gguf", "--dry-run", "--out-dir", "."]
    assert main([*args, "--set", "values=Q5_K"]) == 0
    assert "Q5_K" in capsys.readouterr().out
    assert main([*args, "--set", "value=Q5_K"]) == 1
    assert "--set value: the recipe has no such variable; did you mean values?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["values"], "'values' is no NAME=VALUE"),
        (["values=Q8_0", "values=F16"], "values is set twice"),
    ],
)
def test_a_setting_is_a_name_and_a_value(given: list[str], expected: str, capsys: Output) -> None:
    args = [word for pair in given for word in ("--set", pair)]
    assert main(["flatten", "mix.yaml", *args]) == 2
    assert expected in capsys.readouterr().err


def test_what_is_printed_plans_identically(capsys: Output) -> None:
    assert main(["flatten", "mix.yaml", "--set", "values=Q8_0"]) == 0
    text = capsys.readouterr().out
    assert "  # mix.yaml:7\n  - tensors: attn_v\n    layers: first 1\n    type: Q8_0\n" in text
    expected = types(capsys, "--set", "values=Q8_0")
    Path("mix.yaml").write_text(text, encoding="utf-8")
    assert types(capsys) == expected


def test_json(capsys: Output) -> None:
    assert main(["flatten", "mix.yaml", "--json"]) == 0
    flat = json.loads(capsys.readouterr().out)
    assert flat["rules"][0]["type"] == "Q6_K"
    assert flat["rules"][0]["origin"] == "mix.yaml:7"
    assert flat["variables"]["early"] == {
        "type": "layers",
        "value": "first 1",
        "default": "first 1",
        "set": False,
        "why": "",
    }


def test_a_recipe_that_is_wrong(capsys: Output) -> None:
    Path("mix.yaml").write_text("quantrecipe: 1\ndefault: Q4k\n", encoding="utf-8")
    assert main(["flatten", "mix.yaml"]) == 1
    assert "mix.yaml:2: there is no format 'Q4k'; did you mean Q4_K" in capsys.readouterr().err
