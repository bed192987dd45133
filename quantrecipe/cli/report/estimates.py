"""What is lost, as far as it can be said without running the model: by tensor, by mix, and the best that sizes allow.

Losses are those that a sensitivity file has. Without one they are typical: nominal errors of the types, weighed by the
prior. A tensor whose bytes are the published ones loses nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import TYPE_CHECKING

from quantrecipe.allocate.front import Point, front
from quantrecipe.allocate.losses import Losses
from quantrecipe.cli.planned.inputs import PlanInputs
from quantrecipe.errors import QuantrecipeError
from quantrecipe.plan.assign import FLOATS, is_original
from quantrecipe.plan.review.sides import Fate, Side, side_of_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.shipped_recipes import shipped_recipes
from quantrecipe.sensitivity.prior import estimate
from quantrecipe.sensitivity.sensitivity import frozen

if TYPE_CHECKING:
    from quantrecipe.cli.report.subject import Subject
    from quantrecipe.model.model import Model
    from quantrecipe.registry import Registry
    from quantrecipe.sensitivity.sensitivity import Sensitivity

__all__ = ["Estimate", "Mix", "best_mixes", "estimate_of", "stock_mixes"]

_MOST_POINTS = 200
"""Points of the line of best mixes that are drawn: there is one for each step of each tensor."""
_STOCK = "llama.cpp/"


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a side's tensors lose, by name, mean KL divergence in nats.

    source:  where the losses are from, for people
    prior:   True where nobody measured them
    unknown: tensors of types that aren't known here, and count nothing
    """

    losses: Mapping[str, float]
    source: str
    prior: bool
    unknown: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        """What all tensors lose together."""
        return fsum(self.losses.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """A mix of types: its name, the bytes of its file, and what it is expected to lose.

    quantized: names of the tensors that don't stay floats
    """

    name: str
    nbytes: int
    bits_per_weight: float
    loss: float
    quantized: frozenset[str] = frozenset()


def estimate_of(subject: Subject, registry: Registry, measured: Sensitivity | None) -> Estimate:
    """What the subject's tensors lose. SensitivityError where the measurement is of another model."""
    names = subject.old_names or {tensor.name: tensor.name for tensor in subject.model.tensors}
    known = Losses(subject.model, registry, measured, names)
    formats, unknown = registry.formats, []
    losses: dict[str, float] = {}
    for name, fate in subject.side.tensors.items():
        if fate.type not in formats:
            unknown.append(name)
        elif _loses(fate, subject.model):
            losses[name] = known.of(name, formats[fate.type].spec)
    return Estimate(losses=losses, source=known.source, prior=measured is None, unknown=tuple(unknown))


def _loses(fate: Fate, model: Model) -> bool:
    """False for what is as it was published, and for floats, which lose next to nothing."""
    if fate.type in FLOATS:
        return False
    return fate.type != fate.tensor.dtype or not is_original(fate.tensor, model)


def stock_mixes(model: Model, registry: Registry, measured: Sensitivity | None) -> list[Mix]:
    """What llama-quantize's mixes would make of the model, as if there were an importance matrix; smallest first.

    Second names of a mix are left out, and so are mixes that the model doesn't take, and those that quantize nothing.
    """
    inputs = PlanInputs(registry=registry, assume_imatrix=True, allow_requantize=True, provenance=False)
    known = Losses(model, registry, measured, {tensor.name: tensor.name for tensor in model.tensors})
    found: dict[str, Mix] = {}
    for name in shipped_recipes(registry):
        if not name.startswith(_STOCK):
            continue
        recipe = load_recipe(name, registry=registry)
        if not recipe.stands_alone or recipe.digest in found:
            continue
        try:
            side = side_of_plan(name, inputs.plan(recipe, model), recipe)
        except QuantrecipeError:
            continue
        mix = _mix(name.removeprefix(_STOCK), side, model, known, registry)
        if mix.quantized:
            found[recipe.digest] = mix
    return sorted(found.values(), key=lambda mix: (mix.nbytes, mix.name))


def _mix(name: str, side: Side, model: Model, known: Losses, registry: Registry) -> Mix:
    """A side as a mix."""
    formats = registry.formats
    return Mix(
        name=name,
        nbytes=side.nbytes,
        bits_per_weight=side.bits_per_weight,
        loss=fsum(
            known.of(tensor, formats[fate.type].spec)
            for tensor, fate in side.tensors.items()
            if fate.type in formats and _loses(fate, model)
        ),
        quantized=frozenset(tensor for tensor, fate in side.tensors.items() if fate.type not in FLOATS),
    )


def best_mixes(
    subject: Subject, registry: Registry, measured: Sensitivity | None, quantized: Collection[str]
) -> list[Point]:
    """The best that each size of the whole file allows, of the types that llama.cpp runs, as far as losses add up.

    quantized: names of the tensors that may be quantized; all others stay as the subject has them
    """
    types = {name for name, fmt in registry.formats.items() if fmt.spec.codec and fmt.spec.dialect == "ggml"}
    found = measured or estimate(subject.model, registry, types)
    old_names = subject.old_names if measured is not None else {}
    tensors = subject.side.tensors
    chosen = {
        name: known
        for name in tensors
        if name in quantized and (known := found.tensors.get(old_names.get(name, name))) is not None
    }
    if not chosen:
        return []
    fixed = subject.side.nbytes - sum(tensors[name].nbytes for name in chosen)
    points = front(replace(found, tensors=frozen(chosen)), types)
    return [Point(nbytes=it.nbytes + fixed, cost=it.cost) for it in _thinned(points) if it.cost > 0]


def _thinned(points: Sequence[Point]) -> list[Point]:
    step = max(1, len(points) // _MOST_POINTS)
    return [*points[::step], *points[-1:]]
