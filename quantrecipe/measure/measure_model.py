"""measure: losses of every tensor in every type, then what the model makes of them; into a sensitivity file.

What was measured is never measured again: the file that is there, and the journal of a run that was stopped, are
asked first. A loss is known by the content of the tensor, its importance, format and version, analysis and sampling; a
probe by everything that it depends on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from quantrecipe.errors import SensitivityError
from quantrecipe.importance.coverage import coverage
from quantrecipe.importance.matrix import Importance
from quantrecipe.measure.journal import Journal
from quantrecipe.measure.known_results import Known
from quantrecipe.measure.measurement import Measurement, Subject, scope_of
from quantrecipe.measure.predicted import measure_scope
from quantrecipe.measure.progress import Progress, Silent
from quantrecipe.measure.weigh import weighed
from quantrecipe.model.model import Model
from quantrecipe.plan.importance import require_matrix_of
from quantrecipe.registry import Registry, load_registry
from quantrecipe.sensitivity.file import read_sensitivity, write_sensitivity
from quantrecipe.sensitivity.sensitivity import Sensitivity, TensorSensitivity
from quantrecipe.whole_file import remove_unfinished

__all__ = ["measure"]


def measure(
    model: Model,
    out: str | Path,
    what: Measurement,
    *,
    registry: Registry | None = None,
    importance: Importance | None = None,
    importance_of_another_model: bool = False,
    force: bool = False,
    allow_requantize: bool = False,
    progress: Progress | None = None,
) -> Sensitivity:
    """Measure the model's quantizable matrices into the file `out`, adding to what it has.

    `scope_of` says which, and in which types. ModelError where the model has no weights, is none, or is quantized
    already (unless `allow_requantize`); SensitivityError where nothing can be measured, `out` is of another model
    (unless `force`), or an analysis lacks something; ImportanceError where the matrix is another model's (unless
    `importance_of_another_model`, which lets one pass that says so but fits).
    """
    subject = Subject(
        model=model,
        registry=registry or load_registry(),
        importance=importance,
        another_model=importance_of_another_model,
    )
    progress = progress or Silent()
    out = Path(out)
    model.require_weights("measure the model itself")
    scope = scope_of(subject, what.types, allow_requantize=allow_requantize)
    if not importance_of_another_model:
        require_matrix_of(model, importance)
    if importance is not None:
        coverage(scope.tensors, importance, model=model.tensors)  # refuses the matrix of another model
    with Journal(out.with_name(out.name + ".journal"), what.key) as journal:
        remove_unfinished(out)  # nobody else can be writing it now
        old = read_sensitivity(out) if out.exists() else None
        known = Known(journal)
        if (
            old is not None
        ):  # losses are known by the tensor's content, so a file of another model does no harm here
            known.add_losses(old, what.key)
        progress.stage("losses")
        measured = measure_scope(subject, scope, what, known, journal, progress)
        if old is not None and not _is_of(old, measured):
            if not force:
                raise _another_model(old, model, out)
            old = None
        if old is not None:
            known.add_probes(old)
        found = weighed(subject, scope.tensors, measured, what, known, journal, progress, old=old)
        write_sensitivity(found, out)
        journal.done()
    return found


def _is_of(old: Sensitivity, measured: Mapping[str, TensorSensitivity]) -> bool:
    """True if the file has a tensor of this model, or none that was read."""
    digests = {tensor.digest for tensor in old.tensors.values()} - {""}
    return not digests or bool(digests & {tensor.digest for tensor in measured.values()})


def _another_model(old: Sensitivity, model: Model, out: Path) -> SensitivityError:
    """The error that keeps a file of another model from being replaced by accident."""
    return SensitivityError(
        f"is of another model, {old.provenance.model}: none of its tensors is in {model.path.name}",
        "name another file with -o, or replace it with --force",
        file=out,
    )
