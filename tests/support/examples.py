"""How many examples hypothesis tries, for tests that need more or fewer than others."""

from __future__ import annotations

from hypothesis import settings

__all__ = ["examples"]


def examples(count: int) -> int:
    """`count` where all are tried; in proportion in the other profiles of tests/conftest.py, and at least one."""
    return max(1, count * settings.default.max_examples // 100)
