"""Tests that start programs of a Unix shell, and where they can."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

__all__ = ["needs_bash", "needs_gnu"]

_THERE = shutil.which("bash") is not None

needs_bash = pytest.mark.skipif(
    os.name == "nt" or not _THERE, reason="there is no bash here, or one that is a system beside Windows"
)
needs_gnu = pytest.mark.skipif(
    sys.platform != "linux" or not _THERE,
    reason="takes bash 4.4 and GNU's tools; macOS has bash 3.2 and BSD's",
)
