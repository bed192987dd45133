"""A model's chat template: a chat as the text that the model was trained on.

What is rendered is what transformers' `apply_chat_template` gives, from the template in the model's own metadata. What
the assistant thinks is kept where the template has a place for it; where it has none, it stands before the answer, as
<think>…</think>. Templates that take the thinking out of earlier turns do so here, too, unless they have a switch.

The tokeniser adds BOS and EOS itself where the vocabulary asks for it, and most templates write BOS, too. So one that
stands at the beginning is taken off where the tokeniser adds it, and an EOS at the end. Source: llama.cpp,
common/chat.cpp, which does the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from quantrecipe.errors import Problem, TextError
from quantrecipe.gguf.values import GGUFValue, metadata_text
from quantrecipe.model.model import Model
from quantrecipe.texts.answers import Render, bytes_of, said_by_assistant
from quantrecipe.texts.documents import Document, Rendered, Spans
from quantrecipe.texts.template_variables import (
    SPELLINGS,
    Spelling,
    count_marks,
    marked,
    reasoning_names,
    variables_of,
)

if TYPE_CHECKING:
    from quantrecipe.texts.sandbox import CompiledTemplate, RenderingError

__all__ = ["ChatTemplate", "chat_template"]

_VERSION = 1
"""Of the way in which templates are rendered; part of what they are known by."""

_KEY = "tokenizer.chat_template"

_BOS_BY_PRE = frozenset(
    ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano")
)
"""Pre-tokenizers with which llama.cpp adds BOS where the file doesn't say. Source: src/llama-vocab.cpp."""


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """A template in Jinja, and the texts of the special tokens that it writes.

    source:   the template
    bos, eos: texts of the tokens; "" where the vocabulary has none
    adds_bos: whether the tokeniser adds BOS by itself
    adds_eos: whether it adds EOS
    origin:   the model, for messages
    """

    source: str
    bos: str = ""
    eos: str = ""
    adds_bos: bool = False
    adds_eos: bool = False
    origin: str = ""

    @property
    def digest(self) -> str:
        """Digest of all that decides what it renders."""
        facts = [_VERSION, self.source, self.bos, self.eos, self.adds_bos, self.adds_eos]
        return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()

    def render(self, document: Document) -> Rendered:
        """Render a chat, or hand a text through. TextError where the template fails."""
        if document.text is not None:
            return Rendered(text=document.text, special=False, answers=document.answers, place=document.place)
        text, spans, lost = self._chat(document)
        bos = self.bos if self.adds_bos and self.bos and text.startswith(self.bos) else ""
        end = len(text)
        if self.adds_eos and self.eos and text.endswith(self.eos):
            end = max(len(bos), end - len(self.eos))
        return Rendered(
            text=text[len(bos) : end],
            special=True,
            answers=bytes_of(text, spans, len(bos), end),
            place=document.place,
            bos=bos,
            lost=lost,
        )

    def ask(self, document: Document) -> Rendered:
        """Render a chat up to where the assistant answers, with what begins its answer. TextError where that fails.

        Messages of the assistant at the end are what is asked for, and left out.
        """
        from quantrecipe.texts.sandbox import RenderingError

        messages = list(document.messages)
        while messages and messages[-1].role == "assistant":
            messages.pop()
        asked = replace(document, messages=tuple(messages))
        try:
            given = self._given(asked, SPELLINGS[0]) | {"add_generation_prompt": True}
            text: str = self._compiled.render(given)[0]
        except RenderingError as error:
            raise self._failure(document, error) from error
        bos = self.bos if self.adds_bos and self.bos and text.startswith(self.bos) else ""
        return Rendered(text=text[len(bos) :], special=True, answers=(), place=document.place, bos=bos)

    def _chat(self, document: Document) -> tuple[str, Spans, tuple[str, ...]]:
        """The whole text, the runs of characters that the assistant says, and what the template leaves out."""
        from quantrecipe.texts.sandbox import RenderingError

        calls = sum(len(message.tool_calls) for message in document.messages)
        made: list[tuple[str, Spans]] = []
        failures: list[RenderingError] = []
        for spelling in SPELLINGS if calls else SPELLINGS[:1]:
            try:
                made.append(self._rendered(document, spelling))
                if not calls or self._writes(calls, marked(document), spelling):
                    return *made[-1], _lost(document, made[-1][0])
            except RenderingError as error:
                failures.append(error)
        if made:
            return *made[0], (*_lost(document, made[0][0]), "calls of tools")
        raise self._failure(document, failures[0]) from failures[0]

    def _writes(self, calls: int, document: Document, spelling: Spelling) -> bool:
        """Whether all calls of a chat with marked names are written."""
        text, _ = self._compiled.render(self._given(document, spelling))
        return count_marks(text) >= calls

    def _failure(self, document: Document, error: RenderingError) -> TextError:
        """A failure as an error that names the template's line and the chat."""
        whose = f" of {self.origin}" if self.origin else ""
        where = f" at its line {error.line}" if error.line is not None else ""
        what = f"the chat template{whose} fails{where}: {error.what}"
        remedy = "change the chat so that the template takes it, or leave it out"
        file, _, line = document.place.rpartition(":")
        if not line.isdecimal():
            file, line = document.place, ""
        problem = Problem(what=what, remedy=remedy, file=file, line=int(line) if line else None)
        return TextError([problem])

    def _rendered(self, document: Document, spelling: Spelling) -> tuple[str, Spans]:
        """The text, and the runs of characters that the assistant says."""
        given, compiled = self._given(document, spelling), self._compiled
        text, spans = compiled.render(given)
        if compiled.marks_answers:
            return text, spans

        def beginning(count: int, ask: bool) -> str:
            part = {"messages": given["messages"][:count], "add_generation_prompt": ask}
            return compiled.render(given | part)[0]

        return text, said_by_assistant(text, document.messages, _lenient(beginning))

    def _given(self, document: Document, spelling: Spelling) -> dict[str, Any]:
        tokens = {"bos_token": self.bos, "eos_token": self.eos, "add_generation_prompt": False}
        return variables_of(document, reasoning_names(self.source), spelling) | tokens

    @cached_property
    def _compiled(self) -> CompiledTemplate:
        # Here, since jinja2 takes time to load, and most runs have no chats.
        from quantrecipe.texts.sandbox import CompiledTemplate

        return CompiledTemplate(self.source)


