"""Targets: texts that models are run on, and the templates that write chats."""

from __future__ import annotations

from functools import cache

from fuzz.answers import Target, answered, text_of, written

from quantrecipe.evaluate.prompts import read_prompts
from quantrecipe.evaluate.questions import read_questions
from quantrecipe.texts.chat_template import ChatTemplate
from quantrecipe.texts.documents import Document, Message
from quantrecipe.texts.read_domain import read_domain
from quantrecipe.texts.rendering import render
from quantrecipe.texts.sandbox import CompiledTemplate, RenderingError

__all__ = ["TARGETS"]

_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_CHAT = Document(
    place="fuzz.jsonl:1",
    messages=(
        Message(role="system", content="You help."),
        Message(role="user", content="What is 6 times 7?"),
        Message(role="assistant", content="42", reasoning="6 + 6 + …"),
    ),
)
_STEPS = 10_000  # of the million that there are


@cache
def _template() -> ChatTemplate:
    return ChatTemplate(source=_CHATML, bos="<s>", eos="</s>")


def template(data: bytes) -> None:
    """A chat template, and a chat that it writes."""
    with answered():
        source = text_of(data)
        try:
            compiled = CompiledTemplate(source, steps=_STEPS)
            messages = [{"role": it.role, "content": it.content} for it in _CHAT.messages]
            text, spans = compiled.render(
                {"messages": messages, "bos_token": "<s>", "add_generation_prompt": True}
            )
            assert all(0 <= start <= stop <= len(text) for start, stop in spans)
        except RenderingError as error:
            assert error.what


def texts(data: bytes) -> None:
    """JSON lines of texts and chats; what is read is written by a template."""
    path = written("fuzz.jsonl", data)
    with answered():
        for rendered in render(read_domain(f"{path}"), _template()):
            rendered.data  # noqa: B018  # a property that encodes


def prompts(data: bytes) -> None:
    """Prompts on lines, as text or as JSON."""
    with answered():
        for prompt in read_prompts(written("fuzz.prompts", data), _template):
            prompt.text.encode()


def questions(data: bytes) -> None:
    """Questions whose answers can be checked."""
    with answered():
        for question in read_questions(written("fuzz.questions", data), _template):
            question.prompt.encode()


TARGETS: tuple[Target, ...] = (template, texts, prompts, questions)
