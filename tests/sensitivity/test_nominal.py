"""Typical errors: the table is what the formats do, and what isn't in it lies between its neighbours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quantrecipe import load_registry
from quantrecipe.sensitivity.nominal import nominal_error, nominal_errors

FORMATS = load_registry(plugins=False).formats


def test_every_format_is_in_the_table() -> None:
    codecs = {name for name, fmt in FORMATS.items() if fmt.spec.codec}
    assert nominal_errors().keys() == codecs
    assert all(
        nominal_errors()[name][0] == pytest.approx(FORMATS[name].spec.bits_per_weight) for name in codecs
    )


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_K", "BF16"])
def test_is_what_the_format_does(name: str) -> None:
    rows = (np.random.default_rng(1).standard_normal((64, 2048)) * 0.02).astype(np.float32)
    decoded = FORMATS[name].decode(FORMATS[name].encode(rows), 2048).astype(float)
    measured = np.square(rows - decoded).sum() / np.square(rows.astype(float)).sum()
    assert nominal_error(FORMATS[name].spec) == pytest.approx(measured, rel=0.05)


def test_what_is_not_in_it_is_like_others_of_its_size() -> None:
    mine = replace(FORMATS["Q4_K"].spec, name="MINE", block=256, block_bytes=160)  # 5 bits
    assert nominal_error(FORMATS["Q5_K"].spec) < nominal_error(mine) < nominal_error(FORMATS["Q4_K"].spec)
    tiny = replace(mine, block_bytes=16)  # half a bit
    assert nominal_error(FORMATS["IQ1_M"].spec) < nominal_error(tiny) <= 1
    huge = replace(mine, block_bytes=2048)  # 64 bits
    assert nominal_error(huge) < 1e-6


def test_what_only_passes_through_loses_nothing() -> None:
    assert nominal_error(FORMATS["I32"].spec) == 0
    assert nominal_error(FORMATS["F32"].spec) == 0
