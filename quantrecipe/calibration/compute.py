"""compute_importance: an importance matrix of a model, from texts.

    computed = compute_importance("model.bf16.gguf", domains, "importance.gguf", settings)
    computed.measurement      what `encode_gguf` writes

The model is open in one process, or in those of an executor (`by_executor`): the sums are the same, to the bit. They
are kept in a file beside the matrix while a run lasts. A run that was stopped, or that died with the engine, is gone on
from when the same command is given again, and ends in the same file as if it hadn't been stopped; so is one that an
executor did a part of.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import xxhash

import quantrecipe
from quantrecipe.calibration.by_executor import Elsewhere, open_elsewhere
from quantrecipe.calibration.chunks import DomainTokens, Schedule, schedule
from quantrecipe.calibration.collect import (
    Another,
    Change,
    Collected,
    Filling,
    Group,
    Ran,
    Refill,
    Saved,
    Unusable,
    Work,
    WorkerNote,
    collect,
    collect_parts,
    fill_experts,
    fill_parts,
    tokenize,
)
from quantrecipe.calibration.sums import SumsFile
from quantrecipe.engine.language_model import LanguageModel, ModelFacts
from quantrecipe.engine.session import RunOptions, Session, Tell
from quantrecipe.errors import ImportanceError
from quantrecipe.gguf.header import read_header
from quantrecipe.gguf.values import metadata_text
from quantrecipe.importance.measurement import Measurement, chunks_of
from quantrecipe.importance.provenance import CalibrationText, Provenance
from quantrecipe.remote_files import file_pieces
from quantrecipe.texts.documents import Domain, Rendered
from quantrecipe.whole_file import remove_unfinished

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantrecipe.api import Executor

__all__ = [
    "CalibrationSettings",
    "Computed",
    "Heard",
    "Prepared",
    "UncoveredExperts",
    "check_settings",
    "compute_importance",
    "hash_of_files",
    "prepare",
    "provenance_of",
    "sums_path",
]

_EVERY = 60.0  # seconds between two saves
_FILLING_TOKENS = 4096  # at least, that go through all experts: each gets a mean over as many
_MOST_CHUNKS = 2**63 - 1  # of which the matrix's metadata can say that they were asked for
_SMALLEST_CONTEXT = 16  # tokens; imatrix.cpp looks at no input that has fewer

Heard = Callable[["Prepared | Another | Unusable | Ran | Change | Saved | Refill | WorkerNote"], None]
"""Told what happens: `Prepared` once, before anything runs; then the others, as `collect` tells them. `WorkerNote`, at
any time, what becomes of an executor's workers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationSettings:
    """How texts are run.

    contexts:      lengths of chunks, in tokens; the texts are run in each
    chunks, skip:  of each text in each context: the most that run, and how many are left out before them
    output:        look at the output matrix, too
    embeddings:    and at the token embeddings, by how often each token occurs
    until:         the change, as a share, at which the run ends; None to run all
    expert_tokens: what every expert is to have before `until` ends a run; those that have fewer are named
    all_experts:   a second pass gives every token to every expert, for those experts that too few tokens reached
    save_every:    seconds between two saves
    """

    contexts: tuple[int, ...] = (512,)
    chunks: int | None = None
    skip: int = 0
    output: bool = False
    embeddings: bool = False
    until: float | None = None
    expert_tokens: int = 0
    all_experts: bool = False
    save_every: float = _EVERY


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What will be run, before it is.

    tokens:  of each domain, by name, over all contexts; chunks: the same
    samples: documents, or chunks where a domain is one text
    factors: what each of a domain's tokens counts
    """

    facts: ModelFacts
    tokens: Mapping[str, int]
    chunks: Mapping[str, int]
    factors: Mapping[str, float]
    samples: int
    groups: int

    @property
    def all_tokens(self) -> int:
        """Of all domains."""
        return sum(self.tokens.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class UncoveredExperts:
    """Experts of a tensor that fewer tokens reached than were asked for, by their numbers: how many reached each."""

    tensor: str
    tokens: Mapping[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Computed:
    """An importance matrix, as it was computed; its sums are in a file until `done`.

    collected: how the run ended
    read:      tokens of each domain, by name, that were run: fewer than there were to run where it was enough
    uncovered: experts with fewer tokens than `expert_tokens`, or with none
    filled:    experts that got what a pass of all tokens through all experts found, over all tensors
    """

    measurement: Measurement
    prepared: Prepared
    collected: Collected
    read: Mapping[str, int]
    uncovered: tuple[UncoveredExperts, ...]
    filled: int
    sums: Path = field(repr=False)

    def done(self) -> None:
        """Remove the file of sums: the matrix has been written."""
        with suppress(OSError):
            self.sums.unlink()


def sums_path(out: str | Path) -> Path:
    """The file beside the matrix in which sums are kept while it is computed."""
    out = Path(out)
    return out.with_name(f"{out.name}.sums")


def compute_importance(
    model: str | Path,
    domains: Sequence[tuple[Domain, Sequence[Rendered]]],
    out: str | Path,
    settings: CalibrationSettings | None = None,
    *,
    told: Mapping[str, Any] | None = None,
    hear: Heard | None = None,
    executor: Executor | None = None,
    memory: int = 0,
    **running: Unpack[RunOptions],
) -> Computed:
    """Run a GGUF over domains, each with its documents as they are tokenised.

    out:  where the matrix will be written; the sums are kept beside it
    told: what the result depends on besides the texts and the settings, such as the model's hash: a file of sums that
          was made with something else isn't gone on from
    hear: told what happens
    executor: whose workers run the model, each with the threads that its options say; None for this machine alone. They
          see the GGUF under the same path, and have the same llama.cpp. The sums are the same, if they have the same
          kind of processor
    memory: bytes that each of them takes, about; 0 where nobody knows
    EvaluationError where llama.cpp, the model or a text isn't fit for it; ImportanceError for settings that can't be;
    OutputError where the sums can't be saved; PluginError where workers can't be opened or are all gone.
    """
    settings = settings or CalibrationSettings()
    check_settings(settings)
    path = sums_path(out)
    remove_unfinished(path)
    hear = hear or _nothing
    opened = _Opening(Path(model), executor, memory, hear, running)
    with opened() as session:
        plan, prepared = prepare(session, domains, settings)
        hear(prepared)
        work = Work(
            groups=plan.groups,
            output=settings.output,
            embeddings=settings.embeddings,
            until=settings.until,
            experts=settings.expert_tokens,
            path=path.resolve(),
            every=settings.save_every,
            about={"told": dict(told or {}), "run": _digest(plan, settings), "engine": session.facts.engine},
        )
        collected = _collected(session, work, hear)
    least = max(1, settings.expert_tokens)
    uncovered, filled = _uncovered(path, least), _filled(path)
    if settings.all_experts and uncovered and not filled:
        filling = Filling(groups=_enough(plan, max(least, _FILLING_TOKENS)), path=path.resolve(), least=least)
        hear(Refill(tokens=sum(group.chunks.size for group in filling.groups)))
        with opened(_all_used(Path(model))) as session:
            filled = _filled_by(session, filling, Path(model), hear)
        uncovered = _uncovered(path, least)
    read = _read(plan.groups[: collected.groups], [domain.name for domain, _ in domains])
    return _computed(path, prepared, collected, read, domains, settings, uncovered, filled)


@dataclass(frozen=True, slots=True)
class _Opening:
    """Opens the model, here or elsewhere."""

    model: Path
    executor: Executor | None
    memory: int
    hear: Heard
    running: RunOptions

    @contextmanager
    def __call__(self, overrides: dict[str, int] | None = None) -> Iterator[Session | Elsewhere]:
        if self.executor is None:
            with Session(self.model, overrides=overrides, **self.running) as session:
                yield session
            return
        with open_elsewhere(
            self.executor,
            self.model,
            self.hear,
            memory=self.memory,
            gpu_layers=self.running.get("gpu_layers"),
            engine=self.running.get("engine"),
            overrides=overrides,
        ) as elsewhere:
            yield elsewhere


def _collected(session: Session | Elsewhere, work: Work, hear: Heard) -> Collected:
    if isinstance(session, Elsewhere):
        groups, output, embeddings = work.groups, work.output, work.embeddings
        return collect_parts(
            work, lambda first: session.sums(groups, first, output=output, embeddings=embeddings), hear
        )
    return session.call(collect, work, hear=hear)


def _filled_by(session: Session | Elsewhere, filling: Filling, model: Path, hear: Heard) -> int:
    if isinstance(session, Elsewhere):
        return fill_parts(filling, lambda only: session.sums(filling.groups, only=only), model, hear)
    return session.call(fill_experts, filling, hear=hear)


def _read(groups: Sequence[Group], names: Sequence[str]) -> dict[str, int]:
    """How many tokens of each domain there are in the groups."""
    tokens = dict.fromkeys(names, 0)
    for group in groups:
        tokens[names[group.domain]] += group.chunks.size
    return tokens


def prepare(
    session: Session | Elsewhere,
    domains: Sequence[tuple[Domain, Sequence[Rendered]]],
    settings: CalibrationSettings,
) -> tuple[Schedule, Prepared]:
    """The chunks of domains, in the order in which they run, and what they come to."""
    most = None
    if settings.chunks is not None:  # no more of a text is needed
        most = (settings.skip + settings.chunks) * max(settings.contexts)
    cut = [_tokens(session, domain, documents, most) for domain, documents in domains]
    side_by_side = session.call(_side_by_side, settings.contexts)
    plan = schedule(cut, settings.contexts, side_by_side, chunks=settings.chunks, skip=settings.skip)
    return plan, _prepared(session.facts, domains, plan)


def provenance_of(
    origin: Provenance,
    domains: Iterable[Domain],
    prepared: Prepared,
    settings: CalibrationSettings,
    tokens: Mapping[str, int],
    *,
    all_experts: bool | None = None,
) -> Provenance:
    """What a file says of where it comes from.

    origin: the model's fingerprint and hash, and the template's digest
    tokens: of each domain, by name, that were run
    """
    return replace(
        origin,
        texts=tuple(
            CalibrationText(
                name=domain.name,
                digest=domain.digest,
                tokens=tokens[domain.name],
                weight=prepared.factors[domain.name],
            )
            for domain in domains
        ),
        contexts=settings.contexts,
        version=quantrecipe.__version__,
        engine=prepared.facts.engine,
        skip=settings.skip,
        chunks=settings.chunks,
        all_experts=all_experts,
    )


def hash_of_files(files: Iterable[Path], stopped: threading.Event | None = None) -> str:
    """XXH3-128 of the bytes of files, one after the other; of what was read by then, once `stopped` is set."""
    digest = xxhash.xxh3_128()
    for path in files:
        for data in file_pieces(path):
            if stopped is not None and stopped.is_set():
                break
            digest.update(data)
    return digest.hexdigest()


def _computed(
    path: Path,
    prepared: Prepared,
    collected: Collected,
    read: Mapping[str, int],
    domains: Sequence[tuple[Domain, Sequence[Rendered]]],
    settings: CalibrationSettings,
    uncovered: tuple[UncoveredExperts, ...],
    filled: int,
) -> Computed:
    sums = SumsFile.read(path)
    if sums is None:
        raise ImportanceError(
            "the sums have vanished", "is something else at work in this folder?", file=path
        )
    tensors = tuple(sums.measured())
    if not tensors:
        what = "llama.cpp multiplied no matrix of a layer with enough tokens: there is nothing to measure"
        raise ImportanceError(what, "a longer --context gives matrices more tokens at a time", file=path)
    size = min(settings.contexts)
    return Computed(
        measurement=Measurement(
            tensors=tensors,
            datasets=tuple(domain.name for domain, _ in domains),
            chunks=chunks_of(tensors, size),
            chunk_size=size,
        ),
        prepared=prepared,
        collected=collected,
        read=read,
        uncovered=uncovered,
        filled=filled,
        sums=path,
    )


def _uncovered(path: Path, least: int) -> tuple[UncoveredExperts, ...]:
    sums = SumsFile.read(path)
    return tuple(
        UncoveredExperts(tensor=name, tokens=few)
        for name, tokens in (sums.tokens() if sums is not None else {}).items()
        if len(tokens) > 1 and (few := _few(tokens, least))
    )


def _filled(path: Path) -> int:
    """How many experts a pass of a run that was stopped after it has filled."""
    sums = SumsFile.read(path)
    return int(sums.about.get("filled", 0)) if sums is not None else 0


def _all_used(model: Path) -> dict[str, int]:
    """What makes a model use all its experts for each token. ImportanceError where it doesn't say how many it has."""
    header = read_header(model)
    arch = metadata_text(header.metadata, "general.architecture")
    count = header.metadata.get(f"{arch}.expert_count")
    if count is None:
        what = "doesn't say how many experts it has"
        raise ImportanceError(what, "leave out --all-experts", file=model)
    return {f"{arch}.expert_used_count": int(count.decode())}


