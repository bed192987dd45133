"""What is written is none of what is read, whatever it is called and whether it may be replaced or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.imatrix_files import write_gguf_imatrix
from support.models import llama_tensors, write_gguf

from quantrecipe.errors import OutputError
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan, apply_plans, output_paths
from quantrecipe.output.partfile import part_path
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import Registry, load_registry

INPUTS = {
    "model.gguf": "a file of the model",
    "recipe.yaml": "the recipe",
    "imatrix.gguf": "the importance matrix",
}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def plan(folder: Path, registry: Registry) -> Plan:
    write_gguf(Path("model.gguf"), llama_tensors(layers=1))
    write_gguf_imatrix(Path("imatrix.gguf"), {"blk.0.attn_q.weight": (np.ones(256, np.float32), [1.0])})
    return planned("model.gguf", registry)


def planned(model: str, registry: Registry) -> Plan:
    Path("recipe.yaml").write_text(
        "quantrecipe: 1\nname: r\ndefault: Q8_0\nfallback: F16\n", encoding="utf-8"
    )
    return make_plan(
        load_recipe("recipe.yaml", registry=registry),
        open_model(Path(model), registry=registry),
        registry=registry,
        importance=read_importance(Path("imatrix.gguf")) if Path("imatrix.gguf").exists() else None,
    )


@pytest.mark.parametrize(("name", "what"), INPUTS.items())
def test_no_output_is_an_input(plan: Plan, registry: Registry, name: str, what: str) -> None:
    before = Path(name).read_bytes()
    with pytest.raises(OutputError, match=f"is {what}, and would be written over"):
        apply_plan(plan, name, registry=registry, force=True)
    assert Path(name).read_bytes() == before


def test_nor_is_its_part(registry: Registry) -> None:
    """The only copy of the model lies where the part would be: it must not be emptied."""
    source = write_gguf(part_path(Path("y.gguf")), llama_tensors(layers=1))
    before = source.read_bytes()
    with pytest.raises(OutputError, match=r"y\.gguf\.quantrecipe-part is a file of the model"):
        apply_plan(planned(str(source), registry), "y.gguf", registry=registry)
    assert source.read_bytes() == before


def test_a_source_that_is_called_as_other_programs_call_parts(registry: Registry) -> None:
    source = write_gguf(Path("y.gguf.part"), llama_tensors(layers=1))
    before = source.read_bytes()
    apply_plan(planned(str(source), registry), "y.gguf", registry=registry)
    assert source.read_bytes() == before
    assert Path("y.gguf").exists()


def test_an_old_output_can_be_replaced_by_what_reuses_it(plan: Plan, registry: Registry) -> None:
    apply_plan(plan, "old.gguf", registry=registry)
    before = Path("old.gguf").read_bytes()
    result = apply_plan(plan, "old.gguf", registry=registry, reuse="old.gguf", force=True)
    assert result.reused
    assert Path("old.gguf").read_bytes() == before


def test_but_not_where_the_part_would_be(plan: Plan, registry: Registry) -> None:
    old = part_path(Path("y.gguf"))
    apply_plan(plan, "old.gguf", registry=registry).path.rename(old)
    before = old.read_bytes()
    with pytest.raises(OutputError, match="is the file that is reused"):
        apply_plan(plan, "y.gguf", registry=registry, reuse=old)
    assert old.read_bytes() == before


def test_one_place_has_many_names(plan: Plan, registry: Registry) -> None:
    Path("sub").mkdir()
    Path("link").symlink_to("sub")
    for first, second in [("x", "sub/../x"), ("sub/x", "link/x"), ("x", "x.quantrecipe-part")]:
        with pytest.raises(OutputError, match="would be written twice"):
            apply_plans([(plan, first), (plan, second)], registry=registry)


@pytest.mark.parametrize("name", ["", ".", "..", "/", "sub/.."])
@pytest.mark.parametrize("count", [1, 2])
def test_a_folder_s_name_is_no_file_s(name: str, count: int) -> None:
    with pytest.raises(OutputError, match="is a folder; name a file with -o FILE"):
        output_paths(Path(name), count)
