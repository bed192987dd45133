"""What of an open model needs no llama.cpp."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.engine.libraries import Engine


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
