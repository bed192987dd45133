"""Globs of tensors' names: braces written out, what is wrong with one, and one as a regular expression.

What they mean is in `pattern`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from quantrecipe.errors import RecipeError
from quantrecipe.wording import quoted

__all__ = ["WEIGHT", "check_glob", "compile_globs", "is_outright", "written_out"]

WEIGHT = ".weight"
"""The ending of names that patterns leave out."""
_WILD = frozenset("*?[")
_IN_CLASS = re.compile(r"!?(?:\w(?:-\w)?)+", re.ASCII)
_BLOCK_NUMBER = re.compile(r"(?:^|(?<=\.))blk\.[^.]+\.")
# Braces multiply: `{a,b}{a,b}{a,b}` are eight names. Shipped patterns have 32 characters at most, and six names.
_MAX_LENGTH = 2000
_MAX_ALTERNATIVES = 1000
_MAX_NESTING = 8


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


def check_glob(glob: str, text: str) -> None:
    """Raise RecipeError if one of the alternatives of a pattern is no glob."""
    if glob.endswith(WEIGHT):
        from quantrecipe.recipe.terms.meant_patterns import meant_in_any_model  # it asks what patterns match

        hint = meant_in_any_model(glob)
        remedy = hint or f"leave it out: {glob.removesuffix(WEIGHT)}"
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


def is_outright(glob: str) -> bool:
    """Say whether a glob has no wildcard but in the number of the block."""
    return not _WILD & set(_BLOCK_NUMBER.sub("", glob, count=1))


def compile_globs(globs: list[str]) -> re.Pattern[str] | None:
    """Return one regular expression for all of the globs; None if there are none."""
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
