"""Pattern: which tensors a rule is about.

A tensor answers to two names, both without `.weight`: its whole name, `blk.3.attn_v`, and its role, `attn_v`,
which is the whole name where a tensor stands outside the blocks (`token_embd`, `enc.blk.0.attn_q`). Other
endings belong to both: `blk.3.attn_q.bias`, `attn_q.bias`.

    attn_v              the role in every layer
    *_exps              a wildcard: every role that ends so
    attn_q.bias         a role with another ending
    *.bias              every role of two parts, the second `bias`: biases in the blocks and outside
    nextn.eh_proj       a role that has a dot by itself
    blk.3.attn_v        a whole name
    blk.*.{attn,ffn}_*  braces list alternatives; they may nest, and one may be empty
    attn_[kv], blk.?.*  one character of a set ([!…]: not of it); any one character
    head                the tensor that makes the logits: `output`, or the tied `token_embd`
    name:blk.0.a[1].weight  the one tensor of this full name, `.weight` included, whatever characters it has
    regex:ffn_.*_exps   for imported recipes: searched anywhere in the full name, `.weight` included, as
                        llama-quantize does; see `quantrecipe.recipe.terms.regex` for the syntax

`group:NAME`, the patterns that a recipe's `groups` has under a name, is replaced by them when the recipe is read.

Only `.weight` with its dot is left out: `blk.0.attn.in_proj_weight` has the role `attn.in_proj_weight`. Where a model
has both `a.weight` and `a`, which are the same without it, patterns mean the first; `name:a` means the second.

Without a dot, a pattern is compared with roles; with one, with whole names and with roles. No wildcard
matches a dot, so `*` stays within a part. Upper and lower case differ.

**Outright or not.** A pattern without a wildcard in its role names its tensors outright: `ffn_gate_inp`,
`blk.*.attn_norm` (the layer number may be a wildcard), `{attn_q,attn_k}.bias`, `head`, `name:…`. It reaches any
tensor. A pattern with a wildcard, and every `regex:`, is about quantizable matrices only. Each alternative
of a brace is judged by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.terms.regex import Regex
from quantrecipe.tensor import TensorInfo
from quantrecipe.wording import quoted

__all__ = ["GROUP", "HEAD", "Pattern", "written_out"]

HEAD = "head"
"""The pattern for the tensor that makes the logits."""

GROUP = "group:"
"""What stands before the name of a group of patterns."""

_REGEX = "regex:"
_NAME = "name:"
_WEIGHT = ".weight"
_WILD = frozenset("*?[")
_IN_CLASS = re.compile(r"!?(?:\w(?:-\w)?)+", re.ASCII)
_BLOCK_NUMBER = re.compile(r"(?:^|(?<=\.))blk\.[^.]+\.")
# Braces multiply: `{a,b}{a,b}{a,b}` are eight names. Shipped patterns have 32 characters at most, and six names.
_MAX_LENGTH = 2000
_MAX_ALTERNATIVES = 1000
_MAX_NESTING = 8
_MAX_WRITTEN_OUT = 20_000
_LEAST_COST, _LEAST_COST_OF_A_REGEX = 100, 500  # in microseconds: to compile the smallest one


@dataclass(frozen=True, slots=True)
class _Matcher:
    """Some alternatives of a pattern as one expression for roles and one for whole names."""

    head: bool
    roles: re.Pattern[str] | None
    names: re.Pattern[str] | None

    @classmethod
    def of(cls, globs: list[str]) -> _Matcher:
        """Compile globs to expressions that never backtrack over more than one part of a name."""
        plain = [glob for glob in globs if glob != HEAD]
        dotted = [glob for glob in plain if "." in glob]
        return cls(HEAD in globs, _compile(plain), _compile(dotted))

    def matches(self, tensor: TensorInfo, head: str | None) -> bool:
        if self.head and tensor.name == head:
            return True
        if self.roles and self.roles.fullmatch(tensor.role):
            return True
        return bool(self.names and self.names.fullmatch(tensor.name.removesuffix(_WEIGHT)))

    def may_match(self, role: str) -> bool:
        return self.head or self.names is not None or bool(self.roles and self.roles.fullmatch(role))


@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed pattern; `str()` gives the text that it was parsed from. cost: see `reader.Effort`."""

    text: str
    cost: int = field(repr=False, compare=False, default=0)
    _outright: _Matcher | None = field(repr=False, compare=False, default=None)
    _wild: _Matcher | None = field(repr=False, compare=False, default=None)
    _regex: Regex | None = field(repr=False, compare=False, default=None)
    _name: str | None = field(repr=False, compare=False, default=None)

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Parse a text. RecipeError if it is no pattern."""
        if text.startswith(_NAME):
            if not text.removeprefix(_NAME):
                raise RecipeError("'name:' without a name", "write the full name: name:blk.0.attn_v.weight")
            return cls(text, cost=_LEAST_COST, _name=text.removeprefix(_NAME))
        if text.startswith(_REGEX):
            if not text.removeprefix(_REGEX):
                raise RecipeError(
                    "'regex:' without an expression would match every tensor",
                    "write 'regex:.*' if that is meant",
                )
            regex = Regex.parse(text.removeprefix(_REGEX))
            return cls(text, cost=max(_LEAST_COST_OF_A_REGEX, 2 * regex.size), _regex=regex)
        return _of_globs(text)

    @property
    def names_outright(self) -> bool:
        """True if no alternative has a wildcard in its role: then the pattern reaches any tensor."""
        return self._name is not None or (self._outright is not None and self._wild is None)

    def matches(self, tensor: TensorInfo, head: str | None, *, shadowed: bool = False) -> bool:
        """Say whether the pattern fits the tensor, quantizable or not.

        `head` is the full name of the tensor that makes the logits, None where the model has none. `shadowed`: the
        model has another tensor of this name and `.weight`, which is meant by all but full names.
        """
        if self._name is not None:
            return tensor.name == self._name
        if self._regex:
            return self._regex.search(tensor.name)
        if shadowed:
            return False
        if self._outright is not None and self._outright.matches(tensor, head):
            return True
        return self._wild is not None and self._wild.matches(tensor, head)

    def reaches(
        self, tensor: TensorInfo, head: str | None, *, quantizable: bool, shadowed: bool = False
    ) -> bool:
        """Say whether a rule with this pattern is about the tensor: named outright, or quantizable and matched."""
        if quantizable or self._name is not None:
            return self.matches(tensor, head, shadowed=shadowed)
        return not shadowed and self._outright is not None and self._outright.matches(tensor, head)

    def may_match(self, role: str) -> bool:
        """False if no tensor of this role matches, whatever its name is: nobody then has to ask for each of them."""
        if self._name is not None or self._regex:
            return True
        return any(part is not None and part.may_match(role) for part in (self._outright, self._wild))

    def __str__(self) -> str:
        return self.text


# The same few patterns stand in most recipes. Regular expressions aren't remembered: each counts its own work.
@lru_cache(maxsize=1024)
def _of_globs(text: str) -> Pattern:
    globs = written_out(text)
    if sum(map(len, globs)) > _MAX_WRITTEN_OUT:
        raise RecipeError(
            f"the pattern {quoted(text)} comes to more than {_MAX_WRITTEN_OUT} characters, its braces written out",
            "use * or `layers`",
        )
    for glob in globs:
        _check_glob(glob, text)
    outright = [glob for glob in globs if _is_outright(glob)]
    wild = [glob for glob in globs if not _is_outright(glob)]
    return Pattern(
        text,
        cost=max(_LEAST_COST, 4 * sum(map(len, globs))),
        _outright=_Matcher.of(outright) if outright else None,
        _wild=_Matcher.of(wild) if wild else None,
    )


def written_out(text: str) -> list[str]:
    """Return the alternatives that the braces of a pattern come to, each once. RecipeError if it is no pattern."""
    _check_characters(text)
    return list(dict.fromkeys(_alternatives(text)))


def _check_characters(text: str) -> None:
    if not text:
        raise RecipeError("an empty pattern", "write a role like attn_v, or '*' for every matrix")
    if len(text) > _MAX_LENGTH:
        raise RecipeError(
            f"a pattern of {len(text)} characters (at most {_MAX_LENGTH})", "write a list of patterns"
        )
    if any(char.isspace() or not char.isprintable() for char in text):
        raise RecipeError(
            f"the pattern {text!r} has spaces in it",
            "write several patterns as a list: [attn_q, attn_k]",
        )
    if any(char in text for char in "\\()|^$+"):
        raise RecipeError(
            f"the pattern {text!r} looks like a regular expression",
            "patterns are globs (* ? [abc] {a,b}); start with 'regex:' to search with a regular expression,"
            " with 'name:' to give a tensor's full name",
        )


def _alternatives(text: str) -> Iterator[str]:
    """Yield the texts that braces stand for, in order."""
    alternatives = [""]
    stack: list[
        tuple[list[str], list[str]]
    ] = []  # for each open brace: what stood before it, what is finished in it
    in_class = False
    for char in text:
        if in_class or char == "[":
            in_class = char != "]"
            alternatives = [glob + char for glob in alternatives]
        elif char == "{":
            if len(stack) == _MAX_NESTING:
                raise RecipeError(
                    f"braces deeper than {_MAX_NESTING} in the pattern {quoted(text)}",
                    "write a list of patterns",
                )
            stack.append((alternatives, []))
            alternatives = [""]
        elif char in ",}" and stack:
            before, done = stack[-1]
            done.extend(alternatives)
            alternatives = [""]
            if char == "}":
                stack.pop()
                if len(before) * len(done) > _MAX_ALTERNATIVES:
                    raise RecipeError(
                        f"the pattern {quoted(text)} stands for more than {_MAX_ALTERNATIVES} names",
                        "use * or `layers`",
                    )
                alternatives = [glob + end for glob in before for end in done]
        elif char == ",":
            raise RecipeError(
                f"a comma outside braces in the pattern {quoted(text)}", "write a list: [attn_q, attn_k]"
            )
        elif char == "}":
            raise RecipeError(
                f"a }} without its {{ in the pattern {quoted(text)}",
                "braces list alternatives: ffn_{gate,up}",
            )
        else:
            alternatives = [glob + char for glob in alternatives]
    if stack:
        raise RecipeError(
            f"a {{ without its }} in the pattern {quoted(text)}", "braces list alternatives: ffn_{gate,up}"
        )
    if in_class:
        raise RecipeError(
            f"a [ without its ] in the pattern {quoted(text)}", "brackets list characters: attn_[kv]"
        )
    yield from alternatives


def _check_glob(glob: str, text: str) -> None:
    if glob.endswith(_WEIGHT):
        from quantrecipe.recipe.terms.meant_patterns import meant_in_any_model  # it asks what patterns match

        hint = meant_in_any_model(glob)
        remedy = hint or f"leave it out: {glob.removesuffix(_WEIGHT)}"
        raise RecipeError(f"the pattern {quoted(text)} spells out '.weight'", remedy)
    if not all(glob.split(".")):
        raise RecipeError(
            f"the pattern {quoted(text)} has an empty part",
            "parts are separated by single dots: blk.3.attn_v",
        )
    if "**" in glob:
        raise RecipeError(
            f"the pattern {quoted(text)} has ** in it", "* stays within a part; write each part: *.*"
        )
    for rest in glob.split("[")[1:]:
        if not _IN_CLASS.fullmatch(rest.partition("]")[0]):
            raise RecipeError(
                f"the pattern {quoted(text)} has odd characters in [ ]",
                "list letters, digits, _ or a range: [kv], [0-9], [!q]",
            )
    if "]" in re.sub(r"\[[^]]*\]", "", glob):
        raise RecipeError(
            f"a ] without its [ in the pattern {quoted(text)}", "brackets list characters: attn_[kv]"
        )


def _is_outright(glob: str) -> bool:
    """Say whether a glob has no wildcard but in the number of the block."""
    return not _WILD & set(_BLOCK_NUMBER.sub("", glob, count=1))


def _compile(globs: list[str]) -> re.Pattern[str] | None:
    if not globs:
        return None
    try:
        return re.compile("|".join(r"\.".join(map(_part, glob.split("."))) for glob in globs))
    except re.error:  # all else is escaped or was checked
        raise RecipeError(
            f"a range in {quoted(', '.join(globs))} runs backwards", "write the smaller one first: [0-9]"
        ) from None


def _part(part: str) -> str:
    """Return one part of a glob as a regular expression.

    The text between two stars is taken where it first fits and never moved again (an atomic group): that is
    enough for globs, and keeps the work proportional.
    """
    first, *others = (_fixed(piece) for piece in part.split("*"))
    if not others:
        return first
    *middle, last = others
    return first + "".join(f"(?>[^.]*?{piece})" for piece in middle) + "[^.]*" + last


def _fixed(piece: str) -> str:
    """Return a piece of a glob without stars as a regular expression."""
    out = []
    for token in re.findall(r"\[[^]]*\]|.", piece):
        if token == "?":
            out.append("[^.]")
        elif token.startswith("["):
            out.append("[^." + token[2:] if token.startswith("[!") else token)
        else:
            out.append(re.escape(token))
    return "".join(out)
