"""The architectures that come with quantrecipe, family by family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from quantrecipe.model.architectures import (
    falcon_h1,
    granite,
    granite_hybrid,
    llama,
    mamba,
    nemotron,
    nemotron_h,
    qwen,
)
from quantrecipe.model.architectures.architecture import Architecture

__all__ = ["ALL", "by_class"]

ALL: tuple[Architecture, ...] = (
    *falcon_h1.ALL,
    *granite.ALL,
    *granite_hybrid.ALL,
    *llama.ALL,
    *mamba.ALL,
    *nemotron.ALL,
    *nemotron_h.ALL,
    *qwen.ALL,
)


def by_class(architectures: Iterable[Architecture]) -> Mapping[str, tuple[Architecture, ...]]:
    """By the class name under `architectures` in config.json; of several the first whose `applies` says so."""
    found: dict[str, tuple[Architecture, ...]] = {}
    for architecture in architectures:
        for name in architecture.classes:
            found[name] = (*found.get(name, ()), architecture)
    return dict(sorted(found.items()))
