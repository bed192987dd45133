"""What a probe costs: weights exchanged in a model that stays open, beside a file that is written over and loaded.

    python benchmarks/probes.py MODEL --text TEXT [--tokens 8192] [--threads 2] [--rounds 3] [--types F32,Q8_0] [--json]

MODEL is a Hugging Face folder or a GGUF; --types are those of the resident model. All ways make the same probes, one
after the other, so that each has its turn while the machine is quick or slow; figures are medians over probes. Compare
ways of one run only.

    begin     the temporary file if there is one, loading, and what the model says when nothing is changed
    change    rounding the tensors, and bringing the bytes where they belong
    probe     all of it: change, read the text, compare, and the floor, which the way by files did without
    part      the same, of a probe that reads a quarter of the text, as `sensitivity` makes them
    reading   the forward passes alone, by reading the text once more in the model that is open; for the way by files
              those of the model that is open in Q8_0, which has its weights in llama.cpp's plain layout
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rows import print_rows

from quantrecipe.evaluate import read_text
from quantrecipe.measure import Passes
from quantrecipe.measure.open_resident import ResidentInFile, made_in, open_resident
from quantrecipe.measure.passes import Part
from quantrecipe.measure.progress import Silent
from quantrecipe.measure.resident import Resident, Setting
from quantrecipe.model.open_model import open_model
from quantrecipe.registry import load_registry

FILES = "Q8_0, files"
TYPE = "Q3_K"  # about what `probe` rounds to
ROLES = (
    "ffn_down",
    "attn_q",
    "attn_v",
)  # each in all layers, as its first probes are; and one tensor by itself


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--types", default="F32,BF16,Q8_0")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = measured(args)
    print_rows(rows, as_json=args.json)


def measured(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each way."""
    registry = load_registry(plugins=False)
    model = open_model(args.model, registry=registry)
    names = [tensor.name for tensor in model.tensors if len(tensor.shape) > 1]
    probes: list[Mapping[str, str]] = [
        {name: TYPE for name in names if f".{role}." in name or f".{role}_exps." in name} for role in ROLES
    ]
    probes = [{names[len(names) // 2]: TYPE}, *(probe for probe in probes if probe)]
    with ExitStack() as stack:
        ways: dict[str, Resident] = {}
        begin: dict[str, float] = {}
        for way in (FILES, *args.types.split(",")):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="probes-")))
            passes = Passes(
                texts=(read_text(args.text),),
                tokens=args.tokens,
                threads=args.threads,
                resident=None if way == FILES else way,
            )
            setting = Setting(
                model=model,
                registry=registry,
                importance=None,
                passes=passes,
                folder=folder,
                progress=Silent(),
            )
            start = time.perf_counter()
            if way == FILES:
                ways[way] = ResidentInFile(setting, made_in(setting, "Q8_0"), "Q8_0", stack)
            else:
                ways[way] = open_resident(setting, names, stack)
            begin[way] = time.perf_counter() - start
        seconds: dict[str, list[tuple[float, float, float, float]]] = {way: [] for way in ways}
        for way in ways:
            timed(ways[way], way, probes[0])  # kernels are compiled by then
        for _ in range(args.rounds):
            for probe in probes:
                for way in ways:
                    seconds[way].append(timed(ways[way], way, probe))
    rows = []
    for way, found in seconds.items():
        # Pairs of one moment: the machine may be twice as slow in the next.
        reading = found if way != FILES or "Q8_0" not in seconds else seconds["Q8_0"]
        shares = [100 * read / whole for (_, whole, *_), (*_, read) in zip(found, reading, strict=True)]
        change, whole, part = (statistics.median(column) for column in list(zip(*found, strict=True))[:3])
        ratios = [old[1] / new[1] for old, new in zip(seconds[FILES], found, strict=True)]
        parts = [old[1] / new[2] for old, new in zip(seconds[FILES], found, strict=True)]
        rows.append(
            {
                "way": way,
                "begin s": begin[way],
                "change s": change,
                "probe s": whole,
                "part s": part,
                "reading %": statistics.median(shares),
                "files ÷ this": statistics.median(ratios),
                "files ÷ part": statistics.median(parts),
            }
        )
    return rows


def timed(model: Resident, way: str, probe: Mapping[str, str]) -> tuple[float, float, float, float]:
    """Seconds of the change, of the whole probe, of one of a quarter of the text, and of reading all once more."""
    start = time.perf_counter()
    model.change(probe)
    changed = time.perf_counter()
    if way == FILES:
        model.score()
    else:
        model.measure()
    done = time.perf_counter()
    model.change({})
    again = time.perf_counter()
    model.change(probe)
    model.measure(Part(every=4))
    parted = time.perf_counter()
    if way != FILES:
        model.score()
    return changed - start, done - start, parted - again, time.perf_counter() - parted


if __name__ == "__main__":
    main()
