"""Multi-head latent attention (MLA): keys and values of all heads come from one short vector per token.

    stored                              in the GGUF
    kv_a_proj_with_mqa (rank + rope, hidden)      attn_kv_a_mqa
    kv_b_proj (heads · (nope + v), rank)      ┬▶  attn_k_b (heads, rank, nope), transposed
                                              └▶  attn_v_b (heads, v, rank)

With k_b on the query's side and v_b behind the attention, all heads share one key, which is the vector itself: to
llama.cpp, such a model has one key-value head of the length rank + rope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import HEADS, LAYERS, count_pairs
from quantrecipe.model.architectures.layout import Part, Shapes, layers
from quantrecipe.model.architectures.rules import Each, Found, Named
from quantrecipe.model.pairs import Pairs, u32
from quantrecipe.model.source import layout
from quantrecipe.model.source.layout import Transpose
from quantrecipe.model.source.source import fail

__all__ = ["LATENT", "NAMES", "SPLIT", "latent_pairs", "one_key_value_head", "queries", "split"]

_STEM = "model.layers.{layer}.self_attn"
_QUERY_ROWS = "num_attention_heads · qk_nope_head_dim + num_attention_heads · qk_rope_head_dim"

LATENT: Shapes = layers(
    {
        "attn_kv_a_norm.weight": ("kv_lora_rank",),
        "attn_kv_a_mqa.weight": ("kv_lora_rank + qk_rope_head_dim", "hidden_size"),
        "attn_k_b.weight": ("num_attention_heads", "kv_lora_rank", "qk_nope_head_dim"),
        "attn_v_b.weight": ("num_attention_heads", "v_head_dim", "kv_lora_rank"),
        "attn_output.weight": ("hidden_size", "num_attention_heads · v_head_dim"),
    }
)

_LOW_RANK: Shapes = layers(
    {
        "attn_q_a_norm.weight": ("q_lora_rank",),
        "attn_q_a.weight": ("q_lora_rank", "hidden_size"),
        "attn_q_b.weight": (_QUERY_ROWS, "q_lora_rank"),
    }
)
_FULL_RANK: Shapes = layers({"attn_q.weight": (_QUERY_ROWS, "hidden_size")})

NAMES = {
    f"{_STEM}.{stored}": f"blk.{{layer}}.{name}"
    for stored, name in {
        "q_a_proj": "attn_q_a",
        "q_a_layernorm": "attn_q_a_norm",
        "q_b_proj": "attn_q_b",
        "kv_a_proj_with_mqa": "attn_kv_a_mqa",
        "kv_a_layernorm": "attn_kv_a_norm",
        "k_b_proj": "attn_k_b",
        "v_b_proj": "attn_v_b",
    }.items()
}
"""Names of these tensors, for architectures that gguf doesn't have."""


def split(it: Found) -> list[Named]:
    """What kv_b_proj becomes: the matrices of keys and of values. ModelError where it isn't of whole heads."""
    heads = it.config.need(*HEADS)
    nope, values = it.config.need("qk_nope_head_dim"), it.config.need("v_head_dim")
    if it.source.rows != heads * (nope + values) or len(it.source.shape) != 2:
        fail(it.source, f"isn't of {heads} heads with {nope} rows of keys and {values} of values each")
    by_head = layout.reshape(it.source, (heads, nope + values, it.source.cols))
    keys, rest = layout.rows(by_head, 0, nope), layout.rows(by_head, nope, nope + values)
    stem = it.name.removesuffix("kv_b_proj.weight")
    return [(f"{stem}k_b_proj.weight", Transpose(source=keys)), (f"{stem}v_b_proj.weight", rest)]


SPLIT = Each(names=_STEM + ".kv_b_proj.weight", make=split)


def _all_layers(config: Config) -> Iterable[int]:
    return range(config.need(*LAYERS))


def queries(where: Callable[[Config], Iterable[int]] = _all_layers) -> tuple[Part, Part]:
    """The query's matrices: two of low rank, or one where config.json has no q_lora_rank."""
    return (
        Part(where=lambda it: where(it) if it.count("q_lora_rank") else (), required=_LOW_RANK),
        Part(where=lambda it: () if it.count("q_lora_rank") else where(it), required=_FULL_RANK),
    )


def one_key_value_head(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Hyper-parameters as a GGUF is to have them."""
    return {**values, "num_key_value_heads": 1}


def latent_pairs(arch: str, config: Config) -> Pairs:
    """Make the keys of ranks and lengths: of the shared key and value, and of the heads' own."""
    rank, rope = config.need("kv_lora_rank"), config.count("qk_rope_head_dim") or 0
    return count_pairs(arch, config, {"attention.q_lora_rank": ("q_lora_rank",)}) | {
        f"{arch}.attention.kv_lora_rank": u32(rank),
        f"{arch}.attention.key_length": u32(rank + rope),
        f"{arch}.attention.value_length": u32(rank),
        f"{arch}.attention.key_length_mla": u32(config.need("qk_nope_head_dim") + rope),
        f"{arch}.attention.value_length_mla": u32(config.need("v_head_dim")),
    }
