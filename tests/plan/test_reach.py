"""A recipe that quantizes and leaves much of a model as it is says so; what is meant isn't told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.model.open_model import open_model
from quantrecipe.plan.reach import reach
from quantrecipe.plan.trace import NOT_A_MATRIX, Decision
from quantrecipe.planning import make_plan
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import load_registry
from quantrecipe.tensor import TensorInfo

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


def decided(name: str, shape: tuple[int, ...], wanted: str, because: str = "r.yaml:1") -> Decision:
    tensor = TensorInfo.from_name(name, shape, "BF16")
    return Decision(tensor=tensor, type=wanted, because=because, why="", rule=None)


Q4 = recipe(default="Q4_K")


class TestCounts:
    def test_what_is_left_of_matrices(self) -> None:
        found = reach(
            Q4,
            [
                (decided("blk.0.a.weight", (10, 256), "Q4_K"), "Q4_K"),
                (decided("blk.0.b", (20, 256), "keep", NOT_A_MATRIX), "BF16"),
                (decided("blk.0.c.weight", (30, 250), "Q4_K"), "F16"),
                (decided("blk.0.d.weight", (40, 256), "keep", "kept.yaml:1"), "BF16"),
                (decided("blk.0.e.weight", (50, 256), "F16"), "F16"),
                (decided("blk.0.f.weight", (256,), "keep", NOT_A_MATRIX), "F32"),
                (decided("blk.0.g.weight", (1, 1, 256), "Q4_K"), "F32"),
            ],
        )
        assert found is not None
        assert found.total == 10 * 256 + 20 * 256 + 30 * 250 + 40 * 256 + 50 * 256
        assert [t.role for t in found.nameless] == ["b"]
        assert [t.role for t in found.unfit] == ["c"]
        assert found.share == (20 * 256 + 30 * 250) / found.total
        assert found.encoded

    @pytest.mark.parametrize(("rows", "told"), [(9, False), (10, True)])
    def test_a_tenth_is_worth_a_word(self, rows: int, told: bool) -> None:
        found = reach(
            Q4,
            [
                (decided("blk.0.a.weight", (100 - rows, 256), "Q4_K"), "Q4_K"),
                (decided("blk.0.b", (rows, 256), "keep", NOT_A_MATRIX), "BF16"),
            ],
        )
        assert found is not None
        assert (found.problem() is not None) is told

    @pytest.mark.parametrize(
        ("nameless", "unfit", "said", "remedy"),
        [
            (True, False, "their names don't end in .weight, so patterns", "convert the model again"),
            (
                False,
                True,
                "their rows divide into no block of the types asked for",
                "`quantrecipe plan` shows",
            ),
            (
                True,
                True,
                "their names don't end in .weight, or their rows divide into no block",
                "convert the model",
            ),
        ],
    )
    def test_why(self, nameless: bool, unfit: bool, said: str, remedy: str) -> None:
        outcomes = [(decided("blk.0.a.weight", (1, 2, 256), "Q4_K"), "Q4_K")]
        if nameless:
            outcomes.append((decided("blk.0.b", (20, 256), "keep", NOT_A_MATRIX), "BF16"))
        if unfit:
            outcomes.append((decided("blk.0.c.weight", (30, 250), "Q4_K"), "F32"))
        found = reach(Q4, outcomes)
        assert found is not None
        problem = found.problem()
        assert problem is not None
        assert said in problem[0]
        assert problem[1].startswith(remedy)

    @pytest.mark.parametrize(
        ("mix", "counts"),
        [
            (recipe(default="Q4_K"), True),
            (recipe(rule("attn_v", "Q8_0")), True),
            (recipe(rule("attn_v", "", choose=("Q4_K", "BF16"))), True),
            (recipe(rule("attn_v", "F16"), default="BF16"), False),
            (recipe(rule("attn_v", "keep")), False),
            (recipe(), False),
        ],
    )
    def test_only_recipes_that_quantize_are_judged(self, mix: Recipe, counts: bool) -> None:
        assert (reach(mix, []) is not None) is counts

    def test_a_recipe_about_some_tensors_needs_none_of_them(self) -> None:
        some = reach(recipe(rule("attn_v", "Q8_0")), [])
        everything = reach(Q4, [])
        assert some is not None and everything is not None
        assert (some.problem(), everything.encoded) == (None, False)
        assert everything.problem() is not None
