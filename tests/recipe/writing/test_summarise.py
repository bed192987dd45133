"""Types become rules that a person would have written, and that say exactly the same."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from quantrecipe.errors import RecipeError
from quantrecipe.model.shapes import open_shapes
from quantrecipe.plan.condition_facts import model_facts
from quantrecipe.plan.trace import trace
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.reading.recipe_part import RecipePart
from quantrecipe.recipe.recipe import Rule
from quantrecipe.recipe.writing.new_recipe import write_recipe
from quantrecipe.recipe.writing.summarise import common_type, summarise
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

ZOO = Path(__file__).parents[2] / "data/shapes/zoo"
TYPES = ("Q2_K", "Q4_K", "Q6_K", "Q8_0", "keep")


def tensors(**roles: Iterable[int] | None) -> list[TensorInfo]:
    """Tensors of these roles, each in these layers; None: outside the blocks."""
    names = [
        f"blk.{layer}.{role}.weight" if layer is not None else f"{role}.weight"
        for role, layers in roles.items()
        for layer in (layers if layers is not None else [None])
    ]
    return [TensorInfo.from_name(name, (256, 256), "F16") for name in names]


def rules(types: Mapping[str, str], default: str | None = None, **roles: Iterable[int] | None) -> list[str]:
    """The rules in short, for types by role or by whole name without `.weight`."""
    made = tensors(**roles)
    by_name = {
        t.name: types.get(t.name.removesuffix(".weight"), types.get(t.role, default or "")) for t in made
    }
    n_layers = max((t.layer + 1 for t in made if t.layer is not None), default=0)
    return [short(rule) for rule in summarise(by_name, made, n_layers, default=default)]


def short(rule: Rule) -> str:
    where = f" [{rule.layers or rule.when}]" if rule.layers or rule.when else ""
    return f"{' '.join(map(str, rule.tensors))}{where} → {rule.type}"


def written(rules: Iterable[Rule], default: str | None = None) -> str:
    return write_recipe(RecipePart(file="some.yaml", name="some", rules=tuple(rules), default=default))[0]


def test_roles_of_one_type_share_a_rule() -> None:
    types = {"attn_q": "Q8_0", "attn_k": "Q8_0", "ffn_gate_exps": "Q2_K", "ffn_up_exps": "Q2_K"}
    layers = {role: range(4) for role in types}
    assert rules(types, "Q4_K", **layers, ffn_down=range(4)) == [
        "attn_{k,q} → Q8_0",
        "ffn_{gate,up}_exps → Q2_K",
    ]


def test_the_head_is_called_so_tied_or_not() -> None:
    assert rules({"output": "Q8_0"}, "Q4_K", output=None, token_embd=None) == ["head → Q8_0"]
    assert rules({"token_embd": "Q8_0"}, "Q4_K", token_embd=None) == ["head → Q8_0"]
    assert rules({"token_embd": "Q8_0"}, "Q4_K", output=None, token_embd=None) == ["token_embd → Q8_0"]


@pytest.mark.parametrize(
    ("layers", "of", "text"),
    [
        ([0], 8, "0"),
        ([0, 1, 2], 8, "first 3"),
        (range(8), 64, "first 1/8"),
        (range(56, 64), 64, "last 1/8"),
        ([6, 7], 8, "last 2"),
        ([7], 8, "last 1"),
        ([3], 8, "3"),
        ([2, 3, 6], 8, "2-3, 6"),
        ([0, 1, 6, 7], 8, "first 2, last 2"),
        ([2, 5, 8, 11], 12, "every 3 from 2"),
        ([0, 1, 2, 5, 8, 11], 12, "first 2, every 3 from 2"),
    ],
)
def test_layers_are_said_as_people_say_them(layers: Iterable[int], of: int, text: str) -> None:
    types = {f"blk.{layer}.attn_v": "Q6_K" for layer in layers}
    assert rules(types, "Q4_K", attn_v=range(of)) == [f"attn_v [{text}] → Q6_K"]


def test_layers_without_the_tensor_join_a_range() -> None:
    types = {f"blk.{layer}.attn_v": "Q6_K" for layer in (3, 7, 11)}
    assert rules(types, "Q4_K", attn_v=range(3, 40, 4)) == ["attn_v [3-11] → Q6_K"]


def test_llama_cpp_s_more_bits_are_an_expression_that_roles_share() -> None:
    more = {0, 1, 4, 7, 10, 13, 14, 15}
    types = {f"blk.{layer}.{role}": "Q6_K" for layer in more for role in ("attn_v", "ffn_down")}
    assert rules(types, "Q4_K", attn_v=range(16), ffn_down=range(16)) == [
        "attn_v ffn_down [more_bits] → Q6_K"
    ]


def test_exceptions_stand_before_what_is_common_in_a_role() -> None:
    types = {"attn_v": "Q6_K", "blk.0.attn_v": "Q8_0", "blk.1.attn_v": "Q8_0"}
    assert rules(types, "Q4_K", attn_v=range(9)) == ["attn_v [first 2] → Q8_0", "attn_v → Q6_K"]


def test_towers_have_rules_of_their_own() -> None:
    names = [f"{tower}.blk.{layer}.attn_q.weight" for tower in ("enc", "dec") for layer in range(3)]
    made = [TensorInfo.from_name(name, (256, 256), "F16") for name in names]
    types = dict.fromkeys(names, "Q8_0")
    assert [short(rule) for rule in summarise(types, made, 3)] == ["{dec,enc}.blk.*.attn_q → Q8_0"]
    types["enc.blk.1.attn_q.weight"] = "Q6_K"
    assert [short(rule) for rule in summarise(types, made, 3)] == [
        "{dec,enc}.blk.*.attn_q → Q8_0",
        "enc.blk.1.attn_q → Q6_K",
    ][::-1]


def test_reasons_come_from_the_caller() -> None:
    made = tensors(attn_v=range(2))
    found = summarise({t.name: "Q8_0" for t in made}, made, 2, why=lambda rule: f"{rule.type} it is")
    assert [rule.why for rule in found] == ["Q8_0 it is"]


def resolved(text: str, shapes: Path, registry: Registry) -> dict[str, str]:
    recipe = load_recipe_text(text, registry=registry)
    decisions = trace(recipe, open_shapes(shapes)).decisions
    return {decision.tensor.name: decision.type for decision in decisions}


def quantizable(shapes: Path, registry: Registry) -> frozenset[str]:
    everything = resolved("quantrecipe: 1\ndefault: Q8_0\n", shapes, registry)
    return frozenset(name for name, type_ in everything.items() if type_ == "Q8_0")


def small_zoo() -> list[Path]:
    return [ZOO / f"{name}.json" for name in ("llama-8-small", "mixtral-8x", "t5-12", "falcon-32", "mamba-6")]


@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_any_types_come_back_from_the_recipe(data: st.DataObject, registry: Registry) -> None:
    """Types with structure (by role and layer) and without, on real models, kept tensors among them."""
    shapes = data.draw(st.sampled_from(small_zoo()))
    model = open_shapes(shapes)
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    noise = data.draw(st.sampled_from([0.0, 0.0, 0.02, 1.0]))
    by_role = {tensor.role: rng.choice(TYPES) for tensor in model.tensors}
    edge = rng.randrange(12)
    types = {
        tensor.name: rng.choice(TYPES)
        if rng.random() < noise
        else "Q6_K"
        if (tensor.layer or 0) < edge and rng.random() < 0.9
        else by_role[tensor.role]
        for tensor in model.tensors
    }
    n_layers = model_facts(model, has_importance=False)["n_layers"]
    reached = quantizable(shapes, registry)
    default = data.draw(
        st.sampled_from([None, "Q4_K", common_type(types, model.tensors, n_layers, reached=reached)])
    )
    base = dict.fromkeys(reached, default) if default else {}
    found = summarise(types, model.tensors, n_layers, base=base)
    assert resolved(written(found, default), shapes, registry) == types


def test_tensors_without_a_type_are_named_by_no_rule(registry: Registry) -> None:
    shapes = ZOO / "llama-8-small.json"
    model = open_shapes(shapes)
    types = {t.name: "Q8_0" for t in model.tensors if t.role == "attn_v" and t.layer != 3}
    found = summarise(types, model.tensors, 8)
    expected = {t.name: types.get(t.name, "keep") for t in model.tensors}
    assert resolved(written(found), shapes, registry) == expected


ODD = ["head.weight", "blk.0.a(b.weight", "blk.1.a(b.weight", "über.weight", "blk.0.x y.weight", "a{b,c}.weight",
       "blk.0.attn_q.weight", "attn_q.weight", "blk.1.attn_q.weight", "x.blk.0.y.weight", "x.blk.z.y.weight",
       "blk.0.x.blk.0.y.weight", "a..b.weight", "*.weight", "blk.2.w.weight.weight", "group:x.weight"]  # fmt: skip


@settings(max_examples=examples(100), deadline=None)
@given(types=st.lists(st.sampled_from(TYPES), min_size=len(ODD), max_size=len(ODD)))
def test_odd_names_are_spelt_out(types: list[str]) -> None:
    """Names that patterns can't spell, or that stand inside and outside of blocks."""
    made = [TensorInfo.from_name(name, (256, 256), "F16") for name in ODD]
    wanted = dict(zip(ODD, types, strict=True))
    found = summarise(wanted, made, 3, default="Q4_K")

    def first(tensor: TensorInfo) -> str:
        for rule in found:
            if not any(pattern.matches(tensor, None) for pattern in rule.tensors):
                continue
            if rule.layers and not rule.layers.contains(tensor.layer, 3):
                continue
            facts = {"layer": tensor.layer, "n_layers": 3}
            if rule.when and not rule.when.evaluate(facts):
                continue
            return rule.type
        return "Q4_K"

    assert {tensor.name: first(tensor) for tensor in made} == wanted


