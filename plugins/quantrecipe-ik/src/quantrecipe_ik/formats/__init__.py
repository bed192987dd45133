"""ik_llama.cpp's own formats: their facts in types.toml, and what each does with bits in a file of its own.

`ALL` holds one of each, with default options, by bits per weight.
"""

from __future__ import annotations

from pathlib import Path

from quantrecipe.api import QuantFormat
from quantrecipe.core import read_formats

__all__ = ["ALL"]

ALL: tuple[QuantFormat, ...] = read_formats(Path(__file__).with_name("types.toml"), __name__)