def _enough(plan: Schedule, tokens: int) -> tuple[Group, ...]:
    """The first groups, which have as many tokens; all, if there are fewer."""
    sizes = np.cumsum([group.chunks.size for group in plan.groups])
    return plan.groups[: int(np.searchsorted(sizes, tokens)) + 1]


def _few(tokens: NDArray[np.int64], least: int) -> dict[int, int]:
    return {int(expert): int(tokens[expert]) for expert in np.flatnonzero(tokens < least)}


def _tokens(
    session: Session | Elsewhere, domain: Domain, documents: Sequence[Rendered], most: int | None
) -> DomainTokens:
    parts = session.call(tokenize, list(documents), most)
    return DomainTokens(name=domain.name, weight=domain.weight, tokens=np.concatenate(parts))


def _side_by_side(model: LanguageModel, contexts: Sequence[int], *, tell: Tell) -> list[int]:
    return [model.side_by_side(n_ctx) for n_ctx in contexts]


def _prepared(
    facts: ModelFacts, domains: Sequence[tuple[Domain, Sequence[Rendered]]], plan: Schedule
) -> Prepared:
    names = [domain.name for domain, _ in domains]
    samples = sum(
        len(documents) if len(documents) > 1 else chunks
        for (_, documents), chunks in zip(domains, plan.chunks, strict=True)
    )
    return Prepared(
        facts=facts,
        tokens=dict(zip(names, plan.tokens, strict=True)),
        chunks=dict(zip(names, plan.chunks, strict=True)),
        factors=dict(zip(names, plan.factors, strict=True)),
        samples=samples,
        groups=len(plan.groups),
    )


