"""Whatever the bytes depend on changes the key, and nothing else does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.formats import format_type

from quantrecipe.output.store import key as module
from quantrecipe.output.store.key import group_of
from quantrecipe.plan.plan import Assignment
from quantrecipe.tensor import TensorInfo

TENSOR = TensorInfo(name="blk.0.attn_q.weight", shape=(8, 32), dtype="BF16", layer=0, role="attn_q")
A = Assignment(
    tensor=TENSOR, format=format_type("Q8_0")(), nbytes=272, offset=64, because="r:1", encoding="e" * 32
)
BF16 = format_type("BF16")().spec
ROW = np.arange(64, dtype=np.uint8)
TIMES = np.array([1.5], np.float32)


def test_the_same_tensor_elsewhere_has_the_same_key() -> None:
    other = replace(TENSOR, name="blk.7.attn_k.weight", layer=7, role="attn_k")
    moved = replace(A, tensor=other, offset=4096, because="s:9", why="other")
    assert group_of(moved, BF16, None, ROW) == group_of(A, BF16, None, ROW)


@pytest.mark.parametrize(
    "other",
    [
        group_of(replace(A, encoding="f" * 32), BF16, None, ROW),
        group_of(replace(A, format=format_type("Q4_0")()), BF16, None, ROW),
        group_of(replace(A, importance=True), BF16, None, ROW),
        group_of(replace(A, tensor=replace(TENSOR, shape=(4, 64))), BF16, None, ROW),
        group_of(replace(A, tensor=replace(TENSOR, shape=(2, 4, 32))), BF16, None, ROW),
        group_of(A, format_type("F16")().spec, None, ROW),
        group_of(A, replace(BF16, version=BF16.version + 1), None, ROW),
        group_of(A, BF16, TIMES, ROW),
        group_of(A, BF16, TIMES * 2, ROW),
        group_of(A, BF16, None, ROW[::-1].copy()),
    ],
)
def test_what_the_bytes_depend_on_changes_it(other: str) -> None:
    assert other != group_of(A, BF16, None, ROW)
    assert len(other) == 32


def test_so_does_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = group_of(A, BF16, None, ROW)
    monkeypatch.setattr(module, "__version__", "0.0.0")
    assert group_of(A, BF16, None, ROW) != before
