"""Pieces: the folder in which several processes put what they make of one plan.

OUT.quantrecipe-pieces/pieces.json     which run it is of, and how its work is cut: whoever comes first decides it
                       000007.piece    a unit that is made (`piece.py`)
                       000008.lease    one that somebody makes (`leases.py`)
                       new-…, here-…   on their way; what a killed process leaves of them is removed at the end
"""

from __future__ import annotations

import json
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

import xxhash

from quantrecipe.errors import OutputError
from quantrecipe.output.run_key import difference, run_key
from quantrecipe.output.shares.leases import LEASE_SECONDS
from quantrecipe.output.shares.units import WorkUnit, cut, unit_bytes
from quantrecipe.output.write_errors import write_error
from quantrecipe.plan.plan import Plan

__all__ = ["Pieces", "open_pieces", "pieces_path"]

_MARKER = "pieces.json"
_FORMAT = 2
_SUFFIX = ".quantrecipe-pieces"
_PIECE = re.compile(r"[0-9]{6,9}\.piece")


def pieces_path(out: Path) -> Path:
    """Where the pieces of an output are, unless the user says otherwise."""
    return out.with_name(out.name + _SUFFIX)


class Pieces:
    """A folder of pieces of one run.

    run:   digest of all that the bytes depend on
    units: all of the plan
    lease_seconds: after so long without a sign of life, a unit is taken over
    """

    def __init__(self, folder: Path, run: str, units: tuple[WorkUnit, ...], lease_seconds: float) -> None:
        self.folder, self.run, self.units, self.lease_seconds = folder, run, units, lease_seconds

    def path(self, number: int) -> Path:
        """The piece of a unit."""
        return self.folder / f"{number:06d}.piece"

    def made(self) -> set[int]:
        """Numbers of the units that have their piece. OutputError where the folder can't be read."""
        try:
            names = [it.name for it in self.folder.iterdir()]
        except OSError as error:
            raise write_error(error, self.folder) from error
        return {int(it.removesuffix(".piece")) for it in names if _PIECE.fullmatch(it)}

    def remove(self) -> None:
        """Remove what is in it, and the folder if nothing else is."""
        for pattern in ("*.piece", "*.lease", "new-*", "here-*", _MARKER):
            for path in self.folder.glob(pattern):
                with suppress(OSError):
                    path.unlink()
        with suppress(OSError):  # somebody has put something there
            self.folder.rmdir()


def open_pieces(
    folder: Path,
    plan: Plan,
    *,
    nan: str,
    workers: int = 1,
    create: bool = True,
    nbytes: int | None = None,
    lease_seconds: float = LEASE_SECONDS,
) -> Pieces:
    """The folder, made if it isn't there and `create` says so. OutputError where it is of another run.

    workers: how many there are to be, where this one comes first and decides how the work is cut
    nbytes:  of a unit, then; None for what is best for so many workers
    """
    key = json.loads(json.dumps(run_key(plan, nan=nan, copies=True)))
    said = _read(folder)
    if said is None:
        if not create:
            raise OutputError(
                f"{folder} has no pieces", "make them first: `--part 1/4` to `--part 4/4`, for example"
            )
        said = {
            "quantrecipe-pieces": _FORMAT,
            "key": key,
            "unit_bytes": nbytes or unit_bytes(plan, workers),
            "lease_seconds": lease_seconds,
        }
        said = _write(folder, said)
    if said["key"] != key:
        raise OutputError(
            f"{folder} has pieces of {difference(said['key'], key)}",
            "remove it to start over, or name another folder with --pieces",
        )
    run = xxhash.xxh3_128_hexdigest(json.dumps([key, said["unit_bytes"]], sort_keys=True).encode())
    return Pieces(folder, run, cut(plan, said["unit_bytes"]), said["lease_seconds"])


def _read(folder: Path) -> dict[str, Any] | None:
    path = folder / _MARKER
    try:
        said: dict[str, Any] = json.loads(path.read_bytes())  # if it is one
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise OutputError(f"{path} is damaged ({error})", f"remove {folder} to start over") from error
    except OSError as error:
        raise write_error(error, path) from error
    check = said.pop("check", None) if isinstance(said, dict) else None
    sound = check is not None and check == _check_of(said)
    foreign = not isinstance(said, dict) or said.get("quantrecipe-pieces") != _FORMAT
    if not sound and (check is not None or not foreign):
        raise OutputError(
            f"{path} is damaged: it isn't as it was written",
            f"look at the disk; remove {folder} to start over",
        )
    if foreign:
        raise OutputError(
            f"{folder} has pieces of another version of quantrecipe",
            "remove it to start over, or name another folder with --pieces",
        )
    return said


def _check_of(said: dict[str, Any]) -> str:
    """XXH3-64, in hex, of what the marker says, in one form."""
    return xxhash.xxh3_64_hexdigest(json.dumps(said, sort_keys=True).encode())


def _write(folder: Path, said: dict[str, Any]) -> dict[str, Any]:
    """Say what the folder is of, unless another has said it first: then what that one says."""
    path = folder / _MARKER
    ours = folder / f"new-{os.getpid()}-{secrets.token_hex(8)}"
    try:
        folder.mkdir(exist_ok=True)
        names = [it.name for it in folder.iterdir()]
        if _MARKER not in names and not {it.split("-")[0] for it in names} <= {"new", "here"}:
            raise OutputError(
                f"{folder} isn't a folder of pieces, and isn't empty", "name another folder with --pieces"
            )
        with ours.open("xb") as file:
            file.write(json.dumps(said | {"check": _check_of(said)}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(ours, path)  # which fails where the name is taken
        except FileExistsError:
            pass
        except OSError:  # a file system without links: of two that come at once, the last one counts
            if not path.exists():
                ours.replace(path)
        with suppress(OSError):
            ours.unlink()
    except OSError as error:
        raise write_error(error, path) from error
    return _read(folder) or said
