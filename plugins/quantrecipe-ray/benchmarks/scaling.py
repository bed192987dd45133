"""How Ray's workers do beside threads of one process, on this machine: python benchmarks/scaling.py [MILLION_WEIGHTS]

    python benchmarks/scaling.py 1000                 the file has a billion weights: 2 GB are read, 0.6 GB written
    python benchmarks/scaling.py 1000 --rounds 5      the shortest of five runs of each counts [default: 3]
    python benchmarks/scaling.py 1000 --format IQ4_XS --only '2 threads'

"CPU" are the seconds of the processors that quantrecipe and its workers take together, Ray's own processes not counted:
other programs on the machine change them little. All run in turns. The cluster is up before; the connection with it,
the start of workers and their end are in the times of Ray. Each result is compared with the first file, byte by byte.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import gguf
import numpy as np
import psutil
from quantrecipe.api import Order, Workers
from quantrecipe.executors.local import Processes
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.shares.by_executor import apply_by
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import load_registry

from quantrecipe_ray import RayExecutor

COLS, ROWS = 4096, 4096
"""Of each tensor: 17 million weights."""


def write_model(path: Path, weights: int) -> None:
    """BF16, all tensors the same random weights: no format is quicker because of that."""
    rng = np.random.default_rng(0)
    values = (rng.standard_normal((ROWS, COLS), np.float32) * 0.02).view(np.uint32) >> 16
    writer = gguf.GGUFWriter(str(path), "llama")
    count = max(1, round(weights / values.size))
    writer.add_block_count(count)
    writer.add_head_count(32)
    stored = values.astype(np.uint16).view(np.uint8)
    for layer in range(count):
        writer.add_tensor(f"blk.{layer}.attn_q.weight", stored, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class _Counted(RayExecutor):
    """Notes how many seconds of the processor the workers took."""

    seconds = 0.0

    def open(self, order: Order) -> Workers:
        workers = super().open(order)
        close = workers.close

        def counting() -> None:
            found = psutil.Process().children(recursive=True)
            type(self).seconds = sum(_processor(it) for it in found if it.name().startswith("ray::Worker"))
            close()

        workers.close = counting  # type: ignore[method-assign]  # of this one only
        return workers


def _processor(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("millions", nargs="?", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--format", default="Q4_K")
    parser.add_argument("--only", default="", help="the ways whose names have this, and threads beside them")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "^"
    from ray.cluster_utils import Cluster

    registry = load_registry()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        model, out, first = (Path(folder) / name for name in ("model.gguf", "out.gguf", "first.gguf"))
        write_model(model, given.millions * 1_000_000)
        plan = make_plan(
            load_recipe_text(f"quantrecipe: 1\nname: all\ndefault: {given.format}\n", registry=registry),
            open_model(model, registry=registry),
            registry=registry,
        )
        apply_plan(plan, first, registry=registry)  # kernels are compiled, and the model is in memory
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": os.cpu_count(), "include_dashboard": False}
        )
        os.environ["RAY_ADDRESS"] = cluster.address

        def ray(workers: int, threads: int) -> Callable[[], object]:
            executor = _Counted({"workers": workers, "threads": threads})
            return lambda: apply_by(executor, plan, out, registry=registry)

        def local(threads: int) -> Callable[[], object]:
            return lambda: apply_plan(plan, out, registry=registry, threads=threads)

        def processes(workers: int) -> Callable[[], object]:
            executor = Processes({"workers": workers})
            return lambda: apply_by(executor, plan, out, registry=registry)

        ways = {
            "1 thread": local(1),
            "2 threads": local(2),
            "processes: 1 of 1 thread": processes(1),
            "processes: 2 of 1 thread": processes(2),
            "ray: 1 of 1 thread": ray(1, 1),
            "ray: 2 of 1 thread": ray(2, 1),
            "ray: 1 of 2 threads": ray(1, 2),
        }
        ways = {name: way for name, way in ways.items() if given.only in name or ":" not in name}
        best, processor = dict.fromkeys(ways, float("inf")), dict.fromkeys(ways, float("inf"))
        try:
            for _ in range(given.rounds):
                for name, way in ways.items():
                    begin, before, _Counted.seconds = time.perf_counter(), os.times(), 0.0
                    way()
                    best[name] = min(best[name], time.perf_counter() - begin)
                    spent = sum(os.times()[:4]) - sum(before[:4]) + _Counted.seconds
                    processor[name] = min(processor[name], spent)
                    if not filecmp.cmp(first, out, shallow=False):
                        raise SystemExit(f"{name}: other bytes")
                    out.unlink()
        finally:
            cluster.shutdown()
    click.echo(f"{sum(it.size for it in plan.model.tensors) / 1e6:,.0f} million weights to {given.format}\n")
    click.echo("                            seconds   x as many threads      CPU   x as many threads")
    for name, seconds in best.items():
        threads = "2 threads" if "2" in name else "1 thread"
        spent = processor[name]
        ratios = (
            f"{seconds:8.2f} {seconds / best[threads]:19.2f} {spent:8.2f} {spent / processor[threads]:19.2f}"
        )
        click.echo(f"{name:26} {ratios}")


if __name__ == "__main__":
    main()
