"""Measuring, for the commands that do it: first what the numbers are not about, then a bar that shows the progress."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quantrecipe.cli.context import Context
from quantrecipe.cli.errors import print_warning
from quantrecipe.wording import some_of

if TYPE_CHECKING:
    from quantrecipe.measure import Measurement, Scope, Subject
    from quantrecipe.sensitivity import Sensitivity
    from quantrecipe.tensor import TensorInfo

__all__ = ["DEFAULT_PROBES", "DEFAULT_TOKENS", "measured"]

DEFAULT_PROBES = 15
"""Passes over the text, at most: four probes each. benchmarks/sensitivity.py: more tell little more."""
DEFAULT_TOKENS = 16384
"""Tokens of the text that a pass reads: 32 chunks of 512."""

# Tensors that a warning names; it is about many or about few.
_MOST_NAMES = 2


def measured(
    ctx: Context,
    subject: Subject,
    out: Path,
    what: Measurement,
    *,
    allow_requantize: bool,
    force: bool = False,
) -> tuple[Sensitivity, Scope]:
    """What was measured, which stands in `out` by then, and what it is about."""
    from quantrecipe.cli.progress import MeasureBar
    from quantrecipe.measure import measure, scope_of

    scope = scope_of(subject, what.types, allow_requantize=allow_requantize)
    _warn_of(scope, ctx, what.types)
    with MeasureBar(ctx.err) as progress:
        found = measure(
            subject.model,
            out,
            what,
            registry=subject.registry,
            importance=subject.importance,
            importance_of_another_model=subject.another_model,
            force=force,
            allow_requantize=allow_requantize,
            progress=progress,
        )
    return found, scope


def _warn_of(scope: Scope, ctx: Context, types: Sequence[str]) -> None:
    """What a person should know of a measurement before it begins: what its numbers aren't about."""
    if scope.quantized:
        print_warning(
            ctx.err,
            f"{sum(scope.quantized.values())} of {len(scope.tensors)} matrices are already quantized "
            f"({', '.join(scope.quantized)}): errors are measured against what is left of their weights, so they are "
            "smaller than against the original's",
            "measure the BF16, F16 or F32 model if there is one",
        )
    groups: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for (wanted, fallback), tensors in scope.instead.items():
        if fallback not in types:  # else it was asked for, and its column is there
            groups.setdefault(_names(tensors), []).append((wanted, fallback))
    for names, pairs in groups.items():
        wishes = ", ".join(wanted for wanted, _ in pairs)
        measured = ", ".join(dict.fromkeys(fallback for _, fallback in pairs))
        print_warning(
            ctx.err,
            f"{some_of(names, _MOST_NAMES)} can't be {wishes}: measured in {measured} instead, "
            "as apply falls back",
        )
    reasons: dict[str, list[str]] = {}
    for name, why in scope.left_out.items():
        reasons.setdefault(why, []).append(name)
    for why, left in reasons.items():
        print_warning(ctx.err, f"not measured: {some_of(left, _MOST_NAMES)}: {why}")


def _names(tensors: Sequence[TensorInfo]) -> tuple[str, ...]:
    return tuple(tensor.name for tensor in tensors)
