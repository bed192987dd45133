"""Jinja for templates of strangers: what transformers' `apply_chat_template` offers, and an end to what doesn't end.

A chat template comes with a model from anywhere. Jinja's sandbox keeps it from Python and from changing what it is
given. It doesn't keep it from running for days or from filling the memory. So these have limits here:

    steps     turns of loops, calls of macros, items of ranges, and what is made, cut up, compared or searched: 256
              characters or 16 items of lists are a step
    sizes     of what operators, filters and calls make; what would be very much longer than what it is made of
              ('x' * 10 ** 9, |center, |replace) isn't made at all; whole numbers have a length, too
    output    all that is written, also within {% set %}, macros and calls

What gives another answer each time isn't there: `random`, `lipsum`, and a clock. `strftime_now` knows one date.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, NoReturn, cast

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError, TemplateRuntimeError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from quantrecipe.texts.documents import Spans

__all__ = ["DATE", "CompiledTemplate", "RenderingError"]

DATE = datetime(2024, 7, 26)
"""What `strftime_now` gives, so that a rendering is the same on every day: the default in Llama 3.1's template."""

_STEPS = 1_000_000  # some seconds; the longest chats need a few thousand
_LONGEST = 1 << 24  # characters, or items of a list: fifty times a context of 128k tokens
_WRITTEN = 4 * _LONGEST  # what a macro writes is written again by its caller
_CHARACTERS_A_STEP = 256
_ITEMS_A_STEP = 16
_MOST_ITEMS = 1 << 18  # of lists in lists, each counted where it stands
_MOST_BITS = 1 << 14  # of a whole number: as long as Python reads one from a text
_OF_LISTS = frozenset({
    "attr", "batch", "count", "d", "default", "dictsort", "first", "groupby", "items", "last", "length", "list", "map",
    "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr", "slice", "sort", "unique",
})  # fmt: skip
"""Filters that make no text of the list that they are given."""
_WIDTH = re.compile(r"[0-9]{6}")  # of a field in a format: longer than any line
_NO_CHARACTERS = tuple(
    chr(code) for code in range(0xFDD0, 0xFDF0)
)  # Unicode: never assigned, for use within programs


class RenderingError(Exception):
    """A template can't be compiled, or fails on what it is given; at a line of the template where that is known."""

    def __init__(self, what: str, line: int | None) -> None:
        super().__init__(what)
        self.what, self.line = what, line


class CompiledTemplate:
    """A template, ready to be rendered. RenderingError where it isn't one.

    One rendering at a time: its steps are counted here, up to `steps`.
    """

    def __init__(self, source: str, *, steps: int = _STEPS) -> None:
        self._steps = steps
        self._environment = _Environment()
        try:
            tree = self._environment.parse(source)
            self.marks_answers = any(it.name == "marked" for it in tree.find_all(nodes.ExtensionAttribute))
            _guard_blocks(tree)
            self._template: Template = self._environment.from_string(tree)
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            raise RenderingError(f"isn't valid Jinja: {error}", line) from error
        except (
            SyntaxError,
            ValueError,
        ) as error:  # of the Python that jinja2 makes of it, and of its numbers
            raise RenderingError(f"can't be compiled: {_said(error)}", None) from error
        except (RecursionError, MemoryError) as error:
            raise RenderingError(f"can't be compiled ({type(error).__name__})", None) from error

    def render(self, variables: Mapping[str, Any]) -> tuple[str, Spans]:
        """The text, and the parts of it that stand between {% generation %} tags: runs of its characters."""
        guard = self._environment.guard
        marks = _unused_marks(variables) if self.marks_answers else ("", "")
        guard.begin(self._steps, marks)
        try:
            text = self._template.render(**variables)
        except Exception as error:  # a template raises what Python raises: KeyError, TypeError, …
            raise RenderingError(_said(error), _line(error)) from error
        if len(text) > _LONGEST:
            raise RenderingError(f"it writes more than {_LONGEST:,} characters", None)
        return _without(text, *marks) if marks[0] else (text, ())


