"""Groups and totals add up to the plan."""

from __future__ import annotations

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
