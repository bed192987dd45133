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

import string
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from quantrecipe.errors import RecipeError
from quantrecipe.wording import quoted

__all__ = ["Regex", "exact_regex"]

_MAX_LENGTH = 4000  # a list of a hundred layers, written as alternatives, has about 400 characters
_MAX_DEPTH = 30
_MAX_STATES = 5_000
_MAX_REPEAT = 1000
_MAX_REMEMBERED = 100_000
"""States in all the sets that are remembered."""
_MAX_WORK = 500_000
"""States that are looked at for new sets, over all names; those that people write need thousands."""
_MAX_TEXTS = 32

_CLASSES = {"d": frozenset(string.digits), "w": frozenset(string.ascii_letters + string.digits + "_")}
_CLASSES["s"] = frozenset(" \t\n\r\f\v")
_SETS = {
    "alnum": frozenset(string.ascii_letters + string.digits),
    "alpha": frozenset(string.ascii_letters),
    "blank": frozenset(" \t"),
    "cntrl": frozenset(map(chr, (*range(32), 127))),
    "digit": frozenset(string.digits),
    "graph": frozenset(map(chr, range(33, 127))),
    "lower": frozenset(string.ascii_lowercase),
    "print": frozenset(map(chr, range(32, 127))),
    "punct": frozenset(string.punctuation),
    "space": _CLASSES["s"],
    "upper": frozenset(string.ascii_uppercase),
    "xdigit": frozenset(string.hexdigits),
    **_CLASSES,
}
"""Sets by their names in [ ], as in C++ (std::regex_traits::lookup_classname), in the locale "C"."""
_SPECIAL = frozenset("\\^$.*+?()[]{}|")
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}


@dataclass(frozen=True, slots=True)
class _Chars:
    chars: frozenset[str]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class _Sequence:
    items: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    items: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Repeat:
    item: _Node
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class _Anchor:
    at: Literal["start", "end"]


def exact_regex(text: str) -> str:
    """Return the expression that stands for this text alone."""
    return "".join(f"\\{char}" if char in _SPECIAL else char for char in text)


_Node = _Chars | _Sequence | _Choice | _Repeat | _Anchor

_ANY = _Chars(frozenset("\n\r"), negated=True)


@dataclass(frozen=True, slots=True)
class _State:
    """One state: it eats a character of `chars`, or is passed freely (only at `anchor`, if it has one)."""

    chars: _Chars | None
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
        node = _Parser(text).parse()
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


def _texts_of(node: _Node) -> tuple[str, ...] | None:
    """Return the texts that an expression stands for; None if they aren't few."""
    match node:
        case _Chars(chars=chars, negated=False) if len(chars) == 1:
            return tuple(chars)
        case _Choice(items=items):
            texts: tuple[str, ...] = ()
            for item in items:
                more = _texts_of(item)
                if more is None or len(texts) + len(more) > _MAX_TEXTS:
                    return None
                texts += more
            return texts
        case _Sequence(items=items):
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

    def compile(self, node: _Node) -> tuple[tuple[_State, ...], int]:
        start = self._build(node, 0)
        return tuple(self._states), start

    def _add(self, state: _State) -> int:
        self._states.append(state)
        return len(self._states) - 1

    def _build(self, node: _Node, then: int) -> int:
        self._work += 1  # counts empty pieces too, which make no state
        if self._work > _MAX_STATES:
            raise RecipeError(
                f"the regular expression {quoted(self._text)} repeats too much", "use smaller counts in { }"
            )
        match node:
            case _Chars():
                return self._add(_State(node, (then,)))
            case _Anchor(at=at):
                return self._add(_State(None, (then,), at))
            case _Sequence(items=items):
                for item in reversed(items):
                    then = self._build(item, then)
                return then
            case _Choice(items=items):
                return self._add(_State(None, tuple(self._build(item, then) for item in items)))
            case _Repeat(item=item, least=least, most=most):
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


