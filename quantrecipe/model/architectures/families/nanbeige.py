"""Nanbeige 4.2: Llama's layers, gone through several times: `num_loops` says how often."""

from __future__ import annotations

from dataclasses import replace

from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.families.llama import LLAMA
from quantrecipe.model.architectures.hyperparameters import LAYERS, rope_dimensions
from quantrecipe.model.architectures.layout import DENSE, HEAD, Layout, attention, biases
from quantrecipe.model.pairs import Pairs, boolean, u32

__all__ = ["ALL"]

_MOST = 512  # llama.cpp: LLAMA_MAX_LAYERS, each pass counted


def _loops(config: Config) -> int:
    return config.count("num_loops") or 1


def _refuse(config: Config) -> str | None:
    count, loops = config.need(*LAYERS), _loops(config)
    if count * loops > _MOST:
        return f"goes {loops} times through {count} layers, and llama.cpp has at most {_MOST} in all"
    return LLAMA.refuse(config)


def _pairs(config: Config) -> Pairs:
    return {
        **rope_dimensions("nanbeige", config),
        "nanbeige.num_loops": u32(_loops(config)),
        "nanbeige.skip_loop_final_norm": boolean(bool(config.flag("skip_loop_final_norm"))),
    }


NANBEIGE = replace(
    LLAMA,
    name="nanbeige",
    classes=("NanbeigeForCausalLM",),
    layout=Layout(
        required=attention() | DENSE,
        optional=HEAD | biases() | {"rope_freqs.weight": ("head_dim / 2",)},
    ),
    names_of="llama",
    refuse=_refuse,
    pairs=_pairs,
)

ALL = (NANBEIGE,)
