"""BitNet b1.58: matrices of -1, 0 and 1 with one scale each, and norms within attention and feed-forward.

Checkpoints hold the numbers that the model was trained with. What it computes with is -s, 0 and s, where s is the
mean magnitude of a matrix.
"""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.layout import DENSE, Layout, attention, layers
from quantrecipe.model.architectures.rules import change
from quantrecipe.model.pairs import f32, text
from quantrecipe.model.source.arithmetic import Ternary
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]

_LAYER = "model.layers.{layer}."

BITNET = Architecture(
    name="bitnet",
    classes=("BitnetForCausalLM", "BitNetForCausalLM"),
    layout=Layout(
        required=attention("hidden_size")
        | DENSE
        | layers({"attn_sub_norm.weight": ("hidden_size",), "ffn_sub_norm.weight": ("intermediate_size",)}),
    ),
    rules=(
        change(
            _LAYER + "self_attn.{matrix:q|k|v|o}_proj.weight",
            lambda it: Ternary(source=it.source),
        ),
        change(_LAYER + "mlp.{matrix:gate|up|down}_proj.weight", lambda it: Ternary(source=it.source)),
    ),
    pairs=lambda config: {"bitnet.rope.scaling.type": text("linear"), "bitnet.rope.scaling.factor": f32(1.0)},
    vocabulary=Vocabulary(kinds=("sentencepiece",)),
)

ALL = (BITNET,)
