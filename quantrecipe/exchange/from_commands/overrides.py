"""Lists of `regex=type`, as llama-quantize, ik_llama.cpp and GGUF-Tool-Suite have them, and the names of their types.

A comment is kept as the reason of the line that it stands behind, or of those that it stands above, up to an empty
line or the next comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from quantrecipe.errors import Problem, RecipeError
from quantrecipe.missing_formats import package_of
from quantrecipe.recipe.terms.regex import Regex
from quantrecipe.registry import Registry

__all__ = ["Override", "TypeName", "checked_types", "read_list", "read_override", "read_type"]

MAX_TEXT = 1 << 20
"""Characters; the longest recipe of the GGUF-Tool-Suite has 40,000."""

_INTERLEAVED = re.compile(r"(.+)_R(?:4|8|16)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Override:
    """One `regex=type`, with the type as it was written. The line doesn't count when two are compared."""

    regex: str
    type: str
    why: str = ""
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeName:
    """A type by our name.

    package: the one that has to be installed; None for quantrecipe itself
    note:    what was changed to get this name
    """

    name: str
    package: str | None = None
    note: str = ""


def read_list(text: str, file: str, *, commas: bool = False, words: bool = False) -> list[Override]:
    """Read the overrides of a list, one to a line.

    commas: several may stand in a line, joined by commas. words: joined by spaces.
    RecipeError with every line that isn't understood.
    """
    if len(text) > MAX_TEXT:
        raise RecipeError(f"a list of {len(text):,} characters (at most {MAX_TEXT:,})", file=file)
    problems: list[Problem] = []
    found: list[Override] = []
    for line, content, why in _commented(text):
        parts = content.split(",") if commas else content.split() if words else [content]
        for part in filter(None, (part.strip() for part in parts)):
            try:
                found.append(read_override(part, why=why, line=line))
            except RecipeError as error:
                problems += error.at(file, line)
    if problems:
        raise RecipeError(problems)
    return found


def read_override(text: str, *, why: str = "", line: int | None = None) -> Override:
    """Read `regex=type`: everything before the first `=` is the expression."""
    regex, equals, type_ = text.partition("=")
    if not equals or not regex or not type_:
        raise RecipeError(f"{text[:80]!r} isn't like REGEX=TYPE", r"write blk\.0\.ffn_down=q6_k")
    Regex.parse(regex)
    return Override(regex=regex, type=type_, why=why, line=line)


def read_type(text: str, registry: Registry) -> TypeName:
    """Return the type that another program calls so. RecipeError if nobody has one of this name."""
    name = text.upper()
    note = ""
    formats = {known.upper(): known for known in registry.formats}
    if name not in formats and package_of(name) is None and (match := _INTERLEAVED.fullmatch(name)):
        note = f"{text} is {match[1]} with interleaved rows, which ik_llama.cpp makes when it loads a file (-rtr)"
        name = match[1]
    if name in formats:
        name = formats[name]
        provider = registry.provider(name).distribution
        return TypeName(name=name, package=None if provider == "quantrecipe" else provider, note=note)
    if (package := package_of(name)) is not None:
        return TypeName(name=name, package=package, note=note)
    problem = registry.missing_format(name)
    raise RecipeError([problem])


def checked_types(overrides: Sequence[Override], registry: Registry, file: str) -> dict[str, TypeName]:
    """Return our type of each type as it was written. RecipeError has every line that isn't understood."""
    problems: list[Problem] = []
    found: dict[str, TypeName] = {}
    for override in overrides:
        try:
            if override.type not in found:
                found[override.type] = read_type(override.type, registry)
            Regex.parse(override.regex)
        except RecipeError as error:
            problems += error.at(file, override.line)
    if problems:
        raise RecipeError(problems)
    return found


def _commented(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, content and comment of every line that has content."""
    above: list[str] = []
    used = False
    for number, line in enumerate(text.splitlines(), start=1):
        is_comment = line.lstrip().startswith("#")
        content, _, behind = (
            ("", "", line) if is_comment else line.partition(" #")
        )  # a # may be in an expression
        content, comment = content.strip(), " ".join(behind.strip("# \t").split())
        if content:
            used = True
            yield number, content, comment or "; ".join(above)
        elif used or not comment:
            above, used = [comment] if comment else [], False
        else:
            above.append(comment)
