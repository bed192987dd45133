"""ik_llama.cpp's quantization types for quantrecipe, at the speed of vectors and with ik_llama.cpp's own bytes.

A plugin of quantrecipe: its entry point is this module. Files with these types are for ik_llama.cpp; mainline
llama.cpp can't read them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from quantrecipe.api import QuantFormat, RecipeFolder, hookimpl

from quantrecipe_ik.formats import ALL

__all__ = ["quantrecipe_formats", "quantrecipe_recipes"]

__version__ = "0.1.0"

QUANTRECIPE_API = 1
"""The version of quantrecipe's plugin interface that this is written for."""


@hookimpl
def quantrecipe_formats() -> Iterable[QuantFormat]:
    """The formats, by bits per weight."""
    return ALL


@hookimpl
def quantrecipe_recipes() -> Iterable[RecipeFolder]:
    """The presets of ik_llama.cpp's llama-quantize: `extends: ik/IQ4_KS`."""
    return [RecipeFolder(prefix="ik", folder=Path(__file__).parent / "recipes")]
