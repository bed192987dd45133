"""A recipe that quantizes and leaves much of a model as it is says so; what is meant isn't told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.model.open_model import open_model
from quantrecipe.planning import make_plan
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import load_registry

REGISTRY = load_registry(plugins=False)
EXPERTS = ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")


def nameless(path: Path, *roles: str) -> Path:
    """A mixture of experts, in which these roles have no `.weight`, as in a dbrx that was converted long ago."""
    tensors = {
        name.removesuffix(".weight") if name.endswith(tuple(f"{role}.weight" for role in roles)) else name: it
        for name, it in llama_tensors(layers=2, experts=4).items()
    }
    return write_gguf(path, tensors, llama_metadata(block_count=2, expert_count=4, expert_used_count=2))


def told(path: Path, made_of: Recipe) -> str:
    plan = make_plan(made_of, open_model(path, registry=REGISTRY), registry=REGISTRY)
    return "\n".join(plan.warnings)


@pytest.mark.parametrize("roles", [EXPERTS, EXPERTS[-1:]], ids=["all experts", "a third of them"])
def test_names_that_patterns_pass_by(tmp_path: Path, roles: tuple[str, ...]) -> None:
    said = told(nameless(tmp_path / "m.gguf", *roles), recipe(default="Q4_K"))
    assert "% of the weights in matrices aren't quantized" in said
    assert "their names don't end in .weight" in said
    assert all(f"{role} (2)" in said for role in roles)


def test_the_largest_roles_come_first(tmp_path: Path) -> None:
    tensors = {"blk.0.a": np.ones((64, 256), np.float32), "blk.0.b": np.ones((512, 256), np.float32)}
    assert "aren't quantized: b, a;" in told(write_gguf(tmp_path / "m.gguf", tensors), recipe(default="Q4_K"))


def test_rows_that_no_block_divides(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama_tensors(cols=260, hidden=516))
    said = told(path, recipe(default="Q4_K"))
    assert said.startswith("100 % of the weights in matrices aren't quantized")
    assert "their rows divide into no block" in said


def test_a_model_without_matrices(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", {"output_norm.weight": np.ones(256, np.float32)})
    assert "no tensor of this model gets a quantized type" in told(path, recipe(default="Q4_K"))
    assert told(path, recipe(default="F16")) == ""


def test_what_is_meant_is_not_told(tmp_path: Path) -> None:
    path = nameless(tmp_path / "m.gguf", *EXPERTS)
    outright = recipe(rule(list(EXPERTS), "Q4_K"), default="Q4_K")
    kept = recipe(rule([f"{role}" for role in EXPERTS], "keep"), default="Q4_K")
    assert told(path, outright) == told(path, kept) == ""
    whole = write_gguf(tmp_path / "whole.gguf", llama_tensors())
    assert told(whole, recipe(rule("attn_v", "Q4_K"))) == ""  # no default: the rest is left alone on purpose
    assert told(whole, recipe(default="Q4_K")) == ""
