"""The key `encoder`, of a recipe and of a rule: what is read, inherited, recorded, and refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.load import load_recipe, load_recipe_text
from quantrecipe.recipe.recipe import EncoderChoice, Recipe
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.recipe.writing.flatten import flat_text
from quantrecipe.registry import load_registry

REGISTRY = load_registry(plugins=False)
BODY = """
quantrecipe: 1
default: Q4_K
encoder: {name: feedback, damping: 0.1}
rules:
  - {tensors: attn_v, type: Q6_K, encoder: plain, why: it has outliers}
  - {tensors: attn_k, type: Q6_K, why: it is small}
"""


def read(text: str) -> Recipe:
    return load_recipe_text(text, registry=REGISTRY)


def test_a_name_or_a_mapping() -> None:
    found = read(BODY)
    assert found.encoder == EncoderChoice(name="feedback", options={"damping": 0.1})
    assert [rule.encoder for rule in found.rules] == [EncoderChoice(name="plain"), None]
    assert read("quantrecipe: 1\ndefault: Q4_K\n").encoder is None


def test_a_recipe_s_own_goes_before_its_parent_s(tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text(BODY, encoding="utf-8")
    heir, other = tmp_path / "heir.yaml", tmp_path / "other.yaml"
    heir.write_text("quantrecipe: 1\nextends: parent.yaml\n", encoding="utf-8")
    other.write_text("quantrecipe: 1\nextends: parent.yaml\nencoder: plain\n", encoding="utf-8")
    assert load_recipe(heir, registry=REGISTRY).encoder == EncoderChoice(
        name="feedback", options={"damping": 0.1}
    )
    assert load_recipe(other, registry=REGISTRY).encoder == EncoderChoice(name="plain")


def test_layers_that_are_left_out() -> None:
    found = read(BODY.replace("0.1}", "0.1, except_layers: 'last 2, 0'}"))
    assert found.encoder is not None
    assert str(found.encoder.except_layers) == "last 2, 0"
    assert found.encoder.options == {"damping": 0.1}
    for text in (found.text, flat_text(found)):
        assert read(text).encoder == found.encoder
        assert read(text).digest == found.digest
    one = read("quantrecipe: 1\ndefault: Q4_K\nencoder: {name: feedback, except_layers: 3}\n")
    assert one.encoder == EncoderChoice(name="feedback", except_layers=LayerSet.parse("3"))
    assert read(flat_text(one)).encoder == one.encoder


def test_what_is_recorded_means_the_same() -> None:
    found = read(BODY)
    for text in (found.text, flat_text(found)):
        again = read(text)
        assert again.digest == found.digest
        assert again.encoder == found.encoder
        assert again.rules[0].encoder == found.rules[0].encoder


def test_the_digest_depends_on_it() -> None:
    texts = [
        BODY,
        BODY.replace("0.1", "0.2"),
        BODY.replace("0.1}", "0.1, except_layers: 0}"),
        BODY.replace("0.1}", "0.1, except_layers: 1}"),
        BODY.replace("{name: feedback, damping: 0.1}", "feedback"),
        BODY.replace(", encoder: plain", ""),
        BODY.replace("encoder: {name: feedback, damping: 0.1}\n", "").replace(", encoder: plain", ""),
    ]
    assert len({read(text).digest for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("feedbak", "there is no encoder 'feedbak'; did you mean 'feedback'?"),
        ("gradients", "there is no encoder 'gradients'; there are feedback, plain"),
        ("{damping: 0.1}", "encoder: there is no `name`; write {name: feedback, damping: 0.1}"),
        ("{name: feedback, dampen: 1}", "feedback has no option 'dampen'; did you mean 'damping'?"),
        ("{name: plain, rounds: 1}", "plain has no option 'rounds'; its options: none"),
        ("{name: feedback, damping: 7}", "option damping: 7 is greater than the maximum of 1"),
        ("{name: feedback, rounds: 1.5}", "option rounds: 1.5 is not of type 'integer'"),
        ("[feedback]", "encoder"),
        ("{name: feedback, except_layers: some}", "'some' in the layers 'some' isn't understood"),
        ("{name: feedback, except_layers: [1, 2]}", "except_layers must be one text, not a list"),
    ],
)
def test_what_isn_t_understood_is_named_with_its_line(written: str, said: str) -> None:
    with pytest.raises(RecipeError) as error:
        read(f"quantrecipe: 1\ndefault: Q4_K\nencoder: {written}\n")
    assert said in str(error.value)
    assert ":3:" in str(error.value)
