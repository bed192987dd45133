"""Which file of a release for which memory and which use, and how much memory each takes: for the card.

The files are laid out as llama.cpp would lay them out on graphics cards of the usual sizes. What each loses is what was
measured; an estimate stands in where nothing was, and the card says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from quantrecipe.cli.release.job import Item, Job, Measured
from quantrecipe.errors import QuantrecipeError
from quantrecipe.fit.advise import Room, lay_out
from quantrecipe.fit.picks import Option, picks_for_uses
from quantrecipe.memory.device import Settings, reserved
from quantrecipe.memory.footprint import Runs, Way
from quantrecipe.speed.clock import Pace
from quantrecipe.speed.here import pace_here, speeds_here
from quantrecipe.tensor import TensorInfo

__all__ = ["Memory", "Take", "Uses", "uses_of"]

_GIB = 1 << 30
_CARDS = (4, 6, 8, 10, 12, 16, 24, 32, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024)
"""GiB of graphics cards, and of several together."""
_WHOLE: tuple[Way, ...] = ("gpu", "experts beside it")
_LEAST_RAM = 16 * _GIB


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """What a file takes, whole on the GPU. total: bytes; card: the smallest usual size in bytes, None for none."""

    total: int
    card: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Take:
    """For a card of this size in bytes, the file to take for each use, by the item's name and how it runs."""

    card: int
    picks: Mapping[str, Option]


@dataclass(frozen=True, kw_only=True, slots=True)
class Uses:
    """What the card says of memory and speed.

    memory:  by the item's name; empty where the model's caches aren't known
    takes:   from the smallest card on which what is taken runs whole, to the first on which every file does
    paces:   by the item's name, what was measured on this machine; empty where nothing was
    machine: where that was
    settings: context and cache
    measured: False where losses are estimates
    """

    memory: Mapping[str, Memory]
    takes: Sequence[Take]
    paces: Mapping[str, Pace]
    machine: str
    settings: Settings
    measured: bool


def uses_of(job: Job, items: Sequence[Item], measured: Measured) -> Uses:
    """All of it; what can't be known of a model is left out."""
    wish = job.release.memory
    trained = Runs(job.model, Room(gpu=0, ram=0)).trained
    context = min(wish.context, trained or wish.context)
    settings = Settings(context=context, kv=wish.kv)
    try:
        memory = {it.name: _memory(it, settings) for it in items}
        takes = _takes(job, items, measured, settings)
    except QuantrecipeError:  # its caches aren't known, or can't have that type
        memory, takes = {}, []
    speeds = speeds_here(job.model)
    paces = {
        it.name: pace
        for it in items
        if (pace := pace_here(it.plan.written, _mix(it), speeds)) is not None and pace.token is not None
    }
    machine = next((profile.where for profile in speeds.values()), "")
    return Uses(
        memory=memory,
        takes=takes,
        paces=paces,
        machine=machine,
        settings=settings,
        measured=bool(measured.files),
    )


def _mix(item: Item) -> list[tuple[TensorInfo, int, str]]:
    return [(a.tensor, a.nbytes, a.type) for a in item.plan.assignments]


def _memory(item: Item, settings: Settings) -> Memory:
    runs = Runs(item.plan.written, Room(gpu=1 << 60, ram=1 << 60))
    total = runs.footprint([(a.tensor, a.nbytes) for a in item.plan.assignments], settings).gpu.total
    fitting = (size * _GIB for size in _CARDS if total + reserved(size * _GIB) <= size * _GIB)
    return Memory(total=total, card=next(fitting, None))


def _takes(job: Job, items: Sequence[Item], measured: Measured, settings: Settings) -> list[Take]:
    """A line for each size of card at which another file is taken than at the one before, or it runs in another way."""
    plans = {it.name: it.plan for it in items}
    losses = {use: _losses(measured, use) for use in ("code", "chat")}
    rooms = [Room(gpu=size * _GIB, ram=max(_LEAST_RAM, 2 * size * _GIB)) for size in _CARDS]
    takes: list[Take] = []
    for room, options in zip(rooms, lay_out(plans, job.model, job.registry, rooms, settings), strict=True):
        picks: dict[str, Option] = {}
        for use, those in losses.items():
            known = [replace(it, loss=those.get(it.name, it.loss)) for it in options]
            found = {pick.use: pick.option for pick in picks_for_uses(known, settings)}
            picks |= {name: it for name, it in found.items() if (name == "code") == (use == "code")}
        begins = any(option.way in _WHOLE for option in picks.values())
        if _ways(picks) != _ways(takes[-1].picks) if takes else begins:
            takes.append(Take(card=room.gpu, picks=picks))
        if all(option.way == "gpu" for option in options):
            break
    return takes


def _ways(picks: Mapping[str, Option]) -> list[tuple[str, str, str]]:
    return [(use, option.name, option.way) for use, option in picks.items()]


def _losses(measured: Measured, use: str) -> dict[str, float]:
    """Mean KL divergences: over the text that is named for the use, where there is one; else over all."""
    found = {}
    for name, (whole, texts) in measured.files.items():
        named = next((text for text in texts if use in text.lower()), None)
        found[name] = (whole if named is None else texts[named]).kld
    return found
