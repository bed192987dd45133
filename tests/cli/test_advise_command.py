"""quantrecipe advise: a table, three picks, and the same for machines."""

from __future__ import annotations

import json

import pytest

from quantrecipe.cli import main
from quantrecipe.memory import machine
from quantrecipe.memory.machine import Gpu, Machine

Output = pytest.CaptureFixture[str]
GIB = 1 << 30


@pytest.fixture
def gaming_pc(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(name="NVIDIA GeForce RTX 4070", total=12 * GIB, free=11 * GIB, device="cuda")
    found = Machine(gpus=(gpu,), ram_total=32 * GIB, ram_free=24 * GIB)
    monkeypatch.setattr(machine, "detect_machine", lambda: found)


def test_what_a_person_sees(gaming_pc: None, capsys: Output) -> None:
    assert main(["advise", "shapes/qwen3-14b"]) == 0
    out = capsys.readouterr().out
    assert "NVIDIA GeForce RTX 4070 with 12.00 GiB" in out
    assert "24.00 GiB of main memory" in out
    assert "on the GPU" in out
    assert "partly on it: -ngl" in out
    for use in ("code", "chat", "long context"):
        assert f"\n{use} " in out
    assert "fitted: quantrecipe fit shapes/qwen3-14b --vram" in out


def test_json(gaming_pc: None, capsys: Output) -> None:
    assert main(["advise", "shapes/qwen3-14b", "--vram", "8GiB", "--ram", "16GiB", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["machine"]["gpus"][0]["name"] == "NVIDIA GeForce RTX 4070"
    assert said["room"] == {"gpu": 8 * GIB, "reserved": 8 * GIB // 20, "ram": 16 * GIB}
    assert {option["way"] for option in said["options"]} >= {"gpu", "some layers"}
    assert [pick["use"] for pick in said["picks"]] == ["code", "chat", "long context"]


def test_without_a_gpu(gaming_pc: None, capsys: Output) -> None:
    assert main(["advise", "shapes/qwen3-0.6b", "--no-gpu"]) == 0
    out = capsys.readouterr().out
    assert "no GPU" in out
    assert "on the CPU" in out
    assert "--ram" in out


def test_nothing_fits(gaming_pc: None, capsys: Output) -> None:
    assert main(["advise", "shapes/deepseek-v3.1"]) == 0
    assert "nothing fits" in capsys.readouterr().out


def test_options_that_exclude_each_other(gaming_pc: None, capsys: Output) -> None:
    assert main(["advise", "shapes/qwen3-0.6b", "--no-gpu", "--vram", "8GiB"]) == 2
