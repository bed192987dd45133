"""Draft heads alone, as a GGUF of their own (`--mtp`): what a running model takes its guesses from.

    blk.{layer}.*      of the layers behind num_hidden_layers
    token_embd, …      all that is of no layer: the model's embedding, last norm and output go along

The keys are those of the whole model, its number of layers included, so a draft head's layer has the same number in
both files. llama.cpp takes such a file from architectures whose loader asks whether the first layer is there.

Source: llama.cpp, conversion/ (supports_mtp_export) and src/models/ (mtp_only).
"""

from __future__ import annotations

import re
from dataclasses import replace

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.bailing3 import BAILINGMOE3, BAILINGMOE3_VL
from quantrecipe.model.architectures.cohere import COHERE2MOE
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.deepseek import DEEPSEEK32
from quantrecipe.model.architectures.glm import GLM4_FLASH, GLM4MOE, GLM_DSA
from quantrecipe.model.architectures.hunyuan import HY3
from quantrecipe.model.architectures.layout import nowhere
from quantrecipe.model.architectures.mimo import MIMO2, MIMO2_FUSED
from quantrecipe.model.architectures.nemotron_h import NEMOTRON_H_MOE
from quantrecipe.model.architectures.qwen_hybrid import QWEN3NEXT, QWEN35, QWEN35MOE
from quantrecipe.model.architectures.step import STEP35

__all__ = ["ALL", "draft_head"]

_LAYER = re.compile(r"(?:^|\.)layers\.([0-9]{1,9})\.")
_WITHOUT = "leave --mtp out: the model works without a draft head"


def draft_head(arch: Architecture) -> Architecture:
    """The draft head of an architecture whose layout tells which layers are draft heads."""

    def refuse(config: Config) -> str | None:
        _check_heads(arch, config)
        return arch.refuse(config)

    return replace(
        arch,
        part="mtp",
        layout=replace(arch.layout, present=arch.layout.drafts, drafts=nowhere),
        refuse=refuse,
    )


def _check_heads(arch: Architecture, config: Config) -> None:
    """ModelError where config.json tells of no draft head, or the checkpoint hasn't the tensors of one."""
    heads = set(arch.layout.drafts(config))
    if not heads:
        config.fail("tells of no draft head (multi-token prediction), or the checkpoint has none", _WITHOUT)
    names = (name for stored in config.stored if (name := arch.rename(stored)) is not None)
    found = (_LAYER.search(arch.draft_name(config, name)) for name in names)
    if not any(match is not None and int(match[1]) in heads for match in found):
        config.fail(
            "tells of a draft head (multi-token prediction), but the checkpoint has no tensors of it",
            f"{_WITHOUT}; or download the weights of its publisher, since copies often lack the head",
        )


ALL = tuple(
    draft_head(arch)
    for arch in (
        BAILINGMOE3,
        BAILINGMOE3_VL,
        COHERE2MOE,
        DEEPSEEK32,
        GLM4MOE,
        GLM4_FLASH,
        GLM_DSA,
        HY3,
        MIMO2,
        MIMO2_FUSED,
        NEMOTRON_H_MOE,
        QWEN35,
        QWEN35MOE,
        QWEN3NEXT,
        STEP35,
    )
)
