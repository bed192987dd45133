"""The curated recipes on reference models: sizes, exactly; what they lose, as the prior expects. Nothing is run.

python benchmarks/recipe_plans.py                           bits per weight, and the loss beside stock of the same bytes
python benchmarks/recipe_plans.py --roles deepseek-v3.1     bytes and bits of each role on one model
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from equal_bytes import CURATED, STOCK, Point, at_size, lowest_line, ratio, tensor_bytes

from quantrecipe.importance.coverage import assumed_importance
from quantrecipe.model.open_model import open_model
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry
from quantrecipe.sensitivity import Sensitivity, estimate

PLANNED = (
    *(
        "meta-llama-3.1-8b-instruct",
        "mistral-7b-instruct-v0.3",
        "gemma-3-4b-it",
        "qwen3.6-27b",
        "qwen3-30b-a3b",
    ),
    *("mixtral-8x7b-instruct-v0.1", "glm-4.6v", "deepseek-v3.1", "qwen3-coder-next"),
)


def plans(recipes: Sequence[str], models: Sequence[str]) -> Iterator[str]:
    """Markdown: bits per weight on reference models, and the estimated loss beside stock of the same bytes."""
    registry = load_registry(plugins=False)
    yield "| recipe |" + "".join(f" {name} |" for name in models)
    yield "|---|" + "---:|" * len(models)
    rows: dict[str, list[str]] = {recipe: [] for recipe in recipes}
    for name in models:
        model = open_model(f"shapes/{name}", registry=registry)
        sensitivity = estimate(model, registry)
        importance = assumed_importance(model.tensors)
        planned = {
            recipe: make_plan(
                load_recipe(recipe, registry=registry), model, registry=registry, importance=importance
            )
            for recipe in (*STOCK, *recipes)
        }
        line = lowest_line(_estimated(recipe, planned[recipe], sensitivity) for recipe in STOCK)
        for recipe in recipes:
            mine = _estimated(recipe, planned[recipe], sensitivity)
            there = at_size(line, mine.nbytes)
            change = f" ({100 * ratio(mine.loss, there[0])[0]:+.0f} %)" if there else ""
            rows[recipe].append(f" {planned[recipe].bits_per_weight:.2f}{change} |")
    for recipe, cells in rows.items():
        yield f"| {recipe.split('/')[-1]} |" + "".join(cells)


def roles(recipes: Sequence[str], name: str) -> Iterator[str]:
    """Markdown: what each role gets on a reference model, in GiB and bits per weight."""
    registry = load_registry(plugins=False)
    model = open_model(f"shapes/{name}", registry=registry)
    importance = assumed_importance(model.tensors)
    found: dict[str, list[str]] = {}
    totals = []
    for recipe in recipes:
        loaded = load_recipe(recipe, registry=registry)
        plan = make_plan(loaded, model, registry=registry, importance=importance)
        for role in sorted({a.tensor.role for a in plan.assignments if len(a.tensor.shape) > 1}):
            mine = [a for a in plan.assignments if a.tensor.role == role]
            nbytes, weights = sum(a.nbytes for a in mine), sum(a.tensor.size for a in mine)
            found.setdefault(role, []).append(f"{nbytes / (1 << 30):.2f} | {8 * nbytes / weights:.2f}")
        totals.append(f"{plan.nbytes / (1 << 30):.2f} | {plan.bits_per_weight:.2f}")
    yield f"| {name} |" + "".join(f" {recipe.split('/')[-1]}: GiB | bits |" for recipe in recipes)
    yield "|---|" + "---:|---:|" * len(recipes)
    for role, cells in found.items():
        yield f"| {role} |" + "".join(f" {cell} |" for cell in cells)
    yield "| whole file |" + "".join(f" {total} |" for total in totals)


def _estimated(recipe: str, plan: Plan, sensitivity: Sensitivity) -> Point:
    costs = [sensitivity.cost(a.tensor.name, a.type) or 0.0 for a in plan.assignments]
    return Point(name=recipe, nbytes=tensor_bytes(plan), loss=np.array([sum(costs)]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", default=CURATED, metavar="NAME")
    parser.add_argument("--models", nargs="+", default=PLANNED, metavar="NAME", help="reference models")
    parser.add_argument("--roles", metavar="MODEL", help="bytes by role on this reference model")
    args = parser.parse_args()
    rows = roles(args.recipes, args.roles) if args.roles else plans(args.recipes, args.models)
    for row in rows:
        sys.stdout.write(row + "\n")


if __name__ == "__main__":
    main()
