"""`quantrecipe apply` against llama-quantize: wall time and peak memory, in one run on the same threads.

    python benchmarks/apply.py --llama-quantize PATH [--threads 2] [--folder DIR] [--runs 3] [--json]

Models are random BF16 GGUFs: one billion weights, two billion, and a mixture of experts whose largest 3-D
tensor is twice as large. Both sides make everything Q4_K. Compile time is spent beforehand and stated.
Files are read once before each side's turn, so that both find them in the page cache.
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
from pathlib import Path

from models import write_llama
from rich.console import Console
from rich.table import Table

RECIPE = """\
quantrecipe: 1
name: pure-Q4_K
default: Q4_K
rules:
  - {tensors: [token_embd, output], type: Q4_K, optional: true, why: everything alike}
"""
MODELS = {
    "1 B weights": {"layers": 16, "cols": 2048, "hidden": 8192, "vocab": 32000},
    "2 B weights": {"layers": 32, "cols": 2048, "hidden": 8192, "vocab": 32000},
    "1 B, experts of 134 M": {"layers": 2, "cols": 2048, "hidden": 8192, "vocab": 32000, "experts": 8},
    "2 B, experts of 268 M": {"layers": 2, "cols": 2048, "hidden": 8192, "vocab": 32000, "experts": 16},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--llama-quantize", type=Path, help="the program; without it only our side is measured"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, help="where the models are made and kept [default: a temporary one]"
    )
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows = [measure(name, args.folder or Path(temporary), args) for name in args.models]
    if args.json:
        print(json.dumps(rows, indent=2))  # noqa: T201  # a script's output
        return
    table = Table("model", "ours", "llama-quantize", "ratio", "our peak", "its peak", "compile")
    for row in rows:
        theirs = row.get("their_seconds")
        table.add_row(
            row["model"],
            f"{row['seconds']:.2f} s",
            f"{theirs:.2f} s" if theirs else "",
            f"{theirs / row['seconds']:.2f}x" if theirs else "",
            f"{row['peak_mb']:.0f} MB",
            f"{row['their_peak_mb']:.0f} MB" if theirs else "",
            f"{row['compile_seconds']:.1f} s",
        )
    Console().print(f"{args.threads} threads, median of {args.runs} runs", table)


def measure(name: str, folder: Path, args: argparse.Namespace) -> dict[str, object]:
    """One model, both sides in turn."""
    source = folder / f"{name.replace(' ', '-').replace(',', '')}.gguf"
    weights = write_llama(source, **MODELS[name])
    recipe = folder / "pure.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    ours, theirs = folder / "ours.gguf", folder / "theirs.gguf"
    command = [sys.executable, "-m", "quantrecipe", "apply", str(recipe), str(source)]
    command += ["-o", str(ours), "--force", "--json", "--threads", str(args.threads)]
    first = json.loads(run(command)[2])  # compiles, if this machine hasn't yet
    own, other = [], []
    for _ in range(args.runs):
        subprocess.run(["cat", str(source)], stdout=subprocess.DEVNULL, check=True)
        own.append(run(command))
        if args.llama_quantize:
            subprocess.run(["cat", str(source)], stdout=subprocess.DEVNULL, check=True)
            line = [str(args.llama_quantize), "--pure", str(source), str(theirs), "Q4_K_S", str(args.threads)]
            other.append(run(line))
    result: dict[str, object] = {
        "model": name,
        "weights": weights,
        "seconds": statistics.median(seconds for seconds, _, _ in own),
        "peak_mb": max(peak for _, peak, _ in own),
        "compile_seconds": first["compile_seconds"],
    }
    if other:
        result["their_seconds"] = statistics.median(seconds for seconds, _, _ in other)
        result["their_peak_mb"] = max(peak for _, peak, _ in other)
    for path in (ours, theirs):
        path.unlink(missing_ok=True)
    return result


def run(command: list[str]) -> tuple[float, float, str]:
    """Seconds of wall time, peak resident memory in MB, standard output."""
    with tempfile.TemporaryFile("w+") as out:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            raise SystemExit(f"failed: {' '.join(command)}")
        out.seek(0)
        return seconds, usage.ru_maxrss / 1024, out.read()


if __name__ == "__main__":
    main()
