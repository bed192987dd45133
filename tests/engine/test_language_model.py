"""What of an open model needs no llama.cpp: which address of a weight counts, and how many chunks run side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quantrecipe.engine.graph import Weight
from quantrecipe.engine.language_model import LanguageModel, _in_one
from quantrecipe.engine.libraries import Engine


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


@pytest.mark.parametrize(
    ("n_ctx", "n_vocab", "chunks"),
    [
        (512, 32_000, 4),
        (512, 150_000, 1),  # whose logits fill the memory
        (4096, 32_000, 1),
        (16, 32_000, 64),  # builds of 2025 refuse more sequences in a batch
        (31, 32_000, 64),
        (33, 32_000, 62),
    ],
)
def test_how_many_chunks_run_side_by_side(n_ctx: int, n_vocab: int, chunks: int) -> None:
    model = LanguageModel(Path("m.gguf"), Engine(library=Path("libllama.so"), source="--engine"))
    model.n_vocab = n_vocab
    assert model.side_by_side(n_ctx) == chunks
