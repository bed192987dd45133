"""What doubt of the prior is worth: mixes that `fit` makes without measuring, in worlds in which the prior is wrong.

    python benchmarks/doubt.py MODEL [--imatrix FILE] [--worlds 40] [--sure 0 0.5 1 1.5 2]

In each world the head matters 1.9 times as much as the prior says, and tensors of layers 0.08 to 0.5 times, as it was
measured on a mixture of experts: a factor for each role, evenly spread in logarithms, and one of its own for each
tensor (0.3). Losses of types are typical ones. Shown is how much more or less a mix loses than the preset of the same
bytes: the mean over the worlds, and the worst. No model is run.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from quantrecipe.allocate.losses import Losses
from quantrecipe.fit import Request, doubt, fit
from quantrecipe.fit.request import like_budget
from quantrecipe.fit.stock import estimated_loss, recipe_like, stock_plan
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.origin import Origin
from quantrecipe.registry import Registry, load_registry
from quantrecipe.sensitivity.prior import estimate
from quantrecipe.sensitivity.sensitivity import Sensitivity

MIXES = ("Q2_K", "IQ3_M", "Q3_K_M", "IQ4_XS", "Q4_K_M", "Q5_K_S", "Q6_K")
HEAD, LAYERS, EMBEDDINGS, OWN = 1.9, (0.08, 0.5), (0.1, 1.0), 0.3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--imatrix", type=Path)
    parser.add_argument("--worlds", type=int, default=40)
    parser.add_argument("--sure", type=float, nargs="+", default=[0.0, 0.5, 1.0, 1.5, 2.0])
    args = parser.parse_args()
    registry = load_registry(plugins=False)
    model = open_model(args.model, registry=registry)
    matrix = read_importance(args.imatrix) if args.imatrix else None
    told = [Losses(model, registry, world, {}) for world in worlds(model, registry, args.worlds)]
    table = Table(
        "bytes of", *(f"{sure:g}: mean" for sure in args.sure), *(f"{sure:g}: worst" for sure in args.sure)
    )
    for mix in MIXES:
        recipe = recipe_like(mix, registry)
        plan = stock_plan(recipe, model, registry, matrix, allow_requantize=False)
        request = Request(
            name="mix", budget=like_budget(plan, Budget(origin=Origin(file="benchmark", line=1)))
        )
        changes = []
        for sure in args.sure:
            doubt.SURE = sure
            found = fit(model, request, registry, importance=matrix, stock={mix: recipe})
            changes.append([estimated_loss(found.plan, it) / estimated_loss(plan, it) - 1 for it in told])
        means, worst = ([f"{100 * its(one):+.0f} %" for one in changes] for its in (np.mean, max))
        table.add_row(mix, *means, *worst)
    Console().print(table)


def worlds(model: Model, registry: Registry, count: int) -> Iterator[Sensitivity]:
    """Alphas as they may be."""
    rng = np.random.default_rng(1)
    known = estimate(model, registry)
    tied = not any(tensor.role == "output" for tensor in model.tensors)
    for _ in range(count):
        roles: dict[str, float] = {}
        tensors = {}
        for tensor in model.tensors:
            if tensor.name not in known.tensors:
                continue
            if tensor.role == "output" or (tied and tensor.role == "token_embd"):
                factor = HEAD
            elif tensor.layer is None:
                factor = math.exp(rng.uniform(*np.log(EMBEDDINGS)))
            else:
                factor = roles.setdefault(tensor.role, math.exp(rng.uniform(*np.log(LAYERS))))
                factor *= math.exp(OWN * rng.standard_normal())
            its = known.tensors[tensor.name]
            tensors[tensor.name] = replace(its, alpha=its.alpha * factor, alpha_source="table")
        yield Sensitivity(tensors=tensors)


if __name__ == "__main__":
    main()
