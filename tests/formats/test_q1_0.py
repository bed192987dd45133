"""Q1_0: its byte map, by hand; ggml's own decoding, since gguf-py has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support.formats import format_type

Q1_0 = format_type("Q1_0")


GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "Q1_0.npz"


def test_a_block_by_hand() -> None:
    rows = np.full((1, 128), -1, np.float32)
    rows[0, [0, 9, 127]] = [3, 0.5, 1]
    rows[0, 16:18] = [0.0, -0.0]
    data = Q1_0().encode(rows)[0]
    assert data[:2].view(np.float16)[0] == np.float16((3 + 0.5 + 1 + 123) / 128)
    assert data[2:6].tolist() == [1, 2, 3, 0]  # -0.0 counts as positive
    assert data[17] == 128


def test_decodes_as_ggml_does() -> None:
    recorded = np.load(GOLDEN)
    back = Q1_0().decode(recorded["1024/weighted"], 1024)
    assert np.array_equal(back.view(np.uint32), recorded["1024/decoded"].view(np.uint32))


def test_every_bit_of_random_bytes() -> None:
    data = np.random.default_rng(3).integers(0, 256, (20, 36), np.uint8)
    blocks = data.reshape(40, 18)
    d = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    bits = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little")
    expected = np.where(bits == 1, d, -d).reshape(20, 256)
    assert np.array_equal(Q1_0().decode(data, 256), expected, equal_nan=True)


def test_sums_are_taken_in_order_for_any_number_of_blocks() -> None:
    rows = np.random.default_rng(4).standard_normal((1, 128 * 11), np.float32)
    rows[0, ::50] *= 1e6
    halves = Q1_0().encode(rows).reshape(11, 18)[:, :2].copy().view(np.float16)[:, 0]
    for block, half in zip(np.abs(rows.reshape(11, 128)), halves, strict=True):
        total = np.float32(0)
        for size in block:
            total += size
        with np.errstate(over="ignore"):
            assert half == np.float16(total / np.float32(128))
