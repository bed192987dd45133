"""Byte by byte against ggml's own library, on over ten thousand rows of each type; and its verdicts on blocks.

ggml runs in child processes, since it may abort on what it doesn't answer; such rows are left out, and counted.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from quantrecipe.api import QuantFormat
from quantrecipe.core.finite import all_sound, first_unsound
from quantrecipe.formats import ALL
from quantrecipe.testing.sample import nasty_importance, nasty_rows

pytestmark = pytest.mark.oracle

ROWS, BATCH = 12_000, 500
FORMATS = [fmt for fmt in ALL if fmt.spec.codec and fmt.spec.exactness == "byte-equal to ggml"]

HOSTILE_ROWS, BLOCKS = 1000, 3
EDGES = (0x00, 0x01, 0x3C, 0x7B, 0x7C, 0x7E, 0x7F, 0x80, 0xFB, 0xFC, 0xFE, 0xFF)
"""Bytes that decide: exponents of all ones and their neighbours, of both signs, whole and in halves."""

CHILD = """
import ctypes, mmap, os, sys
import numpy as np
library, type_, folder, width = ctypes.CDLL(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
library.ggml_quantize_init(type_)
quantize = library.ggml_quantize_chunk
quantize.restype = ctypes.c_size_t
quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
batches, weights, weighted = (np.load(f"{folder}/{name}.npy") for name in ("batches", "weights", "weighted"))
count, n, k = batches.shape
out = np.frombuffer(mmap.mmap(-1, count * n * width), np.uint8).reshape(count, n, width)
answered = np.zeros((count, n), bool)
waiting = [(batch, 0, n) for batch in range(count)]
while waiting:
    batch, start, stop = waiting.pop()
    child = os.fork()
    if child == 0:
        part, answer = batches[batch, start:stop], out[batch, start:stop]
        pointer = weights[batch].ctypes.data if weighted[batch] else None
        quantize(type_, part.ctypes.data, answer.ctypes.data, 0, stop - start, k, pointer)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        answered[batch, start:stop] = True
    elif stop - start > 1:
        middle = (start + stop) // 2
        waiting += [(batch, start, middle), (batch, middle, stop)]
np.save(folder + "/out.npy", out)
np.save(folder + "/answered.npy", answered)
"""
"""ggml is loaded once, as are its tables, which take it long to make. Each part of a batch is encoded by a fork, and in
halves by two if that aborts.
"""


def library() -> Path:
    package = find_spec("llama_cpp")
    if package is None or package.origin is None:
        pytest.skip("llama-cpp-python is not installed")
    return next((Path(package.origin).parent / "lib").glob("*ggml-base.*"))


def ggml(
    fmt: QuantFormat, batches: list[np.ndarray], weights: list[np.ndarray | None], folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """ggml's bytes of each row of each batch, and whether it answered."""
    k = batches[0].shape[1]
    unused = np.zeros(k, np.float32)
    np.save(folder / "batches.npy", batches)
    np.save(folder / "weights.npy", [unused if it is None else it for it in weights])
    np.save(folder / "weighted.npy", [it is not None for it in weights])
    arguments = [str(library()), str(fmt.spec.ggml_type), str(folder), str(fmt.spec.row_bytes(k))]
    # Else ggml looks for a debugger each time that it aborts.
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], capture_output=True, check=True, env=environment
    )
    return np.load(folder / "out.npy"), np.load(folder / "answered.npy")


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.spec.name)
def test_bytes_are_ggml_s(fmt: QuantFormat, tmp_path: Path) -> None:
    k = 2 * fmt.spec.block if fmt.spec.block > 32 else 96
    rng = np.random.default_rng(fmt.spec.ggml_type)
    batches, weights = [], []
    for batch in range(ROWS // BATCH):
        batches.append(nasty_rows(rng, BATCH, k))
        weighted = batch % 2 or fmt.spec.importance == "required"
        weights.append(nasty_importance(rng, k) if weighted else None)
    expected, answered = ggml(fmt, batches, weights, tmp_path)
    for batch, rows in enumerate(batches):
        differs = (fmt.encode(rows, weights[batch]) != expected[batch]).any(axis=1)
        wrong = np.flatnonzero(differs & answered[batch]).tolist()
        assert not wrong, (
            f"batch {batch}, weights {weights[batch] is not None}: rows {wrong[:20]} of {len(wrong)}"
        )
    assert answered.sum() >= 10_000


def test_the_library_is_the_one_that_was_recorded() -> None:
    name = ctypes.CDLL(str(library())).ggml_type_name
    name.restype = ctypes.c_char_p
    for fmt in FORMATS:
        assert name(fmt.spec.ggml_type).decode().upper() == fmt.spec.name.upper()


def verdicts(fmt: QuantFormat, rows: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """ggml's answer for each row."""
    validate = ctypes.CDLL(str(library())).ggml_validate_row_data
    validate.restype, validate.argtypes = ctypes.c_bool, [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
    kept = rows.copy()  # where the pointers lead
    return np.array([validate(fmt.spec.ggml_type, row.ctypes.data, row.size) for row in kept])


def ours(fmt: QuantFormat, rows: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The same of us; both ways of looking must agree."""
    answers = np.array([all_sound(fmt.spec, rows[i : i + 1]) for i in range(len(rows))])
    first = first_unsound(fmt.spec, rows)
    assert (first is None) == answers.all() == all_sound(fmt.spec, rows)
    assert first is None or first.row == int((~answers).argmax())
    return answers


@pytest.mark.parametrize("fmt", ALL, ids=lambda fmt: fmt.spec.name)
def test_verdicts_are_ggml_s(fmt: QuantFormat) -> None:
    """What we let into a file is what ggml's own validation takes, both ways: random blocks, and hostile ones."""
    rng = np.random.default_rng(fmt.spec.ggml_type)
    width = fmt.spec.row_bytes(BLOCKS * fmt.spec.block)
    random = rng.integers(0, 256, (HOSTILE_ROWS, width), dtype=np.uint8)
    edges = rng.choice(np.array(EDGES, np.uint8), (HOSTILE_ROWS, width))
    mixed = np.where(rng.random((HOSTILE_ROWS, width)) < 0.5, random, edges)
    sparse = np.where(rng.random((HOSTILE_ROWS, width)) < 2 / width, edges, np.uint8(0))
    for rows in (random, edges, mixed, sparse):
        expected = verdicts(fmt, rows)
        differs = np.flatnonzero(ours(fmt, rows) != expected)
        assert not differs.size, (
            f"row {differs[:1]}: {rows[differs[:1]].tobytes().hex()}, ggml says {expected[differs[:1]]}"
        )
