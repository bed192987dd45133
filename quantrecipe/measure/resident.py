"""The resident model: what probes are made with, nearly exact, and what it says of the text when nothing is changed.

    ResidentInSession   one process keeps it open; a probe exchanges the weights that it asks about, and no others
    ResidentInFile      where the engine can't be looked into: they are written over in a file, loaded for each probe

It is the model's own GGUF if that isn't quantized and fits into memory, and no copy is made then; else a temporary
file, in the most exact type that fits (`choose_type`).

What that type does to a probe, besides what is asked about, is measured beside each one as its **floor**: the
divergence of the resident model from itself when the same tensors are only shaken, which is to change them by no more
than their type's own rounding may (`rounding.shaken`). It is run on a sixteenth of the chunks. Mostly it isn't the
weights that show in it: llama.cpp rounds the inputs of a matrix, too, to 8 bits where that is in Q8_0, and what changes
in a layer has them rounded in another way in all layers behind it. Every probe has this in it, so that what is less
can't be told from nothing.
"""

from __future__ import annotations

import shutil
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import xxhash
from numpy.typing import NDArray

from quantrecipe.api import Change, QuantFormat, Reduce
from quantrecipe.core.processors import usable_processors
from quantrecipe.engine import Engine, EngineFacts, Session, engine_facts, find_engine
from quantrecipe.errors import EvaluationError, NonFiniteError, SensitivityError
from quantrecipe.evaluate import (
    Positions,
    Reference,
    Text,
    difference,
    make_reference,
    make_reference_in,
    score,
    score_in,
)
from quantrecipe.importance.matrix import Importance
from quantrecipe.measure.in_session import Held, inputs_of, read_again, used_of, write_part
from quantrecipe.measure.progress import Progress
from quantrecipe.measure.rounding import Rounded, shaken
from quantrecipe.memory.machine import Machine, detect_machine
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.jobs import Job, Sink
from quantrecipe.output.progress import Silent
from quantrecipe.output.stream import Stream
from quantrecipe.plan.plan import Assignment
from quantrecipe.plan.plan_of import plan_of
from quantrecipe.plan.resolution import PlanSettings, resolve
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

__all__ = [
    "RESIDENT_TYPES",
    "Moved",
    "Passes",
    "Resident",
    "ResidentInFile",
    "ResidentInSession",
    "Setting",
    "Wish",
    "choose_type",
    "made_in",
    "open_resident",
]

_RECIPES = {"F32": "llama.cpp/F32", "F16": "llama.cpp/F16", "BF16": "llama.cpp/BF16", "Q8_0": "pure/Q8_0"}

RESIDENT_TYPES = tuple(_RECIPES)
"""The most exact first."""

_BYTES = {"F32": 4, "F16": 2, "BF16": 2}  # of a weight
_SHARE = 0.5
"""Of the memory that is available: the rest is for contexts, for what llama.cpp computes in, and for other programs."""
_EVERY = 16  # of so many chunks, one is run for the floor

Wish: TypeAlias = "str | Change"
"""What a probe makes of a tensor: the name of the type that it is rounded to, or what changes its rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Passes:
    """How a model is run for a probe.

    texts:    that it reads, the same amount of each
    tokens:   of all of them, at most
    n_ctx:    tokens in a chunk
    engine:   what runs it; None for what the environment names, or llama-cpp-python
    resident: type of the model in memory, of `RESIDENT_TYPES`; None for the most exact that fits
    """

    texts: tuple[Text, ...]
    tokens: int
    n_ctx: int = 512
    threads: int | None = None
    gpu_layers: int | None = None
    engine: Engine | None = None
    resident: str | None = None

    @property
    def chunks(self) -> int:
        """How many chunks of each text are read, if it has as many."""
        return max(1, self.tokens // (self.n_ctx * len(self.texts)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What is probed, and how. folder: for temporary files."""

    model: Model
    registry: Registry
    importance: Importance | None
    passes: Passes
    folder: Path
    progress: Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """How far the output moved, in nats.

    standard_error: of the mean, from the spread over tokens; it is at least the floor
    floor:          how far it moves when the same tensors are only shaken
    """

    kld: float
    standard_error: float
    floor: float = 0.0


