"""Shanghai AI Laboratory's InternLM 2: Llama with q, k and v in one matrix, group by group.

    wqkv    for each key-value head: its query heads, its key, its value

InternLM 3 is a llama, see llama_relatives.
"""

from __future__ import annotations

from collections.abc import Iterator

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.hyperparameters import HEADS, HIDDEN, KV_HEADS
from quantrecipe.model.architectures.layout import DENSE, HEAD, Layout, attention, biases
from quantrecipe.model.architectures.rules import Each, Found, Named
from quantrecipe.model.source import layout
from quantrecipe.model.source.source import TensorSource, fail
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = ["ALL"]


def _apart(it: Found) -> Iterator[Named]:
    """q, k and v, with the rows of q and k in llama.cpp's rotary order."""
    heads, groups = it.config.need(*HEADS), it.config.need(*KV_HEADS)
    length = it.config.need(*HIDDEN) // heads
    each = heads // groups
    rows = (each + 2) * length
    if heads % groups or it.source.shape != (groups * rows, it.source.cols):
        expected = f"{groups * rows} rows, of {groups} groups with {each} query heads each"
        fail(it.source, f"has the shape {it.source.shape} (expected: {expected})")
    grouped = layout.reshape(it.source, (groups, rows, it.source.cols))

    def part(start: int, stop: int) -> TensorSource:
        found = layout.rows(grouped, start * length, stop * length)
        return layout.reshape(found, (groups * (stop - start) * length, it.source.cols))

    name = f"blk.{it.layer}.attn_{{}}.weight"
    yield name.format("q"), layout.rope_order(part(0, each), heads)
    yield name.format("k"), layout.rope_order(part(each, each + 1), groups)
    yield name.format("v"), part(each + 1, each + 2)


INTERNLM2 = Architecture(
    name="internlm2",
    classes=("InternLM2ForCausalLM",),
    layout=Layout(required=attention("hidden_size") | HEAD | DENSE, optional=biases("hidden_size")),
    default_theta=None,
    rules=(Each(names="model.layers.{layer}.attention.wqkv.weight", make=_apart),),
    vocabulary=Vocabulary(
        kinds=("sentencepiece",),
        added="internlm2",
        space_prefix="tokenizer.model",
        special_over=(("eos", "<|im_end|>"),),
    ),
)

ALL = (INTERNLM2,)
