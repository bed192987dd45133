"""MiniCPM, InternLM, StableLM, OLMo and the early relatives of Llama: what the recorded folders don't show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.recorded_architectures import edit_config, write_recorded

from quantrecipe.errors import ModelError
from quantrecipe.model.open_model import open_model

Weights = dict[str, tuple[str, list[int]]]


def resized(tensor: str, shape: list[int]) -> Any:
    def change(weights: Weights) -> None:
        name = next(it for it in weights if it.endswith(tensor))
        weights[name] = (weights[name][0], shape)

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("gpt-oss", resized("layers.0.mlp.experts.down_proj_blocks", [12288]), "can't be blocks of MXFP4"),
        ("internlm2", resized("wqkv.weight", [126, 64]), "expected: 128 rows, of 2 groups with 2 query heads"),
        ("baichuan", resized("W_pack.weight", [190, 64]), "expected: q, k and v of 4 heads"),
        ("refact", resized("kv.weight", [31, 64]), "even number of rows"),
        ("refact", resized("gate_up_proj.weight", [384, 64]), "by length, hidden_size"),
        ("qwen1", resized("mlp.w1.weight", [192, 64]), "by half, hidden_size"),
        ("minicpm3", resized("kv_b_proj.weight", [96, 16]), "num_attention_heads · qk_nope_head_dim"),
        ("dots1", resized("layers.1.self_attn.k_proj.weight", [32, 64]), "num_attention_heads · head_dim"),
        ("stablelm12b", lambda it: it.pop("model.layers.1.self_attn.k_layernorm.norms.1.weight"),
         r"k_layernorm\.norms\.1\.weight' is missing; download .* or correct num_key_value_heads in config\.json"),
        ("olmoe", lambda it: it.pop("model.layers.1.mlp.experts.3.up_proj.weight"), "or correct num_experts in"),
        ("seed-oss", lambda it: it.pop("model.layers.1.post_attention_layernorm.weight"),
         r"post_attention_norm\.weight\) is missing"),
        ("arcee", lambda it: it.update({"model.layers.0.mlp.gate_proj.weight": ("BF16", [96, 64])}),
         "is none that a arcee of 2 layers has"),
    ],
)  # fmt: skip
def test_weights_that_don_t_fit(name: str, change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        open_model(write_recorded(name, tmp_path, change))


def test_patches_without_rows(tmp_path: Path) -> None:
    folder = write_recorded("gemma4", tmp_path, resized("patch_embedder.input_proj.weight", [49152]))
    with pytest.raises(ModelError, match="isn't of patches"):
        open_model(folder, part="mmproj")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("minicpm", {"scale_depth": None}, "has no scale_depth"),
        ("minicpm", {"dim_model_base": 0}, "has no dim_model_base"),
        ("minicpm", {"scale_emb": "12"}, "says scale_emb: '12'"),
        ("minicpm3", {"qk_rope_head_dim": None}, "has no qk_rope_head_dim"),
        ("olmo3", {"layer_types": ["full_attention"]}, "has 1 values for 4 layers under layer_types"),
        ("stablelm", {"use_parallel_residual": "yes"}, "says use_parallel_residual: 'yes'"),
        ("dots1", {"norm_topk_prob": 1}, "says norm_topk_prob: 1"),
    ],
)
def test_settings_that_can_t_be(name: str, values: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        open_model(edit_config(write_recorded(name, tmp_path), **values))


@pytest.mark.parametrize(
    ("name", "removed", "key", "expected"),
    [
        ("olmo", "clip_qkv", "olmo.attention.clamp_kqv", None),
        ("orion", "max_sequence_length", "orion.context_length", 4096),
        ("orion", "num_key_value_heads", "orion.attention.head_count_kv", 4),
        ("stablelm", "use_parallel_residual", "stablelm.use_parallel_residual", False),
        ("rnd1", "mask_token_id", "tokenizer.ggml.mask_token_id", None),
    ],
)
def test_what_config_json_may_leave_out(
    name: str, removed: str, key: str, expected: object, tmp_path: Path
) -> None:
    model = open_model(edit_config(write_recorded(name, tmp_path), lambda config: config.pop(removed)))
    found = model.metadata.get(key)
    assert (None if found is None else found.decode()) == expected


def test_pictures_by_no_list(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["vision_config"]["deepstack_visual_indexes"] = 3

    with pytest.raises(ModelError, match="says deepstack_visual_indexes: 3"):
        open_model(edit_config(write_recorded("qwen3vl", tmp_path), change))


def test_an_omni_model_s_own_ends(tmp_path: Path) -> None:
    """Without "<|im_end|>" among the added tokens, they stay as they are."""
    folder = write_recorded("qwen3omni", tmp_path)
    before = open_model(folder).metadata
    (folder / "tokenizer_config.json").write_text("{}")
    after = open_model(folder).metadata
    assert "tokenizer.ggml.bos_token_id" in before
    assert "tokenizer.ggml.bos_token_id" not in after


def test_the_first_qwen_s_special_tokens(tmp_path: Path) -> None:
    """One token is all of them, where the folder tells none."""
    folder = write_recorded("qwen1", tmp_path)
    (folder / "tokenizer_config.json").write_text("{}")
    metadata = open_model(folder).metadata
    number = metadata["tokenizer.ggml.tokens"].decode().index("<|endoftext|>")
    kinds = ("bos", "eos", "unknown")
    assert [metadata[f"tokenizer.ggml.{kind}_token_id"].decode() for kind in kinds] == [number] * 3
