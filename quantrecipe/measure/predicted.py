"""What tensors lose in most types, predicted from a few: `measure_scope` measures the rest, and checks the predictions.

Types lose in all tensors of a role by nearly the same pattern: log D of a type is a constant of the role, and what the
tensor is off by in two anchors, a grid and a K type.

    1. a few layers of each role are measured in all types
    2. each of them is predicted from the others: types that this misses by more than LIMIT aren't predicted
    3. all other tensors are measured in the anchors, in what isn't predicted, and in one type more, drawn by the name
       of the tensor: its check
    4. a tensor whose check is off by more than MISS is measured in all types

Head and embeddings, roles of few layers, and tensors of which an encoder makes the bytes are measured; so is
everything where every row is.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import xxhash
from numpy.typing import NDArray

from quantrecipe.api import QuantFormat
from quantrecipe.measure.journal import Journal
from quantrecipe.measure.known_results import Known
from quantrecipe.measure.measurement import Measurement, Scope, Subject
from quantrecipe.measure.progress import Progress
from quantrecipe.measure.tensors import measure_tensors
from quantrecipe.sensitivity.sensitivity import Loss, TensorSensitivity, rounded
from quantrecipe.tensor import TensorInfo

__all__ = ["FEWEST_LAYERS", "MISS", "Shapes", "measure_scope", "patterns"]

ANCHORS = ("IQ3_XXS", "Q4_K")
FEWEST_LAYERS = 8
"""Tensors of a role; of fewer, next to nothing would be saved."""
FEWEST_TYPES = 8
"""The same of types."""
LIMIT = 0.03
"""Root mean square of a type's misses over the measured layers, relative, up to which it is predicted."""
MISS = 0.06
"""Relative, of a check. benchmarks/measure.py --predicted: 95 % of predictions are off by less than half of that."""
RIDGE = 0.01
"""What anchors are off by that says nothing, in logarithms: about the error of a sample."""

Doubles = NDArray[np.float64]


def measure_scope(
    subject: Subject,
    scope: Scope,
    what: Measurement,
    known: Known,
    journal: Journal,
    progress: Progress,
) -> dict[str, TensorSensitivity]:
    """What `measure_tensors` finds, with most losses predicted where `what.predict` says so."""
    whole = patterns(scope) if what.predict and what.encoding is None and what.sample is not None else {}
    if not whole:
        return measure_tensors(subject, scope, what, known, journal, progress)
    rest = {tensor.name for tensor in scope.tensors if tensor.role in whole}
    rest -= {name for names in whole.values() for name in names}
    found = measure_tensors(
        subject, _only(scope, {t.name for t in scope.tensors} - rest), what, known, journal, progress
    )
    shapes = Shapes({role: [found[name] for name in names] for role, names in whole.items()})
    few = {
        tensor.name: shapes.measured(tensor, scope.formats[tensor.name])
        for tensor in scope.tensors
        if tensor.name in rest
    }
    some = measure_tensors(subject, _only(scope, rest, few), what, known, journal, progress)
    by_name = {tensor.name: tensor for tensor in scope.tensors}
    missed = set()
    for name, now in some.items():
        # What was measured in an earlier run is better than what would be predicted.
        earlier = known(now.digest, by_name[name].size, now.importance)
        losses = dict(now.losses) if earlier is None else {**earlier.losses, **now.losses}
        its = {fmt.spec.name: fmt.spec.version for fmt in scope.formats[name]}
        usable = {
            type_: losses[type_]
            for type_, version in its.items()
            if type_ in losses and losses[type_].version == version
        }
        found[name] = shapes.predicted(by_name[name], replace(now, losses=usable), scope.formats[name])
        if abs(found[name].check) > MISS or len(found[name].losses) < len(its):
            missed.add(name)
    if missed:
        found |= measure_tensors(subject, _only(scope, missed), what, known, journal, progress)
    return {tensor.name: found[tensor.name] for tensor in scope.tensors}


