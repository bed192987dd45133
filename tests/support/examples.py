"""How much is tried: all of it by `.ci/run`, a sample by `pytest` alone, so that the suite stays short."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings

__all__ = ["examples", "sampled"]


def examples(count: int) -> int:
    """For hypothesis: `count` where all are tried; in proportion in the other profiles of tests/conftest.py, and at
    least one.
    """
    return max(1, count * settings.default.max_examples // 100)


def sampled(values: Iterable[Any], every: int = 4) -> list[Any]:
    """For `parametrize`: the values, of which only each fourth (or so) isn't slow. For what is alike in kind, such as
    the recipes that ship.
    """
    return [value if number % every == 0 else _slow(value) for number, value in enumerate(values)]


def _slow(value: Any) -> Any:
    values = value if isinstance(value, tuple) else (value,)
    return pytest.param(*values, marks=pytest.mark.slow)
