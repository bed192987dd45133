"""Recipe files become Recipes: extends, scalars, kept lists, and every mistake reported at its line."""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples

from quantrecipe.errors import RecipeError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.recipe.load import load_recipe, load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.recipe.writing.flatten import flat_text
from quantrecipe.registry import Registry

ROOT = Path(__file__).parents[2]


def load(text: str, registry: Registry, **more: Path) -> Recipe:
    return load_recipe_text("quantrecipe: 1\n" + text, registry=registry, **more)


def problems(text: str, registry: Registry) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe_text(text, file="r.yaml", registry=registry)
    return [str(problem) for problem in caught.value.problems]


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text("quantrecipe: 1\n" + text)


def types(recipe: Recipe) -> list[str]:
    return [rule.type for rule in recipe.rules]


def test_a_recipe_with_every_key(registry: Registry, tmp_path: Path) -> None:
    recipe = load(
        """
name: all
summary: every key
extends: []
file_type: Q5_K_M
default: Q4_K
fallback: Q8_0
importance: {file: data/imatrix.gguf, uncovered: error, required: true}
metadata: {general.author: Ada}
rules:
  - tensors: [head, "attn_{q,k}"]
    layers: first 1/8, 7
    when: n_expert == 0
    type: Q6_K
    options: {}
    fallback: error
    why: because
    optional: true
  - tensors: ffn_gate_inp
    layers: 3
    when: true
    type: keep
keep:
  - tensors: ssm_out
    when: layer < 3
    why: recurrent
""",
        registry,
        folder=tmp_path,
    )
    assert (recipe.name, recipe.summary, recipe.default, recipe.fallback) == (
        "all",
        "every key",
        "Q4_K",
        "Q8_0",
    )
    assert recipe.file_type == "Q5_K_M"
    assert str(recipe.default_origin) == "recipe.yaml:7"
    assert recipe.importance.file == tmp_path / "data/imatrix.gguf"
    assert recipe.importance.uncovered == "error"
    assert recipe.importance.required
    assert recipe.metadata == {"general.author": GGUFValue.of(ValueType.STRING, "Ada")}
    first, second = recipe.rules
    assert [str(pattern) for pattern in first.tensors] == ["head", "attn_{q,k}"]
    assert (str(first.layers), str(first.when)) == ("first 1/8, 7", "n_expert == 0")
    assert (first.type, first.fallback, first.why, first.optional) == ("Q6_K", "error", "because", True)
    assert first.own
    assert str(first.origin) == "recipe.yaml:12"
    assert (str(second.layers), str(second.when), second.type) == ("3", "True", "keep")
    assert [str(pattern) for entry in recipe.keep for pattern in entry.tensors] == ["ssm_out"]


def test_what_isnt_said(registry: Registry) -> None:
    recipe = load("", registry)
    assert recipe.name == "recipe"
    assert recipe.default is None
    assert recipe.file_type is None
    assert recipe.fallback == "chain"
    assert recipe.importance.file is None
    assert not recipe.importance.required
    assert recipe.keep == load_recipe("llama.cpp/kept", registry=registry).keep


def test_own_rules_stand_before_the_parents_in_their_order(registry: Registry, tmp_path: Path) -> None:
    write(
        tmp_path,
        grand="rules: [{tensors: a, type: F32}]",
        one="extends: grand.yaml\nrules: [{tensors: a, type: F16}]",
        two="rules: [{tensors: a, type: BF16}]",
        child="extends: [one.yaml, two.yaml]\nrules: [{tensors: a, type: Q8_0}]",
    )
    recipe = load_recipe(tmp_path / "child.yaml", registry=registry)
    assert types(recipe) == ["Q8_0", "F16", "F32", "BF16"]
    assert [rule.own for rule in recipe.rules] == [True, False, False, False]
    assert [Path(rule.origin.file).name for rule in recipe.rules] == [
        "child.yaml",
        "one.yaml",
        "grand.yaml",
        "two.yaml",
    ]


