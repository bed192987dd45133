"""Arrays of texts, which are encoded all at once, are those that are encoded one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.pairs import texts


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_texts(values: list[str]) -> None:
    assert texts(values) == GGUFValue.array(ValueType.STRING, values)


def test_half_a_surrogate_pair() -> None:
    with pytest.raises(UnicodeEncodeError):
        texts(["a", "\ud800"])
