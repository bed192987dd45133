"""A machine with any number of cores, and `apply`'s pipeline on it: threads are generators, and the clock jumps.

What a thread does next is decided by quantrecipe's own Schedule. What that takes is a list of uses: so many seconds,
while the thread holds the GIL, the lock of the file that it writes, or neither; and so many bytes over the memory bus
and from or to the disk.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, TypeAlias

from quantrecipe.output.pipeline import SLOTS
from quantrecipe.output.row_units import Unit, parts, split
from quantrecipe.output.schedule import Advance, Collect, Pass, Schedule, Step, Work
from quantrecipe.tensor import TensorInfo

__all__ = ["GIL", "INODE", "Costs", "Lock", "Machine", "Ran", "Use", "flows", "simulate", "uses"]

GIL, INODE = "GIL", "inode lock"
_CALLS = 4
"""Times that a part gives the GIL away: to be decoded, checked, encoded, and looked at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """Seconds that one thread takes.

    tensor, unit, part: Python, under the GIL, for each of them
    read, hash, write:  for a byte
    encode:             for a weight: decode it, check it, encode it, look at what came out
    bits_in, bits_out:  of a weight; what is copied is hashed once, for both
    """

    tensor: float = 0.0
    unit: float = 0.0
    part: float = 0.0
    read: float = 0.0
    hash: float = 0.0
    encode: float = 0.0
    write: float = 0.0
    bits_in: float = 16.0
    bits_out: float = 16.0
    copied: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What threads share.

    processors:   None: one for each thread
    disk, memory: bytes per second
    hand_over:    seconds until a thread that waits for the GIL has it, once another gives it away
    without:      locks that this machine doesn't have, to see what they cost
    """

    processors: int | None = None
    disk: float = math.inf
    memory: float = math.inf
    hand_over: float = 0.0
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Use:
    """Something that a thread does without a pause.

    lock:   what it holds meanwhile; "" if nothing
    memory: bytes over the memory bus
    disk:   bytes read or written
    """

    seconds: float
    lock: str = ""
    memory: float = 0.0
    disk: float = 0.0


def flows(tensors: Sequence[TensorInfo]) -> Iterator[Iterator[Pass[int]]]:
    """A flow for each tensor, of its units; nothing is really done for them."""

    def nothing(*_: Any) -> None: ...

    for tensor in tensors:
        yield iter([Pass(split(tensor), nothing, nothing)])


def uses(step: Step[Any], costs: Costs) -> Iterator[Use]:
    """What the step takes, one after the other."""
    if isinstance(step, Advance):
        yield Use(costs.tensor / 2, GIL)  # half when a tensor begins, half when it ends
    elif isinstance(step, Collect):
        size = _bytes(step.task.unit, costs.bits_in + (0 if costs.copied else costs.bits_out))
        yield Use(size * costs.hash, memory=size)
        yield Use(costs.unit / 4, GIL)
    elif isinstance(step, Work):
        yield from _work(step.task.unit, costs)


def _work(unit: Unit, costs: Costs) -> Iterator[Use]:
    read, written = _bytes(unit, costs.bits_in), _bytes(unit, costs.bits_out)
    yield Use(costs.unit / 4, GIL)
    yield Use(read * costs.read, memory=2 * read, disk=read)
    yield Use(costs.unit / 4, GIL)
    if costs.copied:
        yield Use(unit.rows * unit.tensor.cols * costs.encode, memory=read)
    else:
        for part in parts(unit):
            weights = part.rows * part.tensor.cols
            for _ in range(_CALLS):
                yield Use(costs.part / _CALLS, GIL)
                yield Use(weights * costs.encode / _CALLS)
    yield Use(written * costs.write, INODE, memory=2 * written, disk=written)
    yield Use(costs.unit / 4, GIL)


def _bytes(unit: Unit, bits: float) -> float:
    return unit.rows * unit.tensor.cols * bits / 8


class Lock:
    """So many may hold it at once; the others wait in line, and take some time to wake.

    busy: seconds that it was held
    """

    def __init__(self, capacity: float = 1, hand_over: float = 0.0) -> None:
        self.free = capacity
        self.hand_over = hand_over
        self.waiting: deque[_Process] = deque()
        self.busy = 0.0


_Process: TypeAlias = Generator["Lock | float", None, None]
"""Yields a lock, to hold it, or seconds, to let them pass."""


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, _Process]] = []
        self._number = 0

    def start(self, process: _Process, seconds: float = 0.0) -> None:
        """Go on with it in so many seconds; of those at the same time, first with what came first."""
        self._number += 1
        heappush(self._events, (self.now + seconds, self._number, process))

    def release(self, lock: Lock) -> None:
        if lock.waiting:
            self.start(lock.waiting.popleft(), lock.hand_over)
        else:
            lock.free += 1

    def run(self) -> None:
        """Until nothing happens any more."""
        while self._events:
            self.now, _, process = heappop(self._events)
            for wanted in process:
                if not isinstance(wanted, Lock):
                    self.start(process, wanted)
                    break
                if not wanted.free:
                    wanted.waiting.append(process)
                    break
                wanted.free -= 1


@dataclass(slots=True)
class _Bus:
    """Bytes that go one after the other: whoever comes waits for those before."""

    rate: float
    free_at: float = 0.0

    def seconds(self, now: float, nbytes: float) -> float:
        """How long it takes from now until these are through."""
        self.free_at = max(self.free_at, now) + nbytes / self.rate
        return self.free_at - now


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """seconds: from the first step to the last; busy: by the name of a lock, how long it was held."""

    seconds: float
    busy: dict[str, float] = field(default_factory=dict)


def simulate(
    tensors: Sequence[TensorInfo],
    costs: Costs,
    threads: int,
    machine: Machine | None = None,
) -> Ran:
    """Run the pipeline over these tensors on this machine."""
    machine = machine or Machine()
    clock = _Clock()
    schedule = Schedule(flows(tensors), range(SLOTS * threads))
    processors = Lock(machine.processors or threads)
    locks: defaultdict[str, Lock] = defaultdict(Lock)
    locks[GIL] = Lock(hand_over=machine.hand_over)
    for name in machine.without:
        locks[name] = Lock(math.inf)
    memory, disk = _Bus(machine.memory), _Bus(machine.disk)
    idle = Lock(0)

    def thread() -> _Process:
        step: Step[Any] | None = None
        while True:
            step = schedule.after(step)
            if schedule.ended:
                return
            if schedule.offers and idle.waiting:
                clock.release(idle)
            if step is None:
                yield idle
                continue
            if isinstance(step, Advance):
                step.do()
            for use in uses(step, costs):
                if not (use.seconds or use.memory or use.disk):
                    continue
                held = (locks[use.lock], processors) if use.lock else (processors,)
                for lock in held:
                    yield lock
                seconds = max(
                    use.seconds, memory.seconds(clock.now, use.memory), disk.seconds(clock.now, use.disk)
                )
                yield seconds
                for lock in held:
                    lock.busy += seconds
                    clock.release(lock)

    for _ in range(threads):
        clock.start(thread())
    clock.run()
    if not schedule.ended:
        raise RuntimeError("all threads wait, and there is work left")
    return Ran(seconds=clock.now, busy={name: lock.busy for name, lock in locks.items()})