def test_a_childs_values_replace_the_parents_and_earlier_parents_the_later(
    registry: Registry, tmp_path: Path
) -> None:
    write(
        tmp_path,
        one="name: one\nsummary: s\ndefault: Q4_K\nimportance: required\nmetadata: {a: x, b: x}",
        two="default: F16\nfallback: error\nimportance: {uncovered: error}\nkeep: [{tensors: b}]",
        child="extends: [one.yaml, two.yaml]\nmetadata: {b: y}\nimportance: {uncovered: plain}",
    )
    recipe = load_recipe(tmp_path / "child.yaml", registry=registry)
    assert recipe.name == "child"
    assert recipe.summary == ""
    assert recipe.default == "Q4_K"
    assert recipe.default_origin is not None
    assert recipe.default_origin.file.endswith("one.yaml")
    assert recipe.fallback == "error"
    assert recipe.importance.required
    assert recipe.importance.uncovered == "plain"
    assert {key: value.decode() for key, value in recipe.metadata.items()} == {"a": "x", "b": "y"}
    assert [str(entry.tensors[0]) for entry in recipe.keep] == ["b"]


@pytest.mark.parametrize(
    ("text", "file_type"),
    [
        ("extends: llama.cpp/Q4_K_M", "Q4_K_M"),
        ("extends: llama.cpp/Q4_K_M\ndefault: Q6_K", None),
        ("extends: llama.cpp/Q4_K_M\ndefault: Q6_K\nfile_type: Q6_K", "Q6_K"),
    ],
)
def test_a_recipe_with_a_default_of_its_own_does_not_bear_its_parents_label(
    text: str, file_type: str | None, registry: Registry
) -> None:
    assert load(text, registry).file_type == file_type


def test_a_parent_that_is_reached_twice_counts_once(registry: Registry, tmp_path: Path) -> None:
    write(
        tmp_path,
        base="rules: [{tensors: a, type: F32}]",
        one="extends: base.yaml",
        two="extends: ./base.yaml",
        child="extends: [one.yaml, two.yaml]",
    )
    assert types(load_recipe(tmp_path / "child.yaml", registry=registry)) == ["F32"]


def test_paths_are_relative_to_the_file_that_names_them(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path, base="importance: {file: matrix.gguf}\nrules: [{tensors: a, type: F32}]")
    write(tmp_path / "deep", child="extends: ../base.yaml")
    recipe = load_recipe(tmp_path / "deep/child.yaml", registry=registry)
    assert recipe.importance.file is not None
    assert recipe.importance.file.resolve() == (tmp_path / "matrix.gguf").resolve()
    assert recipe.rules[0].origin.file == f"{tmp_path.as_posix()}/base.yaml"


def test_kept_lists_can_be_included(registry: Registry) -> None:
    shared = load_recipe("llama.cpp/kept", registry=registry).keep
    recipe = load("keep: [llama.cpp/kept, {tensors: ssm_out, why: fragile}]", registry)
    assert recipe.keep[:-1] == shared
    assert str(recipe.keep[-1].tensors[0]) == "ssm_out"
    assert load("keep: []", registry).keep == ()


def test_the_kept_list_stands_under_protect_or_its_former_name(registry: Registry) -> None:
    entries = "[llama.cpp/kept, {tensors: ssm_out, why: fragile, when: n_layers > 4}]"
    now, before = (load(f"{key}: {entries}", registry) for key in ("protect", "keep"))
    assert now.keep == before.keep
    assert now.digest == before.digest
    assert flat_text(now) == flat_text(before)
    assert "\nprotect:\n" in flat_text(now)
    assert load("protect: []", registry).keep == ()


def test_the_kept_list_under_both_names_is_refused(registry: Registry) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe_text(
            "quantrecipe: 1\nprotect: [{tensors: a}]\nkeep: [{tensors: b}]", file="r.yaml", registry=registry
        )
    (problem,) = caught.value.problems
    assert str(problem) == (
        "r.yaml:3: 'keep' is the former name of 'protect', and this recipe has both; put all entries under `protect`"
    )
    with pytest.raises(RecipeError, match="protect must be a list, not a text"):
        load("protect: a", registry)


def test_a_name_is_a_shipped_recipe_and_a_path_a_file(registry: Registry, tmp_path: Path) -> None:
    by_name = load_recipe("llama.cpp/Q4_K_M", registry=registry)
    by_path = load_recipe(ROOT / "recipes/presets/llama.cpp@b11312/Q4_K_M.yaml", registry=registry)
    assert by_name.digest == by_path.digest
    assert by_name.file == "llama.cpp@b11312/Q4_K_M"
    odd = tmp_path / "recipe-without-ending"
    odd.write_text("quantrecipe: 1\n")
    assert load_recipe(str(odd), registry=registry).name == "recipe-without-ending"