@pytest.mark.slow
def test_sixty_thousand_tensors_take_about_a_second() -> None:
    roles = {f"ffn_down.{expert}": range(60) for expert in range(1000)}
    made = tensors(**roles)
    rng = random.Random(1)
    by_row = {(role, layer): rng.choice(TYPES) for role in roles for layer in range(60)}
    start = time.process_time()
    found = summarise({t.name: by_row[t.role, t.layer or 0] for t in made}, made, 60, default="Q4_K")
    assert time.process_time() - start < 10  # a shared machine may be slow; it takes 1-2 s
    assert found == summarise(
        {t.name: by_row[t.role, t.layer or 0] for t in made}, made[::-1], 60, default="Q4_K"
    )


def test_claims_of_billions_of_layers_cost_nothing() -> None:
    made = tensors(attn_v=range(0, 2**19, 2**17))
    types = {t.name: "Q8_0" if (t.layer or 0) % 2**18 else "Q6_K" for t in made}
    start = time.process_time()
    assert len(summarise(types, made, 2**30, default="Q8_0")) == 1
    assert time.process_time() - start < 1


def test_a_number_that_no_recipe_can_say_is_an_error() -> None:
    made = tensors(attn_v=[0, 2**29])
    with pytest.raises(RecipeError, match="in the layers"):
        summarise({made[1].name: "Q6_K"}, made, 2**30, default="Q8_0")


