"""Which inputs are computed in one pass over the texts: as many as memory has room for, or one part for each worker.

A pass runs the model no further than to the last of its inputs, so passes are consecutive parts of the graph:

    one process      ├────────────────── as many as fit ─────┤├── the rest ──┤
    three workers    ├───────── many ──────────┤├── fewer ──┤├── fewest ─────┤

Whoever has the last part runs the whole model for it, and so gets fewest inputs. What a matrix is doesn't depend on
which other inputs are in its pass.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path

from quantrecipe.calibration.gram.collect import Experts, GramInput, Survey
from quantrecipe.memory.machine import detect_machine
from quantrecipe.model.model import Model
from quantrecipe.tensor import split_name

__all__ = [
    "Memory",
    "by_layers",
    "by_memory",
    "largest_input",
    "memory_beside",
    "seconds_of",
    "seconds_together",
    "shared_out",
]

_SHARE = (
    0.5  # of the memory that the model leaves: other programs want some, and so does the cache of its file
)
_HALVINGS = 40  # of the range in which the longest pass is looked for: beyond any clock's precision


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Of a machine, in bytes. free: that no program has; left: without what the model's file takes

    room: that a pass may take: half of what is left, or its part where several workers share it
    """

    free: int
    left: int
    room: int


def memory_beside(model: Path, workers: int = 1) -> Memory:
    """Of this machine, when the model's file is in memory as well, for each of so many workers."""
    free = detect_machine().ram_free
    left = max(free - model.stat().st_size, free // 4)
    return Memory(free=free, left=left, room=int(_SHARE * left) // workers)


def largest_input(model: Model, experts: Experts, *, output: bool) -> int:
    """Bytes that the largest input takes while it is computed, as far as the shapes of the weights tell."""
    each = [0]
    for it in model.tensors:
        if len(it.shape) < 2 or (it.layer is None and not (output and it.name == model.head)):
            continue
        of_experts = it.role.endswith("_exps")
        matrices = 1 if of_experts and experts == "shared" else it.experts
        found = GramInput(name="", weights=(), columns=it.cols, matrices=matrices, by_expert=of_experts)
        each.append(found.memory)
    return max(each)


def by_layers(inputs: Sequence[GramInput], layers: int) -> list[list[GramInput]]:
    """The inputs of so many layers in each pass; what belongs to none, the output, is a layer of its own."""
    each = [list(some) for _, some in groupby(inputs, key=lambda it: split_name(it.name)[0])]
    return [list(chain(*each[start : start + layers])) for start in range(0, len(each), layers)]


def by_memory(inputs: Sequence[GramInput], room: int) -> list[list[GramInput]]:
    """As many inputs in each pass as have room, and one at least."""
    passes: list[list[GramInput]] = []
    taken = 0
    for it in inputs:
        if passes and taken + it.memory <= room:
            passes[-1].append(it)
            taken += it.memory
        else:
            passes.append([it])
            taken = it.memory
    return passes


def shared_out(
    inputs: Sequence[GramInput], room: int, workers: int, seconds: Callable[[Sequence[GramInput]], float]
) -> list[list[GramInput]]:
    """Passes for several workers: one for each, or as many as memory makes of them, if these are more.

    seconds: that a pass takes. The longest is as short as it can be with so many.
    """
    if not inputs:
        return []
    count = max(workers, len(by_memory(inputs, room)))
    passes = by_memory(inputs, room)
    low, high = 0.0, seconds(inputs)
    for _ in range(_HALVINGS):
        longest = (low + high) / 2
        found = _no_longer_than(inputs, longest, room, seconds)
        if len(found) <= count and max(map(seconds, found)) <= longest:
            high, passes = longest, found
        else:
            low = longest
    return passes


def _no_longer_than(
    inputs: Sequence[GramInput], longest: float, room: int, seconds: Callable[[Sequence[GramInput]], float]
) -> list[list[GramInput]]:
    """The fewest passes that take no longer, and have room; one input at least in each.

    From the end on: how far a pass has to run the model is known as soon as its last input is.
    """
    passes: list[list[GramInput]] = []
    for it in reversed(inputs):
        more = [it, *passes[-1]] if passes else [it]
        if passes and sum(one.memory for one in more) <= room and seconds(more) <= longest:
            passes[-1] = more
        else:
            passes.append([it])
    return passes[::-1]


def seconds_of(seen: Survey, inputs: Sequence[GramInput], tokens: int) -> float:
    """That a pass takes, about: the model is run up to its last input, and products are added up."""
    last = {name: place + 1 for place, name in enumerate(seen.visits)}
    running = tokens * seen.seconds * max(last[it.name] for it in inputs) / len(seen.visits)
    return running + sum(tokens * seen.rows[it.name] * it.operations / seen.operations for it in inputs)


def seconds_together(seconds: Sequence[float], workers: int) -> float:
    """That workers take for all passes, of which each free one gets the next."""
    ends = [0.0] * workers
    for one in seconds:
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)
