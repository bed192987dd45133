"""A model without some of its layers: the others are numbered anew, and their content and importance follow them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.imatrix_files import write_gguf_imatrix
from support.models import llama_metadata, llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.errors import PlanError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def source(folder: Path, layers: int = 4, blocks: int | None = None) -> Model:
    tensors = llama_tensors(layers=layers)
    return open_model(write_gguf(folder / "m.gguf", tensors, llama_metadata(block_count=blocks or layers)))


def importance(folder: Path, layers: int = 4) -> Importance:
    """Each layer has another."""
    entries = {f"blk.{i}.attn_v.weight": (np.full((1, 256), i + 2, np.float32), [4.0]) for i in range(layers)}
    return read_importance(write_gguf_imatrix(folder / "i.gguf", entries))


def plan(of: Model, layers: str, registry: Registry, **how: object) -> Plan:
    mix = recipe(rule("attn_v", "Q4_K"), default="Q8_0", prune=LayerSet.parse(layers))
    return make_plan(mix, of, registry=registry, **how)  # type: ignore[arg-type]  # passed on


def sources(of: Plan) -> dict[str, int]:
    """By the output's name, the layer that a tensor of a layer was."""
    offsets = {s.extents[0].offset: name for name, s in open_model(of.model.path).sources.items()}
    found = {}
    for name, stored in of.model.sources.items():
        before = offsets[stored.extents[0].offset]
        if name.startswith("blk."):
            assert name.split(".", 2)[2] == before.split(".", 2)[2]
            found[name] = int(before.split(".")[1])
        else:
            assert name == before
    return found


@pytest.mark.parametrize(
    ("pruned", "left"),
    [("0", [1, 2, 3]), ("1", [0, 2, 3]), ("3", [0, 1, 2]), ("1-2", [0, 3]), ("first 3", [3])],
)
def test_tensors_get_their_layers_new_numbers(
    tmp_path: Path, registry: Registry, pruned: str, left: list[int]
) -> None:
    made = plan(source(tmp_path), pruned, registry)
    by_layer: dict[int, set[int]] = {}
    for name, before in sources(made).items():
        by_layer.setdefault(int(name.split(".")[1]), set()).add(before)
    assert by_layer == {new: {old} for new, old in enumerate(left)}
    assert len(made.assignments) == 3 + 9 * len(left)
    assert all(
        a.tensor.layer is None or a.tensor.name.startswith(f"blk.{a.tensor.layer}.") for a in made.assignments
    )
    assert made.metadata["llama.block_count"].decode() == len(left)


def test_two_digits(tmp_path: Path, registry: Registry) -> None:
    made = plan(source(tmp_path, layers=12), "0", registry)
    assert sources(made)["blk.10.attn_v.weight"] == 11
    assert sources(made)["blk.0.attn_v.weight"] == 1


def test_bytes_are_those_of_the_layers_that_are_left(tmp_path: Path, registry: Registry) -> None:
    of = source(tmp_path)
    whole = make_plan(recipe(default="BF16"), of, registry=registry)
    before = apply_plan(whole, tmp_path / "whole.gguf", registry=registry).path.read_bytes()
    made = make_plan(recipe(default="BF16", prune=LayerSet.parse("1")), of, registry=registry)
    after = apply_plan(made, tmp_path / "pruned.gguf", registry=registry).path.read_bytes()
    places = {a.tensor.name: a for a in whole.assignments}
    for a in made.assignments:
        layer = a.tensor.layer
        name = a.tensor.name if not layer else a.tensor.name.replace(f"blk.{layer}.", f"blk.{layer + 1}.")
        old = places[name]
        assert after[a.offset : a.offset + a.nbytes] == before[old.offset : old.offset + old.nbytes]


