"""GPT-2, BLOOM, Falcon and others of their time: order of q, k and v, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.recorded_architectures import write_edited
from support.sources import in_any_runs

from quantrecipe.errors import ModelError
from quantrecipe.model.open_model import open_model


def test_masks_of_attention_are_left_out(tmp_path: Path) -> None:
    """GPT-2's own checkpoint has them as "h.0.attn.bias"."""

    def masked(tensors: dict[str, Any]) -> None:
        tensors["h.0.attn.bias"] = ("BF16", [1, 1, 64, 64])
        tensors["h.1.attn.masked_bias"] = ("BF16", [1])

    names = {it.name for it in open_model(write_edited("gpt2-bare", tmp_path, masked)).tensors}
    assert not any("mask" in name or name.endswith("attn.bias") for name in names)


def test_keys_for_each_head(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has keys and values for each head; llama\.cpp's starcoder"):
        open_model(write_edited("gptbigcode", tmp_path, multi_query=False))


def test_one_key_for_all_whatever_config_says(tmp_path: Path) -> None:
    """Falcon 7B's config.json has num_kv_heads: 71, which transformers doesn't ask for."""
    model = open_model(write_edited("falcon-7b", tmp_path, num_kv_heads=4))
    assert model.metadata["falcon.attention.head_count_kv"].decode() == 1


def test_groups_that_don_t_make_the_matrix(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has the shape \(128, 64\), which 1 groups of 4 heads don't make"):
        open_model(write_edited("falcon-40b", tmp_path, num_kv_heads=1))


def test_heads_that_don_t_divide_q_k_and_v(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has 192 rows, which q, k and v of 5 heads don't divide"):
        open_model(write_edited("gpt-neox", tmp_path, num_attention_heads=5))


@pytest.mark.parametrize(
    ("name", "value"), [("activation_function", "gelu"), ("position_embedding_type", "learned")]
)
def test_another_jais(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ModelError, match=f"says {name}: '{value}'; llama.cpp's Jais has"):
        open_model(write_edited("jais", tmp_path, **{name: value}))


def test_older_names_of_jais_s_factors(tmp_path: Path) -> None:
    newer = write_edited("jais", tmp_path / "a")
    older = write_edited(
        "jais", tmp_path / "b", mup_embeddings_scale=..., mup_output_alpha=...,
        embeddings_scale=9.1705, width_scale=1.09 * 0.125,
    )  # fmt: skip
    for name in ("token_embd.weight", "output.weight"):
        both = [open_model(folder).sources[name] for folder in (newer, older)]
        one, other = (in_any_runs(it, []).tobytes() for it in both)
        assert one == other


def test_a_factor_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no mup_width_scale"):
        open_model(write_edited("jais", tmp_path, mup_width_scale=...))


@pytest.mark.parametrize("name", ["clip_qkv", "rope_theta"])
def test_dbrx_without(tmp_path: Path, name: str) -> None:
    attention = {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 500000} | {name: None}
    with pytest.raises(ModelError, match=f"has no {name} in attn_config"):
        open_model(write_edited("dbrx", tmp_path, attn_config=attention))


def test_dbrx_s_experts_don_t_divide(tmp_path: Path) -> None:
    ffn = {"ffn_hidden_size": 32, "moe_num_experts": 3, "moe_top_k": 2}
    with pytest.raises(ModelError, match="doesn't divide among 3 experts"):
        open_model(write_edited("dbrx", tmp_path, ffn_config=ffn))


def test_mpt_without_slopes(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no alibi_bias_max in attn_config"):
        open_model(write_edited("mpt", tmp_path, attn_config={"alibi": True, "kv_n_heads": 4}))


def test_a_table_of_names_that_stays_as_it_was(tmp_path: Path) -> None:
    """gguf's table of names is changed when Arctic's is made; other architectures must not see that."""
    open_model(write_edited("arctic", tmp_path / "a"))
    assert "blk.0.ffn_norm.weight" in {
        it.name for it in open_model(write_edited("bloom", tmp_path / "b")).tensors
    }


def test_bitnet_s_weights_are_three_numbers(tmp_path: Path) -> None:
    source = open_model(write_edited("bitnet", tmp_path)).sources["blk.0.ffn_up.weight"]
    assert len(np.unique(in_any_runs(source, []).view(np.uint16))) in (3, 4)  # perhaps with -0
