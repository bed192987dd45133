"""What the files of a release lose, by llama.cpp. Each is measured by itself, so that a run that was killed goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quantrecipe.cli.errors import print_warning
from quantrecipe.cli.eval.candidates import evaluate_files, size_of
from quantrecipe.cli.eval.reference import Unmade, find_reference, make
from quantrecipe.cli.eval.subjects import Subject
from quantrecipe.cli.options.texts import texts_of
from quantrecipe.cli.progress import EvalBar
from quantrecipe.cli.release.job import Figures, Item, Job, Made, Measured
from quantrecipe.cli.release.unquantized_file import unquantized_file
from quantrecipe.engine import find_engine
from quantrecipe.engine.session import existing_gguf
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import Reference, engine_facts
from quantrecipe.evaluate.requests import opened
from quantrecipe.plain_data import plain
from quantrecipe.release.record import key_of
from quantrecipe.typed import typed

__all__ = ["measured_files"]


def measured_files(job: Job, items: Sequence[Item], made: Mapping[str, Made]) -> Measured:
    """The figures of each file that can be measured; what was measured before counts where it isn't measured now.

    Nothing is told of files that have changed since. A file that llama.cpp can't run is a warning, and has no figures.
    """
    wish = job.release.measure
    if wish is None:
        return Measured()
    if not job.measures:
        return _known(job, items, made)
    texts = texts_of(job.ctx, job.measured_on, lambda: job.model)
    files = (existing_gguf(job.model.files[0]),) if job.model.container == "gguf" else job.model.files
    found = find_reference(
        job.model.path,
        files,
        texts,
        save=None,
        force=False,
        n_ctx=wish.context,
        chunks=wish.chunks,
        engine=job.engine,
    )
    key = f"{found.key}-{find_engine(job.engine).digest}"  # engines round differently
    missing = [it for it in items if _result(job, it, made, key) is None]
    for it in items:
        if it not in missing:
            job.say(f"{it.name}.gguf is measured")
    if missing:
        reference = _reference(job, found, key)
        _measure(job, missing, made, reference, key)
    return _known(job, items, made, key)


def _reference(job: Job, found: Reference | Unmade, key: str) -> Reference:
    if isinstance(found, Unmade):
        path = unquantized_file(job)
        job.say("running the unquantized model, to compare with")
        with EvalBar(job.ctx.err) as progress, opened(path, **job.running) as session:
            found = make(found, session, progress=progress)
    facts = engine_facts(find_engine(job.engine))
    job.record.put(
        "reference",
        key,
        {
            "chunks": {text.name: text.chunks for text in found.texts},
            "n_ctx": found.n_ctx,
            "engine": facts.label,
        },
    )
    return found


def _measure(
    job: Job, missing: Sequence[Item], made: Mapping[str, Made], reference: Reference, key: str
) -> None:
    for it in missing:
        path = job.folder / made[it.name].first
        job.say(f"measuring {it.name}.gguf")
        sized = size_of(Subject(name=path.name, path=path, plan=it.plan), dict)
        try:
            with EvalBar(job.ctx.err) as progress:
                (candidate,) = evaluate_files([sized], reference, progress=progress, **job.running)
        except EvaluationError as error:
            for problem in error.problems:
                print_warning(job.ctx.err, f"{it.name}.gguf isn't measured: {problem.what}", problem.remedy)
            continue
        figures = {
            "all": Figures.of(candidate.all),
            "texts": {name: Figures.of(its) for name, its in candidate.texts.items()},
        }
        job.record.put(_step(it), _key(it, made, key), {"reference": key, "figures": plain(figures)})


def _known(job: Job, items: Sequence[Item], made: Mapping[str, Made], key: str | None = None) -> Measured:
    """What the record has of these very files; key: of the reference, None for whichever was used last."""
    latest = job.record.latest("reference")
    if key is None:
        done = (job.record.latest(_step(it)) for it in items)
        key = next((it["reference"] for it in done if it is not None), None)
    if latest is None or key is None or job.record.result("reference", key) is None:
        return Measured()
    files = {}
    for it in items:
        if (found := _result(job, it, made, key)) is not None:
            whole, texts = found["all"], found["texts"]
            files[it.name] = (
                typed(whole, Figures),
                {name: typed(figures, Figures) for name, figures in texts.items()},
            )
    return Measured(files=files, **latest)


def _step(item: Item) -> str:
    return f"measured:{item.name}"


def _key(item: Item, made: Mapping[str, Made], reference: str) -> str:
    return key_of(sums=list(made[item.name].sums.values()), reference=reference)


def _result(job: Job, item: Item, made: Mapping[str, Made], reference: str) -> Any:
    found = job.record.result(_step(item), _key(item, made, reference))
    return None if found is None else found["figures"]
