"""What a mix of a model takes where it runs, what is left of the machine, and how else it would fit.

    Runs(model, room).footprint(tensors, settings)   → bytes on the GPU and in main memory, and what is left of each

A mix is a list of tensors with their bytes. Everything is computed from shapes, by `device.Division`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Literal

from quantrecipe.errors import PlanError
from quantrecipe.memory.device import DeviceMemory, Division, Settings, reserved
from quantrecipe.model.model import Model
from quantrecipe.plain_data import fields_of
from quantrecipe.tensor import TensorInfo

__all__ = ["WAYS", "Footprint", "Room", "Runs", "Tensors", "Way"]

Way = Literal["gpu", "experts beside it", "some layers", "cpu", "no"]
"""How a mix runs: whole on the GPU, its experts in main memory, some layers on the GPU, without it, or not at all."""

WAYS: tuple[Way, ...] = ("gpu", "experts beside it", "some layers", "cpu", "no")
"""From the one that leaves most of the work to the GPU."""

Tensors = Sequence[tuple[TensorInfo, int]]

_STEP = 1024  # tokens: contexts are looked for in steps of this many
_LONGEST = 1 << 20  # tokens: where a model doesn't say for how many it was made
_SMALL_CACHE = "q8_0"  # half as large as f16; llama.cpp's smaller ones are known to cost quality


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """Bytes that there are for the model. `unified`: the GPU's are part of main memory's."""

    gpu: int
    ram: int
    unified: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """What a mix takes when it is run in one way.

    layers:   on the GPU, the head counted as one
    gpu, ram: what it takes there
    gpu_left, ram_left: bytes that then remain for it, what the driver keeps not counted; negative where it doesn't fit
    """

    way: Way
    settings: Settings
    layers: int
    gpu: DeviceMemory
    ram: DeviceMemory
    gpu_left: int
    ram_left: int

    @property
    def fits(self) -> bool:
        """True where both memories have room for it."""
        return self.gpu_left >= 0 and self.ram_left >= 0

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        return {
            "way": self.way,
            **fields_of(self.settings, "context", "kv"),
            "gpu_layers": self.layers,
            "gpu": _parts(self.gpu) | {"left": self.gpu_left},
            "ram": _parts(self.ram) | {"left": self.ram_left},
            "fits": self.fits,
        }


def _parts(memory: DeviceMemory) -> dict[str, int]:
    return {
        "weights": memory.weights,
        "kv_cache": memory.cache,
        "compute": memory.compute + memory.copies,
        "total": memory.total,
    }


class Runs:
    """The ways in which mixes of one model run on one machine."""

    def __init__(self, model: Model, room: Room) -> None:
        self.room = room
        #: tokens that the model was made for; None where it doesn't say
        self.trained = model.number("context_length") or None
        #: True where experts can stay in main memory (llama.cpp's --cpu-moe)
        self.has_experts = any(t.experts > 1 for t in model.tensors if t.role.endswith("_exps"))
        self._model = model
        self._divisions: dict[Settings, Division] = {}  # the same for every mix, and slow to make

    def elsewhere(self, room: Room) -> Runs:
        """The same model's ways on another machine: how it is divided is known by then."""
        other = copy(self)
        other.room = room
        return other

    def layers(self) -> int:
        """How many layers the whole model has, the head counted as one."""
        return self._division(Settings()).layers_on_gpu

    def footprint(self, tensors: Tensors, settings: Settings) -> Footprint:
        """What it takes when it is run like that, if it fits or not. PlanError where the cache can't have its type."""
        division = self._division(settings)
        gpu, ram = division.gpu(tensors), division.cpu(tensors)
        layers = division.layers_on_gpu
        gpu_left = self.room.gpu - gpu.total - (reserved(self.room.gpu) if layers else 0)
        ram_left = self.room.ram - ram.total - (gpu.total if self.room.unified else 0)
        if not layers:
            way: Way = "cpu"
        elif settings.experts == "cpu" and self.has_experts:
            way = "experts beside it"
        else:
            way = "gpu" if layers == self.layers() else "some layers"
        return Footprint(
            way=way, settings=settings, layers=layers, gpu=gpu, ram=ram, gpu_left=gpu_left, ram_left=ram_left
        )

    def best(self, tensors: Tensors, settings: Settings) -> Footprint | None:
        """The first way of `WAYS` that fits; None where none does. `settings`: context, cache and batch."""
        for tried in self._ways(settings):
            found = self.footprint(tensors, tried)
            if found.fits:
                return found
        return None

    def longest(self, tensors: Tensors, settings: Settings) -> int:
        """The longest context that fits in this way, in steps of 1024 tokens, up to what the model was made for."""
        most = self.trained or _LONGEST
        low, high = 0, max(1, most // _STEP)
        while low < high:
            middle = (low + high + 1) // 2
            if self.footprint(tensors, replace(settings, context=middle * _STEP)).fits:
                low = middle
            else:
                high = middle - 1
        return min(most, low * _STEP)

    def with_small_cache(self, tensors: Tensors, settings: Settings) -> Footprint | None:
        """The same with a KV cache of q8_0, if it fits then; None, too, where the cache is as small already."""
        if settings.kv not in ("f32", "f16", "bf16"):
            return None
        try:
            found = self.footprint(tensors, replace(settings, kv=_SMALL_CACHE))
        except PlanError:  # rows that don't divide into its blocks
            return None
        return found if found.fits else None

    def _ways(self, settings: Settings) -> Iterator[Settings]:
        if self.room.gpu:
            yield replace(settings, layers=None, experts="gpu")
            if self.has_experts:
                yield replace(settings, layers=None, experts="cpu")
            for layers in range(self.layers() - 1, 0, -1):
                yield replace(settings, layers=layers, experts="gpu")
        yield replace(settings, layers=0, experts="gpu")

    def _division(self, settings: Settings) -> Division:
        if settings not in self._divisions:
            self._divisions[settings] = Division(self._model, settings)
        return self._divisions[settings]
