"""How sure an estimate has to be, by how much of it was measured."""

from __future__ import annotations

import pytest

from quantrecipe.fit.margin import margin
from quantrecipe.sensitivity.sensitivity import Probed, Sensitivity, TensorSensitivity


def known(sources: list[str], probes: int = 0) -> Sensitivity:
    tensors = {
        str(n): TensorSensitivity(
            name=str(n), digest="", weights=1, losses={}, alpha=1.0, alpha_source=source
        )
        for n, source in enumerate(sources)
    }
    passes = tuple(Probed(key=str(n), what="", kld=1.0, standard_error=0.1) for n in range(probes))
    return Sensitivity(tensors=tensors, probes=passes)


@pytest.mark.parametrize(
    ("sensitivity", "expected"),
    [
        (None, 0.17),
        (Sensitivity(tensors={}), 0.17),
        (known(["prior"] * 10), 0.17),
        (known(["table"] * 10), 0.05),
        (known(["table"] * 5 + ["prior"] * 5), 0.11),
        (known(["probe"] * 10, probes=10), 0.05),
        (known(["probe"] * 10, probes=5), 0.11),
        (known(["probe"] * 10, probes=30), 0.05),
    ],
)
def test_falls_with_what_was_measured(sensitivity: Sensitivity | None, expected: float) -> None:
    assert margin(sensitivity) == pytest.approx(expected)
