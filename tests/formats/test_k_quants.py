"""Q4_K, Q5_K and Q6_K: their byte maps as their modules draw them, decoded by hand."""

from __future__ import annotations

import numpy as np
from support.formats import format_type

Q4_K = format_type("Q4_K")
Q5_K = format_type("Q5_K")
Q6_K = format_type("Q6_K")


def bytes_of(fmt: Q4_K | Q5_K | Q6_K) -> np.ndarray:
    data = np.random.default_rng(5).integers(0, 256, fmt.spec.block_bytes, np.uint8)
    halves = np.float16([0.01, 0.002]).view(np.uint8)
    if isinstance(fmt, Q6_K):
        data[208:] = halves[:2]
    else:
        data[:4] = halves
    return data


def scale_and_minimum(data: np.ndarray, g: int) -> tuple[int, int]:
    packed = [int(b) for b in data[4:16]]
    if g < 4:
        return packed[g] & 63, packed[g + 4] & 63
    return packed[g + 4] & 15 | packed[g - 4] >> 6 << 4, packed[g + 4] >> 4 | packed[g] >> 6 << 4


def test_q4_k_and_q5_k_bytes_are_where_the_map_says() -> None:
    for fmt, lower in ((Q4_K(), 16), (Q5_K(), 48)):
        data = bytes_of(fmt)
        d, dmin = (np.float32(v) for v in data[:4].view(np.float16))
        weights = fmt.decode(data[None], 256)[0]
        for n in range(256):
            g, i = divmod(n, 32)
            q = int(data[lower + 32 * (g // 2) + i]) >> 4 * (g % 2) & 15
            if lower == 48:
                q |= (int(data[16 + i]) >> g & 1) << 4
            scale, minimum = scale_and_minimum(data, g)
            assert weights[n] == d * np.float32(scale) * np.float32(q) - dmin * np.float32(minimum)


def test_q6_k_bytes_are_where_the_map_says() -> None:
    data = bytes_of(Q6_K())
    d = np.float32(data[208:].view(np.float16)[0])
    weights = Q6_K().decode(data[None], 256)[0]
    for n in range(256):
        h, c, i = n // 128, n % 128 // 32, n % 32
        low = int(data[64 * h + 32 * (c % 2) + i]) >> 4 * (c // 2) & 15
        high = int(data[128 + 32 * h + i]) >> 2 * c & 3
        scale = np.float32(data[192:208].view(np.int8)[n // 16])
        assert weights[n] == d * scale * np.float32((low | high << 4) - 32)


def test_a_block_without_weights_has_no_scale() -> None:
    zeros = np.zeros((1, 256), np.float32)
    for fmt in (Q4_K(), Q5_K(), Q6_K()):
        data = fmt.encode(zeros)
        assert not data.any()
        assert not fmt.decode(data, 256).any()


def test_importance_lowers_the_error_where_it_is_high() -> None:
    rng = np.random.default_rng(4)
    rows = (rng.standard_normal((200, 512)) * 0.02).astype(np.float32)
    importance = np.where(np.arange(512) % 16 == 0, 100, 0.1).astype(np.float32)
    for fmt in (Q4_K(), Q5_K(), Q6_K()):
        errors = [
            float((importance * (fmt.decode(fmt.encode(rows, w), 512) - rows) ** 2).sum())
            for w in (importance, None)
        ]
        assert errors[0] < 0.9 * errors[1], fmt.spec.name
