"""From the text of an expression to what gives its value: which of Python's expressions there are, and of what kind.

What they mean is in `expression`.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.terms.fact_kinds import FACTS, Kind, Value
from quantrecipe.wording import closest, listed, quoted

if TYPE_CHECKING:
    from quantrecipe.recipe.terms.expression import Expression

__all__ = ["MAX_LENGTH", "SIGNS", "Builder", "shown"]

MAX_LENGTH = 2000  # the longest `when` that ships has 221 characters
shown = partial(quoted, longest=80)
"""An expression in a message: longer than other texts there, since often its end is what is wrong with it."""
_MAX_DEPTH = 50  # so that neither Python's parser nor this one can run out of stack
_MAX_NUMBER = 2**63  # Python's integers have no end, and `9 * 9 * …` would grow


_COMPARISONS: Mapping[type[ast.cmpop], tuple[str, Callable[[Any, Any], bool]]] = {
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
}
_MEMBERSHIPS: dict[type[ast.cmpop], str] = {ast.In: "in", ast.NotIn: "not in"}
SIGNS: Mapping[type[ast.cmpop], str] = {op: sign for op, (sign, _) in _COMPARISONS.items()} | _MEMBERSHIPS
"""The sign of each comparison, by the class that Python's parser has for it."""
_ARITHMETIC: Mapping[type[ast.operator], tuple[str, Callable[[Any, Any], int | float]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
}
_INSTEAD = {
    ast.Div: "divide with //",
    ast.Pow: "there are no powers; multiply",
    ast.Call: "there are no calls",
    ast.Attribute: "there are no attributes",
    ast.Subscript: "there are no subscripts",
    ast.IfExp: "write (A and X) or (not A and Y)",
    ast.Is: "compare with ==",
    ast.IsNot: "compare with !=",
    ast.BitAnd: "write and",
    ast.BitOr: "write or",
    ast.Invert: "write not",
}


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of an expression: its kind, its value as a function of the facts, and its normal spelling."""

    kind: Kind
    value: Callable[[Mapping[str, Value]], Value]
    text: str


class Builder:
    """Walks Python's syntax tree, and refuses every node that isn't named here."""

    def __init__(self, facts: Mapping[str, Kind], defined: Mapping[str, Expression]) -> None:
        self._facts = facts
        self._defined = defined
        self.names: set[str] = set()
        self.defined_in_use: dict[str, Expression] = {}

    def build(self, text: str) -> _Piece:
        """Return what gives the value of a text. RecipeError if it isn't in the subset."""
        return self._piece(_parse(text), _MAX_DEPTH)

    def _piece(self, node: ast.expr, depth: int) -> _Piece:
        if not depth:
            raise RecipeError(f"the expression is nested deeper than {_MAX_DEPTH}", "split the rule")
        match node:
            case ast.Constant(value=value):
                return _constant(value, node)
            case ast.Name(id=name):
                return self._fact(name, depth)
            case ast.UnaryOp(op=op, operand=operand):
                return self._unary(op, self._piece(operand, depth - 1), node)
            case ast.BinOp(left=left, op=op, right=right):
                if type(op) not in _ARITHMETIC:
                    raise _refused(op, node)
                return _arithmetic(op, self._piece(left, depth - 1), self._piece(right, depth - 1))
            case ast.BoolOp(op=op, values=values):
                return _junction(op, [self._piece(value, depth - 1) for value in values])
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                if bad := next(
                    (op for op in ops if not (type(op) in _COMPARISONS or type(op) in _MEMBERSHIPS)), None
                ):
                    raise _refused(bad, node)
                return self._comparison(left, ops, comparators, depth - 1)
            case ast.List() | ast.Tuple() | ast.Set():
                raise RecipeError(
                    f"the list {_source(node)} stands where a value should", "lists stand behind `in`"
                )
        raise _refused(node, node)

    def _fact(self, name: str, depth: int) -> _Piece:
        if (definition := self._defined.get(name)) is not None:
            self.defined_in_use[name] = definition
            return self._piece(_parse(definition.written_out), depth - 1)
        if (kind := self._facts.get(name)) is None:
            known = [*self._facts, *self._defined]
            if name in FACTS:
                remedy = "known here are " + listed(known)
            elif close := closest(name, known):
                remedy = f"did you mean {close!r}?"
            else:
                remedy = "known are " + listed(known) + "; texts are written in quotes"
            raise RecipeError(f"there is no fact {shown(name)}{' here' if name in FACTS else ''}", remedy)
        self.names.add(name)
        return _Piece(kind, lambda facts: facts[name], name)

    def _unary(self, op: ast.unaryop, operand: _Piece, node: ast.expr) -> _Piece:
        value = operand.value
        if isinstance(op, ast.Not):
            _demand(operand, "a yes-or-no", "not")
            return _Piece("a yes-or-no", lambda facts: not value(facts), f"(not {operand.text})")
        if isinstance(op, ast.USub | ast.UAdd):
            _demand(operand, "a number", "-")
            if isinstance(op, ast.UAdd):
                return operand
            return _arithmetic(ast.Sub(), _ZERO, operand, f"(-{operand.text})")
        raise _refused(op, node)

    def _comparison(
        self, left: ast.expr, ops: list[ast.cmpop], comparators: list[ast.expr], depth: int
    ) -> _Piece:
        """`a < b < c` becomes `a < b and b < c`. No part has side effects, so evaluating b twice does no harm."""
        links = []
        first = self._piece(left, depth)
        for op, node in zip(ops, comparators, strict=True):
            if type(op) in _MEMBERSHIPS:
                links.append(self._membership(first, _MEMBERSHIPS[type(op)], node, depth))
                if len(ops) > 1:
                    raise RecipeError("`in` can't be chained with other comparisons", "join them with `and`")
                break
            second = self._piece(node, depth)
            links.append(_link(first, op, second))
            first = second
        return links[0] if len(links) == 1 else _junction(ast.And(), links)

    def _membership(self, item: _Piece, word: str, node: ast.expr, depth: int) -> _Piece:
        value, absent = item.value, word == "not in"
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            pieces = [self._piece(element, depth) for element in node.elts]
            for piece, element in zip(pieces, node.elts, strict=True):
                if not isinstance(element, ast.Constant | ast.UnaryOp):
                    raise RecipeError(
                        f"{shown(piece.text)} in a list",
                        "lists hold numbers or texts, no facts",
                    )
                _same_kind(item, word, piece)
            known = frozenset(piece.value({}) for piece in pieces)
            text = f"({item.text} {word} [{', '.join(sorted({piece.text for piece in pieces}))}])"
            return _Piece(
                "a yes-or-no",
                lambda facts: (it := value(facts)) is not None and (it in known) is not absent,
                text,
            )
        whole = self._piece(node, depth)
        if item.kind != "a text" or whole.kind != "a text":
            raise RecipeError(
                f"{word!r} needs a list or a text behind it, not {shown(whole.text)}",
                "write a list: arch in ['llama', 'qwen2']",
            )
        container = whole.value

        def contains(facts: Mapping[str, Value]) -> bool:
            part, text = value(facts), container(facts)
            return part is not None and text is not None and (str(part) in str(text)) is not absent

        return _Piece("a yes-or-no", contains, f"({item.text} {word} {whole.text})")


def _constant(value: object, node: ast.expr) -> _Piece:
    if isinstance(value, bool):
        return _Piece("a yes-or-no", lambda facts: value, str(value))
    if isinstance(value, int | float):
        if not -_MAX_NUMBER <= value <= _MAX_NUMBER:
            raise RecipeError("a number in the expression is too large", "numbers end at 2^63")
        return _Piece("a number", lambda facts: value, repr(value))
    if isinstance(value, str):
        return _Piece("a text", lambda facts: value, repr(value))
    raise _refused(node, node)


_ZERO = _Piece("a number", lambda facts: 0, "0")


def _arithmetic(op: ast.operator, left: _Piece, right: _Piece, text: str = "") -> _Piece:
    sign, apply = _ARITHMETIC[type(op)]
    _demand(left, "a number", sign)
    _demand(right, "a number", sign)
    first, second = left.value, right.value

    def value(facts: Mapping[str, Value]) -> Value:
        a, b = first(facts), second(facts)
        if a is None or b is None:
            return None
        result = apply(a, b)
        if not -_MAX_NUMBER <= result <= _MAX_NUMBER:
            raise RecipeError(f"{shown(text)} grows too large", "numbers end at 2^63")
        return result

    text = text or f"({left.text} {sign} {right.text})"
    return _Piece("a number", value, text)


def _junction(op: ast.boolop, pieces: list[_Piece]) -> _Piece:
    word = "and" if isinstance(op, ast.And) else "or"
    for piece in pieces:
        _demand(piece, "a yes-or-no", word)
    values = [piece.value for piece in pieces]
    decide = all if word == "and" else any
    text = f"({f' {word} '.join(piece.text for piece in pieces)})"
    return _Piece("a yes-or-no", lambda facts: decide(value(facts) for value in values), text)


def _link(left: _Piece, op: ast.cmpop, right: _Piece) -> _Piece:
    sign, compare = _COMPARISONS[type(op)]
    _same_kind(left, sign, right)
    first, second = left.value, right.value
    if sign not in ("==", "!=") and left.kind == "a yes-or-no":
        raise RecipeError(f"{sign} compares {shown(left.text)}, which is a yes-or-no", "use and, or, not")

    def value(facts: Mapping[str, Value]) -> bool:
        a, b = first(facts), second(facts)
        return a is not None and b is not None and compare(a, b)

    return _Piece("a yes-or-no", value, f"({left.text} {sign} {right.text})")


def _demand(piece: _Piece, kind: Kind, sign: str) -> None:
    if piece.kind != kind:
        remedy = "compare it: n_expert > 0" if kind == "a yes-or-no" else ""
        raise RecipeError(f"{sign!r} needs {kind}, but {shown(piece.text)} is {piece.kind}", remedy)


def _same_kind(left: _Piece, sign: str, right: _Piece) -> None:
    if left.kind != right.kind:
        raise RecipeError(
            f"{sign!r} compares {shown(left.text)}, {left.kind}, with {shown(right.text)}, {right.kind}"
        )


def _refused(part: ast.AST, node: ast.expr) -> RecipeError:
    remedy = _INSTEAD.get(type(part), "use facts, numbers, texts, comparisons, in, and, or, not, + - * // %")
    return RecipeError(f"{_source(node)} can't be used in an expression", remedy)


def _source(node: ast.expr) -> str:
    try:
        return shown(ast.unparse(node))
    except RecursionError:
        return "a part that is nested too deeply"


def _parse(text: str) -> ast.expr:
    if len(text) > MAX_LENGTH:
        raise RecipeError(f"an expression of {len(text)} characters (at most {MAX_LENGTH})", "split the rule")
    if bad := next((char for char in text if char in "\\#;@\0"), None):
        raise RecipeError(
            f"the expression {shown(text)} has a {bad!r} in it",
            "expressions have no escapes, comments or statements",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Python's parser only warns of `1and 2`
            return ast.parse(" ".join(text.splitlines()).strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = error.msg if isinstance(error, SyntaxError) else "it is nested too deeply"
        raise RecipeError(
            f"the expression {shown(text)} can't be read: {why}",
            "`quantrecipe help recipe-reference` explains `when`",
        ) from None
