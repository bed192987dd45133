"""Errors of parts get the place that only their callers know, and many problems are told by the first of them."""

from __future__ import annotations

from quantrecipe.errors import PlanError, Problem, RecipeError, abridged


def test_problems_without_a_place_get_one() -> None:
    here = Problem(what="here", remedy="mend it", file="a.yaml", line=3, column=7)
    error = RecipeError([here, Problem(what="somewhere", code="QR002")])
    assert error.at("b.yaml", 9) == [here, Problem(what="somewhere", code="QR002", file="b.yaml", line=9)]


def test_all_problems_are_kept_and_told() -> None:
    error = PlanError(RecipeError([Problem(what="one"), Problem(what="two", remedy="mend it")]).at("a.yaml"))
    assert str(error) == "a.yaml: one\na.yaml: two; mend it"


def test_nothing_names_a_place() -> None:
    assert RecipeError("so it is").at(None) == [Problem(what="so it is")]


def problems(count: int) -> list[Problem]:
    return [Problem(what=f"tensor {number} is missing", file="m") for number in range(count)]


def test_a_few_problems_are_told_in_full() -> None:
    assert list(abridged(problems(5))) == problems(5)
    assert list(abridged([])) == []


def test_of_many_the_first_are_told_and_how_many_more_there_are() -> None:
    told = abridged(problems(7))
    assert list(told[:5]) == problems(5)
    assert [str(problem) for problem in told[5:]] == ["m: … and 2 more like these"]
