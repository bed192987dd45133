"""`--fail-above kld=0.03,ppl=7.5`: figures that a file may have at most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from quantrecipe.errors import EvaluationError, Problem

if TYPE_CHECKING:
    from quantrecipe.cli.eval.candidates import Candidate
    from quantrecipe.evaluate import Evaluation

__all__ = ["LIMIT_NAMES", "Limits", "exceeded"]

LIMIT_NAMES = (
    "kld",
    "kld-median",
    "kld-90",
    "kld-95",
    "kld-99",
    "kld-99.9",
    "kld-max",
    "ppl",
    "ppl-ratio",
    "top1-lost",
)


class Limits(click.ParamType[dict[str, float]]):
    """ "kld=0.03,ppl=7.5" → {"kld": 0.03, "ppl": 7.5}."""

    name = "limits"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, float]:
        """Refuses names that aren't figures, and limits that aren't numbers."""
        if isinstance(value, dict):
            return value
        limits = {}
        for part in str(value).split(","):
            name, _, number = part.partition("=")
            if name.strip() not in LIMIT_NAMES:
                self.fail(
                    f"there is no figure {name.strip()!r}; there are {', '.join(LIMIT_NAMES)}", param, ctx
                )
            try:
                limits[name.strip()] = float(number)
            except ValueError:
                self.fail(f"{part.strip()!r} has no number: write it as kld=0.03", param, ctx)
            if math.isnan(limits[name.strip()]):
                self.fail(f"{part.strip()!r} is no limit", param, ctx)
        return limits


def exceeded(candidates: Sequence[Candidate], limits: dict[str, float]) -> EvaluationError | None:
    """Every limit that a file is above, as one error."""
    problems = [
        Problem(what=f"{name} is {_figure(candidate.all, name):.6g}, above {limit:g}", file=candidate.name)
        for candidate in candidates
        for name, limit in limits.items()
        if not _figure(candidate.all, name) <= limit
    ]
    return EvaluationError(problems) if problems else None


def _figure(evaluation: Evaluation, name: str) -> float:
    match name:
        case "kld":
            return evaluation.kld_mean
        case "kld-99.9":
            return evaluation.kld_999
        case "ppl":
            return evaluation.perplexity
        case "ppl-ratio":
            return math.exp(evaluation.log_ratio)
        case "top1-lost":
            return 1 - evaluation.top1
    return float(getattr(evaluation, name.replace("-", "_")))
