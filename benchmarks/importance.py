"""Does an importance matrix help? Presets without one, with one of the same kind of text, with one of another kind.

    python benchmarks/importance.py FOLDER/small-code --code code.imatrix.gguf --prose prose.imatrix.gguf \\
        --code-text code.val.txt --prose-text prose.val.txt

For each preset and each text, the mean KL divergence from the unquantized model, and how much it changes with each
importance matrix: the one made from text of the same kind ("own"), the one made from the other kind ("other"), and both
merged. A change comes with its standard error over chunks, since positions of one text depend on each other; it is
printed bold where it is larger than two of them. Whatever was run is kept in --work, so that a run that was stopped
goes on where it was. Needs llama.cpp (`quantrecipe doctor` says whether it is there).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from equal_bytes import ROOT

from quantrecipe.evaluate import Positions
from recipes import Bench

PRESETS = (
    *("Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "IQ3_S", "IQ3_M", "Q4_0", "IQ4_XS", "IQ4_NL"),
    *("Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K"),
)
"""Presets that llama-quantize makes without an importance matrix, too; the others have nothing to be compared with."""


def rows(benches: dict[str, Bench], presets: Sequence[str]) -> Iterator[str]:
    """Markdown, a line for each preset and text. `benches`: "none", "code", "prose" and "both"."""
    plain = benches["none"]
    yield "| preset | bits | text | KLD without | own text | other text | both |"
    yield "|---|---:|---|---:|---:|---:|---:|"
    for preset in presets:
        plan = plain.plan(f"llama.cpp/{preset}")
        found = {
            which: list(bench.reference.split(bench.positions(bench.plan(f"llama.cpp/{preset}"))).values())
            for which, bench in benches.items()
        }
        bits = 8 * sum(a.nbytes for a in plan.assignments) / sum(a.tensor.size for a in plan.assignments)
        for at, (kind, other) in enumerate((("code", "prose"), ("prose", "code"))):
            without = found["none"][at]
            cells = (
                change(found[which][at], without, plain.reference.scored) for which in (kind, other, "both")
            )
            yield (
                f"| {preset} | {bits:.2f} | {kind} | {without.divergence.mean():.5f} | {' | '.join(cells)} |"
            )


def change(one: Positions, other: Positions, scored: int) -> str:
    """How much more or less `one` loses than `other`, and the standard error of that over chunks.

    scored: positions that are scored in each chunk
    """
    a, b = (np.asarray(p.divergence, np.float64) for p in (one, other))
    chunks = len(a) // scored
    a, b = (x[: chunks * scored].reshape(chunks, scored).mean(axis=1) for x in (a, b))
    ratio = a.mean() / b.mean()
    error = float((a - ratio * b).std(ddof=1)) / math.sqrt(chunks) / float(b.mean())
    text = f"{100 * (ratio - 1):+.1f} ± {100 * error:.1f} %"
    return f"**{text}**" if abs(ratio - 1) > 2 * error else text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = ROOT / "tests/data"
    parser.add_argument("model", type=Path, nargs="?", default=ROOT / "examples/tiny-code")
    parser.add_argument("--code", type=Path, required=True, metavar="FILE", help="importance matrix of code")
    parser.add_argument(
        "--prose", type=Path, required=True, metavar="FILE", help="importance matrix of prose"
    )
    parser.add_argument("--code-text", type=Path, default=data / "texts/code.val.txt", metavar="FILE")
    parser.add_argument("--prose-text", type=Path, required=True, metavar="FILE")
    parser.add_argument("--presets", nargs="+", default=PRESETS, metavar="NAME")
    parser.add_argument("--ctx", type=int, default=512, metavar="N", help="tokens in a chunk")
    parser.add_argument("--chunks", type=int, metavar="N", help="the first N of each text; all if left out")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of llama.cpp")
    parser.add_argument("--work", type=Path, default=Path("importance-work"), metavar="DIR")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    plain = Bench(
        path=args.model,
        matrices=(),
        texts=(args.code_text, args.prose_text),
        work=args.work,
        n_ctx=args.ctx,
        chunks=args.chunks,
        threads=args.threads,
    )
    benches = {
        "none": plain,
        "code": replace(plain, matrices=(args.code,)),
        "prose": replace(plain, matrices=(args.prose,)),
        "both": replace(plain, matrices=(args.code, args.prose)),
    }
    for row in rows(benches, args.presets):
        sys.stdout.write(row + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