def test_the_registry_is_loaded_where_none_is_given() -> None:
    assert load_recipe("pure/Q8_0").default == "Q8_0"


def test_all_problems_are_reported_at_once_in_line_order(registry: Registry) -> None:
    assert problems(
        """\
quantrecipe: 2
nmae: x
default: Q4_k
rules:
  - tensors: attn_v.weight
    type: Q4_K
    when: rnak < 3
    optional: yes
    layers: frist 4
  - tensors: {attn_v,attn_k}
    typ: Q5_K
  - tensors: "a b"
    type: IQ4_KS
  - tensors: x
    choose: [Q4_k]
    why: 3
budget: {bwp: 4}
file_type: Q4KM
extends: llama.cpp/Q4_KM
importance: {file: 3, uncovered: wrn}
""",
        registry,
    ) == [
        "r.yaml:1: this quantrecipe reads version 1 of the recipe language, not 2; "
        "write `quantrecipe: 1`, or use a newer quantrecipe for a newer recipe",
        "r.yaml:2: unknown key 'nmae' in a recipe; did you mean 'name'?",
        "r.yaml:3: there is no format 'Q4_k'; did you mean Q4_K? (names are case-sensitive)",
        "r.yaml:5: the pattern 'attn_v.weight' spells out '.weight'; leave it out: attn_v",
        "r.yaml:7: there is no fact 'rnak'; did you mean 'rank'?",
        "r.yaml:8: optional must be true or false, not 'yes'; write optional: true",
        "r.yaml:9: 'frist 4' in the layers 'frist 4' isn't understood; "
        "write one of: 7, 0-3, first 4, last 4, first 1/8, last 1/8, every 3 from 2",
        "r.yaml:10: this rule has no `type`; name a format, or `keep`; or a list of formats to `choose` from",
        "r.yaml:10: tensors must be a pattern or a list of them, not a mapping; "
        'a text with { } or a colon in it needs quotes: "ffn_{gate,up}"',
        "r.yaml:11: unknown key 'typ' in a rule; did you mean 'type'?",
        "r.yaml:12: the pattern 'a b' has spaces in it; write several patterns as a list: [attn_q, attn_k]",
        f"r.yaml:13: {registry.missing_format('IQ4_KS')}",
        "r.yaml:15: there is no format 'Q4_k'; did you mean Q4_K? (names are case-sensitive)",
        'r.yaml:16: why must be a text, not a number; quote it if it is meant as text: "3"',
        "r.yaml:17: unknown key 'bwp' in budget; did you mean 'bpw'?",
        "r.yaml:18: file_type: 'Q4KM' isn't known; did you mean 'Q4_K_M'?",
        "r.yaml:19: there is no recipe 'llama.cpp/Q4_KM'; did you mean 'llama.cpp/Q4_K_M'?",
        'r.yaml:20: file must be a text, not a number; quote it if it is meant as text: "3"',
        "r.yaml:20: uncovered: 'wrn' isn't known; did you mean 'warn'?",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: x", "r.yaml:1: the key 'quantrecipe' is missing; start with `quantrecipe: 1`"),
        ("quantrecipe: true", "reads version 1 of the recipe language, not True"),
        ("- a", "a recipe must be a mapping, not a list"),
        ("quantrecipe: 1\nrules: {tensors: a}", "rules must be a list, not a mapping"),
        ("quantrecipe: 1\nrules: [a]", "a rule must be a mapping, not a text"),
        ("quantrecipe: 1\nrules: [{type: F16}]", "this rule has no `tensors`"),
        ("quantrecipe: 1\nrules: [{tensors: [], type: F16}]", "the list `tensors` is empty"),
        (
            "quantrecipe: 1\nrules: [{tensors: a, type: F16, layers: [1, 2]}]",
            "layers must be one text, not a list",
        ),
        ("quantrecipe: 1\nrules: [{tensors: a, type: F16, when: rank}]", "`when` is true or false"),
        ("quantrecipe: 1\nrules: [{tensors: a, type: F16, when: 3}]", "when must be a text, not a number"),
        ("quantrecipe: 1\nrules: [{tensors: a, type: Keep}]", "did you mean 'keep'?"),
        ("quantrecipe: 1\nrules: [{tensors: a, type: I32}]", "nothing can be turned into I32"),
        ("quantrecipe: 1\nrules: [{tensors: a, type: Q8_K}]", "exists only at run time"),
        ("quantrecipe: 1\nrules: [{tensors: a, type: Q4_K_M}]", "is a mix of formats, not a format"),
        ("quantrecipe: 1\nrules: [{tensors: a, type: F16, fallback: keep}]", "'keep' is no fallback"),
        (
            "quantrecipe: 1\nrules: [{tensors: a, type: keep, options: {x: 1}}]",
            "a kept tensor has no options",
        ),
        ("quantrecipe: 1\nrules: [{tensors: a, type: Q8_0, options: {x: 1}}]", "Q8_0 has no option 'x'"),
        ("quantrecipe: 1\ndefault:", "default must be a text, not nothing"),
        ("quantrecipe: 1\nname: ''", "name is empty"),
        ("quantrecipe: 1\nname: 4", 'quote it if it is meant as text: "4"'),
        ("quantrecipe: 1\nname: 012", "r.yaml:2: 012 is read differently"),
        ("quantrecipe: 1\nimportance: imatrix.gguf", "write `required`, or {file: imatrix.gguf}"),
        ("quantrecipe: 1\nkeep: [{tensors: a, when: rank < 3}]", "there is no fact 'rank' here"),
        ("quantrecipe: 1\nkeep: [llama.cpp/Q8_0]", "'llama.cpp/Q8_0' has no kept list"),
        ("quantrecipe: 1\nextends: nope/x", "no installed plugin ships recipes under 'nope'"),
        ("quantrecipe: 1\nextends: x", "neither a recipe file nor the name of a shipped recipe"),
        ("quantrecipe: 1\nextends: llama.cpp/../../pyproject", "neither a recipe file nor"),
        ("quantrecipe: 1\nextends: gone.yaml", "r.yaml:2: there is no recipe file 'gone.yaml'"),
        ("quantrecipe: 1\nextends: https://example.com/x.yaml", "is a URL, and recipes name none"),
        ("quantrecipe: 1\nextends: " + "a" * 300 + ".yaml", "there is no recipe file"),
        ("quantrecipe: 1\nextends: r.yaml", "there is no recipe file 'r.yaml'"),
    ],
)
def test_a_mistake_and_what_is_said_of_it(text: str, expected: str, registry: Registry) -> None:
    found = problems(text, registry)
    assert any(expected in problem for problem in found), found


