"""Every built-in format keeps every promise that third parties' formats are held to."""

from __future__ import annotations

import pytest

from quantrecipe.formats import ALL
from quantrecipe.testing import Check, checks_of


def cases() -> list[object]:
    """Each check of each format. tests/test_imports.py sees that nothing heavy is loaded with all of them together."""
    found = [check for fmt in ALL for check in checks_of(fmt)]
    own_process = pytest.mark.slow
    return [
        pytest.param(it, id=str(it), marks=own_process if it.name == "light_import" else ()) for it in found
    ]


@pytest.mark.parametrize("check", cases())
def test_contract(check: Check) -> None:
    check()
