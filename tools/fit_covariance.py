"""Fit what tensors share (SHARES and LENGTH of quantrecipe/analyses/posterior.py) to models that were measured.

    python tools/fit_covariance.py GGUF-Tool-Suite

For each model, log(alpha / prior) of all its tensors is taken as a Gaussian with the covariance that `posterior`
builds; the shares that make all models together most probable are printed. They go into posterior.py by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from make_prior import Measured, from_probes, from_suite
from scipy.optimize import minimize

from quantrecipe.analyses import posterior
from quantrecipe.sensitivity import prior_alphas
from quantrecipe.tensor import TensorInfo

MOST_LAYERS = 40
"""Larger models take long, and say the same."""
FORMAT_SPREAD = 0.1
"""Noise of the measurements themselves, of the logarithm."""


def main(suite: Path) -> None:
    """Print the most probable shares."""
    models = [m for path in sorted(suite.glob("models/*/kld_results.csv")) if (m := from_suite(path))]
    models += [from_probes(path) for path in sorted(Path(__file__).with_name("prior").glob("*.csv"))]
    cases = [case(model) for model in models if model.layers <= MOST_LAYERS]
    names = list(posterior.SHARES)
    start = np.log([*posterior.SHARES.values(), posterior.LENGTH])
    found = minimize(
        lambda x: cost(x, names, cases),
        start,
        method="Nelder-Mead",
        options={"maxiter": 150, "xatol": 0.02, "fatol": 0.05},
    )
    values = np.exp(found.x)
    print(f"SHARES = {dict(zip(names, (float(f'{v:.2f}') for v in values[:-1]), strict=True))}")  # noqa: T201
    print(f"LENGTH = {values[-1]:.2f}; {len(cases)} models, cost {found.fun:.1f}")  # noqa: T201  # a script's output


def case(model: Measured) -> tuple[list[TensorInfo], dict[str, float], int, np.ndarray]:
    """Tensors, doubts, layers, and log(alpha / prior)."""
    alphas = {
        f"{role}.weight" if layer < 0 else f"blk.{layer}.{role}.weight": alpha
        for role, by_layer in model.alphas.items()
        if not role.startswith(("indexer", "nextn"))
        for layer, alpha in by_layer.items()
    }
    tensors = [TensorInfo.from_name(name, (1, 1), "F32") for name in alphas]
    prior = prior_alphas(tensors, model.layers)
    gaps = np.array([np.log(alphas[t.name] / prior[t.name].alpha) for t in tensors])
    return tensors, {t.name: prior[t.name].doubt for t in tensors}, model.layers, np.clip(gaps, -3, 3)


def cost(x: np.ndarray, names: list[str], cases: list[tuple[Any, ...]]) -> float:
    """Minus the log of the probability of all models, up to a constant."""
    posterior.SHARES.update(zip(names, np.exp(x[:-1]), strict=True))
    posterior.LENGTH = float(np.exp(x[-1]))
    total = 0.0
    for tensors, doubt, layers, gaps in cases:
        k = posterior.covariance(tensors, doubt, layers) + FORMAT_SPREAD**2 * np.eye(len(gaps))
        factor = np.linalg.cholesky(k)
        z = np.linalg.solve(factor, gaps)
        total += 0.5 * float(z @ z) + float(np.log(np.diag(factor)).sum())
    return total / len(cases)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
