"""`quantrecipe apply` beside cp and llama-quantize: wall time, CPU time and peak memory, in one run.

    python benchmarks/apply.py --llama-quantize PATH                        0.8 billion weights, all types below
    python benchmarks/apply.py --sources BF16 --targets Q8_0 Q4_K --runs 5
    python benchmarks/apply.py --models "2 B, experts of 268 M" --targets Q4_K
    python benchmarks/apply.py --cold --sources BF16 --targets BF16 Q8_0    sources that have to come from the disk
    python benchmarks/apply.py --json                                       for machines

Models are random GGUFs, and everything in them becomes the target type; where that is the source type, it is copied,
and stands beside `cp` and `cp --reflink=never`. Each side is a whole process, start-up included, and is done when the
file is on the disk: `sync FILE` follows programs that don't see to it. Sides take turns, so that all meet the same
machine; figures are medians. Sources are in the page cache, or, with --cold, are put out of it before each turn.
Kernels are compiled beforehand.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from models import write_llama
from rich.console import Console
from rich.table import Table

RECIPE = """\
quantrecipe: 1
name: pure-{type}
default: {type}
rules:
  - {{tensors: [token_embd, output], type: {type}, optional: true, why: everything alike}}
"""
MODELS = {
    "0.2 B weights": {"layers": 4, "cols": 2048, "hidden": 5632, "vocab": 32000},
    "0.8 B weights": {"layers": 12, "cols": 2048, "hidden": 8192, "vocab": 32000},
    "2 B weights": {"layers": 32, "cols": 2048, "hidden": 8192, "vocab": 32000},
    "1 B, experts of 134 M": {"layers": 2, "cols": 2048, "hidden": 8192, "vocab": 32000, "experts": 8},
    "2 B, experts of 268 M": {"layers": 2, "cols": 2048, "hidden": 8192, "vocab": 32000, "experts": 16},
}
SOURCES = ("BF16", "F16", "F32")
TARGETS = ("BF16", "F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")
THEIR_NAMES = {"Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S"}
"""llama-quantize's names of mixes of one type; the others are called like the type."""


@dataclass(frozen=True)
class Turn:
    """One run of one side: seconds of wall and CPU time, peak resident memory in MB."""

    seconds: float
    cpu: float
    peak_mb: float


@dataclass(frozen=True)
class Work:
    """A model that becomes a type."""

    model: str
    source: str
    target: str
    path: Path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--llama-quantize", type=Path, help="the program; without it, only cp stands beside us"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, help="where models are made and kept, and files go [default: a temporary one]"
    )
    parser.add_argument("--models", nargs="*", default=["0.8 B weights"], choices=list(MODELS))
    parser.add_argument("--sources", nargs="*", default=["BF16", "F16"], choices=SOURCES)
    parser.add_argument("--targets", nargs="*", default=list(TARGETS))
    parser.add_argument(
        "--cold", action="store_true", help="put the source out of the page cache before each turn"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        rows = [row for model in args.models for row in measure_model(model, folder, args)]
    if args.json:
        print(json.dumps(rows, indent=2))  # noqa: T201  # a script's output
        return
    where = "from the disk" if args.cold else "in the page cache"
    title = (
        f"{args.threads} threads, medians of {args.runs} runs, sources {where}, files on the disk at the end"
    )
    table = Table("work", "ours", "CPU", "peak", "beside", "its time", "CPU", "peak", "ratio", title=title)
    for row in rows:
        ours = Turn(**row["ours"])
        for name, turn in row["others"].items():
            other = Turn(**turn)
            table.add_row(
                f"{row['model']}, {row['source']} → {row['target']}",
                *cells(ours),
                name,
                *cells(other),
                f"{other.seconds / ours.seconds:.2f}x",
            )
    Console(width=140).print(table)


def cells(turn: Turn) -> tuple[str, str, str]:
    """What the table says of a side."""
    return f"{turn.seconds:.2f} s", f"{turn.cpu:.2f} s", f"{turn.peak_mb:.0f} MB"


def measure_model(name: str, folder: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """All that is wanted of one model; a source is removed before the next is made, if nobody keeps them."""
    rows = []
    for source in args.sources:
        path = folder / f"{name.replace(' ', '-').replace(',', '')}.{source}.gguf"
        with ProcessPoolExecutor(1, get_context("spawn")) as elsewhere:
            # What this process holds would be counted as the memory of those that it starts.
            weights = elsewhere.submit(write_llama, path, dtype=source, **MODELS[name]).result()
        for target in args.targets:
            row = measure(Work(model=name, source=source, target=target, path=path), folder, args)
            rows.append({"model": name, "weights": weights, "source": source, "target": target, **row})
        if args.folder is None:
            path.unlink()
    return rows


def measure(work: Work, folder: Path, args: argparse.Namespace) -> dict[str, object]:
    """Medians of each side, in turn."""
    recipe, out = folder / "pure.yaml", folder / "out.gguf"
    recipe.write_text(RECIPE.format(type=work.target), encoding="utf-8")
    apply = [sys.executable, "-m", "quantrecipe", "apply", str(recipe), str(work.path), "-o", str(out)]
    sides: dict[str, list[list[str]]] = {"ours": [[*apply, "--threads", str(args.threads)]]}
    sync = ["sync", str(out)]
    if work.source == work.target or {work.source, work.target} == {"F16", "BF16"}:
        sides["cp"] = [["cp", str(work.path), str(out)], sync]
        sides["cp --reflink=never"] = [["cp", "--reflink=never", str(work.path), str(out)], sync]
    if args.llama_quantize:
        theirs = [str(args.llama_quantize), "--pure", str(work.path), str(out)]
        sides["llama-quantize"] = [
            [*theirs, THEIR_NAMES.get(work.target, work.target), str(args.threads)],
            sync,
        ]
    run(sides["ours"], lambda: None)  # compiles, if this machine hasn't yet
    turns: dict[str, list[Turn]] = {name: [] for name in sides}
    for _ in range(args.runs):
        for name, commands in sides.items():
            out.unlink(missing_ok=True)
            turns[name].append(run(commands, lambda: prepare(work.path, cold=args.cold)))
    out.unlink(missing_ok=True)
    middle = {name: median(group) for name, group in turns.items()}
    return {"ours": middle.pop("ours"), "others": middle}


def prepare(source: Path, *, cold: bool) -> None:
    """Put the source into the page cache, or out of it."""
    if cold:
        with source.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    else:
        subprocess.run(["cat", str(source)], stdout=subprocess.DEVNULL, check=True)


def run(commands: Sequence[list[str]], prepare: Callable[[], None]) -> Turn:
    """One turn: the commands, one after the other."""
    prepare()
    cpu = peak = 0.0
    started = time.perf_counter()
    for command in commands:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"failed: {' '.join(command)}")
        cpu += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss / 1024)
    return Turn(seconds=time.perf_counter() - started, cpu=cpu, peak_mb=peak)


def median(turns: Sequence[Turn]) -> dict[str, float]:
    """The middle of each figure; of memory the largest."""
    return {
        "seconds": statistics.median(turn.seconds for turn in turns),
        "cpu": statistics.median(turn.cpu for turn in turns),
        "peak_mb": max(turn.peak_mb for turn in turns),
    }


if __name__ == "__main__":
    main()
