"""Which parts of a rendered chat the assistant says: its answers and its calls of tools, up to the end of its turn.

A template that marks them ({% generation %}) says so itself. Of any other, the beginnings of the chat are rendered:

    the chat before an answer, with the prompt for one     ends where the answer begins
    the chat through the answer                            ends where its turn ends

Both are compared with the whole text, as far as they agree with it: a template may write a turn in another way once
others follow (thinking is taken out, an EOS stands only after the last). Where that doesn't lead to the message's
content, the content is looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from quantrecipe.texts.documents import Message, Spans

__all__ = ["Render", "bytes_of", "said_by_assistant"]

Render = Callable[[int, bool], "str | None"]
"""Renders the first messages of a chat, and, if asked, the prompt for an answer; None where the template refuses."""

_TOLD_BY = 8  # characters of a turn: where they occur elsewhere, the rest of it tells
_MOST = 100
"""Answers of a chat for which beginnings are rendered: the work grows with their square."""


def said_by_assistant(text: str, messages: Sequence[Message], render: Render) -> Spans:
    """Runs of characters of `text` that messages of the assistant are; none where none is found."""
    answers = [number for number, message in enumerate(messages) if message.role == "assistant"]
    found = _contents(text, messages)
    spans: list[tuple[int, int]] = []
    for number in answers:
        span = _turn(text, messages, number, render) if len(answers) <= _MOST else None
        span = span or found[number]
        if span is None:
            continue
        start, end = max(span[0], spans[-1][1] if spans else 0), span[1]
        if start < end:
            spans.append((start, end))
    return tuple(spans)


def bytes_of(text: str, spans: Spans, start: int, end: int) -> Spans:
    """Runs of characters of a text as runs of bytes of text[start:end] in UTF-8."""
    made: list[tuple[int, int]] = []
    at, position = start, 0
    for opened, closed in spans:
        first, last = max(opened, start), min(closed, end)
        if first >= last:
            continue
        begins = position + len(text[at:first].encode())
        at, position = last, begins + len(text[first:last].encode())
        made.append((begins, position))
    return tuple(made)


def _turn(text: str, messages: Sequence[Message], number: int, render: Render) -> tuple[int, int] | None:
    """Where a turn of the assistant begins and ends, by what is rendered without what follows."""
    before, asked, through = render(number, False), render(number, True), render(number + 1, False)
    if asked is None or through is None:
        return None
    start = _agree(asked, text)
    said = messages[number].content.strip()
    if before is not None and start < len(asked) and start <= _agree(before, text) < len(before):
        return None  # they part before the turn begins
    end = _end(text, through, start)
    if end is None and said and (found := text.find(said, start, _agree(through, text))) >= 0:
        end = found + len(said)  # what follows it, the last turn has in another way
    if end is None or start >= end or said not in text[start:end]:
        return None
    if asked == before:  # the template has no prompt for answers: what is before the content is markup
        thought = messages[number].reasoning.strip()
        at = [text.find(part, start, end) for part in (thought, said) if part]
        start = min([place for place in at if place >= 0], default=start)
    return start, end


def _end(text: str, through: str, start: int) -> int | None:
    """Where the turn that begins at `start` ends, if the chat through it is written there, or the end of that is.

    The turn may begin in another way where it is the last one, with thinking that is taken out once others follow.
    """
    if text.startswith(through):
        return len(through)
    first = text[start : start + _TOLD_BY]
    at = through.find(first, start)
    while len(first) == _TOLD_BY and at >= 0:
        if text.startswith(through[at:], start):
            return start + len(through) - at
        at = through.find(first, at + 1)
    return None


def _contents(text: str, messages: Sequence[Message]) -> list[tuple[int, int] | None]:
    """Where the content of each message stands, one after the other; None for one that isn't there."""
    found: list[tuple[int, int] | None] = []
    at = 0
    for message in messages:
        said = message.content.strip()
        start = text.find(said, at) if said else -1
        if start >= 0:
            at = start + len(said)
        found.append((start, at) if start >= 0 else None)
    return found


def _agree(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    if other.startswith(one):
        return len(one)
    alike, differs = 0, len(one)  # one[:alike] is a beginning of the other, one[:differs] isn't
    while differs - alike > 1:
        middle = (alike + differs) // 2
        alike, differs = (middle, differs) if other.startswith(one[:middle]) else (alike, middle)
    return alike
