"""TensorInfo: what is known of a tensor without reading its weights."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

__all__ = [
    "F32_ROLES",
    "MAX_DIMS",
    "TensorInfo",
    "head_name",
    "is_table",
    "nextn_layers",
    "split_name",
    "tensor_order",
]

MAX_DIMS = 4
"""Dimensions of a tensor that llama.cpp reads (ggml: GGML_MAX_DIMS). GGUFs for other programs may have more."""

F32_ROLES = frozenset(
    {
        "ffn_gate_inp",
        "ffn_gate_inp_shexp",
        "position_embd",
        "token_types",
        "ssm_conv1d",
        "ssm_conv1d_q",
        "ssm_conv1d_k",
        "ssm_conv1d_v",
        "shortconv.conv",
        "time_mix_first",
        "time_mix_w1",
        "time_mix_w2",
        "time_mix_decay_w1",
        "time_mix_decay_w2",
        "time_mix_lerp_fused",
        "altup_correct_coef",
        "altup_predict_coef",
        "indexer.proj",
    }
)
"""Matrices that llama.cpp's converter makes F32 whatever the source has, since its kernels expect it; so it does with
1-D tensors, and names without `.weight` (conversion/base.py, prepare_tensors)."""

_TABLES = ("token_embd", "per_layer_token_embd", "token_types", "position_embd")
"""What llama.cpp looks rows up in (ggml: GET_ROWS). Tables of n-grams are a part of per_layer_token_embd."""

_IN_BLOCK = re.compile(r"blk\.([0-9]{1,9})\.(.+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorInfo:
    """A tensor as it is called in the GGUF.

    `shape` is in NumPy's order, slowest first: (rows, columns), or (experts, rows, columns); GGUF files
    write the same numbers the other way round. `dtype` is the ggml name of the source type ("BF16",
    "Q8_0"). `layer` is the block number (`blk.N.`), None outside the blocks. `role` is the name without
    block and `.weight`: "attn_v", "ffn_down_exps", "attn_q.bias", "output".
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layer: int | None
    role: str

    @classmethod
    def from_name(cls, name: str, shape: tuple[int, ...], dtype: str) -> TensorInfo:
        """A TensorInfo whose layer and role are read off its GGUF name."""
        layer, role = split_name(name)
        return cls(name=name, shape=shape, dtype=dtype, layer=layer, role=role)

    @property
    def cols(self) -> int:
        """The length of a row, which is the number of inputs of a matrix."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        """How many rows one matrix has; in a stack, the matrix of one expert."""
        return self.shape[-2] if len(self.shape) > 1 else 1

    @property
    def experts(self) -> int:
        """How many matrices are stacked; 1 for an ordinary matrix."""
        return prod(self.shape[:-2])

    @property
    def size(self) -> int:
        """How many weights there are."""
        return prod(self.shape)


def split_name(name: str) -> tuple[int | None, str]:
    """ "blk.7.attn_v.weight" → (7, "attn_v"); "output_norm.bias" → (None, "output_norm.bias")."""
    layer, rest = None, name
    if match := _IN_BLOCK.fullmatch(name):
        layer, rest = int(match[1]), match[2]
    return layer, rest.removesuffix(".weight")


def head_name(tensors: Iterable[TensorInfo]) -> str | None:
    """Name of the tensor that makes the logits: the output matrix, or the embedding that stands in for it."""
    names = {tensor.name for tensor in tensors}
    return next((name for name in ("output.weight", "token_embd.weight") if name in names), None)


def is_table(tensor: TensorInfo, head: str | None) -> bool:
    """True for a table of which each token reads a row. One that makes the logits, too, is read whole, and is none.

    head: name of the tensor that makes the logits
    """
    return tensor.role in _TABLES and tensor.name != head


def nextn_layers(tensors: Iterable[TensorInfo]) -> set[int]:
    """Numbers of the blocks for next-token prediction (MTP), which a calibration run doesn't go through."""
    return {it.layer for it in tensors if it.layer is not None and it.role.startswith("nextn.")}


def tensor_order(tensor: TensorInfo) -> tuple[int, str]:
    """Sort key of the order in which tensors are ranked and written: outside the blocks first, then by layer, name."""
    return (-1 if tensor.layer is None else tensor.layer, tensor.name)