def test_problems_of_a_parent_are_reported_with_its_own_lines(registry: Registry, tmp_path: Path) -> None:
    write(
        tmp_path, child="extends: base.yaml\ndefualt: F16", base="summary: s\nrules: [{tensors: a, typ: F16}]"
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "child.yaml", registry=registry)
    places = [(Path(str(p.file)).name, p.line) for p in caught.value.problems]
    assert places == [("child.yaml", 3), ("base.yaml", 3), ("base.yaml", 3)]


def test_recipes_that_extend_each_other_are_refused(registry: Registry, tmp_path: Path) -> None:
    write(tmp_path, a="extends: b.yaml", b="extends: c.yaml", c="extends: [a.yaml]")
    with pytest.raises(RecipeError, match=r"c\.yaml:2: 'a\.yaml' extends this recipe"):
        load_recipe(tmp_path / "a.yaml", registry=registry)
    write(tmp_path, a="extends: a.yaml")
    with pytest.raises(RecipeError, match=r"a\.yaml:2: 'a\.yaml' extends this recipe"):
        load_recipe(tmp_path / "a.yaml", registry=registry)


def test_kept_lists_that_include_each_other_are_refused(registry: Registry, tmp_path: Path) -> None:
    write(tmp_path, a="keep: [b.yaml]", b="keep: [a.yaml]")
    with pytest.raises(RecipeError, match="includes itself"):
        load_recipe(tmp_path / "a.yaml", registry=registry)


def test_a_long_chain_of_recipes_is_refused(registry: Registry, tmp_path: Path) -> None:
    for n in range(100):
        write(tmp_path, **{f"r{n}": f"extends: r{n + 1}.yaml"})
    with pytest.raises(RecipeError, match="more than 64 recipes"):
        load_recipe(tmp_path / "r0.yaml", registry=registry)


