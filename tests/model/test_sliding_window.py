"""How far layers look back: what metadata says, and what llama.cpp sets where it says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.model import Model
from quantrecipe.model.sliding_window import SlidingWindows, layer_windows


def model(arch: str, **hyper: Any) -> Model:
    pairs = {"general.architecture": GGUFValue.of(ValueType.STRING, arch)}
    for key, plain in hyper.items():
        if isinstance(plain, list):
            value = GGUFValue.array(ValueType.BOOL, plain)
        else:
            value = GGUFValue.of(ValueType.UINT32, plain)
        pairs[f"{arch}.attention.{key}"] = value
    return Model(path=Path("m"), container="shapes", arch=arch, tensors=(), metadata=pairs, sources={})


@pytest.mark.parametrize(
    ("arch", "hyper", "windows"),
    [
        # a period by llama.cpp's code; the last layer of each is dense, or the first one
        ("gemma3", {"sliding_window": 512}, (512,) * 5 + (0,) + (512,) * 2),
        ("gemma2", {"sliding_window": 100}, (100, 0) * 4),
        ("gemma2", {}, (4096, 0) * 4),
        ("cohere2moe", {"sliding_window": 7}, (0, 7, 7, 7) * 2),
        ("gpt-oss", {"sliding_window": 128}, (128, 0) * 4),
        ("gemma3", {}, (0,) * 8),
        # what llama.cpp sets whatever the file says, and what it only assumes
        ("llama4", {"sliding_window": 5}, (8192, 8192, 8192, 0) * 2),
        ("smallthinker", {"sliding_window": 5}, (0, 4096, 4096, 4096) * 2),
        ("gemma2", {"sliding_window": 0}, (0,) * 8),
        # the file's own period, and layer by layer
        ("gemma3", {"sliding_window": 9, "sliding_window_pattern": 2}, (9, 0) * 4),
        ("other", {"sliding_window": 9, "sliding_window_pattern": 4}, (9, 9, 9, 0) * 2),
        (
            "other",
            {"sliding_window": 9, "sliding_window_pattern": [True, False, False, True] * 2},
            (9, 0, 0, 9) * 2,
        ),
        ("other", {"sliding_window": 9, "sliding_window_pattern": [True]}, (9,) + (0,) * 7),
        ("other", {"sliding_window": 9}, (0,) * 8),
        # architectures whose files name a window that isn't used
        ("llama", {"sliding_window": 9, "sliding_window_pattern": [True] * 8}, (0,) * 8),
        ("qwen2", {"sliding_window": 9, "sliding_window_pattern": 2}, (0,) * 8),
    ],
)
def test_windows(arch: str, hyper: dict[str, Any], windows: tuple[int, ...]) -> None:
    assert layer_windows(model(arch, **hyper), 8) == windows


@pytest.mark.parametrize(
    ("arch", "hyper", "count"), [("other", {}, 8), ("other", {"shared_kv_layers": 3}, 5), ("gemma3n", {}, 20)]
)
def test_layers_with_keys_and_values_of_their_own(arch: str, hyper: dict[str, int], count: int) -> None:
    windows = SlidingWindows(model(arch, **hyper), 8)
    assert [windows.has_cache(layer) for layer in range(24)] == [layer < count for layer in range(24)]
