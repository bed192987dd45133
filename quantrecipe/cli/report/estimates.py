"""What is lost, as far as it can be said without running the model: by tensor, by mix, and the best that sizes allow.

Losses are those that a sensitivity file has. Without one they are typical: nominal errors of the types, weighed by the
prior. A tensor whose bytes are the published ones loses nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import TYPE_CHECKING

from quantrecipe.allocate.front import Point, front
from quantrecipe.allocate.losses import Losses
from quantrecipe.cli.planned.inputs import PlanInputs
from quantrecipe.errors import QuantrecipeError
from quantrecipe.pictures.layer_map import folded_role
from quantrecipe.plan.assign import FLOATS, is_original
from quantrecipe.plan.review.sides import Fate, Side, side_of_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.shipped_recipes import shipped_recipes
from quantrecipe.sensitivity.prior import estimate
from quantrecipe.sensitivity.sensitivity import TensorSensitivity, frozen

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


@dataclass(frozen=True, slots=True)
class _Folded:
    """A model with one tensor in place of those that differ in a number of their role alone, such as that of an expert.

    Experts are stacked in most files, and this is the model itself. Where they are tensors of their own there may be
    70,000, which would each be planned in forty mixes.

    stands_for: by the name of a tensor of `model`, how many there are of its kind
    of:         by the name of any tensor, the one that stands for it
    """

    model: Model
    stands_for: Mapping[str, int]
    of: Mapping[str, str]


def _folded(model: Model) -> _Folded:
    first: dict[tuple[object, ...], str] = {}
    of = {
        it.name: first.setdefault((it.layer, folded_role(it), it.shape, it.dtype), it.name)
        for it in model.tensors
    }
    count = Counter(of.values())
    kept = tuple(it for it in model.tensors if it.name in count)
    return _Folded(replace(model, tensors=kept), count, of)


def estimate_of(subject: Subject, registry: Registry, measured: Sensitivity | None) -> Estimate:
    """What the subject's tensors lose. SensitivityError where the measurement is of another model."""
    names = subject.old_names or {tensor.name: tensor.name for tensor in subject.model.tensors}
    # What was measured was measured of each.
    folded = None if measured is not None else _folded(subject.model)
    known = Losses(folded.model if folded else subject.model, registry, measured, names)
    formats, unknown = registry.formats, []
    losses: dict[str, float] = {}
    for name, fate in subject.side.tensors.items():
        if fate.type not in formats:
            unknown.append(name)
        elif _loses(fate, subject.model):
            kin = folded.of.get(name, name) if folded else name
            losses[name] = known.of(kin, formats[fate.type].spec)
    return Estimate(losses=losses, source=known.source, prior=measured is None, unknown=tuple(unknown))


def _loses(fate: Fate, model: Model) -> bool:
    """False for what is as it was published, and for floats, which lose next to nothing."""
    if fate.type in FLOATS:
        return False
    return fate.type != fate.tensor.dtype or not is_original(fate.tensor, model)


def stock_mixes(model: Model, registry: Registry, measured: Sensitivity | None) -> list[Mix]:
    """What llama-quantize's mixes would make of the model, as if there were an importance matrix; smallest first.

    Second names of a mix are left out, and so are mixes that the model doesn't take, and those that change nothing.
    """
    inputs = PlanInputs(registry=registry, assume_imatrix=True, allow_requantize=True, provenance=False)
    folded = _folded(model)
    model = folded.model
    known = Losses(model, registry, measured, {tensor.name: tensor.name for tensor in model.tensors})
    names = [name for name in shipped_recipes(registry) if name.startswith(_STOCK)]
    recipes = {name: load_recipe(name, registry=registry) for name in names}
    found: dict[str, Mix] = {}
    # Of two names of a mix, the one that says itself what it does comes first.
    for name, recipe in sorted(recipes.items(), key=lambda it: not it[1].says_its_default):
        if not recipe.stands_alone or recipe.digest in found:
            continue
        try:
            plan = inputs.plan(recipe, model)
        except QuantrecipeError:
            continue
        if all(a.copied for a in plan.assignments):
            continue
        side = side_of_plan(name, plan, recipe)
        mix = _mix(name.removeprefix(_STOCK), side, folded, known, registry)
        if mix.quantized:
            found[recipe.digest] = mix
    # A mix that is made for experts is another one where there are none.
    alike: dict[tuple[int, float], Mix] = {}
    for mix in sorted(found.values(), key=lambda mix: (len(mix.name), mix.name)):
        alike.setdefault((mix.nbytes, mix.loss), mix)
    return sorted(alike.values(), key=lambda mix: (mix.nbytes, mix.name))


def _mix(name: str, side: Side, folded: _Folded, known: Losses, registry: Registry) -> Mix:
    """A side of the folded model as a mix of the whole one."""
    formats, many = registry.formats, folded.stands_for
    fates = side.tensors
    data = sum(fate.nbytes * many.get(it, 1) for it, fate in fates.items())
    weights = sum(fate.tensor.size * many.get(it, 1) for it, fate in fates.items())
    quantized = {it for it, fate in fates.items() if fate.type not in FLOATS}
    return Mix(
        name=name,
        nbytes=side.nbytes - sum(fate.nbytes for fate in fates.values()) + data,
        bits_per_weight=8 * data / max(1, weights),
        loss=fsum(
            known.of(it, formats[fate.type].spec) * many.get(it, 1)
            for it, fate in fates.items()
            if fate.type in formats and _loses(fate, folded.model)
        ),
        quantized=frozenset(whole for whole, kin in folded.of.items() if kin in quantized),
    )


def best_mixes(
    subject: Subject, registry: Registry, measured: Sensitivity | None, quantized: Collection[str]
) -> list[Point]:
    """The best that each size of the whole file allows, of the types that llama.cpp runs, as far as losses add up.

    quantized: names of the tensors that may be quantized; all others stay as the subject has them
    """
    types = {name for name, fmt in registry.formats.items() if fmt.spec.codec and fmt.spec.dialect == "ggml"}
    tensors, old_names = subject.side.tensors, subject.old_names
    chosen: dict[str, TensorSensitivity] = {}
    if measured is not None:
        found = measured
        kept = {name: old_names.get(name, name) for name in tensors if name in quantized}
        chosen = {name: it for name, old in kept.items() if (it := found.tensors.get(old)) is not None}
        taken = sum(tensors[name].nbytes for name in chosen)
    else:
        folded = _folded(subject.model)
        found = estimate(folded.model, registry, types)
        for name, it in found.tensors.items():
            if name in quantized and name in tensors:
                chosen[name] = _times(it, folded.stands_for[name])
        taken = sum(it.nbytes for name, it in tensors.items() if folded.of.get(name) in chosen)
    if not chosen:
        return []
    fixed = subject.side.nbytes - taken
    points = front(replace(found, tensors=frozen(chosen)), types)
    return [Point(nbytes=it.nbytes + fixed, cost=it.cost) for it in _thinned(points) if it.cost > 0]


def _times(it: TensorSensitivity, count: int) -> TensorSensitivity:
    """As many tensors of this kind as one: a type costs all of them as many times as much, and takes as many bytes."""
    if count == 1:
        return it
    losses = {name: replace(loss, nbytes=loss.nbytes * count) for name, loss in it.losses.items()}
    return replace(it, weights=it.weights * count, alpha=it.alpha * count, losses=losses)


def _thinned(points: Sequence[Point]) -> list[Point]:
    step = max(1, len(points) // _MOST_POINTS)
    return [*points[::step], *points[-1:]]
