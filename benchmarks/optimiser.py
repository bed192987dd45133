"""How long the optimiser takes, and how close it comes: models, and random problems, up to 50,000 tensors × 20 types.

    python benchmarks/optimiser.py [--json] [--most 50000]

Sizes are those of a model's matrices (many tensors alike), or all different; losses fall by 6 dB a bit, with 10 % of
noise. The gap is what the optimiser itself proves: how much better another choice could be at most. The last column is
what scipy.optimize.milp finds by itself in ten seconds, for one limit and up to 5,000 tensors.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from quantrecipe.allocate.knapsack.optimise import optimise
from quantrecipe.allocate.knapsack.problem import Item, Limit, Option

BITS = np.array(
    (
        *(1.5625, 1.75, 2.0625, 2.3125, 2.5625, 2.625, 3.0625, 3.4375, 3.4375, 4.25),
        *(4.5, 4.5, 4.5, 5.0, 5.5, 5.5, 6.0, 6.5625, 8.5, 16.0),
    )
)
_HIGHS_SECONDS = 10.0
MATRICES = (1024 * 8192, 8192 * 8192, 28672 * 8192)
PROBLEMS = (
    (57, "model", 1),
    (560, "model", 1),
    (560, "random", 1),
    (560, "model", 2),
    (560, "random", 3),
    (5000, "random", 1),
    (50000, "model", 1),
    (50000, "random", 1),
    (50000, "random", 2),
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One problem, solved."""

    tensors: int
    sizes: str
    limits: int
    seconds: float
    gap: float
    unused: int
    highs: float | None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--most", type=int, default=50_000, help="leave larger problems out")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    runs = [run(*problem) for problem in PROBLEMS if problem[0] <= args.most]
    if args.json:
        sys.stdout.write(json.dumps([asdict(it) for it in runs], indent=2) + "\n")
        return
    table = Table()
    for heading in ("tensors", "sizes", "limits", "seconds", "gap", "bytes left", "HiGHS alone"):
        table.add_column(heading, justify="right")
    for it in runs:
        beside = "" if it.highs is None else f"{100 * it.highs:+.4f} %"
        row = (f"{it.tensors:,}", it.sizes, str(it.limits), f"{it.seconds:.2f}", f"{it.gap:.1e}")
        table.add_row(*row, f"{it.unused:,}", beside)
    Console().print(table)


def run(tensors: int, sizes: str, limits: int) -> Run:
    items, most = problem(tensors, sizes, limits)
    begin = time.perf_counter()
    found = optimise(items, most)
    seconds = time.perf_counter() - begin
    assert found is not None
    beside = highs(items, most[0]) if limits == 1 and tensors <= 5000 else None
    return Run(
        tensors=tensors,
        sizes=sizes,
        limits=limits,
        seconds=seconds,
        gap=found.gap,
        unused=most[0].most - found.uses[0],
        highs=None if beside is None else beside / found.cost - 1,
    )


def problem(tensors: int, sizes: str, limits: int, seed: int = 0) -> tuple[list[Item], list[Limit]]:
    """Losses and bytes of each tensor in 20 types; a fifth of the way from the smallest to the largest."""
    rng = np.random.default_rng(seed)
    items = []
    for number in range(tensors):
        weights = (
            int(rng.choice(MATRICES))
            if sizes == "model"
            else int(rng.integers(1 << 16, 1 << 24)) // 256 * 256
        )
        costs = rng.lognormal(0, 1) * weights**0.5 * 4.0**-BITS * np.exp(rng.normal(0, 0.1, len(BITS)))
        nbytes = (weights * BITS / 8).astype(np.int64) // 32 * 32
        uses = [nbytes, nbytes * int(rng.integers(0, 2)), nbytes * rng.integers(1, 8) // 8][:limits]
        items.append(
            Item(
                name=str(number),
                options=tuple(
                    Option(name=str(o), cost=float(costs[o]), uses=tuple(int(use[o]) for use in uses))
                    for o in range(len(BITS))
                ),
            )
        )
    least = np.array([[min(o.uses[b] for o in it.options) for b in range(limits)] for it in items]).sum(0)
    most = np.array([[max(o.uses[b] for o in it.options) for b in range(limits)] for it in items]).sum(0)
    return items, [Limit(name=str(b), most=int(least[b] + (most[b] - least[b]) // 5)) for b in range(limits)]


def highs(items: list[Item], limit: Limit) -> float | None:
    """The cost that HiGHS finds in that time, if it keeps the limit."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    counts = [len(item.options) for item in items]
    costs = np.array([option.cost for item in items for option in item.options])
    uses = np.array([option.uses[0] for item in items for option in item.options], float)
    member = np.repeat(np.arange(len(items)), counts)
    result = milp(
        costs / costs.max(),
        integrality=np.ones(len(costs)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(csr_array((np.ones(len(costs)), (member, np.arange(len(costs))))), 1, 1),
            LinearConstraint(uses[np.newaxis] / uses.max(), -np.inf, limit.most / uses.max()),
        ],
        options={"time_limit": _HIGHS_SECONDS, "mip_rel_gap": 0.0},
    )
    if result.x is None:
        return None
    chosen = result.x > 0.5
    kept = int(uses[chosen].sum()) <= limit.most and int(chosen.sum()) == len(items)
    return float(costs[chosen].sum()) if kept else None


if __name__ == "__main__":
    main()
