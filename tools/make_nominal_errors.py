"""Make quantrecipe/sensitivity/nominal_errors.toml: what each format loses on Gaussian weights.

    python tools/make_nominal_errors.py

Every built-in format encodes and decodes the same rows; formats that need importance get 1 for every input. The
rows are drawn with a fixed seed, so that the file changes only when a format does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from quantrecipe import load_registry

OUT = Path(__file__).parents[1] / "quantrecipe/sensitivity/nominal_errors.toml"
ROWS, COLS, SEED = 256, 4096, 20250101

HEADER = f"""\
# Relative error D = Σ (x - x̂)² / Σ x² of each built-in format on Gaussian weights: [bits per weight, D].
# Made by tools/make_nominal_errors.py: {ROWS} rows of {COLS}, numpy's PCG64 with seed {SEED}, no importance
# (1 for every input where the format can't do without).

[formats]
"""


def main() -> None:
    """Write the table, in the order of size."""
    rows = np.random.Generator(np.random.PCG64(SEED)).standard_normal((ROWS, COLS), dtype=np.float32)
    rows *= np.float32(0.02)
    whole = float(np.square(rows, dtype=np.float64).sum())
    lines = []
    for fmt in load_registry(plugins=False).formats.values():
        if not fmt.spec.codec:
            continue
        weights = np.ones(COLS, np.float32) if fmt.spec.importance == "required" else None
        decoded = fmt.decode(fmt.encode(rows / scale_of(fmt, rows), weights), COLS) * scale_of(fmt, rows)
        lost = float(np.square(rows.astype(np.float64) - decoded).sum())
        lines.append((fmt.spec.bits_per_weight, fmt.spec.name, lost / whole))
    text = "".join(f"{name} = [{bits:g}, {error:.4g}]\n" for bits, name, error in sorted(lines))
    OUT.write_text(HEADER + text, encoding="utf-8")


def scale_of(fmt: object, rows: np.ndarray) -> np.float32:
    """What the rows are divided by: the companion's factor where the format has one."""
    if fmt.spec.companion is None:  # type: ignore[attr-defined]  # a QuantFormat
        return np.float32(1)
    return np.float32(fmt.factor(float(np.abs(rows).max())))  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
