"""What makes a Hugging Face model a GGUF, architecture by architecture. docs/architectures.md says how to add one."""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.llama import LLAMA, MISTRAL, MIXTRAL
from quantrecipe.model.architectures.qwen import QWEN2, QWEN2MOE, QWEN3, QWEN3MOE

__all__ = ["ARCHITECTURES", "Architecture"]

ARCHITECTURES: dict[str, Architecture] = {
    name: architecture
    for architecture in (LLAMA, MISTRAL, MIXTRAL, QWEN2, QWEN2MOE, QWEN3, QWEN3MOE)
    for name in architecture.classes
}
"""By the class name under `architectures` in config.json."""
