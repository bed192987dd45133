"""The expressions of `regex:` patterns mean what they mean elsewhere, and none of them is slow."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.terms.regex import Regex

NAME = "blk.12.ffn_down_exps.weight"


@pytest.mark.parametrize(
    "text",
    [
        "ffn_down",
        "ffn_.*_exps",
        r"^blk\.(1|2|12)\.ffn",
        r"blk\.([0-9]|1[0-9]|2[0-3])\.ffn_(?:up|gate|down)_exps",
        r"\.weight$",
        "^attn",
        r"blk\.\d+\.",
        r"blk\.\d{2}\.",
        r"blk\.\d{3,}\.",
        r"e{1,2}x",
        "[^a-z]ffn",
        r"[\d.]{3}",
        r"(ffn_)?down",
        "exps?",
        "(attn_k|attn_v)",
        "",
        "x*",
        r"\W\w+\W",
        r"f.+?n",
    ],
)
def test_it_finds_what_pythons_own_engine_finds(text: str) -> None:
    for name in (NAME, "output.weight", "blk.1.attn_k.weight", "", "a.b"):
        assert Regex.parse(text).search(name) == bool(re.search(text, name, re.ASCII)), name


ATOMS = st.sampled_from(["a", "b", r"\.", ".", "[ab]", "[^a]", r"\d", "^", "$"])
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("|".join),
        st.tuples(
            inner.map("(?:{})".format), st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,}", "*?"])
        ).map("".join),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(EXPRESSIONS, st.lists(st.text(alphabet="ab.1", max_size=8), max_size=10))
def test_random_expressions_agree_with_pythons(text: str, names: list[str]) -> None:
    regex, reference = Regex.parse(text), re.compile(text, re.ASCII)
    for name in names:
        assert regex.search(name) == bool(reference.search(name))


@pytest.mark.parametrize(
    "text", ["^(a|a)*$", "^(a*)*$", "(a+)+$", "(.*)(.*)(.*)(.*)x", "(a?){50}a{50}x", "^((a|b)*c|(a|b)*d)*$"]
)
def test_expressions_that_keep_others_busy_for_ever_are_quick(text: str) -> None:
    start = time.thread_time()
    assert not Regex.parse(text).search("a" * 2000 + "!")
    assert time.thread_time() - start < 2


@pytest.mark.parametrize(
    "text",
    ["(((a{1000}){1000}){1000})", "((){1000}){1000}", "(a{100}){101}", "(" * 31 + ")" * 31, "a" * 4001],
)
def test_an_expression_that_is_too_large_is_refused_at_once(text: str) -> None:
    start = time.thread_time()
    with pytest.raises(RecipeError):
        Regex.parse(text)
    assert time.thread_time() - start < 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(?=a)", "look-around"),
        ("(?i)a", "look-around"),
        (r"(a)\1", "\\1 isn't supported"),
        (r"\bffn", "\\b isn't supported"),
        ("a**", "two repetitions"),
        ("*a", "nothing before *"),
        ("^*", "a repeated ^ or $"),
        ("(a", "isn't closed"),
        ("a)", "a ) without its ("),
        ("[a", "isn't closed"),
        ("[z-a]", "a range"),
        ("[[.a.]]", "[.a.], a collating element"),
        ("[[=a=]]", "[=a=], an equivalence class"),
        ("[[:word:]]", "there is no set [:word:]"),
        ("[[:digit:]-z]", "a range"),
        ("[[:digit", "isn't closed by :]"),
        ("a{3", "opens no count"),
        ("a{3,2}", "the smaller number first"),
        ("a\\", "ends too early"),
    ],
)
def test_what_isnt_supported_is_said(text: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Regex.parse(text)
    assert words in str(caught.value)


@given(st.text(alphabet="a()[]{}|*+?^$\\.,-:1", max_size=30) | st.text(max_size=30))
def test_any_text_is_an_expression_or_a_recipe_error(text: str) -> None:
    try:
        regex = Regex.parse(text)
    except RecipeError:
        return
    regex.search(NAME)


PARTS = st.recursive(
    st.text(alphabet="ab.", min_size=1, max_size=3).map(re.escape),
    lambda part: (
        st.lists(part, min_size=1, max_size=3).map("".join)
        | st.lists(part | st.just(""), min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})")
    ),
    max_leaves=6,
)


@given(PARTS, st.text(alphabet="ab.", max_size=12))
def test_an_expression_that_stands_for_a_few_texts_is_found_as_by_python(text: str, name: str) -> None:
    assert Regex.parse(text).search(name) is (re.search(text, name) is not None)


STD_REGEX = json.loads((Path(__file__).parents[2] / "data/recipes/std-regex.json").read_text())
"""What C++ answers: see tools/record_regex_answers.py."""


@pytest.mark.parametrize("lower", [False, True], ids=["as written", "lower-cased"])
def test_what_is_read_is_read_as_cpp_does(lower: bool) -> None:
    """Patterns that ours refuses are few, and named; where C++ refuses one, ours does."""
    wrong, refused = {}, set()
    for text, answers in STD_REGEX["lower-cased" if lower else "answers"].items():
        try:
            regex = Regex.parse(text.lower() if lower else text)
            ours = "".join("01"[regex.search(name)] for name in STD_REGEX["names"])
        except RecipeError:
            refused |= {text} if answers != "E" else set()
            continue
        if ours != answers:
            wrong[text] = (ours, answers)
    assert not wrong
    assert all(re.search(r"\[\[[=.]|\\[a-zA-Z01]|\(\?[=!]|\*\*|\}\{", text) for text in refused)
    assert len(STD_REGEX["answers"]) > 300
