"""Resolution: a recipe held against a model, the one value that plans are made of and that judges of recipes look at.

    resolve(recipe, model, registry) → Resolution → plan_of(resolution)   what will be written
                                                  → allocate(resolution)  the same, types chosen within a budget
                                                  → explain, check, verify: what the recipe says of each tensor

Making one refuses nothing but what can't be asked at all, such as layers to prune that aren't there: a recipe that
doesn't plan yet can still be explained and checked. `decisions` is where rules that can't do anything are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from quantrecipe.gguf.values import GGUFValue
from quantrecipe.model.model import Model
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.plan.trace import Covered, Decision, Trace, trace
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry

if TYPE_CHECKING:  # most plans have no matrix: what reads one is loaded with it
    from quantrecipe.importance.matrix import Importance
    from quantrecipe.plan.statistics import Statistics

__all__ = ["PlanSettings", "Resolution", "resolve"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanSettings:
    """What a plan depends on besides recipe, model and importance matrix.

    strict:           refuse every fallback to another type
    allow_requantize: let tensors that are quantized already be quantized again
    provenance:       record the recipe and hashes in the output
    split:            when to begin another file; None for one file
    """

    strict: bool = False
    allow_requantize: bool = False
    provenance: bool = True
    split: SplitLimits | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """A recipe held against a model.

    model:      without the layers that the recipe prunes; those behind them have moved up
    importance: the entries of the matrix that the recipe lets count, under the names of `model`
    selected:   the same before pruning: files record its digest, since that is the matrix that people have
    covered:    names of the tensors that the matrix covers
    of_layers:  pairs of metadata that the output has instead of the model's, since layers were pruned
    old_names:  the name before pruning of each tensor, by its name in `model`
    trace:      which rule decides each tensor
    statistics: what is known of the inputs of matrices, for encoders that need it
    chosen:     by tensor name, the type that was chosen where the tensor's rule leaves several open
    """

    recipe: Recipe
    model: Model
    registry: Registry
    settings: PlanSettings
    importance: Importance | None
    selected: Importance | None
    covered: Set[str]
    of_layers: Mapping[str, GGUFValue]
    old_names: Mapping[str, str]
    trace: Trace
    chosen: Mapping[str, str] = field(default_factory=dict)
    statistics: Statistics | None = None

    @property
    def decisions(self) -> list[Decision]:
        """What the recipe says of each tensor, in the order in which they are written; what was chosen is settled.

        PlanError, with every problem, where a rule of the recipe's own file can't do anything on this model.
        """
        return [
            replace(it, type=self.chosen[it.tensor.name], because=f"{it.because} (chosen)")
            if it.tensor.name in self.chosen
            else it
            for it in self.trace.decisions
        ]

    @property
    def open(self) -> list[Decision]:
        """The decisions that leave the choice among several types, and for which none was chosen yet."""
        return [it for it in self.decisions if not it.type]


def resolve(
    recipe: Recipe,
    model: Model,
    registry: Registry,
    importance: Importance | None = None,
    settings: PlanSettings | None = None,
    *,
    covered: Covered | None = None,
    order: Sequence[str] = (),
    statistics: Statistics | None = None,
) -> Resolution:
    """Hold a recipe against a model.

    `covered` stands in for a matrix that isn't there: what would be if it were. `order` names the tensors in the order
    in which they are to be ranked, those that aren't in it last; empty: layer, name, or the source's shards where
    these are kept. PlanError where the recipe prunes layers in a way that the model doesn't allow.
    """
    settings = settings or PlanSettings()
    selected = _selected(recipe, importance)
    counted = selected
    of_layers: Mapping[str, GGUFValue] = {}
    old_names: Mapping[str, str] = {tensor.name: tensor.name for tensor in model.tensors}
    if recipe.prune is not None:
        from quantrecipe.plan.pruning.prune import prune  # with its table of keys; few recipes prune

        pruned = prune(model, selected, recipe, recipe.prune)
        model, counted, of_layers = pruned.model, pruned.importance, pruned.metadata
        old_names = {new: old for old, new in pruned.names.items()}
    if counted is not None:
        covered = counted.covers
    places: Mapping[str, int] = {name: place for place, name in enumerate(order)}
    if settings.split is not None and settings.split.shards is not None:
        # Who keeps the source's shards keeps its order too, as llama-quantize does.
        shards = settings.split.shards
        places = {new: shards[old] for new, old in old_names.items()}
        settings = replace(settings, split=replace(settings.split, shards=places))
    ranked = sorted(model.tensors, key=lambda t: places.get(t.name, len(places))) if places else None
    found = trace(recipe, model, covered=covered, order=ranked)
    return Resolution(
        recipe=recipe,
        model=model,
        registry=registry,
        settings=settings,
        importance=counted,
        selected=selected,
        covered=frozenset(t.name for t in model.tensors if covered is not None and covered(t)),
        of_layers=of_layers,
        old_names=old_names,
        trace=found,
        statistics=statistics,
    )


def _selected(recipe: Recipe, importance: Importance | None) -> Importance | None:
    """The entries that the recipe lets count; None if that is none."""
    chosen = recipe.importance
    if importance is None or not (chosen.include or chosen.exclude):
        return importance
    selected = importance.only(chosen.include, chosen.exclude)
    return selected if selected.entries else None
