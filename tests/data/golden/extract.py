"""Cut a small set of rows out of the recorded answers of ggml's quantizers.

python tests/data/golden/extract.py RECORDED.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ROWS = [
    *(0, 4, 8, 12, 14, 16),  # Gaussian, Laplace, Student-t, uniform
    *(18, 20, 22, 26),  # positive, negative, sparse, half zero
    *(28, 29, 30),  # all zero, constant
    *(31, 32, 33, 34),  # 1e-8 and 1e3 scales, outliers
    *(36, 38, 42, 47, 58),  # ternary, BF16-exact, rows of a trained model
]
HERE = Path(__file__).parent


def main() -> None:
    recorded = np.load(sys.argv[1])
    inputs, answers = {}, {}
    for key in recorded.files:
        kept = recorded[key]
        name, _, rest = key.partition("/")
        if "edge" not in key and kept.ndim == 2:
            kept = kept[ROWS]
        if not rest:
            inputs[key] = kept
        elif not key.endswith("answered"):
            answers.setdefault(name, {})[rest] = kept
    np.savez_compressed(HERE / "inputs.npz", **inputs)
    for name, arrays in answers.items():
        np.savez_compressed(HERE / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main()
