"""quantrecipe explain: what a person sees, what a machine gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.terminal import show

from quantrecipe.cli import main

Output = pytest.CaptureFixture[str]

BASE = """\
quantrecipe: 1
name: base
default: Q4_K
rules:
  - tensors: ffn_up
    type: Q5_K
  - tensors: ffn_gate
    type: Q5_K
  - tensors: attn_v
    when: rank < count//8 or n_expert > 1
    type: Q6_K
    why: the first layers
"""
RECIPE = """\
quantrecipe: 1
extends: base.yaml
rules:
  - tensors: attn_v
    layers: last 1
    type: Q8_0
    why: the [last] layer
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with two recipes and a model of 16 layers."""
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE, encoding="utf-8")
    Path("mine.yaml").write_text(RECIPE, encoding="utf-8")
    write_gguf(Path("m.gguf"), llama_tensors(layers=16, hidden=256, vocab=32), llama_metadata(block_count=16))


def explain(capsys: Output, *args: str) -> str:
    assert main(["explain", "mine.yaml", "m.gguf", *args]) == 0
    return "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())


def test_the_whole_story() -> None:
    assert (
        show(["explain", "mine.yaml", "m.gguf", "blk.3.attn_v"], width=100).out
        == """\
blk.3.attn_v.weight  128 × 256, BF16  → Q4_K

mine.yaml
  ✗   4  attn_v  layers last 1
         layer 3 isn't in last 1 of 16
base.yaml, by extends in mine.yaml:2
  ✗ 5-7  2 rules that don't name it
  ✗   9  attn_v  when rank < count//8 or n_expert > 1
         rank < count//8: 3 < 2 is false
         n_expert > 1: 0 > 1 is false

decided by  base.yaml:3 (default): no rule matches, and it is a quantizable matrix
wanted      Q4_K
importance  not used: no importance matrix is given
becomes     Q4_K, 18.00 KiB (18,432 bytes), 4.500 bits per weight
"""
    )


def test_a_rule_is_a_line_in_a_pipe(capsys: Output) -> None:
    out = explain(capsys, "blk.3.attn_v")
    assert "\n  ✗   4  attn_v  layers last 1; layer 3 isn't in last 1 of 16\n" in out


def test_the_rule_that_decides_ends_the_story(capsys: Output) -> None:
    out = explain(capsys, "blk.15.attn_v")
    assert "✓ 4  attn_v  layers last 1  → Q8_0" in out
    assert "3 rules behind it are not tried" in out
    assert "why         the [last] layer" in out
    assert "base.yaml" not in out
    out = explain(capsys, "blk.0.attn_v", "--all-rules")
    assert "9  attn_v" in out and "not tried" not in out


def test_rules_that_come_too_late_are_shown_on_demand(capsys: Output) -> None:
    Path("mine.yaml").write_text(RECIPE.replace("last 1", "first 1"), encoding="utf-8")
    out = explain(capsys, "blk.0.attn_v", "--all-rules")
    assert "→ Q6_K  would match, but comes too late" in out


def test_tensors_that_fare_alike_are_told_of_together(capsys: Output) -> None:
    out = explain(capsys, "attn_v")
    assert [line for line in out.splitlines() if line.startswith("blk.")] == [
        "blk.0.attn_v.weight  128 × 256, BF16  → Q6_K",
        "blk.2.attn_v.weight  128 × 256, BF16  → Q4_K",
        "blk.15.attn_v.weight  128 × 256, BF16  → Q8_0",
    ]
    assert "and 12 more alike: layers 2-14; the values below are the first one's" in out


def test_json(capsys: Output) -> None:
    found = json.loads(explain(capsys, "attn_v", "--json"))
    assert [it["name"] for it in found] == [f"blk.{i}.attn_v.weight" for i in range(16)]
    assert found[3]["rules"][0]["outcome"] == "other layers"


def test_a_name_that_isnt_there(capsys: Output) -> None:
    assert main(["explain", "mine.yaml", "m.gguf", "attn_w"]) == 1
    assert "no tensor of this model is named by 'attn_w'; did you mean attn_" in capsys.readouterr().err


def test_a_recipe_that_does_not_plan_is_explained_with_a_warning(capsys: Output) -> None:
    Path("mine.yaml").write_text(RECIPE + "  - {tensors: nope, type: F16}\n", encoding="utf-8")
    assert main(["explain", "mine.yaml", "m.gguf", "head"]) == 0
    output = capsys.readouterr()
    assert "output.weight" in output.out
    assert "warning: the recipe doesn't plan on this model: mine.yaml:8: no tensor" in output.err


def test_a_shape_file_and_settings(capsys: Output) -> None:
    Path("mine.yaml").write_text("quantrecipe: 1\nvariables: {t: Q4_K}\ndefault: $t\nrules: []\n")
    assert main(["explain", "mine.yaml", "shapes/qwen3-14b", "head", "--set", "t=Q6_K"]) == 0
    assert "becomes     Q6_K" in capsys.readouterr().out


def test_a_choice_is_the_plan_s(capsys: Output) -> None:
    text = "quantrecipe: 1\nbudget: {bpw: 6}\nrules: [{tensors: '*', choose: [Q4_K, Q6_K]}]\n"
    Path("mine.yaml").write_text(text, encoding="utf-8")
    out = explain(capsys, "blk.3.attn_v")
    assert out.splitlines()[0].endswith(("→ Q6_K", "→ Q4_K"))
    assert "wanted      one of Q4_K, Q6_K, as the budget allows" in out
    Path("mine.yaml").write_text(text.replace("bpw: 6", "bpw: 2"), encoding="utf-8")
    assert main(["explain", "mine.yaml", "m.gguf", "blk.3.attn_v"]) == 0
    output = capsys.readouterr()
    assert "→ left to the optimiser" in output.out
    assert "warning: the recipe doesn't plan on this model: mine.yaml:2:" in output.err
