"""The architectures that come with quantrecipe, family by family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from quantrecipe.model.architectures import (
    cohere,
    deepseek,
    dots,
    early_llamas,
    exaone,
    gemma,
    gemma3n,
    gemma4,
    gpt_oss,
    internlm,
    llama,
    llama4,
    llama_relatives,
    minicpm,
    mistral,
    muse_glimmer,
    olmo,
    openelm,
    phi,
    projectors,
    qwen,
    qwen_hybrid,
    qwen_vl,
    stablelm,
    t5,
)
from quantrecipe.model.architectures.architecture import Architecture

__all__ = ["ALL", "by_class"]

ALL: tuple[Architecture, ...] = (
    *cohere.ALL,
    *deepseek.ALL,
    *dots.ALL,
    *early_llamas.ALL,
    *exaone.ALL,
    *gemma.ALL,
    *gemma3n.ALL,
    *gemma4.ALL,
    *gpt_oss.ALL,
    *internlm.ALL,
    *llama.ALL,
    *llama4.ALL,
    *llama_relatives.ALL,
    *minicpm.ALL,
    *mistral.ALL,
    *muse_glimmer.ALL,
    *olmo.ALL,
    *openelm.ALL,
    *phi.ALL,
    *projectors.ALL,
    *qwen.ALL,
    *qwen_hybrid.ALL,
    *qwen_vl.ALL,
    *stablelm.ALL,
    *t5.ALL,
)


def by_class(architectures: Iterable[Architecture]) -> Mapping[str, tuple[Architecture, ...]]:
    """By the class name under `architectures` in config.json; of several the first whose `applies` says so."""
    found: dict[str, tuple[Architecture, ...]] = {}
    for architecture in architectures:
        for name in architecture.classes:
            found[name] = (*found.get(name, ()), architecture)
    return dict(sorted(found.items()))
