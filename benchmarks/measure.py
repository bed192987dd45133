"""`quantrecipe sensitivity`: time, peak memory and sampling error, all types, on a thousand million random weights.

    python benchmarks/measure.py [--threads 2] [--folder DIR] [--models …] [--all-rows] [--json]
    python benchmarks/measure.py --predicted MODEL [--imatrix FILE] [--threads 1]

Kernels are compiled, and the file is read once, before the clock starts. "again" is the same measurement once more,
when nothing is left to measure. --predicted measures a trained model with every type and with predicted losses, and
says how far those are off, and what CPU time both take; random weights would tell nothing. --all-rows measures every
row, too, and says how far the sample was off, in standard errors.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from apply import MODELS, run
from models import write_llama
from rows import print_rows

from quantrecipe.importance.read_importance import read_importance
from quantrecipe.measure import Measurement, choose_types
from quantrecipe.measure import measure as measure_model
from quantrecipe.model.open_model import open_model
from quantrecipe.registry import load_registry
from quantrecipe.sensitivity import read_sensitivity

DEFAULT = ["1 B weights", "1 B, experts of 134 M"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--folder", type=Path, help="where the models are made and kept [default: a temporary one]"
    )
    parser.add_argument("--models", nargs="*", default=DEFAULT, choices=list(MODELS))
    parser.add_argument("--all-rows", action="store_true")
    parser.add_argument("--predicted", type=Path, metavar="MODEL")
    parser.add_argument("--imatrix", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if args.predicted:
            rows = [predicted(args, Path(temporary))]
        else:
            rows = [measure(name, args.folder or Path(temporary), args) for name in args.models]
    print_rows(rows, as_json=args.json)


def measure(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """All figures of one model."""
    path = folder / f"{name.replace(' ', '-').replace(',', '')}.gguf"
    weights = write_llama(path, **MODELS[name])  # type: ignore[arg-type]  # sizes, all of them numbers
    small = folder / "compile.gguf"
    write_llama(small, layers=1, cols=512, hidden=512, vocab=512, experts=MODELS[name].get("experts", 0))
    out, whole_file = folder / "measured.jsonl", folder / "whole.jsonl"
    for old in (out, whole_file):
        old.unlink(missing_ok=True)
    measured(small, folder / "compile.jsonl", args)
    subprocess.run(["cat", str(path)], stdout=subprocess.DEVNULL, check=True)
    seconds, peak = measured(path, out, args)
    again, _ = measured(path, out, args)
    found = read_sensitivity(out)
    shares = [
        loss.standard_error / loss.error
        for tensor in found.tensors.values()
        for loss in tensor.losses.values()
        if loss.error > 1e-5
    ]
    row: dict[str, Any] = {
        "model": name,
        "million weights": round(weights / 1e6),
        "types": len(found.types),
        "seconds": round(seconds, 1),
        "peak MB": round(peak),
        "again, s": round(again, 1),
        "median error": statistics.median(shares),
        "largest": max(shares),
    }
    if args.all_rows:
        row["all rows, s"] = round(measured(path, whole_file, args, "--all-rows")[0], 1)
        whole = read_sensitivity(whole_file)
        off = [
            (loss.error - whole.tensors[tensor.name].losses[type_].error) / loss.standard_error
            for tensor in found.tensors.values()
            for type_, loss in tensor.losses.items()
            if loss.standard_error > 0
        ]
        row["off by, standard errors"] = round(statistics.mean(z * z for z in off) ** 0.5, 2)
    return row


def predicted(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """How far predicted losses are off, and what they save."""
    registry = load_registry(plugins=False)
    model = open_model(args.predicted, registry=registry)
    importance = read_importance(args.imatrix) if args.imatrix else None
    what = functools.partial(
        Measurement,
        types=choose_types(registry),
        analysis=registry.tensor_analysis("imatrix" if importance else "error"),
        threads=args.threads,
    )
    found, seconds = [], []
    for name, predict in (("compiled", False), ("every", False), ("predicted", True)):
        start = time.process_time()
        out = folder / f"{name}.jsonl"
        found.append(
            measure_model(model, out, what(predict=predict), registry=registry, importance=importance)
        )
        seconds.append(time.process_time() - start)
    every, some = found[1:]
    off = [
        (tensor.losses[type_].error / every.tensors[tensor.name].losses[type_].error - 1, tensor, type_)
        for tensor in some.tensors.values()
        for type_ in tensor.predicted
    ]
    sizes = sorted(abs(miss) for miss, *_ in off) or [0.0]
    shares = [miss / (it.losses[type_].standard_error / it.losses[type_].error) for miss, it, type_ in off]
    return {
        "model": args.predicted.name,
        "losses": sum(len(tensor.losses) for tensor in some.tensors.values()),
        "predicted": len(off),
        "off by, median": statistics.median(sizes),
        "95 %": sizes[int(0.95 * (len(sizes) - 1))],
        "largest": sizes[-1],
        "off by, standard errors": statistics.fmean(z * z for z in shares) ** 0.5 if shares else 0.0,
        "CPU s, every type": seconds[1],
        "CPU s, predicted": seconds[2],
    }


def measured(model: Path, out: Path, args: argparse.Namespace, *more: str) -> tuple[float, float]:
    """Seconds, and the peak of memory in MB."""
    command = [sys.executable, "-m", "quantrecipe", "sensitivity", str(model), "-o", str(out), "--json"]
    turn = run([[*command, "--threads", str(args.threads), *more]], lambda: None)
    return turn.seconds, turn.peak_mb


if __name__ == "__main__":
    main()
