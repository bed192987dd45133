"""The importance matrix of a release: taken from a file, or computed from texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quantrecipe.calibration import CalibrationSettings
from quantrecipe.cli.imatrix.calibrating import Calibrating
from quantrecipe.cli.imatrix.output import write_encoded
from quantrecipe.cli.release.job import Item, Job, MatrixMade
from quantrecipe.cli.release.unquantized_file import unquantized_file
from quantrecipe.errors import OutputError
from quantrecipe.release.record import key_of, state_of
from quantrecipe.release.release import MatrixWish
from quantrecipe.sha256sums import hash_file
from quantrecipe.whole_file import whole_file

__all__ = ["matrix_is_made", "matrix_of", "own_matrices"]

_STEP = "matrix"
_PIECE = 1 << 22


def matrix_of(job: Job) -> MatrixMade | None:
    """The matrix in the folder, made now where it isn't there; None where the release has none."""
    wish = job.release.imatrix
    if wish is None:
        return None
    path, key = _place(job, wish), _key(job, wish)
    if (made := _made(job, path, key)) is not None:
        job.say(f"importance matrix: {path.name} is there")
        return made
    if path.exists() and not job.force and not job.record.knows(_STEP):
        raise OutputError(f"{path} exists, and isn't of this release", "move it away, or say --force")
    if wish.file is not None:
        _copy(wish.file, path)
    else:
        _compute(job, path)
    sha256 = hash_file(path)
    job.record.put(_STEP, key, {"sha256": sha256, "state": _state(path)})
    return MatrixMade(path=path.name, sha256=sha256)


def matrix_is_made(job: Job) -> bool:
    """True where nothing is left to do for it: there is none, or it is in the folder."""
    wish = job.release.imatrix
    return wish is None or _made(job, _place(job, wish), _key(job, wish)) is not None


def _place(job: Job, wish: MatrixWish) -> Path:
    is_dat = wish.file is not None and wish.file.suffix == ".dat"
    return job.folder / f"{job.name}.imatrix{'.dat' if is_dat else '.gguf'}"


def _key(job: Job, wish: MatrixWish) -> str:
    if wish.file is not None:
        return key_of(file=hash_file(wish.file))
    return key_of(
        model=job.model_key,
        texts=[(domain.name, domain.weight, domain.digest) for domain in job.domains],
        contexts=wish.contexts,
        chunks=wish.chunks,
    )


def _made(job: Job, path: Path, key: str) -> MatrixMade | None:
    done = job.record.result(_STEP, key)
    if done is None or done["state"] != _state(path):
        return None
    return MatrixMade(path=path.name, sha256=done["sha256"])


def own_matrices(job: Job, items: Sequence[Item], matrix: MatrixMade | None) -> dict[str, MatrixMade]:
    """By the item's name, the matrices that files have for themselves, copied into the folder."""
    made = {}
    for it in items:
        used = it.plan.importance
        if used is None or (matrix is not None and used.path == job.folder / matrix.path):
            continue
        path = job.folder / f"{it.name}.imatrix{'.dat' if used.path.suffix == '.dat' else '.gguf'}"
        sha256 = hash_file(used.path)
        if not (path.exists() and hash_file(path) == sha256):
            _copy(used.path, path)
        made[it.name] = MatrixMade(path=path.name, sha256=sha256)
    return made


def _state(path: Path) -> list[int] | None:
    found = state_of(path)
    return None if found is None else [found.nbytes, found.mtime_ns]


def _copy(source: Path, path: Path) -> None:
    try:
        with source.open("rb") as taken, whole_file(path) as file:
            while piece := taken.read(_PIECE):
                file.write(piece)
    except OSError as error:
        raise OutputError(f"can't be copied to {path}: {error.strerror or error}", file=source) from error


def _compute(job: Job, path: Path) -> None:
    wish = job.release.imatrix
    if wish is None:
        raise AssertionError("asked for by the release")
    settings = CalibrationSettings(contexts=wish.contexts, chunks=wish.chunks)
    run = Calibrating(job.ctx, job.model, job.registry, path, settings)
    run.spare(job.domains)
    with run.alone():
        run.caution(job.domains, job.measured_on)
        unquantized = unquantized_file(job)
        job.say(f"importance matrix: computing {path.name}")
        with run.resumable():
            computed = run.compute(unquantized, job.domains, **job.running)
            write_encoded(path, computed.measurement, "gguf", True)
            computed.done()
    if not job.quiet:
        run.report(computed)
