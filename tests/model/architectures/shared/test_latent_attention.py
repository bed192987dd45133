"""Latent attention: one matrix for keys and values becomes two."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from quantrecipe.errors import ModelError
from quantrecipe.model.model import Model
from quantrecipe.model.source.floats import to_float32
from quantrecipe.model.source.reading import Reading
from quantrecipe.model.source.source import TensorSource
from quantrecipe.model.tensor_reader import TensorReader

HEADS, NOPE, VALUES, RANK = 4, 16, 16, 32
KV_B = "model.layers.1.self_attn.kv_b_proj.weight"


def numbers(source: TensorSource, reader: TensorReader) -> NDArray[np.float32]:
    raw = source.read(0, source.total_rows, Reading(reader))
    return to_float32(raw, source.dtype).reshape(source.shape)


def test_both_parts_are_of_their_heads(opened: Callable[..., Model]) -> None:
    """Put together again, they are what was stored."""
    model = opened("v2lite")
    keys, values = (model.sources[f"blk.1.attn_{name}_b.weight"] for name in "kv")
    assert (keys.shape, values.shape) == ((HEADS, RANK, NOPE), (HEADS, VALUES, RANK))
    with TensorReader() as reader:
        parts = [numbers(keys, reader).transpose(0, 2, 1), numbers(values, reader)]
    together = np.concatenate(parts, axis=1).reshape(-1, RANK)
    begin = keys.extents[0]
    raw = begin.path.read_bytes()[begin.offset :][: together.size * 2]
    assert np.array_equal(together, to_float32(np.frombuffer(raw, np.uint8).reshape(-1, 2 * RANK), "BF16"))


@pytest.mark.parametrize("rows", [120, 136])
def test_rows_that_are_not_of_whole_heads(rows: int, opened: Callable[..., Model]) -> None:
    with pytest.raises(
        ModelError, match=f"{KV_B!r} .*isn't of 4 heads with 16 rows of keys and 16 of values"
    ):
        opened("v2lite", weights={KV_B: ("BF16", [rows, RANK])})


def test_low_rank_of_queries_is_as_config_says(opened: Callable[..., Model]) -> None:
    with pytest.raises(ModelError, match=r"blk.0.attn_q_a.weight\) is missing"):
        opened("v2lite", q_lora_rank=32)
