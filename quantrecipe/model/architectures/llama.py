"""Llama 1 to 3 and everything that is called like it."""

from __future__ import annotations

from collections.abc import Mapping

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import EXPERTS, head_dim, rope_dimensions
from quantrecipe.model.architectures.layout import DENSE, HEAD, Layout, Shapes, attention, biases, layers
from quantrecipe.model.architectures.rope import llama3_factors
from quantrecipe.model.json_file import read_json_object
from quantrecipe.model.pairs import Pairs, boolean, u32

__all__ = ["DENSE_LAYOUT", "LLAMA", "OPTIONAL", "computed", "even_heads", "pairs", "refuse", "tokenizer"]

OPTIONAL: Shapes = {
    **HEAD,
    **biases(),
    **layers({"self_attn.o_proj.bias": ("hidden_size",)}),
    "rope.freqs": ("head_dim / 2",),
}
"""Mixtral's too."""

DENSE_LAYOUT = Layout(
    required=attention() | DENSE,
    optional=OPTIONAL
    | layers(
        {
            "mlp.gate_proj.bias": ("intermediate_size",),
            "mlp.up_proj.bias": ("intermediate_size",),
            "mlp.down_proj.bias": ("hidden_size",),
        }
    ),
)
"""Mistral's too."""

# llama.cpp's converter knows these families by nothing else
_CODE_LLAMA_VOCAB, _CODE_LLAMA_EOT = 32016, 32010
_GRANITE_VOCAB = 49152


def pairs(config: Config) -> Pairs:
    """Vocabulary and rotated dimensions; Mistral's and Mixtral's too."""
    return rope_dimensions("llama", config)


def computed(config: Config) -> Mapping[str, bytes]:
    """Llama 3's frequency factors: they stand in config.json as a rule, and in the GGUF as a tensor."""
    factors = llama3_factors(config, head_dim(config))
    return {} if factors is None else {"rope_freqs.weight": factors}


def tokenizer(config: Config, pairs: Pairs) -> Pairs:
    """Whether text gets a space in front, as the first key; and two families known by the size of their vocabulary."""
    settings = config.folder / "tokenizer_config.json"
    prefix = read_json_object(settings).get("add_prefix_space") if settings.is_file() else None
    if isinstance(prefix, bool):
        pairs = {"tokenizer.ggml.add_space_prefix": boolean(prefix)} | pairs
    if config.find("vocab_size") == _CODE_LLAMA_VOCAB:
        pairs.setdefault("tokenizer.ggml.eot_token_id", u32(_CODE_LLAMA_EOT))
    if config.find("vocab_size") == _GRANITE_VOCAB:
        pairs["tokenizer.ggml.add_bos_token"] = boolean(False)
    return pairs


def even_heads(values: Mapping[str, object]) -> object:
    """The usual length of a head: the hidden size, divided among the heads."""
    hidden, heads = values.get("hidden_size"), values.get("num_attention_heads")
    return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads else None


def refuse(config: Config) -> str | None:
    """Draft models of EAGLE-3 go by Llama's class name; some with experts do, too."""
    if config.count(*EXPERTS):
        return f"is a model with experts ({config.called(*EXPERTS)}), but its class has none"
    if config.find("draft_vocab_size") is not None and config.find("num_hidden_layers") == 1:
        return "is an EAGLE-3 draft model, which needs its target model to be converted"
    return None


LLAMA = Architecture(
    name="llama",
    classes=("LlamaForCausalLM", "LLaMAForCausalLM"),
    layout=DENSE_LAYOUT,
    defaults={
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
    },
    derive={
        "head_dim": even_heads,
        "num_key_value_heads": lambda values: values.get("num_attention_heads"),
    },
    rotary=True,
    pairs=pairs,
    tokenizer=tokenizer,
    computed=computed,
    refuse=refuse,
)
