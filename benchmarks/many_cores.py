"""How `apply` would do on 8, 16 or 64 cores: its pipeline, simulated with what each step takes on this machine.

    python benchmarks/many_cores.py                            both tables
    python benchmarks/many_cores.py --disk 7 --memory 200      GB/s that all threads share [default: without limit]
    python benchmarks/many_cores.py --rehearse                 beside it, real threads that sleep in place of kernels
    python benchmarks/many_cores.py --check                    beside it, the real thing with one and two threads

What steps take is measured first: real kernels and files, in one thread. The simulation then asks quantrecipe's own
schedule what each thread does next. "binds" is what the 64 threads wait for: without it they would be quickest.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from simulated import GIL, INODE, Costs, Machine, simulate, uses

from quantrecipe.importance.matrix import Importance
from quantrecipe.model.model import Model
from quantrecipe.model.source.source import Extent, Stored
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output.jobs import Job, encodings_of, jobs_by_tensor
from quantrecipe.output.partfile import PartFile
from quantrecipe.output.passes import Encode, Slot, StoredRows
from quantrecipe.output.pipeline import Pass, Pipeline
from quantrecipe.output.progress import Silent
from quantrecipe.output.row_units import CHUNK_WEIGHTS, PART_WEIGHTS, split
from quantrecipe.output.schedule import Advance, Collect, Flow, Step, Task, Work
from quantrecipe.output.stream import Stream
from quantrecipe.output.transform import Rows
from quantrecipe.plan.plan import Assignment
from quantrecipe.registry import Registry, load_registry
from quantrecipe.tensor import TensorInfo

T = TypeVar("T", float, NDArray[np.float64])

THREADS = (1, 2, 8, 16, 64)
COLS = 4096
CROWD, HAND_OVERS, HELD = 16, 200, 20e-6
"""Threads that hand the GIL around, how often each, and seconds for which each holds it."""
WIDTH = 140
ROUNDS = 5
"""Measurements of each step, of which the shortest counts: other programs only ever make it longer."""
CHECKS = 5
"""Runs of the real thing, of which the shortest counts as well."""

TENSORS = [TensorInfo.from_name(f"blk.{i}.attn_q.weight", (1, 256), "BF16") for i in range(1000)]
UNITS = [TensorInfo.from_name("blk.0.ffn_up_exps.weight", (1000, 1, 256), "BF16")]
"""A thousand units that are little but what Python costs, of as many tensors and of one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """What the tensors become. units: so many take about a second of one thread."""

    type: str
    units: int
    importance: bool = False

    @property
    def name(self) -> str:
        return f"BF16 → {self.type}{', importance' if self.importance else ''}"

    @property
    def copied(self) -> bool:
        return self.type == "BF16"

    @property
    def tensor(self) -> TensorInfo:
        """One of so many units."""
        return TensorInfo.from_name("output.weight", (self.units * CHUNK_WEIGHTS // COLS, COLS), "BF16")


WORKS = (
    Kind(type="BF16", units=256),
    Kind(type="Q8_0", units=192),
    Kind(type="Q4_K", units=24, importance=True),
    Kind(type="IQ3_S", units=8, importance=True),
)


def models() -> dict[str, list[TensorInfo]]:
    """What is simulated. Of the 80 layers of the model of 70 B two will do: all are alike."""

    def layers(count: int, **shapes: tuple[int, ...]) -> list[TensorInfo]:
        return [
            TensorInfo.from_name(f"blk.{layer}.{role}.weight", shape, "BF16")
            for layer in range(count)
            for role, shape in shapes.items()
        ]

    return {
        "one tensor, 1 B weights": layers(1, ffn_up=(1 << 18, COLS)),
        "10,000 tensors of 64 × 256": layers(10_000, attn_q=(64, 256)),
        "dense, as of 70 B": layers(
            2,
            attn_norm=(8192,),
            attn_k=(1024, 8192),
            attn_output=(8192, 8192),
            attn_q=(8192, 8192),
            attn_v=(1024, 8192),
            ffn_down=(8192, 28672),
            ffn_gate=(28672, 8192),
            ffn_norm=(8192,),
            ffn_up=(28672, 8192),
        ),
        "experts, 3 × 0.4 B": layers(
            1, ffn_down_exps=(64, 4096, 1536), ffn_gate_exps=(64, 1536, 4096), ffn_up_exps=(64, 1536, 4096)
        ),
    }


# What steps take


class Everywhere(Importance):
    """Importance for every tensor."""

    def for_tensor(self, tensor: TensorInfo) -> Any:
        rng = np.random.default_rng(0)
        return rng.exponential(1.0, (tensor.experts, tensor.cols)).astype(np.float32)


class Watch:
    """Seconds of processor time of this thread within `watching`."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        began = time.thread_time()
        try:
            yield
        finally:
            self.seconds += time.thread_time() - began


class WatchedReader(TensorReader):
    def __init__(self) -> None:
        super().__init__()
        self.watch = Watch()

    def read(self, *args: Any, **kwargs: Any) -> None:
        with self.watch.watching():
            super().read(*args, **kwargs)


@dataclass
class WatchedFile:
    file: PartFile
    watch: Watch = field(default_factory=Watch)

    def write(self, data: memoryview, offset: int) -> None:
        with self.watch.watching():
            self.file.write(data, offset)


class Bench:
    """Files of random weights in a folder, and what quantrecipe makes of them."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        self.folder, self.registry = folder, registry
        self._source = folder / "source"
        draw = np.random.default_rng(0).standard_normal(CHUNK_WEIGHTS, np.float32) * np.float32(0.02)
        unit = (draw.view(np.uint32) >> np.uint32(16)).astype("<u2").tobytes()
        with self._source.open("wb") as file:
            for _ in range(max(work.units for work in WORKS)):
                file.write(unit)

    def model(self, tensors: Sequence[TensorInfo]) -> Model:
        """The tensors one after the other in the source's file."""
        sources, offset = {}, 0
        for tensor in tensors:
            nbytes = 2 * tensor.size
            extent = Extent(path=self._source, offset=offset, nbytes=nbytes)
            sources[tensor.name] = Stored(
                name=tensor.name, shape=tensor.shape, dtype="BF16", extents=(extent,)
            )
            offset += nbytes
        return Model(
            path=self._source,
            container="gguf",
            arch="llama",
            tensors=tuple(tensors),
            metadata={},
            sources=sources,
        )

    def jobs(self, work: Kind, tensors: Sequence[TensorInfo], sink: Any) -> list[Job]:
        """All tensors become the work's type, one after the other in the sink."""
        fmt, offset, jobs = self.registry.formats[work.type], 0, []
        importance = (
            Everywhere(path=Path(), layout="gguf", entries={}) if fmt.spec.importance != "ignored" else None
        )
        for tensor in tensors:
            nbytes = fmt.spec.tensor_bytes(tensor.shape)
            assignment = Assignment(
                tensor=tensor,
                format=fmt,
                nbytes=nbytes,
                offset=offset,
                because="",
                copied=work.copied,
                importance=work.importance,
            )
            jobs.append(Job(assignment=assignment, sink=sink, importance=importance))
            offset += nbytes
        return jobs

    @contextmanager
    def part(self, jobs_of: Callable[[Any], list[Job]]) -> Iterator[PartFile]:
        nbytes = sum(job.assignment.nbytes for job in jobs_of(None))
        with PartFile(self.folder / "made.gguf", nbytes) as part:
            yield part

    def stream(self, work: Kind, tensors: Sequence[TensorInfo], threads: int, clock: Callable[[], T]) -> T:
        """Seconds of the real thing."""
        with self.part(lambda sink: self.jobs(work, tensors, sink)) as part:
            jobs = self.jobs(work, tensors, part)
            stream = Stream(
                self.model(tensors), jobs, self.registry, threads=threads, nan="error", progress=Silent()
            )
            began = clock()
            stream.run()
            return clock() - began

    def stages(self, work: Kind, tensor: TensorInfo) -> dict[str, float]:
        """Seconds of one thread for a unit, on average: read, encode, write, collect."""
        with self.part(lambda sink: self.jobs(work, [tensor], sink)) as part, WatchedReader() as reader:
            sink = WatchedFile(part)
            jobs = self.jobs(work, [tensor], sink)
            floats: SimpleQueue[Any] = SimpleQueue()
            floats.put(np.empty(PART_WEIGHTS, np.float32))
            rows = StoredRows(
                tensor=tensor,
                source=self.model([tensor]).sources[tensor.name],
                format=self.registry.formats["BF16"],
                group=1,
                reader=reader,
                floats=floats,
                nan="error",
                tell=lambda *_: None,
            )
            encode = Encode(rows, encodings_of(tensor.name, jobs_by_tensor(jobs)))
            slots = [
                Slot(np.empty(2 * CHUNK_WEIGHTS, np.uint8), np.empty(2 * CHUNK_WEIGHTS, np.uint8))
                for _ in range(2)
            ]
            units, working, collecting = list(split(tensor)), Watch(), Watch()
            for number, unit in enumerate(units):
                with working.watching():
                    result = encode.work(unit, slots[number % 2])
                with collecting.watching():
                    encode.collect(unit, result)
        seconds = {
            "read": reader.watch.seconds,
            "encode": working.seconds - reader.watch.seconds - sink.watch.seconds,
            "write": sink.watch.seconds,
            "collect": collecting.seconds,
        }
        return {name: value / len(units) for name, value in seconds.items()}

    def part_seconds(self, work: Kind) -> float:
        """A part of one row of 256 weights."""
        if work.copied:
            return 0.0
        unit = next(split(UNITS[0]))
        source, fmt = self.registry.formats["BF16"], self.registry.formats[work.type]
        raw = np.fromfile(self._source, np.uint8, 512).reshape(1, 512)
        importance = np.ones(256, np.float32) if work.importance else None
        out = np.empty((1, fmt.spec.row_bytes(256)), np.uint8)
        floats = np.empty(256, np.float32)
        watch = Watch()
        with watch.watching():
            for _ in range(200):
                Rows(unit, raw, source, floats, nan="error").encode(fmt, importance, out)
        return watch.seconds / 200

    def hand_over(self) -> float:
        """Seconds for which the GIL is nobody's, when a thread gives it to another that sleeps."""

        def act() -> None:
            for _ in range(HAND_OVERS):
                compute(HELD)
                time.sleep(HELD)

        def together() -> float:
            threads = [threading.Thread(target=act) for _ in range(CROWD)]
            began = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return (time.perf_counter() - began) / (CROWD * HAND_OVERS) - HELD

        return min(together() for _ in range(ROUNDS))

    def costs(self, work: Kind) -> Costs:
        """What each step of this work takes."""
        bits = self.registry.formats[work.type].spec.bits_per_weight
        self.stages(work, UNITS[0])  # loads or compiles the kernels
        least: dict[str, float] = {}
        for _ in range(ROUNDS):
            for name, seconds in self._round(work).items():
                least[name] = min(seconds, least.get(name, math.inf))
        parts = 0 if work.copied else CHUNK_WEIGHTS // PART_WEIGHTS
        encode = (
            least["many encode"] - least["few encode"] - max(0, parts - 1) * least["part"]
        ) / CHUNK_WEIGHTS
        hashed = CHUNK_WEIGHTS * (2 if work.copied else 2 + bits / 8)
        return Costs(
            tensor=max(0.0, least["tensor"] - least["unit"]),
            unit=least["unit"] - least["part"],
            part=max(0.0, least["part"] - UNITS[0].cols * encode),
            encode=encode,
            read=(least["many read"] - least["few read"]) / (CHUNK_WEIGHTS * 2),
            write=(least["many write"] - least["few write"]) / (CHUNK_WEIGHTS * bits / 8),
            hash=(least["many collect"] - least["few collect"]) / hashed,
            bits_in=16,
            bits_out=bits,
            copied=work.copied,
        )

    def _round(self, work: Kind) -> dict[str, float]:
        """Seconds for a unit of few and of many weights; for a tensor, a unit and a part that are little but Python."""
        return {
            **{f"few {name}": seconds for name, seconds in self.stages(work, UNITS[0]).items()},
            **{f"many {name}": seconds for name, seconds in self.stages(work, work.tensor).items()},
            "unit": self.stream(work, UNITS, 1, time.process_time) / UNITS[0].experts,
            "tensor": self.stream(work, TENSORS, 1, time.process_time) / len(TENSORS),
            "part": self.part_seconds(work),
        }


# What comes of it


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """seconds: by the number of threads; without: efficiency of the most threads, were it not for something."""

    work: str
    model: str
    weights: int
    seconds: dict[int, float]
    without: dict[str, float]

    def efficiency(self, threads: int) -> float:
        """1 if so many threads are so many times as fast as one."""
        return self.seconds[1] / (threads * self.seconds[threads])

    @property
    def binds(self) -> str:
        """What the most threads wait for."""
        if not self.without:
            return ""
        # Of two things that bind alike neither helps alone.
        alone = {name: better for name, better in self.without.items() if "," not in name}
        name, better = max(alone.items(), key=lambda item: item[1])
        if better < self.efficiency(max(self.seconds)) + 0.03:
            name, better = max(self.without.items(), key=lambda item: item[1])
        return f"{name} ({better:.0%} without)"


def predict(
    work: str, model: str, tensors: Sequence[TensorInfo], costs: Costs, machine: Machine
) -> Prediction:
    """Simulate all numbers of threads, and where they don't scale, what the most of them would do without something."""
    seconds = {n: simulate(tensors, costs, n, machine).seconds for n in THREADS}
    most = max(THREADS)
    without = {}
    if seconds[1] < 0.9 * most * seconds[most]:
        others = {
            GIL: (costs, replace(machine, without=(GIL,))),
            INODE: (costs, replace(machine, without=(INODE,))),
            f"{GIL}, {INODE}": (costs, replace(machine, without=(GIL, INODE))),
            "hash order": (replace(costs, hash=0.0), machine),
            "disk": (costs, replace(machine, disk=math.inf)),
            "memory": (costs, replace(machine, memory=math.inf)),
        }
        for name, (its_costs, its_machine) in others.items():
            if (its_costs, its_machine) != (costs, machine):
                one = (
                    seconds[1] if its_costs == costs else simulate(tensors, its_costs, 1, its_machine).seconds
                )
                without[name] = one / (most * simulate(tensors, its_costs, most, its_machine).seconds)
    weights = sum(tensor.size for tensor in tensors)
    return Prediction(work=work, model=model, weights=weights, seconds=seconds, without=without)


# The same with real threads


def compute(seconds: float) -> None:
    """Hold the GIL for so long."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def rehearse(tensors: Sequence[TensorInfo], costs: Costs, threads: int) -> float:
    """Seconds of real threads that take real locks: they compute where Python would, and sleep where kernels run."""
    inode = threading.Lock()

    def act(step: Step[Any]) -> None:
        for use in uses(step, costs):
            if use.lock == GIL:
                compute(use.seconds)
            elif use.lock == INODE:
                with inode:
                    time.sleep(use.seconds)
            elif use.seconds:
                time.sleep(use.seconds)

    def flow(number: int, tensor: TensorInfo) -> Iterator[Pass[int]]:
        mine: Flow[int] = Flow(number, iter(()))
        act(Advance(mine))
        yield Pass(
            split(tensor),
            lambda unit, slot: act(Work(Task(mine, 0, unit, slot))),
            lambda unit, _: act(Collect(Task(mine, 0, unit, 0))),
        )
        act(Advance(mine))

    pipeline: Pipeline[int] = Pipeline(threads, int)
    began = time.perf_counter()
    pipeline.run(flow(number, tensor) for number, tensor in enumerate(tensors))
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="where files are made [default: a temporary one]")
    parser.add_argument("--disk", type=float, default=math.inf, metavar="GB/s")
    parser.add_argument("--memory", type=float, default=math.inf, metavar="GB/s")
    parser.add_argument(
        "--works", nargs="*", default=[w.type for w in WORKS], choices=[w.type for w in WORKS]
    )
    parser.add_argument("--costs", type=Path, help="what was measured before, or where to keep what is")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--rehearse", action="store_true")
    args = parser.parse_args()
    works = [work for work in WORKS if work.type in args.works]
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        bench = Bench(Path(folder), load_registry(plugins=False))
        costs = measured(bench, works, args.costs)
        machine = Machine(disk=args.disk * 1e9, memory=args.memory * 1e9, hand_over=bench.hand_over())
        show_costs(works, costs, machine)
        if args.check:
            show_check(bench, works, costs, machine)
    if args.rehearse:
        show_rehearsal(works, costs, machine)
    show_predictions(
        [
            predict(work.name, name, tensors, costs[work.name], machine)
            for work in works
            for name, tensors in models().items()
        ]
    )


def measured(bench: Bench, works: Sequence[Kind], kept: Path | None) -> dict[str, Costs]:
    """The costs of each work, from the file if it has them."""
    found = {}
    if kept is not None and kept.exists():
        found = {name: Costs(**costs) for name, costs in json.loads(kept.read_text(encoding="utf-8")).items()}
    costs = {work.name: found.get(work.name) or bench.costs(work) for work in works}
    if kept is not None:
        plain = {name: asdict(it) for name, it in (found | costs).items()}
        kept.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    return costs


def show_costs(works: Sequence[Kind], costs: dict[str, Costs], machine: Machine) -> None:
    table = Table(
        "work",
        "tensor",
        "unit",
        "part",
        "read",
        "hash",
        "encode",
        "write",
        title=f"µs of one thread; for a unit of 1 M weights. The GIL changes hands in {machine.hand_over * 1e6:.0f} µs",
    )
    for work in works:
        it = costs[work.name]
        bytes_in, bytes_out = (CHUNK_WEIGHTS * bits / 8 for bits in (it.bits_in, it.bits_out))
        hashed = bytes_in + (0 if it.copied else bytes_out)
        each = (
            it.tensor,
            it.unit,
            it.part,
            it.read * bytes_in,
            it.hash * hashed,
            it.encode * CHUNK_WEIGHTS,
            it.write * bytes_out,
        )
        table.add_row(work.name, *(f"{1e6 * seconds:,.0f}" for seconds in each))
    Console(width=WIDTH).print(table)


def show_check(bench: Bench, works: Sequence[Kind], costs: dict[str, Costs], machine: Machine) -> None:
    """Predicted and measured. Other programs on the machine disturb the time more than the processor time."""
    table = Table(
        *("work", "model", "threads", "simulated", "measured", "processor time / threads"),
        title="Check: seconds, the shortest of several runs",
    )
    for work in works:
        for name, tensors in (("one tensor", [work.tensor]), ("1,000 of 256 weights", TENSORS)):
            for threads in (1, 2):
                simulated = simulate(tensors, costs[work.name], threads, machine).seconds
                runs = [bench.stream(work, tensors, threads, both_clocks) for _ in range(CHECKS)]
                wall, processor = np.min(runs, axis=0)
                row = f"{threads}", f"{simulated:.3f}", f"{wall:.3f}", f"{processor / threads:.3f}"
                table.add_row(work.name, name, *row)
    Console(width=WIDTH).print(table)


def both_clocks() -> NDArray[np.float64]:
    """Seconds of time, and of processor time of all threads."""
    return np.array([time.perf_counter(), time.process_time()])


def show_rehearsal(works: Sequence[Kind], costs: dict[str, Costs], machine: Machine) -> None:
    table = Table(
        "work",
        "threads",
        "simulated",
        "rehearsed",
        "ratio",
        title="Rehearsal: seconds; real threads that sleep for kernels",
    )
    for work in works:
        units = max(work.units, 256)
        tensors = [TensorInfo.from_name("output.weight", (units * CHUNK_WEIGHTS // COLS, COLS), "BF16")]
        for threads in (8, 16, 64):
            simulated = simulate(tensors, costs[work.name], threads, machine).seconds
            real = min(rehearse(tensors, costs[work.name], threads) for _ in range(3))
            table.add_row(
                work.name, f"{threads}", f"{simulated:.3f}", f"{real:.3f}", f"{simulated / real:.2f}"
            )
    Console(width=WIDTH).print(table)


def show_predictions(predictions: Sequence[Prediction]) -> None:
    table = Table("work", "model", *(f"{n}" for n in THREADS), "Mw/s", "binds", title="Efficiency by threads")
    for it in predictions:
        speed = it.weights / it.seconds[max(THREADS)] / 1e6
        table.add_row(
            it.work, it.model, *(f"{it.efficiency(n):.0%}" for n in THREADS), f"{speed:,.0f}", it.binds
        )
    Console(width=WIDTH).print(table)


if __name__ == "__main__":
    main()
