"""PLM: DeepSeek's latent attention with kv_b_proj as it is stored, and a feed-forward network without a gate.

The embedding is the output, always: llama.cpp doesn't load a PLM with another. llama.cpp
(llama-cpp-python 0.3.36) opens one, but stops when it is used, unless flash attention is off (`--flash-attn off`).
"""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.layout import FEED_FORWARD_NORM, FRAME, NO_GATE, Layout, layers
from quantrecipe.model.architectures.rules import tied_output
from quantrecipe.model.pairs import Pairs, u32
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_HEADS, _NOPE, _ROPE = "num_attention_heads", "qk_nope_head_dim", "qk_rope_head_dim"

_ATTENTION = layers(
    {
        "attn_q.weight": (f"{_HEADS} · {_NOPE} + {_HEADS} · {_ROPE}", "hidden_size"),
        "attn_kv_a_mqa.weight": (f"kv_lora_rank + {_ROPE}", "hidden_size"),
        "attn_kv_a_norm.weight": ("kv_lora_rank",),
        "attn_kv_b.weight": (f"{_HEADS} · {_NOPE} + {_HEADS} · v_head_dim", "kv_lora_rank"),
        "attn_output.weight": ("hidden_size", f"{_HEADS} · v_head_dim"),
    }
)


def _pairs(config: Config) -> Pairs:
    turning = config.need(_ROPE)
    return {
        "plm.vocab_size": u32(config.need("vocab_size")),
        "plm.attention.kv_lora_rank": u32(config.need("kv_lora_rank")),
        "plm.attention.key_length": u32(config.need(_NOPE) + turning),
        "plm.attention.value_length": u32(config.need("v_head_dim")),
        "plm.rope.dimension_count": u32(turning),
    }


PLM = Architecture(
    name="plm",
    classes=("PLMForCausalLM",),
    layout=Layout(required=FRAME | FEED_FORWARD_NORM | _ATTENTION | NO_GATE),
    default_theta=None,
    pairs=_pairs,
    leaves_out=tied_output,
    vocabulary=Vocabulary(kinds=("bpe",)),
)

ALL = (PLM,)
