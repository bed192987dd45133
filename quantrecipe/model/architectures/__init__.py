"""What makes a Hugging Face model a GGUF, architecture by architecture. docs/architectures.md says how to add one."""

from __future__ import annotations

from collections.abc import Mapping

from quantrecipe.model.architectures import llama, mamba, qwen
from quantrecipe.model.architectures.architecture import PARTS, Architecture

__all__ = ["ALL", "ARCHITECTURES", "PARTS", "Architecture"]

ALL: tuple[Architecture, ...] = (*llama.ALL, *mamba.ALL, *qwen.ALL)
"""The architectures that come with quantrecipe, family by family."""

ARCHITECTURES: Mapping[str, tuple[Architecture, ...]] = {
    name: tuple(it for it in ALL if name in it.classes)
    for name in sorted({name for architecture in ALL for name in architecture.classes})
}
"""By the class name under `architectures` in config.json; of several the first whose `applies` says so."""
