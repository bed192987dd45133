"""Layout: the tensors that llama.cpp loads of an architecture, and their shapes in the words of config.json.

Tensors go by their usual names on Hugging Face; the tensor name map, which knows all the others, makes GGUF
names of them. A shape is a tuple of names of lengths, slowest first; `length` works them out of
config.json as llama.cpp works them out of the GGUF. Where a matrix may
have one length or another, llama.cpp's loader decides: it is what has to open the file.

Source: llama.cpp, src/models/*.cpp, load_arch_tensors: which tensors are created, and which are TENSOR_NOT_REQUIRED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from quantrecipe.model.architectures import hyperparameters as hyper
from quantrecipe.model.architectures.config import Config

__all__ = [
    "DENSE",
    "EXPERTS",
    "HEAD",
    "QK_NORMS",
    "Layout",
    "Shapes",
    "attention",
    "biases",
    "layers",
    "length",
]

Shapes: TypeAlias = dict[str, tuple[str, ...]]
"""Name of a tensor → its shape. `{layer}` stands for the number of a layer."""

_HIDDEN, _FF, _EXPERT_FF = "hidden_size", "intermediate_size", "moe_intermediate_size"
_Q, _KV = "num_attention_heads · head_dim", "num_key_value_heads · head_dim"


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Which tensors have to be there, and which may be.

    required: without these llama.cpp can't load the model
    optional: it takes these, too; all others it refuses
    """

    required: Shapes
    optional: Shapes = field(default_factory=dict)


def layers(shapes: Shapes) -> Shapes:
    """Make tensors of a layer the tensors of each layer."""
    return {f"model.layers.{{layer}}.{name}": shape for name, shape in shapes.items()}


def attention(q: str = _Q) -> Shapes:
    """Embedding, norms and attention. `q` is the number of q's rows: for some, llama.cpp wants hidden_size."""
    return {
        "model.embed_tokens.weight": ("vocab_size", _HIDDEN),
        "model.norm.weight": (_HIDDEN,),
    } | layers(
        {
            "input_layernorm.weight": (_HIDDEN,),
            "self_attn.q_proj.weight": (q, _HIDDEN),
            "self_attn.k_proj.weight": (_KV, _HIDDEN),
            "self_attn.v_proj.weight": (_KV, _HIDDEN),
            "self_attn.o_proj.weight": (_HIDDEN, q),
            "post_attention_layernorm.weight": (_HIDDEN,),
        }
    )


def biases(q: str = _Q) -> Shapes:
    """The biases of q, k and v."""
    return layers(
        {f"self_attn.{name}_proj.bias": (rows,) for name, rows in {"q": q, "k": _KV, "v": _KV}.items()}
    )


HEAD: Shapes = {"lm_head.weight": ("vocab_size", _HIDDEN)}
"""The output: the embedding stands in where it is missing."""

QK_NORMS: Shapes = layers(
    {"self_attn.q_norm.weight": ("head_dim",), "self_attn.k_norm.weight": ("head_dim",)}
)

DENSE: Shapes = layers(
    {
        "mlp.gate_proj.weight": (_FF, _HIDDEN),
        "mlp.up_proj.weight": (_FF, _HIDDEN),
        "mlp.down_proj.weight": (_HIDDEN, _FF),
    }
)

EXPERTS: Shapes = layers(
    {
        "mlp.gate.weight": ("num_experts", _HIDDEN),
        "mlp.experts.gate_proj.weight": ("num_experts", _EXPERT_FF, _HIDDEN),
        "mlp.experts.up_proj.weight": ("num_experts", _EXPERT_FF, _HIDDEN),
        "mlp.experts.down_proj.weight": ("num_experts", _HIDDEN, _EXPERT_FF),
    }
)
"""Router and stacks of Qwen's experts."""


def length(config: Config, name: str) -> int:
    """A length by its name in a Layout. ModelError where config.json doesn't give what it takes."""
    return _LENGTHS[name](config)


def _kv_heads(config: Config) -> int:
    return (
        config.need(*hyper.HEADS) if config.count(*hyper.KV_HEADS) is None else config.need(*hyper.KV_HEADS)
    )


def _expert_length(config: Config) -> int:
    given = config.count("moe_intermediate_size")
    return given or config.need(*hyper.FEED_FORWARD) // config.need(*hyper.EXPERTS_USED)


_LENGTHS: Mapping[str, Callable[[Config], int]] = {
    "vocab_size": lambda config: config.need("vocab_size"),
    "hidden_size": lambda config: config.need(*hyper.HIDDEN),
    "intermediate_size": lambda config: config.need(*hyper.FEED_FORWARD),
    "num_attention_heads · head_dim": lambda config: config.need(*hyper.HEADS) * hyper.head_dim(config),
    "num_key_value_heads · head_dim": lambda config: _kv_heads(config) * hyper.head_dim(config),
    "head_dim": hyper.head_dim,
    "head_dim / 2": lambda config: hyper.head_dim(config) // 2,
    "num_experts": lambda config: config.need(*hyper.EXPERTS),
    "moe_intermediate_size": _expert_length,
    "shared_expert_intermediate_size": lambda config: (
        config.count("shared_expert_intermediate_size") or config.need(*hyper.FEED_FORWARD)
    ),
}
