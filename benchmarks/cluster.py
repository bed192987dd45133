"""What clusters of 10 and 100 nodes would do with a model of a trillion weights; and whether to believe it.

    python benchmarks/cluster.py                        Kimi-K2's shapes, Q4_K_M, with and without losses of nodes
    python benchmarks/cluster.py --rate 12M --threads 32
    python benchmarks/cluster.py --check                two parts of one thread on this machine, beside their forecast
    python benchmarks/cluster.py --check --weights 1e9 --rounds 5

The forecast is the one of `quantrecipe plan --cluster` (quantrecipe/output/shares/forecast.py): the units that `apply
--part` makes, in the order in which parts take them, on nodes whose bandwidths, losses and replacements are simulated.

--check runs one part with one thread and two parts with one thread each, in turns, since other programs may run. Beside
the one part a process counts, so that there is as much to do for the processors as with two. What the one part takes
says how long a weight takes and how long a process takes to begin; the forecast says from this what the two take. The
table has the forecast over what was measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from models import write_llama
from rich.console import Console
from rich.table import Table

from quantrecipe.cli.options.cluster import ClusterText
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.output.shares.forecast import Cluster, demands_of, median_of, orders_of, simulate
from quantrecipe.output.shares.part import Part, share_of
from quantrecipe.output.shares.rates import given_rate
from quantrecipe.output.shares.units import cut, unit_bytes
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry
from quantrecipe.tensor import TensorInfo

REGISTRY = load_registry(plugins=False)
CASES = (
    ("nothing binds but the processors", "network=1TB/s,read=1TB/s,write=1TB/s"),
    ("a folder of 2 and 1 GB/s", "network=1.25GB/s,read=2GB/s,write=1GB/s"),
    ("a folder of 20 and 10 GB/s", "network=1.25GB/s,read=20GB/s,write=10GB/s"),
    ("the same, a node lost every 10 hours", "network=1.25GB/s,read=20GB/s,write=10GB/s,lost=0.1"),
    ("the same, spot nodes: one an hour", "network=1.25GB/s,read=20GB/s,write=10GB/s,lost=1"),
    ("the same, and none comes back", "network=1.25GB/s,read=20GB/s,write=10GB/s,lost=1,back=never"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="llama.cpp/Q4_K_M")
    parser.add_argument("--rate", default="12M", help="weights per second of one thread")
    parser.add_argument("--threads", type=int, default=16, help="of a node")
    parser.add_argument("--runs", type=int, default=101, help="simulations of clusters that lose nodes")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--type", default="Q4_K", help="for --check: the type of all matrices")
    parser.add_argument("--weights", type=float, default=4e8, help="for --check, about")
    parser.add_argument("--rounds", type=int, default=5, help="for --check")
    parser.add_argument(
        "--folder", type=Path, help="for --check: where files go [default: a temporary folder]"
    )
    args = parser.parse_args()
    console = Console(width=130)
    if args.check:
        with tempfile.TemporaryDirectory() as temporary:
            check(console, args, args.folder or Path(temporary))
    else:
        console.print(clusters(args))


def kimi_k2() -> Model:
    """DeepSeek V3's architecture with other numbers: 384 experts, one dense layer, 64 heads, 163,840 tokens."""
    model = open_model(Path("shapes/deepseek-v3.1"), registry=REGISTRY)
    tensors = []
    for it in model.tensors:
        shape = list(it.shape)
        if it.role.endswith("_exps") or it.role in ("ffn_gate_inp", "exp_probs_b.bias"):
            shape[0] = 384
        elif it.role in ("output", "token_embd"):
            shape[0] = 163_840
        elif it.role in ("attn_k_b", "attn_v_b"):
            shape[0] = 64
        elif it.role == "attn_q_b":
            shape[0] = 64 * 192
        elif it.role == "attn_output":
            shape[1] = 64 * 128
        if it.layer in (1, 2) and it.role in ("ffn_down", "ffn_gate", "ffn_up"):
            continue  # these layers have experts
        tensors.append(TensorInfo.from_name(it.name, tuple(shape), it.dtype))
    of_experts = [it for it in tensors if it.layer == 3 and ("exp" in it.role or it.role == "ffn_gate_inp")]
    for layer in (1, 2):
        tensors += [
            TensorInfo.from_name(it.name.replace("blk.3.", f"blk.{layer}."), it.shape, it.dtype)
            for it in of_experts
        ]
    return replace(model, tensors=tuple(tensors))


