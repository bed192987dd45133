"""Speed by the real llama.cpp: files of a few layers run, more bytes take longer, and what was measured is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.terminal import show

from quantrecipe.engine import find_engine
from quantrecipe.measure.speed.beside import Beside, Times
from quantrecipe.measure.speed.few_layers import Cut, cut_model
from quantrecipe.measure.speed.mixes import mix_plan
from quantrecipe.measure.speed.random_file import RandomRows, write_random
from quantrecipe.model.open_model import open_model
from quantrecipe.registry import load_registry
from quantrecipe.speed.profile import ROLES

pytestmark = pytest.mark.llama

SMALL = "shapes/qwen3-0.6b"


def test_a_file_of_half_as_many_layers_takes_half_as_long(tmp_path: Path) -> None:
    registry, rows = load_registry(plugins=False), RandomRows()
    model = open_model(SMALL, registry=registry)
    paths = []
    for layers in (6, 12):
        cut = cut_model(model, Cut(layers=layers, rows=1000))
        paths.append(tmp_path / f"{layers}.gguf")
        write_random(mix_plan(cut, dict.fromkeys(ROLES, "Q8_0"), registry), paths[-1], rows)
    with Beside(path=paths[1], prompt=16, engine=find_engine(), threads=1) as beside:
        ratios = beside.ratios(paths[0], turns=3)
        assert beside.quickest.token > 1e-4
    assert sorted(it.token for it in ratios)[1] == pytest.approx(0.5, abs=0.1)
    assert all(isinstance(it, Times) and 0.3 < it.prompt < 0.7 for it in ratios)


@pytest.mark.parametrize("model", [SMALL, "examples/tiny-code"])
def test_the_command(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantrecipe.speed.folder.speed_folder", lambda: tmp_path)
    path = model if model == SMALL else str(Path(__file__).parents[2] / model)
    args = ["speed", path, "--types", "Q4_K", "--minutes", "1", "--threads", "1", "--gpu-layers", "0"]
    told = show([*args, "--json"], width=None)
    assert told.status == 0, told.err
    (found,) = json.loads(told.out)["measurements"]
    assert found["misfit"] < 0.2
    if model == SMALL:  # of the example, Q4_K becomes another type where columns don't divide
        assert set(found["token"]["by"]["Q4_K"]) == {"attention", "feed-forward", "head"}
    again = show(["plan", "llama.cpp/Q8_0", path, "--json"], width=None)
    assert json.loads(again.out)["speed"]["tokens_per_second"] > 1
