"""What a text consists of: documents, each one text or one chat, in domains; and a document as it is tokenised.

Domain "code"    what one --text names: its documents, in the order of its files
  Document       place "talk.jsonl:12": plain text, or the messages of a chat
Rendered         the document as the model's tokeniser gets it; which of its bytes the assistant says
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Document", "Domain", "Message", "Rendered", "Spans"]

Spans = tuple[tuple[int, int], ...]
"""Runs of bytes of a text in UTF-8, start and end, in order and apart from each other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One message of a chat, in the terms of chat templates.

    role:         one of `ROLES`
    content:      what is said; "" for an assistant that only calls tools
    reasoning:    what the assistant thought before it; "" for nothing
    tool_calls:   plain data, `{"type": "function", "function": {"name": …, "arguments": {…}}}` each
    name:         of the tool or the speaker; "" where none is given
    tool_call_id: the call that a tool answers; "" where none is given
    """

    role: str
    content: str
    reasoning: str = ""
    tool_calls: tuple[Any, ...] = ()
    name: str = ""
    tool_call_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One text, or one chat.

    place:    where it stands: "talk.jsonl:12", "src/a.py"
    text:     plain text; None for a chat. Bytes that aren't UTF-8, which only a text read with --raw has, and one that
              ends within a character, are in it as `os.fsdecode` has them; `Rendered.data` gives them back
    messages: of a chat
    tools:    that the assistant may call: plain data, as templates take them
    answers:  of a text that is a prompt and its completion: the bytes of the completion
    """

    place: str
    text: str | None = None
    messages: tuple[Message, ...] = ()
    tools: tuple[Any, ...] = ()
    answers: Spans = ()

    @property
    def is_chat(self) -> bool:
        """Whether it needs the model's chat template."""
        return self.text is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Domain:
    """What one --text names.

    name:      from NAME=PATH, or else from the file's name
    weight:    from PATH:WEIGHT; None where none is given
    documents: at least one
    digest:    XXH3-128 of the bytes of its file; of several, of their XXH3-128s in order
    files:     in the order in which they were read
    left_out:  files of a folder or glob that weren't read, each with the reason
    """

    name: str
    weight: float | None
    documents: tuple[Document, ...]
    digest: str
    files: tuple[Path, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """A document as it is tokenised.

    text:    without the BOS and EOS tokens that the tokeniser adds by itself
    special: whether markup in it is parsed as special tokens: True for chats only
    answers: the bytes that the assistant says; empty for plain text, where everything counts, and for a chat in which
             nothing of the assistant was found
    place:   where the document stands
    bos:     the text of the BOS token that the template wrote and the tokeniser adds, so that `text` lacks it; else ""
    lost:    what of the chat the template leaves out: "thinking", "calls of tools", "messages of the system"
    """

    text: str
    special: bool
    answers: Spans
    place: str
    bos: str = ""
    lost: tuple[str, ...] = ()

    @property
    def data(self) -> bytes:
        """The bytes of the text, which `answers` counts: those of the file, for a file that is one text."""
        return self.text.encode("utf-8", "surrogateescape")
