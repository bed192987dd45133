"""What an object of a data set says: a text, a chat, or a message of a chat; by its keys.

    {"messages": [{"role": "user", "content": "…"}, …], "tools": […]}      a chat, as OpenAI and transformers have it
    {"conversations": [{"from": "human", "value": "…"}, …]}                a chat, as ShareGPT has it
    {"role": "user", "content": "…"}                                       a message; a run of them is a chat
    {"prompt": "…", "completion": "…"}                                     a text, whose end the assistant says
    {"instruction": "…", "input": "…", "output": "…"}                      a chat of two messages
    {"question": "…", "answer": "…"}                                       a chat of two messages
    {"text": "…"}, {"content": "…"}                                        a text

The first that fits counts, from above: data sets keep what a chat was made of beside it. Other keys, such as `id`,
`source` and `score`, say nothing to a model, and are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from quantrecipe.errors import Problem, TextError, abridged
from quantrecipe.texts.documents import Document, Message
from quantrecipe.texts.json_lines import LineError, json_value
from quantrecipe.wording import some_of

__all__ = ["ROLES", "is_known", "read_values"]

ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
"""Roles that chat templates know, by their names there."""

_SHARE_GPT = {
    "human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
    "model": "assistant", "function_call": "assistant", "observation": "tool", "function_response": "tool",
}  # fmt: skip
"""Speakers of ShareGPT's data sets, and of those that followed it, by role."""

_CHATS = ("messages", "conversations", "conversation")
_PAIRS = (("instruction", "output"), ("question", "answer"))
_TEXTS = ("text", "content")
_CONVERSATION = ("conversation_id", "conversation", "chat_id", "thread_id", "session_id")
_REASONING = ("reasoning_content", "reasoning", "thinking")
_KNOWN = (
    "messages, conversations, role and content, prompt and completion, instruction and output, "
    "question and answer, text or content"
)
_OUT = "take the line out"
_SHOWN_KEYS = 6


def is_known(value: Any) -> bool:
    """Whether an object has the keys of one of the shapes."""
    return isinstance(value, Mapping) and _shape_of(value) is not None


def read_values(values: Iterable[tuple[int, Any]], place: str, file: Path) -> Iterator[Document]:
    """The documents that numbered values are. TextError, once all are looked at, with a problem for each bad line.

    place: what the documents' places begin with, before the line
    """
    problems: list[Problem] = []
    run = _Run(place)
    for line, value in values:
        try:
            if isinstance(value, LineError):
                raise value
            if not isinstance(value, Mapping):
                raise LineError(f"is {_kind(value)} (expected: an object)", _OUT)
            if _shape_of(value) == "role":
                yield from run.add(line, value)
                continue
            yield from run.end()
            yield _document(value, f"{place}:{line}")
        except LineError as error:
            problems.append(Problem(what=error.what, remedy=error.remedy, file=file, line=line))
    if problems:
        # The last one says what would do, once: a file may be no data set at all.
        what = f"what can be read are objects with {_KNOWN}"
        remedy = "--raw reads the file as one plain text"
        raise TextError([*abridged(problems), Problem(what=what, remedy=remedy, file=file)])
    yield from run.end()


