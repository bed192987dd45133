"""A model's chat template: a chat as the text that the model was trained on."""

from __future__ import annotations

from dataclasses import dataclass

from quantrecipe.model.model import Model
from quantrecipe.texts.documents import Document, Rendered

__all__ = ["ChatTemplate", "chat_template"]


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """A template in Jinja, and the texts of the special tokens that it writes.

    source:   the template
    bos, eos: texts of the tokens; "" where the vocabulary has none
    adds_bos: whether the tokeniser adds BOS by itself
    adds_eos: whether it adds EOS
    """

    source: str
    bos: str = ""
    eos: str = ""
    adds_bos: bool = False
    adds_eos: bool = False

    @property
    def digest(self) -> str:
        """Digest of all that decides what it renders."""
        raise NotImplementedError

    def render(self, document: Document) -> Rendered:
        """Render a chat, or hand a text through. TextError where the template fails."""
        raise NotImplementedError


def chat_template(model: Model) -> ChatTemplate | None:
    """The template in the metadata of a GGUF or a Hugging Face folder; None where it has none."""
    raise NotImplementedError