class _Guard(Extension):
    """The count of steps of a rendering, and {% generation %}."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 has it as a plain set, too

    def begin(self, steps: int, marks: tuple[str, str]) -> None:
        """Count from here: a rendering begins."""
        self._left = self._steps = steps
        self._room, self._marks = _WRITTEN, marks

    def written(self, value: Any) -> Any:
        """Count what is written, wherever to."""
        self._room -= (size := _size(value))
        if self._room < 0 or size > _LONGEST:
            raise TemplateRuntimeError(f"it writes more than {_LONGEST:,} characters")
        return value

    def joined(self, *values: Any) -> str:
        """a ~ b ~ c."""
        if sum(map(_size, values)) > _LONGEST:
            raise _too_long()
        return cast("str", self.checked("".join(map(str, values))))

    def step(self, count: int = 1) -> None:
        """Count steps."""
        self._left -= count
        if self._left < 0:
            raise TemplateRuntimeError(f"it takes more than {self._steps:,} steps")

    def checked(self, value: Any) -> Any:
        """A value that the template made, if it isn't too long."""
        if isinstance(value, str | list | tuple):
            if len(value) > _LONGEST:
                raise _too_long()
            self.step(len(value) // _CHARACTERS_A_STEP)
        elif isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise _too_long()
        return value

    def looked(self, value: Any) -> Any:
        """Count a value that is compared, searched or walked through."""
        if isinstance(value, str):
            self.step(len(value) // _CHARACTERS_A_STEP)
        elif isinstance(value, list | tuple | Mapping):
            self.step(_size(value) // _ITEMS_A_STEP)
        return value

    def parse(self, parser: Parser) -> nodes.Node:
        """{% generation %}…{% endgeneration %}: transformers marks by it what the assistant says."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("marked"), [], [], body).set_lineno(line)

    def marked(self, caller: Callable[[], str]) -> str:
        """What is between the tags, between marks."""
        start, end = self._marks
        return f"{start}{caller()}{end}"


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja as transformers sets it up, with the guard."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])  # the others make nothing that is longer

    def __init__(self) -> None:
        # Not optimized: what could be known before is looked for anew at each level, in a time that grows with the cube
        # of the depth of an expression.
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Guard, loopcontrols], optimized=False
        )
        self.guard = cast("_Guard", self.extensions[_Guard.identifier])
        for name in ("random", "pprint"):
            del self.filters[name]
        del self.globals["lipsum"]
        self.filters = {name: self._guarded(name, made) for name, made in self.filters.items()}
        self.filters["tojson"] = self._guarded("tojson", _tojson)
        self.tests = {
            name: self._watched(cast("Callable[..., Any]", made)) for name, made in self.tests.items()
        }
        self.globals |= {"range": self._range, "raise_exception": _raise, "strftime_now": _strftime_now}

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  # as in jinja2
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps str.format
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str):
            __self.guard.looked(owner)
            _check_made(method.__name__, (owner, *args, *kwargs.values()))
        return __self.guard.checked(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator in ("*", "**"):
            _check_product(operator, left, right)
        elif operator == "%" and isinstance(left, str):
            _check_made("format", (left, *(right if isinstance(right, tuple) else (right,))))
        return self.guard.checked(super().call_binop(context, operator, left, right))

    def _guarded(self, name: str, made: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(made)  # with the marks by which jinja2 knows what a filter wants to be given
        def run(*args: Any, **kwargs: Any) -> Any:
            given = (*args, *kwargs.values())
            for value in given:
                self.guard.looked(value)
            if name in ("batch", "slice"):  # as many items, or lists, as they are told
                self.guard.step(max((value for value in given if isinstance(value, int)), default=0))
            elif name not in _OF_LISTS:
                _check_made(name, given)
            return self.guard.checked(made(*args, **kwargs))

        return run

    def _watched(self, made: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(made)
        def run(*args: Any, **kwargs: Any) -> Any:
            for value in args:
                self.guard.looked(value)
            return made(*args, **kwargs)

        return run

    def _range(self, *args: int) -> range:
        numbers = range(*args)
        # Not len(), which fails where there are more numbers than it can say.
        self.guard.step(max(0, (numbers.stop - numbers.start) // numbers.step + 1))
        return numbers


def _guard_blocks(tree: nodes.Template) -> None:
    """Count turns of loops, calls of macros, and what is written, compared and cut out; have `~` join in the guard."""
    repeated: list[nodes.For | nodes.Macro | nodes.CallBlock] = [
        *tree.find_all(nodes.For),
        *tree.find_all(nodes.Macro),
        *tree.find_all(nodes.CallBlock),
    ]
    for block in repeated:
        block.body.insert(0, nodes.ExprStmt(_guarded("step", [], block.lineno)).set_lineno(block.lineno))
    for output in tree.find_all(nodes.Output):
        output.nodes = [_guarded("written", [node], node.lineno) for node in output.nodes]
    for compared in tree.find_all(nodes.Compare):
        _guard_compared(compared)
    _guard_made(tree)


def _guard_compared(node: nodes.Compare) -> None:
    """Count what is compared, but for what is compared with a constant, which ends where that ends."""
    searched = any(operand.op in ("in", "notin") for operand in node.ops)
    sides = [node.expr, *(operand.expr for operand in node.ops)]
    if not searched and any(isinstance(side, nodes.Const) for side in sides) and len(sides) == 2:
        return
    node.expr = _looked_by_guard(node.expr)
    for operand in node.ops:
        operand.expr = _looked_by_guard(operand.expr)


def _looked_by_guard(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Literal) else _guarded("looked", [node], node.lineno)


def _guard_made(node: nodes.Node) -> None:
    for name, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            _guard_made(value)
            setattr(node, name, _made_by_guard(value))
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, nodes.Node):
                    _guard_made(item)
            setattr(node, name, [_made_by_guard(item) for item in value])


def _made_by_guard(node: Any) -> Any:
    if isinstance(node, nodes.Concat):
        return _guarded("joined", node.nodes, node.lineno)
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        return _guarded("checked", [node], node.lineno)
    return node


def _guarded(name: str, arguments: list[nodes.Expr], line: int) -> nodes.Call:
    """A call of the guard's method."""
    method = nodes.ExtensionAttribute(_Guard.identifier, name)
    return nodes.Call(method, arguments, [], None, None, lineno=line)


def _check_made(name: str, given: tuple[Any, ...]) -> None:
    """Refuse a filter or a method of texts that would make very much of what it is given."""
    texts = [value for value in given if isinstance(value, str)]
    lists = [value for value in given if isinstance(value, list | tuple | Mapping)]
    if any(type(value) is int and abs(value) > _LONGEST for value in given):
        raise _too_long()
    if sum(map(_size, lists)) > _LONGEST:
        raise _too_long()
    if name == "format" and texts and _WIDTH.search(texts[0]):
        raise _too_long()
    if name == "join" and texts and lists and len(lists[0]) * len(texts[0]) > _LONGEST:
        raise _too_long()
    if name == "replace" and len(texts) >= 3:
        text, old, new = texts[:3]
        if (text.count(old) if old else len(text) + 1) * len(new) > _LONGEST:
            raise _too_long()
    if name in ("translate", "expandtabs"):
        raise TemplateRuntimeError(f"there is no {name} here")


def _check_product(operator: str, left: Any, right: Any) -> None:
    for value, times in ((left, right), (right, left)):
        if not isinstance(times, int):
            continue
        if isinstance(value, str | list | tuple):
            made = len(value) * times
        elif isinstance(value, int):
            made = value.bit_length() * max(1, times if operator == "**" and value is left else 1)
            if made > _MOST_BITS:
                raise _too_long()
        else:
            continue
        if made > _LONGEST:
            raise _too_long()


def _size(value: Any) -> int:
    """Characters of a value as it is written, about; looked at until it is too large."""
    if isinstance(value, str):
        return len(value)
    size, items, left = 0, 0, [value]
    while left and size <= _LONGEST:
        item = left.pop()
        items += 1
        if items > _MOST_ITEMS:
            return _LONGEST + 1
        size += len(item) if isinstance(item, str) else 1
        if isinstance(item, Mapping):
            left += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            left += item
    return size


def _too_long() -> TemplateRuntimeError:
    return TemplateRuntimeError(f"it makes something of more than {_LONGEST:,} characters")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as transformers writes it: jinja2's own filter writes `<` as \\u003c, since it is made for web pages."""
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    if indent is None:
        return encoder.encode(value)
    made, length = [], 0
    for piece in encoder.iterencode(
        value
    ):  # an indent is written before each item, once for each list around it
        made.append(piece)
        length += len(piece)
        if length > _LONGEST:
            raise _too_long()
    return "".join(made)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return DATE.strftime(form)


def _said(error: Exception) -> str:
    """What a template's error says, in one line. TemplateError has the template's own words."""
    said = str(error).partition("\n")[0]
    if isinstance(error, TemplateError):
        return said or type(error).__name__
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _line(error: BaseException) -> int | None:
    """The line of the template where an error was raised: jinja2 puts frames that stand for its lines into it."""
    trace, line = error.__traceback__, None
    while trace is not None:
        if "__jinja_exception__" in trace.tb_frame.f_globals:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _unused_marks(variables: Mapping[str, Any]) -> tuple[str, str]:
    """Two characters that nothing that is rendered has."""
    used = set("".join(_texts(variables)))
    free = [char for char in _NO_CHARACTERS if char not in used]
    if len(free) < 2:
        raise RenderingError("the text has every character that could mark what the assistant says", None)
    return free[0], free[1]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from (*_texts(key), *_texts(item))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _without(text: str, start: str, end: str) -> tuple[str, Spans]:
    """The text without its marks, and where they stood."""
    pieces: list[str] = []
    spans: list[tuple[int, int]] = []
    length, opened = 0, 0
    for piece in re.split(f"([{start}{end}])", text):
        if piece == start:
            opened = length
        elif piece == end:
            spans.append((opened, length))
        else:
            pieces.append(piece)
            length += len(piece)
    return "".join(pieces), tuple(spans)
