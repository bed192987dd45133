"""Linear attention of Qwen3-Next and Qwen3.5: the tensors of a gated delta net, and what is done to them.

    in_proj_qkvz, in_proj_ba                             Qwen3-Next: q, k, v and the gate z, head by head; b and a
    in_proj_qkv, in_proj_z, in_proj_b, in_proj_a         Qwen3.5
    conv1d, A_log, dt_bias, norm, out_proj               both

There are more heads of values than heads of keys. A checkpoint has them group by group: all that belong to the first
head of keys, then all of the second. llama.cpp repeats q and k for them; for Qwen3.5 it wants the first of each group,
then the second of each:

    k0: v0 v1   k1: v2 v3   …   ▶   v0 v2 …   v1 v3 …
"""

from __future__ import annotations

from collections.abc import Iterator

from quantrecipe.model.architectures.layout import Shapes, layers
from quantrecipe.model.architectures.rules import Each, Found, Named, Rule, change, rename
from quantrecipe.model.architectures.shared.state_space import squeezed
from quantrecipe.model.source import layout
from quantrecipe.model.source.arithmetic import NegExp
from quantrecipe.model.source.source import TensorSource, fail

__all__ = ["BETA_ALPHA", "BETA_AND_ALPHA", "FUSED_RULES", "LINEAR", "NET", "TILED_RULES"]

_KEYS = "linear_num_key_heads · linear_key_head_dim"
_VALUES = (
    "linear_num_value_heads · linear_key_head_dim"  # to llama.cpp, heads of keys and values are equally long
)
_HIDDEN, _HEADS = "hidden_size", "linear_num_value_heads"

LINEAR: Shapes = layers(
    {
        "attn_qkv.weight": (f"2 · {_KEYS} + {_VALUES}", _HIDDEN),
        "attn_gate.weight": (_VALUES, _HIDDEN),
        "ssm_conv1d.weight": (f"2 · {_KEYS} + {_VALUES}", "linear_conv_kernel_dim"),
        "ssm_dt.bias": (_HEADS,),
        "ssm_a": (_HEADS,),
        "ssm_norm.weight": ("linear_key_head_dim",),
        "ssm_out.weight": (_HIDDEN, _VALUES),
    }
)
BETA_ALPHA = layers({"ssm_ba.weight": (f"2 · {_HEADS}", _HIDDEN)})
BETA_AND_ALPHA = layers({"ssm_beta.weight": (_HEADS, _HIDDEN), "ssm_alpha.weight": (_HEADS, _HIDDEN)})


NET = "model.layers.{layer}.linear_attn."


def _sizes(it: Found) -> tuple[int, int, int, int]:
    """Heads of keys, heads of values for each, and their lengths."""
    config = it.config
    keys, values = config.need("linear_num_key_heads"), config.need("linear_num_value_heads")
    if values % keys:
        config.fail(f"says linear_num_value_heads: {values}, which {keys} heads of keys can't share")
    return keys, values // keys, config.need("linear_key_head_dim"), config.need("linear_value_head_dim")


def _fused(it: Found) -> Iterator[Named]:
    """q, k, v and z, which are stored head by head: q, k and v in one matrix, and z."""
    keys, each, key, value = _sizes(it)
    rows = 2 * key + 2 * each * value
    if it.source.shape != (keys * rows, it.source.cols):
        fail(it.source, f"has the shape {it.source.shape} (expected: {keys * rows} rows)")
    heads = layout.reshape(it.source, (keys, rows, it.source.cols))

    def part(start: int, stop: int) -> TensorSource:
        return layout.reshape(layout.rows(heads, start, stop), (keys * (stop - start), it.source.cols))

    values, gate = 2 * key, 2 * key + each * value
    yield (
        f"blk.{it.layer}.attn_qkv.weight",
        layout.concat([part(0, key), part(key, values), part(values, gate)]),
    )
    yield f"blk.{it.layer}.attn_gate.weight", part(gate, rows)


def _tiled(it: Found, source: TensorSource, length: int) -> TensorSource:
    """Rows of heads of values, `length` for each, in llama.cpp's order."""
    keys, each, _, _ = _sizes(it)
    count = source.cols if len(source.shape) == 1 else source.total_rows
    if count != keys * each * length:
        fail(it.source, f"has the shape {it.source.shape}, which {keys * each} heads of {length} can't share")
    return source if each == 1 else layout.regroup(source, (keys, each, length), (1, 0, 2))


def _of_values(it: Found) -> TensorSource:
    return _tiled(it, it.source, _sizes(it)[3])


def _of_heads(it: Found) -> TensorSource:
    return _tiled(it, it.source, 1)


def _behind_keys(it: Found) -> TensorSource:
    """q's and k's rows as they are, v's in order: of qkv, and of the convolution over all three."""
    source = squeezed(it)
    keys, _, key, value = _sizes(it)
    first = 2 * keys * key
    if len(source.shape) != 2 or source.rows < first:
        fail(it.source, f"has the shape {it.source.shape} (expected: more than {first} rows)")
    values = layout.rows(source, first, source.rows)
    return layout.concat([layout.rows(source, 0, first), _tiled(it, values, value)])


def _columns(it: Found) -> TensorSource:
    """The columns of what goes out of linear attention."""
    keys, each, _, value = _sizes(it)
    shape = it.source.shape
    if len(shape) != 2 or shape[1] != keys * each * value:
        fail(it.source, f"has the shape {shape} (expected: {keys * each * value} columns)")
    if each == 1:
        return it.source
    heads = layout.reshape(it.source, (shape[0] * keys * each, value))
    return layout.reshape(layout.regroup(heads, (shape[0], keys, each), (0, 2, 1)), shape)


FUSED_RULES: tuple[Rule, ...] = (
    Each(names=NET + "in_proj_qkvz.weight", make=_fused),
    change(NET + "A_log", lambda it: NegExp(source=it.source)),
    rename(NET + "dt_bias", NET + "dt_proj.bias"),
    change(NET + "conv1d.weight", squeezed),
)
"""For Qwen3-Next."""


TILED_RULES: tuple[Rule, ...] = (
    change(NET + "{part:in_proj_qkv|conv1d}.weight", _behind_keys),
    change(NET + "in_proj_z.weight", _of_values),
    change(NET + "in_proj_{part:a|b}.weight", _of_heads),
    change(NET + "A_log", lambda it: NegExp(source=_of_heads(it))),
    Each(
        names=NET + "dt_bias", make=lambda it: [(it.name.replace("dt_bias", "dt_proj.bias"), _of_heads(it))]
    ),
    change(NET + "out_proj.weight", _columns),
)
"""For Qwen3.5."""