def choose_type(model: Model, passes: Passes, facts: EngineFacts, machine: Machine, disk: int) -> str:
    """The type of the resident model: its own, if it isn't quantized and fits; else the most exact that fits.

    disk: bytes that are free for a temporary file
    """
    if (own := _own_type(model)) is not None and _fits(_stored_bytes(model), model, passes, facts, machine):
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


def _own_type(model: Model) -> str | None:
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


def open_resident(setting: Setting, names: Iterable[str], stack: ExitStack) -> Resident:
    """The resident model, ready for probes of the tensors of these names. `stack` closes what is opened.

    Where llama.cpp can't exchange weights, the reason is noted, and probes go through a file in Q8_0.
    EvaluationError where it can't run the model at all.
    """
    passes = setting.passes
    facts = engine_facts(find_engine(passes.engine))
    why = facts.sealed
    if not why:
        disk = shutil.disk_usage(setting.folder).free
        chosen = passes.resident or choose_type(setting.model, passes, facts, detect_machine(), disk)
        own = _own_type(setting.model) == chosen
        held = setting.model if own else made_in(setting, chosen)
        setting.progress.stage(f"probes in {chosen}")
        with ExitStack() as opened:
            try:
                exchange = _exchange(setting, held, names, facts.engine, opened)
            except EvaluationError as error:
                why = str(error)
            else:
                resident = ResidentInSession(setting, held, chosen, exchange)
                stack.push(opened.pop_all())
                return resident
        if not own:
            held.path.unlink()  # there may be no room for another
    chosen = passes.resident or "Q8_0"
    setting.progress.note(f"each probe writes and loads a file, which takes longer: {why}")
    setting.progress.stage(f"probes in {chosen}, in files")
    return ResidentInFile(setting, made_in(setting, chosen), chosen, stack)


def _exchange(
    setting: Setting, held: Model, names: Iterable[str], engine: Engine, stack: ExitStack
) -> _Exchange:
    """A session that has the model open. EvaluationError where weights of these names can't be exchanged in it."""
    passes = setting.passes
    session = Session(
        held.files[0],
        threads=passes.threads,
        gpu_layers=passes.gpu_layers,
        engine=engine,
        writable=True,
    )
    exchange = _Exchange(stack.enter_context(session), held, setting.registry)
    exchange.usable(names)
    return exchange


def made_in(setting: Setting, type_: str) -> Model:
    """The model as a temporary file in this type."""
    path = setting.folder / f"{type_}.gguf"
    setting.progress.say(f"the model in {type_}, to probe")
    recipe = load_recipe(_RECIPES[type_], registry=setting.registry)
    wanted = PlanSettings(allow_requantize=True, provenance=False)
    plan = plan_of(resolve(recipe, setting.model, setting.registry, settings=wanted))
    apply_plan(plan, path, registry=setting.registry, threads=setting.passes.threads)
    return open_model(path, registry=setting.registry)


