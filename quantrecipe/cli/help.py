"""What the help of every command has in common."""

from __future__ import annotations

from typing import Any

__all__ = ["SETTINGS", "examples"]

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""For `context_settings`."""


def examples(*lines: str) -> str:
    """For `epilog`: command lines that work, one below the other."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
