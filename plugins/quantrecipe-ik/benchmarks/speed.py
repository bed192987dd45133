"""Speed of each format beside ik_llama.cpp's own quantizers, in one run, in one thread.

    python benchmarks/speed.py LIBGGML.so                all formats
    python benchmarks/speed.py LIBGGML.so IQ4_K IQ2_KS   some
    python benchmarks/speed.py LIBGGML.so --json

Million weights per second of CPU time, with importance, rows of 4096 Gaussian weights. LIBGGML.so is the ggml library
of a build of ik_llama.cpp; for the bytes that are compared, too, without contraction:

    cmake -B build -DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON \\
        -DCMAKE_C_FLAGS=-ffp-contract=off -DCMAKE_CXX_FLAGS=-ffp-contract=off

The tables that its trellis types make when they are first used aren't counted.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from quantrecipe.api import QuantFormat

from quantrecipe_ik.formats import ALL

COLUMNS, ROWS, FEW = 4096, 64, 4
ROUNDS = 5


def load(path: str) -> Any:
    """ik_llama.cpp's library."""
    library = ctypes.CDLL(path)
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
        ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    return library


def seconds(*sides: Callable[[], object]) -> list[float]:
    """The median CPU time of one call of each, called in turn."""
    times: list[list[float]] = [[] for _ in sides]
    for side in sides:
        side()
    for _ in range(ROUNDS):
        for side, mine in zip(sides, times, strict=True):
            start = time.thread_time()
            side()
            mine.append(time.thread_time() - start)
    return [statistics.median(mine) for mine in times]


def measure(fmt: QuantFormat, library: Any) -> dict[str, Any]:
    """One record: both speeds, their ratio, and how much the weighted error of the few rows is of the other's."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((ROWS, COLUMNS), np.float32) * np.float32(0.02)
    importance = rng.exponential(1.0, COLUMNS).astype(np.float32)
    few, width = np.ascontiguousarray(rows[:FEW]), fmt.spec.row_bytes(COLUMNS)
    out, theirs = np.empty((ROWS, width), np.uint8), np.empty((FEW, width), np.uint8)

    def reference() -> None:
        library.ggml_quantize_chunk(
            fmt.spec.ggml_type,
            few.ctypes.data,
            theirs.ctypes.data,
            0,
            FEW,
            COLUMNS,
            importance.ctypes.data,
            None,
        )

    its, other = seconds(lambda: fmt.encode(rows, importance, out=out), reference)
    losses = [
        float((importance * (fmt.decode(data, COLUMNS) - few).astype(np.float64) ** 2).sum())
        for data in (out[:FEW], theirs)
    ]
    ours_speed, their_speed = rows.size / its / 1e6, few.size / other / 1e6
    return {
        "format": fmt.spec.name,
        "ours": ours_speed,
        "ik_llama.cpp": their_speed,
        "ratio": ours_speed / their_speed,
        "error": losses[0] / losses[1],
        "same bytes": bool(np.array_equal(out[:FEW], theirs)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("library", metavar="LIBGGML.so")
    parser.add_argument("types", nargs="*", metavar="TYPE")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    formats = {fmt.spec.name: fmt for fmt in ALL}
    if unknown := set(arguments.types) - formats.keys():
        parser.error(f"no format {min(unknown)}; there are {', '.join(formats)}")
    library = load(arguments.library)
    records = [measure(formats[name], library) for name in arguments.types or formats]
    if arguments.json:
        json.dump(records, sys.stdout, indent=2)
        return
    sys.stdout.write(f"{'':8} {'ours':>7} {'ik_llama.cpp':>13} {'ratio':>7} {'error':>7}\n")
    for r in records:
        same = "  same bytes" if r["same bytes"] else ""
        sys.stdout.write(
            f"{r['format']:8} {r['ours']:7.1f} {r['ik_llama.cpp']:13.2f} {r['ratio']:6.1f}x {r['error']:7.3f}{same}\n"
        )


if __name__ == "__main__":
    main()
