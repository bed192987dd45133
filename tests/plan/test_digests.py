"""Digests that files have recorded must come out the same for ever, and each part of what they are of counts."""

from __future__ import annotations

from typing import Any

import pytest

from quantrecipe.plan.digests import encoding_digest, plan_digest
from quantrecipe.registry import Registry, load_registry

ROW = ("a.weight", (2, 256), "BF16", "Q4_K", 288, "e" * 32)
VECTOR = ("b", (3,), "F32", "F32", 12, "")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.mark.parametrize(
    ("name", "copied", "importance", "digest"),
    [
        ("Q4_K", False, "", "e5724cb09f6cffeb451e97c7b980b27a"),
        ("Q4_K", True, "", "075d92991be4f005b74c7f678fd0be09"),
        ("Q8_0", False, "ab" * 16, "1e4e63a8a7a79f6f3ce7f8636ad05da7"),
    ],
)
def test_of_an_encoding(name: str, copied: bool, importance: str, digest: str, registry: Registry) -> None:
    assert encoding_digest(registry.format(name), copied=copied, importance=importance) == digest


@pytest.mark.parametrize(
    ("importance", "tensors", "digest"),
    [
        (None, [ROW], "7c51a1585b0febd496fd7a01667fa640"),
        ("i" * 32, [ROW, VECTOR], "34b2e1969b4498bf1da78e7ac09ceb41"),
    ],
)
def test_of_a_plan(importance: str | None, tensors: list[Any], digest: str) -> None:
    assert plan_digest("r" * 32, importance, tensors) == digest


def test_each_part_and_the_order_count() -> None:
    others = [
        plan_digest("s" * 32, None, [ROW, VECTOR]),
        plan_digest("r" * 32, "i" * 32, [ROW, VECTOR]),
        plan_digest("r" * 32, None, [VECTOR, ROW]),
        plan_digest("r" * 32, None, [ROW]),
        *(plan_digest("r" * 32, None, [(*ROW[:i], other, *ROW[i + 1 :]), VECTOR]) for i, other in enumerate(VECTOR)),
    ]  # fmt: skip
    assert len({plan_digest("r" * 32, None, [ROW, VECTOR]), *others}) == len(others) + 1
