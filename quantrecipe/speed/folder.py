"""Where measurements are kept, and whether there are any: every plan asks, and most of the time the answer is no."""

from __future__ import annotations

from pathlib import Path

from quantrecipe.core.cache import cache_folder

__all__ = ["measured_anything", "speed_folder"]


def speed_folder() -> Path:
    """The folder in the user's caches, whether or not it exists."""
    return cache_folder() / "speed"


def measured_anything() -> bool:
    """True where the folder has files."""
    try:
        return any(speed_folder().glob("*.json"))
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return False
