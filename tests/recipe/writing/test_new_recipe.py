"""What write_recipe writes is read back, and looks as if a person had written it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from quantrecipe.errors import RecipeError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.recipe.load import load_part, load_recipe_text
from quantrecipe.recipe.origin import NOWHERE
from quantrecipe.recipe.reading.recipe_part import RecipePart
from quantrecipe.recipe.reading.rule_items import Inclusion
from quantrecipe.recipe.recipe import Rule
from quantrecipe.recipe.target import Target
from quantrecipe.recipe.terms.expression import Expression
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.recipe.writing.new_recipe import write_recipe
from quantrecipe.recipe.writing.role_columns import MORE_BITS
from quantrecipe.registry import Registry


def test_it_reads_as_if_written_by_hand(registry: Registry) -> None:
    part = RecipePart(
        file="mine.yaml",
        name="mine",
        summary="A mix: for tests",
        extends=(Inclusion(ref="llama.cpp/Q4_K_M"),),
        importance={"file": "imatrix.gguf", "uncovered": "warn"},
        rules=(
            Rule.of(["head", "attn_{k,v}"], type="Q8_0", why="small"),
            Rule.of(["ffn_down"], when=MORE_BITS, type="Q6_K"),
            Rule.of(["ffn_up"], layers="first 1/8, 7", type="Q5_K", optional=True),
        ),
    )
    text, _ = write_recipe(part, ["Imported from model.gguf"])
    assert text == (
        "# Imported from model.gguf\n"
        "quantrecipe: 1\n"
        "name: mine\n"
        'summary: "A mix: for tests"\n'
        "extends: llama.cpp/Q4_K_M\n"
        "importance: {file: imatrix.gguf, uncovered: warn}\n"
        "facts:\n"
        "  more_bits: layer < n_layers//8 or layer >= 7*n_layers//8 or (layer - n_layers//8) % 3 == 2\n"
        "rules:\n"
        '  - tensors: [head, "attn_{k,v}"]\n'
        "    type: Q8_0\n"
        "    why: small\n"
        "  - tensors: ffn_down\n"
        "    when: more_bits\n"
        "    type: Q6_K\n"
        "  - tensors: ffn_up\n"
        "    layers: first 1/8, 7\n"
        "    type: Q5_K\n"
        "    optional: true\n"
    )
    assert len([rule for rule in load_recipe_text(text, registry=registry).rules if rule.own]) == 3


WRITABLE = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=60
).filter(str.strip)


@settings(max_examples=examples(300), deadline=None)
@given(why=WRITABLE, name=WRITABLE, comment=WRITABLE)
def test_any_text_comes_back(why: str, name: str, comment: str, registry: Registry) -> None:
    rule = Rule.of(["attn_v"], type="Q8_0", why=name)
    text, _ = write_recipe(RecipePart(file="a", name="a", summary=why, rules=(rule,)), [comment])
    recipe = load_recipe_text(text, registry=registry)
    assert (recipe.summary, recipe.rules[0].why) == (why, name)


def written(*rules: Rule) -> str:
    return write_recipe(RecipePart(file="a", name="a", rules=rules))[0]


def test_words_that_yaml_would_take_for_something_else_are_quoted(registry: Registry) -> None:
    for word in (
        "true",
        "Null",
        "yes",
        "off",
        "1e5",
        "0x1F",
        "12",
        "-",
        "a: b",
        "a #b",
        "",
        "~",
        "[a]",
        "=",
        "<<",
    ):
        if word:
            text = written(Rule.of(["attn_v"], type="Q8_0", why=word))
            assert load_recipe_text(text, registry=registry).rules[0].why == word


def test_regular_expressions_stay_readable(registry: Registry) -> None:
    rule = Rule.of([r"regex:^blk\.(0|1)\.it's\.weight$"], type="Q8_0")
    text = written(rule)
    assert r"'regex:^blk\.(0|1)\.it''s\.weight$'" in text
    assert load_recipe_text(text, registry=registry).rules[0].tensors == rule.tensors


def test_a_part_means_what_its_text_means(registry: Registry) -> None:
    """Also to the places of its rules, and to the text that is recorded in files."""
    part = RecipePart(
        file="mine.yaml",
        name="mine",
        summary="for tests",
        extends=(Inclusion(ref="llama.cpp/Q4_K_M"),),
        target=Target(engine="llama.cpp", build="b7000", device=None, origin=NOWHERE),
        default="Q5_K",
        file_type="Q5_K_M",
        fallback="error",
        importance={"required": True},
        prune=LayerSet.parse("3, 4"),
        rules=(
            Rule.of(["head", "attn_{k,v}"], type="Q8_0", why="small"),
            Rule.of(["ffn_down"], when=MORE_BITS, type="Q6_K"),
            Rule.of(["token_embd"], when=Expression.parse("tied_embeddings"), type="keep", optional=True),
            Rule.of(["ffn_up", "name:a b"], layers="first 4", choose=("Q4_K", "Q5_K")),
        ),
    )
    text, placed = write_recipe(part, ["Two lines", "of comments"])
    read = load_recipe_text(text, file="mine.yaml", registry=registry)
    made = load_part(placed, registry=registry)
    assert (made.digest, made.text, made.default_origin) == (read.digest, read.text, read.default_origin)
    own = [rule for rule in read.rules if rule.own]
    assert [rule for rule in made.rules if rule.own] == own and len(made.rules) == len(read.rules)
    assert [str(rule.origin) for rule in own] == [f"mine.yaml:{line}" for line in (16, 19, 22, 26)]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"requires": ("no-such-package",)}, "plugins are switched off"),
        ({"default": "Q9_K"}, "Q9_K"),
        ({"rules": (Rule.of(["attn_v"], type="Q9_K"),)}, "Q9_K"),
        ({"metadata": {"general.architecture": GGUFValue.of(ValueType.STRING, "x")}}, "can't be set"),
        ({"file_type": "Q9_K_M"}, "file_type: 'Q9_K_M' isn't known"),
        ({"extends": (Inclusion(ref="llama.cpp/Q9_K_M"),)}, "Q9_K_M"),
    ],
    ids=["requires", "default", "type", "metadata", "file_type", "extends"],
)
def test_what_no_recipe_may_say_is_refused(keys: dict[str, Any], message: str, registry: Registry) -> None:
    with pytest.raises(RecipeError, match=message):
        load_part(RecipePart(file="a.yaml", name="a", **keys), registry=registry)


def test_a_float32_is_written_with_the_digits_that_it_has(registry: Registry) -> None:
    part = RecipePart(file="a", name="a", metadata={"my.share": GGUFValue.of(ValueType.FLOAT32, 0.1)})
    text, _ = write_recipe(part)
    assert "metadata: {my.share: {type: f32, value: 0.1}}\n" in text
    assert load_recipe_text(text, registry=registry).metadata == part.metadata
