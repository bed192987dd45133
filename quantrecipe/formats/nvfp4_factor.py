"""NVFP4's factor: a float32 for each matrix, in a companion tensor that llama.cpp multiplies the matrix's products by.

The scales of NVFP4's blocks (ue4m3) go from 2^-9 to 448, which is not where the weights of models lie. Here the factor
is a power of two, by which dividing is exact, and the largest group's scale comes to lie between 120 and 240: ggml's
rounding makes 448 of all that is larger.

llama.cpp: `llama_model_base::load_tensors` (which companions are loaded).
"""

from __future__ import annotations

from math import frexp, ldexp
from typing import TYPE_CHECKING

from quantrecipe.core.kernel_format import KernelFormat

if TYPE_CHECKING:
    from quantrecipe.tensor import TensorInfo

__all__ = ["NVFP4"]

LARGEST = 6 * 240
"""The largest weight that rounding keeps near: the largest 4-bit float times the largest d below an exponent of 15."""
SMALLEST_EXPONENT = -126  # of a normal float32

SCALED_ROLES = frozenset(
    {
        "output", "attn_q", "attn_k", "attn_v", "attn_output", "attn_qkv", "attn_gate",
        "ffn_gate", "ffn_down", "ffn_up", "ffn_gate_shexp", "ffn_down_shexp", "ffn_up_shexp",
        "ffn_gate_exps", "ffn_down_exps", "ffn_up_exps",
        "ssm_in", "ssm_out", "ssm_alpha", "ssm_beta", "nextn.eh_proj", "nextn.shared_head_head",
    }
)  # fmt: skip
"""Matrices for which llama.cpp loads a companion."""


class NVFP4(KernelFormat):
    """A format of matrices that have a factor."""

    def accepts(self, tensor: TensorInfo) -> str | None:
        if tensor.role not in SCALED_ROLES:
            return "llama.cpp knows no scale for it, without which NVFP4 holds no small weights"
        return super().accepts(tensor)

    def factor(self, peak: float) -> float:
        """The smallest power of two that brings the largest weight to 1440 or less."""
        if peak == 0:
            return 1.0
        fraction, exponent = frexp(peak / LARGEST)
        return ldexp(1.0, max(exponent - (fraction == 0.5), SMALLEST_EXPONENT))
