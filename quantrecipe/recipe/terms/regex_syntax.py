"""The syntax of regular expressions: a text becomes a tree of nodes, and what isn't understood is told with its place.

What is understood, and why no more, is in `regex`.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Literal

from quantrecipe.errors import RecipeError
from quantrecipe.wording import quoted

__all__ = ["Anchor", "Chars", "Choice", "Node", "Repeat", "Sequence", "exact_regex", "parse_regex"]

_MAX_DEPTH = 30  # so that a stack can't run out
_MAX_REPEAT = 1000  # no name of a tensor is longer

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
# Characters that mean something by themselves, and need a backslash where they don't.
_SPECIAL = frozenset("\\^$.*+?()[]{}|")
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a set, or, if `negated`, one that isn't in it."""

    chars: frozenset[str]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    """Its items match one after the other."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of its items matches."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """Its item matches from `least` to `most` times; None: as often as one likes."""

    item: Node
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Anchor:
    """Nothing stands before this place, or nothing behind it."""

    at: Literal["start", "end"]


Node = Chars | Sequence | Choice | Repeat | Anchor

_ANY = Chars(frozenset("\n\r"), negated=True)


def parse_regex(text: str) -> Node:
    """Parse an expression. RecipeError if it isn't in the syntax."""
    return _Parser(text).parse()


def exact_regex(text: str) -> str:
    """Return the expression that stands for this text alone."""
    return "".join(f"\\{char}" if char in _SPECIAL else char for char in text)


class _Parser:
    """Parses the text by recursive descent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def parse(self) -> Node:
        node = self._choice()
        if self._at < len(self._text):  # only a closing parenthesis ends a choice early
            raise self._error("a ) without its (", "write \\) for the character itself")
        return node

    def _choice(self) -> Node:
        items = [self._sequence()]
        while self._take("|"):
            items.append(self._sequence())
        return items[0] if len(items) == 1 else Choice(tuple(items))

    def _sequence(self) -> Node:
        items: list[Node] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            items.append(self._repeated())
        return Sequence(tuple(items))

    def _repeated(self) -> Node:
        node = self._atom()
        if (bounds := self._quantifier()) is None:
            return node
        if isinstance(node, Anchor):
            raise self._error("a repeated ^ or $")
        self._take("?")  # lazy: which match is found first makes no difference to whether there is one
        if self._quantifier() is not None:
            raise self._error("two repetitions in a row", "put the first one into ( )")
        return Repeat(node, *bounds)

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

    def _atom(self) -> Node:
        char = self._next()
        match char:
            case ".":
                return _ANY
            case "^":
                return Anchor("start")
            case "$":
                return Anchor("end")
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
        return Chars(frozenset(char))

    def _group(self) -> Node:
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

    def _escape(self) -> Chars:
        char = self._next()
        if (chars := _CLASSES.get(char.lower())) is not None:
            return Chars(chars, negated=char.isupper())
        if char in _CONTROLS:
            return Chars(frozenset(_CONTROLS[char]))
        if char.isalnum():
            raise self._error(
                f"\\{char} isn't supported", "known are \\d \\w \\s \\D \\W \\S and escaped punctuation"
            )
        return Chars(frozenset(char))

    def _class(self) -> Chars:
        negated = self._take("^")
        found = Chars(frozenset())
        while not self._take("]"):
            first = self._class_item()
            if self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
                self._at += 1
                last = self._class_item()
                ends = [min(it.chars) for it in (first, last) if len(it.chars) == 1 and not it.negated]
                if len(ends) < 2 or not "\0" < ends[0] <= ends[1] < "\x80":
                    raise self._error("a range in [ ] that isn't like a-z")
                first = Chars(frozenset(map(chr, range(ord(ends[0]), ord(ends[1]) + 1))))
            found = _either(found, first)
        return Chars(found.chars, negated is not found.negated)

    def _class_item(self) -> Chars:
        char = self._next("a [ that isn't closed")
        if char == "[" and (sign := self._text[self._at : self._at + 1]) in (":", "=", "."):
            return self._named_set(sign)
        return Chars(frozenset(char)) if char != "\\" else self._escape()

    def _named_set(self, sign: str) -> Chars:
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
        return Chars(chars)

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


def _either(one: Chars, other: Chars) -> Chars:
    """Return the set of what is in one set or in the other."""
    if one.negated and other.negated:
        return Chars(one.chars & other.chars, negated=True)
    if one.negated or other.negated:
        without, plain = (one, other) if one.negated else (other, one)
        return Chars(without.chars - plain.chars, negated=True)
    return Chars(one.chars | other.chars)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6
