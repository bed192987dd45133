"""DeepSeek V4: one short key for all heads, attention to compressed stretches of text, and several residual streams.

    compress_ratios    of each layer: 0 attends to a window, 4 and 128 also to stretches of so many tokens
    4                  has an indexer, too, which chooses among the stretches
    num_hash_layers    so many first layers send tokens to experts by a table (tid2eid), the others by scores
    hc_mult            residual streams, which each block mixes (hyper-connections, hc_*)

Tensors have DeepSeek's own short names. llama.cpp's converter leaves the draft heads and the vision tower out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import LAYERS, SHARED_EXPERTS
from quantrecipe.model.architectures.layout import EXPERTS, Layout, Part, Shapes, layers
from quantrecipe.model.architectures.rules import Found, Stack, change, language_name, template
from quantrecipe.model.architectures.shared.experts import BIAS, SHARED
from quantrecipe.model.pairs import Pairs, boolean, f32, f32s, i32s, u32
from quantrecipe.model.source.layout import Columns
from quantrecipe.model.source.source import Stored, TensorSource, fail
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_INDEXED, _PLAIN = 4, 128
"""The ratios of compression that llama.cpp knows; the first has an indexer."""


def _ratios(config: Config) -> list[int]:
    """The ratio of each layer."""
    ratios = config.counts(config.need(*LAYERS), "compress_ratios")
    if odd := sorted(set(ratios) - {0, _INDEXED, _PLAIN}):
        config.fail(
            f"says compress_ratios: {odd} (what llama.cpp has: 0, {_INDEXED} and {_PLAIN})",
            "no GGUF of this architecture can hold the model",
        )
    return list(ratios)


def _with_ratio(*wanted: int) -> Callable[[Config], list[int]]:
    return lambda config: [layer for layer, ratio in enumerate(_ratios(config)) if ratio in wanted]


def _hashed(config: Config) -> range:
    return range(config.count("num_hash_layers") or 0)


def _scored(config: Config) -> range:
    return range(config.count("num_hash_layers") or 0, config.need(*LAYERS))


def _pairs(config: Config) -> Pairs:
    arch = "deepseek4"
    limit = [config.number("swiglu_limit") or 0.0] * config.need(*LAYERS)
    _ratios(config)  # checked here, though a longer list is written as it is
    return {
        f"{arch}.rope.dimension_count": u32(config.need("qk_rope_head_dim")),
        f"{arch}.attention.q_lora_rank": u32(config.need("q_lora_rank")),
        f"{arch}.attention.sliding_window": u32(config.need("sliding_window")),
        f"{arch}.expert_feed_forward_length": u32(config.need("moe_intermediate_size")),
        f"{arch}.expert_shared_count": u32(config.need(*SHARED_EXPERTS)),
        f"{arch}.expert_weights_scale": f32(config.number("routed_scaling_factor") or 1.0),
        f"{arch}.expert_weights_norm": boolean(config.flag("norm_topk_prob") is True),
        f"{arch}.swiglu_clamp_exp": f32s(limit),
        f"{arch}.swiglu_clamp_shexp": f32s(limit),
        f"{arch}.attention.indexer.head_count": u32(config.need("index_n_heads")),
        f"{arch}.attention.indexer.key_length": u32(config.need("index_head_dim")),
        f"{arch}.attention.indexer.top_k": u32(config.need("index_topk")),
        f"{arch}.attention.output_group_count": u32(config.need("o_groups")),
        f"{arch}.attention.output_lora_rank": u32(config.need("o_lora_rank")),
        f"{arch}.attention.compress_ratios": i32s(config.find("compress_ratios")),
        f"{arch}.attention.compress_rope_freq_base": f32(config.number("compress_rope_theta") or 0.0),
        f"{arch}.hyper_connection.count": u32(config.need("hc_mult")),
        f"{arch}.hyper_connection.sinkhorn_iterations": u32(config.need("hc_sinkhorn_iters")),
        f"{arch}.hyper_connection.epsilon": f32(config.number("hc_eps") or 0.0),
        f"{arch}.hash_layer_count": u32(config.count("num_hash_layers") or 0),
        f"{arch}.embedding_length_out": u32(config.need("hidden_size") * config.need("hc_mult")),
    }


_OTHERS = ("aligner.", "image_", "mtp.")


def _rename(name: str) -> str | None:
    """A tensor's name; None for those of the vision tower and of draft heads."""
    return None if name.startswith(_OTHERS) else language_name(name)


