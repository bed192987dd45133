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
from quantrecipe.model.open_model import open_model
from quantrecipe.model.tensor_reader import TensorReader

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

This page is for people who choose types for a recipe, and want to know what each type costs and what it loses. It
lists every type in which ggml stores weights. Names, sizes and bytes are ggml's. [What the names mean](names.md)
explains the names.

![Error against bits per weight](images/formats.svg)

The columns of the table:

* **bits**: bits per weight, including the scales. **weights → bytes**: one block has so many weights and takes so
  many bytes. A row must divide into whole blocks. If it doesn't, the recipe's `fallback` decides; with `fallback:
  chain` the tensor gets the type in the column **fallback**.
* **importance**: whether the type uses an [importance matrix](imatrix.md). *required*: the type can't be made
  without one. *advised*: the type loses much without one. *optional*: the type uses one if you give it. *ignored*:
  the type never uses one.
* **error**: relative RMSE (root mean square error) without importance, first on Gaussian rows, then on the matrices
  of the example model. Use it to compare types. What a type does to a model depends on the tensor.
* **plain**, **weighted**, **decode**: speed of one thread when it encodes without importance, encodes with
  importance, and decodes, in million weights per second. In brackets: how many times as fast as ggml on the same
  machine in the same run. Measured with 10,000 rows of 4096 weights.
"""

TENSORS = """\
## Tensors that llama.cpp doesn't load

quantrecipe keeps a tensor that has more than four dimensions as it is, and warns about it. An example is the patch
embedding of video models. llama.cpp refuses such a file, stable-diffusion.cpp loads up to five dimensions, and
programs that read GGUFs with gguf-py load any number. quantrecipe also keeps a tensor without elements. `inspect`
shows a type that quantrecipe doesn't know by its number (`type 99`), with the room that it takes in the file.
quantrecipe can't copy such a tensor, since it doesn't know the size of the type.
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
            reader.read(model.sources[tensor.name].extents, 0, raw)
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
    lines += ["", "## What each type is for", ""]
    lines += [
        f"* `{fmt.spec.name}`: {fmt.spec.summary}. {fmt.spec.exactness.capitalize()}." for fmt in formats
    ]
    return lines


def speed(record: dict[str, float] | None) -> str:
    return "" if record is None else f"{record['ours']:,.0f} ({record['ratio']:.1f}x)"


def passed_through() -> list[str]:
    names = ", ".join(f"`{fmt.spec.name}`" for fmt in ALL if not fmt.spec.codec)
    return [
        "## Types that are only copied",
        "",
        f"A file can contain {names}. quantrecipe copies such tensors as they are. "
        "It quantizes nothing to these types.",
        "",
        "`Q8_1` and `Q8_K` exist only in memory while a model runs. No file contains them.",
        "",
        *TENSORS.splitlines(),
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
