"""open_resident: the resident model, opened, in one of two ways.

    ResidentInSession   one process keeps it open; a probe exchanges the weights that it asks about, and no others
    ResidentInFile      where the engine can't be looked into: they are written over in a file, loaded for each probe

It is the model's own GGUF if that isn't quantized and fits into memory, and no copy is made then; else a temporary
file, in the most exact type that fits (`choose_type`).
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantrecipe.api import QuantFormat, Reduce
from quantrecipe.engine import Engine, EngineFacts, Session, engine_facts, find_engine
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import Positions, make_reference, score
from quantrecipe.measure.in_session import Held, inputs_of, put, used_of, write_part
from quantrecipe.measure.passes import WHOLE, Part, choose_type, own_type
from quantrecipe.measure.resident import Resident, Setting, Wish
from quantrecipe.memory.machine import detect_machine
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.jobs import Sink
from quantrecipe.output.write_errors import write_error
from quantrecipe.plan.plan_of import plan_of
from quantrecipe.plan.resolution import PlanSettings, resolve
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import Registry

__all__ = [
    "Exchange",
    "IntoSession",
    "ResidentInFile",
    "ResidentInSession",
    "held_in",
    "made_in",
    "open_in_session",
    "open_resident",
]

_RECIPES = {"F32": "llama.cpp/F32", "F16": "llama.cpp/F16", "BF16": "llama.cpp/BF16", "Q8_0": "pure/Q8_0"}


def open_resident(setting: Setting, names: Iterable[str], stack: ExitStack) -> Resident:
    """The resident model, ready for probes of the tensors of these names. `stack` closes what is opened.

    Where llama.cpp can't exchange weights, the reason is noted, and probes go through a file in Q8_0.
    EvaluationError where it can't run the model at all.
    """
    passes = setting.passes
    facts = engine_facts(find_engine(passes.engine))
    names = list(names)
    why = facts.sealed
    if not why:
        held, chosen = held_in(setting, facts)
        setting.progress.stage(f"probes in {chosen}")
        with ExitStack() as opened:
            try:
                exchange = _exchange(setting, held, names, facts.engine, opened)
            except EvaluationError as error:
                why = str(error)
            else:
                resident = ResidentInSession(setting, held, chosen, exchange, exchange.usable(names))
                stack.push(opened.pop_all())
                return resident
        if held is not setting.model:
            held.path.unlink()  # there may be no room for another
    chosen = passes.resident or "Q8_0"
    setting.progress.note(f"each probe writes and loads a file, which takes longer: {why}")
    setting.progress.stage(f"probes in {chosen}, in files")
    return ResidentInFile(setting, made_in(setting, chosen), chosen, stack, names)


def held_in(setting: Setting, facts: EngineFacts) -> tuple[Model, str]:
    """The GGUF that is to be open for probes, and its type: the model itself, or a file that is made here."""
    disk = shutil.disk_usage(setting.folder).free
    passes = setting.passes
    chosen = passes.resident or choose_type(setting.model, passes, facts, detect_machine(), disk)
    own = own_type(setting.model) == chosen
    return setting.model if own else made_in(setting, chosen), chosen


def open_in_session(
    setting: Setting, held: Model, type_: str, names: Sequence[str], engine: Engine, stack: ExitStack
) -> ResidentInSession:
    """The resident model in a session. EvaluationError where weights of these names can't be exchanged in it."""
    exchange = _exchange(setting, held, names, engine, stack)
    return ResidentInSession(setting, held, type_, exchange, exchange.usable(names))


def _exchange(
    setting: Setting, held: Model, names: Iterable[str], engine: Engine, stack: ExitStack
) -> Exchange:
    """A session that has the model open. EvaluationError where weights of these names can't be exchanged in it."""
    passes = setting.passes
    session = Session(
        held.files[0],
        threads=passes.threads,
        gpu_layers=passes.gpu_layers,
        engine=engine,
        writable=True,
    )
    exchange = Exchange(stack.enter_context(session), held, setting.registry)
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


