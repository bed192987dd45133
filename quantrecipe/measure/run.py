"""measure: losses of every tensor in every type, then what the model makes of them; into a sensitivity file.

What was measured is never measured again: the file that is there, and the journal of a run that was stopped, are
asked first. A loss is known by the content of the tensor, its importance, format and version, analysis and sampling; a
probe by everything that it depends on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from quantrecipe.api import ModelAnalysis, QuantFormat, Study, TensorAnalysis
from quantrecipe.errors import ModelError, SensitivityError
from quantrecipe.evaluate.engine import default_threads
from quantrecipe.importance import Importance, coverage
from quantrecipe.measure.buffers import Buffers
from quantrecipe.measure.journal import Journal
from quantrecipe.measure.losses import Job, measure_tensor
from quantrecipe.measure.prober import BASE_RECIPE, Passes, Prober
from quantrecipe.measure.progress import Progress, Silent
from quantrecipe.model.model import Model
from quantrecipe.model.read import TensorReader
from quantrecipe.output.warm import warm
from quantrecipe.plan.resolve import resolve
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import KEEP
from quantrecipe.registry import Registry, load_registry
from quantrecipe.sensitivity.file import read_sensitivity, write_sensitivity
from quantrecipe.sensitivity.prior import VERSION as PRIOR_VERSION
from quantrecipe.sensitivity.prior import n_layers_of, prior_alphas
from quantrecipe.sensitivity.sensitivity import (
    PRIOR,
    Provenance,
    Sensitivity,
    TensorSensitivity,
    frozen,
    rounded,
)
from quantrecipe.tensor import TensorInfo

__all__ = ["DEFAULT_SAMPLE", "Measurement", "choose_types", "measure"]

DEFAULT_SAMPLE = 1 << 20
"""Weights of each tensor: four seconds of each thread for a thousand million weights in all types."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What to measure, and how.

    types:    names of formats
    analysis: of losses
    weighing: of the model; None leaves alphas to the prior
    file:     for the weighing, if it reads one
    sample:   weights of each tensor; None for all rows
    probes:   at most
    passes:   how the model is run; None where it isn't
    work:     folder for temporary files
    """

    types: tuple[str, ...]
    analysis: TensorAnalysis
    weighing: ModelAnalysis | None = None
    file: Path | None = None
    sample: int | None = DEFAULT_SAMPLE
    probes: int = 0
    passes: Passes | None = None
    work: Path = Path()
    threads: int | None = None


def choose_types(registry: Registry, patterns: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of formats, the smallest first. `patterns`: names or globs; without any, all of mainline's.

    SensitivityError for a pattern that finds nothing.
    """
    codecs = {name: fmt for name, fmt in registry.formats.items() if fmt.spec.codec}
    found: dict[str, QuantFormat] = {}
    if patterns:
        for pattern in patterns:
            here = [name for name in codecs if fnmatchcase(name.upper(), pattern.upper())]
            if not here:
                problem = registry.missing_format(pattern)
                raise SensitivityError(problem.what, problem.remedy)
            found |= {name: codecs[name] for name in here}
    else:
        found = {name: fmt for name, fmt in codecs.items() if fmt.spec.dialect == "ggml"}
    return tuple(sorted(found, key=lambda name: (found[name].spec.bits_per_weight, name)))


