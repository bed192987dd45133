"""table: alphas from results that others measured, a CSV file of how far the output moved for one tensor at a time.

Three layouts, told apart by the first line:

    tensor,type,kld                    one line for each measurement: KL divergence, in nats
    tensor,type,ppl                    perplexity; what its logarithm rose by is taken
    QTYPE,blk.0.attn_k.weight,…        GGUF-Tool-Suite's kld_results.csv and ppl_results.csv: one line for each type

What the model had before a tensor changed is the line of the tensor `base`, or of a type of 16 bits; without one, the
lowest figure. alpha is what is above it, divided by the tensor's D in that type; where that type isn't known here,
all its tensors are taken to lose the same, and alphas get the prior's sum.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from quantrecipe.api import ModelAnalysis, Study
from quantrecipe.errors import SensitivityError

__all__ = ["Table"]

_LARGEST = 1 << 28  # bytes; the results of a thousand tensors in a hundred types have a hundredth
_NEARLY_EXACT = frozenset({"BF16", "F16", "F32", "BASE"})
_FLOOR = 0.02
"""A tensor whose effect is lost in noise has this share of the median effect: it costs something all the same."""
_NOT_THERE = frozenset({"", "404", "nan", "none", "-"})
_Row = tuple[int, list[str]]
"""A line's number, and its cells."""

_LARGEST_D = 0.25
"""Above, output saturates: types with larger losses only count where there are no others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    """A measurement: what the output was like with one tensor in one type."""

    tensor: str
    type: str
    value: float


class Table(ModelAnalysis):
    """Alphas from a table of results that somebody has measured."""

    name: ClassVar[str] = "table"
    summary: ClassVar[str] = "results that were measured elsewhere, from a CSV file"

    def weigh(self, study: Study) -> Mapping[str, float]:
        """Alphas of the tensors that the file has. SensitivityError where it isn't such a file, or of another model."""
        if study.file is None:
            raise SensitivityError(
                "measured results come from a file, and there is none", "name one with --table FILE"
            )
        kind, lines = _read(study.file)
        by_type = _effects(study.file, kind, lines)
        _require_this_model(study.file, study, by_type)
        found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for type_, effects in by_type.items():
            losses = {
                name: study.losses[name][type_]
                for name in effects
                if type_ in study.losses.get(name, {}) and study.losses[name][type_] > 0
            }
            known = {name: effect for name, effect in effects.items() if name in study.prior}
            if len(losses) < len(known):  # a type that isn't measured here: its tensors lose alike
                same = sum(known.values()) / sum(study.prior[name] for name in known)
                losses = dict.fromkeys(known, same)
            for name, effect in known.items():
                found[name].append((losses[name], effect / losses[name]))
        return {name: _agreed(values) for name, values in sorted(found.items())}


def _agreed(values: list[tuple[float, float]]) -> float:
    """The median of a tensor's alphas over those types whose effect isn't so large that it saturates."""
    gentle = [alpha for d, alpha in values if d <= _LARGEST_D]
    return _median(gentle or [alpha for _, alpha in values])


def _median(values: Iterable[float]) -> float:
    import statistics  # whoever lists analyses doesn't run them

    return statistics.median(values)


