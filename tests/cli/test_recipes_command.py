"""quantrecipe recipes, and shipped recipes by short names and globs wherever a recipe stands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.cli import main
from quantrecipe.gguf.values import GGUFValue, ValueType

Output = pytest.CaptureFixture[str]
MOE, DENSE = "shapes/qwen3-30b-a3b", "shapes/qwen3-14b"


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    write_gguf(Path("model.gguf"), llama_tensors(), llama_metadata())
    return "model.gguf"


def listed(capsys: Output, *words: str) -> dict[str, dict[str, object]]:
    assert main(["recipes", *words, "--json"]) == 0
    return {it["name"]: it for it in json.loads(capsys.readouterr().out)}


def test_every_recipe_that_stands_alone_is_listed_with_its_needs(capsys: Output) -> None:
    found = listed(capsys)
    assert {"quantrecipe/code-model", "llama.cpp/Q4_K_M", "pure/Q8_0"} <= found.keys()
    assert not {"llama.cpp/kept", "llama.cpp/terms", "llama.cpp/low-bits"} & found.keys()
    assert found["llama.cpp/IQ2_XXS"]["needs"] == ["imatrix"]
    assert found["llama.cpp/Q4_K_M"]["needs"] == []
    experts = {name for name, it in found.items() if it["for_experts"]}
    assert experts == {"quantrecipe/moe-low-bit", "llama.cpp/MXFP4_MOE"}


def test_for_a_model_sizes_are_those_of_plan(capsys: Output) -> None:
    found = listed(capsys, "llama-quantize", "Q4_K_M", "--for", MOE)
    assert main(["plan", "llama.cpp/Q4_K_M", MOE, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    row = found["llama.cpp/Q4_K_M"]
    assert (row["bits_per_weight"], row["suits"], row["problem"]) == (plan["bits_per_weight"], True, None)


def test_the_smallest_comes_first_and_what_doesnt_suit_is_said(capsys: Output) -> None:
    assert main(["recipes", "experts", "--for", DENSE]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split()[0] for line in lines][-1] == "llama.cpp/MXFP4_MOE"
    assert all(
        "made for mixtures of experts, which this isn't" in it for it in lines if "moe" in it.lower()[:30]
    )
    sizes = [it["nbytes"] for it in listed(capsys, "UD", "--for", MOE).values()]
    assert sizes == sorted(sizes)  # type: ignore[type-var]  # numbers


def test_words_that_nothing_is_about(capsys: Output) -> None:
    assert main(["recipes", "gizmo"]) == 0
    assert "no recipe that ships is about gizmo" in capsys.readouterr().out


def test_what_is_piped_is_a_whole_line_each(capsys: Output) -> None:
    assert main(["recipes", "code-model"]) == 0
    _, _, line = capsys.readouterr().out.strip().splitlines()
    assert line.endswith("5.0 on Qwen3 30B A3B")


def test_a_glob_makes_a_release_and_doubles_are_left_out(capsys: Output) -> None:
    assert main(["apply", "llama.cpp/Q4_K*", "model.gguf", "--out-dir", "release"]) == 0
    err = capsys.readouterr().err
    assert "note: 'llama.cpp/Q4_K*' is llama.cpp/Q4_K_M, llama.cpp/Q4_K_S" in err
    assert "note: llama.cpp/Q4_K is left out, since llama.cpp/Q4_K_M is the same" in err
    assert sorted(it.name for it in Path("release").iterdir()) == ["model-Q4_K_M.gguf", "model-Q4_K_S.gguf"]


def test_a_glob_that_is_several_files_needs_a_folder(capsys: Output) -> None:
    assert main(["apply", "llama.cpp/Q4_K*", "model.gguf", "-o", "out.gguf"]) == 2
    assert "use --out-dir" in capsys.readouterr().err
    assert not Path("out.gguf").exists()


def test_a_glob_that_matches_nothing(capsys: Output) -> None:
    assert main(["apply", "llama.cpp/Q9*", "model.gguf", "--out-dir", "release"]) == 1
    assert "no shipped recipe is called 'llama.cpp/Q9*', and no file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "q4_k_m", DENSE],
        ["apply", "q4_k_m", "model.gguf", "--dry-run"],
        ["check", "q4_k_m", "--no-reference", "--model", DENSE],
        ["diff", "q4_k_m", "llama.cpp/Q5_K_M", "--model", DENSE],
        ["explain", "q4_k_m", DENSE, "attn_v"],
        ["lock", "q4_k_m", DENSE],
        ["flatten", "q4_k_m"],
        pytest.param(
            ["export", "q4_k_m", "--model", DENSE, "--to", "tensor-type-file"], marks=pytest.mark.slow
        ),
        pytest.param(["fit", DENSE, "--like", "q4_k_m", "--prior"], marks=pytest.mark.slow),
    ],
    ids=lambda words: words[0],
)
def test_a_short_name_stands_wherever_a_recipe_does(words: list[str], capsys: Output) -> None:
    assert main(words) == 0
    assert capsys.readouterr().err.count("note: 'q4_k_m' is llama.cpp/Q4_K_M, which ships") == 1


def test_check_says_that_a_folder_is_no_shipped_recipe(capsys: Output) -> None:
    Path("Q4_K_M").mkdir()
    Path("Q4_K_M/a.yaml").write_text("quantrecipe: 1\ndefault: Q4_K\n")
    assert main(["check", "Q4_K_M"]) == 0
    assert (
        "'Q4_K_M' is the folder of this name here, not the recipe llama.cpp/Q4_K_M" in capsys.readouterr().err
    )


@pytest.mark.parametrize("command", [["recipes", "--for"], ["import"]])
def test_adapters_are_no_models_here_either(command: list[str], capsys: Output) -> None:
    pairs = llama_metadata() | {"general.type": GGUFValue.of(ValueType.STRING, "adapter")}
    write_gguf(Path("lora.gguf"), {"blk.0.attn_q.weight.lora_a": np.ones((8, 64), np.float32)}, pairs)
    assert main([*command, "lora.gguf"]) == 1
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.startswith("error: lora.gguf: is a LoRA adapter")
