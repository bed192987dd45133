"""The file that llama.cpp is to run: there, and a GGUF."""

from __future__ import annotations

from pathlib import Path

from quantrecipe.errors import EvaluationError

__all__ = ["existing_gguf"]


def existing_gguf(path: str | Path) -> Path:
    """The path, checked. EvaluationError that says how to make a GGUF of what it is instead."""
    path = Path(path)
    if path.is_dir():
        raise EvaluationError(
            "is a folder, and llama.cpp runs GGUF files",
            f"make one: quantrecipe apply llama.cpp/BF16 {path} -o {path.name}.bf16.gguf",
            file=path,
        )
    if not path.exists():
        raise EvaluationError("there is no such file", file=path)
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise EvaluationError(
                "is no GGUF file, and llama.cpp runs no other",
                f"make one: quantrecipe apply llama.cpp/BF16 {path} -o {path.stem}.bf16.gguf",
                file=path,
            )
    return path
