"""What a store costs the run that fills it, and what it saves the next: beside encoding, and beside the disk alone.

    python benchmarks/store.py                          0.2 billion weights, two threads
    python benchmarks/store.py --targets Q4_K IQ4_XS --rounds 5

Sides take turns, until the file is on the disk: without a store; with an empty one; with one that has all tensors; and
"the disk", which reads the source, reads the output's bytes, and writes them to another file. Medians; sources are in
the page cache.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from models import write_llama
from resume import plan_of
from rich.console import Console
from rich.table import Table

from quantrecipe.gguf.header import read_header
from quantrecipe.output.apply import apply_plan
from quantrecipe.registry import load_registry


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", nargs="*", default=["Q8_0", "Q4_K", "Q6_K", "IQ4_XS"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where files go [default: a temporary folder]")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        folder = Path(temporary)
        source, out, store = folder / "source.gguf", folder / "out.gguf", folder / "store"
        weights = write_llama(source, layers=4, cols=2048, hidden=5632, vocab=16000)
        make_different(source)
        registry = load_registry(plugins=False)
        sides = ("without", "filling it", "from it", "the disk")
        title = f"{weights / 1e6:.0f} M weights, {args.threads} threads, medians of {args.rounds} rounds"
        table = Table("target", *sides, "without ÷ from it", "from it ÷ disk", title=title)
        for target in args.targets:
            plan = plan_of(source, target, registry)
            turns: dict[str, list[float]] = {side: [] for side in sides}
            for number in range(args.rounds + 1):
                shutil.rmtree(store, ignore_errors=True)
                for side in sides:
                    if side != "the disk":
                        out.unlink(missing_ok=True)
                    started = time.perf_counter()
                    if side == "the disk":
                        by_the_disk(source, out, folder / "copy")
                    else:
                        where = None if side == "without" else store
                        apply_plan(plan, out, registry=registry, threads=args.threads, store=where)
                    if number:  # the first compiles
                        turns[side].append(time.perf_counter() - started)
            middle = {side: statistics.median(found) for side, found in turns.items()}
            ratios = (middle["without"] / middle["from it"], middle["from it"] / middle["the disk"])
            table.add_row(target, *(f"{it:.2f} s" for it in middle.values()), *(f"{it:.2f}" for it in ratios))
        Console(width=110).print(table)


def make_different(source: Path) -> None:
    """Give each tensor a first row of its own: random models repeat the same weights, which a store keeps once."""
    header = read_header(source)
    rng = np.random.default_rng(1)
    with source.open("r+b") as file:
        for tensor in header.tensors:
            if len(tensor.shape) > 1:
                file.seek(header.data_start + tensor.offset)
                row = rng.standard_normal(tensor.shape[-1], np.float32) * np.float32(0.02)
                file.write((row.view(np.uint32) >> np.uint32(16)).astype("<u2").tobytes())


def by_the_disk(source: Path, made: Path, copy: Path) -> None:
    """Read the source, and copy what was made, through memory as cp does."""
    buffer = memoryview(bytearray(1 << 22))
    with source.open("rb", buffering=0) as file:
        while file.readinto(buffer):  # type: ignore[attr-defined]  # of a FileIO
            pass
    with made.open("rb", buffering=0) as file, copy.open("wb", buffering=0) as to:
        while count := file.readinto(buffer):  # type: ignore[attr-defined]
            to.write(buffer[:count])
        os.fsync(to.fileno())
    copy.unlink()


if __name__ == "__main__":
    main()
