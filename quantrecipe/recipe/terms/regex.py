"""Regular expressions that can't be made slow: for `regex:` patterns of imported recipes.

Recipes come from strangers, and a backtracking engine can be kept busy for years by twenty characters. Here
a name costs its length times the size of the pattern at worst: the pattern becomes a graph of states
(Thompson's construction), the name is followed through all states at once, and the sets of states that were
seen are remembered, so that most characters cost one look into a dictionary. An expression that stands for a
few texts, `attn_(q|k)`, is looked for as these texts.

The syntax is the part of ECMAScript's that people write for llama-quantize:

    abc  .  \\d \\w \\s \\D \\W \\S  \\.  [a-z_]  [^0-9]  [[:digit:]_]  (a|b)  (?:a|b)  * + ? {2} {2,} {2,5}  ^  $

Repetitions may be lazy. Letters keep their case (llama-quantize lower-cases a pattern, so that its `\\D`
means `\\d`); `\\d`, `\\w`, `\\s` and sets such as `[:digit:]` are about ASCII. No look-around, back-references, word
boundaries, flags, or `[[=a=]]` and `[[.a.]]`. Why not google-re2: docs/decisions/0011-regular-expressions.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.terms.regex_syntax import Anchor, Chars, Choice, Node, Repeat, Sequence, parse_regex
from quantrecipe.wording import quoted

__all__ = ["Regex"]

_MAX_LENGTH = 4000  # a list of a hundred layers, written as alternatives, has about 400 characters
_MAX_STATES = 5_000  # `(a{100}){100}` would have ten thousand
_MAX_REMEMBERED = 100_000
"""States in all the sets that are remembered."""
_MAX_WORK = 500_000
"""States that are looked at for new sets, over all names; those that people write need thousands."""
_MAX_TEXTS = 32
"""From here on, looking for the texts one by one is slower than following the states."""


@dataclass(frozen=True, slots=True)
class _State:
    """One state: it eats a character of `chars`, or is passed freely (only at `anchor`, if it has one)."""

    chars: Chars | None
    following: tuple[int, ...]
    anchor: Literal["start", "end"] | None = None


_States = frozenset[int]


@dataclass(frozen=True, slots=True, eq=False)
class Regex:
    """A regular expression. `search` is its only question; equal are those with equal text."""

    text: str
    _states: tuple[_State, ...] = field(repr=False)
    _start: int = field(repr=False)
    _texts: tuple[str, ...] | None = field(repr=False)
    _steps: dict[tuple[_States, str], _States] = field(default_factory=dict, repr=False)
    _ends: dict[_States, bool] = field(default_factory=dict, repr=False)
    _begin: list[_States] = field(default_factory=list, repr=False)
    _spent: list[int] = field(default_factory=lambda: [0, 0], repr=False)  # work; states that are remembered

    @classmethod
    def parse(cls, text: str) -> Regex:
        """Parse a text. RecipeError if it isn't in the syntax above, or is too large."""
        if len(text) > _MAX_LENGTH:
            raise RecipeError(
                f"a regular expression of {len(text)} characters (at most {_MAX_LENGTH})",
                "split it into several rules",
            )
        node = parse_regex(text)
        states, start = _Compiler(text).compile(node)
        return cls(text, states, start, _texts_of(node))

    @property
    def size(self) -> int:
        """How many states it has."""
        return len(self._states)

    @property
    def texts(self) -> tuple[str, ...] | None:
        """The texts of which one must stand in the name; None if they aren't few."""
        return self._texts

    def search(self, name: str) -> bool:
        """Say whether the expression matches anywhere in the name.

        RecipeError for an expression that is made to need another set of states for every name.
        """
        if self._texts is not None:
            return any(text in name for text in self._texts)
        if not self._begin:
            self._begin.append(self._closure({self._start}, at_start=True))
        seen = self._begin[0]
        for char in name:
            if 0 in seen:
                return True
            step = self._steps.get((seen, char))
            if step is None:
                step = self._step(seen, char)
            seen = step
        if 0 in seen:
            return True
        if not name:
            return 0 in self._closure({self._start}, at_start=True, at_end=True)
        if (end := self._ends.get(seen)) is None:
            end = self._ends[seen] = 0 in self._closure(seen, at_end=True)
        return end

    def _step(self, seen: _States, char: str) -> _States:
        eaten = {
            target
            for number in seen
            if (chars := (state := self._states[number]).chars) and (char in chars.chars) is not chars.negated
            for target in state.following
        }
        if self._spent[1] >= _MAX_REMEMBERED:
            self._steps.clear()
            self._ends.clear()
            self._spent[1] = 0
        step = self._steps[seen, char] = self._closure(eaten | {self._start})
        self._spent[0] += len(seen) + len(step)
        self._spent[1] += len(step)
        if self._spent[0] > _MAX_WORK:
            raise RecipeError(
                f"the regular expression {quoted(self.text)} is too much work",
                "write a simpler one, or a pattern",
            )
        return step

    def _closure(self, states: Iterable[int], *, at_start: bool = False, at_end: bool = False) -> _States:
        """Return all states that are reached from these without eating a character."""
        passable = {None: True, "start": at_start, "end": at_end}
        reached, left = set(states), list(states)
        while left:
            state = self._states[left.pop()]
            if state.chars is None and passable[state.anchor]:
                new = [target for target in state.following if target not in reached]
                reached.update(new)
                left.extend(new)
        return frozenset(reached)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Regex) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


def _texts_of(node: Node) -> tuple[str, ...] | None:
    """Return the texts that an expression stands for; None if they aren't few."""
    match node:
        case Chars(chars=chars, negated=False) if len(chars) == 1:
            return tuple(chars)
        case Choice(items=items):
            texts: tuple[str, ...] = ()
            for item in items:
                more = _texts_of(item)
                if more is None or len(texts) + len(more) > _MAX_TEXTS:
                    return None
                texts += more
            return texts
        case Sequence(items=items):
            texts = ("",)
            for item in items:
                more = _texts_of(item)
                if more is None or len(texts) * len(more) > _MAX_TEXTS:
                    return None
                texts = tuple(first + rest for first in texts for rest in more)
            return texts
    return None


class _Compiler:
    """Builds the states backwards: each piece is told where to go on. State 0 is success."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._states = [_State(None, ())]
        self._work = 0

    def compile(self, node: Node) -> tuple[tuple[_State, ...], int]:
        start = self._build(node, 0)
        return tuple(self._states), start

    def _add(self, state: _State) -> int:
        self._states.append(state)
        return len(self._states) - 1

    def _build(self, node: Node, then: int) -> int:
        self._work += 1  # counts empty pieces too, which make no state
        if self._work > _MAX_STATES:
            raise RecipeError(
                f"the regular expression {quoted(self._text)} repeats too much", "use smaller counts in { }"
            )
        match node:
            case Chars():
                return self._add(_State(node, (then,)))
            case Anchor(at=at):
                return self._add(_State(None, (then,), at))
            case Sequence(items=items):
                for item in reversed(items):
                    then = self._build(item, then)
                return then
            case Choice(items=items):
                return self._add(_State(None, tuple(self._build(item, then) for item in items)))
            case Repeat(item=item, least=least, most=most):
                if most is None:
                    loop = self._add(_State(None, ()))
                    self._states[loop] = _State(None, (self._build(item, loop), then))
                    then = loop
                else:
                    out = then
                    for _ in range(most - least):
                        then = self._add(_State(None, (self._build(item, then), out)))
                for _ in range(least):
                    then = self._build(item, then)
                return then
