"""What write_recipe writes is read back, and looks as if a person had written it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.summarise import DraftRule
from quantrecipe.recipe.write import write_recipe
from quantrecipe.registry import Registry


def test_it_reads_as_if_written_by_hand(registry: Registry) -> None:
    text = write_recipe(
        name="mine",
        summary="A mix: for tests",
        extends=["llama.cpp/Q4_K_M"],
        importance={"file": "imatrix.gguf", "uncovered": "warn"},
        rules=[
            DraftRule(tensors=("head", "attn_{k,v}"), type="Q8_0", why="small", comment="seen in 3 files"),
            DraftRule(
                tensors=("ffn_down",),
                when="layer < n_layers//8 or layer >= 7*n_layers//8 or (layer - n_layers//8) % 3 == 2",
                type="Q6_K",
            ),
            DraftRule(tensors=("ffn_up",), layers="first 1/8, 7", type="Q5_K", optional=True),
        ],
        comments=["Imported from model.gguf"],
    )
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
        "  # seen in 3 files\n"
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
    text = write_recipe(
        name="a", summary=why, rules=[DraftRule(tensors=("attn_v",), type="Q8_0", why=name, comment=comment)],
        comments=[comment],
    )  # fmt: skip
    recipe = load_recipe_text(text, registry=registry)
    assert (recipe.summary, recipe.rules[0].why) == (why, name)


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
            rule = DraftRule(tensors=("attn_v",), type="Q8_0", why=word)
            text = write_recipe(name="a", rules=[rule])
            assert load_recipe_text(text, registry=registry).rules[0].why == word


def test_regular_expressions_stay_readable(registry: Registry) -> None:
    rule = DraftRule(tensors=(r"regex:^blk\.(0|1)\.it's\.weight$",), type="Q8_0")
    text = write_recipe(name="a", rules=[rule])
    assert r"'regex:^blk\.(0|1)\.it''s\.weight$'" in text
    assert load_recipe_text(text, registry=registry).rules[0].tensors[0].text == rule.tensors[0]
