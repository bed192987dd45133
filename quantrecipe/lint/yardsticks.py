"""QR303, QR304: files of fewer bits per weight than is advised, for any use or for code.

The measure is a well-known preset on the same model: bits per weight depend on how much of it is embeddings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from quantrecipe.errors import QuantrecipeError
from quantrecipe.lint.advice import Yardstick, load_advice
from quantrecipe.lint.finding import Finding
from quantrecipe.lint.subject import GivenModel, Subject, View, look
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import Origin

__all__ = ["yardsticks"]

_WORTH_A_LOOK = 4.5
"""No yardstick has more bits per weight."""
_WORDS = re.compile(r"[a-z]+")


def yardsticks(subject: Subject, models: tuple[GivenModel, ...]) -> Iterator[Finding]:
    """At most one finding for each; the first yardstick that the recipe falls below is the only one told."""
    said = set(_WORDS.findall(f"{subject.recipe.name} {subject.recipe.summary}".lower()))
    low = {view.name: bits for view in subject.views if (bits := _bits(subject, view)) < _WORTH_A_LOOK}
    if not low or len(low) < len(subject.views):
        return
    for yardstick in load_advice().yardsticks:
        if yardstick.words and not yardstick.words & said:
            continue
        if (finding := _compare(subject, models, low, yardstick)) is not None:
            yield finding
            return


def _compare(
    subject: Subject, models: tuple[GivenModel, ...], low: dict[str, float], yardstick: Yardstick
) -> Finding | None:
    try:
        recipe = load_recipe(yardstick.recipe, registry=subject.registry)
    except QuantrecipeError:
        return None  # under other plugins there may be no such recipe
    if recipe.digest == subject.recipe.digest:
        return None
    other = look(recipe, models, subject.registry, subject.targets, strict=False)
    least = {view.name: _bits(other, view) for view in other.views}
    if not all(low[name] < least.get(name, 0.0) for name in low):
        return None
    name = min(low, key=lambda it: low[it])
    origin = subject.place(None) if subject.recipe.default_origin else _first_line(subject)
    return subject.finding(
        yardstick.code,
        origin,
        f"{low[name]:.2f} bits per weight on {name}, where {yardstick.recipe} has {least[name]:.2f}",
        f"{yardstick.says}; source: {yardstick.source}",
    )


def _bits(subject: Subject, view: View) -> float:
    """Bits per weight of the whole model; of choices, the most that there can be."""
    chosen = {outcome.tensor.name: outcome.types for outcome in view.outcomes}
    bits = size = 0.0
    for tensor in view.bare.tensors:
        types = chosen.get(tensor.name, (tensor.dtype,))
        formats = [fmt for fmt in map(subject.format, types) if fmt is not None]
        if formats:
            bits += max(fmt.spec.bits_per_weight for fmt in formats) * tensor.size
            size += tensor.size
    return bits / size if size else _WORTH_A_LOOK


def _first_line(subject: Subject) -> Origin:
    return Origin(file=subject.recipe.file, line=1)
