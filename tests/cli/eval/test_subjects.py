"""What an argument of `eval` names: a file, or a recipe and its importance matrix."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantrecipe.cli.eval.subjects import NO_MATRIX, Named, named


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("there", "a@b.gguf", "mine.yaml", "matrix", "at@home.yaml"):
        Path(name).write_bytes(b"")


@pytest.mark.parametrize("text", ["there", "a@b.gguf", "nothing.gguf", "some/Q4_K_M.GGUF"])
def test_a_file(text: str) -> None:
    assert named(text) == Named(text=text)


@pytest.mark.parametrize(
    "text",
    [
        "mine.yaml",
        "nothing.yml",
        "at@home.yaml",
        "Q4_K_M",
        "llama.cpp@b11312/Q4_K_M",
        "main:recipes/mine.yaml",
        "ud/*",
    ],
)
def test_a_recipe(text: str) -> None:
    assert named(text) == Named(text=text, recipe=text)


@pytest.mark.parametrize(
    ("text", "recipe", "matrix"),
    [
        ("Q3_K_M@code.gguf", "Q3_K_M", "code.gguf"),
        ("llama.cpp@b11312/Q3_K_M@code.dat", "llama.cpp@b11312/Q3_K_M", "code.dat"),
        ("mine.yaml@matrix", "mine.yaml", "matrix"),
        ("at@home.yaml@none", "at@home.yaml", NO_MATRIX),
        ("Q3_K_M@none", "Q3_K_M", NO_MATRIX),
    ],
)
def test_a_recipe_with_a_matrix(text: str, recipe: str, matrix: str) -> None:
    assert named(text) == Named(text=text, recipe=recipe, matrix=matrix)
