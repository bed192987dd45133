"""quantrecipe advise: what recipes take, what to take, and the same for machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.terminal import show

from quantrecipe.cli import main
from quantrecipe.memory import machine
from quantrecipe.memory.machine import Gpu, Machine

Output = pytest.CaptureFixture[str]
GIB = 1 << 30
EXAMPLE = Path(__file__).parents[3] / "examples/tiny-code"


@pytest.fixture
def gaming_pc(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(name="NVIDIA GeForce RTX 4070", total=12 * GIB, free=11 * GIB, device="cuda")
    found = Machine(gpus=(gpu,), ram_total=32 * GIB, ram_free=24 * GIB)
    monkeypatch.setattr(machine, "detect_machine", lambda: found)


def shown(args: list[str], columns: int | None) -> str:
    """What the command prints on a terminal of so many columns, or in a pipe."""
    told = show(args, width=columns)
    assert told.status == 0, told.err
    return told.out


def test_what_a_person_sees(gaming_pc: None, capsys: Output) -> None:
    assert main(["advise", "shapes/qwen3-14b"]) == 0
    out = capsys.readouterr().out
    assert "NVIDIA GeForce RTX 4070 with 12 GiB (0.50 GiB of it stays with the driver), RAM 24 GiB" in out
    assert "context 8,192 tokens, KV cache f16" in out
    assert "shapes/qwen3-14b: 14.77 B weights, trained for contexts of 40,960 tokens; in GiB" in out
    for name in ("Q4_K_M", "ud-q3-k-xl", "chat", "fitted"):
        assert f"\n{name} " in out
    for use in ("for code", "for chat and long contexts"):
        assert use in out
    assert "fitted is what this makes:\n  quantrecipe fit shapes/qwen3-14b --vram 12GiB --context 8192" in out
    assert "est. loss: an estimate" in out and "nothing was measured on this model" in out
    assert "fastest" not in out  # speed is the table of targets' matter


@pytest.mark.parametrize(
    ("columns", "model"),
    [
        pytest.param(80, "shapes/qwen3-14b", marks=pytest.mark.slow),
        (80, "shapes/qwen3-30b-a3b"),
        pytest.param(80, "shapes/deepseek-v3.1", marks=pytest.mark.slow),
        pytest.param(100, "shapes/qwen3-14b", marks=pytest.mark.slow),
        (140, "shapes/qwen3-14b"),
    ],
)
def test_it_fits_into_the_terminal_and_nothing_is_cut(gaming_pc: None, columns: int, model: str) -> None:
    out = shown(["advise", model, "--vram", "8", "--ram", "32"], columns)
    assert max(len(line) for line in out.splitlines()) <= columns
    assert "…" not in out
    heading = next(line for line in out.splitlines() if "weights  " in line and "total" in line)
    for name in ("est. loss", "weights", "KV", "compute", "total", "left", "RAM"):
        assert name in heading
    assert ("longest" in heading) == (columns >= 100)


def test_in_a_pipe_nothing_is_wrapped(gaming_pc: None) -> None:
    out = shown(["advise", "shapes/qwen3-14b", "Q6_K", "--vram", "8", "--ram", "32"], None)
    misses = [line for line in out.splitlines() if "too much for the GPU" in line]
    assert len(misses) == 1 and misses[0].endswith("(-ngl 24)")


@pytest.mark.slow
def test_an_option_and_its_value_stand_on_one_line(gaming_pc: None) -> None:
    asked = ["advise", "shapes/meta-llama-3.1-8b-instruct", "Q6_K", "--vram", "8", "--context", "16k"]
    for columns in range(60, 100, 3):
        out = shown(asked, columns)
        assert "(-ngl 31)" in out and "--kv q8_0" in out and "\xa0" not in out


def test_long_names_get_a_line_of_their_own(gaming_pc: None, tmp_path: Path) -> None:
    path = tmp_path / ("a-folder-of-sixty-characters-" * 2) / "mine.yaml"
    path.parent.mkdir()
    path.write_text("quantrecipe: 1\nextends: llama.cpp/Q4_K_M\n")
    out = shown(["advise", "shapes/qwen3-0.6b", str(path), "Q6_K", "--vram", "8"], 80)
    assert f"\n{path}\n" in out
    assert "\nQ6_K " in out


def test_a_seed_question_about_two_recipes(gaming_pc: None, capsys: Output) -> None:
    """8 GB card, Q3_K_M or UD-Q3_K_XL at 16k with KV?"""
    arguments = [
        "shapes/meta-llama-3.1-8b-instruct",
        "Q3_K_M",
        "UD-Q3_K_XL",
        "--vram",
        "8",
        "--context",
        "16k",
    ]
    assert main(["advise", *arguments, "--ram", "16GB"]) == 0
    out = capsys.readouterr().out
    assert "VRAM 8 GiB" in out and "RAM 16 GiB" in out and "context 16,384 tokens" in out
    assert "Take UD-Q3_K_XL, all on the GPU: it loses the least of these, by the estimate." in out
    assert "It needs an importance matrix. IQ4_XS is slow on Metal and Vulkan." in out
    assert main(["advise", *arguments, "--ram", "16GB", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    for option in said["options"]:
        (run,) = option["runs"]
        assert run["gpu"]["kv_cache"] == 2 * GIB
        assert run["gpu"]["total"] + run["gpu"]["left"] + said["room"]["reserved"] == 8 * GIB
        assert run["fits"] is True


def test_a_seed_question_about_two_models(gaming_pc: None, capsys: Output) -> None:
    """7B in Q6_K or 13B in Q2_K on 8 GB?"""
    models = ["shapes/mistral-7b-instruct-v0.3", "shapes/qwen3-14b"]
    assert main(["advise", *models, "Q6_K", "Q2_K", "--vram", "8GB", "--ram", "16"]) == 0
    out = capsys.readouterr().out
    assert all(f"{model}: " in out for model in models)
    assert "4.65 GiB too much for the GPU" in out
    assert "The losses of different models can't be compared" in out
    assert main(["advise", *models, "--recipe", "Q6_K", "--recipe", "Q2_K", "--vram", "8", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [model["model"] for model in said["models"]] == models
    assert all([o["name"] for o in model["options"]] == ["Q2_K", "Q6_K"] for model in said["models"])
    assert "options" not in said  # of which model would they be?


@pytest.mark.slow
def test_a_seed_question_about_experts(gaming_pc: None, capsys: Output) -> None:
    """MoE 30B-A3B with 8 GB VRAM and 32 GB RAM?"""
    assert main(["advise", "shapes/qwen3-30b-a3b", "--vram", "8", "--ram", "32"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n  experts in RAM ") >= 20
    assert "with the experts in main memory (--cpu-moe)" in out


def test_a_context_that_the_model_was_not_made_for(gaming_pc: None, capsys: Output) -> None:
    assert main(["advise", "shapes/qwen3-14b", "Q4_K_M", "--context", "64k"]) == 0
    assert (
        "a context of 65,536 tokens is longer than what the model was trained for" in capsys.readouterr().out
    )
    assert main(["advise", "shapes/qwen3-14b", "Q4_K_M", "--context", "40k"]) == 0
    assert "longer than" not in capsys.readouterr().out


def test_small_models_are_told_in_mib(gaming_pc: None, capsys: Output) -> None:
    assert main(["advise", str(EXAMPLE), "Q8_0", "--vram", "8", "--context", "1k"]) == 0
    out = capsys.readouterr().out
    assert "trained for contexts of 1,024 tokens; in MiB" in out
    row = next(line for line in out.splitlines() if line.startswith("Q8_0"))
    weights, cache, compute, total = map(float, row.split()[4:8])
    assert 3 < weights < 5 and cache > 0 and compute > 0
    assert total == pytest.approx(weights + cache + compute, abs=0.02)


def test_only_experiments_fit(gaming_pc: None, capsys: Output) -> None:
    assert main(["advise", "shapes/qwen3-14b", "IQ2_XXS", "--vram", "7", "--ram", "1"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Only experiments fit here" in out and "QR303" in out


def test_json(gaming_pc: None, capsys: Output) -> None:
    assert main(["advise", "shapes/qwen3-14b", "--vram", "8GiB", "--ram", "16GiB", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["machine"]["gpus"][0]["name"] == "NVIDIA GeForce RTX 4070"
    assert said["room"] == {"gpu": 8 * GIB, "reserved": 8 * GIB // 20, "ram": 16 * GIB}
    assert {option["way"] for option in said["options"]} >= {"gpu", "some layers"}
    assert [pick["use"] for pick in said["picks"]] == ["code", "chat", "long context"]
    assert said["models"][0]["options"] == said["options"]
    fitted = next(option for option in said["options"] if option["name"] == "fitted")
    assert fitted["recipe"] is None
    assert next(o for o in said["options"] if o["name"] == "chat")["recipe"] == "quantrecipe/chat"


def test_without_a_gpu(gaming_pc: None, capsys: Output) -> None:
    assert main(["advise", "shapes/qwen3-0.6b", "--no-gpu"]) == 0
    out = capsys.readouterr().out
    assert "no GPU, RAM 24 GiB" in out
    assert "on the CPU" in out
    assert "fit shapes/qwen3-0.6b --ram 24GiB" in out


@pytest.mark.slow
def test_nothing_fits(gaming_pc: None, capsys: Output) -> None:
    assert main(["advise", "shapes/deepseek-v3.1"]) == 0
    out = capsys.readouterr().out
    assert "Nothing fits" in out
    assert "GiB too much for the GPU, and RAM doesn't hold the rest; it doesn't run here" in out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["shapes/qwen3-0.6b", "--no-gpu", "--vram", "8GiB"], 2, "exclude each other"),
        (["Q4_K_M"], 2, "name a model"),
        (["shapes/qwen3-0.6b", "nothing-like-it"], 1, "neither a model nor a recipe"),
        (["nothing.gguf"], 1, "neither a model nor a recipe"),
        (["shapes/qwen3-0.6b", "nothing.yaml"], 1, "nothing.yaml"),
        (["shapes/qwen3-0.6b", "--vram", "8B"], 2, "no memory; did you mean 8GiB?"),
        (["shapes/qwen3-0.6b", "--vram", "12282"], 2, "write 12282MiB, or 12282GiB"),
        (["shapes/qwen3-0.6b", "--context", "8"], 2, "did you mean 8k?"),
        (["shapes/qwen3-0.6b", "shapes/qwen3-14b", "--imatrix", "x"], 2, "are of one model"),
    ],
)
def test_what_can_t_be_advised(
    gaming_pc: None, capsys: Output, arguments: list[str], status: int, message: str
) -> None:
    assert main(["advise", *arguments]) == status
    assert message in " ".join(capsys.readouterr().err.split())
