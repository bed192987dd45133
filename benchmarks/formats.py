"""Speed of each format beside ggml's own, in one run, in one thread.

    python benchmarks/formats.py                         all formats, 16 and 10,000 rows of 4096 weights
    python benchmarks/formats.py Q4_K Q6_K --rows 16     some
    python benchmarks/formats.py --json                  for machines
    python benchmarks/formats.py --sound                 what apply's look at the bytes costs beside encoding them

Million weights per second; for the decoders also gguf-py's. "memory" is the share of a plain copy's bandwidth that the
faster side of the traffic, weights in and bytes out, comes to. Needs llama-cpp-python, whose libggml-base
is measured; --sound doesn't.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from rich.console import Console
from rich.table import Table

from quantrecipe.api import QuantFormat
from quantrecipe.core.finite import all_sound
from quantrecipe.formats import ALL
from quantrecipe.output.row_units import CHUNK_WEIGHTS

COLUMNS = 4096
SECONDS = 0.6
"""How long each side of a comparison is measured; alternating, so that both meet the same machine."""


class Ggml:
    """ggml's quantizers and dequantizers, from the library that llama-cpp-python installs."""

    def __init__(self) -> None:
        package = find_spec("llama_cpp")
        if package is None or package.origin is None:
            sys.exit("llama-cpp-python is not installed: pip install llama-cpp-python")
        folder = Path(package.origin).parent / "lib"
        self.library = ctypes.CDLL(str(next(folder.glob("*ggml-base.*"))))
        self.library.ggml_quantize_chunk.restype = ctypes.c_size_t
        self.library.ggml_quantize_chunk.argtypes = [
            ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
            ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
        ]  # fmt: skip
        self.library.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)

    def encode(self, type_: int, rows: Any, importance: Any, out: Any) -> None:
        self.library.ggml_quantize_init(type_)
        weights = None if importance is None else importance.ctypes.data
        n, k = rows.shape
        self.library.ggml_quantize_chunk(type_, rows.ctypes.data, out.ctypes.data, 0, n, k, weights)

    def is_fast(self, type_: int, rows: Any, importance: Any, out: Any) -> bool:
        """Whether it does a hundred million weights in a second."""
        start = time.perf_counter()
        self.encode(type_, rows[:16], importance, out)
        return rows[:16].size / (time.perf_counter() - start) > 1e8

    def decode(self, type_: int, data: Any, out: Any) -> None:
        traits = self.library.ggml_get_type_traits(type_).contents
        if traits.to_float:
            ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(traits.to_float)(
                data.ctypes.data, out.ctypes.data, out.size
            )
        else:
            out[:] = data.view(np.float32)


class _Traits(ctypes.Structure):
    """ggml.h: struct ggml_type_traits."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.c_void_p),
        ("from_float_ref", ctypes.c_void_p),
    )


def seconds(*sides: Callable[[], object]) -> list[float]:
    """The median time of one call of each, called in turn."""
    times: list[list[float]] = [[] for _ in sides]
    for side in sides:
        side()
    began = time.perf_counter()
    while len(times[0]) < 3 or (time.perf_counter() - began < SECONDS * len(sides) and len(times[0]) < 200):
        for side, mine in zip(sides, times, strict=True):
            start = time.perf_counter()
            side()
            mine.append(time.perf_counter() - start)
    return [statistics.median(mine) for mine in times]


def measure(fmt: QuantFormat, count: int, ggml: Ggml, bandwidth: float) -> list[dict[str, Any]]:
    """One record for each of plain, weighted and decode."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((count, COLUMNS), np.float32) * np.float32(0.02)
    importance = rng.exponential(1.0, COLUMNS).astype(np.float32)
    spec = fmt.spec
    out = np.empty((count, spec.row_bytes(COLUMNS)), np.uint8)
    levels: list[tuple[str, Any]] = [("plain", None)] if spec.importance != "required" else []
    levels += [("weighted", importance)] if spec.importance != "ignored" else []
    size = spec.bits_per_weight / 8 + 4
    records = []
    for name, weights in levels:
        # Where ggml searches long, its speed doesn't depend on memory, and so not on the number of rows.
        few = rows if ggml.is_fast(spec.ggml_type, rows, weights, out) else rows[:64]
        out_few = np.empty_like(out[: len(few)])
        ours, theirs = seconds(
            lambda weights=weights: fmt.encode(rows, weights, out=out),
            lambda few=few, weights=weights, to=out_few: ggml.encode(spec.ggml_type, few, weights, to),
        )
        records.append(_record(spec.name, name, count, rows.size / ours, few.size / theirs, size, bandwidth))
    back, back_theirs, some = np.empty_like(rows), np.empty_like(rows), out[:64]
    sides = [
        lambda: fmt.decode(out, COLUMNS, out=back),
        lambda: ggml.decode(spec.ggml_type, out, back_theirs),
    ]
    try:
        type_ = gguf.GGMLQuantizationType(spec.ggml_type)
        gguf.quants.dequantize(some, type_)
        ours, theirs, python = seconds(*sides, lambda: gguf.quants.dequantize(some, type_))
    except (NotImplementedError, ValueError):  # gguf-py can't decode the type, or doesn't know it
        (ours, theirs), python = seconds(*sides), float("nan")
    records.append(_record(spec.name, "decode", count, rows.size / ours, rows.size / theirs, size, bandwidth))
    records[-1]["gguf_py"] = len(some) * COLUMNS / python / 1e6
    return records


