"""What the assistant says is found in what was rendered, also where a template writes beginnings in another way."""

from __future__ import annotations

from quantrecipe.texts.answers import Render, bytes_of, said_by_assistant
from quantrecipe.texts.documents import Message

CHAT = [
    Message(role="user", content="one"),
    Message(role="assistant", content=" two "),
    Message(role="user", content="three"),
    Message(role="assistant", content="four"),
]


def written(messages: list[Message], ask: bool) -> str:
    return "".join(f"<{it.role}>{it.content}</>" for it in messages) + ("<assistant>" if ask else "")


def renders(messages: list[Message]) -> Render:
    return lambda count, ask: written(messages[:count], ask)


def parts(text: str, render: Render, messages: list[Message] = CHAT) -> list[str]:
    return [text[start:end] for start, end in said_by_assistant(text, messages, render)]


def test_turns_end_where_their_markup_does() -> None:
    assert parts(written(CHAT, False), renders(CHAT)) == [" two </>", "four</>"]


def test_contents_are_looked_for_where_beginnings_are_refused() -> None:
    assert parts(written(CHAT, False), lambda count, ask: None) == ["two", "four"]


def test_contents_are_looked_for_where_beginnings_lead_elsewhere() -> None:
    text = written(CHAT, False)
    assert parts(text, lambda count, ask: "") == ["two", "four"]
    assert parts(text, lambda count, ask: text[: 3 * count + 5 * ask]) == ["two", "four"]


def test_a_content_stands_after_those_before_it() -> None:
    chat = [Message(role="user", content="4"), Message(role="assistant", content="4")]
    text = written(chat, False)
    ((start, end),) = said_by_assistant(text, chat, lambda count, ask: None)
    assert (text[start:end], start) == ("4", text.rindex("4"))


def test_a_template_without_a_prompt_for_answers() -> None:
    def render(count: int, ask: bool) -> str:
        return written(CHAT[:count], False)

    assert parts(written(CHAT, False), render) == ["two </>", "four</>"]


def test_thinking_is_said_too_where_there_is_no_prompt() -> None:
    chat = [CHAT[0], Message(role="assistant", content="two", reasoning="hm")]
    text = "<user>one</><assistant>hm|two</>"
    whole = {1: "<user>one</>", 2: text}
    assert parts(text, lambda count, ask: whole[count], chat) == ["hm|two</>"]


def test_an_end_that_only_the_last_turn_has() -> None:
    chat = [CHAT[0], Message(role="assistant", content="two", reasoning="hm"), CHAT[2], CHAT[3]]
    text = "<user>one<assistant>hm|two<user>three<assistant>four</s>"
    whole = {
        (1, False): "<user>one",
        (1, True): "<user>one<assistant>",
        (2, False): "<user>one<assistant>hm|two</s>",
        (3, False): "<user>one<assistant>hm|two<user>three",
        (3, True): "<user>one<assistant>hm|two<user>three<assistant>",
        (4, False): text,
    }
    assert parts(text, lambda count, ask: whole[count, ask], chat) == ["hm|two", "four</s>"]


def test_two_answers_in_a_row_are_apart() -> None:
    chat = [CHAT[0], Message(role="assistant", content="a"), Message(role="assistant", content="b")]
    assert parts(written(chat, False), renders(chat), chat) == ["a</>", "b</>"]


def test_nothing_where_nothing_is_found() -> None:
    assert parts("nothing of it", lambda count, ask: None) == []
    assert parts("", lambda count, ask: "") == []


def test_beginnings_of_very_long_chats_are_not_rendered() -> None:
    chat = [CHAT[0], CHAT[3]] * 101
    asked = []

    def render(count: int, ask: bool) -> str:
        asked.append(count)
        return written(chat[:count], ask)

    assert parts(written(chat, False), render, chat) == ["four"] * 101
    assert asked == []


def test_characters_become_bytes() -> None:
    text = "é<✓😀>x"
    assert bytes_of(text, ((0, 1), (2, 4), (5, 6)), 0, len(text)) == ((0, 2), (3, 10), (11, 12))
    # What is cut off at either end is counted by nobody.
    assert bytes_of(text, ((0, 1), (2, 4), (5, 6)), 3, 5) == ((0, 4),)
    assert bytes_of(text, (), 0, 6) == ()