def measure(
    model: Model,
    out: str | Path,
    what: Measurement,
    *,
    registry: Registry | None = None,
    importance: Importance | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Sensitivity:
    """Measure the model's quantizable matrices into the file `out`, adding to what it has.

    ModelError where the model has no weights; SensitivityError where `out` is of another model (unless `force`),
    or an analysis lacks something.
    """
    registry = registry or load_registry()
    progress = progress or Silent()
    out = Path(out)
    if model.container == "shapes":
        raise ModelError(
            "has the shapes of a model, but no weights", "measure the model itself", file=model.path
        )
    tensors = quantizable(model, registry)
    if importance is not None:
        coverage(tensors, importance, model=model.tensors)  # refuses the matrix of another model
    old = read_sensitivity(out) if out.exists() else None
    key = {
        "analysis": f"{what.analysis.name} {what.analysis.version}",
        "sampling": "all rows" if what.sample is None else f"{what.sample} weights of each tensor",
    }
    with Journal(out.with_name(out.name + ".journal"), key) as journal:
        known = _Known(journal)
        if old is not None:
            known.add_file(old, key)
        progress.stage("losses")
        jobs = [_job(tensor, model, registry, what, importance) for tensor in tensors]
        measured = _measure_all(jobs, known, journal, progress, what.threads or default_threads())
        if old is not None and not force:
            _refuse_other(old, measured, model, out)
        found = _weigh(
            model, tensors, measured, what, registry, importance, known, journal, progress, key, out
        )
        write_sensitivity(found, out)
        journal.done()
    return found


def quantizable(model: Model, registry: Registry) -> list[TensorInfo]:
    """The matrices that a recipe's default is about, in the order layer, name."""
    recipe = load_recipe(BASE_RECIPE, registry=registry)
    decisions = resolve(recipe, model, has_importance=False, covered=lambda tensor: False)
    return [decision.tensor for decision in decisions if decision.type != KEEP]


class _Known:
    """What earlier runs measured."""

    def __init__(self, journal: Journal) -> None:
        self._tensors: dict[tuple[str, int, str], TensorSensitivity] = {}
        self.probes = {probe.key: probe for probe in journal.probes}
        for tensor in journal.tensors:
            self._add(tensor)

    def add_file(self, old: Sensitivity, key: Mapping[str, str]) -> None:
        """Losses only where they were measured in the same way; probes say themselves what they depend on."""
        if (old.provenance.analysis, old.provenance.sampling) == (key["analysis"], key["sampling"]):
            for tensor in old.tensors.values():
                self._add(tensor)
        self.probes |= {probe.key: probe for probe in old.probes}

    def _add(self, tensor: TensorSensitivity) -> None:
        place = tensor.digest, tensor.weights, tensor.importance
        before = self._tensors.get(place)
        losses = {} if before is None else before.losses
        self._tensors[place] = replace(tensor, losses={**losses, **tensor.losses})

    def __call__(self, digest: str, weights: int, importance: str) -> TensorSensitivity | None:
        return self._tensors.get((digest, weights, importance))


def _job(
    tensor: TensorInfo, model: Model, registry: Registry, what: Measurement, importance: Importance | None
) -> Job:
    source = registry.format(tensor.dtype)
    if not source.spec.codec and source.spec.name != "F64":
        raise ModelError(f"{tensor.name} is of type {tensor.dtype}, which can't be decoded", file=model.path)
    formats = tuple(fmt for name in what.types if (fmt := registry.formats[name]).accepts(tensor) is None)
    return Job(
        tensor=tensor,
        stored=model.sources[tensor.name],
        source=source,
        formats=formats,
        analysis=what.analysis,
        importance=importance,
        sample=what.sample,
    )


def _measure_all(
    jobs: Sequence[Job], known: _Known, journal: Journal, progress: Progress, threads: int
) -> dict[str, TensorSensitivity]:
    """Every tensor in one thread; results are journalled as they come."""
    _compile(jobs)
    effort, done = max(1, sum(job.effort for job in jobs)), 0
    guard, stopped = threading.Lock(), threading.Event()
    local = threading.local()

    def advance(amount: int) -> None:
        nonlocal done
        if stopped.is_set():
            raise _Stopped
        with guard:
            done += amount

    def work(job: Job) -> TensorSensitivity:
        if not hasattr(local, "buffers"):
            local.buffers = Buffers()
        found = measure_tensor(job, reader, local.buffers, known, advance)
        with guard:
            journal.add_tensor(found)  # here, so that nothing is lost when another thread fails
        return found

    found: dict[str, TensorSensitivity] = {}
    with TensorReader() as reader, _pool(threads, stopped) as pool:
        running = {pool.submit(work, job): job for job in jobs}
        while running:
            ready, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in ready:
                name = running.pop(future).tensor.name
                found[name] = future.result()
                progress.say(name)
            progress.total(min(1.0, done / effort))
    return {job.tensor.name: found[job.tensor.name] for job in jobs}


class _Stopped(Exception):  # noqa: N818  # no error, but an order
    """Another thread has failed, or the user wants no more."""


@contextmanager
def _pool(threads: int, stopped: threading.Event) -> Iterator[ThreadPoolExecutor]:
    """Threads that give up soon when the block is left early."""
    pool = ThreadPoolExecutor(threads, "measure")
    try:
        yield pool
    except BaseException:
        stopped.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _compile(jobs: Sequence[Job]) -> None:
    """Every kernel once, in one thread, before others meet it."""
    weighted = any(job.importance is not None for job in jobs)
    formats: dict[str, QuantFormat] = {fmt.spec.name: fmt for job in jobs for fmt in job.formats}
    for fmt in formats.values():
        warm(fmt, weighted=weighted)
        warm(fmt, decode=True)
    for source in {job.source.spec.name: job.source for job in jobs}.values():
        if source.spec.codec:
            warm(source, decode=True)


def _refuse_other(
    old: Sensitivity, measured: Mapping[str, TensorSensitivity], model: Model, out: Path
) -> None:
    """A file of another model isn't replaced by accident."""
    digests = {tensor.digest for tensor in old.tensors.values()} - {""}
    if digests and not digests & {tensor.digest for tensor in measured.values()}:
        raise SensitivityError(
            f"is of another model, {old.provenance.model}: none of its tensors is in {model.path.name}",
            "name another file with -o, or replace it with --force",
            file=out,
        )


def _weigh(
    model: Model,
    tensors: Sequence[TensorInfo],
    measured: Mapping[str, TensorSensitivity],
    what: Measurement,
    registry: Registry,
    importance: Importance | None,
    known: _Known,
    journal: Journal,
    progress: Progress,
    key: Mapping[str, str],
    out: Path,
) -> Sensitivity:
    n_layers = n_layers_of(model)
    prior = prior_alphas(model.tensors, n_layers)
    alphas = {name: prior[name].alpha for name in measured}
    provenance = Provenance(
        model=name_of(model),
        arch=model.arch,
        n_layers=n_layers,
        importance="" if importance is None else f"{importance.label} {importance.digest}",
        prior=PRIOR_VERSION,
        **key,
    )
    if what.weighing is None:
        return Sensitivity(tensors=_with_alphas(measured, alphas, {}, ""), provenance=provenance)
    progress.stage("probes" if what.passes else "weights")
    with _prober(model, registry, importance, what, measured, known, journal, progress) as prober:
        study = Study(
            tensors=tuple(tensors),
            n_layers=n_layers,
            losses={
                name: {type_: loss.error for type_, loss in tensor.losses.items()}
                for name, tensor in measured.items()
            },
            prior=alphas,
            doubt={name: prior[name].doubt for name in measured},
            file=what.file,
            probes=what.probes,
            evaluate=None if prober is None else prober.evaluate,
            progress=lambda text, share: progress.total(share),
        )
        weighed = what.weighing.weigh(study)
        probes = () if prober is None else tuple(prober.probes)
    provenance = replace(
        provenance,
        weighing=f"{what.weighing.name} {what.weighing.version}",
        text="" if prober is None or what.passes is None else _text(what.passes),
        engine=_engine() if probes else "",
    )
    return Sensitivity(
        tensors=_with_alphas(measured, alphas, weighed, what.weighing.name),
        provenance=provenance,
        probes=probes,
    )


@contextmanager
def _prober(
    model: Model,
    registry: Registry,
    importance: Importance | None,
    what: Measurement,
    measured: Mapping[str, TensorSensitivity],
    known: _Known,
    journal: Journal,
    progress: Progress,
) -> Iterator[Prober | None]:
    if what.passes is None:
        yield None
        return
    digests = {name: tensor.digest for name, tensor in measured.items()}
    with Prober(
        model,
        registry,
        importance,
        what.passes,
        digests=digests,
        folder=what.work,
        known=known.probes,
        save=journal.add_probe,
        progress=progress,
    ) as prober:
        yield prober


def _with_alphas(
    measured: Mapping[str, TensorSensitivity],
    prior: Mapping[str, float],
    weighed: Mapping[str, float],
    source: str,
) -> Mapping[str, TensorSensitivity]:
    return frozen(
        {
            name: replace(
                tensor,
                alpha=rounded(float(weighed.get(name, prior[name]))),
                alpha_source=source if name in weighed else PRIOR,
            )
            for name, tensor in measured.items()
        }
    )


def name_of(model: Model) -> str:
    """What the model calls itself, else its file."""
    value = model.metadata.get("general.name")
    name = None if value is None else value.decode()
    return name if isinstance(name, str) and name else model.path.name


def _text(passes: Passes) -> str:
    texts = ", ".join(f"{text.name} {text.digest}" for text in passes.texts)
    return f"{texts}; {passes.chunks} × {passes.n_ctx} tokens of each"


def _engine() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"llama-cpp-python {version('llama-cpp-python')}"
    except PackageNotFoundError:
        return "llama-cpp-python"