class Resident(ABC):
    """The resident model. `type`: what its matrices have, of `RESIDENT_TYPES`; all but a few of them."""

    _reference: Reference
    _itself: Positions  # when nothing is changed

    def __init__(self, setting: Setting, held: Model, type_: str) -> None:
        """held: the GGUF that the engine has."""
        self.type = type_
        self._setting, self._held = setting, held
        self._tensors = {tensor.name: tensor for tensor in setting.model.tensors}
        self._dtypes = {tensor.name: tensor.dtype for tensor in held.tensors}
        # What isn't as it was: tensor → the type that it is rounded to, "" for anything else.
        self._now: dict[str, str] = {}

    def measure(self) -> Moved:
        """Run the chunks as the model is now, and compare with what is said when nothing is changed."""
        if not self._now:
            return Moved(kld=0.0, standard_error=0.0)
        kld, standard_error = difference(self.score(), self._itself)
        floor = self._floor()
        return Moved(kld=kld, standard_error=max(standard_error, floor), floor=floor)

    def inputs(self, names: Sequence[str], function: Reduce) -> Mapping[str, NDArray[np.float64]]:
        """What `function` makes of each matrix's inputs when nothing is changed, summed over the chunks."""
        self.change({})
        return self._inputs(names, function)

    def change(self, wishes: Mapping[str, Wish]) -> dict[str, str]:
        """Change these tensors, those that aren't yet as they are to be, and restore others that were changed.

        Digests of what `Change`s gave, by tensor name. What the engine doesn't use for text is left alone.
        """
        wishes = self._heeded(wishes)
        new = {name: wish for name, wish in wishes.items() if callable(wish) or self._now.get(name) != wish}
        others = sorted(self._now.keys() - wishes.keys())
        self._now |= dict.fromkeys(new, "")  # from here on, even if it fails halfway
        changes = [
            _Changed(
                change=wish, tensor=self._tensors[name], resident=self._format(name), sink=self._sink(name)
            )
            for name, wish in new.items()
            if callable(wish)
        ]
        jobs = [self._rounding(name, wish) for name, wish in new.items() if isinstance(wish, str)]
        jobs += [self._job(it.tensor, self._setting.registry.format("F32"), it) for it in changes]
        self._restore(others)
        self._stream(jobs)
        self._now = {name: wish if isinstance(wish, str) else "" for name, wish in wishes.items()}
        return {it.tensor.name: it.digest for it in changes}

    def _stream(self, jobs: Sequence[Job]) -> None:
        Stream(
            self._setting.model,
            jobs,
            self._setting.registry,
            threads=self._setting.passes.threads or usable_processors(),
            nan="error",
            progress=Silent(),
        ).run()

    def _rounding(self, name: str, type_: str) -> Job:
        tensor, matrix = self._tensors[name], self._setting.importance
        inner = self._setting.registry.format(type_)
        used = matrix is not None and matrix.covers(tensor) and inner.spec.importance != "ignored"
        job = self._job(tensor, Rounded(self._format(name), inner), self._sink(name))
        return replace(job, assignment=replace(job.assignment, importance=used), importance=matrix)

    def _job(self, tensor: TensorInfo, fmt: QuantFormat, sink: Sink) -> Job:
        """The tensor, in this format, on its way to where it lies; offsets count from there."""
        nbytes = fmt.spec.tensor_bytes(tensor.shape)
        return Job(
            assignment=Assignment(tensor=tensor, format=fmt, nbytes=nbytes, offset=0, because="a probe"),
            sink=sink,
        )

    def _format(self, name: str) -> QuantFormat:
        """The format that a tensor has in the resident model."""
        return self._setting.registry.format(self._dtypes[name])

    def _part_done(self, done: int, total: int) -> None:
        self._setting.progress.share(done / total)

    def _heeded(self, wishes: Mapping[str, Wish]) -> Mapping[str, Wish]:
        """Those wishes that can make a difference."""
        return wishes

    def _floor(self) -> float:
        """The divergence when what is changed is shaken instead; it is spoilt then."""
        names = list(self._now)
        self._now = dict.fromkeys(names, "")
        self._stream(
            [
                self._job(self._tensors[it], self._format(it), _Shaking(self._sink(it), it, self._dtypes[it]))
                for it in names
            ]
        )
        moved, _ = difference(self.score(every=_EVERY), _every(self._itself, self._reference.scored, _EVERY))
        return max(moved, 0.0)

    @abstractmethod
    def score(self, *, every: int = 1) -> Positions:
        """Run the model as it is now, over each n-th chunk."""

    @abstractmethod
    def _sink(self, name: str) -> Sink:
        """Where the bytes of a tensor go; the first is at 0."""

    @abstractmethod
    def _restore(self, names: Sequence[str]) -> None: ...

    @abstractmethod
    def _inputs(self, names: Sequence[str], function: Reduce) -> Mapping[str, NDArray[np.float64]]: ...