def _digest(plan: Schedule, settings: CalibrationSettings) -> str:
    """Of all that decides which sums come out, and when the run ends."""
    digest = hashlib.blake2b(digest_size=16)
    for group in plan.groups:
        digest.update(f"{group.chunks.shape} {group.domain} {group.weight!r}\n".encode())
        digest.update(group.chunks.astype("<i4").tobytes())
    told = (
        settings.output,
        settings.embeddings,
        settings.until,
        settings.expert_tokens,
        settings.all_experts,
    )
    digest.update(repr(told).encode())
    return digest.hexdigest()


def check_settings(settings: CalibrationSettings) -> None:
    """ImportanceError for settings that can't be."""
    if not settings.contexts or len(set(settings.contexts)) != len(settings.contexts):
        raise ImportanceError("contexts are to be one or more, and all different", "for example 512,4096")
    if (least := min(settings.contexts)) < _SMALLEST_CONTEXT:
        raise ImportanceError(f"a context of {least} tokens is too short", f"use {_SMALLEST_CONTEXT} or more")
    if settings.chunks is not None and settings.chunks < 1:
        raise ImportanceError(f"{settings.chunks} chunks are none", "leave it out for all that there are")
    if max(settings.chunks or 0, settings.skip) > _MOST_CHUNKS:
        raise ImportanceError("there are no texts of so many chunks", "leave it out for all that there are")
    if settings.skip < 0:
        raise ImportanceError(f"{settings.skip} chunks can't be skipped", "give a number from 0")
    if settings.until is not None and not 0 < settings.until < 1:
        raise ImportanceError(f"a change of {settings.until:g} is none to end at", "give a share such as 1%")


def _nothing(what: object) -> None:
    """Hears what happens where nobody asked."""
