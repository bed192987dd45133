"""A small runnable model with latent attention (MLA) and experts, as llama.cpp's converter makes DeepSeek-V2's: a stack
of matrices in each layer that isn't by expert (attn_k_b, attn_v_b), which no Hugging Face folder here has."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from quantrecipe.gguf.header import TensorEntry, read_header
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header, padded

_WIDTH, _EXPERTS = 64, 4
_NUMBERS = {
    "block_count": 2,
    "context_length": 4096,
    "embedding_length": _WIDTH,
    "feed_forward_length": 96,
    "attention.head_count": 4,
    "attention.head_count_kv": 1,
    "expert_count": _EXPERTS,
    "expert_used_count": 2,
    "expert_gating_func": 1,
    "leading_dense_block_count": 1,
    "attention.key_length": 40,
    "attention.value_length": 32,
    "attention.q_lora_rank": 32,
    "attention.kv_lora_rank": 32,
    "attention.key_length_mla": 24,
    "attention.value_length_mla": 16,
    "expert_feed_forward_length": 32,
    "expert_shared_count": 2,
    "rope.dimension_count": 8,
}
_FLOATS = {
    "rope.freq_base": 10000.0,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "expert_weights_scale": 1.0,
}
_ATTENTION = {
    "attn_norm": (_WIDTH,),
    "ffn_norm": (_WIDTH,),
    "attn_kv_a_norm": (32,),
    "attn_kv_a_mqa": (40, _WIDTH),
    "attn_k_b": (4, 32, 16),
    "attn_v_b": (4, 16, 32),
    "attn_output": (_WIDTH, _WIDTH),
    "attn_q_a_norm": (32,),
    "attn_q_a": (32, _WIDTH),
    "attn_q_b": (96, 32),
}
_DENSE = {"ffn_down": (_WIDTH, 96), "ffn_gate": (96, _WIDTH), "ffn_up": (96, _WIDTH)}
_SPARSE = {
    "ffn_gate_inp": (_EXPERTS, _WIDTH),
    "ffn_down_exps": (_EXPERTS, _WIDTH, 32),
    "ffn_gate_exps": (_EXPERTS, 32, _WIDTH),
    "ffn_up_exps": (_EXPERTS, 32, _WIDTH),
    "ffn_down_shexp": (_WIDTH, 64),
    "ffn_gate_shexp": (64, _WIDTH),
    "ffn_up_shexp": (64, _WIDTH),
}


def write_latent_attention(path: Path, vocabulary: Path, *, broken: str = "") -> None:
    """The model with random weights in F32, and the vocabulary of another GGUF. `broken`: a tensor of NaN alone."""
    theirs = {
        key: value for key, value in read_header(vocabulary).metadata.items() if key.startswith("tokenizer.")
    }
    tokens = len(theirs["tokenizer.ggml.tokens"].decode())
    metadata = {
        "general.architecture": GGUFValue.of(ValueType.STRING, "deepseek2"),
        **{f"deepseek2.{key}": GGUFValue.of(ValueType.UINT32, number) for key, number in _NUMBERS.items()},
        **{f"deepseek2.{key}": GGUFValue.of(ValueType.FLOAT32, number) for key, number in _FLOATS.items()},
        "deepseek2.vocab_size": GGUFValue.of(ValueType.UINT32, tokens),
        **theirs,
    }
    shapes = {"token_embd": (tokens, _WIDTH), "output_norm": (_WIDTH,), "output": (tokens, _WIDTH)}
    for layer, rest in enumerate((_DENSE, _SPARSE)):
        shapes |= {f"blk.{layer}.{role}": shape for role, shape in (_ATTENTION | rest).items()}
    rng = np.random.default_rng(0)
    entries, data = [], b""
    for name, shape in shapes.items():
        scale = shape[-1] ** -0.5
        values = (
            rng.standard_normal(shape) * scale if len(shape) > 1 else 1 + 0.1 * rng.standard_normal(shape)
        )
        values = np.full(shape, np.nan) if name == broken else values
        raw = values.astype("<f4").tobytes()
        entries.append(TensorEntry(name=f"{name}.weight", shape=shape, ggml_type=0, offset=len(data)))
        data += raw.ljust(padded(len(raw), 32), b"\0")
    path.write_bytes(encode_header(metadata, entries) + data)