def patterns(scope: Scope) -> dict[str, list[str]]:
    """Roles whose losses can be predicted, with the tensors of them that are measured in all types."""
    by_role: dict[str, list[TensorInfo]] = defaultdict(list)
    for tensor in scope.tensors:
        if tensor.layer is not None:
            by_role[tensor.role].append(tensor)
    found = {}
    for role, tensors in by_role.items():
        types = {tuple(fmt.spec.name for fmt in scope.formats[tensor.name]) for tensor in tensors}
        names = next(iter(types))
        if len(tensors) < FEWEST_LAYERS or len(types) > 1 or len(names) < FEWEST_TYPES:
            continue
        if not {*ANCHORS} <= {*names}:
            continue
        count = max(3, len(tensors) // 8)
        places = np.round(np.linspace(0, len(tensors) - 1, count)).astype(int)
        found[role] = [tensors[place].name for place in places]
    return found


def _only(
    scope: Scope, names: set[str], formats: Mapping[str, tuple[QuantFormat, ...]] | None = None
) -> Scope:
    return replace(
        scope,
        tensors=tuple(tensor for tensor in scope.tensors if tensor.name in names),
        formats={name: its for name, its in {**scope.formats, **(formats or {})}.items() if name in names},
    )


class Shapes:
    """What the tensors that were measured in all types have in common, role by role."""

    def __init__(self, measured: Mapping[str, Sequence[TensorSensitivity]]) -> None:
        self._rows: dict[str, Doubles] = {}
        self._types: dict[str, tuple[str, ...]] = {}
        for role, tensors in measured.items():
            types = tuple(
                name
                for name in tensors[0].losses
                if all(name in it.losses and it.losses[name].error > 0 for it in tensors)
            )
            if {*ANCHORS} <= {*types}:
                self._types[role] = types
                self._rows[role] = np.log([[it.losses[name].error for name in types] for it in tensors])
        self._off = self._misses()

    def predictable(self, role: str) -> tuple[str, ...]:
        """The types that are predicted in tensors of the role."""
        return tuple(
            name
            for name in self._types.get(role, ())
            if name not in ANCHORS and self._off.get(name, math.inf) <= LIMIT
        )

    def measured(self, tensor: TensorInfo, formats: Sequence[QuantFormat]) -> tuple[QuantFormat, ...]:
        """The formats in which a tensor is measured; the one by which it is checked is among them."""
        predicted = self.predictable(tensor.role)
        left = {*predicted} - {self._check_of(tensor.name, predicted)}
        return tuple(fmt for fmt in formats if fmt.spec.name not in left)

    def predicted(
        self, tensor: TensorInfo, found: TensorSensitivity, formats: Sequence[QuantFormat]
    ) -> TensorSensitivity:
        """The tensor with all its losses; as it is where nothing is to be predicted, or where that can't be."""
        predictable = self.predictable(tensor.role)
        check = self._check_of(tensor.name, predictable)
        if not predictable or any(found.losses[name].error <= 0 for name in (*ANCHORS, check)):
            return found
        middle, weights, types = self._fitted(tensor.role, None)
        here = np.log([found.losses[name].error for name in ANCHORS])
        expected = dict(zip(types, np.exp(self._at(here, middle, weights, types)), strict=True))
        sampled = max(
            found.losses[name].standard_error / found.losses[name].error for name in (*ANCHORS, check)
        )
        losses = {}
        for fmt in formats:
            name = fmt.spec.name
            losses[name] = found.losses.get(name) or Loss(
                error=rounded(float(expected[name])),
                standard_error=rounded(float(expected[name]) * math.hypot(self._off[name], sampled)),
                nbytes=fmt.spec.tensor_bytes(tensor.shape),
                version=fmt.spec.version,
            )
        return replace(
            found,
            losses=losses,
            predicted=tuple(name for name in losses if name not in found.losses),
            check=rounded(float(expected[check]) / found.losses[check].error - 1, 3)
            if len(found.losses) < len(losses)
            else 0.0,
        )

    def _check_of(self, name: str, predictable: Sequence[str]) -> str:
        if not predictable:
            return ""
        return predictable[xxhash.xxh3_64_intdigest(name.encode()) % len(predictable)]

    def _misses(self) -> dict[str, float]:
        """By type, how far predictions of each measured tensor from the others are off: root mean square."""
        off: dict[str, list[float]] = defaultdict(list)
        for role, rows in self._rows.items():
            for number, row in enumerate(rows):
                middle, weights, types = self._fitted(role, number)
                found = self._at(row[self._anchors(role)], middle, weights, types)
                for name, miss in zip(types, found - row, strict=True):
                    off[name].append(float(miss))
        return {name: math.sqrt(math.fsum(it * it for it in its) / len(its)) for name, its in off.items()}

    def _anchors(self, role: str) -> list[int]:
        return [self._types[role].index(name) for name in ANCHORS]

    def _fitted(self, role: str, without: int | None) -> tuple[Doubles, Doubles, tuple[str, ...]]:
        """Means of the role, float64 (types,), and what each anchor adds, float64 (anchors, types).

        The second is of all roles with these types. without: the number of a row that is left aside
        """
        types, apart = self._types[role], []
        for other, rows in self._rows.items():
            if self._types[other] == types:
                its = rows if other != role or without is None else np.delete(rows, without, axis=0)
                apart.append(its - its.mean(axis=0))
        rows = self._rows[role]
        middle = (rows if without is None else np.delete(rows, without, axis=0)).mean(axis=0)
        every = np.concatenate(apart)
        anchors = every[:, self._anchors(role)]
        both = anchors.mean(axis=1, keepdims=True)
        # What the anchors don't explain is small where they are alike: then a type is off by what both are.
        square = anchors.T @ anchors + RIDGE**2 * len(every) * np.eye(len(ANCHORS))
        weights: Doubles = np.linalg.solve(square, anchors.T @ (every - both)) + 1 / len(ANCHORS)
        return middle, weights, types

    def _at(self, here: Doubles, middle: Doubles, weights: Doubles, types: Sequence[str]) -> Doubles:
        """Log D in all types of a tensor that has these in the anchors."""
        anchors = [types.index(name) for name in ANCHORS]
        found: Doubles = middle + (here - middle[anchors]) @ weights
        return found