class _Parser:
    """Parses the text by recursive descent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def parse(self) -> _Node:
        node = self._choice()
        if self._at < len(self._text):  # only a closing parenthesis ends a choice early
            raise self._error("a ) without its (", "write \\) for the character itself")
        return node

    def _choice(self) -> _Node:
        items = [self._sequence()]
        while self._take("|"):
            items.append(self._sequence())
        return items[0] if len(items) == 1 else _Choice(tuple(items))

    def _sequence(self) -> _Node:
        items: list[_Node] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            items.append(self._repeated())
        return _Sequence(tuple(items))

    def _repeated(self) -> _Node:
        node = self._atom()
        if (bounds := self._quantifier()) is None:
            return node
        if isinstance(node, _Anchor):
            raise self._error("a repeated ^ or $")
        self._take("?")  # lazy: which match is found first makes no difference to whether there is one
        if self._quantifier() is not None:
            raise self._error("two repetitions in a row", "put the first one into ( )")
        return _Repeat(node, *bounds)

    def _quantifier(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return bounds
        if not self._take("{"):
            return None
        end = self._text.find("}", self._at)
        least, comma, most = self._text[self._at : end].partition(",")
        if end < 0 or not _is_number(least) or not (_is_number(most) or not most):
            raise self._error(
                "a { that opens no count like {2} or {2,5}", "write \\{ for the character itself"
            )
        self._at = end + 1
        low = int(least)
        high = (int(most) if most else None) if comma else low
        if max(low, high or 0) > _MAX_REPEAT or (high is not None and high < low):
            raise self._error(f"a count that isn't between 0 and {_MAX_REPEAT}, the smaller number first")
        return low, high

    def _atom(self) -> _Node:
        char = self._next()
        match char:
            case ".":
                return _ANY
            case "^":
                return _Anchor("start")
            case "$":
                return _Anchor("end")
            case "(":
                return self._group()
            case "[":
                return self._class()
            case "\\":
                return self._escape()
            case "*" | "+" | "?" | "{":
                raise self._error(
                    f"nothing before {char} to repeat", f"write \\{char} for the character itself"
                )
        return _Chars(frozenset(char))

    def _group(self) -> _Node:
        if self._take("?") and not self._take(":"):
            raise self._error(
                "(? is only known as (?:",
                "look-around, names and flags aren't supported; write the rule as a glob with `when`",
            )
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error(f"parentheses deeper than {_MAX_DEPTH}")
        node = self._choice()
        self._depth -= 1
        if not self._take(")"):
            raise self._error("a ( that isn't closed", "write \\( for the character itself")
        return node

    def _escape(self) -> _Chars:
        char = self._next()
        if (chars := _CLASSES.get(char.lower())) is not None:
            return _Chars(chars, negated=char.isupper())
        if char in _CONTROLS:
            return _Chars(frozenset(_CONTROLS[char]))
        if char.isalnum():
            raise self._error(
                f"\\{char} isn't supported", "known are \\d \\w \\s \\D \\W \\S and escaped punctuation"
            )
        return _Chars(frozenset(char))

    def _class(self) -> _Chars:
        negated = self._take("^")
        found = _Chars(frozenset())
        while not self._take("]"):
            first = self._class_item()
            if self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
                self._at += 1
                last = self._class_item()
                ends = [min(it.chars) for it in (first, last) if len(it.chars) == 1 and not it.negated]
                if len(ends) < 2 or not "\0" < ends[0] <= ends[1] < "\x80":
                    raise self._error("a range in [ ] that isn't like a-z")
                first = _Chars(frozenset(map(chr, range(ord(ends[0]), ord(ends[1]) + 1))))
            found = _either(found, first)
        return _Chars(found.chars, negated is not found.negated)

    def _class_item(self) -> _Chars:
        char = self._next("a [ that isn't closed")
        if char == "[" and (sign := self._text[self._at : self._at + 1]) in (":", "=", "."):
            return self._named_set(sign)
        return _Chars(frozenset(char)) if char != "\\" else self._escape()

    def _named_set(self, sign: str) -> _Chars:
        """Read `[:digit:]` within brackets."""
        end = self._text.find(f"{sign}]", self._at + 1)
        if end < 0:
            raise self._error(f"a [{sign} that isn't closed by {sign}]", "write \\[ for the character itself")
        name = self._text[self._at + 1 : end]
        self._at = end + 2
        if sign != ":":
            kind = "equivalence class" if sign == "=" else "collating element"
            raise self._error(
                f"[{sign}{name}{sign}], an {kind}".replace("an c", "a c"), "write the characters"
            )
        if (chars := _SETS.get(name.lower())) is None:  # C++ takes capitals, too
            raise self._error(
                f"there is no set [:{name[:20]}:]", "known are " + " ".join(it for it in _SETS if len(it) > 1)
            )
        return _Chars(chars)

    def _take(self, char: str) -> bool:
        if self._text.startswith(char, self._at):
            self._at += 1
            return True
        return False

    def _next(self, missing: str = "it ends too early") -> str:
        if self._at >= len(self._text):
            raise self._error(missing)
        self._at += 1
        return self._text[self._at - 1]

    def _error(self, what: str, remedy: str = "") -> RecipeError:
        return RecipeError(
            f"the regular expression {quoted(self._text)} can't be read: {what} (character {self._at})",
            remedy,
        )


def _either(one: _Chars, other: _Chars) -> _Chars:
    """Return the set of what is in one set or in the other."""
    if one.negated and other.negated:
        return _Chars(one.chars & other.chars, negated=True)
    if one.negated or other.negated:
        without, plain = (one, other) if one.negated else (other, one)
        return _Chars(without.chars - plain.chars, negated=True)
    return _Chars(one.chars | other.chars)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6
