"""HiGHS on what the search could not finish: several limits at once, where few choices use just the same.

HiGHS calculates in floating point and to a tolerance, so what it finds is held against the limits in integers, and its
bound counts less that tolerance.

It runs in a process of its own. The versions in SciPy (1.15 to 1.17 at least) print a line of C++'s printf now and then
(HighsMipSolverData::transformNewIntegerFeasibleSolution), whatever their options say; standard output may be JSON, and
turning it away for a moment would take what other threads of the caller's print meanwhile. The answer comes on that
process's standard output, between such lines.
"""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.allocate.knapsack.search import Found

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.allocate.knapsack.bound import Bound
    from quantrecipe.allocate.knapsack.option_table import Table

__all__ = ["solve", "solve_here"]

_NODES = 500  # a count, not a time: the same on every machine
_REPAIRS = 4  # times that it is asked, each time for less by what was too much
_TOLERANCE = 1e-6  # of HiGHS, in its own scale
_ANSWER = b"\0answer\0"  # what the answer stands behind


def solve(table: Table, bound: Bound, options: NDArray[np.int64]) -> Found:
    """The best choice among these options and every item's base."""
    done = subprocess.run(
        # -P: nothing is imported from the current folder.
        [sys.executable, "-P", "-m", __name__],
        input=pickle.dumps((table, bound, options)),
        capture_output=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the process that runs HiGHS failed:\n{done.stderr.decode(errors='replace')}")
    found: Found = pickle.loads(done.stdout.partition(_ANSWER)[2])  # and no more than that one value
    return found


def solve_here(table: Table, bound: Bound, options: NDArray[np.int64]) -> Found:
    """The same in this process, where HiGHS may print."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    left = np.union1d(options, bound.base)
    count = np.bincount(table.item[left], minlength=table.items)
    free = left[count[table.item[left]] > 1]
    fixed = bound.base[count == 1]
    slack = table.most - table.uses[fixed].sum(axis=0, dtype=np.int64)
    if not len(free):
        kept = bool((slack >= 0).all())
        cost = float(table.cost[bound.base].sum(dtype=np.int64)) if kept else math.inf
        return Found(choice=bound.base.copy() if kept else None, cost=cost, bound=cost)
    _, member = np.unique(table.item[free], return_inverse=True)
    one_each = csr_array((np.ones(len(free)), (member, np.arange(len(free)))))
    uses = table.uses[free].astype(np.float64)
    largest = np.maximum(uses.max(axis=0, initial=1.0), 1.0)
    costs = table.cost[free].astype(np.float64)
    dearest = max(1.0, float(costs.max(initial=1.0)))
    already = int(table.cost[fixed].sum(dtype=np.int64))
    target, lowest = slack.copy(), math.inf
    for _ in range(_REPAIRS):
        result = milp(
            costs / dearest,
            integrality=np.ones(len(free)),
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(one_each, 1, 1),
                LinearConstraint((uses / largest).T, -np.inf, target / largest),
            ],
            options={"node_limit": _NODES, "mip_rel_gap": 0.0},
        )
        if result.mip_dual_bound is not None and math.isinf(lowest):
            lowest = already + (result.mip_dual_bound - _TOLERANCE) * dearest
        if result.x is None:
            break
        order = np.lexsort((-result.x, member))
        _, first = np.unique(member[order], return_index=True)
        taken = free[order[first]]
        over = table.uses[taken].sum(axis=0, dtype=np.int64) - slack
        if (over <= 0).all():
            choice = bound.base.copy()
            choice[table.item[taken]] = taken
            cost = already + int(table.cost[taken].sum(dtype=np.int64))
            return Found(choice=choice, cost=cost, bound=min(cost, max(lowest, bound.value)))
        target = target - np.maximum(over, 0)  # a tolerance too much: ask for as much less
    return Found(choice=None, cost=math.inf, bound=lowest if math.isfinite(lowest) else bound.value)


if __name__ == "__main__":
    sys.stdout.buffer.write(_ANSWER + pickle.dumps(solve_here(*pickle.loads(sys.stdin.buffer.read()))))
