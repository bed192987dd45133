"""Every built-in encoder keeps every promise that third parties' encoders are held to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from quantrecipe.encoders import ALL
from quantrecipe.encoders.feedback.encoder import Feedback
from quantrecipe.testing import Check, parametrize_with_checks
from quantrecipe.testing.encoders import check_settled


@parametrize_with_checks(ALL)
def test_contract(check: Check) -> None:
    check()


@pytest.mark.parametrize("encoder", ALL, ids=lambda encoder: encoder.name)
def test_options_have_a_default(encoder) -> None:
    assert all("default" in schema for schema in encoder.option_schema.values())
    assert set(encoder.options) == set(encoder.option_schema)


class _Forgets(Feedback):
    """Leaves an option out of what holds."""

    def settled(self, tokens: int, columns: int) -> Mapping[str, Any]:
        return {"damping": 0.1}


def test_an_encoder_that_forgets_an_option_is_found() -> None:
    with pytest.raises(AssertionError, match="settled has"):
        check_settled(_Forgets())
