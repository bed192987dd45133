"""What a file says of itself: which records it has, and which can't be true."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.made_files import Made, made_file, rewritten

from quantrecipe.errors import ModelError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.output.verify.produced import read_produced
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.registry import Registry, load_registry

KEYS = {name: f"quantrecipe.{name}.xxh3_128" for name in ("encoding", "source", "data")}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Made:
    return made_file(tmp_path_factory.mktemp("produced"), registry)


def strings(*texts: str) -> GGUFValue:
    return GGUFValue.array(ValueType.STRING, texts)


def test_records_by_tensor(made: Made, registry: Registry) -> None:
    found = read_produced(made.path, registry)
    assert found.encodings == {a.tensor.name: a.encoding for a in made.plan.assignments}
    assert list(found.sources) == list(found.data) == list(found.encodings)
    assert len({*found.sources.values(), *found.data.values()}) > len(found.data)
    assert found.has_provenance
    assert found.text("quantrecipe.recipe.name") == "mix"
    assert found.text("general.nothing") is None
    assert found.text("llama.block_count") is None, "it is no text"
    name = "blk.1.ffn_up.weight"
    assert found.tensor(name).dtype == "Q8_0"
    assert found.extent(name).offset == made.assignment(name).offset


def test_of_shards(tmp_path: Path, registry: Registry) -> None:
    made = made_file(tmp_path, registry, split=SplitLimits(max_tensors=5))
    found = read_produced(made.path, registry)
    assert len(found.shards) == len(made.plan.files)
    assert found.encodings == {a.tensor.name: a.encoding for a in made.plan.assignments}
    assert found.metadata["split.no"].decode() == 0


def test_without_any(tmp_path: Path, registry: Registry) -> None:
    made = made_file(tmp_path, registry, provenance=False)
    found = read_produced(made.path, registry)
    assert (found.encodings, found.sources, found.data, found.has_provenance) == ({}, {}, {}, False)


@pytest.mark.parametrize("name", KEYS)
def test_a_record_of_another_length_is_damage(made: Made, registry: Registry, name: str) -> None:
    """The others have one for each tensor."""
    key, count = KEYS[name], len(made.plan.assignments)
    path = rewritten(made.path, lambda pairs, tensors: (pairs | {key: strings("00")}, tensors))
    with pytest.raises(
        ModelError, match=rf"{key} has 1 values for {count} tensors; the header is damaged"
    ) as error:
        read_produced(path, registry)
    assert error.value.problems[0].file == path


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize(
    ("value", "count"),
    [
        (GGUFValue.of(ValueType.UINT32, 7), "1"),
        (GGUFValue.of(ValueType.STRING, "seven"), "5"),
        (GGUFValue.array(ValueType.UINT32, [1, 2, 3]), "3"),
    ],
)
def test_a_record_of_another_type_is_damage(
    made: Made, registry: Registry, name: str, value: GGUFValue, count: str
) -> None:
    path = rewritten(made.path, lambda pairs, tensors: (pairs | {KEYS[name]: value}, tensors))
    with pytest.raises(ModelError, match=rf"{KEYS[name]} has {count} values for"):
        read_produced(path, registry)


def test_tensors_that_were_taken_out_since(made: Made, registry: Registry) -> None:
    """All records are about one tensor more: none of them is of use any more, and none is damaged."""
    path = rewritten(made.path, lambda pairs, tensors: (pairs, tensors[:-1]))
    found = read_produced(path, registry)
    assert (found.encodings, found.sources, found.data) == ({}, {}, {})
    assert found.has_provenance
