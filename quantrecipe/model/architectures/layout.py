"""Layout: the tensors that llama.cpp loads of an architecture, and their shapes in the words of config.json.

Tensors go by their names in the GGUF, `{layer}` stands for the number of a layer. A shape is a tuple of lengths,
slowest first. A length is a sum of products: "num_attention_heads · head_dim", "2 · intermediate_size + 64 · n_groups".
Its words are hyper-parameters of config.json, those of the table below, which have several names there or follow from
others, and those of the architecture itself. Where a matrix may have one length or another, llama.cpp's loader decides:
it is what has to open the file.

Source: llama.cpp, src/models/*.cpp, load_arch_tensors: which tensors are created, and which are TENSOR_NOT_REQUIRED.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import TypeAlias

from quantrecipe.model.architectures import hyperparameters as hyper
from quantrecipe.model.architectures.config import Config

__all__ = [
    "DENSE",
    "DENSE_BIASES",
    "EXPERTS",
    "FEED_FORWARD_NORM",
    "FRAME",
    "FUSED",
    "FUSED_BIASES",
    "HEAD",
    "KV",
    "NORM_BIASES",
    "NO_GATE",
    "NO_GATE_BIASES",
    "POST_NORMS",
    "QK_NORMS",
    "WIDE_EXPERTS",
    "Layout",
    "Length",
    "Part",
    "Q",
    "Shapes",
    "attention",
    "biases",
    "layers",
    "length",
    "nowhere",
    "self_attention",
    "without_head",
]

Shapes: TypeAlias = dict[str, tuple[str, ...]]
"""Name of a tensor in the GGUF → its shape. `{layer}` stands for the number of a layer; () is any shape."""

Length: TypeAlias = Callable[[Config, int], int]
"""The configuration and the layer (0 where there is none) → a length."""

_HIDDEN, _FF, _EXPERT_FF = "hidden_size", "intermediate_size", "moe_intermediate_size"
Q, KV = "num_attention_heads · head_dim", "num_key_value_heads · head_dim"


def nowhere(config: Config) -> Iterable[int]:
    return ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Tensors that only some of the layers have.

    where: the numbers of these layers
    loose: True where each of the layers may have the optional ones or not
    """

    where: Callable[[Config], Iterable[int]]
    required: Shapes = field(default_factory=dict)
    optional: Shapes = field(default_factory=dict)
    loose: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Which tensors have to be there, and which may be.

    required: without these llama.cpp can't load the model; of all layers
    optional: it takes these, too; all others it refuses
    parts:    tensors of some layers
    drafts:   the layers of draft heads: llama.cpp loads a model without any of their tensors, too
    present:  the layers that a file has, where it hasn't all
    """

    required: Shapes = field(default_factory=dict)
    optional: Shapes = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    drafts: Callable[[Config], Iterable[int]] = nowhere
    present: Callable[[Config], Iterable[int]] | None = None


def layers(shapes: Shapes) -> Shapes:
    """Make tensors of a layer the tensors of each layer."""
    return {f"blk.{{layer}}.{name}": shape for name, shape in shapes.items()}


def attention(q: str = Q, norms: tuple[str, ...] = ("attn_norm", "ffn_norm")) -> Shapes:
    """Embedding, attention, and a layer's norms.

    `q` is the number of q's rows: for some, llama.cpp wants hidden_size.
    """
    around = {"token_embd.weight": ("vocab_size", _HIDDEN), "output_norm.weight": (_HIDDEN,)}
    return around | layers({f"{norm}.weight": (_HIDDEN,) for norm in norms}) | self_attention(q)


def self_attention(q: str = Q) -> Shapes:
    """The four matrices of attention, for models that have it in some layers only."""
    return layers(
        {
            "attn_q.weight": (q, _HIDDEN),
            "attn_k.weight": (KV, _HIDDEN),
            "attn_v.weight": (KV, _HIDDEN),
            "attn_output.weight": (_HIDDEN, q),
        }
    )


def biases(q: str = Q) -> Shapes:
    """The biases of q, k and v."""
    return layers({f"attn_{name}.bias": (rows,) for name, rows in {"q": q, "k": KV, "v": KV}.items()})


FRAME: Shapes = {
    "token_embd.weight": ("vocab_size", _HIDDEN),
    "output_norm.weight": (_HIDDEN,),
} | layers({"attn_norm.weight": (_HIDDEN,)})
"""Embedding, last norm, and the norm in front of each layer, whatever it is made of."""

HEAD: Shapes = {"output.weight": ("vocab_size", _HIDDEN)}
"""The output: the embedding stands in where it is missing."""

QK_NORMS: Shapes = layers({"attn_q_norm.weight": ("head_dim",), "attn_k_norm.weight": ("head_dim",)})

POST_NORMS: Shapes = layers({"post_attention_norm.weight": (_HIDDEN,), "post_ffw_norm.weight": (_HIDDEN,)})
"""Norms behind attention and feed-forward."""

DENSE: Shapes = layers(
    {
        "ffn_gate.weight": (_FF, _HIDDEN),
        "ffn_up.weight": (_FF, _HIDDEN),
        "ffn_down.weight": (_HIDDEN, _FF),
    }
)

DENSE_BIASES: Shapes = layers({"ffn_gate.bias": (_FF,), "ffn_up.bias": (_FF,), "ffn_down.bias": (_HIDDEN,)})

EXPERTS: Shapes = layers(
    {
        "ffn_gate_inp.weight": ("num_experts", _HIDDEN),
        "ffn_gate_exps.weight": ("num_experts", _EXPERT_FF, _HIDDEN),
        "ffn_up_exps.weight": ("num_experts", _EXPERT_FF, _HIDDEN),
        "ffn_down_exps.weight": ("num_experts", _HIDDEN, _EXPERT_FF),
    }
)
"""Router and stacks of experts."""

WIDE_EXPERTS: Shapes = layers(
    {
        "ffn_gate_inp.weight": ("num_experts", _HIDDEN),
        "ffn_gate_exps.weight": ("num_experts", _FF, _HIDDEN),
        "ffn_down_exps.weight": ("num_experts", _HIDDEN, _FF),
        "ffn_up_exps.weight": ("num_experts", _FF, _HIDDEN),
    }
)
"""The same, of experts for which config.json has no length of their own."""

_QKV = f"{_HIDDEN} + 2 · {KV}"
FUSED: Shapes = layers({"attn_qkv.weight": (_QKV, _HIDDEN), "attn_output.weight": (_HIDDEN, _HIDDEN)})
"""Attention with the rows of q, k and v in one matrix, as older models have it."""

FUSED_BIASES: Shapes = layers({"attn_qkv.bias": (_QKV,), "attn_output.bias": (_HIDDEN,)})

FEED_FORWARD_NORM: Shapes = layers({"ffn_norm.weight": (_HIDDEN,)})

NORM_BIASES: Shapes = {"output_norm.bias": (_HIDDEN,)} | layers(
    {"attn_norm.bias": (_HIDDEN,), "ffn_norm.bias": (_HIDDEN,)}
)
"""What LayerNorm has besides its weights."""

NO_GATE: Shapes = layers({"ffn_up.weight": (_FF, _HIDDEN), "ffn_down.weight": (_HIDDEN, _FF)})
"""A feed-forward network without a gate."""

NO_GATE_BIASES: Shapes = layers({"ffn_up.bias": (_FF,), "ffn_down.bias": (_HIDDEN,)})


def without_head(layout: Layout) -> Layout:
    """Make the layout of a model that has no output: an embedding model, or one whose output is another."""
    return replace(layout, optional={name: it for name, it in layout.optional.items() if name not in HEAD})


def length(config: Config, expression: str, layer: int, own: Mapping[str, Length]) -> int:
    """A length in a Layout. ModelError where config.json doesn't give what it takes."""
    return sum(
        prod(_word(config, word.strip(), layer, own) for word in product.split("·"))
        for product in expression.split("+")
    )


