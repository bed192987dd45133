"""Entries that stand in for others, since both matrices are multiplied by the same inputs.

Some files have matrices in one that others have apart: `ffn_gate_up_exps` or `ffn_gate_exps` and `ffn_up_exps`,
`attn_qkv` or `attn_q`, `attn_k` and `attn_v`. Importance is about inputs alone, and they see the same ones, so a matrix
made with one kind of file holds what the other kind needs: the same sums, the same counts, expert by expert.

`attn_kv_b` isn't here: `attn_k_b` and `attn_v_b`, which llama.cpp makes of it, are multiplied by queries and by
attention's output, and `attn_kv_b` by compressed keys.

Origin of the facts: llama.cpp b11312, src/llama-graph.cpp (build_qkv, build_ffn, build_moe_ffn) and
src/models/qwen3next.cpp (`ssm_in` of older files is `attn_qkv` and `attn_gate` of newer ones; `ssm_ba` is `ssm_alpha`
and `ssm_beta`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quantrecipe.tensor import TensorInfo

__all__ = ["STAND_INS", "stand_ins"]

STAND_INS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "attn_q": ("attn_qkv",),
        "attn_k": ("attn_qkv",),
        "attn_v": ("attn_qkv",),
        "attn_qkv": ("attn_q", "attn_k", "attn_v", "ssm_in"),
        "attn_gate": ("ssm_in",),
        "ssm_in": ("attn_qkv", "attn_gate"),
        "ssm_alpha": ("ssm_ba",),
        "ssm_beta": ("ssm_ba",),
        "ssm_ba": ("ssm_alpha", "ssm_beta"),
        "ffn_gate": ("ffn_gate_up", "ffn_up"),  # in Phi-3 and others, ffn_up is both
        "ffn_up": ("ffn_gate_up",),
        "ffn_gate_up": ("ffn_up", "ffn_gate"),
        "ffn_gate_exps": ("ffn_gate_up_exps",),
        "ffn_up_exps": ("ffn_gate_up_exps",),
        "ffn_gate_up_exps": ("ffn_gate_exps", "ffn_up_exps"),
    }
)
"""By role, the roles whose entries stand in, the first that is there and fits before the others."""


def stand_ins(tensor: TensorInfo) -> tuple[str, ...]:
    """Names of the entries that may stand in for the tensor's own; none outside the blocks."""
    if tensor.layer is None or tensor.name != f"blk.{tensor.layer}.{tensor.role}.weight":
        return ()
    return tuple(f"blk.{tensor.layer}.{role}.weight" for role in STAND_INS.get(tensor.role, ()))
