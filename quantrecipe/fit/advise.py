"""advise: how mixes of a model run on a machine, and which to take.

Any recipes are candidates: those that were named, else the presets, the curated recipes, and the mix that `fit` would
make for the GPU. Each is laid out as llama.cpp would lay it out: all layers on the GPU, experts beside it, some layers,
or none. Needs nothing but shapes. What is said of speed is from the table of targets, what is an experiment from the
yardsticks of `check`, and losses are estimates unless a sensitivity file was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from quantrecipe.allocate.limits import meters
from quantrecipe.allocate.losses import Losses
from quantrecipe.errors import ImportanceError, PlanError, QuantrecipeError
from quantrecipe.fit.candidates import Candidate, default_candidates
from quantrecipe.fit.doubt import doubtful, least_regret, seen_from
from quantrecipe.fit.margin import margin
from quantrecipe.fit.offered_types import offered_types
from quantrecipe.fit.open_recipe import opened_recipe
from quantrecipe.fit.picks import Option, Pick, picks_for_uses, picks_of_these
from quantrecipe.fit.stock import PREFIX, estimated_loss, mix_of, quantized
from quantrecipe.importance.coverage import assumed_importance
from quantrecipe.importance.matrix import Importance
from quantrecipe.lint.quality import advised_yardsticks
from quantrecipe.memory.active import ActiveBytes
from quantrecipe.memory.device import Division, Settings
from quantrecipe.memory.footprint import Footprint, Room, Runs, Tensors
from quantrecipe.model.model import Model
from quantrecipe.plan.importance import require_matrix_of
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.budget import Budget, VramBudget
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.origin import Origin
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry
from quantrecipe.sensitivity.sensitivity import Sensitivity
from quantrecipe.speed.clock import Clock, Pace
from quantrecipe.speed.profile import Place, Profile
from quantrecipe.speed.verdicts import slow_types
from quantrecipe.targets.targets import DEVICES, load_targets

__all__ = ["Advice", "Room", "Where", "advise", "lay_out"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
    """Whose facts of the table of targets count. `devices`: what the GPU may be; several where it isn't known."""

    engine: str = "llama.cpp"
    build: str | None = None
    devices: tuple[str, ...] = tuple(device for device in DEVICES if device != "cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """The options, the smallest first, and what to take.

    layers:   of the whole model, the head counted as one
    trained:  tokens that the model was made for; None where it doesn't say
    source:   where the losses are from
    left_out: candidates that this model can't have, by name, and why
    speeds:   what was measured on this machine, by the device on which layers lie
    """

    options: tuple[Option, ...]
    picks: tuple[Pick, ...]
    layers: int
    trained: int | None
    source: str
    left_out: Mapping[str, str]
    speeds: Mapping[Place, Profile] = field(default_factory=dict)


def advise(
    model: Model,
    registry: Registry,
    room: Room,
    settings: Settings,
    *,
    candidates: Sequence[Candidate] = (),
    importance: Importance | None = None,
    importance_of_another_model: bool = False,
    sensitivity: Sensitivity | None = None,
    where: Where | None = None,
    speeds: Mapping[Place, Profile] | None = None,
    allow_requantize: bool = True,
) -> Advice:
    """The options that a machine has with a model. `settings`: context, type of the cache, batch.

    `speeds`: what was measured on this machine; of what it has, the table of targets isn't asked.
    `candidates`: the recipes to lay out; none: the presets, the curated recipes, and what `fit` would make. PlanError
    where one that was named can't be planned, ImportanceError where the matrix says that it is another model's (unless
    `importance_of_another_model`).
    """
    if not importance_of_another_model:
        require_matrix_of(model, importance)
    advisor = _Advisor(
        model, registry, Runs(model, room), settings, importance, sensitivity, where or Where(), speeds or {}
    )
    options: list[Option] = []
    left_out: dict[str, str] = {}
    presets: dict[str, Plan] = {}
    seen: set[tuple[str, ...]] = set()
    for candidate in candidates or default_candidates(registry):
        try:
            plan, needs = advisor.plan(candidate.recipe, allow_requantize=allow_requantize)
        except QuantrecipeError as error:
            if candidates:
                raise
            left_out[candidate.name] = str(error.problems[0])
            continue
        if candidate.ref.startswith(PREFIX) and not needs:
            presets[candidate.name] = plan
        types = tuple(a.type for a in plan.assignments)
        if candidates or types not in seen:  # recipes for experts are all alike on a model without any
            options.append(advisor.option(candidate.name, candidate.ref, plan, needs_imatrix=needs))
        seen.add(types)
    if not candidates and (fitted := advisor.fitted(presets, allow_requantize=allow_requantize)) is not None:
        options.append(advisor.option("fitted", "", fitted, needs_imatrix=False))
    options.sort(key=lambda option: (option.nbytes, option.name))
    return Advice(
        options=tuple(options),
        picks=tuple(
            picks_of_these(options, margin(sensitivity)) if candidates else picks_for_uses(options, settings)
        ),
        layers=advisor.runs.layers(),
        trained=advisor.runs.trained,
        source=advisor.losses.source,
        left_out=MappingProxyType(left_out),
        speeds=speeds or {},
    )


def lay_out(
    plans: Mapping[str, Plan], model: Model, registry: Registry, rooms: Sequence[Room], settings: Settings
) -> Iterator[tuple[Option, ...]]:
    """Files that were planned, by name, as options on each of several machines; the smallest first."""
    advisor = _Advisor(model, registry, Runs(model, Room(gpu=0, ram=0)), settings, None, None, Where(), {})
    for room in rooms:
        advisor.runs = advisor.runs.elsewhere(room)
        options = [advisor.option(name, name, plan, needs_imatrix=False) for name, plan in plans.items()]
        yield tuple(sorted(options, key=lambda option: (option.nbytes, option.name)))


class _Advisor:
    """What holds for all mixes of one model."""

    def __init__(
        self,
        model: Model,
        registry: Registry,
        runs: Runs,
        settings: Settings,
        importance: Importance | None,
        sensitivity: Sensitivity | None,
        where: Where,
        speeds: Mapping[Place, Profile],
    ) -> None:
        self.runs = runs
        self.losses = Losses(model, registry, sensitivity, {})
        self._model, self._registry, self._settings = model, registry, settings
        self._importance, self._sensitivity, self._where = importance, sensitivity, where
        self._targets = load_targets()
        self._active = ActiveBytes(model)
        self._speeds = speeds
        bits = {name: fmt.spec.bits_per_weight for name, fmt in registry.formats.items()}
        self._slow = {place: slow_types(profile, bits) for place, profile in speeds.items()}
        self._least_bits = self._yardstick()

    def plan(self, recipe: Recipe, *, allow_requantize: bool) -> tuple[Plan, bool]:
        """The plan, and whether it needs an importance matrix that isn't there."""
        chooses = any(rule.choose for rule in recipe.rules)
        if not chooses:  # a budget of its own is no matter here: what it takes is shown
            recipe = replace(recipe, budget=None)
        elif recipe.budget is None or not recipe.budget.limited:
            recipe = replace(recipe, budget=self._budget())
        try:
            return self._make(recipe, self._importance, allow_requantize=allow_requantize), False
        except (ImportanceError, PlanError):
            if self._importance is not None:
                raise
            assumed = assumed_importance(self._model.tensors)
            return self._make(recipe, assumed, allow_requantize=allow_requantize), True

    def fitted(self, presets: Mapping[str, Plan], *, allow_requantize: bool) -> Plan | None:
        """What `fit` would make for this machine, seen from the presets; None where it is too small for anything."""
        types, budget = offered_types(self._registry, (), None), self._budget()
        limits = meters(budget, self._model)
        rival = least_regret(
            [
                mix_of(name, plan, self.losses)
                for name, plan in presets.items()
                if all(meter.whole(plan) <= meter.most for meter in limits)
            ],
            self.losses,
        )
        sensitivity = self._sensitivity
        if rival is not None and doubtful(self.losses, self._model):
            sensitivity = seen_from(rival.plan, self.losses, self._registry)
        try:
            recipe = opened_recipe("fitted", types, self._registry, budget=budget)
            return self._make(
                recipe, self._importance, allow_requantize=allow_requantize, sensitivity=sensitivity
            )
        except PlanError:
            return None

    def option(self, name: str, ref: str, plan: Plan, *, needs_imatrix: bool) -> Option:
        """The mix on this machine."""
        tensors = [(a.tensor, a.nbytes) for a in plan.assignments]
        machine, reads = self.runs, self._active
        if len(plan.model.tensors) < len(self._model.tensors):  # pruned: the cache has fewer layers, too
            machine, reads = Runs(plan.written, machine.room), ActiveBytes(plan.written)
        runs = self._rows(machine, tensors)
        best = machine.best(tensors, self._settings)
        whole = runs[0]
        return Option(
            name=name,
            recipe=ref,
            nbytes=plan.nbytes,
            bits_per_weight=plan.bits_per_weight,
            loss=estimated_loss(plan, self.losses),
            needs_imatrix=needs_imatrix,
            experiment=plan.bits_per_weight < self._least_bits,
            slow=self._where_it_is("slow", plan, best),
            refused=self._where_it_is("no", plan, best),
            runs=runs,
            best=best,
            context=0 if best is None else machine.longest(tensors, best.settings),
            whole_context=machine.longest(tensors, whole.settings),
            small_cache=None if whole.fits else machine.with_small_cache(tensors, whole.settings),
            active=sum(reads(tensor, nbytes) for tensor, nbytes in tensors) if reads.known else None,
            all_layers=machine.layers(),
            pace=None if best is None else self._pace(plan, best),
        )

    def _pace(self, plan: Plan, best: Footprint) -> Pace | None:
        """How fast it is in the way in which it runs, as far as that was measured."""
        if not self._speeds:
            return None
        division = Division(plan.written, best.settings)
        mix = [(a.tensor, a.nbytes, a.type) for a in plan.assignments]
        return Clock(plan.written, self._speeds).pace(
            mix, lambda tensor: "cpu" if division.place(tensor) == "cpu" else "gpu"
        )

    def _rows(self, machine: Runs, tensors: Tensors) -> tuple[Footprint, ...]:
        if not machine.room.gpu:
            return (machine.footprint(tensors, replace(self._settings, layers=0)),)
        rows = [machine.footprint(tensors, replace(self._settings, layers=None))]
        if machine.has_experts:
            rows.append(machine.footprint(tensors, replace(self._settings, layers=None, experts="cpu")))
        return tuple(rows)

    def _where_it_is(self, speed: str, plan: Plan, best: Footprint | None) -> Mapping[str, tuple[str, ...]]:
        types = sorted({a.type for a in quantized(plan) if len(a.tensor.shape) > 1})
        way = "no" if best is None else best.way
        devices = [
            *(() if way == "cpu" else self._where.devices),
            *(() if way in ("gpu", "no") else ("cpu",)),
        ]
        found = {}
        for device in devices:
            if those := tuple(name for name in types if self._speed(name, device) == speed):
                found[device] = those
        return MappingProxyType(found)

    def _speed(self, type_: str, device: str) -> str:
        """How a type runs there: slow or fast as it was measured here, else what the table of targets says."""
        said = self._targets.runs(self._where.engine, self._where.build, device, type_).speed
        place: Place = "cpu" if device == "cpu" else "gpu"
        profile = self._speeds.get(place)
        if said == "no" or profile is None or type_ not in profile.types:
            return said
        return "slow" if type_ in self._slow[place] else "fast"

    def _yardstick(self) -> float:
        """Bits per weight below which `check` calls a file an experiment (QR303); 0 where that can't be said."""
        for yardstick in advised_yardsticks():
            if yardstick.code == "QR303":
                try:
                    recipe = load_recipe(yardstick.recipe, registry=self._registry)
                    return self.plan(recipe, allow_requantize=True)[0].bits_per_weight
                except QuantrecipeError:
                    break
        return 0.0

    def _make(
        self,
        recipe: Recipe,
        importance: Importance | None,
        *,
        allow_requantize: bool,
        sensitivity: Sensitivity | None = None,
    ) -> Plan:
        return make_plan(
            recipe,
            self._model,
            registry=self._registry,
            importance=importance,
            importance_of_another_model=True,  # told above, once
            sensitivity=sensitivity or self._sensitivity,
            allow_requantize=allow_requantize,
            provenance=False,
        )

    def _budget(self) -> Budget:
        """The budget that is all the memory there is: the GPU's, or main memory where there is no GPU."""
        origin, room, settings = Origin(file="advise", line=0), self.runs.room, self._settings
        if room.gpu:
            vram = VramBudget(
                total=room.gpu, context=settings.context, kv=settings.kv, ubatch=settings.ubatch
            )
            return Budget(origin=origin, vram=vram)
        without = Division(self._model, replace(settings, layers=0)).cpu([])
        return Budget(origin=origin, ram=max(1, room.ram - without.total))