@pytest.mark.parametrize(
    ("layers", "count", "text"),
    [
        ([2, 4], 5, "2, last 1"),  # as short as the expression, and plainer
        ([0, 3, 6, 7], 8, "last 1, every 3 from 0"),
        ([0, 1, 4, 7, 10, 13, 14, 15], 16, "more_bits"),
    ],
)
def test_an_expression_stands_for_three_items_or_more(layers: list[int], count: int, text: str) -> None:
    types = {f"blk.{layer}.attn_v": "Q6_K" for layer in layers}
    assert rules(types, "Q4_K", attn_v=range(count)) == [f"attn_v [{text}] → Q6_K"]


class TestCommonType:
    """The default: the type of most weights, unless another one saves several rules."""

    def common(
        self, types: dict[str, str], made: list[TensorInfo], reached: set[str] | None = None
    ) -> str | None:
        names = {t.name for t in made}
        return common_type(types, made, 4, reached=names if reached is None else reached)

    @pytest.mark.parametrize("order", [1, -1])
    def test_of_most_weights(self, order: int) -> None:
        """Wherever the largest tensor stands."""
        made = tensors(attn_q=range(1), attn_v=range(1), ffn_up=range(1))[::order]
        big = TensorInfo.from_name("blk.0.ffn_down.weight", (256, 1024), "F16")
        types = {t.name: "Q4_K" for t in made} | {big.name: "Q6_K"}
        assert self.common(types, [big, *made]) == self.common(types, [*made, big]) == "Q6_K"

    def test_of_equals_the_first_by_name(self) -> None:
        made = tensors(attn_q=range(1), attn_v=range(1))
        for pair in (("Q5_K", "Q4_K"), ("Q4_K", "Q5_K")):
            assert self.common(dict(zip([t.name for t in made], pair, strict=True)), made) == "Q4_K"

    def test_only_what_a_default_reaches_counts(self) -> None:
        made = tensors(attn_q=range(1), attn_v=range(1), ffn_up=range(1))
        types = {t.name: "Q4_K" if t.role == "ffn_up" else "Q6_K" for t in made}
        assert self.common(types, made) == "Q6_K"
        assert self.common(types, made, {"blk.0.ffn_up.weight"}) == "Q4_K"
        assert self.common({}, made) is None
        assert self.common(types, made, set()) is None
