"""What the journal of `apply` costs, and what a run that was killed loses.

    python benchmarks/resume.py                                 0.2 billion weights, two threads
    python benchmarks/resume.py --targets Q8_0 Q4_K --rounds 9
    python benchmarks/resume.py --kills 8                       more moments

Cost: the same plan is applied without and with a journal, in turn, in one process, until the file is on the disk. How
much more CPU time the second takes is told of the best turn of each, and as the median over pairs of turns; the last
column is the same of the time until it is done. Where other programs run, only the best says something.

Loss: a process is killed (SIGKILL) when its journal says that about half is made; the same command goes on. What was
noted and is made again is counted, and the bytes are compared.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from models import write_llama
from rich.console import Console
from rich.table import Table

from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.journal import journal_path
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import Registry, load_registry

RECIPE = """\
quantrecipe: 1
name: pure-{type}
default: {type}
rules:
  - {{tensors: [token_embd, output], type: {type}, optional: true, why: everything alike}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", nargs="*", default=["BF16", "Q8_0", "Q4_K", "Q6_K", "IQ4_XS"])
    parser.add_argument("--killed", default="Q4_K", help="the type of the runs that are killed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="where files go [default: a temporary folder]")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        source, registry = folder / "source.gguf", load_registry(plugins=False)
        weights = write_llama(source, layers=4, cols=2048, hidden=5632, vocab=16000)
        console = Console(width=110)
        table = Table(
            *("target", "best CPU without", "with: best", "median", "the middle half", "time: median"),
            title=f"{weights / 1e6:.0f} M weights, {args.threads} threads, {args.rounds} pairs of turns",
        )
        for target in args.targets:
            plan = plan_of(source, target, registry)
            table.add_row(target, *cost(plan, folder, registry, args))
        console.print(table)
        table = Table("killed at", "noted", "made again", "noted and made again", "journal", "bytes")
        for number in range(args.kills):
            share = (number + 1) / (args.kills + 1)
            table.add_row(f"{share:.0%}", *loss(source, folder, registry, args, share))
        console.print(table)


def plan_of(source: Path, target: str, registry: Registry) -> Plan:
    recipe = load_recipe_text(RECIPE.format(type=target), registry=registry)
    return make_plan(recipe, open_model(source, registry=registry), registry=registry)


def cost(plan: Plan, folder: Path, registry: Registry, args: argparse.Namespace) -> tuple[str, ...]:
    """What a journal adds, as medians over pairs of turns."""
    out = folder / "out.gguf"

    def turn(*, resume: bool) -> tuple[float, float]:
        out.unlink(missing_ok=True)
        started, cpu = time.perf_counter(), time.process_time()
        apply_plan(plan, out, registry=registry, threads=args.threads, resume=resume)
        return time.perf_counter() - started, time.process_time() - cpu

    turn(resume=False)
    pairs = []
    for number in range(args.rounds):
        first = number % 2 == 1  # takes turns in who comes first, too
        one, other = turn(resume=first), turn(resume=not first)
        pairs.append((other, one) if first else (one, other))
    more = [kept[1] / plain[1] - 1 for plain, kept in pairs]
    low, middle, high = statistics.quantiles(more, n=4)
    best_plain, best_kept = (min(pair[side][1] for pair in pairs) for side in (0, 1))
    longer = statistics.median(kept[0] / plain[0] - 1 for plain, kept in pairs)
    return (
        f"{best_plain:.3f} s",
        f"{best_kept / best_plain - 1:+.1%}",
        f"{middle:+.1%}",
        f"{low:+.1%} to {high:+.1%}",
        f"{longer:+.1%}",
    )


def loss(
    source: Path, folder: Path, registry: Registry, args: argparse.Namespace, share: float
) -> tuple[str, ...]:
    """What was noted when the process was killed, and what the next run made again."""
    plan = plan_of(source, args.killed, registry)
    recipe, out, peace = folder / "pure.yaml", folder / "out.gguf", folder / "peace.gguf"
    recipe.write_text(RECIPE.format(type=args.killed), encoding="utf-8")
    for path in (out, peace):
        path.unlink(missing_ok=True)
    apply_plan(plan, peace, registry=registry, threads=args.threads)
    command = [sys.executable, "-m", "quantrecipe", "--no-plugins", "apply", str(recipe), str(source)]
    process = subprocess.Popen(
        [*command, "-o", str(out), "--threads", str(args.threads)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while noted(out, plan) < share * plan.size and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before, size = noted(out, plan), journal_path(out).stat().st_size
    if not before:
        raise SystemExit("the run was over before it could be killed")
    result = apply_plan(plan, out, registry=registry, threads=args.threads, resume=True)
    same = out.read_bytes() == peace.read_bytes()
    return (
        f"{before / plan.size:.1%}",
        f"{1 - result.left / plan.size:.1%}",
        f"{(before - result.left) / plan.size:.2%}",
        f"{size:,} bytes",
        "equal" if same else "NOT EQUAL",
    )


def noted(out: Path, plan: Plan) -> int:
    """Weights that the journal says are made."""
    try:
        lines = journal_path(out).read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return 0
    done: set[int] = set()
    rows: dict[int, int] = {}
    for record in (json.loads(line.partition(b" ")[2]) for line in lines):
        if record[0] == "done":
            done.add(record[1])
        elif record[0] == "rows":
            rows[record[1]] = rows.get(record[1], 0) + record[3] - record[2]
        elif record[0] == "first":  # some of them may have been noted by themselves, too
            rows[record[1]] = max(rows.get(record[1], 0), record[2])
    tensors = [a.tensor for a in plan.assignments]
    return sum(tensors[n].size for n in done) + sum(
        count * tensors[n].cols for n, count in rows.items() if n not in done
    )


if __name__ == "__main__":
    main()
