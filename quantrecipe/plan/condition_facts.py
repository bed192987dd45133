"""The facts that a recipe's `when` may ask for: of the model, and of a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantrecipe.model.model import Model
from quantrecipe.tensor import TensorInfo

__all__ = ["model_facts", "tensor_facts"]


def model_facts(model: Model, *, has_importance: bool) -> dict[str, Any]:
    """The facts of a model, by the names that conditions use: arch, n_layers, n_blocks, n_expert, n_gqa and so on."""
    return {
        "arch": model.arch,
        "n_layers": model.n_layers,
        "n_blocks": model.n_blocks,
        "n_expert": model.number("expert_count"),
        "n_gqa": _gqa(model),
        "tied_embeddings": model.head == "token_embd.weight",
        "has_importance": has_importance,
    }


def tensor_facts(
    tensor: TensorInfo, *, rank: int, count: int, covered: bool, source_type: str
) -> Mapping[str, Any]:
    """The facts of a tensor, by the names that conditions use.

    rank, count: its place among the tensors that the rule names, and how many these are
    source_type: see Model.source_type
    """
    return {
        "layer": tensor.layer,
        "rank": rank,
        "count": count,
        "rows": tensor.rows,
        "cols": tensor.cols,
        "dims": len(tensor.shape),
        "experts": tensor.experts,
        "covered": covered,
        "source_type": source_type,
    }


def _gqa(model: Model) -> int:
    """How many query heads share a key-value head in layer 0; 0 where that layer has no key-value heads.

    llama.cpp: a model that says nothing of key-value heads has one for each query head.
    """
    heads = model.number("attention.head_count")
    kv_heads = model.number("attention.head_count_kv", heads)
    return heads // kv_heads if kv_heads else 0
