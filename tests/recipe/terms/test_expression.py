"""What a `when` can ask, and what it can't."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.terms.expression import Expression
from quantrecipe.recipe.terms.fact_kinds import FACTS, MODEL_FACTS, TENSOR_FACTS

VALUES: dict[str, Any] = {
    "arch": "qwen2",
    "n_layers": 32,
    "n_blocks": 33,
    "n_expert": 0,
    "n_gqa": 4,
    "tied_embeddings": True,
    "has_importance": False,
    "layer": 5,
    "rank": 3,
    "count": 32,
    "rows": 1024,
    "cols": 4096,
    "dims": 2,
    "experts": 1,
    "covered": False,
    "source_type": "BF16",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rank < count//8", True),
        ("rank < count//8 or rank >= 7*count//8 or (rank - count//8) % 3 == 2", True),
        ("rank - count//8 == -1", True),
        ("(rank - 10) % 3 == 2", True),
        ("0 <= layer < 6 <= n_layers", True),
        ("0 <= layer < 5", False),
        ("arch == 'qwen2'", True),
        ('arch != "qwen2"', False),
        ("arch in ['llama', 'qwen2']", True),
        ("arch not in ('llama', 'qwen2')", False),
        ("'qwen' in arch", True),
        ("layer in [1, 3, 5]", True),
        ("layer in [-5]", False),
        ("layer in []", False),
        ("tied_embeddings and not has_importance", True),
        ("tied_embeddings == True", True),
        ("covered or n_expert > 1", False),
        ("-layer + 5 == 0", True),
        ("n_expert == 0 or 8 // n_expert > 1", True),
        ("cols * 0.5 == 2048", True),
        ("True", True),
        ("rank * 2 + 1", 7),
        ("arch\n== 'qwen2'", True),
    ],
)
def test_the_value_of_an_expression(text: str, expected: Any) -> None:
    assert Expression.parse(text).evaluate(VALUES) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layer > 3", False),
        ("layer <= 3", False),
        ("layer == 3", False),
        ("layer != 3", False),
        ("layer in [3]", False),
        ("layer not in [3]", False),
        ("layer % 2 == 0", False),
        ("-layer < 1", False),
        ("0 <= layer < 9", False),
        ("not layer >= 0", True),
        ("layer < 3 or rank == 3", True),
        ("layer + 1", None),
    ],
)
def test_outside_the_blocks_comparisons_with_layer_are_false(text: str, expected: Any) -> None:
    assert Expression.parse(text).evaluate({**VALUES, "layer": None}) == expected


@pytest.mark.parametrize(
    "text", ["'qwen' in arch", "'qwen' not in arch", "arch in 'qwen2'", "arch not in 'qwen2'"]
)
def test_nothing_is_in_a_text_that_isn_t_known_nor_outside_of_it(text: str) -> None:
    assert Expression.parse(text).evaluate({**VALUES, "arch": None}) is False


def test_an_expression_knows_its_kind_and_its_facts() -> None:
    expression = Expression.parse("rank < count // 8 and arch == 'llama'")
    assert expression.names == {"rank", "count", "arch"}
    assert expression.kind == "a yes-or-no"
    assert Expression.parse("rank + 1").kind == "a number"


def test_layout_makes_no_difference_to_the_canonical_text() -> None:
    same = ["rank<count//8  and(covered)", "(rank < (count // 8)) and covered", "rank < count//8 and covered"]
    assert len({Expression.parse(text).canonical for text in same}) == 1
    assert (
        Expression.parse("arch in ['a', 'b']").canonical == Expression.parse('arch in ("b", "a")').canonical
    )
    assert Expression.parse("rank - 1 - 2").canonical != Expression.parse("rank - (1 - 2)").canonical
    assert (
        Expression.parse("rank < count < 3").canonical
        == Expression.parse("rank < count and count < 3").canonical
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rnak < 3", "there is no fact 'rnak'; did you mean 'rank'?"),
        ("arch == llama", "there is no fact 'llama'; known are arch, "),
        ("arch > 3", "'>' compares 'arch', a text, with '3', a number"),
        ("arch in [1]", "'in' compares 'arch', a text, with '1', a number"),
        (
            "n_expert and covered",
            "'and' needs a yes-or-no, but 'n_expert' is a number; compare it: n_expert > 0",
        ),
        ("not rank", "'not' needs a yes-or-no, but 'rank' is a number"),
        ("tied_embeddings > 1", "'>' compares 'tied_embeddings', a yes-or-no, with '1', a number"),
        ("tied_embeddings < covered", "use and, or, not"),
        ("'a' * 1000000000", "'*' needs a number"),
        ("arch + 'x'", "'+' needs a number"),
        ("-arch", "'-' needs a number"),
        ("rank in count", "'in' needs a list or a text behind it"),
        ("rank in [count]", "lists hold numbers or texts, no facts"),
        ("[1, 2]", "lists stand behind `in`"),
        ("rank < 3 in [True]", "'in' compares"),
        ("rank / 2 < 3", "divide with //"),
        ("rank ** 2 < 3", "there are no powers"),
        ("len(arch) > 3", "there are no calls"),
        ("arch.upper() == 'A'", "there are no calls"),
        ("arch.x == 'A'", "there are no attributes"),
        ("arch[0] == 'q'", "there are no subscripts"),
        ("rank if covered else count", "write (A and X) or (not A and Y)"),
        ("covered & tied_embeddings", "write and"),
        ("~rank == 1", "write not"),
        ("rank is 3", "compare with =="),
        ("lambda: 1", "can't be used in an expression"),
        ("f'{rank}' == '3'", "can't be used in an expression"),
        ("[r for r in [1]]", "can't be used in an expression"),
        ("(r := 3) > 1", "can't be used in an expression"),
        ("layer == None", "can't be used in an expression"),
        ("rank == 1j", "can't be used in an expression"),
        ("rank <", "can't be read"),
        ("rank = 3", "can't be read"),
        ("1and covered", "can't be read"),
        ("", "can't be read"),
        ("rank < 3 # few", "no escapes, comments or statements"),
        ("arch == '\\x41'", "no escapes, comments or statements"),
        ("rank < 99999999999999999999", "too large"),
        ("rank < 1e400", "too large"),
        ("not " * 60 + "covered", "nested deeper than 50"),
        ("(" * 300 + "1" + ")" * 300, "can't be read"),
        ("rank < 1 or " * 200 + "covered", "at most 2000"),
    ],
)
def test_what_an_expression_cannot_say(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Expression.parse(text)
    assert message in str(caught.value)


def test_only_the_given_facts_are_known() -> None:
    with pytest.raises(RecipeError, match="there is no fact 'rank' here; known here are arch"):
        Expression.parse("rank < 3", {**MODEL_FACTS, **TENSOR_FACTS})


def test_a_division_by_zero_says_which_facts_were_zero() -> None:
    with pytest.raises(RecipeError, match="divides by zero where n_expert = 0, rank = 3"):
        Expression.parse("rank // n_expert > 1").evaluate(VALUES)
    with pytest.raises(RecipeError, match="divides by zero"):
        Expression.parse("rank % 0 == 1").evaluate(VALUES)


def test_numbers_stay_small() -> None:
    with pytest.raises(RecipeError, match="grows too large"):
        Expression.parse(" * ".join(["cols"] * 6) + " > 1").evaluate(VALUES)


@pytest.mark.parametrize(
    "text", ["-" * 1900 + "1", "~" * 1900 + "1", "f(" + "-" * 1900 + "1)", "[" * 190 + "]" * 190]
)
def test_deep_expressions_are_refused_at_once(text: str) -> None:
    start = time.thread_time()
    with pytest.raises(RecipeError):
        Expression.parse(text)
    assert time.thread_time() - start < 1


SIGNS = "and|or|not|in|<|<=|==|!=|+|-|*|//|%|(|)|[|]|,|0|1|7|'llama'|True|if|else|**|.|:|lambda"
WORDS = [*FACTS, *SIGNS.split("|")]


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join) | st.text(max_size=40))
def test_any_text_is_an_expression_or_a_recipe_error(text: str) -> None:
    for layer in (5, None):
        with suppress(RecipeError):
            Expression.parse(text).evaluate({**VALUES, "layer": layer})


NUMBERS = st.recursive(
    st.sampled_from(["rank", "count", "n_expert", "layer", "0", "3", "-2"]),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "%"]), inner).map(
        lambda t: f"({' '.join(t)})"
    ),
    max_leaves=4,
)
TRUTHS = st.recursive(
    st.tuples(NUMBERS, st.sampled_from(["<", "<=", "==", "!=", ">", ">="]), NUMBERS).map(" ".join),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({' '.join(t)})")
        | inner.map("not ({})".format)
    ),
    max_leaves=4,
)


@given(TRUTHS)
def test_it_means_what_python_means(text: str) -> None:
    try:
        expected = eval(text, {"__builtins__": {}}, VALUES)
    except ZeroDivisionError:
        with pytest.raises(RecipeError):
            Expression.parse(text).evaluate(VALUES)
    else:
        assert Expression.parse(text).evaluate(VALUES) is expected


def nested(kind: str, times: int) -> str:
    """So many operations in each other."""
    if kind == "not":
        return "not " * times + "covered"
    if kind == "-":
        return "-(" * (times - 1) + "layer" + ")" * (times - 1) + " == 1"
    before, inner, after = {
        "and": ("(covered and ", "covered", ")"),
        "or": ("(covered or ", "covered", ")"),
        "+": ("(1 + ", "layer", ")"),
        "+ on the left": ("(", "layer", " + 1)"),
    }[kind]
    comparison = 1 if "+" in kind else 0
    text = before * (times - comparison) + inner + after * (times - comparison)
    return f"{text} > 0" if comparison else text


@pytest.mark.parametrize("kind", ["not", "and", "or", "+", "+ on the left", "-"])
def test_fifty_are_as_deep_as_it_goes(kind: str) -> None:
    assert Expression.parse(nested(kind, 49))
    with pytest.raises(RecipeError, match="nested deeper than 50"):
        Expression.parse(nested(kind, 50))
