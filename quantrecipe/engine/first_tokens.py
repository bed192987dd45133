"""first_tokens: the beginning of a long text as tokens, without cutting all of it into tokens.

A text of hundreds of megabytes takes minutes and gigabytes, and a run of the first 100 chunks needs a thousandth of it.
What tokens a vocabulary makes of a place depends on what stands near it: the word, the run of blanks or digits that it
is in. So the tokens of a part are those of the whole, but for some at the part's end. The part ends behind a line, and
goes on for `_MARGIN` tokens behind those that are wanted; and a longer part has to have the same ones, or all of the
text is cut after all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Tokens = NDArray[np.int32]

__all__ = ["Tokenizer", "first_tokens"]

_MARGIN = 2048
"""Tokens that a part has at least behind those that are wanted."""
_SMALL = 1 << 20
"""Bytes of a text that is cut as a whole, since that takes a moment."""
_BYTES_PER_TOKEN = 6
"""More than most texts have (3 to 5), so that the first part is long enough mostly."""
_LONGER = 1.25
_CONTINUES = 0b1000_0000
"""The highest bits of a byte of UTF-8 that isn't the first one of its character (the mask is 0b1100_0000)."""


class Tokenizer(Protocol):
    """What is asked of a model."""

    def tokenize(self, text: bytes, *, special: bool = False) -> Tokens:
        """All tokens of a text."""
        ...


def first_tokens(model: Tokenizer, text: bytes, most: int | None, *, special: bool = False) -> Tokens:
    """The first `most` tokens of what `model.tokenize` makes of all of the text, or all, if it has fewer.

    int32 (tokens,). None asks for all. EvaluationError as `LanguageModel.tokenize`.
    """
    if most is None or len(text) <= _SMALL:
        return model.tokenize(text, special=special)[:most]
    size = most * _BYTES_PER_TOKEN + (1 << 16)
    while (end := _end(text, size)) < len(text):
        tokens = model.tokenize(text[:end], special=special)
        if len(tokens) < most + _MARGIN:
            size = 2 * end
            continue
        longer = model.tokenize(text[: _end(text, int(_LONGER * end))], special=special)
        if (tokens[:most] == longer[:most]).all():
            return tokens[:most].copy()
        break
    return model.tokenize(text, special=special)[:most].copy()


def _end(text: bytes, size: int) -> int:
    """Where a part of about `size` bytes ends: behind a line, else between two characters."""
    if size >= len(text):
        return len(text)
    line = text.rfind(b"\n", size // 2, size)
    if line >= 0:
        return line + 1
    while size and text[size] & 0b1100_0000 == _CONTINUES:
        size -= 1
    return size
