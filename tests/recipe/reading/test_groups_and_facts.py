"""Groups of tensors and facts that recipes define: names for what several rules are about."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.load import load_recipe, load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

FACTS = {"rank": 1, "count": 16, "n_expert": 0, "arch": "llama", "n_layers": 16}


def load(text: str, registry: Registry) -> Recipe:
    return load_recipe_text("quantrecipe: 1\n" + text, file="r.yaml", registry=registry)


def problems(text: str, registry: Registry) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(text, registry)
    return [str(problem) for problem in caught.value.problems]


def names(recipe: Recipe, number: int = 0) -> list[str]:
    return [str(pattern) for pattern in recipe.rules[number].tensors]


def test_a_group_stands_for_its_patterns(registry: Registry) -> None:
    recipe = load(
        "groups: {values: [attn_v, 'attn_{qkv,kv_b}'], gate: ffn_gate}\n"
        "rules: [{tensors: [group:values, ffn_up, group:gate], type: Q8_0}]",
        registry,
    )
    assert names(recipe) == ["attn_v", "attn_{qkv,kv_b}", "ffn_up", "ffn_gate"]


def test_a_group_works_in_a_kept_list(registry: Registry) -> None:
    recipe = load("groups: {norms: '*_norm'}\nkeep: [{tensors: group:norms, why: tiny}]", registry)
    assert (
        recipe.keep[0].tensors[0].matches(TensorInfo.from_name("blk.0.attn_norm.weight", (8,), "F32"), None)
    )


def test_a_fact_means_what_it_says_where_it_is_asked_for(registry: Registry) -> None:
    recipe = load(
        "facts: {eighth: count//8, early: rank < eighth, small: true, seven: 7}\n"
        "rules: [{tensors: attn_v, when: early and small or n_layers == seven, type: Q8_0}]",
        registry,
    )
    when = recipe.rules[0].when
    assert when is not None
    assert [when.evaluate({**FACTS, "rank": rank}) for rank in (0, 1, 2)] == [True, True, False]
    assert when.text == "early and small or n_layers == seven"
    assert when.written_out == "(rank < (count//8)) and (True) or n_layers == (7)"
    assert when.names == {"rank", "count", "n_layers"}


def test_names_in_texts_are_not_replaced(registry: Registry) -> None:
    recipe = load(
        "facts: {llama: arch == 'llama'}\nrules: [{tensors: a, when: llama and arch != \"llama\", type: F16}]",
        registry,
    )
    when = recipe.rules[0].when
    assert when is not None and when.written_out == "(arch == 'llama') and arch != \"llama\""


def test_a_meaning_has_one_digest_however_it_is_written(registry: Registry) -> None:
    named = load(
        "groups: {v: attn_v}\nfacts: {early: rank < 2}\n"
        "rules: [{tensors: group:v, when: early and n_expert > 0, type: F16}]",
        registry,
    )
    plain = load("rules: [{tensors: attn_v, when: rank < 2 and n_expert > 0, type: F16}]", registry)
    assert named.digest == plain.digest
    again = load_recipe_text(named.text, registry=registry)
    assert again.digest == named.digest
    assert "group" not in named.text and "early" not in named.text


@pytest.fixture
def family(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(
        "quantrecipe: 1\ngroups: {v: attn_v, k: attn_k}\nfacts: {few: rank < 2}\n"
        "rules: [{tensors: group:v, when: few, type: Q8_0}]\n"
    )
    (tmp_path / "middle.yaml").write_text(
        "quantrecipe: 1\nextends: base.yaml\nfacts: {fewer: few and rank < 1}\n"
    )
    (tmp_path / "other.yaml").write_text(
        "quantrecipe: 1\nextends: base.yaml\ngroups: {v: other_v, w: other_w}\n"
    )
    return tmp_path


def test_parents_lend_their_names(family: Path, registry: Registry) -> None:
    child = family / "child.yaml"
    child.write_text(
        "quantrecipe: 1\nextends: [middle.yaml, other.yaml]\ngroups: {k: my_k}\n"
        "rules: [{tensors: [group:v, group:k, group:w], when: fewer, type: F16}]\n"
    )
    recipe = load_recipe(child, registry=registry)
    assert names(recipe) == ["attn_v", "my_k", "other_w"]  # own, then the first parent's, then the second's
    assert recipe.rules[0].when is not None
    assert recipe.rules[0].when.written_out == "((rank < 2) and rank < 1)"


def test_a_parent_keeps_its_meaning(family: Path, registry: Registry) -> None:
    child = family / "child.yaml"
    child.write_text("quantrecipe: 1\nextends: base.yaml\ngroups: {v: mine}\nfacts: {few: rank < 9}\n")
    recipe = load_recipe(child, registry=registry)
    assert names(recipe) == ["attn_v"]
    assert recipe.rules[0].when is not None and recipe.rules[0].when.written_out == "(rank < 2)"


def test_a_child_lends_nothing(family: Path, registry: Registry) -> None:
    (family / "parent.yaml").write_text("quantrecipe: 1\nrules: [{tensors: group:mine, type: F16}]\n")
    child = family / "child.yaml"
    child.write_text("quantrecipe: 1\nextends: parent.yaml\ngroups: {mine: attn_v}\n")
    with pytest.raises(
        RecipeError, match=r"parent\.yaml:2: there is no group 'mine'; define it under `groups`"
    ):
        load_recipe(child, registry=registry)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "rules: [{tensors: group:v, type: F16}]",
            "r.yaml:2: there is no group 'v'; define it under `groups`",
        ),
        (
            "groups: {values: attn_v}\nrules: [{tensors: group:value, type: F16}]",
            "r.yaml:3: there is no group 'value'; did you mean group:values?",
        ),
        (
            "groups: {values: attn_v}\nrules: [{tensors: group:x, type: F16}]",
            "r.yaml:3: there is no group 'x'; known are values",
        ),
        (
            "groups: [a]",
            "r.yaml:2: groups must be a mapping of names; write groups: {NAME: …}, one to a line",
        ),
        ("groups: {a: []}", "r.yaml:2: the group 'a' is empty; name its tensors: attn_v, or '*_exps'"),
        ("groups: {a: 'x y'}", "r.yaml:2: the pattern 'x y' has spaces in it; "),
        (
            "groups: {a: x, b: group:a}",
            "r.yaml:2: the group 'b' names the group 'group:a'; write its patterns out",
        ),
        (
            "groups: {A-b: x}",
            "r.yaml:2: 'A-b' is no name for one of the groups; use small letters, digits and _",
        ),
        ("facts: {rank: n_layers > 3}", "r.yaml:2: the fact 'rank' is there already; choose another name"),
        (
            "facts: {not: n_layers > 3}",
            "r.yaml:2: the fact 'not' is a word of the language; choose another name",
        ),
        ("facts: {a: b > 3, b: 2}", "r.yaml:2: there is no fact 'b'; "),
        ("facts: {a: a > 3}", "r.yaml:2: there is no fact 'a'; "),
        ("facts: {early: rank < 2}\nrules: [{tensors: x, when: erly, type: F16}]", "did you mean 'early'?"),
        (
            "facts: {n: rank + 2}\nrules: [{tensors: x, when: n, type: F16}]",
            "r.yaml:3: `when` is true or false, but 'n' is a number; compare it with something",
        ),
        (
            "facts: {early: rank < 2}\nkeep: [{tensors: x, when: early, why: y}]",
            "r.yaml:3: there is no fact 'rank' here; ",
        ),
        ("facts: {a: [1]}", "r.yaml:2: a must be a text, not a list"),
    ],
)
def test_mistakes_are_explained(text: str, expected: str, registry: Registry) -> None:
    assert [problem for problem in problems(text, registry) if expected in problem]


def test_definitions_stay_small_when_written_out(registry: Registry) -> None:
    """Doubling with each line would come to 2^60 characters."""
    lines = ["facts:", "  a0: rank < 1"] + [f"  a{n + 1}: a{n} or a{n}" for n in range(60)]
    found = problems("\n".join(lines), registry)
    assert "characters with its facts written out" in found[0]


def test_versions_of_shipped_recipes(tmp_path: Path, registry: Registry) -> None:
    folders = dict(registry.recipe_folders)
    for prefix, type_ in {"mine@b999": "Q8_0", "mine@b10000": "Q6_K", "mine@b10000.2": "F16"}.items():
        folders[prefix] = tmp_path / prefix
        folders[prefix].mkdir()
        (folders[prefix] / "one.yaml").write_text(f"quantrecipe: 1\ndefault: {type_}\n")
    versions = Registry(formats=registry.formats, analyses={}, recipe_folders=folders, plugins=())
    assert load_recipe("mine/one", registry=versions).default == "F16"
    assert load_recipe("mine/one", registry=versions).file == "mine@b10000.2/one"
    assert load_recipe("mine@b999/one", registry=versions).default == "Q8_0"
    with pytest.raises(
        RecipeError,
        match=r"this version of mine isn't installed: mine@b1; installed is mine@b999, mine@b10000, mine@b10000.2",
    ):
        load_recipe("mine@b1/one", registry=versions)
    with pytest.raises(RecipeError, match="there is no recipe 'mine/two'; did you mean 'mine/one'"):
        load_recipe("mine/two", registry=versions)


def test_types_that_need_importance(registry: Registry) -> None:
    recipe = load("importance: {required: [IQ2_S, IQ1_M, IQ2_S]}", registry)
    assert (recipe.importance.required, recipe.importance.required_for) == (False, ("IQ1_M", "IQ2_S"))
    again = load_recipe_text(recipe.text, registry=registry)
    assert again.importance == recipe.importance and again.digest == recipe.digest
    assert recipe.digest != load("importance: {required: [IQ1_M]}", registry).digest
    assert load("importance: {required: false}", registry).importance.required_for == ()
    assert "'keep' needs no importance" in problems("importance: {required: [keep]}", registry)[0]
    assert "there is no format 'IQ2_SS'" in problems("importance: {required: [IQ2_SS]}", registry)[0]


def test_a_child_can_do_without_importance(registry: Registry) -> None:
    recipe = load("extends: llama.cpp/IQ2_M\nimportance: {required: false}", registry)
    assert recipe.importance.required_for == ()
    assert load("extends: llama.cpp/IQ2_M", registry).importance.required_for[-1] == "IQ2_XXS"
