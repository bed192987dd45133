"""One file per analysis. `ALL` holds one of each."""

from __future__ import annotations

from quantrecipe.analyses.error import Error
from quantrecipe.analyses.imatrix import Imatrix
from quantrecipe.analyses.probe import Probe
from quantrecipe.analyses.table import Table
from quantrecipe.api import Analysis

__all__ = ["ALL"]

ALL: tuple[Analysis, ...] = (Error(), Imatrix(), Probe(), Table())
