"""ik_llama.cpp's `--custom-q "regex=type,regex=type"`, and the lines of a `.recipe` of the GGUF-Tool-Suite, as recipes.

Facts from ik_llama.cpp (examples/quantize/quantize.cpp, src/llama-quantize.cpp): patterns keep their case and are
searched in the full name, the first match decides; a comma always ends a rule, so that none can stand in a pattern.
With `--pure`, or on a type that isn't a quantized one, they are ignored. What no pattern names is left to the mixture.

A `.recipe` is the same, one rule to a line, and has every tensor of its model. Comments begin with `#`.
"""

from __future__ import annotations

from quantrecipe.errors import RecipeError
from quantrecipe.exchange.assemble import Parts, assemble
from quantrecipe.exchange.imported import Imported
from quantrecipe.exchange.overrides import Override, read_list, read_type
from quantrecipe.exchange.source import as_source, quantizable
from quantrecipe.exchange.translate import translate
from quantrecipe.model.model import Model
from quantrecipe.recipe.regex import Regex
from quantrecipe.registry import Registry

__all__ = ["from_custom_q", "from_tool_suite"]

_MOST_NAMES = 5


def from_custom_q(
    text: str,
    registry: Registry,
    *,
    base: str | None = None,
    model: Model | None = None,
    name: str,
    file: str,
) -> Imported:
    """The recipe of a `--custom-q` argument, or of the lines in a script that become one.

    base: the type that ik_llama.cpp was called with, which is for tensors that no rule names
    """
    overrides = read_list(text, file, commas=True)
    return _imported(overrides, registry, "--custom-q", "ik_llama.cpp", base, model, name, file)


def from_tool_suite(
    text: str, registry: Registry, *, model: Model | None = None, name: str, file: str
) -> Imported:
    """The recipe of a `.recipe` of the GGUF-Tool-Suite."""
    overrides = read_list(text, file)
    return _imported(overrides, registry, "GGUF-Tool-Suite", "GGUF-Tool-Suite", None, model, name, file)


def _imported(
    overrides: list[Override],
    registry: Registry,
    origin: str,
    tool: str,
    base: str | None,
    model: Model | None,
    name: str,
    file: str,
) -> Imported:
    if not overrides:
        raise RecipeError("there is no rule in it", "rules are like REGEX=TYPE", file=file)
    source = as_source(model, registry) if model is not None else None
    translated = translate(overrides, registry, source, tool=tool, file=file)
    default = read_type(base, registry).name if base is not None else None
    notes = list(translated.notes)
    if source is not None:
        patterns = [Regex.parse(it.regex) for it in overrides]
        left = [
            it
            for it in sorted(quantizable(source, registry))
            if not any(regex.search(it) for regex in patterns)
        ]
        if left:
            names = ", ".join(left[:_MOST_NAMES]) + (
                f" and {len(left) - _MOST_NAMES} more" if left[_MOST_NAMES:] else ""
            )
            what = f"the default {default}" if default else "the source's type"
            notes.append(f"no rule names {names}: {what} here; {tool} may choose another one")
    parts = Parts(
        name=name,
        origin=origin,
        rules=translated.rules,
        default=default,
        requires=translated.packages,
        notes=tuple(notes),
    )
    return assemble(parts, registry, source)
