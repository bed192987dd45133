"""Write docs/formats.md and its picture: what each format costs, how fast it is, and what it loses.

    python benchmarks/formats.py --json > measured.json     (takes some minutes)
    python benchmarks/formats_page.py measured.json         needs matplotlib

Sizes and facts come from the formats themselves, speeds from the measurement that is given, errors are measured here:
the relative RMSE, ‖x - decode(encode(x))‖ / ‖x‖, without importance (all ones where a format requires it), on Gaussian
rows and on the matrices of the example model.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantrecipe.api import QuantFormat
from quantrecipe.formats import ALL
from quantrecipe.model.open import open_model
from quantrecipe.model.read import TensorReader

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/formats.md"
PICTURE = ROOT / "docs/images/formats.svg"
COLUMNS = 768
"""Divides by every block; as long as the example model's longest rows."""

Floats = NDArray[np.float32]

_LABELS = {
    "IQ2_XS": ("right", (-5, -9)),
    "IQ2_S": ("right", (-5, -9)),
    "IQ4_XS": ("right", (-5, -9)),
    "Q4_K": ("left", (5, -10)),
    "IQ4_NL": ("left", (7, -1)),
    "Q4_0": ("left", (6, 2)),
    "Q3_K": ("left", (5, -10)),
}
"""Where labels would lie on each other: side, and offset in points."""

INTRO = """\
# Formats

<!-- Written by benchmarks/formats_page.py: change that, not this. -->

Every type that ggml stores weights in. Names, sizes and bytes are ggml's; a file says the type of each tensor.

![Error against bits per weight](images/formats.svg)

* **bits** per weight, with the scales; a block of **weights** takes **bytes**. Rows must divide into blocks; where they
  don't, the recipe's `fallback` decides, and `chain` goes to the type under *fallback*.
* **importance**: *required* types can't be made without an importance matrix, *advised* ones lose much without,
  *optional* ones use it if there is one, *ignored* ones never do.
* **error**: relative RMSE on Gaussian rows and on the matrices of the example model, without importance. It compares
  types; what it does to a model depends on the tensor.
* **speed**: million weights per second of one thread, and how many times ggml's own on the same machine in the same
  run; encoding plain, with importance, and decoding. Rows of 4096 weights, 10,000 at a time.
"""


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    measured = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    rows = max(record["rows"] for record in measured["records"])
    speeds = {(r["format"], r["what"]): r for r in measured["records"] if r["rows"] == rows}
    formats = sorted(
        (fmt for fmt in ALL if fmt.spec.codec), key=lambda fmt: (fmt.spec.bits_per_weight, fmt.spec.name)
    )
    gaussian = np.random.default_rng(0).standard_normal((64, COLUMNS), np.float32)
    real = real_rows()
    errors = {fmt.spec.name: (error(fmt, gaussian), error(fmt, real)) for fmt in formats}
    PAGE.write_text(
        "\n".join([INTRO, *table(formats, errors, speeds), "", *passed_through(), ""]), encoding="utf-8"
    )
    draw(formats, errors)


def error(fmt: QuantFormat, rows: Floats) -> float:
    """Relative RMSE."""
    weights = np.ones(rows.shape[1], np.float32) if fmt.spec.importance == "required" else None
    back = fmt.decode(fmt.encode(rows, weights), rows.shape[1])
    return float(np.linalg.norm(back.astype(np.float64) - rows) / np.linalg.norm(rows.astype(np.float64)))


def real_rows() -> Floats:
    """The rows of the example model's down projections, and of its other matrices joined to the same length."""
    model = open_model(ROOT / "examples/tiny-code")
    parts = []
    with TensorReader() as reader:
        for tensor in model.tensors:
            if len(tensor.shape) != 2:
                continue
            raw = np.empty(tensor.size * 2, np.uint8)
            reader.read_rows(model.sources[tensor.name], 0, tensor.rows, raw)
            parts.append((raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32))
    weights = np.concatenate(parts)
    return weights[: weights.size // COLUMNS * COLUMNS].reshape(-1, COLUMNS)


def table(formats: list[QuantFormat], errors: dict, speeds: dict) -> list[str]:  # type: ignore[type-arg]  # a script
    """The table in Markdown."""
    lines = [
        "| format | bits | weights → bytes | importance | fallback | error: Gauss, real | plain | weighted | decode |",
        "|---|---:|---:|---|---|---:|---:|---:|---:|",
    ]
    for fmt in formats:
        spec = fmt.spec
        gauss, real = errors[spec.name]
        cells = [
            f"`{spec.name}`",
            f"{spec.bits_per_weight:.4g}",
            f"{spec.block} → {spec.block_bytes}",
            spec.importance,
            f"`{spec.fallback}`" if spec.fallback else "",
            f"{gauss:.2%}, {real:.2%}",
            *(speed(speeds.get((spec.name, what))) for what in ("plain", "weighted", "decode")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## In words", ""]
    lines += [
        f"* `{fmt.spec.name}`: {fmt.spec.summary}. {fmt.spec.exactness.capitalize()}." for fmt in formats
    ]
    return lines


def speed(record: dict[str, float] | None) -> str:
    return "" if record is None else f"{record['ours']:,.0f} ({record['ratio']:.1f}x)"


def passed_through() -> list[str]:
    names = ", ".join(f"`{fmt.spec.name}`" for fmt in ALL if not fmt.spec.codec)
    return [
        "## Copied only",
        "",
        f"{names} can stand in a file, and are copied as they are; nothing is quantized to them.",
        "",
        "`Q8_1` and `Q8_K` exist only while a model runs: no file has them.",
    ]


def draw(formats: list[QuantFormat], errors: dict) -> None:  # type: ignore[type-arg]  # a script
    """Error against bits, on a logarithmic axis."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "formats"
    import matplotlib.pyplot as plt

    families = {
        "K-quants": "#1f77b4",
        "I-quants": "#d62728",
        "simple blocks": "#2ca02c",
        "ternary": "#9467bd",
    }
    figure, axes = plt.subplots(figsize=(10, 6.5))
    seen: dict[str, list[tuple[float, float]]] = {}
    for fmt in formats:
        bits, loss = fmt.spec.bits_per_weight, errors[fmt.spec.name][1]
        if bits > 9 or loss == 0:
            continue
        family = family_of(fmt.spec.name)
        seen.setdefault(family, []).append((bits, loss))
        left, offset = _LABELS.get(fmt.spec.name, ("left", (5, 4)))
        axes.annotate(fmt.spec.name, (bits, loss), offset, textcoords="offset points", fontsize=8, ha=left)
    for family, points in seen.items():
        axes.plot(*zip(*sorted(points), strict=True), "o", color=families[family], label=family)
    if "K-quants" in seen:
        axes.plot(*zip(*sorted(seen["K-quants"]), strict=True), "-", color=families["K-quants"], alpha=0.3)
    axes.set_yscale("log")
    axes.set_xlabel("bits per weight")
    axes.set_ylabel("relative RMSE on the example model's weights, no importance")
    axes.grid(True, which="both", alpha=0.25)
    axes.legend()
    figure.tight_layout()
    figure.savefig(PICTURE, metadata={"Date": None})


def family_of(name: str) -> str:
    if name.startswith("TQ"):
        return "ternary"
    if name.startswith("IQ"):
        return "I-quants"
    return "K-quants" if name.endswith("_K") else "simple blocks"


if __name__ == "__main__":
    main()
