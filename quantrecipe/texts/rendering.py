"""Domains as they are tokenised: document by document, or as one `Text`."""

from __future__ import annotations

from collections.abc import Sequence

from quantrecipe.errors import Problem, TextError, abridged
from quantrecipe.texts.chat_template import ChatTemplate
from quantrecipe.texts.documents import Domain, Rendered
from quantrecipe.texts.plain_text import Text

__all__ = ["as_text", "render"]

_BETWEEN = b"\n\n"


def render(domain: Domain, template: ChatTemplate | None) -> list[Rendered]:
    """Every document as it is tokenised. TextError for a chat where there is no template, or where it fails."""
    if template is None:
        if (chat := next((it for it in domain.documents if it.is_chat), None)) is not None:
            what = "is a chat, and the model has no chat template (tokenizer.chat_template) to write it with"
            remedy = (
                "take the instruction-tuned model, give plain texts, or say --raw to read files as they are"
            )
            raise TextError([Problem(what=what, remedy=remedy, file=chat.place)])
        template = ChatTemplate(source="")
    rendered: list[Rendered] = []
    problems: list[Problem] = []
    for document in domain.documents:
        try:
            rendered.append(template.render(document))
        except TextError as error:
            problems += error.problems
    if problems:
        raise TextError(abridged(problems))
    return rendered


def as_text(name: str, rendered: Sequence[Rendered]) -> Text:
    """All documents as one text, with a blank line between: a file that is one text keeps its bytes.

    The tokeniser adds BOS at the beginning of a text alone, so documents after the first keep the one that their
    template wrote. Where one of them has answers, these count and nothing else does, but the whole of a plain text.
    """
    parts: list[bytes] = []
    starts: list[int] = []
    answers: list[tuple[int, int]] = []
    at = 0
    for number, each in enumerate(rendered):
        bos = each.bos.encode() if number else b""
        data = each.data
        starts.append(at)
        begin = at + len(bos)
        answers += [(begin + start, begin + end) for start, end in each.answers]
        if not each.special and not each.answers:
            answers.append((begin, begin + len(data)))
        parts.append(bos + data)
        at = begin + len(data) + len(_BETWEEN)
    return Text(
        name=name,
        data=_BETWEEN.join(parts),
        special=any(each.special for each in rendered),
        answers=tuple(answers) if any(each.answers for each in rendered) else (),
        documents=tuple(starts) if len(starts) > 1 else (),
    )
