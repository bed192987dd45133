"""Which rule decides, and when a rule is refused for being idle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.recipes import keep, recipe, rule

from quantrecipe.errors import PlanError
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.plan.trace import trace
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.tensor import TensorInfo


def model(folder: Path, *, layers: int = 2, experts: int = 0, tied: bool = False, **hyper: int) -> Model:
    path = folder / "model.gguf"
    tensors = llama_tensors(layers=layers, cols=64, hidden=64, vocab=8, experts=experts, tied=tied)
    return open_model(write_gguf(path, tensors, llama_metadata(block_count=layers, **hyper)))


def types(recipe: Recipe, model: Model, covered: tuple[str, ...] = ()) -> dict[str, str]:
    decisions = trace(recipe, model, covered=(lambda t: t.name in covered) if covered else None).decisions
    return {d.tensor.name: d.type for d in decisions}


def test_the_first_rule_that_matches_decides(tmp_path: Path) -> None:
    found = types(
        recipe(rule("attn_v", "A", line=2), rule("attn_*", "B", line=3), default="C"), model(tmp_path)
    )
    assert found["blk.0.attn_v.weight"] == "A"
    assert found["blk.1.attn_q.weight"] == "B"
    assert found["blk.1.ffn_up.weight"] == "C"


def test_own_rules_stand_before_inherited_ones_and_may_hide_them(tmp_path: Path) -> None:
    found = types(recipe(rule("attn_v", "A"), rule("attn_v", "B", own=False)), model(tmp_path))
    assert found["blk.0.attn_v.weight"] == "A"


def test_tensors_come_in_the_order_of_layer_and_name(tmp_path: Path) -> None:
    names = list(types(recipe(default="A"), model(tmp_path, layers=11)))
    assert names[:3] == ["output.weight", "output_norm.weight", "token_embd.weight"]
    assert names[3:5] == ["blk.0.attn_k.weight", "blk.0.attn_norm.weight"]
    assert names.index("blk.2.attn_k.weight") < names.index("blk.10.attn_k.weight")


def test_wildcards_and_default_leave_norms_vectors_and_routers_alone(tmp_path: Path) -> None:
    found = types(recipe(rule("*", "A")), model(tmp_path, experts=2))
    kept = {name for name, type_ in found.items() if type_ == "keep"}
    assert len(kept) == 7  # two norms and a router in each layer, and the last norm
    assert all("_norm" in name or "ffn_gate_inp" in name for name in kept)
    assert found["blk.0.ffn_down_exps.weight"] == "A"


def test_a_name_without_wildcard_reaches_what_is_kept(tmp_path: Path) -> None:
    found = types(recipe(rule("ffn_gate_inp", "A"), rule("blk.*.attn_norm", "B")), model(tmp_path, experts=2))
    assert found["blk.1.ffn_gate_inp.weight"] == "A"
    assert found["blk.0.attn_norm.weight"] == "B"
    assert found["blk.0.ffn_norm.weight"] == "keep"


def test_a_kept_entry_may_depend_on_the_model(tmp_path: Path) -> None:
    kept = (keep("attn_v", when="arch == 'llama'"), keep("attn_k", when="arch == 'other'"))
    found = types(recipe(default="A", kept=kept), model(tmp_path))
    assert (found["blk.0.attn_v.weight"], found["blk.0.attn_k.weight"]) == ("keep", "A")


@pytest.mark.parametrize(("tied", "head"), [(True, "token_embd.weight"), (False, "output.weight")])
def test_head_is_the_tensor_that_makes_the_logits(tmp_path: Path, tied: bool, head: str) -> None:
    found = types(recipe(rule("head", "A"), default="B"), model(tmp_path, tied=tied))
    assert [name for name, type_ in found.items() if type_ == "A"] == [head]


def test_layers_restrict_a_rule(tmp_path: Path) -> None:
    found = types(
        recipe(rule("attn_v", "A", layers="first 2, last 1"), default="B"), model(tmp_path, layers=5)
    )
    assert [found[f"blk.{i}.attn_v.weight"] for i in range(5)] == ["A", "A", "B", "B", "A"]


def test_last_layers_don_t_count_nextn_blocks(tmp_path: Path) -> None:
    found = types(
        recipe(rule("attn_v", "A", layers="last 1"), default="B"),
        model(tmp_path, layers=4, nextn_predict_layers=1),
    )
    assert [found[f"blk.{i}.attn_v.weight"] for i in range(4)] == ["B", "B", "A", "B"]


def test_rank_and_count_run_over_what_the_rule_names_whatever_earlier_rules_took(tmp_path: Path) -> None:
    rules = [
        rule("blk.0.ffn_*", "A", line=1),
        rule("ffn_{up,down}", "B", line=2, when="rank == count - 1 or rank < 2"),
    ]
    found = types(recipe(*rules, default="C"), model(tmp_path, layers=3))
    assert [found[f"blk.{i}.ffn_{role}.weight"] for i in range(3) for role in ("down", "up")] == [
        *("A", "A"),  # ranks 0 and 1 are the second rule's, but the first has them
        *("C", "C"),
        *("C", "B"),  # rank 5 of 6
    ]


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("arch == 'llama' and n_layers == 2 and n_blocks == 2", True),
        ("n_gqa == 2", True),
        ("n_expert > 0", False),
        ("tied_embeddings", False),
        ("has_importance and covered", True),
        ("layer % 2 == 0", None),
        ("source_type == 'BF16' and source_type != 'F32'", True),
        ("rows == 32 and cols == 64 and dims == 2 and experts == 1", True),
    ],
)
def test_facts(tmp_path: Path, when: str, holds: bool | None) -> None:
    covered = ("blk.0.attn_v.weight", "blk.1.attn_v.weight")
    found = types(recipe(rule("attn_v", "A", when=when), default="B"), model(tmp_path), covered)
    expected = ["A", "B"] if holds is None else ["A" if holds else "B"] * 2
    assert [found[f"blk.{i}.attn_v.weight"] for i in range(2)] == expected


def test_a_rule_that_names_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        PlanError, match=r"recipe\.yaml:4: no tensor of this model is named by 'ffn_down_exps'"
    ):
        types(recipe(rule("ffn_down_exps", "A", line=4)), model(tmp_path))


def test_optional_rules_may_name_nothing(tmp_path: Path) -> None:
    assert types(recipe(rule("*_exps", "A", optional=True), default="B"), model(tmp_path))


def test_a_rule_for_layers_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="the model has layers 0-1"):
        types(recipe(rule("attn_v", "A", layers="5-7")), model(tmp_path))


def test_a_rule_whose_condition_is_false_is_inactive_not_wrong(tmp_path: Path) -> None:
    assert types(recipe(rule("attn_v", "A", when="n_expert > 0")), model(tmp_path))


def test_a_hidden_rule_is_refused_and_names_what_hides_it(tmp_path: Path) -> None:
    with pytest.raises(
        PlanError, match=r"recipe\.yaml:5: this rule never decides: line 2 takes every tensor"
    ):
        types(recipe(rule("attn_*", "A", line=2), rule("attn_v", "B", line=5)), model(tmp_path))


def test_an_optional_rule_may_be_hidden_by_rules_that_ask_for_something(tmp_path: Path) -> None:
    hiding = rule("attn_*", "A", line=2, when="n_expert == 0")
    assert types(recipe(hiding, rule("attn_v", "B", line=5, optional=True)), model(tmp_path))
    with pytest.raises(PlanError, match=r"recipe\.yaml:5: this rule never decides: line 2"):
        types(recipe(hiding, rule("attn_v", "B", line=5)), model(tmp_path))
    with pytest.raises(PlanError, match=r"recipe\.yaml:5: this rule never decides: line 2"):
        types(
            recipe(rule("attn_*", "A", line=2), rule("attn_v", "B", line=5, optional=True)), model(tmp_path)
        )


def test_inherited_rules_may_lie_idle(tmp_path: Path) -> None:
    rules = [rule("attn_*", "A"), rule("attn_v", "B", own=False), rule("nothing", "C", own=False)]
    assert types(recipe(*rules), model(tmp_path))


def test_all_idle_rules_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        types(recipe(rule("nope", "A", line=2), rule("nor_this", "B", line=3)), model(tmp_path))
    assert [problem.line for problem in caught.value.problems] == [2, 3]


def test_a_condition_that_can_t_be_computed_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"recipe\.yaml:6: .*divides by zero"):
        types(recipe(rule("attn_v", "A", line=6, when="rank % layer == 0")), model(tmp_path))


def test_names_that_end_in_weight_without_a_dot_are_matrices(tmp_path: Path) -> None:
    """llama.cpp: tensor_allows_quantization asks for the ending, in lower case, and not for a dot."""
    tensors = llama_tensors(layers=1, cols=64, hidden=64, vocab=8)
    strange = ["blk.0.attn.in_proj_weight", "weight", "x.Weight", "foo.weight_g", "attn_norm_weight"]
    for name in strange:
        tensors[name] = tensors["blk.0.attn_q.weight"]
    loaded = open_model(write_gguf(tmp_path / "m.gguf", tensors, llama_metadata(block_count=1)))
    found = types(recipe(rule("*.*in_proj*", "A"), default="B"), loaded)
    assert [found[name] for name in strange] == ["A", "B", "keep", "keep", "B"]


def test_two_names_that_differ_in_weight_alone(tmp_path: Path) -> None:
    tensors = llama_tensors(layers=1, cols=64, hidden=64, vocab=8)
    tensors["a"] = tensors["a.weight"] = tensors["blk.0.attn_q.weight"]
    loaded = open_model(write_gguf(tmp_path / "m.gguf", tensors, llama_metadata(block_count=1)))
    assert types(recipe(rule("a", "A"), default="B"), loaded)["a.weight"] == "A"
    assert types(recipe(rule("a", "A"), default="B"), loaded)["a"] == "keep"
    both = types(recipe(rule("name:a", "A"), rule("name:a.weight", "C"), default="B"), loaded)
    assert (both["a"], both["a.weight"]) == ("A", "C")


@pytest.mark.parametrize("shape", [(1, 1, 1, 4, 64), (0, 64), (64, 0), (2, 2, 2, 64)])
def test_what_is_no_matrix_to_llama_cpp_is_left_alone(shape: tuple[int, ...], tmp_path: Path) -> None:
    loaded = model(tmp_path)
    odd = TensorInfo.from_name("odd.weight", shape, "F16")
    loaded = replace(loaded, tensors=(*loaded.tensors, odd))
    assert types(recipe(rule("*", "A"), default="B"), loaded)["odd.weight"] == "keep"
