"""refine: statistics of inputs in stages, each behind what the stages before it have quantized.

    stage 0   embeddings quantized        inputs of layers 0, 1   → these layers' weights are quantized
    stage 1   layers 0, 1 quantized, too  inputs of layers 2, 3   → …

Rounding changes what later layers get, and statistics of the original model don't know it. So between two stages the
weights whose inputs are known are quantized, as the plan has it and with the statistics so far, and written into the
open model in its own type. This is what GPTQ does layer by layer (Frantar et al., 2022): the target of each matrix is
W x̂, on the inputs x̂ that it will have, and what is minimised is R E[x̂ x̂ᵀ] Rᵀ. Inputs of one stage don't see each
other's errors. What was lost on the way to x̂ isn't made good: that would take E[x x̂ᵀ], so a second run of the original
model beside the first.

The result is a folder of Gram matrices like any other: `apply` makes the file with it, and `verify` makes it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from quantrecipe.calibration.gram import GramInput, Grams
from quantrecipe.core.processors import usable_processors
from quantrecipe.engine.session import Session
from quantrecipe.errors import PlanError
from quantrecipe.measure.open_resident import Exchange, IntoSession
from quantrecipe.measure.resident import Decoded
from quantrecipe.model.open_model import open_model
from quantrecipe.output.jobs import Job, Sink
from quantrecipe.output.progress import Silent
from quantrecipe.output.stream import Stream
from quantrecipe.output.transform import Nan
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry
from quantrecipe.tensor import split_name

if TYPE_CHECKING:
    pass

__all__ = ["Quantized", "divided", "into_model"]

_OUTPUT = "output.weight"
"""Nothing comes behind it, so it needn't be exchanged. A head that the embeddings stand in for is one of these."""


@dataclass(kw_only=True)
class Quantized:
    """What `compute_gram` does between stages: the weights of earlier stages are quantized in the open model.

    plan_of: the plan of the recipe with these statistics; None: without any
    held:    the GGUF that the engine runs
    wanted:  number of stages; fewer where there aren't as many inputs
    told:    hears a stage, how many there are, and the names of tensors that are quantized before it
    """

    recipe: Recipe
    plan_of: Callable[[Grams | None], Plan]
    held: Path
    registry: Registry
    wanted: int
    threads: int | None = None
    nan: Nan = "error"
    told: Callable[[int, int, Sequence[str]], object] = lambda stage, count, names: None
    _stage: dict[str, int] = field(default_factory=dict, init=False)
    _layers: dict[int | None, int] = field(default_factory=dict, init=False)
    _count: int = field(default=0, init=False)
    _done: set[str] = field(default_factory=set, init=False)
    _exchange: Exchange | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """PlanError for no stages, and for a recipe whose layers aren't those of the model that is run."""
        if self.wanted < 1:
            raise PlanError(f"{self.wanted} stages are none", "use 1 or more")
        if self.recipe.prune:
            what = f"recipe {self.recipe.name!r} leaves layers out, and statistics are collected in the whole model"
            raise PlanError(
                what, "make a file without these layers first, and refine that one", file=self.recipe.file
            )

    @property
    def key(self) -> str:
        """Of the recipe, the type and the options of each tensor, the encoders' versions, and the stages."""
        encoders = sorted((name, it.version) for name, it in self.registry.encoders.items())
        tensors = [(a.tensor.name, a.encoding) for a in self.plan_of(None).assignments]
        content = json.dumps([self.recipe.digest, tensors, encoders, self.wanted])
        return xxhash.xxh3_128_hexdigest(content.encode())

    @property
    def said(self) -> str:
        """For people."""
        return f"{self.recipe.name}, in {self.wanted} stage{'s' if self.wanted > 1 else ''}"

    def stages(self, inputs: Sequence[GramInput]) -> list[list[GramInput]]:
        """Whole layers in each, as long as there are enough of them."""
        found = divided(inputs, self.wanted)
        self._count = len(found)
        for number, stage in enumerate(found):
            for it in stage:
                self._stage |= dict.fromkeys(it.weights, number)
                self._layers[split_name(it.name)[0]] = number
        return found

    def before(self, session: Session, stage: int, grams: Grams) -> None:
        """Quantize what comes before the stage and isn't quantized yet."""
        plan = self.plan_of(grams)
        new = [a for a in plan.assignments if _matters(a) and self._of(a.tensor.name) < stage]
        new = [a for a in new if a.tensor.name not in self._done]
        if self._exchange is None:
            self._exchange = Exchange(session, open_model(self.held, registry=self.registry), self.registry)
        used = set(self._exchange.usable([a.tensor.name for a in new]))
        self._done |= {a.tensor.name for a in new}
        new = [a for a in new if a.tensor.name in used]
        self.told(stage, self._count, [a.tensor.name for a in new])
        jobs = [
            Job(
                assignment=replace(a, offset=0),
                sink=into_model(self._exchange, a),
                importance=plan.importance,
                statistics=plan.statistics,
            )
            for a in new
        ]
        Stream(
            plan.model,
            jobs,
            self.registry,
            threads=self.threads or usable_processors(),
            nan="allow" if self.nan == "keep" else self.nan,
            progress=Silent(),
        ).run()

    def _of(self, name: str) -> int:
        """The stage whose inputs a tensor is multiplied with; of one that has none, the last of its layer."""
        if name in self._stage:
            return self._stage[name]
        layer = split_name(name)[0]
        return self._layers.get(layer, -1) if layer is not None else -1


def divided(inputs: Sequence[GramInput], stages: int) -> list[list[GramInput]]:
    """The inputs in so many runs of nearly equal length: of layers where there are as many, else of inputs."""
    layers = [list(some) for _, some in groupby(inputs, key=lambda it: split_name(it.name)[0])]
    units = layers if stages <= len(layers) else [[it] for it in inputs]
    count = min(stages, len(units))
    edges = [len(units) * number // count for number in range(count + 1)]
    return [list(chain(*units[start:end])) for start, end in pairwise(edges)]


def _matters(a: Assignment) -> bool:
    """Whether a tensor isn't what it was. Types with factors in another tensor are left out: it has no place there."""
    spec = a.format.spec
    quantized = not a.copied and a.owner is None and spec.codec and spec.block > 1
    return quantized and spec.companion is None and a.tensor.name != _OUTPUT


def into_model(exchange: Exchange, a: Assignment) -> Sink:
    """Takes a tensor's quantized rows: they go into the open model as what they stand for, in its own type."""
    name = a.tensor.name
    return Decoded(
        assignment=a, resident=exchange.format_of(name), sink=IntoSession(exchange=exchange, name=name)
    )
