"""quantrecipe speed: what was measured, kept, listed and removed; and what other commands say after it."""

from __future__ import annotations

import json
import re
from itertools import count
from pathlib import Path

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.terminal import show
from support.timed_machine import empty_folder, measured_here, use_timed_machine

from quantrecipe.cli import main
from quantrecipe.engine import Engine, EngineFacts
from quantrecipe.engine.bindings import Device
from quantrecipe.speed.kept import kept_profiles

Output = pytest.CaptureFixture[str]

CPU = Device(name="CPU", description="a processor", total=1, free=1, is_cpu=True)
GPU = Device(name="CUDA0", description="a GPU", total=1, free=1, is_cpu=False)
SMALL = "shapes/qwen3-0.6b"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Device]:
    """An engine on a machine whose speed is known; the devices may be changed. The folder has model.gguf."""
    devices = [CPU]
    engine = Engine(library=Path("libllama.so"), source="--engine")

    def facts(engine: Engine) -> EngineFacts:
        return EngineFacts(engine=engine, version="b7000", devices=tuple(devices), refused=())

    monkeypatch.setattr("quantrecipe.engine.find_engine", lambda path=None: engine)
    monkeypatch.setattr("quantrecipe.engine.engine_facts", facts)
    clock = count()
    monkeypatch.setattr("quantrecipe.measure.speed.mixes.monotonic", lambda: next(clock))
    use_timed_machine(monkeypatch)
    empty_folder(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    tensors = llama_tensors(layers=4, hidden=768, vocab=3000)
    write_gguf(Path("model.gguf"), tensors, llama_metadata(block_count=4, embedding_length=256))
    return devices


def test_what_a_person_sees(machine: list[Device], capsys: Output) -> None:
    args = ["speed", "model.gguf", "--types", "Q4_K,IQ4_XS,Q3_K,IQ3_S", "--minutes", "0.4", "--threads", "3"]
    assert main(args) == 0
    out = capsys.readouterr().out
    assert (
        "a processor, 3 threads; llama.cpp b7000; files with the shapes of model.gguf, each timed 4 times"
        in out
    )
    rows = {line.split()[0]: line.split() for line in out.splitlines() if re.match(r"I?Q\d_\w+ +\d", line)}
    assert list(rows) == ["Q3_K", "IQ3_S", "IQ4_XS", "Q4_K", "Q8_0"]
    assert float(rows["Q8_0"][4]) == pytest.approx(25, rel=0.1)  # GB/s: 4e-11 seconds for each byte
    assert "IQ or Q on a processor, 3 threads: for the same weights, IQ4_XS takes 1.1 times as long" in out
    assert re.search(r"IQ3_S takes 3\.\d times as long as Q3_K in answers, 1\.[78] times in prompts", out)
    assert "So take IQ3_S only where a smaller loss at the same size is worth that time." in out


def test_it_is_kept_listed_and_removed(machine: list[Device], capsys: Output) -> None:
    assert main(["speed", "--list"]) == 0
    assert (
        "nothing was measured on this machine: `quantrecipe speed MODEL` does it" in capsys.readouterr().out
    )
    assert main(["speed", "model.gguf", "--types", "Q4_K", "--minutes", "0.2", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["measurements"]
    assert found["whole_model"]["Q4_K"]["tokens_per_second"] > 0
    assert main(["speed", "--list"]) == 0
    out = capsys.readouterr().out
    assert found["key"] in out and "model.gguf" in out and "Q8_0, Q4_K" in out
    assert main(["speed", "--list", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["measurements"]
    assert listed["key"] == found["key"] and listed["token"] == found["token"]
    assert main(["speed", "--remove", "zzzz"]) == 1
    assert "nothing was measured under the key 'zzzz'" in capsys.readouterr().err
    assert main(["speed", "--remove", found["key"]]) == 0
    assert f"removed {found['key']}" in capsys.readouterr().out
    assert kept_profiles() == []


def test_where_there_is_a_gpu_both_are_measured(machine: list[Device], capsys: Output) -> None:
    machine.append(GPU)
    args = ["speed", "model.gguf", "--types", "Q4_K", "--minutes", "0.4", "--json"]
    assert main(args) == 0
    assert [it["device"] for it in json.loads(capsys.readouterr().out)["measurements"]] == ["", "a GPU"]
    for layers, devices in (("0", [""]), ("99", ["a GPU"])):
        assert main([*args, "--gpu-layers", layers]) == 0
        assert [it["device"] for it in json.loads(capsys.readouterr().out)["measurements"]] == devices


def test_without_a_gpu_none_can_be_asked_for(machine: list[Device], capsys: Output) -> None:
    assert main(["speed", "model.gguf", "--gpu-layers", "99"]) == 1
    assert "this llama.cpp can use no GPU here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "name a MODEL to measure, or say --list, or --remove KEY"),
        (["model.gguf", "--list"], "name a MODEL to measure, or say --list, or --remove KEY"),
        (["--list", "--remove", "x"], "name a MODEL to measure, or say --list, or --remove KEY"),
        (["model.gguf", "--types", "Q9_K"], "Q9_K"),
        (["model.gguf", "--work-dir", "gone"], "--work-dir"),
        (["model.gguf", "--minutes", "0"], "--minutes"),
    ],
    ids=str,
)
def test_what_is_refused(machine: list[Device], args: list[str], message: str, capsys: Output) -> None:
    assert main(["speed", *args]) != 0
    assert message in capsys.readouterr().err


def test_types_without_time_are_warned_of(machine: list[Device], capsys: Output) -> None:
    args = ["speed", "model.gguf", "--types", "Q4_K,Q6_K,IQ3_S", "--minutes", "0.1"]
    assert main(args) == 0
    assert "IQ3_S isn't measured: the time was over before" in capsys.readouterr().err


class TestAfterIt:
    """What plan, diff, advise and fit say of a machine that was measured."""

    def test_plan(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
        assert main(["plan", "llama.cpp/Q4_K_M", SMALL]) == 0
        assert "speed" not in capsys.readouterr().out
        found = measured_here(monkeypatch, tmp_path, SMALL)
        assert main(["plan", "llama.cpp/Q4_K_M", SMALL]) == 0
        out = capsys.readouterr().out
        assert re.search(
            r"speed here: about 49.8 tokens/s in answers, 1\d\d in prompts \(a processor, 4 threads", out
        )
        assert f"measured on 2026-11-30 with shapes of {SMALL})" in out
        assert main(["plan", "llama.cpp/Q4_K_M", SMALL, "--json"]) == 0
        speed = json.loads(capsys.readouterr().out)["speed"]
        assert speed["tokens_per_second"] == pytest.approx(49.8, rel=0.01)
        assert speed["measured"] == {"cpu": found.key}
        assert main(["plan", "llama.cpp/Q2_K", SMALL]) == 0
        assert "speed here isn't known: Q2_K wasn't measured" in capsys.readouterr().out

    def test_plan_with_layers_on_a_gpu_that_was_not_measured(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        measured_here(monkeypatch, tmp_path, SMALL)
        assert main(["plan", "llama.cpp/Q4_K_M", SMALL, "--vram", "8", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["speed"]["tokens_per_second"] is None
        assert main(["plan", "llama.cpp/Q4_K_M", SMALL, "--vram", "8"]) == 0
        assert "speed here isn't known" in capsys.readouterr().out

    @pytest.mark.parametrize("form", ["text", "markdown"])
    def test_diff(self, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
        measured_here(monkeypatch, tmp_path, SMALL)
        args = ["diff", "llama.cpp/Q8_0", "llama.cpp/Q4_K_M", "--model", SMALL, "--format"]
        assert main([*args, form]) == 0
        out = capsys.readouterr().out
        assert re.search(r"tokens/s here\W+42\.2\W+49\.8\W+\+17\.9 %", out), out
        assert main([*args, "json"]) == 0
        speed = json.loads(capsys.readouterr().out)["models"][0]["speed"]
        assert speed["old"]["tokens_per_second"] < speed["new"]["tokens_per_second"]

    def test_advise(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
        args = ["advise", SMALL, "Q4_K_M", "IQ4_XS", "Q8_0", "--no-gpu", "--ram", "16"]
        assert main(args) == 0
        before = capsys.readouterr().out
        assert "tok/s" not in before
        assert "speed wasn't measured on this machine, so what is said of it is the table's" in before
        assert "slow on CPUs, by the table of targets" in before
        measured_here(monkeypatch, tmp_path, SMALL)
        told = show(args, width=80)
        after = told.out
        row = next(line for line in after.splitlines() if line.startswith("Q4_K_M")).split()
        assert "49.8" in row
        assert "IQ or Q on a processor, 4 threads" in after.replace("\n", " ")
        assert "slow on CPUs" not in after  # IQ4_XS isn't, here, whatever the table says
        assert max(map(len, after.splitlines())) <= 80
        assert main([*args, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        speeds = {it["name"]: it["speed"] for it in document["options"]}
        assert speeds["Q4_K_M"]["tokens_per_second"] == pytest.approx(49.8, rel=0.01)
        assert speeds["IQ4_XS"]["not_measured"] == ["Q5_K"]
        assert document["models"][0]["measured_speed"]["cpu"]["iq_or_q"][0]["iq"] == "IQ4_XS"

    def test_advise_for_another_gpu_says_nothing_of_the_speed_of_this_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        measured_here(monkeypatch, tmp_path, SMALL, device="a GPU")
        assert main(["advise", SMALL, "Q4_K_M", "--vram", "8", "--ram", "16"]) == 0
        assert "tok/s" not in capsys.readouterr().out

    def test_fit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
        measured_here(monkeypatch, tmp_path, SMALL)
        monkeypatch.chdir(tmp_path)
        assert main(["fit", SMALL, "--prior", "--min-speed", "48", "-o", "quick.yaml"]) == 0
        out = capsys.readouterr().out
        assert "understood: at least 48 tokens/s" in out
        assert re.search(r"time of a token +20\.8 ms +20\.8 ms", out)
        assert main(["plan", "quick.yaml", SMALL, "--json"]) == 0
        plan = json.loads(capsys.readouterr().out)
        assert 48 <= plan["speed"]["tokens_per_second"] < 48.5
        assert "IQ2_XXS" not in {tensor["type"] for tensor in plan["tensors"]}
        assert "Limits: speed 48" in Path("quick.yaml").read_text(encoding="utf-8")

    @pytest.mark.slow
    def test_fit_with_a_size_keeps_both(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        measured_here(monkeypatch, tmp_path, SMALL)
        monkeypatch.chdir(tmp_path)
        assert main(["fit", SMALL, "--prior", "--min-speed", "48", "--size", "420MB", "-o", "mine.yaml"]) == 0
        capsys.readouterr()
        assert main(["plan", "mine.yaml", SMALL, "--json"]) == 0
        plan = json.loads(capsys.readouterr().out)
        assert plan["nbytes"] <= 420_000_000
        assert plan["speed"]["tokens_per_second"] >= 48

    def test_fit_that_nothing_keeps(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        args = ["fit", SMALL, "--prior", "--min-speed"]
        assert main([*args, "48"]) == 1
        assert "the speed of types wasn't measured on this machine" in capsys.readouterr().err
        measured_here(monkeypatch, tmp_path, SMALL)
        assert main([*args, "1000"]) == 1
        said = capsys.readouterr().err
        assert "at least 1000 tokens per second are asked for" in said
        assert re.search(r"the quickest types that are allowed give 5\d\.\d+ tokens per second", said)
        assert main([*args, "40", "--types", "Q2_K"]) == 1
        assert "of Q2_K none was measured on this machine" in capsys.readouterr().err
        assert main([*args, "40", "--vram", "8"]) == 1
        assert "the GPU's speed wasn't measured" in capsys.readouterr().err
