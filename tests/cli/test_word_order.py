"""Command lines in llama-quantize's order, or with the model first: answered with the command that does it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.cli import main

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in.gguf", "in put.gguf"):
        write_gguf(Path(name), llama_tensors(), llama_metadata())
    Path("mine.yaml").write_text("quantrecipe: 1\ndefault: Q4_K\n")


def answer(capsys: Output, line: str) -> list[str]:
    assert main(shlex.split(line)) == 2
    shown = capsys.readouterr().err.split("Write:\n\n")[1]
    return [it.strip() for it in shown.splitlines() if it.strip()]


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("in.gguf out.gguf Q4_K_M", "quantrecipe apply llama.cpp/Q4_K_M in.gguf -o out.gguf"),
        ("quantize in.gguf out.gguf q4_k_m 8", "quantrecipe apply llama.cpp/Q4_K_M in.gguf -o out.gguf"),
        ("llama-quantize in.gguf out.gguf 15", "quantrecipe apply llama.cpp/Q4_K_M in.gguf -o out.gguf"),
        ("apply in.gguf out.gguf Q8_0", "quantrecipe apply llama.cpp/Q8_0 in.gguf -o out.gguf"),
        ("--color never apply in.gguf Q8_0", "quantrecipe apply llama.cpp/Q8_0 in.gguf"),
        ("plan in.gguf out.gguf Q8_0 --all", "quantrecipe plan llama.cpp/Q8_0 in.gguf --all"),
        (
            "--imatrix i.gguf --allow-requantize 'in put.gguf' out.gguf Q4_K_M",
            "quantrecipe apply llama.cpp/Q4_K_M 'in put.gguf' -o out.gguf --imatrix i.gguf --allow-requantize",
        ),
        (
            "apply not-there.gguf out.gguf IQ2_XXS --threads 2",
            "quantrecipe apply llama.cpp/IQ2_XXS not-there.gguf -o out.gguf --threads 2",
        ),
        ("plan in.gguf mine.yaml --all", "quantrecipe plan mine.yaml in.gguf --all"),
        ("lock in.gguf UD-Q3_K_XL -o x.lock", "quantrecipe lock UD-Q3_K_XL in.gguf -o x.lock"),
        ("plan shapes/qwen3-14b mine.yaml", "quantrecipe plan mine.yaml shapes/qwen3-14b"),
        ("explain in.gguf mine.yaml attn_v head", "quantrecipe explain mine.yaml in.gguf attn_v head"),
        (
            "apply in.gguf mine.yaml llama.cpp/Q6_K --out-dir x",
            "quantrecipe apply mine.yaml llama.cpp/Q6_K in.gguf --out-dir x",
        ),
        (
            "apply in.gguf mine.yaml Q4_K_M --out-dir x",
            "quantrecipe apply mine.yaml Q4_K_M in.gguf --out-dir x",
        ),
        ("in.gguf", "quantrecipe apply RECIPE in.gguf"),
    ],
)
def test_the_right_command_is_shown(line: str, right: str, capsys: Output) -> None:
    assert answer(capsys, line) == [right]


def test_the_answer_works(capsys: Output) -> None:
    (right,) = answer(capsys, "'in put.gguf' out.gguf Q8_0")
    assert main(shlex.split(right)[1:]) == 0
    assert Path("out.gguf").exists()


def test_what_only_a_recipe_can_say_goes_through_import(capsys: Output) -> None:
    first, second, third = answer(
        capsys, "apply --tensor-type attn_v=q6_k --imatrix i.gguf in.gguf out.gguf q4_k_m --dry-run"
    )
    command = "llama-quantize --tensor-type attn_v=q6_k --imatrix i.gguf in.gguf out.gguf q4_k_m"
    assert shlex.split(first) == ["echo", command, "|"]
    assert second == "quantrecipe import - --from llama-quantize -o mix.yaml"
    assert third == "quantrecipe apply mix.yaml in.gguf -o out.gguf --dry-run"
    Path("q.sh").write_text(command)
    assert main(["import", "q.sh", *shlex.split(second)[3:]]) == 0


@pytest.mark.parametrize(
    "line",
    [
        "plan mine.yaml in.gguf",
        "apply mine.yaml in.gguf --dry-run",
        "diff in.gguf mine.yaml",
        "inspect in.gguf",
    ],
)
def test_right_orders_are_left_alone(line: str, capsys: Output) -> None:
    assert main(shlex.split(line)) == 0


def test_a_word_that_is_no_command_is_still_told_so(capsys: Output) -> None:
    assert main(["aply", "mine.yaml", "in.gguf"]) == 2
    assert "Did you mean apply?" in capsys.readouterr().err
