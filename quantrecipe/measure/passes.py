"""Passes: how a model is run for probes; and choose_type: in which type it is in memory then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from quantrecipe.api import Executor
from quantrecipe.engine import Engine, EngineFacts
from quantrecipe.evaluate import Text
from quantrecipe.memory.machine import Machine
from quantrecipe.model.model import Model

T = TypeVar("T")

__all__ = ["PARTS", "RESIDENT_TYPES", "WHOLE", "Part", "Passes", "choose_type", "own_type"]

RESIDENT_TYPES = ("F32", "F16", "BF16", "Q8_0")
"""Types that the model may have in memory, the most exact first."""

PARTS = 4
"""Parts of the text that probes may read by themselves."""
_CHUNKS = 4
"""Of a part, at least: their spread says how sure a probe is."""

_BYTES = {"F32": 4, "F16": 2, "BF16": 2}  # of a weight
_SHARE = 0.5
"""Of the memory that is available: the rest is for contexts, for what llama.cpp computes in, and for other programs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Chunks of a text that are at even distances: each n-th, from one on."""

    every: int = 1
    first: int = 0

    def of(self, values: Sequence[T]) -> Sequence[T]:
        """Those of the chunks. values: of each chunk"""
        return values[self.first :: self.every]


WHOLE = Part()
"""All chunks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Passes:
    """How a model is run for a probe.

    texts:    that it reads, the same amount of each, in chunks that are spread over it
    tokens:   of all of them, at most
    n_ctx:    tokens in a chunk
    engine:   what runs it; None for what the environment names, or llama-cpp-python
    resident: type of the model in memory, of `RESIDENT_TYPES`; None for the most exact that fits
    executor: whose workers make probes, each with the threads that its options say; None for this process alone
    """

    texts: tuple[Text, ...]
    tokens: int
    n_ctx: int = 512
    threads: int | None = None
    gpu_layers: int | None = None
    engine: Engine | None = None
    resident: str | None = None
    executor: Executor | None = None

    @property
    def chunks(self) -> int:
        """How many chunks of each text are read, if it has as many."""
        return max(1, self.tokens // (self.n_ctx * len(self.texts)))

    @property
    def parts(self) -> int:
        """How many parts the text has that are long enough for a probe."""
        return max(1, min(PARTS, self.chunks * len(self.texts) // _CHUNKS))

    def part(self, number: int) -> Part:
        """The part of this number; there are no more than `parts`, so the next is the first one again."""
        return Part(every=self.parts, first=number % self.parts)


def choose_type(model: Model, passes: Passes, facts: EngineFacts, machine: Machine, disk: int) -> str:
    """The type of the resident model: its own, if it isn't quantized and fits; else the most exact that fits.

    disk: bytes that are free for a temporary file
    """
    if (own := own_type(model)) is not None and _fits(_stored_bytes(model), model, passes, facts, machine):
        return own
    weights = sum(tensor.size for tensor in model.tensors)
    by_weights = Counter[str]()
    for tensor in model.tensors:
        by_weights[tensor.dtype] += tensor.size
    sixteen_bits = "F16" if by_weights["F16"] > by_weights["BF16"] else "BF16"
    for type_ in ("F32", sixteen_bits):
        nbytes = weights * _BYTES[type_]
        if nbytes <= disk and _fits(nbytes, model, passes, facts, machine):
            return type_
    return "Q8_0"


def own_type(model: Model) -> str | None:
    """The type of the matrices of a GGUF that isn't quantized, of most of them; None for another model."""
    sizes = Counter[str]()
    for tensor in model.tensors:
        if len(tensor.shape) > 1:
            sizes[tensor.dtype] += tensor.size
    if model.container != "gguf" or not sizes or sizes.keys() - _BYTES.keys():
        return None
    return sizes.most_common(1)[0][0]


def _stored_bytes(model: Model) -> int:
    return sum(extent.nbytes for source in model.sources.values() for extent in source.extents)


def _fits(nbytes: int, model: Model, passes: Passes, facts: EngineFacts, machine: Machine) -> bool:
    """True if a model of this size takes at most its share of what is free where its layers are."""
    gpu = sum(device.free for device in facts.devices if not device.is_cpu)
    on_gpu = 1.0 if gpu else 0.0
    if gpu and passes.gpu_layers is not None and passes.gpu_layers >= 0:
        on_gpu = min(1.0, passes.gpu_layers / (model.n_layers + 1))
    return on_gpu * nbytes <= _SHARE * gpu and (1 - on_gpu) * nbytes <= _SHARE * machine.ram_free
