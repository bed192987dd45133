"""Every shape of a data set becomes the document that it means, and everything else an error with its line."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.errors import TextError
from quantrecipe.texts.documents import Document, Message
from quantrecipe.texts.json_lines import json_values
from quantrecipe.texts.shapes import is_known, read_values

FILE = Path("a.jsonl")
USER, ASSISTANT = Message(role="user", content="q"), Message(role="assistant", content="a")
CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}


def read(*values: Any) -> list[Document]:
    data = "\n".join(json.dumps(value) for value in values).encode()
    return list(read_values(json_values(data), "a.jsonl", FILE))


def chat(*said: dict[str, Any]) -> tuple[Message, ...]:
    (document,) = read({"messages": list(said)})
    return document.messages


CHATS = {
    "messages": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    "share gpt": {"id": 7, "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "messages as share gpt": {
        "messages": [{"from": "user", "value": "q"}, {"from": "chatgpt", "value": "a"}]
    },
    "instruction": {"instruction": "q", "input": "", "output": "a", "text": "### q\n### a"},
    "question": {"question": "q", "answer": "a", "difficulty": 3},
    "messages of prompt and completion": {"prompt": [{"role": "user", "content": "q"}], "completion": "a"},
    "both lists": {
        "prompt": [{"role": "user", "content": "q"}],
        "completion": [{"role": "assistant", "content": "a"}],
    },
    "parts": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "q"}]},
            {"role": "assistant", "content": "a", "weight": 0},
        ]
    },
    "with the prompt it was made of": {
        "prompt": "q",
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
    },
}


@pytest.mark.parametrize("kind", CHATS)
def test_chats(kind: str) -> None:
    assert read(CHATS[kind]) == [Document(place="a.jsonl:1", messages=(USER, ASSISTANT))]


def test_texts() -> None:
    assert read({"text": " a\n", "id": 1}) == [Document(place="a.jsonl:1", text=" a\n")]
    assert read({"content": "a", "url": "u"}) == [Document(place="a.jsonl:1", text="a")]


def test_a_completion_is_an_answer_in_bytes() -> None:
    assert read({"prompt": "é=", "completion": "ü"}) == [
        Document(place="a.jsonl:1", text="é=ü", answers=((3, 5),))
    ]


def test_an_instruction_with_input() -> None:
    (document,) = read({"instruction": "Add.", "input": "1 2", "output": "3"})
    assert [message.content for message in document.messages] == ["Add.\n\n1 2", "3"]


def test_a_system_prompt_beside_a_chat() -> None:
    (document,) = read({"system": "Be brief.", **CHATS["share gpt"]})
    assert document.messages[0] == Message(role="system", content="Be brief.")
    (document,) = read(
        {"system": "x", "messages": [{"role": "system", "content": "y"}, *CHATS["messages"]["messages"]]}
    )
    assert [message.content for message in document.messages] == ["y", "q", "a"]


def test_tools_and_their_calls() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    messages = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "content": "", "name": "f", "tool_call_id": "c1"},
    ]
    for tools in ([tool], json.dumps([tool])):
        (document,) = read({"messages": messages, "tools": tools})
        assert document.tools == (tool,)
        assert document.messages[1:] == (
            Message(role="assistant", content="", reasoning="hm", tool_calls=(CALL | {"id": "c1"},)),
            Message(role="tool", content="", name="f", tool_call_id="c1"),
        )


@pytest.mark.parametrize(
    "said",
    [
        {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"x": 1}}]},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"x": 1}'}},
        {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
    ],
)
def test_other_spellings_of_calls(said: dict[str, Any]) -> None:
    assert chat(said) == (Message(role="assistant", content="", tool_calls=(CALL,)),)


def test_arguments_that_are_no_json_stay_as_they_are() -> None:
    (message,) = chat({"role": "assistant", "tool_calls": [{"name": "f", "arguments": "x=1"}]})
    assert message.tool_calls[0]["function"]["arguments"] == "x=1"


def test_several_parts_are_joined_by_line_ends() -> None:
    (message,) = chat({"role": "user", "content": [{"type": "text", "text": "a"}, "b"]})
    assert message.content == "a\nb"


class TestAMessageALine:
    def said(self, *lines: dict[str, Any]) -> list[tuple[str, str]]:
        documents = read(*lines)
        return [(it.place, "".join(message.content for message in it.messages)) for it in documents]

    def test_a_run_is_a_chat(self) -> None:
        lines = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 2
        assert self.said(*lines) == [("a.jsonl:1", "abab")]

    def test_a_system_message_opens_one(self) -> None:
        lines = [
            {"role": role, "content": role[0]} for role in ("system", "developer", "user", "system", "user")
        ]
        assert self.said(*lines) == [("a.jsonl:1", "sdu"), ("a.jsonl:4", "su")]
        lines = [{"role": role, "content": role[0]} for role in ("user", "system", "user")]
        assert self.said(*lines) == [("a.jsonl:1", "u"), ("a.jsonl:2", "su")]
        lines = [{"role": role, "content": role[0]} for role in ("developer", "system", "user")]
        assert self.said(*lines) == [("a.jsonl:1", "dsu")]

    def test_another_conversation_opens_one(self) -> None:
        lines = [{"role": "user", "content": name, "conversation_id": name[0]} for name in ("a1", "a2", "b1")]
        assert self.said(*lines) == [("a.jsonl:1", "a1a2"), ("a.jsonl:3", "b1")]

    def test_another_shape_ends_one(self) -> None:
        user = {"role": "user", "content": "a"}
        assert [it.place for it in read(user, {"text": "t"}, user)] == ["a.jsonl:1", "a.jsonl:2", "a.jsonl:3"]


WRONG = {
    "no object": ([1], "is a list (expected: an object)"),
    "a text": ("hello", "is a text (expected: an object)"),
    "no keys": ({}, "has keys that make no text and no chat: none"),
    "a wrong key": ({"mesages": []}, "make no text and no chat: 'mesages'"),
    "preferences": ({"prompt": "a", "chosen": "b", "rejected": "c"}, "'prompt', 'chosen', 'rejected'"),
    "text": ({"text": 3}, "text is a number (expected: a text)"),
    "null": ({"text": None}, "text is null"),
    "empty text": ({"text": " \n"}, "text is empty"),
    "no messages": ({"messages": []}, "messages is empty"),
    "no list": ({"messages": {}}, "messages is an object (expected: a list of messages)"),
    "no message": ({"messages": ["hi"]}, "message 1 of messages: is a text (expected: a message"),
    "no content": ({"messages": [{"role": "user"}]}, "message 1 of messages: has the keys 'role'"),
    "no role": ({"messages": [{"content": "a"}]}, "has the keys 'content' (expected: role and content"),
    "wrong role": ({"messages": [{"role": "usr", "content": "a"}]}, "the role 'usr' isn't known"),
    "role is no text": ({"messages": [{"role": 1, "content": "a"}]}, "the role 1 isn't known"),
    "wrong speaker": ({"conversations": [{"from": "x", "value": "a"}]}, "the from 'x' isn't known (expected: system,"),
    "says nothing": ({"messages": [{"role": "assistant", "content": " "}]}, "the assistant says nothing"),
    "a picture": ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "a part of type 'image_url'"),
    "no part": ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, 'a part that isn\'t {"type"'),
    "content": ({"messages": [{"role": "user", "content": 1}]}, "content is a number"),
    "reasoning": ({"messages": [{"role": "assistant", "content": "a", "reasoning": 1}]}, "its reasoning is a number"),
    "name": ({"messages": [{"role": "tool", "content": "a", "name": 1}]}, "name is a number"),
    "calls": ({"messages": [{"role": "assistant", "content": "a", "tool_calls": 1}]}, "tool_calls is a number"),
    "call": ({"messages": [{"role": "assistant", "content": "a", "tool_calls": [{}]}]}, "a tool call has no name"),
    "call in a text": ({"conversations": [{"from": "function_call", "value": "f(1)"}]}, "value: is not valid JSON"),
    "tools": ({"messages": [{"role": "user", "content": "a"}], "tools": 1}, "tools is a number"),
    "tools in a text": ({"messages": [{"role": "user", "content": "a"}], "tools": "[NaN]"}, "tools: holds NaN"),
    "input": ({"instruction": "a", "input": 1, "output": "b"}, "input is a number"),
    "answer": ({"question": "a", "answer": True}, "answer is true"),
    "completion": ({"prompt": "a", "completion": ""}, "completion is empty"),
    "a line's role": ({"role": "usr", "content": "a"}, "the role 'usr' isn't known"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said_with_its_line(kind: str) -> None:
    value, what = WRONG[kind]
    with pytest.raises(TextError) as caught:
        read({"text": "a"}, value)
    first, way_out = caught.value.problems
    assert (first.file, first.line) == (FILE, 2)
    assert what in first.what
    assert first.remedy
    assert "messages, conversations, role and content" in way_out.what
    assert "--raw" in way_out.remedy


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(TextError) as caught:
        read(*[{"text": 1}] * 8)
    assert [problem.line for problem in caught.value.problems] == [1, 2, 3, 4, 5, None, None]
    assert "3 more" in caught.value.problems[5].what


def test_what_is_known() -> None:
    assert is_known({"text": 1})
    assert not is_known({"prompt": "a"})
    assert not is_known({"name": "quantrecipe", "version": "1"})
    assert not is_known([{"text": 1}])


# Hostile lines: each is an error with its line, or a document; never anything else.

_WORDS = [
    *(
        "role",
        "content",
        "messages",
        "conversations",
        "text",
        "prompt",
        "completion",
        "from",
        "value",
        "tools",
    ),
    *(
        "tool_calls",
        "function",
        "name",
        "arguments",
        "user",
        "assistant",
        "gpt",
        "function_call",
        "type",
        "system",
    ),
    *(
        "instruction",
        "output",
        "reasoning",
        "conversation_id",
        "a",
        "",
        " ",
        "\u2028",
        "\ufffe",
        "{",
        "\x1b[31m",
    ),
]
_BYTES = [
    *(
        b"\0",
        b"\xff",
        b"\xc3",
        b'"',
        b"{",
        b"}",
        b"[",
        b",",
        b"\\",
        b"\\ud800",
        b"NaN",
        b"1e999",
        b"\xef\xbb\xbf",
    ),
    *(b"\r", b"9" * 5000, b"[" * 3000, b'{"a":' * 3000),
]


def _value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(9 if depth < 4 else 5)
    if kind < 2:
        return rng.choice(_WORDS)
    if kind < 5:
        return rng.choice([None, True, 0, -1.5, 10**30])
    if kind == 5:
        return [_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(_WORDS): _value(rng, depth + 1) for _ in range(rng.randrange(5))}


def _line(rng: random.Random) -> bytes:
    line = json.dumps(_value(rng), ensure_ascii=rng.random() < 0.5).encode()
    for _ in range(rng.choice([0, 0, 1, 3])):
        at = rng.randrange(len(line) + 1)
        line = line[:at] + rng.choice(_BYTES) + line[at + rng.randrange(3) :]
    return line.replace(b"\n", b"")


def test_a_thousand_hostile_lines() -> None:
    rng = random.Random(20240726)
    outcomes = {"document": 0, "error": 0, "blank": 0}
    for _ in range(1000):
        # A first line that is fine keeps the others lines: alone, one that opens a list would be a document.
        data = b'{"text": "fine"}\n' + _line(rng)
        try:
            documents = list(read_values(json_values(data), "a.jsonl", FILE))
        except TextError as error:
            outcomes["error"] += 1
            assert error.problems[0].line == 2
            assert error.problems[0].remedy
            continue
        outcomes["document" if len(documents) == 2 else "blank"] += 1
        assert all((it.text or it.messages) and it.place in ("a.jsonl:1", "a.jsonl:2") for it in documents)
        for document in documents:
            (document.text or "").encode()  # no halves of surrogate pairs
    assert outcomes["error"] > 500
    assert outcomes["document"] > 5


def test_a_hundred_hostile_documents() -> None:
    rng = random.Random(7)
    for _ in range(100):
        data = b"[" + b",\n".join(_line(rng) for _ in range(3)) + rng.choice([b"]", b"", b",]", b"]x"])
        try:
            list(read_values(json_values(data), "a.json", FILE))
        except TextError as error:
            assert error.problems[0].line in (1, 2, 3)
