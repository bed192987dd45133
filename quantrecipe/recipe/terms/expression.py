"""Expression: what stands behind `when`, a question about a tensor and its model.

    rank < count//8 or rank >= 7*count//8 or (rank - count//8) % 3 == 2
    arch in ['llama', 'qwen2'] and n_layers == 80
    layer >= 10 and not covered

A small subset of Python's expressions: facts by name, numbers, texts, True and False, lists of numbers or
texts behind `in`, comparisons (chained too), and/or/not, + - * // % and parentheses. Nothing else exists: no
calls, attributes, subscripts or powers.

What is a number, a text or a yes-or-no is known when the recipe is read, and mixing them up is an error
there. All that can go wrong later is a division by zero, or a number that grows beyond 2^63.

**Facts without a value.** `layer` has none outside the blocks. Arithmetic with it has none either, and every
comparison with it is false, `!=` and `not in` too. So `layer > 3` and `layer <= 3` are both about tensors in
blocks; `not layer >= 0` is true outside them.

**Facts that a recipe defines** (its key `facts`) are expressions with a name. They stand for what they say, as if
it were written in parentheses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.terms.expression_syntax import MAX_LENGTH, Builder, shown
from quantrecipe.recipe.terms.fact_kinds import FACTS, Kind, Value

__all__ = ["Expression"]

_TEXT_OR_NAME = re.compile(r"'[^']*'|\"[^\"]*\"|\w+")
_NONE_DEFINED: Mapping[str, Expression] = MappingProxyType({})
_LEAST_COST = 100  # in microseconds: to parse the smallest one


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression.

    text:      as it was written
    written_out: the same, with the facts that the recipe defines replaced by what they stand for
    canonical: with all parentheses and in one spelling; equal for expressions that differ in layout alone
    kind:      what it gives; a `when` gives a yes-or-no
    names:     the facts that it asks for
    defined:   the facts of the recipe that its text names
    """

    text: str
    written_out: str = field(compare=False)
    canonical: str = field(compare=False)
    kind: Kind = field(compare=False)
    names: frozenset[str] = field(compare=False)
    defined: Mapping[str, Expression] = field(repr=False, compare=False)
    _value: Callable[[Mapping[str, Value]], Value] = field(repr=False, compare=False)

    @classmethod
    def parse(
        cls, text: str, facts: Mapping[str, Kind] = FACTS, defined: Mapping[str, Expression] = _NONE_DEFINED
    ) -> Expression:
        """Parse a text. RecipeError if it isn't in the subset, asks for a fact that isn't in `facts`, or mixes kinds.

        `defined` has the facts that the recipe defines.
        """
        builder = Builder(facts, defined)
        piece = builder.build(text)
        written_out = _write_out(text, defined) if builder.defined_in_use else text
        if len(written_out) > MAX_LENGTH:
            raise RecipeError(
                f"{shown(text)} comes to {len(written_out)} characters with its facts written out"
                f" (at most {MAX_LENGTH})",
                "split the rule",
            )
        used = MappingProxyType(builder.defined_in_use)
        return cls(text, written_out, piece.text, piece.kind, frozenset(builder.names), used, piece.value)

    @property
    def cost(self) -> int:
        """What it costs to read it, and to plan with it, as `Effort` counts."""
        return max(_LEAST_COST, 4 * len(self.written_out))

    def evaluate(self, facts: Mapping[str, Value]) -> Value:
        """Return the value; None if it hangs on a fact that has none.

        RecipeError for a division by zero, or a number that grows too large.
        """
        try:
            return self._value(facts)
        except ZeroDivisionError:
            known = ", ".join(f"{name} = {facts[name]!r}" for name in sorted(self.names))
            raise RecipeError(
                f"{shown(self.text)} divides by zero{' where ' + known if known else ''}",
                "test for zero first: n_gqa > 0 and …",
            ) from None

    def __str__(self) -> str:
        return self.text


def _write_out(text: str, defined: Mapping[str, Expression]) -> str:
    """Return the text with the recipe's own facts replaced by what they stand for, in parentheses."""

    def replace(match: re.Match[str]) -> str:
        definition = defined.get(match[0])
        return match[0] if definition is None else f"({definition.written_out})"

    return _TEXT_OR_NAME.sub(replace, text)
