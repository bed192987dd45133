"""The architectures that come with quantrecipe, family by family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from quantrecipe.model.architectures import (
    arctic,
    bitnet,
    bloom,
    dbrx,
    falcon_h1,
    gemma,
    gemma3n,
    gemma4,
    gpt2,
    gpt_oss,
    granite,
    granite_hybrid,
    laguna,
    layer_norm,
    lfm2,
    llama,
    llama4,
    mamba,
    mellum,
    mistral,
    mpt,
    muse_glimmer,
    nemotron,
    nemotron_h,
    openelm,
    phi,
    projectors,
    qwen,
    t5,
)
from quantrecipe.model.architectures.architecture import Architecture

__all__ = ["ALL", "by_class"]

ALL: tuple[Architecture, ...] = (
    *arctic.ALL,
    *bitnet.ALL,
    *bloom.ALL,
    *dbrx.ALL,
    *falcon_h1.ALL,
    *gemma.ALL,
    *gemma3n.ALL,
    *gemma4.ALL,
    *gpt2.ALL,
    *gpt_oss.ALL,
    *granite.ALL,
    *granite_hybrid.ALL,
    *laguna.ALL,
    *layer_norm.ALL,
    *lfm2.ALL,
    *llama.ALL,
    *llama4.ALL,
    *mamba.ALL,
    *mellum.ALL,
    *mistral.ALL,
    *mpt.ALL,
    *muse_glimmer.ALL,
    *nemotron.ALL,
    *nemotron_h.ALL,
    *openelm.ALL,
    *phi.ALL,
    *projectors.ALL,
    *qwen.ALL,
    *t5.ALL,
)


def by_class(architectures: Iterable[Architecture]) -> Mapping[str, tuple[Architecture, ...]]:
    """By the class name under `architectures` in config.json; of several the first whose `applies` says so."""
    found: dict[str, tuple[Architecture, ...]] = {}
    for architecture in architectures:
        for name in architecture.classes:
            found[name] = (*found.get(name, ()), architecture)
    return dict(sorted(found.items()))
