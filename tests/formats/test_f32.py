"""F32: the bytes of the weights."""

from __future__ import annotations

import numpy as np
from support.formats import format_type

F32 = format_type("F32")


def test_bytes_are_the_weights() -> None:
    rows = np.random.default_rng(0).standard_normal((5, 7), np.float32)
    data = F32().encode(rows)
    assert np.array_equal(data, rows.view(np.uint8))
    assert np.array_equal(F32().decode(data, 7), rows)
