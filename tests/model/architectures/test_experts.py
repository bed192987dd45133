"""Experts, one by one or stacked, become one tensor each for gate, up and down."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures.experts import ExpertNames, stack, unpack
from quantrecipe.model.safetensors import StoredTensor
from quantrecipe.model.source.source import Extent, Stored

FILE = Path("model.safetensors")
NAMES = ExpertNames(
    module="mlp.experts", matrices={"up_proj": "model.layers.{layer}.mlp.experts.up_proj.weight"}
)


def stored(
    name: str, shape: tuple[int, ...], offset: int = 0, nbytes: int = 12, dtype: str = "BF16"
) -> Stored:
    extent = Extent(path=FILE, offset=offset, nbytes=nbytes)
    return StoredTensor(name=name, dtype=dtype, shape=shape, extent=extent).source


def test_names() -> None:
    assert NAMES.parse("model.layers.3.mlp.experts.17.up_proj.weight") == (3, 17, "up_proj")
    assert NAMES.parse("model.layers.3.mlp.experts.17.side_proj.weight") is None
    assert NAMES.parse("model.layers.3.mlp.shared_expert.up_proj.weight") is None
    assert NAMES.is_stacked("model.layers.3.mlp.experts.gate_up_proj")
    assert NAMES.is_stacked("model.layers.3.mlp.experts.down_proj.weight")
    assert not NAMES.is_stacked("model.layers.3.mlp.down_proj.weight")


def test_experts_stand_by_number() -> None:
    found = {
        (e, "up_proj"): stored(f"e{e}", (2, 3), offset=100 * e) for e in (10, 2, *range(2), *range(3, 10))
    }
    ((name, made),) = stack(NAMES, 5, found)
    assert (name, made.shape) == ("model.layers.5.mlp.experts.up_proj.weight", (11, 2, 3))
    assert [extent.offset for extent in made.extents] == [100 * e for e in range(11)]


def test_experts_that_differ() -> None:
    found = {(0, "up_proj"): stored("e0", (2, 3)), (1, "up_proj"): stored("e1", (3, 2))}
    with pytest.raises(ModelError, match=r"'e1' is BF16 \(3, 2\), unlike 'e0': BF16 \(2, 3\)"):
        list(stack(NAMES, 0, found))


def test_gate_and_up_take_turns() -> None:
    name = "model.layers.0.mlp.experts.gate_up_proj"
    halves = unpack(name, stored(name, (3, 4, 5), offset=1000, nbytes=120))
    (gate_name, gate), (up_name, up) = halves
    assert (gate_name, gate.shape) == ("model.layers.0.mlp.experts.gate_proj.weight", (3, 2, 5))
    assert (up_name, up.shape) == ("model.layers.0.mlp.experts.up_proj.weight", (3, 2, 5))
    assert [(e.offset, e.nbytes) for e in gate.extents] == [(1000, 20), (1040, 20), (1080, 20)]
    assert [(e.offset, e.nbytes) for e in up.extents] == [(1020, 20), (1060, 20), (1100, 20)]


def test_odd_gate_and_up() -> None:
    with pytest.raises(ModelError, match="expected: experts, 2 · rows, cols"):
        list(unpack("x.experts.gate_up_proj", stored("x.experts.gate_up_proj", (3, 5, 5))))


def test_a_single_expert_is_a_stack_of_one() -> None:
    ((_, one),) = stack(NAMES, 3, {(0, "up_proj"): stored("e0", (2, 3))})
    assert (one.shape, one.dtype, len(one.extents)) == ((1, 2, 3), "BF16", 1)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_any_expert_of_another_kind_is_named(place: int) -> None:
    for other in (stored("odd", (3, 2)), stored("odd", (2, 3), dtype="F16")):
        parts = {(e, "up_proj"): stored(f"e{e}", (2, 3)) for e in range(3)} | {(place, "up_proj"): other}
        with pytest.raises(ModelError, match=r"tensor '(odd|e1)' is .*, unlike '(odd|e0)': "):
            list(stack(NAMES, 3, parts))
