"""How long a move of the studio's slider takes: the mix within a size, and what the page shows of it, as JSON.

    python benchmarks/studio.py [MODEL...] [--moves 100] [--base llama.cpp/Q4_K_M]

Sizes go from the smallest mix to the best one in even steps, first upwards, as a slider goes, and then in a mixed
order. "first" is the first pass, in which each preset's view is computed when it is needed; "later" is the second.
CPU time counts where other programs run beside it. Shown, too, is what it takes to open the model and to freeze a mix.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from time import perf_counter, process_time

from rich.console import Console
from rich.table import Table

from quantrecipe.registry import load_registry
from quantrecipe.studio.document import Shown, plan_document
from quantrecipe.studio.moves import Goal, frozen, learn_room, moved
from quantrecipe.studio.opened import Knowledge, Opened, open_for_studio
from quantrecipe.studio.session import settle

MODELS = ("shapes/qwen3.6-27b", "shapes/glm-4.6v", "shapes/qwen3-14b", "shapes/qwen3.5-397b-a17b")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--moves", type=int, default=100)
    parser.add_argument("--base", default="llama.cpp/Q4_K_M")
    args = parser.parse_args()
    knows = Knowledge(registry=load_registry(plugins=False))
    table = Table(
        "model", "what", "CPU p50", "CPU p95", "CPU most", "wall p50", "wall p95", title="milliseconds"
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for name in args.models:
        measured(table, name, knows, args.moves, args.base)
    Console().print(table)


def measured(table: Table, name: str, knows: Knowledge, moves: int, base: str) -> None:
    """Rows for one model."""
    found: list[Opened] = []

    def opening() -> None:
        found[:] = [open_for_studio(name, knows)]
        learn_room(found[0])
        settle()

    row(table, name, "open", [timed(opening)])
    (opened,) = found
    least, most = opened.smallest.nbytes, opened.best.nbytes
    places = [least + (most - least) * (number + 0.5) / moves for number in range(moves)]
    beside = opened.base(base)

    def move(size: float) -> None:
        goal = Goal(kind="size", value=size)
        mix = moved(opened, goal)
        json.dumps(plan_document(opened, Shown(plan=mix.plan, goal=goal, moved=mix, base=beside)))

    tensors = f"{len(opened.model.tensors)} tensors"
    row(table, tensors, "move, first", [timed(lambda size=size: move(size)) for size in places])
    random.Random(0).shuffle(places)
    row(table, "", "move, later", [timed(lambda size=size: move(size)) for size in places])
    frozen_ones = [
        timed(lambda size=size: frozen(opened, Goal(kind="size", value=size))) for size in places[:10]
    ]
    row(table, "", "freeze", frozen_ones)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall time, in milliseconds."""
    cpu, wall = process_time(), perf_counter()
    work()
    return 1000 * (process_time() - cpu), 1000 * (perf_counter() - wall)


def row(table: Table, name: str, what: str, times: Sequence[tuple[float, float]]) -> None:
    cpu, wall = (sorted(values) for values in zip(*times, strict=True))

    def at(values: Sequence[float], share: float) -> str:
        return f"{values[min(len(values) - 1, round(share * (len(values) - 1)))]:.0f}"

    table.add_row(name, what, at(cpu, 0.5), at(cpu, 0.95), at(cpu, 1), at(wall, 0.5), at(wall, 0.95))


if __name__ == "__main__":
    main()
