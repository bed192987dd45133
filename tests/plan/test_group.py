"""Groups and totals add up to the plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from quantrecipe.plan.group import group, totals
from quantrecipe.plan.plan import Assignment
from quantrecipe.registry import load_registry
from quantrecipe.tensor import TensorInfo

FORMATS = load_registry(plugins=False).formats


def assignment(name: str, type_: str, because: str = "r.yaml:1") -> Assignment:
    tensor = TensorInfo.from_name(name, (4, 256), "BF16")
    fmt = FORMATS[type_]
    return Assignment(
        tensor=tensor, format=fmt, nbytes=fmt.spec.tensor_bytes((4, 256)), offset=0, because=because
    )


MIXED = [
    assignment("output.weight", "F16", "r.yaml:2"),
    *(assignment(f"blk.{i}.attn_v.weight", "F32" if i in (0, 5) else "F16") for i in range(6)),
    *(assignment(f"blk.{i}.attn_q.weight", "F16") for i in range(6)),
]


def test_alike_tensors_are_one_group() -> None:
    found = [(g.role, g.layers, g.first.type, len(g.members)) for g in group(MIXED)]
    assert found == [
        ("output", "", "F16", 1),
        ("attn_v", "0, 5", "F32", 2),
        ("attn_v", "1-4", "F16", 4),
        ("attn_q", "0-5", "F16", 6),
    ]


def test_totals_by_type_largest_first() -> None:
    assert [(t.type, t.tensors, t.weights, t.nbytes) for t in totals(MIXED)] == [
        ("F16", 11, 11 * 1024, 11 * 2048),
        ("F32", 2, 2 * 1024, 2 * 4096),
    ]


def test_sums_and_shapes_of_a_group() -> None:
    members = [assignment(f"blk.{i}.attn_v.weight", "F16") for i in (0, 1)]
    odd = replace(members[1], tensor=replace(members[1].tensor, shape=(8, 256)), nbytes=4096)
    (found,) = group([members[0], odd])
    assert (found.weights, found.nbytes) == (3 * 1024, 2048 + 4096)
    assert found.shapes == ((4, 256), (8, 256))
    assert group(members)[0].shapes == ((4, 256),)


@pytest.mark.parametrize(
    "change",
    [
        {"because": "r.yaml:9"},
        {"wanted": "Q4_K"},
        {"misfit": "x"},
        {"importance": True},
        {"format": FORMATS["BF16"]},
    ],
)
def test_what_keeps_tensors_apart(change: dict[str, Any]) -> None:
    members = [assignment(f"blk.{i}.attn_v.weight", "F16") for i in range(3)]
    members[1] = replace(members[1], **change)
    assert [g.layers for g in group(members)] == ["0, 2", "1"]


@pytest.mark.parametrize("change", [{"why": "x"}, {"offset": 5}, {"encoding": "e"}])
def test_what_doesn_t(change: dict[str, Any]) -> None:
    members = [assignment(f"blk.{i}.attn_v.weight", "F16") for i in range(2)]
    members[1] = replace(members[1], **change)
    assert len(group(members)) == 1


def test_of_equal_totals_the_first_by_name() -> None:
    names = [("a.weight", "F16"), ("b.weight", "BF16"), ("c.weight", "F32")]
    found = totals(assignment(name, type_) for name, type_ in names)
    assert [t.type for t in found] == ["F32", "BF16", "F16"]
