"""ik_llama.cpp's quantization types for quantrecipe, at the speed of vectors and with ik_llama.cpp's own bytes.

A plugin of quantrecipe: its entry point is this module. Files with these types are for ik_llama.cpp; mainline
llama.cpp can't read them.
"""

from __future__ import annotations

from collections.abc import Iterable

from quantrecipe.api import QuantFormat, hookimpl

from quantrecipe_ik.formats import ALL

__all__ = ["quantrecipe_formats"]

__version__ = "0.1.0"


@hookimpl
def quantrecipe_formats() -> Iterable[QuantFormat]:
    """The formats, by bits per weight."""
    return ALL
