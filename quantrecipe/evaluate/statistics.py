"""Evaluation: the figures of `llama-perplexity --kl-divergence`, and how sure they are.

Standard errors take positions as independent, as llama-perplexity does; those of ratios and differences use that both
models were run on the same positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from quantrecipe.evaluate.positions import Doubles, Positions

__all__ = ["Evaluation", "difference", "summarise"]

_FEWEST = 2  # values, of which a standard deviation can be taken


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A model against its reference on a text; `…_error` is the standard error of what it follows.

    positions:            tokens of the text that were scored
    perplexity:           of the model; reference_perplexity: of the reference
    log_ratio:            ln(perplexity / reference_perplexity)
    correlation:          of both models' costs
    kld_mean … kld_max:   KL divergence from the reference, in nats
    top1:                 share of positions at which both hold the same token for the likeliest
    dp_mean, dp_rms:      change of the probability of the text's own token: its mean, and root mean square
    """

    positions: int
    perplexity: float
    perplexity_error: float
    reference_perplexity: float
    reference_perplexity_error: float
    log_ratio: float
    log_ratio_error: float
    correlation: float
    kld_mean: float
    kld_mean_error: float
    kld_median: float
    kld_90: float
    kld_95: float
    kld_99: float
    kld_999: float
    kld_max: float
    top1: float
    top1_error: float
    dp_mean: float
    dp_mean_error: float
    dp_rms: float
    dp_rms_error: float


def summarise(positions: Positions) -> Evaluation:
    """Compute the figures of these positions, of which there are at least two."""
    perplexity = _perplexity(positions.cost)
    reference = _perplexity(positions.reference_cost)
    log_ratio = _mean(positions.cost - positions.reference_cost)
    kld = _mean(positions.divergence)
    quantiles = np.quantile(positions.divergence, [0.5, 0.9, 0.95, 0.99, 0.999, 1.0])
    median, q90, q95, q99, q999, largest = (float(value) for value in quantiles)
    top1 = _mean(positions.agrees)
    dp = np.exp(-positions.cost) - np.exp(-positions.reference_cost)
    dp_mean, dp_square = _mean(dp), _mean(dp**2)
    rms = math.sqrt(dp_square[0])
    return Evaluation(
        positions=len(positions),
        perplexity=perplexity[0],
        perplexity_error=perplexity[1],
        reference_perplexity=reference[0],
        reference_perplexity_error=reference[1],
        log_ratio=log_ratio[0],
        log_ratio_error=log_ratio[1],
        correlation=_correlation(positions.cost, positions.reference_cost),
        kld_mean=kld[0],
        kld_mean_error=kld[1],
        kld_median=median,
        kld_90=q90,
        kld_95=q95,
        kld_99=q99,
        kld_999=q999,
        kld_max=largest,
        top1=top1[0],
        top1_error=top1[1],
        dp_mean=dp_mean[0],
        dp_mean_error=dp_mean[1],
        dp_rms=rms,
        dp_rms_error=dp_square[1] / (2 * rms) if rms else 0.0,
    )


def difference(one: Positions, other: Positions) -> tuple[float, float]:
    """Mean divergence of one model minus that of the other on the same positions, and its standard error.

    Much surer than the errors of the two would suggest: what is hard for one is hard for the other.
    """
    return _mean(one.divergence - other.divergence)


def _mean(values: Doubles) -> tuple[float, float]:
    """Return the mean and its standard error."""
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) >= _FEWEST else 0.0
    return float(values.mean()), error


def _perplexity(costs: Doubles) -> tuple[float, float]:
    mean, error = _mean(costs)
    return math.exp(mean), math.exp(mean) * error


def _correlation(one: Doubles, other: Doubles) -> float:
    one, other = one - one.mean(), other - other.mean()
    norm = math.sqrt(float(one @ one) * float(other @ other))
    return float(one @ other) / norm if norm else 1.0