def test_files_that_cannot_be_read(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there is no such recipe"):
        load_recipe(tmp_path / "gone.yaml", registry=registry)
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(RecipeError, match="this is a folder"):
        load_recipe(tmp_path / "folder.yaml", registry=registry)
    (tmp_path / "latin.yaml").write_bytes(b"quantrecipe: 1\nname: caf\xe9\n")
    with pytest.raises(RecipeError, match=r"latin\.yaml:2: the recipe isn't UTF-8"):
        load_recipe(tmp_path / "latin.yaml", registry=registry)
    (tmp_path / "large.yaml").write_text("x" * (1 << 21))
    with pytest.raises(RecipeError, match="more than 1 MiB"):
        load_recipe(tmp_path / "large.yaml", registry=registry)
    with pytest.raises(RecipeError, match="neither a recipe file nor the name"):
        load_recipe("x\0y", registry=registry)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(registry: Registry, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(RecipeError, match="there is no such recipe"):
        load_recipe(tmp_path / "pipe.yaml", registry=registry)


def test_recipes_of_plugins_are_found_under_their_prefix(registry: Registry, tmp_path: Path) -> None:
    write(tmp_path, agents="rules: [{tensors: a, type: F16}]")
    folders = MappingProxyType({**registry.recipe_folders, "mine": tmp_path})
    with_plugin = Registry(
        formats=registry.formats, analyses=registry.analyses, recipe_folders=folders, plugins=registry.plugins
    )
    recipe = load("extends: mine/agents", with_plugin)
    assert str(recipe.rules[0].origin) == "mine/agents:2"


LINES = [
    "quantrecipe: 1",
    "default: Q4_K",
    "rules:",
    "  - tensors: attn_v",
    '  - tensors: "*"',
    "    type: Q8_0",
    "    when: rank < 3",
    "    layers: first 4",
    "    options: {a: [1]}",
    "keep: []",
    "keep:",
    "metadata: {a: 1}",
    "importance: required",
    "extends: pure/Q4_K",
    "variables: {e: F16, n: 3, w: {type: layers, default: last 2}}",
    "    type: $e",
    "    choose: [$e, Q4_K]",
    "    layers: $w, first $n",
    "    when: rank < $n and arch != '$e'",
    "budget: {size: 5G, bpw: $n}",
    "target: {engine: ollama, build: 12}",
    "requires: [quantrecipe>=0.0.1, nope]",
    "groups: {g: a}",
    "facts: {f: rank < $n}",
    "  x",
    "- y",
    "name: [",
]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=examples(200)
)
@given(st.lists(st.sampled_from(LINES), max_size=10, unique=True).map("\n".join) | st.text(max_size=80))
def test_any_text_is_a_recipe_or_a_recipe_error(registry: Registry, text: str) -> None:
    try:
        recipe = load_recipe_text(text, registry=registry)
    except RecipeError as error:
        assert error.problems
    else:
        assert load_recipe_text(recipe.text, registry=registry).digest == recipe.digest


@pytest.mark.slow
def test_very_many_problems_are_not_all_told(registry: Registry) -> None:
    with pytest.raises(RecipeError) as caught:
        load("rules:\n" + "- {tensors: a, type: Q4k}\n" * 5000, registry)
    assert len(caught.value.problems) == 201
    assert str(caught.value.problems[-1]) == "recipe.yaml: more than 200 problems; mend these first"


@pytest.mark.parametrize(
    ("names", "use"),
    [
        ("variables:\n{}", "{{tensors: a, type: $nope}}"),
        ("facts:\n{}", "{{tensors: a, type: F16, when: nope}}"),
        ("groups:\n{}", "{{tensors: group:nope, type: F16}}"),
    ],
)
def test_very_many_names_are_neither_compared_nor_listed(names: str, use: str, registry: Registry) -> None:
    many = "".join(f"  n{number}: '1'\n" for number in range(3000))
    text = names.format(many).replace("'1'", "1" if "facts" in names else "F16")
    with pytest.raises(RecipeError) as caught:
        load(text + "rules:\n" + ("- " + use.format() + "\n") * 100, registry)
    told = [problem for problem in caught.value.problems if "nope" in problem.what]
    assert len(told) == 100
    assert all(len(problem.remedy) < 400 for problem in told)