class _Exchange:
    """A session, and the file that it has open: weights are written, and read again from there."""

    def __init__(self, session: Session, held: Model, registry: Registry) -> None:
        self.session = session
        self._held: dict[str, Held] = {}
        for tensor in held.tensors:
            (extent,) = held.sources[tensor.name].extents
            fmt = registry.formats.get(tensor.dtype)
            self._held[tensor.name] = Held(
                name=tensor.name,
                ggml_type=-1 if fmt is None else fmt.spec.ggml_type,
                path=extent.path,
                offset=extent.offset,
                nbytes=extent.nbytes,
            )
        self._used: dict[str, bool] = {}
        self._lock = threading.Lock()

    def usable(self, names: Iterable[str]) -> list[str]:
        """Those of the tensors that the engine uses. EvaluationError where one of these can't be exchanged."""
        names = list(names)
        new = [self._held[name] for name in names if name not in self._used and name in self._held]
        if new:
            used = set(self.session.call(used_of, new))
            self._used |= {held.name: held.name in used for held in new}
        return [name for name in names if self._used.get(name, False)]

    def write(self, name: str, data: memoryview, offset: int) -> None:
        """Replace bytes of a tensor; from any thread."""
        with self._lock:
            self.session.call(write_part, name, offset, np.frombuffer(data, np.uint8))

    def read_again(self, names: Sequence[str]) -> None:
        """Restore tensors."""
        self.session.call(read_again, [self._held[name] for name in names])


@dataclass(frozen=True, slots=True)
class _IntoSession:
    """A Sink of one tensor."""

    exchange: _Exchange
    name: str

    def write(self, data: memoryview, offset: int) -> None:
        self.exchange.write(self.name, data, offset)


class ResidentInSession(Resident):
    """One process keeps the model open. What it takes is the model itself, and a few MiB for each thread of ours."""

    def __init__(self, setting: Setting, held: Model, type_: str, exchange: _Exchange) -> None:
        super().__init__(setting, held, type_)
        self._exchanged = exchange
        setting.progress.say("what it says of the text")
        self._reference: Reference = make_reference_in(
            exchange.session,
            setting.passes.texts,
            setting.folder / "resident.reference",
            n_ctx=setting.passes.n_ctx,
            chunks=setting.passes.chunks,
            progress=self._part_done,
        )
        self._itself = self.score()

    def score(self, *, every: int = 1) -> Positions:
        return score_in(self._exchanged.session, self._reference, every=every, progress=self._part_done)

    def _heeded(self, wishes: Mapping[str, Wish]) -> Mapping[str, Wish]:
        used = set(self._exchanged.usable(wishes))
        return {name: wish for name, wish in wishes.items() if name in used}

    def _sink(self, name: str) -> Sink:
        return _IntoSession(self._exchanged, name)

    def _restore(self, names: Sequence[str]) -> None:
        if names:
            self._exchanged.read_again(names)

    def _inputs(self, names: Sequence[str], function: Reduce) -> Mapping[str, NDArray[np.float64]]:
        return self._exchanged.session.call(
            inputs_of,
            self._reference.path,
            list(names),
            function,
            hear=lambda done: self._part_done(*done),
        )


