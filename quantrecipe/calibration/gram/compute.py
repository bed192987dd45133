"""compute_gram: the Gram matrices of a model's inputs, from texts, into a folder.

    grams = compute_gram("model.bf16.gguf", domains, "grams", settings)
    grams["blk.0.attn_q.weight"]

The matrices of a model are larger than its weights, so only those of some layers are in memory at a time, and the texts
are run once for each such part: no further than to the last of its inputs. What a pass has finished is on the disk, and
is never computed again. With an executor, workers have such parts (`by_executor`), and the files are the same.

With `behind`, inputs are collected in stages, and the model is changed between them (`refine` puts what is quantized
into it): later inputs are those that the changed model has. What the changes are is part of a folder's name, and they
are made again by a run that goes on, so that they have to depend on nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Unpack

from quantrecipe.calibration.by_executor import Elsewhere, open_elsewhere
from quantrecipe.calibration.collect import Group, Ran, WorkerNote
from quantrecipe.calibration.compute import (
    CalibrationSettings,
    Prepared,
    check_settings,
    hash_of_files,
    prepare,
    provenance_of,
)
from quantrecipe.calibration.gram.by_executor import Share, made_elsewhere, memory_there, remove_shares
from quantrecipe.calibration.gram.collect import Experts, GramInput, Pass, Survey, collect_grams, survey
from quantrecipe.calibration.gram.folder import GramEntry, GramIndex, Grams, write_index
from quantrecipe.calibration.gram.passes import (
    by_layers,
    by_memory,
    largest_input,
    memory_beside,
    seconds_of,
    seconds_together,
    shared_out,
)
from quantrecipe.engine import Engine
from quantrecipe.engine.session import RunOptions, Session
from quantrecipe.errors import ImportanceError, OutputError
from quantrecipe.importance.provenance import Provenance
from quantrecipe.model.fingerprint import fingerprint
from quantrecipe.model.open_model import open_model
from quantrecipe.output.space import require_space
from quantrecipe.texts.documents import Domain, Rendered
from quantrecipe.units import bytes_text

if TYPE_CHECKING:
    from quantrecipe.api import Executor

__all__ = ["Behind", "GramPlan", "Heard", "compute_gram"]

_VERSION = 1  # of what a folder's name is made of: another one, and nothing is found again
_SURVEYED = 2048  # tokens at most, to see how long they take
_WORK = 1000  # of a task, for each second that it should take


@dataclass(frozen=True, kw_only=True, slots=True)
class GramPlan:
    """What will be computed, before it is.

    folder:   that the matrices go to
    inputs:   all of the model, in the order of its graph
    done:     the names of those that an earlier run finished
    passes:   the names of the others, by the pass that computes them
    nbytes:   that are still to be written
    memory:   bytes that the largest pass takes, besides the model
    workers:  of an executor, each of which has a pass at a time; 0 where this process has all of them
    seconds:  that all passes take, about
    tokens:   of the texts, each of which every input gets; experts get some of them
    stages:   for each pass, the stage that it belongs to; all 0 where the model stays as it is
    """

    folder: Path
    inputs: tuple[GramInput, ...]
    done: frozenset[str]
    passes: tuple[tuple[str, ...], ...]
    nbytes: int
    memory: int
    seconds: float
    tokens: int
    stages: tuple[int, ...]
    workers: int = 0

    @property
    def singular(self) -> tuple[GramInput, ...]:
        """Inputs with more columns than there are tokens: their matrices have no inverse without damping."""
        return tuple(it for it in self.inputs if it.columns > self.tokens and not it.by_expert)


class Behind(Protocol):
    """What is done to the model between stages.

    key:  all that decides what is done: part of the digest
    said: the same for people
    """

    @property
    def key(self) -> str: ...
    @property
    def said(self) -> str: ...
    def stages(self, inputs: Sequence[GramInput]) -> Sequence[Sequence[GramInput]]:
        """All inputs, in their order, divided into stages."""
        ...

    def before(self, session: Session, stage: int, grams: Grams) -> None:
        """Change the model for a stage. Stages come in order, without those that are finished already.

        session: has the model open, writable
        grams:   of the inputs of all stages before
        """
        ...


Heard = Callable[["Prepared | GramPlan | Ran | GramEntry | WorkerNote"], None]
"""Told what happens: `Prepared` and `GramPlan`, before anything is computed, unless it is all there; `Ran` with the
tokens of all passes so far; and each `GramEntry` that is finished. An executor's `Ran` counts whole passes, and
`WorkerNote`, at any time, is what becomes of its workers."""


def compute_gram(
    model: str | Path,
    domains: Sequence[tuple[Domain, Sequence[Rendered]]],
    folder: str | Path,
    settings: CalibrationSettings | None = None,
    *,
    experts: Experts = "shared",
    layers: int | None = None,
    origin: Provenance | None = None,
    behind: Behind | None = None,
    hear: Heard | None = None,
    executor: Executor | None = None,
    memory: int = 0,
    **running: Unpack[RunOptions],
) -> Grams:
    """Run a GGUF over domains, each with its documents as they are tokenised, and write E[x xᵀ] of its inputs.

    folder:   where a folder of them is made, or found: what is there already isn't computed
    settings: contexts, chunks, skip and output say what is run; the others say nothing here
    experts:  "shared": one matrix for all experts of a tensor; "each": one for each, from the tokens that go to it
    layers:   whose inputs are computed in one pass; None for as many as half of the free memory takes
    origin:   which model it is (fingerprint, model), and the template that wrote chats; None for what the file says
    behind:   what is done to the model between stages; None where it stays as it is
    executor: whose workers run the model; None for this machine alone. They see the GGUF and the folder under the same
              paths, and have the same llama.cpp
    memory:   bytes that each of them takes for the model, about; 0 where nobody knows
    EvaluationError where llama.cpp, the model or a text isn't fit for it; OutputError where the disk has no room, the
    memory none for a single input, or a worker doesn't see the folder; ImportanceError for a folder that is damaged, or
    for workers that would have to change the model (`behind`); PluginError where workers can't be opened or are all
    gone.
    """
    settings, hear = settings or CalibrationSettings(), hear or _nothing
    check_settings(settings)
    if layers is not None and layers < 1:
        raise ImportanceError(f"{layers} layers at a time are none", "leave it out for as many as fit")
    if executor is not None and behind is not None:
        what = "workers can't change the model between stages"
        raise ImportanceError(what, "leave out the executor, or collect inputs of the model as it is")
    path = Path(model)
    with ExitStack() as ended, ExitStack() as opened:  # the first one ends last
        session: Session | Elsewhere
        if executor is None:
            session = opened.enter_context(Session(path, writable=behind is not None, **running))
        else:
            memory += largest_input(open_model(path), experts, output=settings.output)
            asked = running.get("gpu_layers"), running.get("engine")
            session = opened.enter_context(_elsewhere(executor, path, memory, hear, *asked))
        schedule, prepared = prepare(session, domains, settings)
        index = _new_index(path, domains, settings, experts, prepared, origin, schedule.groups, behind)
        work = Path(folder) / index.digest
        found = GramIndex.read(work)
        if found is not None and found.complete:
            return Grams(folder=work, index=found)
        hear(prepared)
        seen: Survey = session.call(survey, _few(schedule.groups), settings.output, experts)
        if not seen.inputs:
            what = "llama.cpp multiplies no matrix of a layer with enough tokens: there is nothing to compute"
            raise ImportanceError(what, "a longer --context gives matrices more tokens at a time", file=path)
        index = found or replace(index, of=len(seen.inputs))
        plan = _planned(work, seen, index, layers, session, path, prepared.all_tokens, behind)
        _make(work, plan)
        hear(plan)
        whole = Pass(
            groups=schedule.groups,
            inputs=seen.inputs,
            last=(len(seen.visits), seen.visits[-1]),
            output=settings.output,
            experts=experts,
            folder=work.resolve(),
        )
        run = _Run(plan, seen, whole, index, hear)
        if isinstance(session, Elsewhere):
            ended.callback(remove_shares, work)
            run.elsewhere(session)
        else:
            run.here(session, behind)
    return Grams(folder=work, index=run.index)


def _elsewhere(
    executor: Executor,
    model: Path,
    memory: int,
    hear: Heard,
    gpu_layers: int | None,
    engine: Engine | str | Path | None,
) -> AbstractContextManager[Elsewhere]:
    return open_elsewhere(executor, model, hear, memory=memory, gpu_layers=gpu_layers, engine=engine)


class _Run:
    """The passes of a plan, here or elsewhere. whole: all inputs in one pass"""

    def __init__(self, plan: GramPlan, seen: Survey, whole: Pass, index: GramIndex, hear: Heard) -> None:
        self.index = index
        self._plan, self._seen, self._whole, self._hear = plan, seen, whole, hear

    def here(self, session: Session, behind: Behind | None) -> None:
        """One after the other, with the model that is open."""
        plan, at = self._plan, None
        for number, (names, stage) in enumerate(zip(plan.passes, plan.stages, strict=True)):
            if behind is not None and stage != at:
                behind.before(session, stage, Grams(folder=plan.folder, index=self.index))
            at = stage
            session.call(collect_grams, self._pass(names), hear=partial(self._heard, number * plan.tokens))

    def elsewhere(self, elsewhere: Elsewhere) -> None:
        """By workers, each of which has one of them at a time; the longest are begun first."""
        plan, seen = self._plan, self._seen
        shares = []
        for names in plan.passes:
            work = self._pass(names)
            seconds = seconds_of(seen, work.inputs, plan.tokens)
            share = Share(work=work, visits=seen.visits, workers=elsewhere.per_machine)
            shares.append((1 + int(_WORK * seconds), share))
        shares.sort(key=lambda it: -it[0])
        for number, entries in enumerate(made_elsewhere(elsewhere, shares, plan.folder)):
            for entry in entries:
                self._note(entry)
            self._hear(Ran(groups=len(self._whole.groups), tokens=(number + 1) * plan.tokens))

    def _pass(self, names: Sequence[str]) -> Pass:
        inputs = tuple(it for it in self._seen.inputs if it.name in names)
        wanted = [name for name in self._seen.visits if name in names]
        return replace(self._whole, inputs=inputs, last=(len(wanted), wanted[-1]))

    def _heard(self, before: int, what: Ran | GramEntry) -> None:
        """before: tokens of the passes before this one"""
        if isinstance(what, GramEntry):
            self._note(what)
        else:
            self._hear(replace(what, tokens=before + what.tokens))

    def _note(self, entry: GramEntry) -> None:
        self.index = self.index.with_input(entry, [it.name for it in self._seen.inputs])
        write_index(self._plan.folder, self.index)
        self._hear(entry)


def _new_index(
    model: Path,
    domains: Sequence[tuple[Domain, Sequence[Rendered]]],
    settings: CalibrationSettings,
    experts: Experts,
    prepared: Prepared,
    origin: Provenance | None,
    groups: Sequence[Group],
    behind: Behind | None,
) -> GramIndex:
    """An index without inputs. Its digest is of the model's bytes, the tokens, what each counts, and the engine."""
    if origin is None:
        origin = Provenance(fingerprint=str(fingerprint(open_model(model))), model=hash_of_files([model]))
    digest = hashlib.blake2b(digest_size=16)
    facts = [
        _VERSION,
        *(origin.fingerprint, origin.model, origin.template),
        *(experts, settings.output, prepared.facts.engine),
    ]
    if behind is not None:  # so that digests without it stay as they were
        facts.append(behind.key)
    digest.update(json.dumps(facts).encode())
    for group in groups:
        digest.update(f"{group.chunks.shape} {group.weight!r}\n".encode())
        digest.update(group.chunks.astype("<i4").tobytes())
    return GramIndex(
        digest=digest.hexdigest(),
        experts=experts,
        provenance=provenance_of(
            origin, [domain for domain, _ in domains], prepared, settings, prepared.tokens
        ),
        inputs=(),
        of=0,
        behind="" if behind is None else behind.said,
    )


