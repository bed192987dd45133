"""The unquantized model as a file that llama.cpp runs, made at most once in a run of `release`, and removed at its end.

Importance is computed with it, and the files are compared with it. What is a GGUF already is run as it lies.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from quantrecipe.cli.apply_progress import apply_progress
from quantrecipe.cli.eval.subjects import unquantized_plan
from quantrecipe.cli.release.job import Job
from quantrecipe.output.apply import apply_plans
from quantrecipe.release.record import key_of, state_of

__all__ = ["remove_unquantized", "unquantized_file"]

_STEP = "unquantized"


def unquantized_file(job: Job) -> Path:
    """The path; of a Hugging Face folder that of a file that is made, or that a run that was killed has left."""
    if job.model.container == "gguf":
        return job.model.files[0]
    path, key = _place(job), key_of(model=job.model_key)
    if job.record.result(_STEP, key) is not None and state_of(path) is not None:
        return path
    job.say("writing the unquantized model, for llama.cpp to run; it is removed at the end")
    plan = unquantized_plan(job.ctx, job.model, job.registry)
    job.work.mkdir(parents=True, exist_ok=True)
    with apply_progress(job.ctx.err) as progress:
        apply_plans(
            [(plan, path)],
            registry=job.registry,
            threads=job.threads,
            force=True,
            progress=progress,
            resume=True,
        )
    job.record.put(_STEP, key, {})
    return path


def remove_unquantized(job: Job) -> None:
    """Remove the file, if one was made: everything is done."""
    with suppress(OSError):
        _place(job).unlink()


def _place(job: Job) -> Path:
    return job.work / "unquantized.gguf"
