"""Everything that quantrecipe relies on, of the format and of the analysis."""

from __future__ import annotations

from quantrecipe.testing import Check, parametrize_with_checks

from quantrecipe_example import Q4_96, LargeErrors


@parametrize_with_checks([Q4_96(), LargeErrors()])
def test_contract(check: Check) -> None:
    check()
