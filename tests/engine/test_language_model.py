"""Weights of an open model: which address counts where llama.cpp has several of one name."""

from __future__ import annotations

from typing import Any

from quantrecipe.engine.graph import Weight
from quantrecipe.engine.language_model import _in_one


def weight(address: int, **changes: Any) -> Weight:
    facts: dict[str, Any] = {"name": "w", "ggml_type": 0, "shape": (8, 2), "nbytes": 64, "buffer": "CPU"}
    return Weight(address=address, **facts | changes)


def test_an_embedding_that_is_the_head_of_another_device_is_both() -> None:
    assert _in_one([weight(1), weight(2, buffer="CUDA0")]) == weight(1, others=(2,))


def test_a_copy_for_one_batch_is_none_of_them() -> None:
    assert _in_one([weight(1, passing=True), weight(2), weight(3, passing=True)]) == weight(2)


def test_where_only_a_copy_was_seen_that_is_told() -> None:
    assert _in_one([weight(1, passing=True), weight(2, passing=True)]) == weight(1, passing=True)


def test_what_has_the_name_and_another_size_is_something_else() -> None:
    assert _in_one([weight(1), weight(2, nbytes=32)]) == weight(1)
