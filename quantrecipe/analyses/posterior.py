"""Posterior: alphas of all tensors, from the prior and from what probes of groups of them did.

    log alpha_t = log prior_t + u_t              u is Gaussian: 0, with covariance K
    effect of a probe = Σ alpha_t D_t            over the tensors that it rounds; its logarithm is observed

K says what tensors share: the scale of the whole model, their role, their role near their depth, their layer; the
rest is their own. So a probe of one role says something of others, and of layers that were not probed, and less the
further off they are. Solved by Gauss and Newton's method; where nothing was observed, the prior stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantrecipe.tensor import TensorInfo

__all__ = ["Observation", "Posterior", "covariance", "solve"]

Doubles = NDArray[np.float64]

SCALE = 1.0
"""Standard deviation of what all tensors of a model share; small models differ from large ones by more than e."""
SHARES = {"role": 0.32, "role and depth": 0.26, "layer": 0.76, "own": 0.09}
"""Parts of a tensor's variance, as shares of its doubt squared; fitted by tools/fit_covariance.py."""
LENGTH = 0.07
"""Layers are alike as far as this share of the model's depth; the same fit."""
ADDITIVITY = 0.1
"""Relative error of Σ alpha D for the effect of several tensors together."""

_STEPS = 30


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Observation:
    """What a probe did.

    losses: float64 (tensors,), D of those that were rounded, 0 of the others
    effect: of all of them together, positive
    noise:  standard deviation of the logarithm of `effect`
    """

    losses: Doubles
    effect: float
    noise: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Posterior:
    """alpha: float64 (tensors,), medians; covariance: float64 (tensors, tensors), of the logarithms."""

    alpha: Doubles
    covariance: Doubles

    def expected(self, losses: Doubles) -> float:
        """What a probe that gives the tensors these losses is expected to do."""
        return float(self.alpha @ losses)

    def shares(self, losses: Doubles) -> Doubles:
        """How much of its effect is due to each tensor: the slope of its logarithm."""
        parts = self.alpha * losses
        total = float(parts.sum())
        return parts / total if total > 0 else parts


def covariance(tensors: Sequence[TensorInfo], doubt: Mapping[str, float], n_layers: int) -> Doubles:
    """The covariance K of the logarithms of alphas: float64 (tensors, tensors)."""
    role = np.unique([tensor.role for tensor in tensors], return_inverse=True)[1]
    inside = np.array([tensor.layer is not None for tensor in tensors])
    depth = np.array([(tensor.layer or 0) / max(1, n_layers - 1) for tensor in tensors])
    sigma = np.array([doubt[tensor.name] for tensor in tensors])
    same_role = role[:, None] == role[None, :]
    near = np.exp(-0.5 * np.square((depth[:, None] - depth[None, :]) / LENGTH))
    near *= inside[:, None] & inside[None, :]
    np.fill_diagonal(near, 1.0)
    shared = (
        SHARES["role"] * same_role
        + SHARES["role and depth"] * same_role * near
        + SHARES["layer"] * near
        + SHARES["own"] * np.eye(len(tensors))
    )
    k: Doubles = SCALE**2 + np.outer(sigma, sigma) * shared
    return k


def solve(prior: Doubles, k: Doubles, seen: Sequence[Observation]) -> Posterior:
    """The most probable alphas, and how sure they are. prior: float64 (tensors,), positive."""
    if not seen:
        return Posterior(alpha=prior, covariance=k)
    observed = np.log([one.effect for one in seen])
    noise = np.diag([one.noise**2 + (ADDITIVITY**2 if (one.losses > 0).sum() > 1 else 0) for one in seen])
    u = np.zeros(len(prior))
    slopes = np.zeros((len(seen), len(prior)))
    for _ in range(_STEPS):
        parts = np.stack([prior * np.exp(u) * one.losses for one in seen])
        totals = parts.sum(axis=1)
        slopes = parts / totals[:, None]
        gap = observed - np.log(totals) + slopes @ u
        step = k @ slopes.T @ np.linalg.solve(slopes @ k @ slopes.T + noise, gap) - u
        u = u + np.clip(step, -2, 2)  # far from the solution, logarithms of sums bend
        if np.abs(step).max() < 1e-9:
            break
    gain = np.linalg.solve(slopes @ k @ slopes.T + noise, slopes @ k)
    return Posterior(alpha=prior * np.exp(u), covariance=k - (k @ slopes.T) @ gain)
