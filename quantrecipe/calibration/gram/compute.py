"""compute_gram: the Gram matrices of a model's inputs, from texts, into a folder.

    grams = compute_gram("model.bf16.gguf", domains, "grams", settings)
    grams["blk.0.attn_q.weight"]

The matrices of a model are larger than its weights, so only those of some layers are in memory at a time, and the texts
are run once for each such part: no further than to the last of its inputs. What a pass has finished is on the disk, and
is never computed again.

With `behind`, inputs are collected in stages, and the model is changed between them (`refine` puts what is quantized
into it): later inputs are those that the changed model has. What the changes are is part of a folder's name, and they
are made again by a run that goes on, so that they have to depend on nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, groupby
from pathlib import Path
from typing import Protocol, Unpack

from quantrecipe.calibration.collect import Group, Ran
from quantrecipe.calibration.compute import (
    CalibrationSettings,
    Prepared,
    check_settings,
    hash_of_files,
    prepare,
    provenance_of,
)
from quantrecipe.calibration.gram.collect import Experts, GramInput, Pass, Survey, collect_grams, survey
from quantrecipe.calibration.gram.folder import GramEntry, GramIndex, Grams, write_index
from quantrecipe.engine.session import RunOptions, Session
from quantrecipe.errors import ImportanceError, OutputError
from quantrecipe.importance.provenance import Provenance
from quantrecipe.memory.machine import detect_machine
from quantrecipe.model.fingerprint import fingerprint
from quantrecipe.model.open_model import open_model
from quantrecipe.output.space import require_space
from quantrecipe.tensor import split_name
from quantrecipe.texts.documents import Domain, Rendered
from quantrecipe.units import bytes_text

__all__ = ["Behind", "GramPlan", "Heard", "compute_gram"]

_VERSION = 1  # of what a folder's name is made of: another one, and nothing is found again
_SHARE = (
    0.5  # of the memory that the model leaves: other programs want some, and so does the cache of its file
)
_SURVEYED = 2048  # tokens at most, to see how long they take


@dataclass(frozen=True, kw_only=True, slots=True)
class GramPlan:
    """What will be computed, before it is.

    folder:   that the matrices go to
    inputs:   all of the model, in the order of its graph
    done:     the names of those that an earlier run finished
    passes:   the names of the others, by the pass that computes them
    nbytes:   that are still to be written
    memory:   bytes that the largest pass takes, besides the model
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


Heard = Callable[["Prepared | GramPlan | Ran | GramEntry"], None]
"""Told what happens: `Prepared` and `GramPlan`, before anything is computed, unless it is all there; `Ran` with the
tokens of all passes so far; and each `GramEntry` that is finished."""


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
    **running: Unpack[RunOptions],
) -> Grams:
    """Run a GGUF over domains, each with its documents as they are tokenised, and write E[x xᵀ] of its inputs.

    folder:   where a folder of them is made, or found: what is there already isn't computed
    settings: contexts, chunks, skip and output say what is run; the others say nothing here
    experts:  "shared": one matrix for all experts of a tensor; "each": one for each, from the tokens that go to it
    layers:   whose inputs are computed in one pass; None for as many as half of the free memory takes
    origin:   which model it is (fingerprint, model), and the template that wrote chats; None for what the file says
    behind:   what is done to the model between stages; None where it stays as it is
    EvaluationError where llama.cpp, the model or a text isn't fit for it; OutputError where the disk has no room, or
    the memory none for a single input; ImportanceError for a folder that is damaged.
    """
    settings, hear = settings or CalibrationSettings(), hear or _nothing
    check_settings(settings)
    if layers is not None and layers < 1:
        raise ImportanceError(f"{layers} layers at a time are none", "leave it out for as many as fit")
    path = Path(model)
    with Session(path, writable=behind is not None, **running) as session:
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
        plan = _planned(work, seen, index, layers, path, prepared.all_tokens, behind)
        _make(work, plan)
        hear(plan)
        at: int | None = None
        for number, (names, stage) in enumerate(zip(plan.passes, plan.stages, strict=True)):
            if behind is not None and stage != at:
                behind.before(session, stage, Grams(folder=work, index=index))
            at = stage
            before = number * prepared.all_tokens
            inputs = tuple(it for it in seen.inputs if it.name in names)

            def heard(what: Ran | GramEntry, before: int = before) -> None:
                nonlocal index
                if isinstance(what, GramEntry):
                    index = index.with_input(what)
                    write_index(work, index)
                    hear(what)
                else:
                    hear(replace(what, tokens=before + what.tokens))

            wanted = [name for name in seen.visits if name in names]
            one = Pass(
                groups=schedule.groups,
                inputs=inputs,
                last=(len(wanted), wanted[-1]),
                output=settings.output,
                experts=experts,
                folder=work.resolve(),
            )
            session.call(collect_grams, one, hear=heard)
    return Grams(folder=work, index=index)


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
    model: Path,
    tokens: int,
    behind: Behind | None,
) -> GramPlan:
    done = frozenset(it.name for it in index.inputs)
    left = [it for it in seen.inputs if it.name not in done]
    room = _room(model)
    passes, stages = list[list[GramInput]](), list[int]()
    for number, stage in enumerate([seen.inputs] if behind is None else behind.stages(seen.inputs)):
        its = [it for it in stage if it.name not in done]
        passes += _by_layers(its, layers) if layers is not None else _by_memory(its, room)
        stages += [number] * (len(passes) - len(stages))
    memory = max((sum(it.memory for it in one) for one in passes), default=0)
    largest = max(left, key=lambda it: it.memory, default=None)
    free = detect_machine().ram_free
    if largest is not None and largest.memory > free:
        what = (
            f"the Gram matrices of {largest.name} take {bytes_text(largest.memory)} of memory while they are computed "
            f"({largest.matrices} × {largest.columns:,} × {largest.columns:,}), and {bytes_text(free)} are free"
        )
        remedy = (
            "--gram-experts shared takes one for all experts" if largest.by_expert else "close other programs"
        )
        raise OutputError(what, remedy)
    whole = len(seen.visits)
    last = {name: place + 1 for place, name in enumerate(seen.visits)}
    seconds = sum(
        tokens * seen.seconds * max(last[it.name] for it in one) / whole
        + sum(tokens * seen.rows[it.name] * it.operations / seen.operations for it in one)
        for one in passes
    )
    return GramPlan(
        folder=folder,
        inputs=seen.inputs,
        done=done,
        passes=tuple(tuple(it.name for it in one) for one in passes),
        nbytes=sum(it.nbytes for it in left),
        memory=memory,
        seconds=seconds,
        tokens=tokens,
        stages=tuple(stages),
    )


def _room(model: Path) -> int:
    """Bytes that a pass may take: half of what is free, when the model's file is in memory as well."""
    free = detect_machine().ram_free
    return int(_SHARE * max(free - model.stat().st_size, free // 4))


def _by_layers(inputs: Sequence[GramInput], layers: int) -> list[list[GramInput]]:
    """The inputs of so many layers in each pass; what belongs to none, the output, is a layer of its own."""
    each = [list(some) for _, some in groupby(inputs, key=lambda it: split_name(it.name)[0])]
    return [list(chain(*each[start : start + layers])) for start in range(0, len(each), layers)]


def _by_memory(inputs: Sequence[GramInput], room: int) -> list[list[GramInput]]:
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


def _make(folder: Path, plan: GramPlan) -> None:
    """The folder, without what a killed run left of a file. OutputError where it can't be made, or has no room."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"the folder {folder} can't be made ({error.strerror or error})"
        raise OutputError(what, "name another folder") from error
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