class ResidentInFile(Resident):
    """A file that is written over in place, and loaded anew for each probe."""

    def __init__(self, setting: Setting, held: Model, type_: str, stack: ExitStack) -> None:
        super().__init__(setting, held, type_)
        passes = setting.passes
        setting.progress.say("what it says of the text")
        self._reference: Reference = make_reference(
            held.path,
            passes.texts,
            setting.folder / "file.reference",
            n_ctx=passes.n_ctx,
            chunks=passes.chunks,
            threads=passes.threads,
            gpu_layers=passes.gpu_layers,
            engine=passes.engine,
            progress=self._part_done,
        )
        self._file = _InPlace(held.path)
        stack.callback(self._file.close)
        self._itself = self.score()

    def score(self, *, every: int = 1) -> Positions:
        passes = self._setting.passes
        return score(
            self._held.path,
            self._reference,
            every=every,
            threads=passes.threads,
            gpu_layers=passes.gpu_layers,
            engine=passes.engine,
            progress=self._part_done,
        )

    def _sink(self, name: str) -> Sink:
        (extent,) = self._held.sources[name].extents
        return _From(self._file, extent.offset)

    def _restore(self, names: Sequence[str]) -> None:
        # What was in the file is gone, so it is made again.
        self._stream([self._job(self._tensors[it], self._format(it), self._sink(it)) for it in names])

    def _inputs(self, names: Sequence[str], function: Reduce) -> Mapping[str, NDArray[np.float64]]:
        what = "the inputs of matrices can't be seen: this llama.cpp can't be looked into"
        raise EvaluationError(what, "a note said why; use another llama.cpp with --engine")


class _InPlace:
    """A finished file, written at any offset from any thread."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b", buffering=0)
        self._lock = threading.Lock()

    def write(self, data: memoryview, offset: int) -> None:
        with self._lock:  # Windows has no positional writes, so seeking and writing belong together
            self._file.seek(offset)
            data = data.cast("B")
            while data:
                data = data[self._file.write(data) :]

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class _From:
    """A Sink that begins somewhere in another."""

    sink: Sink
    begin: int

    def write(self, data: memoryview, offset: int) -> None:
        self.sink.write(data, self.begin + offset)


@dataclass(frozen=True, slots=True)
class _Shaking:
    """A Sink that shakes what goes through it, each part in the same way whichever thread brings it."""

    sink: Sink
    name: str
    type: str

    def write(self, data: memoryview, offset: int) -> None:
        rng = np.random.default_rng([*self.name.encode(), offset])
        self.sink.write(shaken(np.frombuffer(data, np.uint8), self.type, rng).data, offset)


class _Changed:
    """A Sink for a tensor's own rows as float32: a Change makes others of them, which go on in the resident type."""

    def __init__(self, *, change: Change, tensor: TensorInfo, resident: QuantFormat, sink: Sink) -> None:
        self.tensor = tensor
        self._change, self._resident, self._sink = change, resident, sink
        self._digests: dict[int, bytes] = {}

    @property
    def digest(self) -> str:
        """Of all rows that were given; the same whichever thread made which of them."""
        return xxhash.xxh3_128_hexdigest(b"".join(self._digests[start] for start in sorted(self._digests)))

    def write(self, data: memoryview, offset: int) -> None:
        cols = self.tensor.cols
        rows = np.frombuffer(data, np.float32).reshape(-1, cols)
        rows.flags.writeable = False
        start = offset // rows.itemsize // cols
        made = self._change(rows, start)
        if not (isinstance(made, np.ndarray) and made.dtype == np.float32 and made.shape == rows.shape):
            given = f"{made.dtype} {made.shape}" if isinstance(made, np.ndarray) else type(made).__name__
            what = (
                f"{self.tensor.name}, rows from {start}: other weights are {given}, not float32 {rows.shape}"
            )
            raise SensitivityError(what, "this is a bug of the analysis: tell its author")
        self._digests[start] = xxhash.xxh3_128_digest(np.ascontiguousarray(made).data)
        try:
            encoded = self._resident.encode(made)
        except NonFiniteError as error:
            raise NonFiniteError(f"{self.tensor.name}, rows from {start}: other weights: {error}") from error
        self._sink.write(encoded.data, start * self._resident.spec.row_bytes(cols))


def _every(positions: Positions, scored: int, every: int) -> Positions:
    """The positions of each n-th chunk, as `run_model` has them."""
    starts = range(0, len(positions), scored * every)
    return Positions.join([positions[start : start + scored] for start in starts])
