"""quantrecipe shapes: the reference models by name."""

from __future__ import annotations

import json

import pytest

from quantrecipe.cli import main
from quantrecipe.model.reference_models import reference_models

Output = pytest.CaptureFixture[str]


def test_the_table_has_every_one(capsys: Output) -> None:
    assert main(["shapes"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in reference_models())
    assert "experts, latent attention" in text


def test_json(capsys: Output) -> None:
    assert main(["shapes", "--json"]) == 0
    models = {it["name"]: it for it in json.loads(capsys.readouterr().out)}
    assert tuple(models) == reference_models()
    assert models["shapes/qwen3-30b-a3b"] == {
        "name": "shapes/qwen3-30b-a3b",
        "architecture": "qwen3moe",
        "kind": "experts",
        "layers": 48,
        "experts": 128,
        "weights": 30_532_122_624,
    }
