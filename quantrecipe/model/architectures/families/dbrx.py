"""Databricks' DBRX: experts in every layer, stored as rows of one matrix; q, k and v in one, too.

config.json    attn_config: kv_n_heads, rope_theta, clip_qkv;  ffn_config: ffn_hidden_size, moe_num_experts, …
w1, v1         (experts · length, hidden) → (experts, length, hidden)
w2             the same, and then each expert's matrix turned
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import EXPERTS, LAYERS, count_pairs, number_pairs
from quantrecipe.model.architectures.layout import FRAME, FUSED, HEAD, WIDE_EXPERTS, Layout, layers
from quantrecipe.model.architectures.rules import Each, Found, Named
from quantrecipe.model.pairs import Pairs, f32
from quantrecipe.model.source import layout
from quantrecipe.model.source.layout import Transpose
from quantrecipe.model.source.source import fail
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_EPSILON = 1e-5  # conversion/dbrx.py: it isn't in config.json


def _values(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The nested hyper-parameters by the names that others have for them."""
    own = {name: values.get(name) for name in ("attn_config", "ffn_config")}
    attn, ffn = (it if isinstance(it, Mapping) else {} for it in own.values())
    return {
        **values,
        "hidden_size": values.get("d_model"),
        "num_attention_heads": values.get("n_heads"),
        "max_position_embeddings": values.get("max_seq_len"),
        "num_key_value_heads": attn.get("kv_n_heads"),
        "rope_theta": attn.get("rope_theta"),
        "clip_qkv": attn.get("clip_qkv"),
        "intermediate_size": ffn.get("ffn_hidden_size"),
        "num_experts": ffn.get("moe_num_experts"),
        "num_experts_per_tok": ffn.get("moe_top_k"),
    }


_SIZES = {
    "block_count": LAYERS,
    "context_length": ("max_position_embeddings",),
    "embedding_length": ("hidden_size",),
    "feed_forward_length": ("intermediate_size",),
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads",),
}
_NUMBERS = {"rope.freq_base": ("rope_theta",), "attention.clamp_kqv": ("clip_qkv",)}
_EXPERTS = {"expert_count": ("num_experts",), "expert_used_count": ("num_experts_per_tok",)}


def _common(arch: str, config: Config) -> Pairs:
    for names in (*_SIZES.values(), *_EXPERTS.values()):
        config.need(*names)
    for (name,) in _NUMBERS.values():
        if config.number(name) is None:
            config.fail(f"has no {name} in attn_config (expected: a number)")
    return {
        **count_pairs(arch, config, _SIZES),
        **number_pairs(arch, config, _NUMBERS),
        **count_pairs(arch, config, _EXPERTS),
        f"{arch}.attention.layer_norm_epsilon": f32(_EPSILON),
    }


def _experts(it: Found) -> list[Named]:
    count = it.config.need(*EXPERTS)
    if len(it.source.shape) != 2 or it.source.rows % count:
        fail(it.source, f"doesn't divide among {count} experts")
    each = layout.reshape(it.source, (count, it.source.rows // count, it.source.cols))
    return [(f"{it.name}.weight", Transpose(source=each) if it.texts["matrix"] == "w2" else each)]


DBRX = Architecture(
    name="dbrx",
    classes=("DbrxForCausalLM",),
    layout=Layout(
        required=FRAME | FUSED | HEAD | WIDE_EXPERTS | layers({"attn_output_norm.weight": ("hidden_size",)})
    ),
    adjust=_values,
    common=_common,
    rules=(Each(names="transformer.blocks.{layer}.ffn.experts.mlp.{matrix:w1|v1|w2}", make=_experts),),
    vocabulary=Vocabulary(kinds=("bpe",), pre=("dbrx",)),
)

ALL = (DBRX,)
