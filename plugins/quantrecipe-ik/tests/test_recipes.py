"""The mixtures load, decide every tensor of real models, and put the types where ik_llama.cpp does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import quantrecipe_ik

FOLDER = Path(quantrecipe_ik.__file__).parent / "recipes"
PARTS = {"mixture", "terms"}
MIXTURES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem not in PARTS)


def plan(recipe: str, model: str) -> dict[str, str]:
    """The type of each tensor, from the command as it is installed."""
    command = [sys.executable, "-m", "quantrecipe", "plan", recipe, f"shapes/{model}", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {tensor["name"]: tensor["type"] for tensor in json.loads(done.stdout)["tensors"]}


@pytest.mark.parametrize("name", MIXTURES)
def test_every_mixture_is_mostly_of_its_type(name: str) -> None:
    types = list(plan(f"ik/{name}", "meta-llama-3.1-8b-instruct").values())
    expected = "IQ3_K" if name == "IQ3_KL" else name
    assert types.count(expected) > 75


def test_types_are_where_ik_llama_puts_them() -> None:
    dense = plan("ik/IQ4_KS", "meta-llama-3.1-8b-instruct")
    assert dense["output.weight"] == "Q6_K"
    assert dense["blk.9.attn_v.weight"] == "IQ5_K"  # four heads share a value matrix
    assert dense["blk.0.ffn_down.weight"] == "Q5_K"  # no importance
    assert dense["blk.9.ffn_down.weight"] == "IQ4_KS"
    experts = plan("ik/IQ2_K", "qwen3-30b-a3b")
    assert experts["blk.9.attn_v.weight"] == "Q8_0"
    assert experts["blk.9.attn_output.weight"] == "Q5_K"
    assert experts["blk.9.ffn_down_exps.weight"] == "IQ2_K"
    assert plan("ik/IQ3_K", "meta-llama-3.1-70b-instruct")["blk.9.attn_v.weight"] == "IQ5_K"


def test_each_says_whose_it_is() -> None:
    for name in MIXTURES:
        text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
        assert text.startswith("# Origin of the facts: ik_llama.cpp")
        assert f"name: {name}\n" in text
