"""unquantized: a GGUF of a model for as long as it is needed, or to be kept."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.huggingface import write_model
from support.models import llama_tensors, write_gguf

from quantrecipe.errors import OutputError
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.unquantized import unquantized
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.plan.plan_of import plan_of
from quantrecipe.plan.resolution import PlanSettings, resolve
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry

REGISTRY = load_registry(plugins=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model("llama-tied", tmp_path_factory.mktemp("folders"))


def test_a_gguf_is_run_as_it_lies(tmp_path: Path) -> None:
    model = open_model(write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1)), registry=REGISTRY)
    with unquantized(model, REGISTRY, tmp_path) as path:
        assert path == tmp_path / "m.gguf"
    assert [it.name for it in tmp_path.iterdir()] == ["m.gguf"]


def test_of_shards_the_first_is_run(tmp_path: Path) -> None:
    """Whichever of them is named: llama.cpp takes the first only."""
    plan = plan_of(
        resolve(
            load_recipe("llama.cpp/F16", registry=REGISTRY),
            open_model(write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1)), registry=REGISTRY),
            REGISTRY,
            settings=PlanSettings(split=SplitLimits(max_tensors=4)),
        )
    )
    apply_plan(plan, tmp_path / "s.gguf", registry=REGISTRY)
    first, second, *_ = sorted(tmp_path.glob("s-*.gguf"))
    with unquantized(open_model(second, registry=REGISTRY), REGISTRY, tmp_path) as path:
        assert path == first


def test_that_of_a_folder_is_removed_whatever_happens(folder: Path, tmp_path: Path) -> None:
    model = open_model(folder, registry=REGISTRY)
    with pytest.raises(ZeroDivisionError), unquantized(model, REGISTRY, tmp_path) as path:
        assert path.is_relative_to(tmp_path)
        assert open_model(path, registry=REGISTRY).arch == model.arch
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_is_taken_again_unless_the_model_is_newer(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    model = open_model(copy, registry=REGISTRY)
    with unquantized(model, REGISTRY, tmp_path, keep=True) as path:
        assert path == tmp_path / "model.bf16.gguf"
        made = path.stat().st_mtime_ns, path.stat().st_ino
    with unquantized(model, REGISTRY, tmp_path, keep=True) as path:
        assert (path.stat().st_mtime_ns, path.stat().st_ino) == made
    later = made[0] / 1e9 + 10
    os.utime(copy / "config.json", (later, later))
    os.utime(copy / "model.safetensors", (later, later))
    with unquantized(model, REGISTRY, tmp_path, keep=True) as path:
        assert path.stat().st_ino != made[1]
    assert path.exists()


def test_another_model_s_file_is_neither_taken_nor_replaced(folder: Path, tmp_path: Path) -> None:
    """It may be younger than the model's files: who copies a model keeps their times."""
    other = write_gguf(tmp_path / f"{folder.name}.bf16.gguf", llama_tensors(layers=1))
    before = other.read_bytes()
    model = open_model(folder, registry=REGISTRY)
    with (
        pytest.raises(OutputError, match=r"bf16\.gguf is of another model than .*; move it away"),
        unquantized(model, REGISTRY, tmp_path, keep=True),
    ):
        pass
    assert other.read_bytes() == before


def test_each_has_its_own_and_what_a_killed_process_left_is_removed(folder: Path, tmp_path: Path) -> None:
    model = open_model(folder, registry=REGISTRY)
    left = tmp_path / ".quantrecipe-bf16-left"
    left.mkdir()
    (left / "held").touch()
    with unquantized(model, REGISTRY, tmp_path) as path:
        assert not left.exists()
        with unquantized(model, REGISTRY, tmp_path) as other:
            assert other != path
        assert path.exists()
    assert list(tmp_path.iterdir()) == []
