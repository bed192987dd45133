"""What a chat template is given of a chat: what transformers gives it, under the names that it looks for."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from quantrecipe.texts.documents import Document, Message

__all__ = ["SPELLINGS", "Spelling", "count_marks", "marked", "reasoning_names", "variables_of"]

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

_THINKING = {"enable_thinking": True, "thinking": True}
"""Switches for a chat in which somebody thinks: without them, some templates write no reasoning at all."""

_MARK = "\ufdd0"  # never a character; in a name, it shows whether the template writes the name


@dataclass(frozen=True, slots=True)
class Spelling:
    """How calls of tools are given to a template.

    as_text:    arguments as JSON in a text, as OpenAI has them, not as the object that transformers asks for
    no_content: a message that only calls tools has no content (None), not an empty one
    """

    as_text: bool
    no_content: bool

    def call(self, call: Any) -> Any:
        """A call, spelt so."""
        function = call["function"]
        arguments = function["arguments"]
        if not self.as_text or isinstance(arguments, str):
            return call
        said = json.dumps(arguments, ensure_ascii=False)
        return call | {"function": function | {"arguments": said}}


SPELLINGS = tuple(Spelling(as_text, no_content) for as_text in (False, True) for no_content in (False, True))
"""In the order in which they are tried, until a template writes all calls."""


def reasoning_names(source: str) -> tuple[str, ...]:
    """Names under which a template looks for the reasoning of a message."""
    return tuple(name for name in _REASONING if re.search(rf"[.'\"]{name}\b", source))


def variables_of(document: Document, names: Sequence[str], spelling: Spelling) -> dict[str, Any]:
    """The variables of a chat. `names`: for the reasoning; without any, it stands before the answer in its content."""
    thinks = any(message.reasoning for message in document.messages)
    return _KEEP_REASONING | (_THINKING if thinks else {}) | {
        "messages": [_message(message, names, spelling) for message in document.messages],
        "tools": list(document.tools) or None,
        "documents": None,
    }  # fmt: skip


def marked(document: Document) -> Document:
    """The chat with a mark in the name of each function that is called; `count_marks` finds them in a rendering."""
    messages = tuple(
        replace(message, tool_calls=tuple(_marked_call(call) for call in message.tool_calls))
        for message in document.messages
    )
    return replace(document, messages=messages)


def count_marks(text: str) -> int:
    """How many names with a mark stand in a text, also in JSON of ASCII alone."""
    return text.count(_MARK) + text.count(f"\\u{ord(_MARK):x}")


def _marked_call(call: Any) -> Any:
    function = call["function"]
    return call | {"function": function | {"name": _MARK + function["name"]}}


def _message(message: Message, names: Sequence[str], spelling: Spelling) -> dict[str, Any]:
    """A message as templates take it: keys for what there is."""
    made: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning and names:
        made |= dict.fromkeys(names, message.reasoning)
    elif message.reasoning:
        made["content"] = f"<think>\n{message.reasoning}\n</think>\n\n{message.content}"
    if message.tool_calls:
        made["tool_calls"] = [spelling.call(call) for call in message.tool_calls]
        if spelling.no_content and not made["content"]:
            made["content"] = None
    for key, value in (("name", message.name), ("tool_call_id", message.tool_call_id)):
        if value:
            made[key] = value
    return made
