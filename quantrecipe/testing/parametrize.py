"""parametrize_with_checks: a whole conformance test in one decorated line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from quantrecipe.testing.checks import checks_of

__all__ = ["parametrize_with_checks"]


def parametrize_with_checks(subjects: Iterable[Any], *, seed: int = 0) -> Any:
    """A pytest decorator that runs a test once for each check of each format and analysis.

    from quantrecipe.testing import parametrize_with_checks
    from quantrecipe_mine import Mine

    @parametrize_with_checks([Mine()])
    def test_contract(check):
        check()
    """
    import pytest

    return pytest.mark.parametrize(
        "check", [check for subject in subjects for check in checks_of(subject, seed=seed)], ids=str
    )
