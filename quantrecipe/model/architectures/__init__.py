"""One file per architecture: what makes a Hugging Face model of it a GGUF. docs/architectures.md adds the next."""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.llama import LLAMA
from quantrecipe.model.architectures.mistral import MISTRAL
from quantrecipe.model.architectures.mixtral import MIXTRAL
from quantrecipe.model.architectures.qwen2 import QWEN2
from quantrecipe.model.architectures.qwen2moe import QWEN2MOE
from quantrecipe.model.architectures.qwen3 import QWEN3
from quantrecipe.model.architectures.qwen3moe import QWEN3MOE

__all__ = ["ARCHITECTURES", "Architecture"]

ARCHITECTURES: dict[str, Architecture] = {
    name: architecture
    for architecture in (LLAMA, MISTRAL, MIXTRAL, QWEN2, QWEN2MOE, QWEN3, QWEN3MOE)
    for name in architecture.classes
}
"""By the class name under `architectures` in config.json."""
