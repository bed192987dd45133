"""Models whose first layers are dense and whose others have experts; and draft heads, which come after all layers.

    layer 0 to first_k_dense_replace - 1    ffn_gate, ffn_up, ffn_down
    the layers after these                  ffn_gate_inp, ffn_*_exps, exp_probs_b, and ffn_*_shexp for every token
    num_hidden_layers and on                a layer of the same kind with nextn.* around it, for each draft head

A draft head (multi-token prediction, llama.cpp's NextN) guesses the token after the next. Not all checkpoints have
the heads that their config.json tells of: programs that train models further leave them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import (
    EXPERTS,
    LAYERS,
    SHARED_EXPERTS,
    Table,
    count_pairs,
)
from quantrecipe.model.architectures.layout import DENSE, Part, Shapes, layers
from quantrecipe.model.architectures.layout import EXPERTS as ROUTED
from quantrecipe.model.architectures.rules import Rule, Stack, template
from quantrecipe.model.pairs import Pairs

__all__ = [
    "BIAS",
    "COUNTS",
    "DRAFT",
    "DRAFT_NAMES",
    "SHARED",
    "W_EXPERTS",
    "beyond_layers",
    "dense_count",
    "dense_then_experts",
    "draft_count",
    "draft_pairs",
    "draft_part",
    "drafts",
    "mtp_name",
    "with_drafts",
]


def dense_count(config: Config) -> int:
    """How many layers have no experts: the first ones. All, where config.json has no experts."""
    if (given := config.count("first_k_dense_replace")) is not None:
        return given
    return 0 if config.count(*EXPERTS) else config.need(*LAYERS)


def draft_count(config: Config) -> int:
    """How many draft heads there are."""
    return config.count("num_nextn_predict_layers") or 0


def draft_pairs(arch: str, config: Config) -> Pairs:
    """Make the key of the number of draft heads, where config.json tells it."""
    return count_pairs(arch, config, {"nextn_predict_layers": ("num_nextn_predict_layers",)})


def with_drafts(config: Config) -> int:
    """How many layers there are with those of the draft heads."""
    return config.need(*LAYERS) + draft_count(config)


def drafts(config: Config) -> range:
    """The layers of the draft heads."""
    return range(config.need(*LAYERS), with_drafts(config))


def mtp_name(config: Config, name: str) -> str:
    """The name of a draft head's tensor as one of a layer behind the others: "mtp.layers.0." → "model.layers.48."."""
    match = template("mtp.layers.{layer}.{rest:*}").fullmatch(name)
    if match is None:
        return name
    return f"model.layers.{config.need(*LAYERS) + int(match['layer'])}.{match['rest']}"


_SHARED_LENGTH = "num_shared_experts · moe_intermediate_size"

SHARED: Shapes = layers(
    {
        "ffn_gate_shexp.weight": (_SHARED_LENGTH, "hidden_size"),
        "ffn_up_shexp.weight": (_SHARED_LENGTH, "hidden_size"),
        "ffn_down_shexp.weight": ("hidden_size", _SHARED_LENGTH),
    }
)
"""Experts that every token is sent to, as one feed-forward network."""

BIAS: Shapes = layers({"exp_probs_b.bias": ("num_experts",)})
"""What is added to the scores of experts when they are chosen, and not when they are weighed."""

_DRAFT: Shapes = layers(
    {
        "nextn.eh_proj.weight": ("hidden_size", "2 · hidden_size"),
        "nextn.enorm.weight": ("hidden_size",),
        "nextn.hnorm.weight": ("hidden_size",),
    }
)
_DRAFT_OPTIONAL: Shapes = layers(
    {
        "nextn.embed_tokens.weight": ("vocab_size", "hidden_size"),
        "nextn.shared_head_head.weight": ("vocab_size", "hidden_size"),
        "nextn.shared_head_norm.weight": ("hidden_size",),
    }
)


def draft_part(where: Callable[[Config], Iterable[int]], required: Shapes | None = None) -> Part:
    """What the layers of draft heads have besides the tensors of a layer; `required` has an architecture's own."""
    return Part(where=where, required=_DRAFT | (required or {}), optional=_DRAFT_OPTIONAL)


DRAFT = draft_part(drafts)
"""The same for heads that config.json counts."""

DRAFT_NAMES = {
    f"model.layers.{{layer}}.{stored}": f"blk.{{layer}}.nextn.{name}"
    for stored, name in {
        "eh_proj": "eh_proj",
        "embed_tokens": "embed_tokens",
        "enorm": "enorm",
        "hnorm": "hnorm",
        "shared_head.head": "shared_head_head",
        "shared_head.norm": "shared_head_norm",
    }.items()
}
"""Names of these, for architectures whose tensor name map lacks them."""

W_EXPERTS: tuple[Rule, ...] = (
    Stack(
        names="model.layers.{layer}.block_sparse_moe.experts.{expert}.{matrix:w1|w2|w3}.weight",
        to="layers.{layer}.feed_forward.experts.{matrix}.weight",
    ),
)
"""Experts whose gate, down and up matrices are called w1, w2 and w3."""

COUNTS: Table = {
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_count": SHARED_EXPERTS,
}


def dense_then_experts(
    optional: Shapes,
    required: Shapes = ROUTED,
    count: Callable[[Config], int] = lambda config: config.need(*LAYERS),
    dense: Callable[[Config], int] = dense_count,
) -> tuple[Part, ...]:
    """The feed-forward networks of `count` layers. `required` and `optional` are tensors of those with experts."""

    def first(config: Config) -> Iterable[int]:
        return range(min(dense(config), count(config)))

    def others(config: Config) -> Iterable[int]:
        return range(dense(config), count(config))

    return (Part(where=first, required=DENSE), Part(where=others, required=required, optional=optional))


def beyond_layers(config: Config, name: str) -> bool:
    """A tensor of a draft head, of an architecture whose GGUFs have none."""
    match = template("model.layers.{layer}.{rest:*}").fullmatch(name)
    return match is not None and int(match["layer"]) >= config.need(*LAYERS)
