"""Why an expression is true or false: the comparisons that make it so, with the facts' values in them.

    rank < count//8 and n_expert == 0     false, since    rank < count//8: 5 < 4 is false

Of an `and` that is false, and of an `or` that is true, the first part that settles it counts; else all parts do.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import NamedTuple

from quantrecipe.recipe.terms.expression import Expression
from quantrecipe.recipe.terms.expression_syntax import SIGNS
from quantrecipe.recipe.terms.fact_kinds import FACTS, Value

__all__ = ["reasons"]


def reasons(expression: Expression, facts: Mapping[str, Value]) -> tuple[str, ...]:
    """Return a sentence for each comparison that counts. `facts` has the values that the expression asks for."""
    return _explain(expression, facts).reasons


class _Found(NamedTuple):
    value: bool
    reasons: tuple[str, ...]


def _explain(expression: Expression, facts: Mapping[str, Value]) -> _Found:
    text = " ".join(expression.text.splitlines()).strip()
    return _Walk(text, expression.defined, facts).explain(ast.parse(text, mode="eval").body)


class _Walk:
    """Walks the tree of one text, whose parts are evaluated as expressions of their own."""

    def __init__(self, text: str, defined: Mapping[str, Expression], facts: Mapping[str, Value]) -> None:
        self._text = text
        self._defined = defined
        self._facts = facts

    def explain(self, node: ast.expr) -> _Found:
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self.explain(value) for value in values]
                settles = isinstance(op, ast.Or)  # a true part settles an `or`, a false one an `and`
                settled = next((part for part in parts if part.value is settles), None)
                if settled is not None:
                    return settled
                every = (reason for part in parts for reason in part.reasons)
                return _Found(not settles, tuple(dict.fromkeys(every)))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                found = self.explain(operand)
                return _Found(not found.value, found.reasons)
            case ast.Name(id=name) if name in self._defined:
                return _explain(self._defined[name], self._facts)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                return self._comparison(node, left, ops, comparators)
        value = bool(self._value(node))
        return _Found(value, (f"{self._source(node)} is {_word(value)}",))

    def _comparison(
        self, node: ast.Compare, left: ast.expr, ops: list[ast.cmpop], comparators: list[ast.expr]
    ) -> _Found:
        value = bool(self._value(node))
        source = self._source(node)
        sides = [left, *(it for it in comparators if not isinstance(it, ast.List | ast.Tuple | ast.Set))]
        values = {side: self._value(side) for side in sides}
        if missing := next((side for side, it in values.items() if it is None), None):
            return _Found(value, (f"{source} is {_word(value)}: {self._source(missing)} has no value here",))
        if isinstance(ops[0], ast.In | ast.NotIn):
            side = next((it for it in sides if isinstance(it, ast.Name)), left)
            return _Found(value, (f"{source} is {_word(value)}: {self._source(side)} is {values[side]!r}",))
        shown = repr(values[left])
        for op, side in zip(ops, comparators, strict=True):
            shown += f" {SIGNS[type(op)]} {values[side]!r}"
        same = shown == source
        return _Found(
            value, (f"{source} is {_word(value)}" if same else f"{source}: {shown} is {_word(value)}",)
        )

    def _value(self, node: ast.expr) -> Value:
        return Expression.parse(self._source(node), FACTS, self._defined).evaluate(self._facts)

    def _source(self, node: ast.expr) -> str:
        return ast.get_source_segment(self._text, node) or ast.unparse(node)


def _word(value: bool) -> str:
    return "true" if value else "false"
