"""The facts that a recipe's `when` may ask for: of the model, and of a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantrecipe.model.model import Model
from quantrecipe.tensor import TensorInfo, head_name

__all__ = ["head_of", "model_facts", "tensor_facts"]


def head_of(model: Model) -> str | None:
    """Name of the tensor that makes the logits: the output matrix, or the embedding that stands in for it."""
    return head_name(model.tensors)


def model_facts(model: Model, *, has_importance: bool) -> dict[str, Any]:
    """arch, n_layers, n_blocks, n_expert, n_gqa, tied_embeddings, has_importance."""
    n_blocks = _number(model, "block_count")
    if n_blocks is None:  # a file without hyper-parameters still has its tensors
        n_blocks = max((t.layer + 1 for t in model.tensors if t.layer is not None), default=0)
    return {
        "arch": model.arch,
        "n_layers": n_blocks - (_number(model, "nextn_predict_layers") or 0),
        "n_blocks": n_blocks,
        "n_expert": _number(model, "expert_count") or 0,
        "n_gqa": _gqa(model),
        "tied_embeddings": head_of(model) == "token_embd.weight",
        "has_importance": has_importance,
    }


def tensor_facts(tensor: TensorInfo, *, rank: int, count: int, covered: bool) -> Mapping[str, Any]:
    """layer, rank, count, rows, cols, dims, experts, covered."""
    return {
        "layer": tensor.layer,
        "rank": rank,
        "count": count,
        "rows": tensor.rows,
        "cols": tensor.cols,
        "dims": len(tensor.shape),
        "experts": tensor.experts,
        "covered": covered,
    }


def _gqa(model: Model) -> int:
    """How many query heads share a key-value head in layer 0; 0 where that layer has no key-value heads."""
    heads = _number(model, "attention.head_count")
    kv_heads = _number(model, "attention.head_count_kv")
    if heads is None:
        return 0
    if kv_heads is None:
        return 1
    return heads // kv_heads if kv_heads else 0


def _number(model: Model, key: str) -> int | None:
    """A hyper-parameter; layer 0's where it is given layer by layer."""
    value = model.metadata.get(f"{model.arch}.{key}")
    if value is None:
        return None
    number = value.decode()
    if isinstance(number, list):
        number = number[0] if number else 0
    return int(number)