class _Run:
    """Messages, one a line, until the chat that they make is complete.

    A chat ends where a system message follows one of another role, where the line's conversation id is another one, and
    where a line of another shape or the file's end follows.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._messages: list[Message] = []
        self._line = 0
        self._id: Any = None

    def add(self, line: int, value: Mapping[str, Any]) -> Iterator[Document]:
        message = _message(value)
        id_ = next((value[key] for key in _CONVERSATION if value.get(key) is not None), None)
        opens = message.role in ("system", "developer")
        began = any(it.role not in ("system", "developer") for it in self._messages)
        if self._messages and (id_ != self._id or (opens and began)):
            yield from self.end()
        if not self._messages:
            self._line, self._id = line, id_
        self._messages.append(message)

    def end(self) -> Iterator[Document]:
        if self._messages:
            yield Document(place=f"{self._place}:{self._line}", messages=tuple(self._messages))
            self._messages = []


def _shape_of(value: Mapping[str, Any]) -> str | None:
    """The key, or the first of the keys, by which an object is known."""
    for key in _CHATS[:2]:
        if key in value:
            return key
    if isinstance(value.get("conversation"), list):
        return "conversation"
    if "role" in value or ("from" in value and "value" in value):
        return "role"
    if "prompt" in value and "completion" in value:
        return "prompt"
    for key, answer in _PAIRS:
        if key in value and answer in value:
            return key
    return next((key for key in _TEXTS if key in value), None)


def _document(value: Mapping[str, Any], place: str) -> Document:
    shape = _shape_of(value)
    if shape is None:
        keys = some_of([repr(str(key)[:40]) for key in value], _SHOWN_KEYS) if value else "none"
        raise LineError(
            f"has keys that make no text and no chat: {keys}", "rename them, or take the line out"
        )
    if shape in _CHATS:
        messages = _messages(value[shape], shape)
    elif shape == "prompt":
        if not isinstance(value["prompt"], list):
            return _completed(value, place)
        said = value["completion"]
        said = said if isinstance(said, list) else [{"role": "assistant", "content": said}]
        messages = (*_messages(value["prompt"], "prompt"), *_messages(said, "completion"))
    elif shape in _TEXTS:
        return Document(place=place, text=_text(value, shape))
    else:
        messages = _pair(value, shape, dict(_PAIRS)[shape])
    system = value.get("system")
    if isinstance(system, str) and system.strip() and messages[0].role != "system":
        messages = (Message(role="system", content=system), *messages)
    return Document(place=place, messages=messages, tools=_tools(value.get("tools")))


def _completed(value: Mapping[str, Any], place: str) -> Document:
    """A prompt and its completion: one text, as a model without a template reads on."""
    prompt, completion = _text(value, "prompt"), _text(value, "completion")
    start = len(prompt.encode())
    return Document(
        place=place, text=prompt + completion, answers=((start, start + len(completion.encode())),)
    )


def _pair(value: Mapping[str, Any], asked: str, answered: str) -> tuple[Message, ...]:
    question = _text(value, asked)
    more = value.get("input")
    if asked == "instruction" and more is not None:
        if not isinstance(more, str):
            raise LineError(f"input is {_kind(more)} (expected: a text)", _OUT)
        question += f"\n\n{more}" if more.strip() else ""
    return (Message(role="user", content=question), Message(role="assistant", content=_text(value, answered)))


def _messages(items: Any, key: str) -> tuple[Message, ...]:
    if not isinstance(items, list):
        raise LineError(f"{key} is {_kind(items)} (expected: a list of messages)", "correct it")
    if not items:
        raise LineError(f"{key} is empty", _OUT)
    messages = []
    for number, item in enumerate(items, 1):
        try:
            messages.append(_message(item))
        except LineError as error:
            raise LineError(f"message {number} of {key}: {error.what}", error.remedy) from None
    return tuple(messages)


def _message(item: Any) -> Message:
    """One message, in either spelling."""
    if not isinstance(item, Mapping):
        raise LineError(
            f"is {_kind(item)} (expected: a message, an object with role and content)", "correct it"
        )
    share_gpt = "role" not in item and "from" in item
    role_key, content_key = ("from", "value") if share_gpt else ("role", "content")
    if role_key not in item or (content_key not in item and not item.get("tool_calls")):
        keys = some_of([repr(str(key)[:40]) for key in item], _SHOWN_KEYS) if item else "none"
        raise LineError(f"has the keys {keys} (expected: role and content, or from and value)", "correct it")
    said = item[role_key]
    role = _SHARE_GPT.get(said, said) if isinstance(said, str) else said
    if role not in ROLES:
        known = ", ".join((*ROLES, *_SHARE_GPT) if share_gpt else ROLES)
        raise LineError(f"the {role_key} {said!r:.60} isn't known (expected: {known})", "correct it")
    calls = _tool_calls(item)
    if said == "function_call":
        calls, content = (_call(_parsed(item[content_key], "value")),), ""
    else:
        content = _content(item.get(content_key), content_key, may_lack=bool(calls))
    reasoning = next((item[key] for key in _REASONING if item.get(key) is not None), "")
    if not isinstance(reasoning, str):
        raise LineError(f"its reasoning is {_kind(reasoning)} (expected: a text)", "correct it")
    if role in ("user", "assistant") and not (content.strip() or calls or reasoning.strip()):
        raise LineError(f"the {role} says nothing", _OUT)
    return Message(
        role=role,
        content=content,
        reasoning=reasoning,
        tool_calls=calls,
        name=_optional(item, "name"),
        tool_call_id=_optional(item, "tool_call_id"),
    )


def _optional(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    if value is not None and not isinstance(value, str):
        raise LineError(f"{key} is {_kind(value)} (expected: a text)", "correct it")
    return value or ""


def _content(content: Any, key: str, *, may_lack: bool) -> str:
    """A text, or a list of parts that are texts, which are joined by line ends, as llama.cpp does."""
    if isinstance(content, str):
        return content
    if content is None and may_lack:
        return ""
    if not isinstance(content, list):
        raise LineError(f"{key} is {_kind(content)} (expected: a text, or a list of parts)", "correct it")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(part, str):
            texts.append(part)
        elif kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(kind, str) and kind != "text":
            raise LineError(f"has a part of type {kind!r:.40}, and only texts are read here", _OUT)
        else:
            raise LineError('has a part that isn\'t {"type": "text", "text": "…"}', "correct it")
    return "\n".join(texts)


def _tool_calls(item: Mapping[str, Any]) -> tuple[Any, ...]:
    calls = item.get("tool_calls")
    if calls is None:
        old = item.get("function_call")  # of OpenAI's interface before tools
        return () if old is None else (_call(old),)
    if not isinstance(calls, list):
        raise LineError(f"tool_calls is {_kind(calls)} (expected: a list)", "correct it")
    return tuple(_call(call) for call in calls)


def _call(call: Any) -> dict[str, Any]:
    """A call with its arguments as an object, which is what templates write as JSON."""
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        expected = '{"type": "function", "function": {"name": "…", "arguments": {…}}}'
        raise LineError(f"a tool call has no name (expected: {expected})", "correct it")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        # OpenAI has JSON in a text here. A text that is no JSON is what the model wrote, and stays.
        try:
            meant = json_value(arguments)
        except LineError:
            meant = None
        arguments = meant if isinstance(meant, Mapping) else arguments
    made: dict[str, Any] = {
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }
    if isinstance(call.get("id"), str):
        made["id"] = call["id"]
    return made


def _tools(tools: Any) -> tuple[Any, ...]:
    if tools is None:
        return ()
    if isinstance(tools, str):  # as tables have it, whose columns are of one type
        if not tools.strip():
            return ()
        tools = _parsed(tools, "tools")
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise LineError(f"tools is {_kind(tools)} (expected: a list of objects)", "correct it")
    return tuple(tools)


def _parsed(text: Any, key: str) -> Any:
    """JSON within a text, as checked as the line that has it."""
    if not isinstance(text, str):
        raise LineError(f"{key} is {_kind(text)} (expected: JSON in a text)", "correct it")
    try:
        return json_value(text)
    except LineError as error:
        raise LineError(f"{key}: {error.what}", error.remedy) from None


def _text(value: Mapping[str, Any], key: str) -> str:
    text = value[key]
    if not isinstance(text, str):
        raise LineError(f"{key} is {_kind(text)} (expected: a text)", "correct it, or take the line out")
    if not text.strip():
        raise LineError(f"{key} is empty", _OUT)
    return text


def _kind(value: Any) -> str:
    """What a value is, in the words of JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return "a text" if isinstance(value, str) else "a number"
