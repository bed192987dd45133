"""run_key: what the bytes of an output depend on, so that a run goes on only with what would have come out of itself.

The model's files are known by name, size, time of change, and a hash of both their ends: to read all of hundreds of
gigabytes would take as long as a good part of the work. Those on the hub are known by their commit, those in an object
store by what it says of them; what llama.cpp's converter computes is known by nothing, so no other run goes on with it.

Machines that share a run may each have a copy of the model, made at another time. There, samples from all over a file
take the place of the time of change.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import xxhash

from quantrecipe import __version__
from quantrecipe.errors import ModelError
from quantrecipe.plan.plan import Plan
from quantrecipe.remote_files import place_of, remote_file

__all__ = ["difference", "file_key", "run_key"]

_FORMAT = 2
"""Of the journal's records."""

_END = 1 << 16  # bytes of each end of a file
_SAMPLES, _SAMPLE = 16, 1 << 12

_SAID = {
    "version": "another version of quantrecipe",
    "model": "another model, or of files that have changed since",
    "importance": "another importance matrix",
    "statistics": "other statistics",
    "encoders": "other encoders, or other options of them",
    "recipe": "another recipe",
    "plan": "another plan",
    "nan": "another --nan",
}


def run_key(plan: Plan, *, nan: str, copies: bool = False) -> dict[str, Any]:
    """By what it is. ModelError where a file of the model can't be read.

    copies: other machines may have copies of the model's files, which were changed at other times
    """
    encoders = {(e.name, str(e.version), repr(sorted(e.options.items()))) for e in _encoders(plan)}
    places = [[a.tensor.name, a.offset, a.nbytes] for file in plan.files for a in file.assignments]
    return {
        "version": f"{__version__}, {_FORMAT}",
        "model": [file_key(path, copies=copies) for path in plan.model.files],
        "importance": "" if plan.importance is None else plan.importance.digest,
        "statistics": "" if plan.statistics is None else plan.statistics.digest,
        "encoders": [list(it) for it in sorted(encoders)],
        "recipe": plan.recipe_digest,
        "plan": [plan.digest, xxhash.xxh3_128_hexdigest(repr(places).encode())],
        "nan": nan,
    }


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What a journal with the old key is of, for the user who has the new one."""
    return next((said for name, said in _SAID.items() if old.get(name) != new[name]), "another run")


def _encoders(plan: Plan) -> list[Any]:
    return [a.encoder for a in plan.assignments if a.encoder is not None]


def file_key(path: Path, *, copies: bool = False) -> list[Any]:
    """By what a file is known; `copies` as for `run_key`. ModelError where it can't be read."""
    place = place_of(path)
    if (remote := remote_file(path)) is not None:
        head = xxhash.xxh3_128_hexdigest(remote.head(0, _END))
        return [path.name, remote.size, remote.identity or secrets.token_hex(16), head]
    try:
        with path.open("rb") as file:
            begin = file.read(_END)
            if place is not None:  # some machines have it in a cache, others read it where it is
                return [path.name, place.size, place.identity, xxhash.xxh3_128_hexdigest(begin)]
            size = file.seek(0, 2)
            file.seek(max(0, size - _END))
            ends = xxhash.xxh3_128_hexdigest(begin + file.read(_END))
            if not copies:
                return [path.name, size, path.stat().st_mtime_ns, ends]
            samples = xxhash.xxh3_128()
            for number in range(_SAMPLES):
                file.seek(size * (2 * number + 1) // (2 * _SAMPLES))
                samples.update(file.read(_SAMPLE))
            return [path.name, size, samples.hexdigest(), ends]
    except OSError as error:
        raise ModelError(f"can't be read: {error.strerror or error}", file=path) from error
