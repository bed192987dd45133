"""The kit is worth what it catches: a right format passes, and each way of being wrong fails the check meant for it."""

from __future__ import annotations

import numpy as np
import pytest
from support.examples import sampled
from support.mutant_formats import FORMAT_MUTANTS, DependsOnOrder, NoRowsFail, ReturnsItsBuffer, Right
from support.mutant_grids import (
    GRID_MUTANTS,
    RIGHT_GRIDS,
    BooksBeyond,
    FoursLeaveSome,
    FoursOfOneKind,
    FoursTakeAll,
    ManyPairs,
)

from quantrecipe.api import QuantFormat
from quantrecipe.testing import CheckFailure, checks_of, run_check

MUTANTS = [*FORMAT_MUTANTS, *GRID_MUTANTS]


def failures(fmt: QuantFormat, seed: int = 0, only: str | None = None) -> dict[str, str]:
    with np.errstate(all="ignore"):
        results = [run_check(check) for check in checks_of(fmt, seed=seed) if only in (None, check.name)]
    return {result.check.name: result.failure for result in results if result.failure}


@pytest.mark.parametrize("right", RIGHT_GRIDS, ids=lambda it: it.__name__)
def test_a_right_grid_passes(right: type[Right]) -> None:
    assert failures(right(), only="grid") == {}


@pytest.mark.parametrize("seed", sampled(range(3)))
def test_the_right_format_passes(seed: int) -> None:
    assert failures(Right(), seed) == {}


@pytest.mark.parametrize(("mutant", "check"), MUTANTS, ids=lambda it: getattr(it, "__name__", it))
@pytest.mark.filterwarnings("ignore")
def test_every_mutant_is_caught(mutant: type[Right], check: str) -> None:
    assert list(failures(mutant(), only=check)) == [check]


def test_every_mutant_is_in_the_list() -> None:
    wrong = {*Right.__subclasses__(), *(it for right in RIGHT_GRIDS for it in right.__subclasses__())}
    wrong -= {*RIGHT_GRIDS}
    assert {mutant for mutant, _ in MUTANTS} == wrong


def said(mutant: type[Right], check: str) -> str:
    return failures(mutant(), only=check)[check]


def test_the_report_names_row_block_and_bits() -> None:
    assert said(DependsOnOrder, "splits").split(": ", 1)[1].endswith("(bits 0)"), (
        "one code of the second row, its lowest bit"
    )
    assert "in row 1, byte 2 of block 0" in said(DependsOnOrder, "splits")
    assert "weight" in said(ReturnsItsBuffer, "repeats") or "byte" in said(ReturnsItsBuffer, "repeats")


@pytest.mark.parametrize(
    ("mutant", "words"),
    [
        (FoursLeaveSome, "fours have each place of a group of at most 256 once"),
        (FoursOfOneKind, "some of the values are odd, and others are even"),
        (FoursTakeAll, "it should be a FormatError"),
        (BooksBeyond, "must be uint8 (32, 32), below 2"),
        (ManyPairs, "of pairs there are at most 4096"),
    ],
)
def test_the_report_says_what_is_wrong_with_a_grid(mutant: type[Right], words: str) -> None:
    assert words in said(mutant, "grid")


def test_a_crash_of_the_plugin_is_a_failure_with_its_place() -> None:
    assert "IndexError" in said(NoRowsFail, "shapes")
    assert "mutant_formats.py:" in said(NoRowsFail, "shapes")


def test_checks_without_a_subject_are_refused() -> None:
    with pytest.raises(TypeError, match="is no format, encoder, executor, architecture, or analysis"):
        checks_of("Q4_K")


def test_a_failure_is_an_assertion() -> None:
    assert issubclass(CheckFailure, AssertionError)


def test_promises_are_sentences() -> None:
    for check in checks_of(Right()):
        assert check.promise.endswith("."), check.name
