"""Probes by the real llama.cpp: alphas of the example model are those that were measured tensor by tensor."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from quantrecipe import load_registry, open_model
from quantrecipe.analyses.error import Error
from quantrecipe.analyses.probe import Probe
from quantrecipe.evaluate import read_text
from quantrecipe.measure import Measurement, Passes, measure
from quantrecipe.sensitivity import Sensitivity

pytestmark = pytest.mark.llama

ROOT = Path(__file__).parents[2]


def known_alphas() -> dict[str, float]:
    with (ROOT / "tools/prior/tiny-code.csv").open(encoding="utf-8") as file:
        file.readline()
        return {row["tensor"]: float(row["kld"]) / float(row["d"]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Sensitivity:
    folder = tmp_path_factory.mktemp("probes")
    registry = load_registry(plugins=False)
    passes = Passes(texts=(read_text(ROOT / "tests/data/texts/code.val.txt"),), tokens=4096)
    what = Measurement(
        types=("Q2_K", "Q3_K", "Q4_K"),
        analysis=Error(),
        weighing=Probe(),
        probes=12,
        passes=passes,
        work=folder,
    )
    model = open_model(ROOT / "examples/tiny-code", registry=registry)
    first = measure(model, folder / "s.jsonl", what, registry=registry)
    again = measure(model, folder / "s.jsonl", what, registry=registry)  # from the file: no engine is started
    assert again == first
    assert [path.name for path in folder.iterdir()] == ["s.jsonl"]
    return first


def test_alphas_are_those_that_were_measured(found: Sensitivity) -> None:
    off = {name: float(np.log(found.tensors[name].alpha / alpha)) for name, alpha in known_alphas().items()}
    assert abs(off["token_embd.weight"]) < 0.25
    assert np.sqrt(np.mean(np.square(list(off.values())))) < 0.6  # the prior alone: 0.8


def test_probes_say_what_they_did(found: Sensitivity) -> None:
    assert len(found.probes) == 12
    assert {probe.what.split(",")[0].split(" →")[0] for probe in found.probes[:8]} == {
        *("token_embd", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    }
    assert all(probe.kld > 5 * probe.standard_error > 0 for probe in found.probes)
    assert found.provenance.engine.startswith("llama-cpp-python ")
    assert found.provenance.text.startswith("code.val.txt ")