def _left_out(config: Config, name: str) -> bool:
    """The bias in choosing experts, of layers that choose by a table."""
    match = template("layers.{layer}.ffn.gate.bias").fullmatch(name)
    return match is not None and int(match["layer"]) in _hashed(config)


def _as_int32(it: Found) -> TensorSource:
    """Numbers of experts, which fit 32 bits: the first halves of the 64 (little-endian) that are stored."""
    source = it.source
    if source.dtype == "I32":
        return source
    if source.dtype != "I64" or not isinstance(source, Stored):
        fail(source, "is no table of numbers of experts (expected: I64)")
    words = replace(source, dtype="I32", shape=(*source.shape[:-1], 2 * source.cols))
    return Columns(source=words, index=tuple(range(0, 2 * source.cols, 2)))


_MIX = "2 · hc_mult + hc_mult · hc_mult"
_STREAMS = "hc_mult · hidden_size"
_HYPER: Shapes = {
    f"hc_{block}_{name}.weight": shape
    for block in ("attn", "ffn")
    for name, shape in {"fn": (_MIX, _STREAMS), "base": (_MIX,), "scale": ("3",)}.items()
}
_QUERIES, _GROUPS = "num_attention_heads · head_dim", "o_groups · o_lora_rank"
_TRUNK: Shapes = {
    "token_embd.weight": ("vocab_size", "hidden_size"),
    "output_norm.weight": ("hidden_size",),
    "output.weight": ("vocab_size", "hidden_size"),
    "output_hc_fn.weight": ("hc_mult", _STREAMS),
    "output_hc_base.weight": ("hc_mult",),
    "output_hc_scale.weight": ("1",),
    **EXPERTS,
    **SHARED,
    **layers(
        {
            **_HYPER,
            "attn_norm.weight": ("hidden_size",),
            "attn_sinks.weight": ("num_attention_heads",),
            "attn_q_a.weight": ("q_lora_rank", "hidden_size"),
            "attn_q_a_norm.weight": ("q_lora_rank",),
            "attn_q_b.weight": (_QUERIES, "q_lora_rank"),
            "attn_kv.weight": ("head_dim", "hidden_size"),
            "attn_kv_a_norm.weight": ("head_dim",),
            "attn_output_a.weight": (_GROUPS, "group_width"),
            "attn_output_b.weight": ("hidden_size", _GROUPS),
            "ffn_norm.weight": ("hidden_size",),
        }
    ),
}
_COMPRESSOR: Shapes = layers(
    {
        "attn_compressor_kv.weight": ("overlap · head_dim", "hidden_size"),
        "attn_compressor_gate.weight": ("overlap · head_dim", "hidden_size"),
        "attn_compressor_ape.weight": ("ratio", "overlap · head_dim"),
        "attn_compressor_norm.weight": ("head_dim",),
    }
)
_INDEXER: Shapes = layers(
    {
        "indexer.proj.weight": ("index_n_heads", "hidden_size"),
        "indexer.attn_q_b.weight": ("index_n_heads · index_head_dim", "q_lora_rank"),
        "indexer_compressor_kv.weight": ("2 · index_head_dim", "hidden_size"),
        "indexer_compressor_gate.weight": ("2 · index_head_dim", "hidden_size"),
        "indexer_compressor_ape.weight": ("ratio", "2 · index_head_dim"),
        "indexer_compressor_norm.weight": ("index_head_dim",),
    }
)
_TABLE: Shapes = layers({"ffn_gate_tid2eid.weight": ("vocab_size", "num_experts_per_tok")})

