"""Everything that quantrecipe relies on, of every format."""

from __future__ import annotations

from quantrecipe.testing import Check, parametrize_with_checks

from quantrecipe_ik.formats import ALL


@parametrize_with_checks([*ALL])
def test_contract(check: Check) -> None:
    check()
