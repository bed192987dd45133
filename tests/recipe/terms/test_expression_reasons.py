"""Why an expression is true or false, with the values in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantrecipe.recipe.terms.expression import Expression
from quantrecipe.recipe.terms.expression_reasons import reasons
from quantrecipe.recipe.terms.fact_kinds import FACTS

VALUES: Mapping[str, Any] = {
    "arch": "qwen3",
    "n_layers": 40,
    "n_blocks": 40,
    "n_expert": 0,
    "n_gqa": 5,
    "tied_embeddings": False,
    "has_importance": True,
    "layer": None,
    "rank": 5,
    "count": 32,
    "rows": 1,
    "cols": 2,
    "dims": 2,
    "experts": 1,
    "covered": True,
    "source_type": "BF16",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rank < count//8", ["rank < count//8: 5 < 4 is false"]),
        ("n_expert == 0", ["n_expert == 0: 0 == 0 is true"]),
        ("not rank < 3", ["rank < 3: 5 < 3 is false"]),
        ("rank > 3 and n_gqa > 9 and n_expert > 1", ["n_gqa > 9: 5 > 9 is false"]),
        ("rank > 3 and n_gqa > 4", ["rank > 3: 5 > 3 is true", "n_gqa > 4: 5 > 4 is true"]),
        ("rank < 3 or n_gqa > 4 or rank > 4", ["n_gqa > 4: 5 > 4 is true"]),
        ("rank < 3 or not covered", ["rank < 3: 5 < 3 is false", "covered is true"]),
        ("tied_embeddings", ["tied_embeddings is false"]),
        ("True", ["True is true"]),
        ("2 < 3", ["2 < 3 is true"]),
        ("0 <= rank < 4", ["0 <= rank < 4: 0 <= 5 < 4 is false"]),
        ("arch in ['llama', 'phi3']", ["arch in ['llama', 'phi3'] is false: arch is 'qwen3'"]),
        ("'wen' in arch", ["'wen' in arch is true: arch is 'qwen3'"]),
        ("layer >= 3", ["layer >= 3 is false: layer has no value here"]),
        ("layer + 1 != 3", ["layer + 1 != 3 is false: layer + 1 has no value here"]),
        ("(rank -\n4) % 3 == 2", ["(rank - 4) % 3 == 2: 1 == 2 is false"]),
    ],
)
def test_what_makes_it_so(text: str, expected: list[str]) -> None:
    assert list(reasons(Expression.parse(text), VALUES)) == expected


def test_facts_of_the_recipe_are_looked_into() -> None:
    eighth = Expression.parse("count//8")
    early = Expression.parse("rank < eighth or rank > 30", FACTS, {"eighth": eighth})
    when = Expression.parse("not early and n_gqa > eighth", FACTS, {"eighth": eighth, "early": early})
    assert reasons(when, VALUES) == (
        "rank < eighth: 5 < 4 is false",
        "rank > 30: 5 > 30 is false",
        "n_gqa > eighth: 5 > 4 is true",
    )


COMPARISONS = st.sampled_from(
    ["rank < 3", "rank > 3", "covered", "layer == 1", "arch == 'qwen3'", "not covered"]
)
EXPRESSIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda it: f"({it[0]} {it[1]} {it[2]})"),
        inner.map(lambda text: f"(not {text})"),
    ),
    max_leaves=8,
)


@given(EXPRESSIONS)
def test_there_is_always_a_reason(text: str) -> None:
    expression = Expression.parse(text)
    found = reasons(expression, VALUES)
    assert found and len(set(found)) == len(found)
    for reason in found:  # each says what its part is by itself
        part, _, _ = reason.removesuffix(" is true").removesuffix(" is false").partition(": ")
        part = part.removesuffix(" is true").removesuffix(" is false")
        value = bool(Expression.parse(part).evaluate(VALUES))
        assert ("is true" in reason) is value