_ENDS = {
    "embed": "token_embd",
    "norm": "output_norm",
    "head": "output",
    "hc_head_fn": "output_hc_fn.weight",
    "hc_head_base": "output_hc_base.weight",
    "hc_head_scale": "output_hc_scale.weight",
}
_OF_LAYERS = {
    **{name.removesuffix(".weight"): name for name in _HYPER},
    "attn_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
    "attn.attn_sink": "attn_sinks.weight",
    "attn.wq_a": "attn_q_a",
    "attn.wq_b": "attn_q_b",
    "attn.q_norm": "attn_q_a_norm",
    "attn.wkv": "attn_kv",
    "attn.kv_norm": "attn_kv_a_norm",
    "attn.wo_a": "attn_output_a",
    "attn.wo_b": "attn_output_b",
    "attn.compressor.ape": "attn_compressor_ape.weight",
    "attn.compressor.wkv": "attn_compressor_kv",
    "attn.compressor.wgate": "attn_compressor_gate",
    "attn.compressor.norm": "attn_compressor_norm",
    "attn.indexer.wq_b": "indexer.attn_q_b",
    "attn.indexer.weights_proj": "indexer.proj",
    "attn.indexer.compressor.ape": "indexer_compressor_ape.weight",
    "attn.indexer.compressor.wkv": "indexer_compressor_kv",
    "attn.indexer.compressor.wgate": "indexer_compressor_gate",
    "attn.indexer.compressor.norm": "indexer_compressor_norm",
    "ffn.gate": "ffn_gate_inp",
    "ffn.gate.bias": "exp_probs_b.bias",
    "ffn.gate.bias_vl": "exp_probs_b_vl.bias",
    "ffn.gate.tid2eid": "ffn_gate_tid2eid.weight",
    "ffn.experts.w1": "ffn_gate_exps",
    "ffn.experts.w2": "ffn_down_exps",
    "ffn.experts.w3": "ffn_up_exps",
    "ffn.shared_experts.w1": "ffn_gate_shexp",
    "ffn.shared_experts.w2": "ffn_down_shexp",
    "ffn.shared_experts.w3": "ffn_up_shexp",
}

DEEPSEEK4 = Architecture(
    name="deepseek4",
    classes=("DeepseekV4ForCausalLM",),
    layout=Layout(
        required=_TRUNK,
        optional=layers({"exp_probs_b_vl.bias": ("num_experts",)}),
        parts=(
            Part(where=_with_ratio(_INDEXED, _PLAIN), required=_COMPRESSOR),
            Part(where=_with_ratio(_INDEXED), required=_INDEXER),
            Part(where=_hashed, required=_TABLE),
            Part(where=_scored, required=BIAS),
        ),
    ),
    pairs=_pairs,
    rename=_rename,
    leaves_out=_left_out,
    rules=(
        Stack(
            names="layers.{layer}.ffn.experts.{expert}.{matrix:w1|w2|w3}.weight",
            to="layers.{layer}.ffn.experts.{matrix}.weight",
        ),
        change("layers.{layer}.ffn.gate.tid2eid", _as_int32),
    ),
    names_of="deepseek2",
    names=_ENDS
    | {f"layers.{{layer}}.{stored}": f"blk.{{layer}}.{name}" for stored, name in _OF_LAYERS.items()},
    lengths={
        "ratio": lambda config, layer: _ratios(config)[layer],
        "overlap": lambda config, layer: 2 if _ratios(config)[layer] == _INDEXED else 1,
        "group_width": lambda config, _: (
            config.need("num_attention_heads") * config.need("head_dim") // config.need("o_groups")
        ),
    },
    vocabulary=Vocabulary(kinds=("bpe",), pre=("deepseek-v3",)),
)

ALL = (DEEPSEEK4,)
