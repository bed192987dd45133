"""Files of random weights: what a plan says, as bytes that decode to finite weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.errors import OutputError
from quantrecipe.measure.speed.few_layers import whole_model
from quantrecipe.measure.speed.mixes import mix_plan
from quantrecipe.measure.speed.random_file import RandomRows, write_random
from quantrecipe.model.open_model import open_model
from quantrecipe.plan.plan import Plan
from quantrecipe.registry import Registry, load_registry
from quantrecipe.speed.profile import ROLES


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def planned(folder: Path, registry: Registry, type_: str) -> Plan:
    model = open_model(write_gguf(folder / "m.gguf", llama_tensors(vocab=600), llama_metadata()))
    return mix_plan(whole_model(model), dict.fromkeys(ROLES, type_), registry)


@pytest.mark.parametrize("type_", ["Q4_K", "IQ2_XXS", "Q8_0"])
def test_the_file_is_what_the_plan_says(tmp_path: Path, registry: Registry, type_: str) -> None:
    plan = planned(tmp_path, registry, type_)
    path = tmp_path / "random.gguf"
    write_random(plan, path, RandomRows())
    assert path.stat().st_size == plan.nbytes
    found = open_model(path)
    assert {t.name: t.dtype for t in found.tensors} == {a.tensor.name: a.type for a in plan.assignments}
    data = path.read_bytes()
    for a in plan.assignments:
        stored = np.frombuffer(data[a.offset : a.offset + a.nbytes], np.uint8)
        weights = a.format.decode(stored.reshape(a.tensor.rows * a.tensor.experts, -1), a.tensor.cols)
        assert np.isfinite(weights).all()
        if len(a.tensor.shape) > 1:
            assert 0.5 < float(weights.std()) * a.tensor.cols**0.5 < 2, a.tensor.name
        else:
            assert (weights == 1).all(), a.tensor.name  # norms


def test_a_folder_that_is_gone(tmp_path: Path, registry: Registry) -> None:
    plan = planned(tmp_path, registry, "Q8_0")
    with pytest.raises(OutputError, match=r"can't be written .*--work-dir"):
        write_random(plan, tmp_path / "gone" / "random.gguf", RandomRows())
