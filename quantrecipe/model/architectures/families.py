"""The architectures that come with quantrecipe, family by family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from quantrecipe.model.architectures import (
    bailing,
    cohere,
    deepseek,
    deepseek4,
    dots,
    early_llamas,
    ernie,
    exaone,
    gemma,
    gemma3n,
    gemma4,
    glm,
    gpt_oss,
    hunyuan,
    internlm,
    kimi_linear,
    llama,
    llama4,
    llama_relatives,
    mimo,
    minicpm,
    minimax,
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
    step,
    t5,
)
from quantrecipe.model.architectures.architecture import Architecture

__all__ = ["ALL", "by_class"]

ALL: tuple[Architecture, ...] = (
    *bailing.ALL,
    *cohere.ALL,
    *deepseek.ALL,
    *deepseek4.ALL,
    *dots.ALL,
    *early_llamas.ALL,
    *ernie.ALL,
    *exaone.ALL,
    *gemma.ALL,
    *gemma3n.ALL,
    *gemma4.ALL,
    *glm.ALL,
    *gpt_oss.ALL,
    *hunyuan.ALL,
    *internlm.ALL,
    *kimi_linear.ALL,
    *llama.ALL,
    *llama4.ALL,
    *llama_relatives.ALL,
    *mimo.ALL,
    *minicpm.ALL,
    *minimax.ALL,
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
    *step.ALL,
    *t5.ALL,
)


def by_class(architectures: Iterable[Architecture]) -> Mapping[str, tuple[Architecture, ...]]:
    """By the class name under `architectures` in config.json; of several the first whose `applies` says so."""
    found: dict[str, tuple[Architecture, ...]] = {}
    for architecture in architectures:
        for name in architecture.classes:
            found[name] = (*found.get(name, ()), architecture)
    return dict(sorted(found.items()))
