"""Make quantrecipe/sensitivity/nominal_errors.toml: what each format loses on Gaussian weights.

    python tools/make_nominal_errors.py

Every built-in format encodes and decodes the same rows; formats that need importance get 1 for every input. The
rows are drawn with a fixed seed, so that the file changes only when a format does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from quantrecipe import load_registry
from quantrecipe.analyses.error import Error

OUT = Path(__file__).parents[1] / "quantrecipe/sensitivity/nominal_errors.toml"
ROWS, COLS, SEED = 256, 4096, 20250101

HEADER = f"""\
# Relative error D of each built-in format on Gaussian weights, by the analysis `error`: [bits per weight, D].
# Made by tools/make_nominal_errors.py: {ROWS} rows of {COLS}, numpy's PCG64 with seed {SEED}, no importance
# (1 for every input where the format can't do without).

[formats]
"""


def main() -> None:
    """Write the table, in the order of size."""
    rows = np.random.Generator(np.random.PCG64(SEED)).standard_normal((ROWS, COLS), dtype=np.float32)
    rows *= np.float32(0.02)
    formats = load_registry(plugins=False).formats.values()
    lines = [
        (fmt.spec.bits_per_weight, fmt.spec.name, Error().score(rows, fmt))
        for fmt in formats
        if fmt.spec.codec
    ]
    text = "".join(f"{name} = [{bits:g}, {error:.4g}]\n" for bits, name, error in sorted(lines))
    OUT.write_text(HEADER + text, encoding="utf-8")


if __name__ == "__main__":
    main()
