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
from dataclasses import dataclass, field
from functools import lru_cache

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.terms.globs import WEIGHT, check_glob, compile_globs, is_outright, written_out
from quantrecipe.recipe.terms.regex import Regex
from quantrecipe.tensor import TensorInfo
from quantrecipe.wording import quoted

__all__ = ["GROUP", "HEAD", "Pattern"]

HEAD = "head"
"""The pattern for the tensor that makes the logits."""

GROUP = "group:"
"""What stands before the name of a group of patterns."""

_REGEX = "regex:"
_NAME = "name:"
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
        return cls(HEAD in globs, compile_globs(plain), compile_globs(dotted))

    def matches(self, tensor: TensorInfo, head: str | None) -> bool:
        if self.head and tensor.name == head:
            return True
        if self.roles and self.roles.fullmatch(tensor.role):
            return True
        return bool(self.names and self.names.fullmatch(tensor.name.removesuffix(WEIGHT)))

    def may_match(self, role: str) -> bool:
        return self.head or self.names is not None or bool(self.roles and self.roles.fullmatch(role))


@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed pattern; `str()` gives the text that it was parsed from.

    cost: what it costs to read it, and to plan with it, as `Effort` counts
    """

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
        check_glob(glob, text)
    outright = [glob for glob in globs if is_outright(glob)]
    wild = [glob for glob in globs if not is_outright(glob)]
    return Pattern(
        text,
        cost=max(_LEAST_COST, 4 * sum(map(len, globs))),
        _outright=_Matcher.of(outright) if outright else None,
        _wild=_Matcher.of(wild) if wild else None,
    )
