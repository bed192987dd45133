"""State spaces: the sizes, tensors, shapes and keys that all models with Mamba's layers share.

    Mamba     x → B, C and the time step; A has one number for each inner channel and state; D one for each channel
    Mamba-2   B, C and the time step come out of in_proj as well; A and D have one number for each head

A checkpoint holds the logarithm of -A, the convolution's kernel with an axis of length 1 in its middle, and
Mamba-2's norm in one piece. llama.cpp wants A itself, a matrix for the kernel, and a row of the norm for each group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.layout import Length, Shapes, layers
from quantrecipe.model.architectures.rules import Found, Rule, change, rename
from quantrecipe.model.pairs import Pairs, u32
from quantrecipe.model.source import layout
from quantrecipe.model.source.arithmetic import NegExp
from quantrecipe.model.source.source import TensorSource, fail

__all__ = [
    "MAMBA",
    "MAMBA2",
    "MAMBA2_CONV_BIAS",
    "MAMBA2_NORM",
    "StateSpace",
    "mamba2_rules",
    "mamba_rules",
    "space_lengths",
    "space_pairs",
    "squeezed",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class StateSpace:
    """The sizes of a model's state space.

    inner:  channels
    state:  numbers that each channel remembers
    kernel: steps that the convolution sees
    rank:   rank of the time step; in Mamba-2 the number of heads
    groups: of heads that share B and C, Mamba-2 alone
    """

    inner: int
    state: int
    kernel: int
    rank: int
    groups: int = 1


_KEYS = {
    "conv_kernel": "kernel",
    "inner_size": "inner",
    "state_size": "state",
    "time_step_rank": "rank",
    "group_count": "groups",
}


def space_pairs(arch: str, space: StateSpace, *keys: str) -> Pairs:
    """Make the keys under `ssm.`, in the order given: each architecture of the converter has its own."""
    return {f"{arch}.ssm.{key}": u32(getattr(space, _KEYS[key])) for key in keys}


def space_lengths(sizes: Callable[[Config], StateSpace]) -> Mapping[str, Length]:
    """The words for these sizes that shapes are written with."""
    return {
        "inner": lambda config, layer: sizes(config).inner,
        "state": lambda config, layer: sizes(config).state,
        "kernel": lambda config, layer: sizes(config).kernel,
        "rank": lambda config, layer: sizes(config).rank,
        "groups": lambda config, layer: sizes(config).groups,
        "inner / groups": lambda config, layer: sizes(config).inner // sizes(config).groups,
    }


_HIDDEN = "hidden_size"
_CONV = "inner + 2 · groups · state"

MAMBA: Shapes = layers(
    {
        "ssm_in.weight": ("2 · inner", _HIDDEN),
        "ssm_conv1d.weight": ("inner", "kernel"),
        "ssm_conv1d.bias": ("inner",),
        "ssm_x.weight": ("rank + 2 · state", "inner"),
        "ssm_dt.weight": ("inner", "rank"),
        "ssm_dt.bias": ("inner",),
        "ssm_a": ("inner", "state"),
        "ssm_d": ("inner",),
        "ssm_out.weight": (_HIDDEN, "inner"),
    }
)
MAMBA2: Shapes = layers(
    {
        "ssm_in.weight": (f"inner + {_CONV} + rank", _HIDDEN),
        "ssm_conv1d.weight": (_CONV, "kernel"),
        "ssm_dt.bias": ("rank",),
        "ssm_a": ("rank", "1"),
        "ssm_d": ("rank", "1"),
        "ssm_out.weight": (_HIDDEN, "inner"),
    }
)
MAMBA2_CONV_BIAS: Shapes = layers({"ssm_conv1d.bias": (_CONV,)})
MAMBA2_NORM: Shapes = layers({"ssm_norm.weight": ("groups", "inner / groups")})


def squeezed(it: Found) -> TensorSource:
    """A convolution's kernel (channels, 1, steps) as the matrix (channels, steps)."""
    shape = it.source.shape
    if len(shape) == 3 and shape[1] == 1:
        return layout.reshape(it.source, (shape[0], shape[2]))
    if len(shape) != 2:
        fail(it.source, f"has the shape {shape} (expected: channels, 1, steps)")
    return it.source


def _column(source: TensorSource) -> TensorSource:
    return layout.reshape(source, (source.total_rows * source.cols, 1))


def mamba_rules(mixer: str) -> tuple[Rule, ...]:
    """What is done to Mamba's tensors. `mixer` is what their names begin with, a template with "{layer}"."""
    return (
        change(mixer + ".A_log", lambda it: NegExp(source=it.source)),
        change(mixer + ".conv1d.weight", squeezed),
    )


def mamba2_rules(mixer: str, sizes: Callable[[Config], StateSpace]) -> tuple[Rule, ...]:
    """The same for Mamba-2's."""

    def by_group(it: Found) -> TensorSource:
        groups = sizes(it.config).groups
        if len(it.source.shape) != 1 or it.source.cols % groups:
            fail(it.source, f"has the shape {it.source.shape}, which {groups} groups can't share")
        return layout.reshape(it.source, (groups, it.source.cols // groups))

    return (
        change(mixer + ".A_log", lambda it: NegExp(source=_column(it.source))),
        change(mixer + ".D", lambda it: _column(it.source)),
        change(mixer + ".conv1d.weight", squeezed),
        change(mixer + ".norm.weight", by_group),
        rename(mixer + ".dt_bias", mixer + ".dt_proj.bias"),
    )
