"""Which files of a model are read as they are asked for, and which are downloaded at the start, as they are small."""

from __future__ import annotations

from pathlib import Path

from quantrecipe.whole_file import whole_file

__all__ = ["LARGEST_SMALL", "SMALL", "WEIGHTS", "keep_small"]

WEIGHTS = (".safetensors", ".gguf")
SMALL = (".json", ".jinja", ".model", ".txt", ".tiktoken", ".md", ".vocab")
LARGEST_SMALL = 256 << 20
"""Bytes; the largest tokenizers have 40 MB."""


def keep_small(path: Path, data: bytes) -> None:
    """Have a small file lie in the folder that stands for the model. OSError passes."""
    with whole_file(path, durable=False) as file:
        file.write(data)
