"""What makes a Hugging Face model a GGUF, architecture by architecture. docs/architectures.md says how to add one.

    architecture.py    Architecture: what is known of one
    rules.py           what becomes of tensors
    layout.py          which tensors llama.cpp loads, and their shapes
    hyperparameters.py keys that all have
    completion/        what transformers assumes of a config.json that is silent
    shared/            what several families share: experts, latent attention, state spaces, pooling
    quantized/         weights that a checkpoint stores quantized
    families/          the architectures that come with quantrecipe, a file for each family
    tensors.py         the conversion itself

What a plugin needs for an architecture of its own can be imported from here.
"""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import PARTS, Architecture
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.architectures.layout import Layout, Part
from quantrecipe.model.architectures.rules import (
    Each,
    First,
    Found,
    Gather,
    Named,
    Rule,
    Stack,
    change,
    drop,
    halves,
    in_rope_order,
    language_name,
    rename,
)
from quantrecipe.model.tokenizer.kinds import Vocabulary

__all__ = [
    "PARTS",
    "Architecture",
    "Config",
    "Each",
    "First",
    "Found",
    "Gather",
    "Layout",
    "Named",
    "Part",
    "Rule",
    "Stack",
    "Vocabulary",
    "change",
    "drop",
    "halves",
    "in_rope_order",
    "language_name",
    "rename",
]
