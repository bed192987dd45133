"""The formats of mainline ggml: their facts in types.toml, and what each does with bits in a file of its own.

`ALL` holds one of each, with default options, by bits per weight.
"""

from __future__ import annotations

from pathlib import Path

from quantrecipe.api import QuantFormat
from quantrecipe.core.format_table import read_formats
from quantrecipe.formats.nvfp4_factor import NVFP4
from quantrecipe.formats.passthrough import Passthrough

__all__ = ["ALL"]

ALL: tuple[QuantFormat, ...] = read_formats(
    Path(__file__).with_name("types.toml"),
    __name__,
    {"NVFP4": NVFP4} | dict.fromkeys(("F64", "I8", "I16", "I32", "I64"), Passthrough),
)
