"""Variables: typed values that a recipe leaves to its users, with defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.load import load_recipe, load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry

EVERY_TYPE = """
variables:
  experts: IQ3_S
  second: {type: format, default: Q6_K, why: nearly free}
  most: 4
  big: false
  who: {type: text, default: llama}
  early: {type: layers, default: first 1/8}
  values: {type: pattern, default: "attn_{v,kv_b}"}
  room: {type: size, default: 5GiB}
default: $second
fallback: $second
budget: {size: $room, bpw: $most}
prune: last $most
facts: {known: arch == $who, few: layer < $most}
rules:
  - tensors: [$values, head]
    type: $experts
    layers: "$early, last $most"
    when: few and known and n_layers > -$most and not $big and arch != '$who'
    why: costs $most dollars
  - {tensors: "*", choose: [$experts, Q4_K, $second]}
"""


def load(text: str, registry: Registry, **settings: str) -> Recipe:
    return load_recipe_text("quantrecipe: 1\n" + text, file="r.yaml", registry=registry, settings=settings)


def problems(text: str, registry: Registry, **settings: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(text, registry, **settings)
    return [str(problem) for problem in caught.value.problems]


def test_each_type_in_each_place(registry: Registry) -> None:
    recipe = load(EVERY_TYPE, registry)
    first, second = recipe.rules
    assert (recipe.default, recipe.fallback, str(recipe.prune)) == ("Q6_K", "Q6_K", "last 4")
    assert recipe.budget is not None and (recipe.budget.size, recipe.budget.bpw) == (5 << 30, 4.0)
    assert [str(pattern) for pattern in first.tensors] == ["attn_{v,kv_b}", "head"]
    assert (first.type, str(first.layers)) == ("IQ3_S", "first 1/8, last 4")
    assert first.when is not None and first.when.written_out == (
        "(layer < 4) and (arch == 'llama') and n_layers > -4 and not False and arch != '$who'"
    )
    assert first.why == "costs $most dollars"
    assert second.choose == ("IQ3_S", "Q4_K", "Q6_K")
    assert {name: variable.type for name, variable in recipe.variables.items()} == {
        "experts": "format",
        "second": "format",
        "most": "number",
        "big": "bool",
        "who": "text",
        "early": "layers",
        "values": "pattern",
        "room": "size",
    }
    assert recipe.variables["second"].why == "nearly free"


def test_settings_go_first(registry: Registry) -> None:
    recipe = load(
        EVERY_TYPE,
        registry,
        experts="Q2_K",
        most="2",
        big="true",
        who="o'hara",
        early="0-3",
        values="attn_k",
        room="500M",
    )
    first = recipe.rules[0]
    assert (first.type, str(first.layers), str(first.tensors[0])) == ("Q2_K", "0-3, last 2", "attn_k")
    assert first.when is not None and "not True" in first.when.text
    assert '(arch == "o\'hara")' in first.when.written_out
    assert recipe.budget is not None and recipe.budget.size == 500_000_000
    experts = recipe.variables["experts"]
    assert (experts.value, experts.default, experts.set) == ("Q2_K", "IQ3_S", True)
    assert not recipe.variables["second"].set


def test_a_negative_number_stays_one(registry: Registry) -> None:
    text = "variables: {x: -3}\nrules: [{tensors: a, when: layer - $x > 0, type: F16}]"
    when = load(text, registry).rules[0].when
    assert when is not None and when.evaluate({"layer": -2}) is True


def test_the_meaning_is_that_of_the_values(registry: Registry) -> None:
    text = "variables: {experts: IQ3_S}\nrules: [{tensors: a, type: $experts}]"
    plain = "rules: [{tensors: a, type: Q2_K}]"
    recipe = load(text, registry, experts="Q2_K")
    assert recipe.digest == load(plain, registry).digest
    assert recipe.digest != load(text, registry).digest
    again = load_recipe_text(recipe.text, registry=registry)
    assert again.digest == recipe.digest and not again.variables
    assert "$" not in recipe.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "rules: [{tensors: a, type: $experts}]",
            "there is no variable 'experts'; define it under `variables`",
        ),
        (
            "variables: {experts: F16}\nrules: [{tensors: [a, $expert], type: $experts}]",
            "there is no variable 'expert'; did you mean $experts?",
        ),
        (
            "variables: {n: 4}\nrules: [{tensors: a, type: $n}]",
            "$n is a number (r.yaml:2), and type needs a format; "
            "use another variable, or give it another type",
        ),
        (
            "variables: {t: F16}\nrules: [{tensors: a, when: n_layers > $t, type: $t}]",
            "$t is a format (r.yaml:2), and when needs a number or a text or true or false; "
            "use another variable, or give it another type",
        ),
        (
            "variables: {n: 4, m: 5}\nrules: [{tensors: a, type: F16, layers: first $n}]",
            "the variable 'm' is never used; write $m where its value should stand, or leave it out",
        ),
        (
            "variables: {e: Q4_k}\nrules: [{tensors: a, type: $e}]",
            "the variable 'e' doesn't say its type; as a format: did you mean Q4_K? "
            "(names are case-sensitive); "
            "write {type: …, default: …}, with one of format, number, text, bool, layers, pattern, size",
        ),
        (
            "variables: {e: first 4}\nrules: [{tensors: a, type: F16, layers: $e}]",
            "the variable 'e' doesn't say its type; "
            "write {type: …, default: …}, with one of format, number, text, bool, layers, pattern, size",
        ),
        (
            "variables: {e: {type: layers, default: frist 4}}\nrules: [{tensors: a, type: F16, layers: $e}]",
            "'frist 4' in the layers 'frist 4' isn't understood; "
            "write one of: 7, 0-3, first 4, last 4, first 1/8, last 1/8, every 3 from 2",
        ),
        (
            "variables: {e: {type: formt, default: F16}}",
            "type: 'formt' isn't known; did you mean 'format'?",
        ),
        (
            "variables: {e: {type: format}}",
            "the variable 'e' has no `default`; recipes work as they are: give it one",
        ),
        (
            "variables: {E: F16}",
            "'E' is no name for a variable; use small letters, digits and _, a letter first",
        ),
        ("variables: [F16]", "variables must be a mapping of names; write variables: {NAME: default}"),
        (
            "variables: {e: {type: bool, default: 3}}",
            "e must be true or false, not a number; write e: true or e: false",
        ),
        ("variables: {e: {type: number, default: x}}", "e must be a number; write 8, or 0.5"),
        (
            "variables: {e: {type: pattern, default: a b}}",
            "the pattern 'a b' has spaces in it; write several patterns as a list: [attn_q, attn_k]",
        ),
        (
            "variables: {e: {type: size, default: big}}",
            "'big' is no size; write 5.2GiB, 48G or 500M; of a context 8k",
        ),
    ],
)
def test_a_mistake_and_what_is_said_of_it(text: str, expected: str, registry: Registry) -> None:
    lines = [problem.partition(": ") for problem in problems(text, registry)]
    assert [what for _, _, what in lines] == [expected]
    assert all(where.startswith("r.yaml:") for where, _, _ in lines)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"expert": "F16"}, "--set expert: the recipe has no such variable; did you mean experts?"),
        ({"zzz": "F16"}, "--set zzz: the recipe has no such variable; it has experts, early"),
        (
            {"experts": "q4_k"},
            "--set experts=q4_k: there is no format 'q4_k'; did you mean Q4_K? (names are case-sensitive)",
        ),
        (
            {"early": "first"},
            "--set early=first: 'first' in the layers 'first' isn't understood; "
            "write one of: 7, 0-3, first 4, last 4, first 1/8, last 1/8, every 3 from 2",
        ),
        ({"experts": ""}, "--set experts=: experts is empty; write something, or leave the key out"),
    ],
)
def test_a_setting_that_is_wrong(settings: dict[str, str], expected: str, registry: Registry) -> None:
    text = (
        "variables: {experts: IQ3_S, early: {type: layers, default: first 4}}\n"
        "rules: [{tensors: a, type: $experts, layers: $early}]"
    )
    assert problems(text, registry, **settings) == [expected]


def test_a_setting_where_there_are_no_variables(registry: Registry) -> None:
    assert problems("default: Q4_K", registry, x="1") == [
        "--set x: the recipe has no such variable; it has none"
    ]


@pytest.fixture
def family(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(
        "quantrecipe: 1\n"
        "variables: {experts: IQ3_S, early: {type: layers, default: first 4, why: outliers}}\n"
        "rules: [{tensors: '*_exps', layers: $early, type: $experts}]\n"
    )
    return tmp_path


def child(family: Path, text: str) -> Path:
    path = family / "child.yaml"
    path.write_text(f"quantrecipe: 1\nextends: base.yaml\n{text}\n")
    return path


def test_a_child_s_default_replaces_its_parent_s(family: Path, registry: Registry) -> None:
    path = child(family, "variables: {experts: Q2_K, early: last 2}")  # the type is the parent's
    recipe = load_recipe(path, registry=registry)
    assert (recipe.rules[0].type, str(recipe.rules[0].layers)) == ("Q2_K", "last 2")
    assert recipe.variables["early"].why == "outliers"
    assert str(recipe.variables["early"].origin).endswith("child.yaml:3")
    recipe = load_recipe(path, registry=registry, settings={"early": "0"})
    assert (recipe.rules[0].type, str(recipe.rules[0].layers)) == ("Q2_K", "0")


def test_a_child_uses_its_parent_s_variables(family: Path, registry: Registry) -> None:
    recipe = load_recipe(child(family, "rules: [{tensors: attn_v, type: $experts}]"), registry=registry)
    assert [rule.type for rule in recipe.rules] == ["IQ3_S", "IQ3_S"]


def test_a_child_lends_nothing(family: Path, registry: Registry) -> None:
    (family / "base.yaml").write_text("quantrecipe: 1\nrules: [{tensors: a, type: $mine}]\n")
    path = child(family, "variables: {mine: F16}\nrules: [{tensors: b, type: $mine}]")
    with pytest.raises(RecipeError, match=r"base.yaml:2: there is no variable 'mine'"):
        load_recipe(path, registry=registry)


def test_one_name_has_one_type(family: Path, registry: Registry) -> None:
    path = child(family, "variables: {early: {type: number, default: 4}}")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, registry=registry)
    assert [problem.what for problem in caught.value.problems] == [
        "the variable 'early' is a number elsewhere in the chain, here layers"
    ]


def test_the_first_parent_s_default_counts(family: Path, registry: Registry) -> None:
    (family / "other.yaml").write_text((family / "base.yaml").read_text().replace("IQ3_S", "Q8_0"))
    path = family / "child.yaml"
    path.write_text("quantrecipe: 1\nextends: [other.yaml, base.yaml]\n")
    assert [rule.type for rule in load_recipe(path, registry=registry).rules] == ["Q8_0", "Q8_0"]


def test_a_part_for_others_may_leave_its_variables_to_them(registry: Registry) -> None:
    assert load("variables: {experts: IQ3_S}", registry).variables["experts"].value == "IQ3_S"
