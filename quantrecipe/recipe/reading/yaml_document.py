"""Document: a recipe's YAML as a tree of nodes that know their lines.

Strict on purpose, so that a recipe says the same to every reader and can't be a trap:

* no tags, anchors, aliases or merge keys; one document; a key stands once in its mapping
* plain values are read by YAML 1.2's core rules: `off`, `yes`, `3:6`, `1_000` and dates are texts
* what YAML 1.1 and 1.2 read differently as numbers (`012`, `0x10`, `0o7`), and `.inf` and `.nan`, must be quoted
* bounded size, depth and number of nodes
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import yaml

from quantrecipe.errors import Problem, RecipeError
from quantrecipe.wording import shortened

__all__ = ["RECIPE_FILE", "Entry", "FileKind", "Node", "NodeKind", "read_document", "scalar"]

NodeKind = Literal["text", "number", "yes-or-no", "nothing", "list", "mapping"]

# A recipe may be a stranger's. The largest that ships has 2 kB; a rule for each tensor of the largest models, 200 kB.
MAX_BYTES = 1 << 20
_MAX_DEPTH = 16  # the language itself needs five: rules, a rule, options, a value that is a list, an item
_MAX_NODES = 50_000
_MAX_NUMBER_LENGTH = 40  # int() is quadratic, and Python refuses more than 4,300 digits
_MAX_KEPT_LENGTH = 16_384
"""The length of texts whose trees are remembered: every recipe that ships is shorter, and 128 trees of this size
stay below 200 MB, whatever is in them.
"""

_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
_YES_NO = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_ODD_NUMBER = re.compile(
    r"[-+]?(?:0[0-9_]+|0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")

_QUICK_READER = getattr(yaml, "CSafeLoader", None)
"""PyYAML's binding of libyaml, thirty times as fast as its own parser; None where it was built without."""
_READ_DIFFERENTLY = re.compile(
    r"^---|\?|[|>][-+0-9]*#|:\s*[,\]}]|[^\n -~\u00a0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]",
    re.MULTILINE,
)
"""What the two parsers may read differently, or place differently: where a text has it, PyYAML's own parser decides.

A second document's start, a complex key's ?, a comment that touches a block's sign, a value that is left out between
brackets; and tabs, CR, other ends of lines than LF, byte order marks.
"""


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands; lines and columns count from 1.

    value: str; int or float; bool; None; tuple of Nodes; or Mapping of Entries by key
    """

    kind: NodeKind
    value: Any
    line: int
    column: int

    @property
    def items(self) -> tuple[Node, ...]:
        """The items of a node that is a list."""
        items: tuple[Node, ...] = self.value
        return items

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The entries of a node that is a mapping."""
        entries: Mapping[str, Entry] = self.value
        return entries

    def plain(self) -> Any:
        """Return the value without nodes: str, int, float, bool, None, list or dict."""
        if self.kind == "list":
            return [item.plain() for item in self.items]
        if self.kind == "mapping":
            return {key: entry.value.plain() for key, entry in self.entries.items()}
        return self.value


@dataclass(frozen=True, slots=True)
class Entry:
    """A key and its value."""

    key: Node
    value: Node


@dataclass(frozen=True, kw_only=True, slots=True)
class FileKind:
    """What messages call a file that is written in this YAML, and what they advise.

    name:   "recipe"
    begins: what stands in its first line
    split:  what to do if it is too large
    """

    name: str
    begins: str
    split: str


RECIPE_FILE = FileKind(
    name="recipe", begins="quantrecipe: 1", split="split it, and join the parts with `extends`"
)


def read_document(text: str, file: str, kind: FileKind = RECIPE_FILE) -> tuple[Node, list[Problem]]:
    """Return the tree of a text, and the problems despite which it can be read further.

    RecipeError where there is no reading further.
    """
    if len(text) > MAX_BYTES:
        raise RecipeError(f"a {kind.name} of more than {MAX_BYTES >> 20} MiB", kind.split, file=file)
    read = _tree if len(text) <= _MAX_KEPT_LENGTH else _tree.__wrapped__
    root, problems = read(text, file, kind)
    return root, list(problems)


