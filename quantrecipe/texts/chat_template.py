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
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from quantrecipe.errors import Problem, TextError
from quantrecipe.gguf.values import GGUFValue, metadata_text
from quantrecipe.model.model import Model
from quantrecipe.texts.answers import Render, bytes_of, said_by_assistant
from quantrecipe.texts.documents import Document, Message, Rendered, Spans

if TYPE_CHECKING:
    from quantrecipe.texts.sandbox import CompiledTemplate

__all__ = ["ChatTemplate", "chat_template"]

_VERSION = 1
"""Of the way in which templates are rendered; part of what they are known by."""

_KEY = "tokenizer.chat_template"

_REASONING = ("reasoning_content", "reasoning", "thinking")
"""What templates call the reasoning of a message."""

_KEEP_REASONING = {
    "preserve_thinking": True,
    "preserve_reasoning": True,
    "keep_past_thinking": True,
    "clear_thinking": False,
    "drop_thinking": False,
    "truncate_history_thinking": False,
}
"""Switches by which templates (of Qwen, LFM, GLM, DeepSeek, Nemotron) keep the reasoning of earlier turns."""

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
        text, spans = self._chat(document)
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
        )

    def ask(self, document: Document) -> Rendered:
        """Render a chat up to where the assistant answers, with what begins its answer. TextError as for `render`."""
        text, _ = self._chat(document, ask=True)
        bos = self.bos if self.adds_bos and self.bos and text.startswith(self.bos) else ""
        return Rendered(text=text[len(bos) :], special=True, answers=(), place=document.place, bos=bos)

    def _chat(self, document: Document, *, ask: bool = False) -> tuple[str, Spans]:
        """The whole text, and the runs of characters that the assistant says; if `ask`, up to its answer."""
        from quantrecipe.texts.sandbox import RenderingError

        try:
            try:
                return self._rendered(document, _as_objects, ask)
            except RenderingError:
                if not any(message.tool_calls for message in document.messages):
                    raise
                # Some templates write arguments as they are given, and so want them in a text.
                return self._rendered(document, _as_texts, ask)
        except RenderingError as error:
            whose = f" of {self.origin}" if self.origin else ""
            where = f" at its line {error.line}" if error.line is not None else ""
            what = f"the chat template{whose} fails{where}: {error.what}"
            remedy = "change the chat so that the template takes it, or leave it out"
            file, _, line = document.place.rpartition(":")
            if not line.isdecimal():
                file, line = document.place, ""
            problem = Problem(what=what, remedy=remedy, file=file, line=int(line) if line else None)
            raise TextError([problem]) from error

    def _rendered(self, document: Document, calls: Callable[[Any], Any], ask: bool) -> tuple[str, Spans]:
        messages = [self._variables(message, calls) for message in document.messages]
        compiled = self._compiled

        def render(count: int, ask: bool) -> tuple[str, Spans]:
            return compiled.render(
                _KEEP_REASONING
                | {
                    "messages": messages[:count],
                    "tools": list(document.tools) or None,
                    "documents": None,
                    "add_generation_prompt": ask,
                    "bos_token": self.bos,
                    "eos_token": self.eos,
                }
            )

        text, marked = render(len(messages), ask)
        if compiled.marks_answers or ask:
            return text, marked
        return text, said_by_assistant(text, document.messages, _lenient(render))

    def _variables(self, message: Message, calls: Callable[[Any], Any]) -> dict[str, Any]:
        """A message as templates take it: keys for what there is."""
        made: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.reasoning:
            if self._reasoning:
                made |= dict.fromkeys(self._reasoning, message.reasoning)
            else:
                made["content"] = f"<think>\n{message.reasoning}\n</think>\n\n{message.content}"
        if message.tool_calls:
            made["tool_calls"] = [calls(call) for call in message.tool_calls]
        for key, value in (("name", message.name), ("tool_call_id", message.tool_call_id)):
            if value:
                made[key] = value
        return made

    @cached_property
    def _reasoning(self) -> tuple[str, ...]:
        """Names under which the template looks for the reasoning."""
        return tuple(name for name in _REASONING if re.search(rf"[.'\"]{name}\b", self.source))

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


def _as_objects(call: Any) -> Any:
    return call


def _as_texts(call: Any) -> Any:
    function = call["function"]
    arguments = function["arguments"]
    said = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return call | {"function": function | {"arguments": said}}


def _lenient(render: Callable[[int, bool], tuple[str, Spans]]) -> Render:
    """The beginning of a chat as it would be alone; None where the template refuses it. Each is made once."""
    from quantrecipe.texts.sandbox import RenderingError

    @cache
    def rendered(count: int, ask: bool) -> str | None:
        try:
            return render(count, ask)[0]
        except RenderingError:
            return None

    return rendered
