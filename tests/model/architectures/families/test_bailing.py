"""Ling and Sarvam: what is computed, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.model import Model


def test_an_output_that_is_normalized(opened: Callable[..., Model]) -> None:
    with pytest.raises(ModelError, match="norm_head"):
        opened("bail1", norm_head=True)


@pytest.mark.parametrize("name", ["bail1", "erniefused"])
def test_fused_rows_are_of_whole_heads(name: str, opened: Callable[..., Model]) -> None:
    with pytest.raises(ModelError, match=r"has 128 rows \(expected: 4 \+ 2 · 4 heads of 16\)"):
        opened(name, num_key_value_heads=4)
