"""Cut a small set of rows out of the recorded answers of ik_llama.cpp's quantizers.

python tests/data/extract.py RECORDED.npz
"""

from __future__ import annotations

import hashlib
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
FEW = list(range(12))
"""The trellis types were recorded for the first twelve rows only."""
HERE = Path(__file__).parent


def main() -> None:
    recorded = np.load(sys.argv[1])
    arrays = {
        "x1024": recorded["x1024"][ROWS],
        "x1024few": recorded["x1024"][FEW],
        "w1024": recorded["w1024"],
    }
    for key in recorded.files:
        if key.endswith(("/plain", "/weighted")):
            name, _, kind = key.split("/")
            few = len(recorded[key]) == len(FEW)
            rows = FEW if few else ROWS
            arrays[f"{name}/1024{'few' if few else ''}/{kind}"] = recorded[key][rows]
            decoded = np.ascontiguousarray(recorded[f"{key}/decoded"][rows]).tobytes()
            digest = np.frombuffer(hashlib.sha256(decoded).digest(), np.uint8)
            arrays[f"{name}/1024{'few' if few else ''}/{kind}/decoded"] = digest
    np.savez_compressed(HERE / "golden.npz", **arrays)


if __name__ == "__main__":
    main()
