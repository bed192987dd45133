"""Rules: templates of names, and what becomes of tensors: experts as one, halves, sets that wait for each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures.rules import Stack, halves, language_name, template
from quantrecipe.model.safetensors import StoredTensor
from quantrecipe.model.source.source import Extent, Stored

FILE = Path("model.safetensors")
EXPERTS = Stack(names="model.layers.{layer}.mlp.experts.{expert}.{matrix:up_proj|down_proj}.weight")
ONE = Stack(names="model.layers.{layer}.mlp.experts.{expert}.{matrix:up_proj}.weight")


def stored(
    name: str, shape: tuple[int, ...], offset: int = 0, nbytes: int = 12, dtype: str = "BF16"
) -> Stored:
    extent = Extent(path=FILE, offset=offset, nbytes=nbytes)
    return StoredTensor(name=name, dtype=dtype, shape=shape, extent=extent).source


class TestTemplates:
    def test_numbers_and_choices(self) -> None:
        found = template(EXPERTS.names).fullmatch("model.layers.3.mlp.experts.17.up_proj.weight")
        assert found is not None
        assert found.groupdict() == {"layer": "3", "expert": "17", "matrix": "up_proj"}
        for other in ("3.mlp.experts.17.side_proj", "3.mlp.experts.x.up_proj", "3.mlp_experts.17.up_proj"):
            assert template(EXPERTS.names).fullmatch(f"model.layers.{other}.weight") is None

    def test_texts_with_and_without_dots(self) -> None:
        assert template("a.{rest:*}").fullmatch("a.b.c") is not None
        assert template("a.{rest}").fullmatch("a.b.c") is None
        assert template("a.{rest}").fullmatch("a.b") is not None

    def test_of_a_stack(self) -> None:
        assert EXPERTS.matrices() == ("up_proj", "down_proj")
        assert EXPERTS.name(3, 17, "down_proj") == "model.layers.3.mlp.experts.17.down_proj.weight"


def test_names_of_the_language_model() -> None:
    assert language_name("model.language_model.layers.0.x.weight") == "model.layers.0.x.weight"
    assert language_name("a.e_score_correction_bias") == "a.e_score_correction.bias"
    assert language_name("model.visual.blocks.0.x.weight") is None
    assert language_name("mlp1.0.weight") is None
    assert language_name("model.layers.0.mlp.up_proj.weight") == "model.layers.0.mlp.up_proj.weight"


def test_experts_stand_by_number() -> None:
    found = {
        (e, "up_proj"): stored(f"e{e}", (2, 3), offset=100 * e) for e in (10, 2, *range(2), *range(3, 10))
    }
    ((name, made),) = ONE.stacks(5, 11, found)
    assert (name, made.shape) == ("model.layers.5.mlp.experts.up_proj.weight", (11, 2, 3))
    assert [extent.offset for extent in made.extents] == [100 * e for e in range(11)]


def test_experts_that_differ() -> None:
    found = {(0, "up_proj"): stored("e0", (2, 3)), (1, "up_proj"): stored("e1", (3, 2))}
    with pytest.raises(ModelError, match=r"'e1' is BF16 \(3, 2\), unlike 'e0': BF16 \(2, 3\)"):
        list(ONE.stacks(0, 2, found))


def test_gate_and_up_take_turns() -> None:
    gate, up = halves(stored("x.gate_up_proj", (3, 4, 5), offset=1000, nbytes=120))
    assert gate.shape == up.shape == (3, 2, 5)
    assert [(e.offset, e.nbytes) for e in gate.extents] == [(1000, 20), (1040, 20), (1080, 20)]
    assert [(e.offset, e.nbytes) for e in up.extents] == [(1020, 20), (1060, 20), (1100, 20)]


@pytest.mark.parametrize("shape", [(3, 5, 5), (4,)])
def test_what_has_no_halves(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="expected: matrices with an even number of rows"):
        halves(stored("x.experts.gate_up_proj", shape))


def test_a_single_expert_is_a_stack_of_one() -> None:
    ((_, one),) = ONE.stacks(3, 1, {(0, "up_proj"): stored("e0", (2, 3))})
    assert (one.shape, one.dtype, len(one.extents)) == ((1, 2, 3), "BF16", 1)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_any_expert_of_another_kind_is_named(place: int) -> None:
    for other in (stored("odd", (3, 2)), stored("odd", (2, 3), dtype="F16")):
        parts = {(e, "up_proj"): stored(f"e{e}", (2, 3)) for e in range(3)} | {(place, "up_proj"): other}
        with pytest.raises(ModelError, match=r"tensor '(odd|e1)' is .*, unlike '(odd|e0)': "):
            list(ONE.stacks(3, 3, parts))
