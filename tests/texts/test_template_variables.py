"""What a template is given of a chat."""

from __future__ import annotations

from quantrecipe.texts.documents import Document, Message
from quantrecipe.texts.template_variables import (
    SPELLINGS,
    Spelling,
    count_marks,
    marked,
    reasoning_names,
    variables_of,
)

CALL = {"type": "function", "id": "c1", "function": {"name": "add", "arguments": {"é": 2}}}
CHAT = Document(
    place="t",
    messages=(
        Message(role="user", content="q"),
        Message(role="assistant", content="", reasoning="hm", tool_calls=(CALL,)),
        Message(role="tool", content="4", name="add", tool_call_id="c1"),
    ),
)
OBJECTS = SPELLINGS[0]


def test_keys_are_there_for_what_there_is() -> None:
    given = variables_of(CHAT, ("reasoning_content", "thinking"), OBJECTS)
    assert given["messages"] == [
        {"role": "user", "content": "q"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "hm",
            "thinking": "hm",
            "tool_calls": [CALL],
        },
        {"role": "tool", "content": "4", "name": "add", "tool_call_id": "c1"},
    ]
    assert (given["tools"], given["documents"]) == (None, None)


def test_thinking_without_a_place_stands_in_the_content() -> None:
    assert variables_of(CHAT, (), OBJECTS)["messages"][1]["content"] == "<think>\nhm\n</think>\n\n"


def test_switches_keep_thinking_and_begin_it_only_where_somebody_thinks() -> None:
    given = variables_of(CHAT, (), OBJECTS)
    assert (given["preserve_thinking"], given["clear_thinking"], given["enable_thinking"]) == (
        True,
        False,
        True,
    )
    calm = variables_of(Document(place="t", messages=CHAT.messages[:1]), (), OBJECTS)
    assert calm["preserve_thinking"]
    assert not {"enable_thinking", "thinking"} & set(calm)


def test_spellings_of_calls() -> None:
    assert [(it.as_text, it.no_content) for it in SPELLINGS] == [
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    ]
    message = variables_of(CHAT, ("reasoning",), Spelling(as_text=True, no_content=True))["messages"][1]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"type": "function", "id": "c1", "function": {"name": "add", "arguments": '{"é": 2}'}}
    ]
    # A message that has a content keeps it, and arguments that are a text already are one.
    said = Message(role="assistant", content="a", tool_calls=({"function": {"name": "f", "arguments": "x"}},))
    message = variables_of(Document(place="t", messages=(said,)), (), SPELLINGS[-1])["messages"][0]
    assert (message["content"], message["tool_calls"][0]["function"]["arguments"]) == ("a", "x")


def test_names_of_the_reasoning() -> None:
    assert reasoning_names("{{ m.thinking }}{{ m['reasoning_content'] }}") == (
        "reasoning_content",
        "thinking",
    )
    assert reasoning_names('{{ "reasoning" in m }}') == ("reasoning",)
    assert reasoning_names("{{ enable_thinking }}{{ m.reasoning_effort }}<thinking>") == ()


def test_marks_are_found_in_json_too() -> None:
    name = marked(CHAT).messages[1].tool_calls[0]["function"]["name"]
    assert name != "add"
    assert name.endswith("add")
    assert count_marks(f"{name} \\ufdd0add add") == 2
    assert CHAT.messages[1].tool_calls == (CALL,)  # as it was
