"""Towers for pictures and sound, which become GGUFs of their own (`--mmproj`), by what they are made of.

`projector.py` has what all share; each other file is a family of them.
"""

from __future__ import annotations

from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.families.projectors import gemma4, ocr, pictures, qwen, siglip, sound

__all__ = ["ALL"]

ALL: tuple[Architecture, ...] = (
    *gemma4.ALL,
    *ocr.ALL,
    *pictures.ALL,
    *qwen.ALL,
    *siglip.ALL,
    *sound.ALL,
)
