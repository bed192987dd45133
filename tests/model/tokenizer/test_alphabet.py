"""GPT-2's alphabet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from quantrecipe.model.tokenizer.alphabet import as_text, shown


def test_it_is_that_of_hugging_face() -> None:
    signs = {shown(bytes([byte])) for byte in range(256)}
    assert signs == set(pre_tokenizers.ByteLevel.alphabet())


def test_order() -> None:
    assert shown(b"\0 \n!\x7f\xa0\xad\xff") == "ĀĠĊ!ġłŃÿ"


@given(st.text())
def test_there_and_back(text: str) -> None:
    assert as_text(shown(text.encode())) == text


@pytest.mark.parametrize(
    ("signs", "text"),
    [("<|x|>", "<|x|>"), ("Ġthe", " the"), ("a b é", "a b é"), ("Ã", "\ufffd"), ("▁", "▁"), ("", "")],
)
def test_what_is_not_of_the_alphabet_stays(signs: str, text: str) -> None:
    assert as_text(signs) == text
