"""advise: how mixes of a model run on a machine, and which to take.

Any recipes are candidates: those that were named, else the presets, the curated recipes, and the mix that `fit` would
make for the GPU. Each is laid out as llama.cpp would lay it out: all layers on the GPU, experts beside it, some layers,
or none. Needs nothing but shapes. What is said of speed is from the table of targets, what is an experiment from the
yardsticks of `check`, and losses are estimates unless a sensitivity file was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from quantrecipe.allocate.losses import Losses
from quantrecipe.errors import ImportanceError, PlanError, QuantrecipeError
from quantrecipe.fit.candidates import Candidate, default_candidates
from quantrecipe.fit.margin import margin
from quantrecipe.fit.opened import opened_recipe
from quantrecipe.fit.stock import estimated_loss, quantized
from quantrecipe.fit.types import offered_types
from quantrecipe.importance.assumed import assumed_importance
from quantrecipe.importance.matrix import Importance
from quantrecipe.lint.quality import advised_yardsticks
from quantrecipe.memory.active import ActiveBytes
from quantrecipe.memory.device import Division, Settings
from quantrecipe.memory.footprint import WAYS, Footprint, Room, Runs, Tensors, Way
from quantrecipe.model.model import Model
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.budget import Budget, VramBudget
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.origin import Origin
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry
from quantrecipe.sensitivity.sensitivity import Sensitivity
from quantrecipe.targets.table import DEVICES, load_targets

__all__ = ["EXACT", "FINE", "Advice", "Option", "Pick", "Room", "Where", "advise"]

FINE = 0.05
"""Mean KL divergence below which answers hardly change: a Q4_K_M of 8 thousand million weights has about 0.03, a Q3_K_M
0.08 (llama.cpp's README of llama-perplexity)."""
EXACT = 0.01
"""Mean KL divergence below which even rare tokens are right: about that of a Q5_K_M of the same size."""


_WITH: Mapping[Way, str] = {
    "gpu": "whole on the GPU",
    "experts beside it": "with its experts beside the GPU",
    "some layers": "with a part of its layers on the GPU",
    "cpu": "without a GPU",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
    """Whose facts of the table of targets count. `devices`: what the GPU may be; several where it isn't known."""

    engine: str = "llama.cpp"
    build: str | None = None
    devices: tuple[str, ...] = tuple(device for device in DEVICES if device != "cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One mix, as it runs on this machine.

    name:    as people say it: "Q4_K_M", or "fitted"
    recipe:  what `plan` and `apply` take for it; "" for the fitted one
    loss:    estimated mean KL divergence, in nats
    needs_imatrix: it can't be made, or shouldn't, without an importance matrix, and there was none
    experiment: fewer bits than the yardstick of QR303
    slow:    by device, the types that the table of targets calls slow there, in the way in which it runs
    refused: by device, the types that the engine can't run there
    runs:    what it takes: whole on the GPU, then with the experts beside it; without a GPU, in main memory
    best:    the first way that fits; None where none does
    context: most tokens that fit that way; without one, 0
    whole_context: most tokens with which it fits whole on the GPU
    small_cache: whole on the GPU with a KV cache of q8_0, where only that makes it fit
    active:  bytes that are read for each token; None where the model doesn't say how many experts that is
    all_layers: that this file has, the head counted as one
    """

    name: str
    recipe: str
    nbytes: int
    bits_per_weight: float
    loss: float
    needs_imatrix: bool
    experiment: bool
    slow: Mapping[str, tuple[str, ...]]
    refused: Mapping[str, tuple[str, ...]]
    runs: tuple[Footprint, ...]
    best: Footprint | None
    context: int
    whole_context: int
    small_cache: Footprint | None
    active: int | None
    all_layers: int

    @property
    def way(self) -> Way:
        """The way in which it runs."""
        return "no" if self.best is None else self.best.way

    @property
    def layers(self) -> int:
        """How many layers are on the GPU, the head counted as one."""
        return 0 if self.best is None else self.best.layers

    @property
    def gpu(self) -> int:
        """Bytes of the GPU that it takes, in the way in which it runs."""
        return 0 if self.best is None else self.best.gpu.total

    @property
    def ram(self) -> int:
        """Bytes of main memory that it takes, in the way in which it runs."""
        return (self.runs[-1] if self.best is None else self.best).ram.total


@dataclass(frozen=True, kw_only=True, slots=True)
class Pick:
    """What to take for a use, and why. `use` is "" where recipes were named: of these, take this one."""

    use: str
    option: Option
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """The options, the smallest first, and what to take.

    layers:   of the whole model, the head counted as one
    trained:  tokens that the model was made for; None where it doesn't say
    source:   where the losses are from
    left_out: candidates that this model can't have, by name, and why
    """

    options: tuple[Option, ...]
    picks: tuple[Pick, ...]
    layers: int
    trained: int | None
    source: str
    left_out: Mapping[str, str]


def advise(
    model: Model,
    registry: Registry,
    room: Room,
    settings: Settings,
    *,
    candidates: Sequence[Candidate] = (),
    importance: Importance | None = None,
    sensitivity: Sensitivity | None = None,
    where: Where | None = None,
    allow_requantize: bool = True,
) -> Advice:
    """The options that a machine has with a model. `settings`: context, type of the cache, batch.

    `candidates`: the recipes to lay out; none: the presets, the curated recipes, and what `fit` would make. PlanError
    where one that was named can't be planned.
    """
    advisor = _Advisor(
        model, registry, Runs(model, room), settings, importance, sensitivity, where or Where()
    )
    options: list[Option] = []
    left_out: dict[str, str] = {}
    seen: set[tuple[str, ...]] = set()
    for candidate in candidates or default_candidates(registry):
        try:
            plan, needs = advisor.plan(candidate.recipe, allow_requantize=allow_requantize)
        except QuantrecipeError as error:
            if candidates:
                raise
            left_out[candidate.name] = str(error.problems[0])
            continue
        types = tuple(a.type for a in plan.assignments)
        if candidates or types not in seen:  # recipes for experts are all alike on a model without any
            options.append(advisor.option(candidate.name, candidate.ref, plan, needs_imatrix=needs))
        seen.add(types)
    if not candidates and (fitted := advisor.fitted(allow_requantize=allow_requantize)) is not None:
        options.append(advisor.option("fitted", "", fitted, needs_imatrix=False))
    options.sort(key=lambda option: (option.nbytes, option.name))
    return Advice(
        options=tuple(options),
        picks=tuple(_of_these(options, margin(sensitivity)) if candidates else _for_uses(options, settings)),
        layers=advisor.runs.layers(),
        trained=advisor.runs.trained,
        source=advisor.losses.source,
        left_out=MappingProxyType(left_out),
    )


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
    ) -> None:
        self.runs = runs
        self.losses = Losses(model, registry, sensitivity, {})
        self._model, self._registry, self._settings = model, registry, settings
        self._importance, self._sensitivity, self._where = importance, sensitivity, where
        self._targets = load_targets()
        self._active = ActiveBytes(model)
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

    def fitted(self, *, allow_requantize: bool) -> Plan | None:
        """What `fit` would make for this machine; None where it is too small for anything."""
        types = offered_types(self._registry, (), None)
        try:
            recipe = opened_recipe("fitted", types, self._registry, budget=self._budget())
            return self._make(recipe, self._importance, allow_requantize=allow_requantize)
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
            runs = {
                name: self._targets.runs(self._where.engine, self._where.build, device, name)
                for name in types
            }
            if those := tuple(name for name, support in runs.items() if support.speed == speed):
                found[device] = those
        return MappingProxyType(found)

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

    def _make(self, recipe: Recipe, importance: Importance | None, *, allow_requantize: bool) -> Plan:
        return make_plan(
            recipe,
            self._model,
            registry=self._registry,
            importance=importance,
            sensitivity=self._sensitivity,
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


def _for_uses(options: Sequence[Option], settings: Settings) -> Iterator[Pick]:
    """The way that leaves most to the GPU and in which something is good enough decides; if none is, the least loss."""
    running = _worth_taking(options)
    if not running:
        return
    least = min(running, key=lambda option: (option.loss, WAYS.index(option.way), option.nbytes))
    exact = _good(running, EXACT)
    if exact and exact[0].way == "gpu":
        code = min(exact, key=lambda option: (_slow(option), option.loss, option.nbytes))
        why = "one wrong token breaks a program, and it loses the least of all that fit on the GPU"
        yield Pick(use="code", option=code, why=why)
    elif exact:
        why = f"one wrong token breaks a program, and it is the smallest that loses at most {EXACT:g}"
        yield Pick(use="code", option=min(exact, key=_smallest), why=why)
    else:
        yield Pick(
            use="code", option=least, why="it loses the least of all that run here, and still much for code"
        )
    fine = _good(running, FINE)
    if fine:
        why = f"it is the smallest that loses at most {FINE:g}, so that answers hardly change"
        yield Pick(use="chat", option=min(fine, key=_smallest), why=why)
    else:
        why = f"it loses the least of all that run here; none is below {FINE:g}, so expect other answers"
        yield Pick(use="chat", option=least, why=why)
    yield _for_long_texts(fine or [least], settings)


def _for_long_texts(options: Sequence[Option], settings: Settings) -> Pick:
    if options[0].way == "some layers":  # every token more leaves less of the GPU to layers
        long = min(options, key=_smallest)
        why = "it is the smallest that is good enough, and every token takes room from the layers on the GPU"
    else:
        quick = [option for option in options if not _slow(option)] or options
        long = max(quick, key=lambda option: (option.context, -option.loss))
        why = f"up to {long.context:,} tokens fit that way"
    if settings.kv in ("f32", "f16", "bf16"):
        why += "; --kv q8_0 makes the cache half as large"
    return Pick(use="long context", option=long, why=why)


def _of_these(options: Sequence[Option], doubt: float) -> Iterator[Pick]:
    """Of recipes that were named, the one to take. `doubt`: the share by which estimates of losses may be wrong."""
    running = _worth_taking(options)
    if not running:
        return
    way = min((option.way for option in running), key=WAYS.index)
    here = [option for option in running if option.way == way]
    least = min(here, key=lambda option: (option.loss, option.nbytes))
    close = [option for option in here if option.loss <= least.loss * (1 + doubt)]
    best = min(close, key=_smallest)
    if len(options) == 1:
        why = "it is the only one that was asked for, and it fits"
    elif len(here) == 1 and len(running) > 1:
        why = f"it is the only one of these that runs {_WITH[way]}"
    elif len(here) == 1:
        why = "it is the only one of these that fits, experiments not counted"
    elif best is least:
        why = "it loses the least of these, by the estimate"
    elif _slow(least) and not _slow(best):
        why = (
            f"its types aren't slow, and its estimated loss is within {doubt:.0%} of the least: no difference"
        )
    else:
        why = f"it is smaller, and its estimated loss is within {doubt:.0%} of the least: no difference"
    if best.loss > FINE:
        why += f"; but it is expected to lose {best.loss:.2g}, and from {FINE:g} on answers change"
    yield Pick(use="", option=best, why=why)


def _worth_taking(options: Sequence[Option]) -> list[Option]:
    """What runs, is no experiment, and that the engine doesn't refuse."""
    return [o for o in options if o.way != "no" and not o.experiment and not o.refused]


def _good(options: Sequence[Option], most: float) -> list[Option]:
    """Those that lose no more, of the first way in which there are any."""
    for way in WAYS:
        if found := [option for option in options if option.way == way and option.loss <= most]:
            return found
    return []


def _slow(option: Option) -> bool:
    """True where a type is slow on the CPU, if that is used, or on whatever the GPU may be."""
    devices = set(option.slow) - {"cpu"}
    gpus = sum(1 for device in DEVICES if device != "cpu")
    return "cpu" in option.slow or len(devices) in (1, gpus)


def _smallest(option: Option) -> tuple[bool, bool, int, int, float]:
    """Its types aren't slow, it needs no matrix that isn't there, most of it is on the GPU; then by size."""
    return (_slow(option), option.needs_imatrix, -option.layers, option.nbytes, option.loss)