def test_importance_follows_its_layer(tmp_path: Path, registry: Registry) -> None:
    made = plan(source(tmp_path), "0-1", registry, importance=importance(tmp_path))
    assert made.importance is not None
    for new, old in ((0, 2), (1, 3)):
        tensor = next(a.tensor for a in made.assignments if a.tensor.name == f"blk.{new}.attn_v.weight")
        values = made.importance.for_tensor(tensor)
        assert values is not None
        assert np.array_equal(values, np.full((1, 256), (old + 2) / 4, np.float32))
    assert set(made.importance.entries) == {"blk.0.attn_v.weight", "blk.1.attn_v.weight"}


def test_encodings_tell_whose_importance_it_is(tmp_path: Path, registry: Registry) -> None:
    """A file that is reused must not hand out another layer's."""
    matrix, of = importance(tmp_path), source(tmp_path)

    def encodings(pruned: str) -> list[str]:
        made = plan(of, pruned, registry, importance=matrix)
        return [a.encoding for a in made.assignments if a.tensor.role == "attn_v"]

    assert len({*encodings("0"), *encodings("3")}) == 4
    assert encodings("0")[:2] == encodings("3")[1:]


def test_rules_see_the_new_numbers(tmp_path: Path, registry: Registry) -> None:
    mix = recipe(rule("attn_v", "Q6_K", layers="0"), default="Q8_0", prune=LayerSet.parse("0"))
    made = make_plan(mix, source(tmp_path), registry=registry)
    (found,) = [name for name, _ in sources(made).items() if name.startswith("blk.0.attn_v")]
    assert next(a.type for a in made.assignments if a.tensor.name == found) == "Q6_K"
    assert sources(made)[found] == 1


def test_layers_without_tensors_keep_their_places(tmp_path: Path, registry: Registry) -> None:
    """A model whose metadata counts more layers than it has tensors of."""
    made = plan(source(tmp_path, layers=3, blocks=5), "1", registry)
    numbers = {int(name.split(".")[1]): old for name, old in sources(made).items() if name.startswith("blk.")}
    assert numbers == {0: 0, 1: 2}
    assert made.metadata["llama.block_count"].decode() == 4


def test_shards_are_those_of_the_tensors_that_are_left(tmp_path: Path, registry: Registry) -> None:
    of = source(tmp_path)
    shards = {t.name: 1 if t.layer == 3 else 0 for t in of.tensors}
    made = plan(of, "1", registry, split=SplitLimits(shards=shards))
    first, second = made.files
    assert {a.tensor.layer for a in first.assignments} == {None, 0, 1}
    assert {a.tensor.layer for a in second.assignments} == {2}


@pytest.mark.parametrize(
    ("pruned", "said"),
    [
        ("4", r"`prune` names '4', but the model has layers 0-3"),
        ("2-5, 7", r"`prune` names '2-5', '7', but the model has layers 0-3"),
        ("0-3", "`prune: 0-3` leaves no layer"),
    ],
)
def test_what_can_t_be_pruned(tmp_path: Path, registry: Registry, pruned: str, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        plan(source(tmp_path), pruned, registry)


def test_a_model_without_layers(tmp_path: Path, registry: Registry) -> None:
    tensors = {"token_embd.weight": llama_tensors()["token_embd.weight"]}
    of = open_model(write_gguf(tmp_path / "m.gguf", tensors, llama_metadata(block_count=0)))
    with pytest.raises(
        PlanError, match=r"`prune: 0` is about layers called blk.0, blk.1, …, and .* has none"
    ) as error:
        plan(of, "0", registry)
    assert error.value.problems[0].file == "recipe.yaml"


def test_problems_of_the_metadata_are_the_recipe_s(tmp_path: Path, registry: Registry) -> None:
    of = source(tmp_path)
    odd = replace(
        of, metadata={**of.metadata, "llama.odd_layers": GGUFValue.array(ValueType.UINT32, [1, 2, 3, 4])}
    )
    with pytest.raises(PlanError, match=r"llama\.odd_layers") as error:
        plan(odd, "1", registry)
    assert {problem.file for problem in error.value.problems} == {"recipe.yaml"}