def _word(config: Config, word: str, layer: int, own: Mapping[str, Length]) -> int:
    if word in own:
        return own[word](config, layer)
    if word in _LENGTHS:
        return _LENGTHS[word](config, layer)
    return int(word) if word.isdecimal() else config.need(word)


def _kv_heads(config: Config, layer: int) -> int:
    given = config.find(*hyper.KV_HEADS) is not None
    return config.at(layer, *hyper.KV_HEADS) if given else config.at(layer, *hyper.HEADS)


def _expert_length(config: Config, layer: int) -> int:
    given = config.count("moe_intermediate_size")
    return given or config.at(layer, *hyper.FEED_FORWARD) // config.need(*hyper.EXPERTS_USED)


_LENGTHS: Mapping[str, Length] = {
    "vocab_size": lambda config, layer: config.need("vocab_size"),
    "hidden_size": lambda config, layer: config.need(*hyper.HIDDEN),
    "intermediate_size": lambda config, layer: config.at(layer, *hyper.FEED_FORWARD),
    "num_hidden_layers": lambda config, layer: config.need(*hyper.LAYERS),
    "num_attention_heads": lambda config, layer: config.at(layer, *hyper.HEADS),
    "num_key_value_heads": _kv_heads,
    "head_dim": lambda config, layer: hyper.head_dim(config),
    "head_dim / 2": lambda config, layer: hyper.head_dim(config) // 2,
    "num_experts": lambda config, layer: config.need(*hyper.EXPERTS),
    "num_shared_experts": lambda config, layer: config.count(*hyper.SHARED_EXPERTS) or 0,
    "moe_intermediate_size": _expert_length,
    "shared_expert_intermediate_size": lambda config, layer: (
        config.count("shared_expert_intermediate_size") or config.at(layer, *hyper.FEED_FORWARD)
    ),
}