def _record(
    name: str, what: str, rows: int, ours: float, theirs: float, size: float, bandwidth: float
) -> Any:
    return {
        "format": name,
        "what": what,
        "rows": rows,
        "ours": ours / 1e6,
        "ggml": theirs / 1e6,
        "ratio": ours / theirs,
        "memory": ours * size / bandwidth,
    }


def copy_bandwidth() -> float:
    """Bytes read and written per second by a copy of 256 MB."""
    source = np.ones(1 << 26, np.float32)
    target = np.empty_like(source)
    (time_,) = seconds(lambda: np.copyto(target, source))
    return 2 * source.nbytes / time_


def measure_sound(fmt: QuantFormat) -> tuple[float, float]:
    """Seconds of encoding a unit of apply, and of doing so and looking for NaN and Inf in what came out."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((CHUNK_WEIGHTS // COLUMNS, COLUMNS), np.float32) * np.float32(0.02)
    needed = fmt.spec.importance == "required"
    importance = rng.exponential(1.0, COLUMNS).astype(np.float32) if needed else None
    out = np.empty((len(rows), fmt.spec.row_bytes(COLUMNS)), np.uint8)

    def both() -> bool:
        fmt.encode(rows, importance, out=out)
        return all_sound(fmt.spec, out)

    plain, looked = seconds(lambda: fmt.encode(rows, importance, out=out), both)
    return plain, looked


def print_sound(formats: list[QuantFormat], *, as_json: bool) -> None:
    """Both, side by side, and their ratio."""
    found = {fmt.spec.name: measure_sound(fmt) for fmt in formats if fmt.spec.floats}
    if as_json:
        Console().print_json(json.dumps(found))
        return
    table = Table(
        "format", "encode", "and look", "ratio", title=f"ms for {CHUNK_WEIGHTS:,} weights, one thread"
    )
    for name, (plain, looked) in found.items():
        table.add_row(name, f"{plain * 1e3:.3f}", f"{looked * 1e3:.3f}", f"{looked / plain:.3f}")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("types", nargs="*", metavar="TYPE", help="names of formats; all if none is given")
    parser.add_argument("--rows", nargs="+", type=int, default=[16, 10_000])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sound", action="store_true", help="measure the look at what was encoded instead")
    arguments = parser.parse_args()
    formats = {fmt.spec.name: fmt for fmt in ALL if fmt.spec.codec}
    if unknown := set(arguments.types) - formats.keys():
        parser.error(f"no format {min(unknown)}; there are {', '.join(formats)}")
    if arguments.sound:
        print_sound([formats[name] for name in arguments.types or formats], as_json=arguments.json)
        return
    ggml, bandwidth = Ggml(), copy_bandwidth()
    records = [
        record
        for name in arguments.types or formats
        for count in arguments.rows
        for record in measure(formats[name], count, ggml, bandwidth)
    ]
    console = Console()
    if arguments.json:
        console.print_json(
            json.dumps({"copy_bytes_per_second": bandwidth, "columns": COLUMNS, "records": records})
        )
        return
    table = Table(title=f"Mw/s, rows of {COLUMNS}, one thread; copying memory: {bandwidth / 1e9:.1f} GB/s")
    for column in ("format", "what"):
        table.add_column(column)
    for column in ("rows", "ours", "ggml", "ratio", "gguf-py", "ratio", "memory"):
        table.add_column(column, justify="right")
    for r in records:
        python = r.get("gguf_py", float("nan"))
        beside = (f"{python:,.0f}", f"{r['ours'] / python:.1f} x") if python == python else ("", "")
        numbers = (f"{r['rows']:,}", f"{r['ours']:,.0f}", f"{r['ggml']:,.1f}", f"{r['ratio']:.1f} x")
        table.add_row(r["format"], r["what"], *numbers, *beside, f"{r['memory']:.0%}")
    console.print(table)


if __name__ == "__main__":
    main()
