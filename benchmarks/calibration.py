"""How long an importance matrix takes: ours, llama-imatrix, and the model's reading of the same tokens alone.

    python benchmarks/calibration.py MODEL.gguf TEXT --llama-imatrix llama.cpp/build/bin/llama-imatrix [--chunks 40]

Each round runs the three in turn, on the same chunks with as many threads, and every figure is the whole process: its
start, the loading of the model, and what is written. "Reading" is llama.cpp's prompt processing through the same
session: the same batches, nothing looked at, and logits of the last token of each chunk only. Medians of all rounds are
printed as tokens in a second, and as ratios. llama-imatrix runs with --no-ppl, which leaves out its perplexity.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.core.processors import usable_processors
from quantrecipe.engine import Session

if TYPE_CHECKING:
    from quantrecipe.engine.language_model import LanguageModel
    from quantrecipe.engine.session import Tell


def read(model: LanguageModel, data: bytes, n_ctx: int, chunks: int, *, tell: Tell) -> int:
    """In the session's process: have the model read the chunks. The number of tokens."""
    tokens = model.tokenize(data)
    count = min(chunks, len(tokens) // n_ctx)
    parts = tokens[: count * n_ctx].reshape(count, n_ctx)
    for start in range(0, count, model.side_by_side(n_ctx)):
        model.process(parts[start : start + model.side_by_side(n_ctx)])
    return count * n_ctx


def reading(model: Path, text: Path, n_ctx: int, chunks: int, threads: int) -> int:
    """Read in a session of its own."""
    import calibration  # this file under its own name: the session's process imports it

    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    with Session(model, threads=threads) as session:
        return session.call(calibration.read, text.read_bytes(), n_ctx, chunks)


def timed(run: Callable[[], object]) -> float:
    """Seconds."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def main() -> None:
    """Run the rounds, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--llama-imatrix", type=Path, required=True)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--chunks", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_processors())
    given = parser.parse_args()
    tokens = reading(given.model, given.text, given.context, given.chunks, given.threads)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        common = [str(given.context), "--chunks", str(given.chunks)]
        ours = [
            *(sys.executable, "-m", "quantrecipe", "--no-plugins", "imatrix", "compute", str(given.model)),
            *("--text", str(given.text), "--force", "-o", str(out / "ours.gguf")),
            *("--threads", str(given.threads), "--context", *common),
        ]
        theirs = [
            *(str(given.llama_imatrix), "-m", str(given.model), "-f", str(given.text)),
            *("-o", str(out / "theirs.gguf"), "--no-ppl", "-t", str(given.threads), "-c", *common),
        ]
        runs: dict[str, Callable[[], object]] = {
            "quantrecipe imatrix compute": lambda: subprocess.run(ours, check=True, capture_output=True),
            "llama-imatrix": lambda: subprocess.run(theirs, check=True, capture_output=True),
            "reading alone": lambda: reading(
                given.model, given.text, given.context, given.chunks, given.threads
            ),
        }
        seconds = {name: list[float]() for name in runs}
        for _ in range(given.rounds):
            for name, run in runs.items():
                seconds[name].append(timed(run))
    alone = np.array(seconds["reading alone"])
    lines = [
        f"{given.model.name}, {tokens:,} tokens in chunks of {given.context}, {given.threads} threads",
        "| program | seconds | tokens/s | of reading alone |",
        "|---|---:|---:|---:|",
    ]
    for name, found in seconds.items():
        share = median(alone / np.array(found))
        lines.append(f"| {name} | {median(found):.2f} | {tokens / median(found):,.0f} | {share:.0%} |")
    print("\n".join(lines))  # noqa: T201  # a script's output


if __name__ == "__main__":
    main()
