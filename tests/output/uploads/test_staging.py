"""Where files lie until they are uploaded: whose they are is known before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.models import llama_tensors, write_gguf

from quantrecipe.errors import OutputError
from quantrecipe.model.objects import ObjectAddress
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.uploads.staging import Staging, pieces_of
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry

REGISTRY = load_registry(plugins=False)


def planned(folder: Path, recipe: str = "pure/Q8_0", split: SplitLimits | None = None) -> Plan:
    path = folder / "model.gguf"
    if not path.exists():
        write_gguf(path, llama_tensors(layers=1))
    model = open_model(path, registry=REGISTRY)
    return make_plan(load_recipe(recipe, registry=REGISTRY), model, registry=REGISTRY, split=split)


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging("out.gguf", tmp_path)


def test_files_are_ready_when_all_have_their_names(staging: Staging, tmp_path: Path) -> None:
    plan = planned(tmp_path, split=SplitLimits(max_bytes=300_000))
    outputs = [(plan, staging.folder / "out.gguf")]
    assert staging.is_finished(outputs, "error") is False
    staging.begin(outputs, "error")
    result = apply_plan(plan, outputs[0][1], registry=REGISTRY)
    assert len(result.paths) > 1
    assert staging.is_finished(outputs, "error") is True
    files = staging.outgoing(outputs, ObjectAddress.parse("s3://bucket/made"))
    assert [str(it.address) for it in files] == [f"s3://bucket/made/{path.name}" for path in result.paths]
    assert [it.address for it in files] == staging.addresses(outputs, ObjectAddress.parse("s3://bucket/made"))
    for file, path in zip(files, result.paths, strict=True):
        data = path.read_bytes()
        assert file.nbytes == len(data)
        assert [b"".join(file.content()) for _ in range(2)] == [data, data]
    result.paths[1].unlink()  # the run was killed while they got their names
    assert staging.is_finished(outputs, "error") is False


@pytest.mark.parametrize("other", ["plan", "nan", "model", "no marker", "half a marker"])
def test_files_of_another_run_are_in_the_way(other: str, staging: Staging, tmp_path: Path) -> None:
    plan, path = planned(tmp_path), staging.folder / "out.gguf"
    staging.begin([(plan, path)], "error")
    apply_plan(plan, path, registry=REGISTRY)
    marker = staging.folder / "run.json"
    match other:
        case "plan":
            plan = planned(tmp_path, "pure/Q4_K")
        case "model":
            (tmp_path / "model.gguf").unlink()
            plan = planned(tmp_path)
        case "no marker":
            marker.unlink()
        case "half a marker":
            marker.write_bytes(marker.read_bytes()[:20])
    with pytest.raises(OutputError, match="holds finished files of another run, which weren't uploaded"):
        staging.is_finished([(plan, path)], "allow" if other == "nan" else "error")
    assert path.exists()


def test_parts_of_another_run_are_not(staging: Staging, tmp_path: Path) -> None:
    staging.begin([(planned(tmp_path), staging.folder / "out.gguf")], "error")
    other = [(planned(tmp_path, "pure/Q4_K"), staging.folder / "out.gguf")]
    assert staging.is_finished(other, "error") is False


def test_the_folder_goes_when_nothing_is_in_it(staging: Staging, tmp_path: Path) -> None:
    outputs = [(planned(tmp_path), staging.folder / "out.gguf")]
    staging.begin(outputs, "error")
    kept = staging.folder / "out.gguf.quantrecipe-part"
    kept.touch()
    staging.remove_if_empty()
    assert kept.exists()
    kept.unlink()
    staging.remove_if_empty()
    assert not staging.folder.exists()
    staging.remove_if_empty()


def test_a_folder_that_can_t_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "out.gguf.quantrecipe-upload").write_text("in the way")
    with pytest.raises(OutputError, match="quantrecipe-upload"):
        Staging("out.gguf", tmp_path).begin([(planned(tmp_path), tmp_path / "x" / "out.gguf")], "error")


def test_a_file_that_can_t_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="gone can't be read: No such file"):
        list(pieces_of(tmp_path / "gone"))