def chat_template(model: Model) -> ChatTemplate | None:
    """The template in the metadata of a GGUF or a Hugging Face folder; None where it has none."""
    metadata = model.metadata
    source = metadata_text(metadata, _KEY)
    if not source:
        return None
    # What llama.cpp takes where the file doesn't say: src/llama-vocab.cpp.
    kind = metadata_text(metadata, "tokenizer.ggml.model")
    sentencepiece = kind == "llama"
    adds_bos = sentencepiece or (
        kind == "gpt2" and metadata_text(metadata, "tokenizer.ggml.pre") in _BOS_BY_PRE
    )
    return ChatTemplate(
        source=source,
        bos=_token(metadata, "bos", 1 if sentencepiece else None),
        eos=_token(metadata, "eos", 2 if sentencepiece else None),
        adds_bos=_flag(metadata, "bos", adds_bos),
        adds_eos=_flag(metadata, "eos", False),
        origin=model.path.name,
    )


def _token(metadata: Mapping[str, GGUFValue], kind: str, default: int | None) -> str:
    """The text of a special token; "" where there is none."""
    value, tokens = metadata.get(f"tokenizer.ggml.{kind}_token_id"), metadata.get("tokenizer.ggml.tokens")
    number = default if value is None else value.decode()
    if tokens is None or tokens.item_type is None or type(number) is not int or not 0 <= number < len(tokens):
        return ""
    return str(tokens.first(number + 1)[-1])


def _flag(metadata: Mapping[str, GGUFValue], kind: str, default: bool) -> bool:
    value = metadata.get(f"tokenizer.ggml.add_{kind}_token")
    return default if value is None else bool(value.decode())


def _lost(document: Document, text: str) -> tuple[str, ...]:
    """What of a chat isn't in what the template made of it, but for calls of tools."""
    lost = []
    for message in document.messages:
        # What stands before </think> is thinking, also where a data set has it in the content.
        if message.content.rpartition("</think>")[2].strip() not in text:
            lost.append(f"messages of the {message.role}")
        if message.reasoning.strip() not in text:
            lost.append("thinking")
    return tuple(dict.fromkeys(lost))


def _lenient(render: Callable[[int, bool], str]) -> Render:
    """The beginning of a chat as it would be alone; None where the template refuses it. Each is made once."""
    from quantrecipe.texts.sandbox import RenderingError

    @cache
    def rendered(count: int, ask: bool) -> str | None:
        try:
            return render(count, ask)
        except RenderingError:
            return None

    return rendered
