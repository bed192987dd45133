"""What differs between two plans, in groups that a person can review."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.plain_data import plain
from quantrecipe.plan.review.diff import PlanDiff, diff_sides
from quantrecipe.plan.review.lock import make_lock, side_of_lock
from quantrecipe.plan.review.sides import Fate, Side, side_of_model, side_of_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry, load_registry
from quantrecipe.tensor import TensorInfo


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Model:
    path = tmp_path_factory.mktemp("model") / "model.gguf"
    write_gguf(path, llama_tensors(layers=6), llama_metadata(block_count=6))
    return open_model(path, registry=registry)


OLD = recipe(rule("attn_v", "Q6_K", line=3, why="values"), default="Q4_K", file_type="Q4_K_M")
NEW = recipe(
    rule("attn_v", "Q6_K", line=3, layers="first 2", why="values in front"),
    rule("ffn_down", "Q8_0", line=7, layers="2-4", why="outliers"),
    default="Q4_K",
    file_type="Q4_K_S",
)


def compare(old: Recipe, new: Recipe, model: Model, registry: Registry, costs: object = None) -> PlanDiff:
    sides = [
        side_of_plan(name, make_plan(it, model, registry=registry), it)
        for name, it in (("old", old), ("new", new))
    ]
    return diff_sides("model", *sides, costs)  # type: ignore[arg-type]  # two sides, and costs


def test_changes_are_grouped_by_role_and_layers(model: Model, registry: Registry) -> None:
    diff = compare(OLD, NEW, model, registry)
    found = [
        (change.role, change.layers, change.before[0].type, change.after[0].type, change.after[0].because)
        for change in diff.changes
    ]
    assert found == [
        ("attn_v", "2-5", "Q6_K", "Q4_K", "recipe.yaml (default)"),
        ("ffn_down", "2-4", "Q4_K", "Q8_0", "recipe.yaml:7"),
    ]
    assert diff.touched == 7
    assert diff.touched + diff.unchanged == len(model.tensors)


def test_bytes_add_up(model: Model, registry: Registry) -> None:
    diff = compare(OLD, NEW, model, registry)
    assert sum(change.delta for change in diff.changes) == pytest.approx(
        diff.delta, abs=4096
    )  # headers differ
    values, down = diff.changes
    assert values.delta == 4 * 128 * (144 - 210)
    assert down.delta == 3 * 256 * (16 * 34 - 2 * 144)
    assert values.bits(values.before) == pytest.approx(6.5625)
    assert values.bits(values.after) == pytest.approx(4.5)


def test_metadata_without_provenance(model: Model, registry: Registry) -> None:
    diff = compare(OLD, NEW, model, registry)
    (key,) = diff.metadata
    before, after = diff.metadata[key]
    assert key == "general.file_type"
    assert before is not None and after is not None
    assert (before.decode(), after.decode()) == (15, 14)


def test_another_rule_with_the_same_result_is_no_difference(model: Model, registry: Registry) -> None:
    other = recipe(rule("blk.*.attn_v", "Q6_K", line=9, why="values"), default="Q4_K", file_type="Q4_K_M")
    diff = compare(OLD, other, model, registry)
    assert not diff.differs
    assert [(c.kind, c.decides, c.changes) for c in diff.rules] == [("added", 6, 0), ("removed", 6, 0)]


class Costs:
    """Everything costs its bits; nobody measured ffn_up."""

    def cost(self, name: str, type_: str) -> float | None:
        known = {"Q4_K": 0.04, "Q6_K": 0.01, "Q8_0": 0.001}
        return None if "ffn_up" in name else known.get(type_)


def test_estimated_error(model: Model, registry: Registry) -> None:
    diff = compare(OLD, NEW, model, registry, Costs())
    values, down = diff.changes
    assert (values.cost_before, values.cost_after) == pytest.approx((0.04, 0.16))
    assert (down.cost_before, down.cost_after) == pytest.approx((0.12, 0.003))
    assert diff.cost_before is not None and diff.cost_after is not None
    assert diff.cost_after - diff.cost_before == pytest.approx(0.12 - 0.117)
    assert diff.unknown_costs == 0
    more = recipe(rule("ffn_up", "Q6_K", line=2), default="Q4_K")
    assert compare(OLD, more, model, registry, Costs()).unknown_costs == 6


def test_a_file_and_a_lock_are_what_they_were_made_from(
    model: Model, registry: Registry, tmp_path: Path
) -> None:
    plan = make_plan(OLD, model, registry=registry)
    side = side_of_plan("plan", plan, OLD)
    path = apply_plan(plan, tmp_path / "out.gguf", registry=registry).path
    held = side_of_model("file", open_model(path, registry=registry))
    locked = side_of_lock("lock", make_lock(plan, registry), registry)
    assert held.nbytes == locked.nbytes == side.nbytes
    for other in (held, locked):
        assert not diff_sides("model", side, other).differs
        assert not diff_sides("model", other, side).differs


def test_tensors_that_one_side_lacks(model: Model, registry: Registry) -> None:
    from quantrecipe.recipe.terms.layers import LayerSet

    pruned = recipe(
        rule("attn_v", "Q6_K", line=3), default="Q4_K", file_type="Q4_K_M", prune=LayerSet.parse("5")
    )
    diff = compare(OLD, pruned, model, registry)
    gone = [change for change in diff.changes if change.kind == "removed"]
    assert {change.layers for change in gone} == {"5"}
    assert len(gone) == 9
    assert all(change.delta < 0 for change in gone)


def test_plain_data(model: Model, registry: Registry) -> None:
    document = plain(compare(OLD, NEW, model, registry, Costs()))
    assert document["differs"]
    assert document["tensors_changed"] == 7
    assert document["changes"][1]["after"]["why"] == "outliers"
    assert document["changes"][1]["tensors"] == [f"blk.{n}.ffn_down.weight" for n in (2, 3, 4)]


def fate(
    name: str = "blk.0.attn_q.weight", type_: str = "Q4_K", shape: tuple[int, ...] = (4, 256), **more: Any
) -> Fate:
    return Fate(tensor=TensorInfo.from_name(name, shape, "BF16"), type=type_, **{"nbytes": 576, **more})


def side(label: str, *fates: Fate, **more: Any) -> Side:
    return Side(label=label, tensors={it.tensor.name: it for it in fates}, **{"nbytes": 1000, **more})


class TestSides:
    def test_added_and_removed(self) -> None:
        old = side("old", fate(), fate("blk.0.attn_k.weight"))
        new = side("new", fate(), fate("blk.0.attn_v.weight", "Q6_K"), nbytes=900)
        diff = diff_sides("m", old, new)
        assert [(c.kind, c.role, len(c.before), len(c.after)) for c in diff.changes] == [
            ("added", "attn_v", 0, 1),
            ("removed", "attn_k", 1, 0),
        ]
        added, removed = diff.changes
        assert (added.delta, removed.delta, diff.delta) == (576, -576, -100)
        assert (added.bits(added.before), added.bits(added.after)) == (None, 4.5)
        assert (diff.touched, diff.unchanged, diff.differs) == (2, 1, True)
        assert plain(added)["before"] is None
        assert plain(removed)["after"] is None

    def test_metadata_that_one_side_doesn_t_say_is_no_difference(self) -> None:
        one = {
            "a": GGUFValue.of(ValueType.UINT32, 1),
            "quantrecipe.version": GGUFValue.of(ValueType.UINT32, 1),
        }
        two = {"b": GGUFValue.of(ValueType.UINT32, 1), "a": GGUFValue.of(ValueType.INT32, 1)}
        assert diff_sides("m", side("x", metadata=one), side("y")).metadata == {}
        assert diff_sides("m", side("x"), side("y", metadata=one)).metadata == {}
        diff = diff_sides("m", side("x", metadata=one), side("y", metadata=two))
        assert list(diff.metadata.items()) == [("a", (one["a"], two["a"])), ("b", (None, two["b"]))]
        assert diff.differs
        assert plain(diff)["metadata"] == {"a": {"before": 1, "after": 1}, "b": {"before": None, "after": 1}}

    def test_groups_stand_in_the_order_of_roles_and_layers(self) -> None:
        names = ["output.weight", "blk.0.ffn_up.weight", "blk.0.attn_q.weight", "blk.7.ffn_up.weight"]
        old = side("old", *(fate(name) for name in names))
        new = side("new", *(fate(name, "Q6_K" if "7" in name else "Q5_K") for name in names))
        found = [(c.role, c.layers) for c in diff_sides("m", old, new).changes]
        assert found == [("output", ""), ("ffn_up", "0"), ("ffn_up", "7"), ("attn_q", "0")]

    @pytest.mark.parametrize(
        "change", [{"because": "x"}, {"wanted": "Q6_K"}, {"importance": True}, {"options": {"a": 1}}]
    )
    def test_who_fares_alike_for_another_reason_is_another_group(self, change: dict[str, Any]) -> None:
        old = side("old", fate(type_="Q8_0"), fate("blk.1.attn_q.weight", "Q8_0"))
        new = side("new", fate(), fate("blk.1.attn_q.weight", **change))
        assert [c.layers for c in diff_sides("m", old, new).changes] == ["0", "1"]


class TestCosts:
    """Of tensors that somebody has measured on both sides."""

    def diff(self, before: Fate, after: Fate | None) -> PlanDiff:
        known = fate("blk.1.attn_k.weight")
        new = side("new", known) if after is None else side("new", known, after)
        return diff_sides("m", side("old", known, before), new, Costs())

    def test_known_on_both_sides(self) -> None:
        found = self.diff(fate(type_="Q4_K"), fate(type_="Q6_K"))
        assert (found.cost_before, found.cost_after) == pytest.approx((0.08, 0.05))
        assert found.unknown_costs == 0

    @pytest.mark.parametrize(("before", "after"), [("Q4_K", "Q5_K"), ("Q5_K", "Q4_K"), ("Q5_K", "Q5_1")])
    def test_known_on_one_side_or_none(self, before: str, after: str) -> None:
        found = self.diff(fate(type_=before), fate(type_=after))
        assert (found.cost_before, found.cost_after, found.unknown_costs) == (0.04, 0.04, 1)

    def test_what_stays_as_it_is_needs_no_estimate(self) -> None:
        found = self.diff(fate(type_="Q5_K"), fate(type_="Q5_K"))
        assert (found.cost_before, found.cost_after, found.unknown_costs) == (0.04, 0.04, 0)

    def test_a_tensor_that_one_side_lacks(self) -> None:
        found = self.diff(fate(), None)
        assert (found.cost_before, found.cost_after, found.unknown_costs) == (0.04, 0.04, 0)
        (removed,) = found.changes
        assert (removed.cost_before, removed.cost_after) == (0.04, None)

    @pytest.mark.parametrize("type_", ["F32", "F16", "BF16", "F64"])
    def test_floats_lose_nothing(self, type_: str) -> None:
        found = self.diff(fate(type_="Q4_K"), fate(type_=type_))
        assert (found.cost_before, found.cost_after) == pytest.approx((0.08, 0.04))

    def test_nothing_known_at_all(self) -> None:
        old, new = side("old", fate(type_="Q5_K")), side("new", fate(type_="Q5_1"))
        found = diff_sides("m", old, new, Costs())
        assert (found.cost_before, found.cost_after, found.unknown_costs) == (None, None, 1)
        assert (found.changes[0].cost_before, found.changes[0].cost_after) == (None, None)
        bare = diff_sides("m", old, new)
        assert (bare.cost_before, bare.cost_after, bare.unknown_costs) == (None, None, None)

    def test_of_a_group_all_have_to_be_known(self) -> None:
        names = ["blk.0.attn_q.weight", "blk.1.attn_q.weight"]
        old = side("old", *(fate(name) for name in names))
        new = side("new", *(fate(name, "Q8_0") for name in names))
        (change,) = diff_sides("m", old, new, Costs()).changes
        assert (change.cost_before, change.cost_after) == pytest.approx((0.08, 0.002))


def test_the_whole_document() -> None:
    old = side("old.yaml", fate(because="a:1", why="x", importance=False), fate("output_norm.weight", "F32"))
    new = side(
        "new.yaml",
        fate(type_="Q5_0", because="b:2", wanted="Q5_K", importance=True, nbytes=704),
        fate("output_norm.weight", "F32"),
        nbytes=1128,
    )
    assert plain(diff_sides("m", old, new)) == {
        "model": "m",
        "differs": True,
        "before": {
            "side": "old.yaml", "nbytes": 1000, "tensors_nbytes": 1152, "tables_nbytes": 0,
            "bits_per_weight": 4.5, "estimated_error": None, "warnings": [],
        },
        "after": {
            "side": "new.yaml", "nbytes": 1128, "tensors_nbytes": 1280, "tables_nbytes": 0,
            "bits_per_weight": 5.0, "estimated_error": None, "warnings": [],
        },
        "delta": 128,
        "tensors_changed": 1,
        "tensors_unchanged": 1,
        "tensors_without_estimate": None,
        "changes": [
            {
                "kind": "changed",
                "role": "attn_q",
                "layers": "0",
                "tensors": ["blk.0.attn_q.weight"],
                "before": {
                    "type": "Q4_K", "options": {}, "fallback_from": None, "nbytes": 576, "bits_per_weight": 4.5,
                    "estimated_error": None, "because": "a:1", "why": "x", "importance": False,
                },
                "after": {
                    "type": "Q5_0", "options": {}, "fallback_from": "Q5_K", "nbytes": 704, "bits_per_weight": 5.5,
                    "estimated_error": None, "because": "b:2", "why": "", "importance": True,
                },
                "delta": 128,
            }
        ],
        "metadata": {},
        "rules": [],
    }  # fmt: skip