class Exchange:
    """A session, and the file that it has open: weights are written, and read again from there."""

    def __init__(self, session: Session, held: Model, registry: Registry) -> None:
        self.session = session
        self._registry = registry
        self._types = {tensor.name: tensor.dtype for tensor in held.tensors}
        self._held = self.held_by(held)
        self._used: dict[str, bool] = {}
        self._lock = threading.Lock()

    def held_by(self, file: Model) -> dict[str, Held]:
        """By name, where a GGUF has its tensors."""
        found = {}
        for tensor in file.tensors:
            (extent,) = file.sources[tensor.name].extents
            fmt = self._registry.formats.get(tensor.dtype)
            found[tensor.name] = Held(
                name=tensor.name,
                ggml_type=-1 if fmt is None else fmt.spec.ggml_type,
                path=extent.path,
                offset=extent.offset,
                nbytes=extent.nbytes,
            )
        return found

    def usable(self, names: Iterable[str]) -> list[str]:
        """Those of the tensors that the engine uses. EvaluationError where one of these can't be exchanged."""
        names = list(names)
        new = [self._held[name] for name in names if name not in self._used and name in self._held]
        if new:
            used = set(self.session.call(used_of, new))
            self._used |= {held.name: held.name in used for held in new}
        return [name for name in names if self._used.get(name, False)]

    def format_of(self, name: str) -> QuantFormat:
        """The format that a tensor has in the file."""
        return self._registry.format(self._types[name])

    def write(self, name: str, data: memoryview, offset: int) -> None:
        """Replace bytes of a tensor; from any thread."""
        with self._lock:
            self.session.call(write_part, name, offset, np.frombuffer(data, np.uint8))

    def read_again(self, names: Sequence[str]) -> None:
        """Restore tensors."""
        self.put([self._held[name] for name in names])

    def put(self, tensors: Sequence[Held]) -> None:
        """Give tensors the bytes that they have in a file, which may be another: the types have to be the same."""
        self.session.call(put, tensors)


@dataclass(frozen=True, slots=True)
class IntoSession:
    """A Sink of one tensor."""

    exchange: Exchange
    name: str

    def write(self, data: memoryview, offset: int) -> None:
        self.exchange.write(self.name, data, offset)


class ResidentInSession(Resident):
    """One process keeps the model open. What it takes is the model itself, and a few MiB for each thread of ours."""

    def __init__(
        self, setting: Setting, held: Model, type_: str, exchange: Exchange, together: Iterable[str] = ()
    ) -> None:
        super().__init__(setting, held, type_, together)
        self._exchanged = exchange
        setting.progress.say("what it says of the text")
        self._reference = make_reference(
            exchange.session,
            setting.passes.texts,
            setting.folder / "resident.reference",
            n_ctx=setting.passes.n_ctx,
            chunks=setting.passes.chunks,
            spread=True,
            progress=self._part_done,
        )
        self._itself = self.score()

    @property
    def died(self) -> bool:
        """True where the process that has it open has ended by itself."""
        return self._exchanged.session.died

    def score(self, part: Part = WHOLE) -> Positions:
        return score(
            self._exchanged.session,
            self._reference,
            every=part.every,
            first=part.first,
            progress=self._part_done,
        )

    def _heeded(self, wishes: Mapping[str, Wish]) -> Mapping[str, Wish]:
        used = set(self._exchanged.usable(wishes))
        return {name: wish for name, wish in wishes.items() if name in used}

    def _sink(self, name: str) -> Sink:
        return IntoSession(self._exchanged, name)

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

    def __init__(
        self, setting: Setting, held: Model, type_: str, stack: ExitStack, together: Iterable[str] = ()
    ) -> None:
        super().__init__(setting, held, type_, together)
        passes = setting.passes
        setting.progress.say("what it says of the text")
        self._reference = make_reference(
            held.path,
            passes.texts,
            setting.folder / "file.reference",
            n_ctx=passes.n_ctx,
            chunks=passes.chunks,
            spread=True,
            threads=passes.threads,
            gpu_layers=passes.gpu_layers,
            engine=passes.engine,
            progress=self._part_done,
        )
        self._file = _InPlace(held.path)
        stack.callback(self._file.close)
        self._itself = self.score()

    def score(self, part: Part = WHOLE) -> Positions:
        passes = self._setting.passes
        return score(
            self._held.path,
            self._reference,
            every=part.every,
            first=part.first,
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
        """OutputError where it can't be opened, and later where it can't be written."""
        self._path = path
        self._lock = threading.Lock()
        try:
            self._file = path.open("r+b", buffering=0)
        except OSError as error:
            raise write_error(error, path) from error

    def write(self, data: memoryview, offset: int) -> None:
        data = data.cast("B")
        with self._lock:  # Windows has no positional writes, so seeking and writing belong together
            try:
                self._file.seek(offset)
                while data:
                    data = data[self._file.write(data) :]
            except OSError as error:
                raise write_error(error, self._path) from error

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class _From:
    """A Sink that begins somewhere in another."""

    sink: Sink
    begin: int

    def write(self, data: memoryview, offset: int) -> None:
        self.sink.write(data, self.begin + offset)
