"""The architectures that come with quantrecipe, family by family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from quantrecipe.model.architectures import (
    bailing,
    bailing3,
    deepseek,
    deepseek4,
    ernie,
    glm,
    glm5_next,
    hunyuan,
    hunyuan4,
    kimi_linear,
    llama,
    mimo,
    minimax,
    projectors,
    qwen,
    step,
)
from quantrecipe.model.architectures.architecture import Architecture

__all__ = ["ALL", "by_class"]

ALL: tuple[Architecture, ...] = (
    *llama.ALL,
    *qwen.ALL,
    *deepseek.ALL,
    *deepseek4.ALL,
    *glm.ALL,
    *glm5_next.ALL,
    *bailing.ALL,
    *bailing3.ALL,
    *ernie.ALL,
    *hunyuan.ALL,
    *hunyuan4.ALL,
    *kimi_linear.ALL,
    *mimo.ALL,
    *minimax.ALL,
    *step.ALL,
    *projectors.ALL,
)


def by_class(architectures: Iterable[Architecture]) -> Mapping[str, tuple[Architecture, ...]]:
    """By the class name under `architectures` in config.json; of several the first whose `applies` says so."""
    found: dict[str, tuple[Architecture, ...]] = {}
    for architecture in architectures:
        for name in architecture.classes:
            found[name] = (*found.get(name, ()), architecture)
    return dict(sorted(found.items()))
