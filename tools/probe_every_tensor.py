"""Probe a small model tensor by tensor: what the prior is made from, and what `probe` is held to.

    python tools/probe_every_tensor.py MODEL IMATRIX TEXT OUT.csv [--type Q3_K] [--tokens 32768]

One evaluation for each tensor: that one rounded, all others in Q8_0. The CSV has the KL divergence in nats, its
standard error, and D; the first line is a comment that says what it comes from. It can be read with `--table`.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

from quantrecipe import load_registry, open_model
from quantrecipe.evaluate import read_text
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.measure import Measurement, Passes, measure
from quantrecipe.measure.prober import Prober
from quantrecipe.measure.progress import Silent


def main() -> None:
    """Measure D of every row, then probe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("imatrix", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--type", default="Q3_K")
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    registry = load_registry(plugins=False)
    model, importance = open_model(args.model, registry=registry), read_importance(args.imatrix)
    with tempfile.TemporaryDirectory() as folder, args.out.open("w", encoding="utf-8", newline="") as file:
        what = Measurement(types=(args.type,), analysis=registry.analyses["imatrix"], sample=None)  # type: ignore[arg-type]  # it is one of tensors
        found = measure(model, Path(folder) / "d.jsonl", what, registry=registry, importance=importance)
        passes = Passes(texts=(read_text(args.text),), tokens=args.tokens, threads=args.threads)
        digests = {tensor.name: tensor.digest for tensor in found.tensors.values()}
        file.write(f"# {found.provenance.model}, {found.provenance.n_layers} layers; {args.text.name}, ")
        file.write(f"{passes.chunks} x {passes.n_ctx} tokens; importance {importance.label}\n")
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["tensor", "type", "kld", "standard_error", "d"])
        with Prober(
            model,
            registry,
            importance,
            passes,
            digests=digests,
            folder=Path(folder),
            known={},
            save=lambda probe: None,
            progress=Silent(),
        ) as prober:
            for name in found.tensors:
                effect = prober.evaluate({name: args.type})
                d = found.error(name, args.type)
                numbers = (effect.kld, effect.standard_error, d)
                rows.writerow([name, args.type, *(f"{number:.5g}" for number in numbers)])
                file.flush()


if __name__ == "__main__":
    main()
