"""Domains as they are tokenised: document by document, or as one `Text`."""

from __future__ import annotations

from collections.abc import Sequence

from quantrecipe.texts.chat_template import ChatTemplate
from quantrecipe.texts.documents import Domain, Rendered
from quantrecipe.texts.plain_text import Text

__all__ = ["as_text", "render"]


def render(domain: Domain, template: ChatTemplate | None) -> list[Rendered]:
    """Every document as it is tokenised. TextError for a chat where there is no template, or where it fails."""
    raise NotImplementedError


def as_text(name: str, rendered: Sequence[Rendered]) -> Text:
    """All documents as one text, with a blank line between: a file that is one text keeps its bytes."""
    raise NotImplementedError
