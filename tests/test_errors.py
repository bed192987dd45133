from __future__ import annotations

from pathlib import Path

from quantrecipe.errors import Problem, abridged


def problems(count: int) -> list[Problem]:
    return [Problem(what=f"tensor {number} is missing", file=Path("m")) for number in range(count)]


def test_a_few_problems_are_told_in_full() -> None:
    assert list(abridged(problems(5))) == problems(5)
    assert list(abridged([])) == []


def test_of_many_the_first_are_told_and_how_many_more_there_are() -> None:
    told = abridged(problems(7))
    assert list(told[:5]) == problems(5)
    assert [str(problem) for problem in told[5:]] == ["m: … and 2 more like these"]
