"""The checks of each kind of object, and what runs them one by one."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from quantrecipe.api import Encoder, Executor, ModelAnalysis, QuantFormat, TensorAnalysis
from quantrecipe.model.architectures import Architecture
from quantrecipe.testing import calls, facts, grids, surroundings, values
from quantrecipe.testing.analyses import MODEL_CHECKS, TENSOR_CHECKS
from quantrecipe.testing.architectures import ARCHITECTURE_CHECKS
from quantrecipe.testing.encoders import ENCODER_CHECKS
from quantrecipe.testing.executors import EXECUTOR_CHECKS
from quantrecipe.testing.failure import CheckFailure

__all__ = ["FORMAT_CHECKS", "Check", "Result", "checks_of", "parametrize_with_checks", "run_check"]

FORMAT_CHECKS: tuple[Callable[[QuantFormat, int], None], ...] = (
    facts.check_spec,
    facts.check_sizes,
    facts.check_accepts,
    facts.check_options,
    facts.check_factor,
    facts.check_floats,
    calls.check_shapes,
    calls.check_out,
    calls.check_splits,
    calls.check_repeats,
    calls.check_threads,
    calls.check_layouts,
    values.check_non_finite,
    values.check_zeros,
    values.check_nasty_rows,
    values.check_random_bytes,
    values.check_error_bound,
    values.check_twice,
    values.check_importance,
    values.check_uniform_importance,
    grids.check_grid,
    surroundings.check_light_import,
    surroundings.check_fallback_ends,
    surroundings.check_unique,
)
"""What every format with a codec is held to, the cheap ones first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One promise of one object; calling it raises CheckFailure where it isn't kept."""

    subject: str
    name: str
    promise: str
    run: Callable[[], None]

    def __call__(self) -> None:
        self.run()

    def __str__(self) -> str:
        return f"{self.subject}-{self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What became of a check: `failure` is empty where the promise is kept."""

    check: Check
    failure: str
    seconds: float


def checks_of(subject: object, *, seed: int = 0) -> tuple[Check, ...]:
    """Every check of a format, analysis, encoder, executor or architecture. One without a codec promises nothing."""
    name: str
    checks: Sequence[Callable[[Any, int], None]]
    match subject:
        case QuantFormat():
            name, checks = subject.spec.name, FORMAT_CHECKS if subject.spec.codec else ()
        case TensorAnalysis():
            name, checks = subject.name, TENSOR_CHECKS
        case ModelAnalysis():
            name, checks = subject.name, MODEL_CHECKS
        case Architecture():
            name, checks = subject.name, ARCHITECTURE_CHECKS
        case Encoder():
            name, checks = subject.name, ENCODER_CHECKS
        case Executor():
            name, checks = subject.name, EXECUTOR_CHECKS
        case _:
            what = f"{subject!r} is no format, encoder, executor, architecture, or analysis of a kind that has checks"
            raise TypeError(what)
    return tuple(_check(subject, name, function, seed) for function in checks)


def run_check(check: Check) -> Result:
    """Run it, and keep what it says. Whatever a plugin raises is the answer, except Ctrl-C and lack of memory."""
    start = time.perf_counter()
    failure = ""
    try:
        check()
    except CheckFailure as error:
        failure = str(error)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  # a stranger's code may raise anything; it is shown
        where = traceback.extract_tb(error.__traceback__)[-1]
        failure = f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
    return Result(check=check, failure=failure, seconds=time.perf_counter() - start)


def parametrize_with_checks(subjects: Iterable[Any], *, seed: int = 0) -> Any:
    """A pytest decorator that runs a test once for each check of each format, analysis, encoder and architecture.

    from quantrecipe.testing import parametrize_with_checks
    from quantrecipe_mine import Mine

    @parametrize_with_checks([Mine()])
    def test_contract(check):
        check()
    """
    import pytest

    return pytest.mark.parametrize(
        "check", [check for subject in subjects for check in checks_of(subject, seed=seed)], ids=str
    )


def _check(subject: Any, name: str, function: Callable[[Any, int], None], seed: int) -> Check:
    promise = (function.__doc__ or "").split("\n", 1)[0]
    return Check(
        subject=name,
        name=function.__name__.removeprefix("check_"),
        promise=promise,
        run=lambda: function(subject, seed),
    )