def clusters(args: argparse.Namespace) -> Table:
    """The table of the forecasts."""
    plan = make_plan(load_recipe(args.recipe, registry=REGISTRY), kimi_k2(), registry=REGISTRY)
    rate = ClusterText().convert(f"nodes=1,rate={args.rate}", None, None)["rate"]
    table = Table(
        *("cluster", "nodes", "units", "time", "of it, writing", "tenth to ninetieth", "node hours", "again"),
        title=f"{plan.size / 1e12:.3f} T weights, {plan.nbytes / 1e9:.0f} GB as {args.recipe}; nodes of {args.threads} "
        f"threads, {args.rate} weights/s each",
    )
    for nodes in (10, 100):
        units = cut(plan, unit_bytes(plan, nodes))
        demands, orders = demands_of(plan, units, given_rate(rate)), orders_of(units, nodes)
        for name, said in CASES:
            given = ClusterText().convert(
                f"nodes={nodes},threads={args.threads},start=30s,{said}", None, None
            )
            cluster = Cluster(**given)
            runs = [
                simulate(demands, orders, cluster, seed=seed)
                for seed in range(args.runs if cluster.lost else 1)
            ]
            found, times = median_of(runs), sorted(it.seconds / 60 for it in runs)
            tenth = len(times) // 10
            table.add_row(
                *(name, str(nodes), f"{found.units:,}", f"{found.seconds / 60:.1f} min"),
                f"{found.assembling / 60:.1f} min",
                f"{times[tenth]:.1f} to {times[-1 - tenth]:.1f}" if cluster.lost else "",
                f"{found.node_seconds / 3600:.1f}",
                str(found.again),
            )
    return table


def check(console: Console, args: argparse.Namespace, folder: Path) -> None:
    """Two parts of one thread each, measured and forecast."""
    layers = max(1, round(args.weights / 47e6))
    weights = write_llama(folder / "source.gguf", layers=layers, cols=2048, hidden=5632, vocab=16_000)
    recipe = folder / "pure.yaml"
    recipe.write_text(
        f"quantrecipe: 1\nname: pure\ndefault: {args.type}\nrules:\n"
        f"  - {{tensors: [token_embd, output], type: {args.type}, optional: true, why: everything alike}}\n"
    )
    model = open_model(folder / "source.gguf", registry=REGISTRY)
    plan = make_plan(load_recipe(recipe, registry=REGISTRY), model, registry=REGISTRY)
    run(folder, recipe, 1)  # compiles kernels, and fills the page cache
    table = Table(
        *("turn", "one part", "of it, starting", "two parts", "forecast", "forecast / measured"),
        title=f"{weights / 1e6:.0f} M weights to {args.type}, parts of one thread each",
    )
    found = []
    for turn in range(args.rounds):
        (one, seconds), (two, _), (again, more) = (run(folder, recipe, count) for count in (1, 2, 1))
        one, seconds = (one + again) / 2, (seconds + more) / 2
        guess = foreseen(plan, weights, one, seconds)
        found.append(guess / two)
        table.add_row(
            *(str(turn + 1), f"{one:.2f} s", f"{one - seconds:.2f} s", f"{two:.2f} s", f"{guess:.2f} s"),
            f"{guess / two:.3f}",
        )
    console.print(table)
    console.print(f"median of forecast / measured: {statistics.median(found):.3f}")


def foreseen(plan: Plan, weights: int, one: float, seconds: float) -> float:
    """Seconds until two parts have made all pieces, from what one takes in all, and at its work."""
    units = cut(plan, unit_bytes(plan, 2))
    cluster = Cluster(nodes=2, threads=1, start=one - seconds, unit=0.0)
    demands = demands_of(plan, units, given_rate(weights / seconds))
    return simulate(demands, orders_of(units, 2), cluster).making


def run(folder: Path, recipe: Path, count: int) -> tuple[float, float]:
    """So many parts at once, with units for two: seconds until the last has ended, and what the longest has worked."""
    out = folder / "out.gguf"
    shutil.rmtree(out.with_name(out.name + ".quantrecipe-pieces"), ignore_errors=True)
    units = cut_for_two(folder, recipe, out)
    line = [
        sys.executable,
        "-m",
        "quantrecipe",
        "apply",
        str(recipe),
        str(folder / "source.gguf"),
        "-o",
        str(out),
    ]
    # Linux gives each session a share of busy processors (autogroup), and two parts are to have two.
    counting = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
        for _ in range(2 - count)
    ]
    begin = time.monotonic()
    try:
        processes = [
            subprocess.Popen(
                [*line, "--threads", "1", "--json", "--part", f"{number + 1}/{count}"],
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            for number in range(count)
        ]
        told: list[dict[str, Any]] = [json.loads(process.communicate()[0]) for process in processes]
    finally:
        for process in counting:
            process.kill()
            process.wait()
    seconds = time.monotonic() - begin
    if sum(it["made"] for it in told) != units:
        raise SystemExit(f"{sum(it['made'] for it in told)} units were made, of {units}")
    return seconds, max(it["seconds"] for it in told)


def cut_for_two(folder: Path, recipe: Path, out: Path) -> int:
    """Have the work cut as for two parts; how many units that are."""
    from quantrecipe.output.shares.folder import open_pieces, pieces_path

    model = open_model(folder / "source.gguf", registry=REGISTRY)
    plan = make_plan(load_recipe(recipe, registry=REGISTRY), model, registry=REGISTRY)
    pieces = open_pieces(pieces_path(out), plan, nan="error", workers=2)
    if not all(share_of(pieces.units, Part(number=number, count=2)) for number in (1, 2)):
        raise SystemExit("there is one unit only: say more --weights")
    return len(pieces.units)


if __name__ == "__main__":
    main()
