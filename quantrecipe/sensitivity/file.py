"""The sensitivity file: JSON lines, the first about the whole, then one for each tensor.

    {"quantrecipe_sensitivity": 1, "model": "tiny-code", "analysis": "imatrix 1", …, "probes": […]}
    {"name": "blk.0.attn_k.weight", "digest": "…", "alpha": 0.0123, "losses": {"Q4_K": [0.0047, 2.1e-05, 18432, 1]}, …}

A loss is [D, its standard error, bytes, version of the format]. The file is text that a person can read, cut and
compare; the same measurement gives the same bytes. Numbers have six digits: more would be noise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

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
_TEXTS = tuple(item.name for item in fields(Provenance) if item.type == "str")


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
    """The first line."""
    return {
        _KEY: FORMAT,
        **asdict(sensitivity.provenance),
        "probes": [line_of_probe(probe) for probe in sensitivity.probes],
    }


def line_of(tensor: TensorSensitivity) -> dict[str, Any]:
    """A tensor's line."""
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
    return line


def line_of_probe(probe: Probed) -> dict[str, Any]:
    """A probe, as it stands in the header and in journals."""
    line: dict[str, Any] = {"key": probe.key, "what": probe.what, "kld": rounded(probe.kld)}
    line["standard_error"] = rounded(probe.standard_error)
    return line if probe.used else line | {"used": False}


def tensor_of(line: Mapping[str, Any]) -> TensorSensitivity:
    """A tensor's line, read again. KeyError, TypeError or ValueError for what is no such line."""
    weights = _count(line["weights"], least=1)
    return TensorSensitivity(
        name=_text(line["name"]),
        digest=_text(line["digest"]),
        weights=weights,
        alpha=_number(line["alpha"]),
        alpha_source=_text(line["alpha_source"]),
        importance=_text(line["importance"]),
        rows=_count(line["rows"]),
        losses={_text(name): _loss(loss) for name, loss in line["losses"].items()},
        experts=tuple(_number(d) for d in line.get("experts", ())),
        expert_type=_text(line.get("expert_type", "")),
        unseen=tuple(_count(number) for number in line.get("unseen", ())),
    )


def probe_of(line: Mapping[str, Any]) -> Probed:
    """A probe, read again. Errors as in `tensor_of`."""
    return Probed(
        key=_text(line["key"]),
        what=_text(line["what"]),
        kld=_number(line["kld"], least=-math.inf),
        standard_error=_number(line["standard_error"]),
        used=line.get("used", True) is True,
    )


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
            line = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _wrong(path, number, f"isn't JSON ({error})") from error
        if not isinstance(line, dict):
            raise _wrong(path, number, "isn't a JSON object")
        yield number, line


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
        provenance, probes = _provenance(header), tuple(probe_of(item) for item in header["probes"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _wrong(path, number, f"isn't a header of `quantrecipe sensitivity` ({_said(error)})") from error
    tensors: dict[str, TensorSensitivity] = {}
    for number, line in lines:
        try:
            tensor = tensor_of(line)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _wrong(
                path, number, f"isn't a tensor of `quantrecipe sensitivity` ({_said(error)})"
            ) from error
        if tensor.name in tensors:
            raise _wrong(path, number, f"is the second one of {tensor.name}")
        tensors[tensor.name] = tensor
    return Sensitivity(tensors=frozen(tensors), provenance=provenance, probes=probes)


def _provenance(header: Mapping[str, Any]) -> Provenance:
    texts = {name: _text(header[name]) for name in _TEXTS}
    return Provenance(**texts, n_layers=_count(header["n_layers"]), prior=_count(header["prior"]))


def _loss(parts: Any) -> Loss:
    error, standard_error, nbytes, version = parts
    return Loss(
        error=_number(error),
        standard_error=_number(standard_error),
        nbytes=_count(nbytes),
        version=_count(version),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _number(value: Any, least: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r:.40} is no number")
    if not math.isfinite(value) or value < least:
        raise ValueError(f"{value} is out of range")
    return float(value)


def _count(value: Any, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{value!r:.40} is no count")
    return value


def _said(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _wrong(path: Path, line: int | None, what: str) -> SensitivityError:
    return SensitivityError(what, "measure again with `quantrecipe sensitivity`", file=path, line=line)