def _planned(
    folder: Path,
    seen: Survey,
    index: GramIndex,
    layers: int | None,
    session: Session | Elsewhere,
    model: Path,
    tokens: int,
    behind: Behind | None,
) -> GramPlan:
    done = frozenset(it.name for it in index.inputs)
    left = [it for it in seen.inputs if it.name not in done]
    seconds = partial(seconds_of, seen, tokens=tokens)
    if isinstance(session, Elsewhere):
        workers, memory = session.width, session.call(memory_there, session.per_machine)
    else:
        workers, memory = 0, memory_beside(model)
    passes, stages = list[list[GramInput]](), list[int]()
    for number, stage in enumerate([seen.inputs] if behind is None else behind.stages(seen.inputs)):
        its = [it for it in stage if it.name not in done]
        if layers is not None:
            passes += by_layers(its, layers)
        elif workers:
            passes += shared_out(its, memory.room, workers, seconds)
        else:
            passes += by_memory(its, memory.room)
        stages += [number] * (len(passes) - len(stages))
    largest = max(left, key=lambda it: it.memory, default=None)
    if largest is not None and largest.memory > memory.free:
        what = (
            f"the Gram matrices of {largest.name} take {bytes_text(largest.memory)} of memory while they are computed "
            f"({largest.matrices} × {largest.columns:,} × {largest.columns:,}), and {bytes_text(memory.free)} are free"
        )
        remedy = (
            "--gram-experts shared takes one for all experts" if largest.by_expert else "close other programs"
        )
        raise OutputError(what, remedy)
    each = [seconds(one) for one in passes]
    return GramPlan(
        folder=folder,
        inputs=seen.inputs,
        done=done,
        passes=tuple(tuple(it.name for it in one) for one in passes),
        nbytes=sum(it.nbytes for it in left),
        memory=max((sum(it.memory for it in one) for one in passes), default=0),
        seconds=seconds_together(sorted(each, reverse=True), workers) if workers else sum(each),
        tokens=tokens,
        stages=tuple(stages),
        workers=workers,
    )


def _make(folder: Path, plan: GramPlan) -> None:
    """The folder, without what a killed run left of a file. OutputError where it can't be made, or has no room."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"the folder {folder} can't be made ({error.strerror or error})"
        raise OutputError(what, "name another folder") from error
    remove_shares(folder)
    for left in folder.glob("*.part"):
        with suppress(OSError):
            left.unlink()
    wanted = [it for it in plan.inputs if it.name not in plan.done]
    require_space(((folder / f"{it.name}.npy", it.nbytes) for it in wanted), remedy=_REMEDY)


_REMEDY = "free some space, or name a folder on another disk"


def _few(groups: Sequence[Group]) -> Group:
    """A group that is run to look: the first, but no more of it than takes a moment."""
    first = groups[0]
    count = max(1, _SURVEYED // first.chunks.shape[1])
    return replace(first, chunks=first.chunks[:count])


def _nothing(what: object) -> None:
    """Hears what happens where nobody asked."""
