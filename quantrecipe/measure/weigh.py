"""weighed: losses become a sensitivity: each tensor gets its alpha, from an analysis of the model or from the prior."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from quantrecipe.api import Study
from quantrecipe.engine import engine_facts, find_engine
from quantrecipe.errors import EvaluationError
from quantrecipe.gguf.values import metadata_text
from quantrecipe.measure.journal import Journal
from quantrecipe.measure.known_results import Known
from quantrecipe.measure.measurement import Measurement, Subject
from quantrecipe.measure.passes import Passes
from quantrecipe.measure.prober import Prober
from quantrecipe.measure.progress import Progress
from quantrecipe.model.model import Model
from quantrecipe.sensitivity.prior import VERSION as PRIOR_VERSION
from quantrecipe.sensitivity.prior import prior_alphas
from quantrecipe.sensitivity.sensitivity import (
    PRIOR,
    Provenance,
    Sensitivity,
    TensorSensitivity,
    frozen,
    rounded,
)
from quantrecipe.tensor import TensorInfo

__all__ = ["weighed"]


def weighed(
    subject: Subject,
    tensors: Sequence[TensorInfo],
    measured: Mapping[str, TensorSensitivity],
    what: Measurement,
    known: Known,
    journal: Journal,
    progress: Progress,
    *,
    old: Sensitivity | None = None,
) -> Sensitivity:
    """`measured`, with alphas, and where everything is from. Without an analysis, what `old` has found out is kept."""
    model, importance = subject.model, subject.importance
    n_layers = max(1, model.n_layers)
    prior = prior_alphas(model.tensors, n_layers)
    alphas = {name: prior[name].alpha for name in measured}
    provenance = Provenance(
        model=_name(model),
        arch=model.arch,
        n_layers=n_layers,
        importance="" if importance is None else f"{importance.label} {importance.digest}",
        prior=PRIOR_VERSION,
        **what.key,
    )
    if what.weighing is None:
        tensors_now = _with_alphas(measured, alphas, {}, "")
        if old is None or old.provenance.weighing == PRIOR:
            return Sensitivity(tensors=tensors_now, provenance=provenance, probes=known.others(()))
        return _kept(old, Sensitivity(tensors=tensors_now, provenance=provenance))
    progress.stage("probes" if what.passes else "weights")
    with _prober(subject, what, measured, known, journal, progress) as prober:
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
            swap=None if prober is None else prober.swap,
            parts=1 if what.passes is None else what.passes.parts,
            evaluate_part=None if prober is None else prober.evaluate_part,
            expect=prober.expect if prober is not None and prober.expects else None,
            look=None if prober is None else prober.look,
            progress=lambda text, share: progress.total(share),
        )
        found = what.weighing.weigh(study)
        probes = () if prober is None else tuple(prober.probes)
    provenance = replace(
        provenance,
        weighing=f"{what.weighing.name} {what.weighing.version}",
        text=_text(what.passes) if probes and what.passes is not None else "",
        engine=_engine(what.passes) if probes and what.passes is not None else "",
    )
    return Sensitivity(
        tensors=_with_alphas(measured, alphas, found, what.weighing.name),
        provenance=provenance,
        probes=probes + known.others(probes),
    )


def _kept(old: Sensitivity, new: Sensitivity) -> Sensitivity:
    """`new`, with what `old` knows of tensors that haven't changed."""
    before = old.tensors
    tensors = {
        name: replace(tensor, alpha=before[name].alpha, alpha_source=before[name].alpha_source)
        if name in before and before[name].digest == tensor.digest and before[name].alpha_source != PRIOR
        else tensor
        for name, tensor in new.tensors.items()
    }
    source = old.provenance
    provenance = replace(new.provenance, weighing=source.weighing, text=source.text, engine=source.engine)
    return Sensitivity(tensors=frozen(tensors), provenance=provenance, probes=old.probes)


@contextmanager
def _prober(
    subject: Subject,
    what: Measurement,
    measured: Mapping[str, TensorSensitivity],
    known: Known,
    journal: Journal,
    progress: Progress,
) -> Iterator[Prober | None]:
    if what.passes is None:
        yield None
        return
    with Prober(
        subject.model,
        subject.registry,
        subject.importance,
        what.passes,
        digests={name: tensor.digest for name, tensor in measured.items()},
        folder=what.work,
        encoding=what.encoding,
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


def _name(model: Model) -> str:
    """What the model calls itself, else its file."""
    return metadata_text(model.metadata, "general.name") or model.path.name


def _text(passes: Passes) -> str:
    texts = ", ".join(f"{text.name} {text.digest}" for text in passes.texts)
    return f"{texts}; {passes.chunks} × {passes.n_ctx} tokens of each"


def _engine(passes: Passes) -> str:
    """What ran the probes, as far as it can be asked: those of an earlier run need none now."""
    try:
        return engine_facts(find_engine(passes.engine)).label
    except EvaluationError:
        return "llama.cpp"