def _read(path: Path) -> tuple[str, list[_Line]]:
    """What the table measures, "kld" or "ppl", and its measurements."""
    import csv  # whoever lists analyses doesn't run them

    try:
        if path.stat().st_size > _LARGEST:
            raise SensitivityError("is too large for a table of results", file=path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, row) for row in reader if not _empty(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SensitivityError(f"can't be read as CSV: {error}", file=path) from error
    header = [cell.strip() for cell in rows[0][1]] if rows else []
    lowered = [cell.lower() for cell in header]
    if lowered and lowered[0] == "qtype":
        return _kind_of(path, rows), list(_by_type(path, header, rows[1:]))
    for kind in ("kld", "ppl"):
        if {"tensor", "type", kind} <= set(lowered):
            return kind, list(_by_line(path, lowered, kind, rows[1:]))
    raise SensitivityError(
        "has no header that says what its columns are",
        "expected: tensor,type,kld (or ppl), or QTYPE and the names of tensors",
        file=path,
        line=1,
    )


def _empty(row: Sequence[str]) -> bool:
    """True for blank lines and comments."""
    return not any(cell.strip() for cell in row) or row[0].lstrip().startswith("#")


def _by_line(path: Path, header: Sequence[str], kind: str, rows: Sequence[_Row]) -> Iterator[_Line]:
    places = [header.index(name) for name in ("tensor", "type", kind)]
    for number, row in rows:
        if len(row) <= max(places):
            raise SensitivityError(
                f"has {len(row)} columns (expected: {len(header)})", file=path, line=number
            )
        tensor, type_, text = (row[place].strip() for place in places)
        if text.lower() not in _NOT_THERE:
            yield _Line(tensor=tensor, type=type_, value=_number(path, number, text))


def _by_type(path: Path, header: Sequence[str], rows: Sequence[_Row]) -> Iterator[_Line]:
    names = [name for name in header[1:] if name.lower() != "bpw"]
    if all(name.startswith("group") for name in names):
        raise SensitivityError(
            "has results of the whole model, and none of its tensors",
            "use the kld_results.csv that has a column for each tensor",
            file=path,
            line=1,
        )
    for number, row in rows:
        if len(row) != len(header):
            raise SensitivityError(
                f"has {len(row)} columns (expected: {len(header)})", file=path, line=number
            )
        for name, text in zip(header[1:], row[1:], strict=True):
            if name in names and text.strip().lower() not in _NOT_THERE:
                yield _Line(tensor=name, type=row[0].strip(), value=_number(path, number, text.strip()))


def _kind_of(path: Path, rows: Sequence[_Row]) -> str:
    """Perplexities are above 1 everywhere, divergences of one tensor hardly anywhere; a name may say it, too."""
    if "ppl" in path.name.lower() or "kld" in path.name.lower():
        return "ppl" if "ppl" in path.name.lower() else "kld"
    cells = [cell.strip().rstrip("%") for _, row in rows[1:] for cell in row[1:]]
    numbers = [float(cell) for cell in cells if cell.isascii() and cell.replace(".", "", 1).isdigit()]
    return "ppl" if numbers and min(numbers) > 1 else "kld"


def _number(path: Path, line: int, text: str) -> float:
    try:
        value = float(text.removesuffix("%"))
    except ValueError as error:
        raise SensitivityError(f"{text[:40]!r} is no number", file=path, line=line) from error
    if not math.isfinite(value) or value < 0:
        raise SensitivityError(f"{text[:40]!r} is no measured result", file=path, line=line)
    return value


def _effects(path: Path, kind: str, lines: Sequence[_Line]) -> dict[str, dict[str, float]]:
    """By type, then by tensor: how many nats the output lies above the base."""
    if not lines:
        raise SensitivityError("has no results", file=path)
    base = [line.value for line in lines if line.tensor == "base" or line.type.upper() in _NEARLY_EXACT]
    rest = [line for line in lines if line.tensor != "base" and line.type.upper() not in _NEARLY_EXACT]
    if not rest:
        raise SensitivityError("has results of 16-bit types alone", file=path)
    floor = _median(base) if base else min(line.value for line in rest)
    if kind == "ppl" and (floor <= 0 or min(line.value for line in rest) <= 0):
        raise SensitivityError("has perplexities of 0", file=path)
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for line in rest:
        rise = math.log(line.value / floor) if kind == "ppl" else line.value - floor
        found[line.type.upper()][_full_name(line.tensor)] = rise
    for effects in found.values():
        least = _FLOOR * max(_median(effects.values()), 1e-9)
        for name, rise in effects.items():
            effects[name] = max(rise, least)
    return found


def _full_name(name: str) -> str:
    """The full name of a tensor whose `.weight` may be left out, as in recipes."""
    return name if name.endswith((".weight", ".bias")) else f"{name}.weight"


def _require_this_model(path: Path, study: Study, by_type: Mapping[str, Mapping[str, float]]) -> None:
    names = {name for effects in by_type.values() for name in effects}
    strange = sorted(names - study.prior.keys())
    if 2 * len(strange) > len(names):
        raise SensitivityError(
            f"is of another model: {len(strange)} of its {len(names)} tensors aren't in this one "
            f"(such as {strange[0]})",
            "use results of this model",
            file=path,
        )
