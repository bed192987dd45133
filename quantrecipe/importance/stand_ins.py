"""Entries that stand in for others, since both matrices are multiplied by the same inputs.

Some files have matrices in one that others have apart: `ffn_gate_up_exps` or `ffn_gate_exps` and `ffn_up_exps`,
`attn_qkv` or `attn_q`, `attn_k` and `attn_v`. Importance is about inputs alone, and they see the same ones, so a matrix
made with one kind of file holds what the other kind needs: the same sums, the same counts, expert by expert.

Of latent attention (MLA), older files have `attn_kv_b`, and newer ones `attn_k_b` and `attn_v_b`, with a matrix for
each head. The matrices of `attn_v_b` are rows of `attn_kv_b` as they were. They are multiplied by averages of what
`attn_kv_b` is multiplied by, the compressed keys and values, so all heads take its one vector: the inputs aren't the
same, but they have the same columns. ik_llama.cpp does so, too (its pull request 250). `attn_k_b` is transposed: it is
multiplied by queries, of which `attn_kv_b` says nothing, so nothing stands in for it.

Origin of the facts: llama.cpp b11312, src/llama-graph.cpp (build_qkv, build_ffn, build_moe_ffn) and
src/models/qwen3next.cpp (`ssm_in` of older files is `attn_qkv` and `attn_gate` of newer ones; `ssm_ba` is `ssm_alpha`
and `ssm_beta`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quantrecipe.tensor import TensorInfo

__all__ = ["SHARED", "STAND_INS", "stand_ins"]

STAND_INS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "attn_q": ("attn_qkv",),
        "attn_k": ("attn_qkv",),
        "attn_v": ("attn_qkv",),
        "attn_qkv": ("attn_q", "attn_k", "attn_v", "ssm_in"),
        "attn_v_b": ("attn_kv_b",),
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


SHARED = frozenset({"attn_v_b"})
"""Roles whose stand-in has one vector, which each of their stacked matrices takes."""


def stand_ins(tensor: TensorInfo) -> tuple[str, ...]:
    """Names of the entries that may stand in for the tensor's own; none outside the blocks."""
    if tensor.layer is None or tensor.name != f"blk.{tensor.layer}.{tensor.role}.weight":
        return ()
    return tuple(f"blk.{tensor.layer}.{role}.weight" for role in STAND_INS.get(tensor.role, ()))
