"""Everything that quantrecipe expects of an executor."""

from __future__ import annotations

import pytest
from quantrecipe.testing import Check, parametrize_with_checks

from quantrecipe_ray import RayExecutor


@pytest.mark.usefixtures("cluster")  # RAY_ADDRESS names it
@parametrize_with_checks([RayExecutor()])
def test_contract(check: Check) -> None:
    check()
