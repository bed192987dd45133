"""Every built-in format keeps every promise that third parties' formats are held to."""

from __future__ import annotations

from quantrecipe.formats import ALL
from quantrecipe.testing import Check, parametrize_with_checks


@parametrize_with_checks(ALL)
def test_contract(check: Check) -> None:
    check()
