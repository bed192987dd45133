"""What differs between two plans, in groups that a person can review."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.plain_data import plain
from quantrecipe.plan.review.diff import PlanDiff, diff_sides
from quantrecipe.plan.review.lock import make_lock, side_of_lock
from quantrecipe.plan.review.sides import side_of_model, side_of_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry, load_registry


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
