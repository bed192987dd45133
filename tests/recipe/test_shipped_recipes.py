"""Short names of shipped recipes: taken where one recipe can be meant, told, and refused where two can."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from quantrecipe.errors import RecipeError
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.shipped_recipes import matching, shipped_recipes
from quantrecipe.registry import Registry, load_registry

RECIPE = "quantrecipe: 1\ndefault: Q6_K\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def plugged(registry: Registry, tmp_path: Path) -> Registry:
    """With a plugin that ships mine/q4-k-m and mine/CHAT."""
    (tmp_path / "plugin").mkdir()
    for name in ("q4-k-m", "CHAT"):
        (tmp_path / f"plugin/{name}.yaml").write_text(RECIPE)
    folders = {**registry.recipe_folders, "mine@2": tmp_path / "plugin"}
    return replace(registry, recipe_folders=folders)


@pytest.mark.parametrize(
    ("short", "whole"),
    [
        ("Q4_K_M", "llama.cpp/Q4_K_M"),
        ("q4_k_m", "llama.cpp/Q4_K_M"),
        ("UD-Q3_K_XL", "quantrecipe/ud-q3-k-xl"),
        ("ud-q3-k-xl", "quantrecipe/ud-q3-k-xl"),
        ("code_model", "quantrecipe/code-model"),
        ("llama.cpp/q4_k_m", "llama.cpp/Q4_K_M"),
        ("llama.cpp@b11312/q4-k-m", "llama.cpp@b11312/Q4_K_M"),
    ],
)
def test_a_short_name_is_taken_and_told(short: str, whole: str, registry: Registry) -> None:
    recipe = load_recipe(short, registry=registry)
    assert recipe.digest == load_recipe(whole, registry=registry).digest
    assert [str(note) for note in recipe.notes] == [f"{short!r} is {whole}, which ships"]
    assert not load_recipe(whole, registry=registry).notes


def test_in_extends_it_is_told_with_its_line(registry: Registry) -> None:
    Path("mine.yaml").write_text("quantrecipe: 1\nextends:\n  - UD-Q3_K_XL\n")
    recipe = load_recipe("mine.yaml", registry=registry)
    assert [str(note) for note in recipe.notes] == [
        "mine.yaml:3: 'UD-Q3_K_XL' is quantrecipe/ud-q3-k-xl, which ships"
    ]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("q4km", "did you mean llama.cpp/Q4_K_M?"),
        ("Q4_K_XL", "did you mean quantrecipe/ud-q4-k-xl"),
        ("coder-model", "did you mean quantrecipe/code-model"),
        ("gizmo", "`quantrecipe recipes` lists those that ship; a file needs its ending .yaml"),
        ("unsloth/UD-Q3_K_XL", "there is quantrecipe/ud-q3-k-xl"),
        ("llama.cpp/Q4_*", "is the name of 5 shipped recipes, and one stands here"),
    ],
)
def test_what_could_be_meant_is_said(name: str, says: str, registry: Registry) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(name, registry=registry)
    assert says in str(caught.value)


def test_a_plugin_cant_change_what_a_short_name_means(registry: Registry, plugged: Registry) -> None:
    """Not even for who spells it exactly as one of them."""
    assert load_recipe("chat", registry=registry).file == "quantrecipe/chat"
    with pytest.raises(RecipeError, match="write quantrecipe/chat or mine/CHAT"):
        load_recipe("chat", registry=plugged)


@pytest.mark.parametrize("short", ["Q8_0", "q4-k-m"])
def test_the_names_of_presets_mean_the_presets(short: str, registry: Registry, plugged: Registry) -> None:
    """Though pure/Q8_0 is called so, too, and a plugin's mine/q4-k-m."""
    for known in (registry, plugged):
        assert (
            load_recipe(short, registry=known).digest
            == load_recipe(f"llama.cpp/{short.upper().replace('-', '_')}", registry=registry).digest
        )


def test_a_file_beside_it_makes_a_short_name_ambiguous(registry: Registry) -> None:
    Path("code-model.yaml").write_text(RECIPE)
    Path("mine.yaml").write_text("quantrecipe: 1\nextends: code-model\n")
    says = "'code-model' could be the file code-model.yaml, or quantrecipe/code-model, which ships"
    for ref in ("code-model", "mine.yaml"):
        with pytest.raises(RecipeError, match=says):
            load_recipe(ref, registry=registry)
    assert load_recipe("quantrecipe/code-model", registry=registry).name == "code-model"


def test_a_file_without_its_ending_is_suggested(registry: Registry) -> None:
    Path("gizmo.yml").write_text(RECIPE)
    with pytest.raises(RecipeError, match=r"did you mean the file gizmo\.yml\?"):
        load_recipe("gizmo", registry=registry)


def test_a_file_of_the_very_name_is_taken_and_told(registry: Registry) -> None:
    Path("Q4_K_M").write_text(RECIPE)
    recipe = load_recipe("Q4_K_M", registry=registry)
    assert recipe.default == "Q6_K"
    assert [str(note) for note in recipe.notes] == [
        "'Q4_K_M' is the file of this name here, not the recipe llama.cpp/Q4_K_M, which ships"
    ]


def test_globs_are_about_whole_names_or_what_stands_behind_the_prefix(registry: Registry) -> None:
    assert matching("llama.cpp/q5_k*", registry) == tuple(f"llama.cpp/Q5_K{end}" for end in ("", "_M", "_S"))
    assert matching("UD-Q[23]*", registry) == ("quantrecipe/ud-q2-k-xl", "quantrecipe/ud-q3-k-xl")


def test_the_newest_of_several_versions_is_meant(registry: Registry, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "Q4_K_M.yaml").write_text(RECIPE)
    both = replace(registry, recipe_folders={**registry.recipe_folders, "llama.cpp@b9999": old})
    assert load_recipe("Q4_K_M", registry=both).file == "llama.cpp@b11312/Q4_K_M"
    assert load_recipe("llama.cpp@b9999/Q4_K_M", registry=both).default == "Q6_K"
    assert list(shipped_recipes(both)) == list(shipped_recipes(registry))


def test_a_name_that_no_plugin_has_with_and_without_plugins() -> None:
    with pytest.raises(
        RecipeError, match="and plugins are switched off; leave out --no-plugins if one has it"
    ):
        load_recipe("acme/agents", registry=load_registry(plugins=False))
    with pytest.raises(RecipeError) as caught:
        load_recipe("acme/agents", registry=replace(load_registry(plugins=False), plugins_on=True))
    assert "switched off" not in str(caught.value)
