"""gpt-oss: experts in MXFP4, whose gate and up alternate row by row, and sinks of attention.

…experts.gate_up_proj (experts, 2 · length, hidden) MXFP4  ▶  ffn_gate_exps: even rows; ffn_up_exps: odd ones
…experts.gate_up_proj (experts, hidden, 2 · length) BF16   ▶  the same, after rows and columns changed places
…experts.gate_up_proj_bias (experts, 2 · length)           ▶  the same, of columns

"""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.hyperparameters import count_pairs
from quantrecipe.model.architectures.layout import HEAD, Layout, attention, biases, layers
from quantrecipe.model.architectures.rules import Each, Found, Named, rename
from quantrecipe.model.pairs import Pairs
from quantrecipe.model.source.layout import Columns, Transpose, rows
from quantrecipe.model.source.source import NUMBERS, TensorSource, fail
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_EXPERTS = "model.layers.{layer}.mlp.experts"
_LENGTH = "intermediate_size"


def _row_by_row(source: TensorSource) -> TensorSource:
    """The matrices with a row for each number that comes out: blocks are stored so, numbers the other way round."""
    return Transpose(source=source) if source.dtype in NUMBERS else source


def _gate_and_up(it: Found) -> list[Named]:
    whole, stem = _row_by_row(it.source), it.name.removesuffix("gate_up_proj")
    gate, up = (rows(whole, first, whole.rows, 2) for first in (0, 1))
    return [(f"{stem}gate_proj.weight", gate), (f"{stem}up_proj.weight", up)]


def _gate_and_up_biases(it: Found) -> list[Named]:
    stem, count = it.name.removesuffix("gate_up_proj_bias"), it.source.cols
    if len(it.source.shape) != 2 or count % 2:
        fail(it.source, "can't be halved (expected: a matrix with an even number of columns)")
    gate, up = (Columns(source=it.source, index=tuple(range(first, count, 2))) for first in (0, 1))
    return [(f"{stem}gate_proj.bias", gate), (f"{stem}up_proj.bias", up)]


def _pairs(config: Config) -> Pairs:
    lengths = {"attention.sliding_window": ("sliding_window",), "expert_feed_forward_length": (_LENGTH,)}
    return count_pairs("gpt-oss", config, lengths)


_ATTENTION = {name: shape for name, shape in attention().items() if "ffn_norm" not in name}

GPT_OSS = Architecture(
    name="gpt-oss",
    classes=("GptOssForCausalLM",),
    layout=Layout(
        required=_ATTENTION
        | HEAD
        | layers(
            {
                "post_attention_norm.weight": ("hidden_size",),
                "attn_output.bias": ("hidden_size",),
                "attn_sinks.weight": ("num_attention_heads",),
                "ffn_gate_inp.weight": ("num_experts", "hidden_size"),
                "ffn_gate_inp.bias": ("num_experts",),
                "ffn_gate_exps.weight": ("num_experts", _LENGTH, "hidden_size"),
                "ffn_gate_exps.bias": ("num_experts", _LENGTH),
                "ffn_up_exps.weight": ("num_experts", _LENGTH, "hidden_size"),
                "ffn_up_exps.bias": ("num_experts", _LENGTH),
                "ffn_down_exps.weight": ("num_experts", "hidden_size", _LENGTH),
                "ffn_down_exps.bias": ("num_experts", "hidden_size"),
            }
        ),
        optional=biases(),
    ),
    rules=(
        Each(names=f"{_EXPERTS}.gate_up_proj", make=_gate_and_up),
        Each(names=f"{_EXPERTS}.gate_up_proj_bias", make=_gate_and_up_biases),
        Each(
            names=f"{_EXPERTS}.down_proj",
            make=lambda it: [(f"{it.name}.weight", _row_by_row(it.source))],
        ),
        rename(f"{_EXPERTS}.down_proj_bias", f"{_EXPERTS}.down_proj.bias"),
        rename("model.layers.{layer}.self_attn.sinks", "model.layers.{layer}.self_attn.sinks.weight"),
    ),
    pairs=_pairs,
    vocabulary=Vocabulary(kinds=("bpe",), pre=("gpt-4o",)),
)

ALL = (GPT_OSS,)
