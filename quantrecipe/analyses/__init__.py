"""One file per analysis. `ALL` holds one of each."""

from __future__ import annotations

from quantrecipe.analyses.error import Error
from quantrecipe.analyses.imatrix import Imatrix
from quantrecipe.api import Analysis

__all__ = ["ALL"]

ALL: tuple[Analysis, ...] = (Error(), Imatrix())