# All shipped recipes together include the same few files dozens of times, and PyYAML takes most of the time of a load.
@lru_cache(maxsize=128)
def _tree(text: str, file: str, kind: FileKind = RECIPE_FILE) -> tuple[Node, tuple[Problem, ...]]:
    text = text.removeprefix("\ufeff")
    if (root := _quick_tree(text, file, kind)) is not None:
        return root, ()
    builder = _Builder(file, kind)
    try:
        root = builder.build(yaml.parse(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        raise RecipeError(_explain(error, text, file)) from None
    except yaml.YAMLError as error:  # a character that YAML doesn't allow
        position = getattr(error, "position", 0)
        line = text.count("\n", 0, position) + 1
        character = getattr(error, "character", "?")
        code = ord(character) if isinstance(character, str) else character
        raise RecipeError(
            f"the character U+{code:04X} isn't allowed in YAML", "remove it", file=file, line=line
        ) from None
    if root is None:
        raise RecipeError(f"the {kind.name} is empty", f"start with `{kind.begins}`", file=file)
    return root, tuple(builder.problems)


def _quick_tree(text: str, file: str, kind: FileKind = RECIPE_FILE) -> Node | None:
    """The tree of a text in which there is nothing to complain of; None of any other.

    Which errors there are, and where, has one author: PyYAML's own parser. libyaml's say the same in other words.
    """
    if _QUICK_READER is None or _READ_DIFFERENTLY.search(text):
        return None
    builder = _Builder(file, kind)
    try:
        root = builder.build(yaml.parse(text, Loader=_QUICK_READER))
    except (yaml.YAMLError, RecipeError):
        return None
    return None if builder.problems else root


def scalar(text: str) -> tuple[NodeKind, Any]:
    """Say what a text without quotes is in YAML: the kind, and the value. Numbers that are too large stay texts."""
    if text in _NOTHING:
        return "nothing", None
    if text in _YES_NO:
        return "yes-or-no", _YES_NO[text]
    if _is_number(text) and len(text) <= _MAX_NUMBER_LENGTH and math.isfinite(float(text)):
        return "number", int(text) if _INTEGER.fullmatch(text) else float(text)
    return "text", text


def _is_number(text: str) -> bool:
    return bool(_INTEGER.fullmatch(text) or _FLOAT.fullmatch(text))


class _Builder:
    """Builds the tree from PyYAML's events. It has a stack of its own, so that deep nesting can't exhaust Python's."""

    def __init__(self, file: str, kind: FileKind) -> None:
        self._file, self._kind = file, kind
        self.problems: list[Problem] = []

    def build(self, events: Iterator[Any]) -> Node | None:
        root: Node | None = None
        stack: list[tuple[Any, list[Node]]] = []
        n_documents = n_nodes = 0
        for event in events:
            node: Node | None = None
            match event:
                case yaml.DocumentStartEvent():
                    n_documents += 1
                    if n_documents > 1:
                        raise self._error(
                            event,
                            "a second document starts here",
                            f"a {self._kind.name} is one document: remove the ---",
                        )
                case yaml.AliasEvent():
                    raise self._error(
                        event,
                        f"*{str(event.anchor)[:60]} is an alias in YAML, and {self._kind.name}s have none",
                        f'a pattern that starts with * needs quotes: "*{str(event.anchor)[:60]}"',
                    )
                case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                    self._check_plain(event)
                    stack.append((event, []))
                    if len(stack) > _MAX_DEPTH:
                        raise self._error(
                            event,
                            f"lists and mappings nested deeper than {_MAX_DEPTH}",
                            f"{self._kind.name}s are flat",
                        )
                case yaml.SequenceEndEvent():
                    start, items = stack.pop()
                    node = _node("list", tuple(items), start)
                case yaml.MappingEndEvent():
                    start, items = stack.pop()
                    node = _node("mapping", self._entries(items), start)
                case yaml.ScalarEvent():
                    self._check_plain(event)
                    node = self._key(event) if stack and _awaits_key(*stack[-1]) else self._scalar(event)
            if node is not None:
                n_nodes += 1
                if n_nodes > _MAX_NODES:
                    raise self._error(
                        event,
                        f"more than {_MAX_NODES} values",
                        self._kind.split,
                    )
                if stack:
                    stack[-1][1].append(node)
                else:
                    root = node
        return root

    def _check_plain(self, event: Any) -> None:
        if event.anchor is not None:
            raise self._error(
                event,
                f"&{event.anchor[:60]} is an anchor in YAML, and {self._kind.name}s have none",
                "quote a text that starts with &",
            )
        if event.tag is not None:
            what = "a ! is a tag in YAML, and" if event.tag == "!" else f"the tag {event.tag[:60]!r}:"
            raise self._error(
                event, f"{what} {self._kind.name}s have no tags", "quote a text that starts with !"
            )

    def _entries(self, items: list[Node]) -> Mapping[str, Entry]:
        entries: dict[str, Entry] = {}
        for key, value in zip(items[::2], items[1::2], strict=True):
            if key.kind != "text":
                self._add(
                    key, f"a {key.kind} where a key should stand", "a text with { } or [ ] in it needs quotes"
                )
            elif key.value == "<<":
                self._add(
                    key,
                    f"<< merges mappings in YAML, and {self._kind.name}s don't",
                    "use `extends`, or write the values out"
                    if self._kind == RECIPE_FILE
                    else "write the values out",
                )
            elif key.value in entries:
                first = entries[key.value].key.line
                self._add(
                    key, f"the key {key.value!r} stands here again, after line {first}", "keep one of them"
                )
            else:
                entries[key.value] = Entry(key, value)
        return entries

    def _key(self, event: Any) -> Node:
        return _node("text", event.value, event)

    def _scalar(self, event: Any) -> Node:
        text = event.value
        if _UNWRITABLE.search(text):
            self._add(event, "a text with a NUL or half a surrogate pair in it", "remove the escape")
            return _node("text", _UNWRITABLE.sub("?", text), event)
        if not event.implicit[0]:  # quoted, or a block
            return _node("text", text, event)
        kind, value = scalar(text)
        if kind != "text":
            return _node(kind, value, event)
        if _is_number(text):
            self._add(event, f"the number {shortened(text, 30)} is too large", "quote it if it is a text")
            return _node("number", 0, event)
        if _ODD_NUMBER.fullmatch(text):
            self._add(
                event,
                f"{text} is read differently by different versions of YAML",
                f'quote it if it is a text ("{text}"), or write the number in decimal',
                "QR005",
            )
        return _node("text", text, event)

    def _add(self, where: Any, what: str, remedy: str, code: str = "QR004") -> None:
        line, column = _position(where)
        self.problems.append(
            Problem(what=what, remedy=remedy, file=self._file, line=line, column=column, code=code)
        )

    def _error(self, where: Any, what: str, remedy: str) -> RecipeError:
        self._add(where, what, remedy)
        return RecipeError(self.problems)


def _awaits_key(start: Any, items: list[Node]) -> bool:
    return isinstance(start, yaml.MappingStartEvent) and len(items) % 2 == 0


def _node(kind: NodeKind, value: Any, event: Any) -> Node:
    return Node(kind, value, *_position(event))


def _position(where: Any) -> tuple[int, int]:
    if isinstance(where, Node):
        return where.line, where.column
    return where.start_mark.line + 1, where.start_mark.column + 1


def _explain(error: yaml.MarkedYAMLError, text: str, file: str) -> list[Problem]:
    """Say in a sentence what PyYAML found, with the usual reason for it."""
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else None
    column = mark.column + 1 if mark else None
    lines = text.splitlines()
    shown = lines[line - 1] if line and line <= len(lines) else ""
    if "\t" in shown[: len(shown) - len(shown.lstrip())] or "'\\t'" in str(error.problem):
        remedy = "indent with spaces; YAML doesn't take tabs"
    elif any(sign in shown for sign in "*[]{}&!%@`"):
        remedy = "texts with * [ ] { } & ! % @ ` in them need quotes"
    elif ": " in shown.partition(": ")[2]:
        remedy = "a text with a colon and a space in it needs quotes"
    else:
        remedy = "check the indentation and the quotes"
    what = f"this isn't YAML: {error.problem or error.context}"
    return [Problem(what=what, remedy=remedy, file=file, line=line, column=column, code="QR004")]
