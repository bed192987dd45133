"""GroveMoE, LLaDA MoE, Maincoder, PLM and SmallThinker: what the recorded variants don't show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.model import Model

Opened = Callable[..., Model]
_HEAD = {"lm_head.weight": ("BF16", [64, 32])}

_WIDE_QUERIES = {f"model.layers.{layer}.self_attn.q_proj.weight": ("BF16", [64, 32]) for layer in range(2)}


def test_a_copy_of_plm_s_embedding_is_left_out(opened: Opened) -> None:
    assert "output.weight" not in {tensor.name for tensor in opened("plm", weights=_HEAD).tensors}


def test_plm_has_no_output_of_its_own(opened: Opened) -> None:
    with pytest.raises(ModelError, match=r"lm_head\.weight' \(output\.weight\) is none that llama\.cpp has"):
        opened("plm", weights=_HEAD, tie_word_embeddings=False)


@pytest.mark.parametrize("name", ["grove-moe", "llada-moe", "maincoder", "plm", "smallthinker"])
def test_a_frequency_that_isn_t_told_is_left_to_llama_cpp(name: str, opened: Opened) -> None:
    assert not [key for key in opened(name, rope_theta=None).metadata if "freq_base" in key]


@pytest.mark.parametrize(
    ("changes", "window"),
    [
        ({}, 4096),
        ({"sliding_window_layout": [0, 0, 0, 0, 0]}, None),
        ({"sliding_window_layout": None}, None),
        ({"sliding_window_size": None}, None),
        ({"sliding_window_size": 0}, None),
    ],
)
def test_smallthinker_s_window(changes: dict[str, Any], window: int | None, opened: Opened) -> None:
    found = opened("smallthinker", **changes).metadata.get("smallthinker.attention.sliding_window")
    assert (found and found.decode()) == window


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("smallthinker", {"moe_num_active_primary_experts": 5}, "5 of 4 experts"),
        ("smallthinker", {"moe_num_active_primary_experts": None}, "has no moe_num_active_primary_experts"),
        ("smallthinker", {"moe_num_primary_experts": 3}, "moe_num_primary_experts"),
        ("smallthinker", {"moe_ffn_hidden_size": 25}, r"by num_experts, moe_intermediate_size"),
        ("grove-moe", {"moe_intermediate_size": None, "intermediate_size": 48}, "has no moe_intermediate_size"),
        ("grove-moe", {"weights": {"model.layers.1.mlp.chunk_experts.1.up_proj.weight": None}}, "chunk_experts"),
        ("grove-moe-remote", {"head_dim": 8}, "by chunks, chunk_length"),
        ("llada-moe", {"expert_intermediate_size": None}, "by num_experts, moe_intermediate_size"),
        ("llada-moe", {"head_dim": 16, "weights": _WIDE_QUERIES}, r"attn_q\.weight\) has the shape .*, by hidden_size"),
        ("llada-moe", {"weights": {"lm_head.weight": None}}, r"output\.weight\) is missing"),
        ("plm", {"v_head_dim": None}, "has no v_head_dim"),
        ("maincoder", {"head_dim": None}, "by num_attention_heads"),
    ],
)  # fmt: skip
def test_what_doesn_t_fit(name: str, changes: dict[str, Any], message: str, opened: Opened) -> None:
    with pytest.raises(ModelError, match=message):
        opened(name, **changes)
