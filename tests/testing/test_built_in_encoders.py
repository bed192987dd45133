"""Every built-in encoder keeps every promise that third parties' encoders are held to."""

from __future__ import annotations

import pytest

from quantrecipe.encoders import ALL
from quantrecipe.testing import Check, parametrize_with_checks


@parametrize_with_checks(ALL)
def test_contract(check: Check) -> None:
    check()


@pytest.mark.parametrize("encoder", ALL, ids=lambda encoder: encoder.name)
def test_options_have_a_default(encoder) -> None:
    assert all("default" in schema for schema in encoder.option_schema.values())
    assert set(encoder.options) == set(encoder.option_schema)
