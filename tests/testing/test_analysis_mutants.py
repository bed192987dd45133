"""The kit's checks of analyses: the built-in ones pass, and each way of being wrong is caught."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from quantrecipe.analyses import ALL
from quantrecipe.analyses.imatrix import Imatrix
from quantrecipe.api import ModelAnalysis, Study
from quantrecipe.errors import SensitivityError
from quantrecipe.testing import Check, checks_of, parametrize_with_checks, run_check


@parametrize_with_checks(ALL)
def test_contract(check: Check) -> None:
    check()


class Negative(Imatrix):
    def row_losses(self, rows: Any, fmt: Any, importance: Any = None) -> Any:
        lost, whole = super().row_losses(rows, fmt, importance)
        return lost - 1e-3, whole


class InFloat32(Imatrix):
    def row_losses(self, rows: Any, fmt: Any, importance: Any = None) -> Any:
        return tuple(sums.astype(np.float32) for sums in super().row_losses(rows, fmt, importance))


class OneNumber(Imatrix):
    def row_losses(self, rows: Any, fmt: Any, importance: Any = None) -> Any:
        return tuple(sums.sum(keepdims=True) for sums in super().row_losses(rows, fmt, importance))


class LosesOnF32(Imatrix):
    def row_losses(self, rows: Any, fmt: Any, importance: Any = None) -> Any:
        lost, whole = super().row_losses(rows, fmt, importance)
        return lost + 1e-12, whole


class UpsideDown(Imatrix):
    def row_losses(self, rows: Any, fmt: Any, importance: Any = None) -> Any:
        lost, whole = super().row_losses(rows, fmt, importance)
        return np.where(lost > 0, whole / np.maximum(lost, 1e-30), 0.0), np.ones_like(whole)


class RelativeToAllRows(Imatrix):
    def row_losses(self, rows: Any, fmt: Any, importance: Any = None) -> Any:
        lost, whole = super().row_losses(rows, fmt, importance)
        total = whole.sum()
        return lost / (total or 1.0), whole / (total or 1.0)


class ChangesWeights(Imatrix):
    def row_losses(self, rows: Any, fmt: Any, importance: Any = None) -> Any:
        answer = super().row_losses(rows, fmt, importance)
        if rows.flags.writeable:
            rows *= np.float32(2)
        return answer


class NeedsWritableRows(Imatrix):
    def row_losses(self, rows: Any, fmt: Any, importance: Any = None) -> Any:
        rows *= np.float32(1)
        return super().row_losses(rows, fmt, importance)


class LetsNaNThrough(Imatrix):
    def row_losses(self, rows: Any, fmt: Any, importance: Any = None) -> Any:
        return super().row_losses(np.nan_to_num(rows, posinf=0), fmt, importance)


class NoVersion(Imatrix):
    version = 0


class Fair(ModelAnalysis):
    """Right: measures each role once, as far as the probes go."""

    name = "fair"
    summary = "a role at a time"

    def weigh(self, study: Study) -> Mapping[str, float]:
        if study.evaluate is None:
            raise SensitivityError("it needs an engine", "give --text")
        weights: dict[str, float] = {}
        for role in sorted({tensor.role for tensor in study.tensors})[: self.allowed(study)]:
            names = [tensor.name for tensor in study.tensors if tensor.role == role]
            moved = study.evaluate(dict.fromkeys(names, "Q3_K")).kld
            weights |= {name: moved / sum(study.losses[each]["Q3_K"] for each in names) for name in names}
        return weights

    def allowed(self, study: Study) -> int:
        return study.probes


class Spendthrift(Fair):
    def allowed(self, study: Study) -> int:
        return study.probes + 1


class NegativeWeights(Fair):
    def weigh(self, study: Study) -> Mapping[str, float]:
        return {name: -weight for name, weight in super().weigh(study).items()}


class WeighsOthers(Fair):
    def weigh(self, study: Study) -> Mapping[str, float]:
        return {**super().weigh(study), "blk.99.attn_q.weight": 1.0}


class Moody(Fair):
    calls = 0

    def weigh(self, study: Study) -> Mapping[str, float]:
        type(self).calls += 1
        return {name: weight * self.calls for name, weight in super().weigh(study).items()}


class CrashesWithoutProbes(Fair):
    def weigh(self, study: Study) -> Mapping[str, float]:
        assert study.evaluate is not None
        return super().weigh(study)


class Swapping(ModelAnalysis):
    """Right: looks at inputs, and weighs by what zeroing the columns that matter least does."""

    name = "swapping"
    summary = "columns taken away"

    def weigh(self, study: Study) -> Mapping[str, float]:
        if study.swap is None or study.look is None:
            raise SensitivityError("it needs an engine", "give --text")
        seen = study.look(self.reduce(), [tensor.name for tensor in study.tensors])
        names = [tensor.name for tensor in study.tensors][: study.probes]
        return {name: study.swap({name: self.change(seen[name])}).kld for name in names}

    def reduce(self) -> Any:
        return absolute

    def change(self, seen: Any) -> Any:
        kept = np.asarray(seen >= np.median(seen), np.float32)
        return lambda rows, start: rows * kept


def absolute(inputs: Any) -> Any:
    return np.abs(inputs).sum(axis=0, dtype=np.float64)


class LooksFromWithin(Swapping):
    def reduce(self) -> Any:
        return lambda inputs: np.abs(inputs).sum(axis=0, dtype=np.float64)


class KeepsEveryToken(Swapping):
    def reduce(self) -> Any:
        return by_token

    def change(self, seen: Any) -> Any:
        return lambda rows, start: rows


def by_token(inputs: Any) -> Any:
    return np.abs(inputs).sum(axis=1, dtype=np.float64)


class ReducesToNaN(Swapping):
    def reduce(self) -> Any:
        return not_finite


def not_finite(inputs: Any) -> Any:
    return absolute(inputs) * np.nan


class SwapsInFloat64(Swapping):
    def change(self, seen: Any) -> Any:
        return lambda rows, start: rows.astype(np.float64)


class SwapsNaN(Swapping):
    def change(self, seen: Any) -> Any:
        return lambda rows, start: rows * np.float32(np.nan)


class NormalisesThePiece(Swapping):
    def change(self, seen: Any) -> Any:
        return lambda rows, start: rows / np.float32(np.abs(rows).max())


class ForgetsWhereItIs(Swapping):
    def change(self, seen: Any) -> Any:
        return lambda rows, start: rows * np.arange(1, len(rows) + 1, dtype=np.float32)[:, None]


class SwapsTooOften(Swapping):
    def weigh(self, study: Study) -> Mapping[str, float]:
        found = dict(super().weigh(study))
        assert study.swap is not None
        study.swap({study.tensors[0].name: lambda rows, start: rows})
        return found


MUTANTS: list[tuple[type[Any], str]] = [
    (Negative, "losses"),
    (InFloat32, "losses"),
    (OneNumber, "losses"),
    (LosesOnF32, "lossless"),
    (UpsideDown, "finer_is_better"),
    (RelativeToAllRows, "rows_apart"),
    (ChangesWeights, "input_kept"),
    (NeedsWritableRows, "input_kept"),
    (LetsNaNThrough, "not_finite"),
    (NoVersion, "words"),
    (Spendthrift, "weights"),
    (NegativeWeights, "weights"),
    (WeighsOthers, "weights"),
    (Moody, "weights"),
    (CrashesWithoutProbes, "weights"),
    (LooksFromWithin, "weights"),
    (KeepsEveryToken, "weights"),
    (ReducesToNaN, "weights"),
    (SwapsInFloat64, "weights"),
    (SwapsNaN, "weights"),
    (NormalisesThePiece, "weights"),
    (ForgetsWhereItIs, "weights"),
    (SwapsTooOften, "weights"),
]


@parametrize_with_checks([Fair(), Swapping()])
def test_a_right_one_passes(check: Check) -> None:
    check()


@pytest.mark.parametrize(("mutant", "name"), MUTANTS, ids=lambda it: getattr(it, "__name__", it))
def test_every_mutant_is_caught(mutant: type[Any], name: str) -> None:
    (check,) = (check for check in checks_of(mutant()) if check.name == name)
    with np.errstate(all="ignore"):
        assert run_check(check).failure


def test_every_mutant_is_in_the_list() -> None:
    made_here = [
        it
        for it in (*Imatrix.__subclasses__(), *Fair.__subclasses__(), *Swapping.__subclasses__())
        if it.__module__ == __name__
    ]
    assert {mutant for mutant, _ in MUTANTS} == set(made_here)
