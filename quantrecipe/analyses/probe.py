"""probe: how much the model's output moves per unit of loss, by forward passes of the real engine.

Where there are as many probes as tensors, each is probed by itself. Else there is first one probe for each role, then
one for each of those runs of layers, of one role or of all, of which a probe tells the most where most is at stake: it
lowers the uncertainty of alphas, each counted by what its tensor may cost. Alphas of single tensors follow from all
probes together and from the prior (see `posterior`), noise of the probes included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from quantrecipe.api import ModelAnalysis, Study
from quantrecipe.errors import SensitivityError

__all__ = ["Probe"]


class Probe(ModelAnalysis):
    """Probes roles and runs of layers, each chosen by what the ones before it have left uncertain."""

    name: ClassVar[str] = "probe"
    version: ClassVar[int] = 3
    summary: ClassVar[str] = "what rounding does to the output of the real engine; needs a text"

    def weigh(self, study: Study) -> Mapping[str, float]:
        """Alphas of all tensors, from at most `study.probes` evaluations. SensitivityError without an engine."""
        if study.evaluate is None:
            raise SensitivityError(
                "probes run the model over a text, and there is none", "give one with --text FILE"
            )
        if study.probes < 1:
            raise SensitivityError("no probes are allowed", "allow some with --probes N")
        from quantrecipe.analyses.probing import (
            FAINTEST_LOSS,
            Probing,
        )  # whoever lists analyses doesn't run them

        # What loses next to nothing in every type that it takes can't be probed, and keeps the prior's alpha: rows of
        # a length that only 16-bit types divide into.
        tensors = tuple(it for it in study.tensors if max(study.losses[it.name].values()) > FAINTEST_LOSS)
        if not tensors:
            raise SensitivityError(
                "no tensor was measured in a type that a probe could give it", "measure Q3_K and Q4_K, too"
            )
        whole, part = study.evaluate, study.evaluate_part
        found = Probing(
            replace(study, tensors=tensors, parts=1 if part is None else study.parts),
            (lambda types, number: whole(types)) if part is None or study.parts == 1 else part,
        ).run()
        return {tensor.name: float(alpha) for tensor, alpha in zip(tensors, found.alpha, strict=True)}
