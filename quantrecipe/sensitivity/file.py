"""The sensitivity file: JSON lines, the first about the whole, then one for each tensor.

    {"quantrecipe_sensitivity": 1, "model": "tiny-code", "analysis": "imatrix 1", …, "probes": […]}
    {"name": "blk.0.attn_k.weight", "digest": "…", "alpha": 0.0123, "losses": {"Q4_K": [0.0047, 2.1e-05, 18432, 1]}, …}

A loss is [D, its standard error, bytes, version of the format]. The file is text that a person can read, cut and
compare; the same measurement gives the same bytes. Numbers have six digits: more would be noise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import msgspec

from quantrecipe.errors import OutputError, SensitivityError
from quantrecipe.sensitivity.sensitivity import (
    Loss,
    Probed,
    Provenance,
    Sensitivity,
    TensorSensitivity,
    frozen,
    rounded,
)
from quantrecipe.typed import Finite, Natural, NotNegative, Positive, json_object, typed
from quantrecipe.whole_file import whole_file

__all__ = [
    "FORMAT",
    "header_of",
    "line_of",
    "line_of_probe",
    "probe_of",
    "read_sensitivity",
    "tensor_of",
    "write_sensitivity",
]

FORMAT = 1
"""Version of the layout."""

_KEY = "quantrecipe_sensitivity"
_LONGEST = 1 << 26
"""Characters of a line; 40 types of a tensor with a thousand experts need a thousandth of it."""


class _Line(msgspec.Struct, kw_only=True):
    """A tensor's line; what a later version adds is left aside."""

    name: str
    digest: str
    weights: Positive
    alpha: NotNegative
    alpha_source: str
    importance: str
    rows: Natural
    losses: dict[str, tuple[NotNegative, NotNegative, Natural, Natural]]
    experts: tuple[NotNegative, ...] = ()
    expert_type: str = ""
    unseen: tuple[Natural, ...] = ()
    predicted: tuple[str, ...] = ()
    check: Finite = 0.0


def write_sensitivity(sensitivity: Sensitivity, path: str | Path) -> None:
    """Write the file; it appears under its name when it is whole, and replaces one that was there."""
    path = Path(path)
    try:
        with whole_file(path) as file:
            for line in _lines(sensitivity):
                file.write(f"{line}\n".encode())
    except OSError as error:
        what = f"{path} can't be written: {error.strerror or error}"
        raise OutputError(what, "name another with -o FILE") from error


def read_sensitivity(path: str | Path) -> Sensitivity:
    """A file that `quantrecipe sensitivity` wrote. SensitivityError names the line where it is something else."""
    path = Path(path)
    try:
        with path.open(encoding="utf-8") as file:
            return _read(path, _numbered(file, path))
    except UnicodeDecodeError as error:
        raise _wrong(path, None, "isn't text in UTF-8") from error
    except OSError as error:
        raise SensitivityError(f"can't be read: {error.strerror or error}", file=path) from error


def header_of(sensitivity: Sensitivity) -> dict[str, Any]:
    """The first line of the file: what is about the whole."""
    return {
        _KEY: FORMAT,
        **asdict(sensitivity.provenance),
        "probes": [line_of_probe(probe) for probe in sensitivity.probes],
    }


def line_of(tensor: TensorSensitivity) -> dict[str, Any]:
    """The line of one tensor."""
    line: dict[str, Any] = {
        "name": tensor.name,
        "digest": tensor.digest,
        "weights": tensor.weights,
        "alpha": rounded(tensor.alpha),
        "alpha_source": tensor.alpha_source,
        "importance": tensor.importance,
        "rows": tensor.rows,
        "losses": {
            name: [rounded(loss.error), rounded(loss.standard_error), loss.nbytes, loss.version]
            for name, loss in tensor.losses.items()
        },
    }
    if tensor.experts:
        line |= {"expert_type": tensor.expert_type, "experts": [rounded(d, 3) for d in tensor.experts]}
    if tensor.unseen:
        line["unseen"] = list(tensor.unseen)
    if tensor.predicted:
        line |= {"predicted": list(tensor.predicted), "check": tensor.check}
    return line


def line_of_probe(probe: Probed) -> dict[str, Any]:
    """A probe, as it stands in the header and in journals."""
    line: dict[str, Any] = {"key": probe.key, "what": probe.what, "kld": rounded(probe.kld)}
    line |= {"standard_error": rounded(probe.standard_error), "resident": probe.resident}
    line["floor"] = rounded(probe.floor)
    if probe.part:
        line["part"] = probe.part
    return line if probe.used else line | {"used": False}


def tensor_of(line: Mapping[str, Any]) -> TensorSensitivity:
    """A tensor's line, read again. ValueError for what is no such line."""
    found = msgspec.structs.asdict(typed(line, _Line))
    losses = {
        name: Loss(error=error, standard_error=standard_error, nbytes=nbytes, version=version)
        for name, (error, standard_error, nbytes, version) in found.pop("losses").items()
    }
    return TensorSensitivity(losses=losses, **found)


def probe_of(line: Mapping[str, Any]) -> Probed:
    """A probe, read again. ValueError for what is none."""
    return typed(line, Probed)


def _lines(sensitivity: Sensitivity) -> Iterator[str]:
    yield _dump(header_of(sensitivity))
    for tensor in sensitivity.tensors.values():
        yield _dump(line_of(tensor))


def _dump(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False, allow_nan=False)


def _numbered(file: Iterable[str], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, text in enumerate(file, 1):
        if len(text) > _LONGEST:
            raise _wrong(path, number, "is too long")
        if not text.strip():
            continue
        try:
            yield number, json_object(text)
        except ValueError as error:
            raise _wrong(path, number, str(error)) from error


def _read(path: Path, lines: Iterator[tuple[int, dict[str, Any]]]) -> Sensitivity:
    number, header = next(lines, (None, {}))
    version = header.get(_KEY)
    if version is None:
        raise _wrong(path, number, f'has no "{_KEY}": this is no sensitivity file')
    if version != FORMAT:
        what = f"is of version {version}; this quantrecipe reads version {FORMAT}"
        raise SensitivityError(
            what,
            "use a newer quantrecipe: pip install --upgrade . in a clone that is up to date",
            file=path,
            line=number,
        )
    try:
        if missing := [item.name for item in fields(Provenance) if item.name not in header]:
            raise ValueError(f"{missing[0]} is missing")
        provenance = typed(header, Provenance)
        probes = typed(header.get("probes"), tuple[Probed, ...])
    except ValueError as error:
        raise _wrong(path, number, f"isn't a header of `quantrecipe sensitivity` ({error})") from error
    tensors: dict[str, TensorSensitivity] = {}
    for number, line in lines:
        try:
            tensor = tensor_of(line)
        except ValueError as error:
            what = f"isn't a tensor of `quantrecipe sensitivity` ({error})"
            raise _wrong(path, number, what) from error
        if tensor.name in tensors:
            raise _wrong(path, number, f"is the second one of {tensor.name}")
        tensors[tensor.name] = tensor
    return Sensitivity(tensors=frozen(tensors), provenance=provenance, probes=probes)


def _wrong(path: Path, line: int | None, what: str) -> SensitivityError:
    return SensitivityError(what, "measure again with `quantrecipe sensitivity`", file=path, line=line)
