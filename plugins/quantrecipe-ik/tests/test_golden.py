"""Bytes and errors beside ik_llama.cpp's own, on the rows that were recorded from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from quantrecipe.api import QuantFormat

from quantrecipe_ik.formats import ALL

GOLDEN = np.load(Path(__file__).with_name("data") / "golden.npz")
RECORDED = [fmt for fmt in ALL if any(key.startswith(f"{fmt.spec.name}/") for key in GOLDEN.files)]
EXACT = [fmt for fmt in RECORDED if fmt.spec.exactness.startswith("byte-equal")]
WORST = {"IQ4_KT": 1.05}
"""How much more than ik_llama.cpp a format may lose on a row: half a percent, or, where it tries fewer scales, this."""


def name(fmt: QuantFormat) -> str:
    return fmt.spec.name


def answers(fmt: QuantFormat) -> Iterator[tuple[str, np.ndarray, np.ndarray | None, np.ndarray]]:
    """(label, rows, importance, ik_llama.cpp's bytes) of each recording of a format."""
    for key in GOLDEN.files:
        if key.startswith(f"{fmt.spec.name}/") and key.endswith(("/plain", "/weighted")):
            _, columns, kind = key.split("/")
            weights = GOLDEN["w1024"] if kind == "weighted" else None
            yield key, GOLDEN[f"x{columns}"], weights, GOLDEN[key]


def losses(rows: np.ndarray, back: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    """The squared error of each row, weighted."""
    off = (rows.astype(np.float64) - back) ** 2
    return off.sum(axis=1) if importance is None else off @ importance.astype(np.float64)


def test_every_format_was_recorded() -> None:
    assert {fmt.spec.name for fmt in ALL} - {fmt.spec.name for fmt in RECORDED} <= {"Q6_0"}


@pytest.mark.parametrize("fmt", RECORDED, ids=name)
def test_decodes_as_ik_llama_does(fmt: QuantFormat) -> None:
    for label, rows, _, data in answers(fmt):
        back = fmt.decode(data, rows.shape[1])
        digest = hashlib.sha256(back.astype("<f4").tobytes()).digest()
        assert digest == GOLDEN[f"{label}/decoded"].tobytes(), label


@pytest.mark.parametrize("fmt", EXACT, ids=name)
def test_encodes_as_ik_llama_does(fmt: QuantFormat) -> None:
    for label, rows, importance, expected in answers(fmt):
        wrong = np.flatnonzero((fmt.encode(rows, importance) != expected).any(axis=1))
        assert wrong.size == 0, f"{label}: rows {wrong.tolist()}"


@pytest.mark.parametrize("fmt", RECORDED, ids=name)
def test_loses_no_more_than_ik_llama_does(fmt: QuantFormat) -> None:
    for label, rows, importance, data in answers(fmt):
        k = rows.shape[1]
        ours = losses(rows, fmt.decode(fmt.encode(rows, importance), k), importance)
        theirs = losses(rows, fmt.decode(data, k), importance)
        assert ours.sum() <= theirs.sum(), label
        worse = np.flatnonzero(ours > theirs * WORST.get(fmt.spec.name, 1.005))
        assert worse.size == 0, f"{label}: rows {worse.tolist()}"
