"""Write quantrecipe/core/grids/tables/*.grid: the grids of the IQ1, IQ2 and IQ3 formats, from gguf-py's tables.

    python tools/write_grids.py

ggml holds the same points, in the same order, in ggml-common.h (iq2xxs_grid …) and in ggml-quants.c (kgrid_2bit_256 …).
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

TABLES = Path(__file__).parents[1] / "quantrecipe" / "core" / "grids" / "tables"
SOURCES = {
    "iq1": "IQ1_S",
    "iq2_xxs": "IQ2_XXS",
    "iq2_xs": "IQ2_XS",
    "iq2_s": "IQ2_S",
    "iq3_xxs": "IQ3_XXS",
    "iq3_s": "IQ3_S",
}
PER_LINE = 16


def main() -> None:
    for name, source in SOURCES.items():
        quant = getattr(gguf.quants, source)
        quant.init_grid()
        values = quant.grid.reshape(quant.grid_shape)
        steps = np.searchsorted(np.array(quant.grid_map), values)
        (count, length), levels = steps.shape, len(quant.grid_map)
        bits = (levels - 1).bit_length()
        words = (steps << (bits * np.arange(length))).sum(axis=1)
        lines = [
            f"# {source}: {count} points of {length} integers below {levels}, {bits} bits each, the first lowest.",
            f"# Origin: gguf-py, gguf.quants.{source}.grid (llama.cpp, MIT). Written by tools/write_grids.py.",
        ]
        for start in range(0, count, PER_LINE):
            lines.append(" ".join(f"{word:04x}" for word in words[start : start + PER_LINE]))
        (TABLES / f"{name}.grid").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
