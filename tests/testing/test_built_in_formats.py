"""Every built-in format keeps every promise that third parties' formats are held to."""

from __future__ import annotations

import pytest

from quantrecipe.formats import ALL
from quantrecipe.testing import Check, checks_of

OF_EACH_KIND = {
    "F16",
    "BF16",
    "Q8_0",
    "Q4_1",
    "Q4_K",
    "Q3_K",
    "IQ4_XS",
    "IQ3_S",
    "IQ2_XXS",
    "IQ1_M",
    "NVFP4",
    "TQ1_0",
    "I8",
}
"""One format of each frame; `.ci/run` checks the others, too."""


def cases() -> list[object]:
    """Each check of each format. tests/test_imports.py sees that nothing heavy is loaded with all of them together."""

    def takes_long(check: Check) -> bool:
        return check.name == "light_import" or check.subject not in OF_EACH_KIND

    found = [check for fmt in ALL for check in checks_of(fmt)]
    return [pytest.param(it, id=str(it), marks=pytest.mark.slow if takes_long(it) else ()) for it in found]


@pytest.mark.parametrize("check", cases())
def test_contract(check: Check) -> None:
    check()
