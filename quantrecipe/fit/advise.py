"""advise: which mixes of a model run on a machine, how, and which to take for what.

Every stock mix, and the mix that `fit` would make for the GPU, is laid out on the machine as llama.cpp would lay it
out: all layers on the GPU, experts beside it, some layers, or none. Needs nothing but shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from quantrecipe.errors import PlanError
from quantrecipe.fit.opened import opened_recipe
from quantrecipe.fit.stock import estimated_loss, recipe_like, stock_mixes
from quantrecipe.fit.types import offered_types
from quantrecipe.importance import Importance
from quantrecipe.memory.active import ActiveBytes
from quantrecipe.memory.device import Division, Settings, reserved
from quantrecipe.memory.hyperparameters import Hyperparameters
from quantrecipe.model.model import Model
from quantrecipe.plan.losses import Losses
from quantrecipe.plan.make import make_plan
from quantrecipe.plan.plan import Plan
from quantrecipe.recipe.budget import Budget, VramBudget
from quantrecipe.recipe.origin import Origin
from quantrecipe.registry import Registry
from quantrecipe.sensitivity.sensitivity import Sensitivity
from quantrecipe.tensor import TensorInfo

__all__ = ["Advice", "Option", "Pick", "Room", "advise"]

Way = Literal["gpu", "experts beside it", "some layers", "cpu", "no"]

_SHOWN = (
    *("IQ2_XXS", "IQ2_M", "Q2_K", "IQ3_XXS", "IQ3_M", "Q3_K_M", "IQ4_XS", "Q4_K_M", "Q5_K_M"),
    *("Q6_K", "Q8_0"),
)
_FINE = 0.05
"""Mean KL divergence below which answers hardly change: a Q4_K_M of 8 thousand million weights has about 0.03, a Q3_K_M
0.08 (llama.cpp's README of llama-perplexity)."""
_EXACT = 0.01
"""And below which even rare tokens are right: about a Q5_K_M of that size."""
_LONGEST = 1 << 20  # tokens: where a model doesn't say for how many it was made
_STEP = 1024
_WAYS: tuple[Way, ...] = ("gpu", "experts beside it", "some layers", "cpu", "no")
_WHERE: Mapping[Way, str] = {
    "gpu": "all on the GPU",
    "experts beside it": "with the experts in main memory",
    "some layers": "with some layers on the GPU",
    "cpu": "on the CPU",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """Bytes that there are for the model. `unified`: the GPU's are part of main memory's."""

    gpu: int
    ram: int
    unified: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """A mix on this machine.

    name:    of the stock mix, or "fitted"
    way:     how it runs
    layers:  on the GPU, the head counted as one; of all that there are
    gpu, ram: bytes that it takes there
    active:  bytes that are read for each token; None where the model doesn't say how many experts that is
    context: most tokens that fit when it runs this way
    """

    name: str
    nbytes: int
    bits_per_weight: float
    loss: float
    way: Way
    layers: int
    gpu: int
    ram: int
    active: int | None
    context: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Pick:
    """What to take for a use, and why."""

    use: str
    option: Option
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """The options, the smallest first, and what to take."""

    options: tuple[Option, ...]
    picks: tuple[Pick, ...]
    layers: int
    source: str


def advise(
    model: Model,
    registry: Registry,
    room: Room,
    settings: Settings,
    *,
    importance: Importance | None = None,
    sensitivity: Sensitivity | None = None,
    allow_requantize: bool = True,
) -> Advice:
    """The options that a machine has with a model. `settings`: context, type of the cache, batch."""
    losses = Losses(model, registry, sensitivity, {})
    recipes = {name: recipe_like(name, registry) for name in _SHOWN}
    mixes = stock_mixes(recipes, model, registry, importance, losses, allow_requantize=allow_requantize)
    plans = [(mix.name, mix.plan, mix.loss) for mix in mixes]
    fitted = _fitted(model, registry, room, settings, importance, sensitivity, allow_requantize)
    if fitted is not None:
        plans.append(("fitted", fitted, estimated_loss(fitted, losses)))
    options = sorted(
        (_option(name, plan, loss, room, settings) for name, plan, loss in plans),
        key=lambda option: (option.nbytes, option.name),
    )
    layers = Division(model, settings).layers_on_gpu
    return Advice(
        options=tuple(options), picks=tuple(_picks(options, settings)), layers=layers, source=losses.source
    )


def _fitted(
    model: Model,
    registry: Registry,
    room: Room,
    settings: Settings,
    importance: Importance | None,
    sensitivity: Sensitivity | None,
    allow_requantize: bool,
) -> Plan | None:
    """What `fit --vram` would make; without a GPU, what fits into main memory."""
    origin = Origin(file="advise", line=0)
    if room.gpu:
        vram = VramBudget(
            total=room.gpu,
            context=settings.context,
            kv=settings.kv,
            ubatch=settings.ubatch,
        )
        budget = Budget(origin=origin, vram=vram)
    else:
        without = Division(model, replace(settings, layers=0)).cpu([])
        budget = Budget(origin=origin, ram=max(1, room.ram - without.total))
    try:
        recipe = opened_recipe("fitted", offered_types(registry, (), None), registry, budget=budget)
        return make_plan(
            recipe,
            model,
            registry=registry,
            importance=importance,
            sensitivity=sensitivity,
            allow_requantize=allow_requantize,
            provenance=False,
        )
    except PlanError:  # too small for anything
        return None


def _option(name: str, plan: Plan, loss: float, room: Room, settings: Settings) -> Option:
    tensors = [(a.tensor, a.nbytes) for a in plan.assignments]
    model = plan.model
    way, found = _best_way(model, tensors, room, settings)
    division = Division(model, found or replace(settings, layers=0))
    active = ActiveBytes(model)
    return Option(
        name=name,
        nbytes=plan.nbytes,
        bits_per_weight=plan.bits_per_weight,
        loss=loss,
        way=way,
        layers=division.layers_on_gpu if found is not None else 0,
        gpu=division.gpu(tensors).total,
        ram=division.cpu(tensors).total,
        active=sum(active(tensor, nbytes) for tensor, nbytes in tensors) if active.known else None,
        context=0 if found is None else _longest(model, tensors, room, found),
    )


def _best_way(
    model: Model, tensors: Sequence[tuple[TensorInfo, int]], room: Room, settings: Settings
) -> tuple[Way, Settings | None]:
    for way, tried in _ways(model, room, settings):
        if _fits(model, tensors, room, tried):
            return way, tried
    return "no", None


def _ways(model: Model, room: Room, settings: Settings) -> Iterator[tuple[Way, Settings]]:
    """How it might run, the fastest first."""
    if room.gpu:
        yield "gpu", replace(settings, layers=None, experts="gpu")
        if any(tensor.experts > 1 for tensor in model.tensors if tensor.role.endswith("_exps")):
            yield "experts beside it", replace(settings, layers=None, experts="cpu")
        for layers in range(Division(model, settings).layers_on_gpu - 1, 0, -1):
            yield "some layers", replace(settings, layers=layers, experts="gpu")
    yield "cpu", replace(settings, layers=0, experts="gpu")


def _fits(model: Model, tensors: Sequence[tuple[TensorInfo, int]], room: Room, settings: Settings) -> bool:
    division = Division(model, settings)
    gpu, ram = division.gpu(tensors).total, division.cpu(tensors).total
    if settings.layers != 0:
        gpu += reserved(room.gpu)
    if room.unified:
        return gpu <= room.gpu and gpu + ram <= room.ram
    return gpu <= room.gpu and ram <= room.ram


def _longest(model: Model, tensors: Sequence[tuple[TensorInfo, int]], room: Room, settings: Settings) -> int:
    """The longest context that still runs this way, in steps of 1024 tokens, up to what the model was made for."""
    most = Hyperparameters(model).number("context_length", _LONGEST)
    low, high = 0, max(1, most // _STEP)
    while low < high:
        middle = (low + high + 1) // 2
        if _fits(model, tensors, room, replace(settings, context=middle * _STEP)):
            low = middle
        else:
            high = middle - 1
    return min(most, low * _STEP)


def _picks(options: Sequence[Option], settings: Settings) -> Iterator[Pick]:
    """The fastest way of running in which something is good enough decides; if none is, the least loss of all."""
    running = [option for option in options if option.way != "no"]
    if not running:
        return
    least = min(running, key=lambda option: (option.loss, _WAYS.index(option.way), option.nbytes))
    exact = _good(running, _EXACT)
    if not exact:
        yield Pick(use="code", option=least, why="the least loss that runs here, and still much for programs")
    elif exact[0].way == "gpu":
        code = min(exact, key=lambda option: (option.loss, option.nbytes))
        yield Pick(
            use="code", option=code, why=f"one wrong token breaks a program: the least loss {_WHERE['gpu']}"
        )
    else:
        why = f"one wrong token breaks a program: the fastest that loses at most {_EXACT:g}, {_WHERE[exact[0].way]}"
        yield Pick(use="code", option=_fastest(exact), why=why)
    fine = _good(running, _FINE)
    if fine:
        chat = _fastest(fine)
        why = f"answers come fastest, at a loss of at most {_FINE:g}; {_WHERE[chat.way]}"
        yield Pick(use="chat", option=chat, why=why)
    else:
        yield Pick(use="chat", option=least, why=f"the least loss that runs here; none is below {_FINE:g}")
    yield _long(fine or [least], settings)


def _long(options: Sequence[Option], settings: Settings) -> Pick:
    long = max(options, key=lambda option: (option.context, -option.loss))
    why = f"up to {long.context:,} tokens {_WHERE[long.way]}, with a cache of {settings.kv}"
    if long.way == "some layers":
        long = _fastest(options)
        why = "every token more leaves less of the GPU to layers, so the smallest that is good enough"
    if settings.kv in ("f32", "f16", "bf16"):
        why += "; --kv q8_0 makes the cache half as large"
    return Pick(use="long context", option=long, why=why)


def _good(options: Sequence[Option], most: float) -> list[Option]:
    """Those that lose no more, of the fastest way in which there are any."""
    for way in _WAYS:
        if found := [option for option in options if option.way == way and option.loss <= most]:
            return found
    return []


def _fastest(options: Sequence[Option]) -> Option:
    return min(options, key=lambda option: (-option.layers, option.active or option.nbytes, option.loss))
