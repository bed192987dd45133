"""`extends` of recipes that a plugin ships, tried with a plugin that is really installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.distributions import install, run_python

PLUGIN = """
from pathlib import Path

from quantrecipe.api import RecipeFolder, hookimpl


@hookimpl
def quantrecipe_recipes():
    here = Path(__file__).parent / "agents"
    return [RecipeFolder(prefix="agents@1", folder=here / "1"), RecipeFolder(prefix="agents@2", folder=here / "2")]
"""
SMALL = """\
quantrecipe: 1
extends: [common.yaml, llama.cpp/Q4_K_M]
requires: quantrecipe-agents>=1
variables: {values: Q6_K}
rules:
  - {tensors: attn_v, type: $values, why: agents copy}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two versions of the recipes, in one plugin."""
    install(tmp_path, "quantrecipe-agents", PLUGIN, version="2.0")
    for version in "12":
        folder = tmp_path / "agents" / version
        folder.mkdir(parents=True)
        (folder / "small.yaml").write_text(SMALL)
        (folder / "common.yaml").write_text(
            f"quantrecipe: 1\nrules: [{{tensors: head, type: Q8_0, why: version {version}}}]\n"
        )
    return tmp_path


def load(site: Path, *, plugins: bool = True, settings: dict[str, str] | None = None, **files: str) -> Any:
    """The rules and the requirements of the first file; or what is wrong with it."""
    for name, text in files.items():
        (site / f"{name}.yaml").write_text(f"quantrecipe: 1\n{text}\n")
    code = f"""
    import json, os
    from quantrecipe.errors import RecipeError
    from quantrecipe.recipe.load import load_recipe
    from quantrecipe.registry import load_registry
    os.chdir({str(site)!r})
    try:
        registry = load_registry(plugins={plugins})
        recipe = load_recipe("{next(iter(files))}.yaml", registry=registry, settings={settings})
        rules = [[str(rule.origin), rule.type, rule.why, [str(it) for it in rule.through]] for rule in recipe.rules]
        print(json.dumps([rules[:3], list(recipe.requires), recipe.default]))
    except RecipeError as error:
        print(json.dumps([str(problem) for problem in error.problems]))
    """
    return run_python(code, site=site)


def test_a_recipe_builds_on_one_that_a_plugin_ships(site: Path) -> None:
    rules, requires, default = load(
        site, mine="extends: agents/small\nrules: [{tensors: attn_k, type: Q5_K, why: mine}]"
    )
    assert rules == [
        ["mine.yaml:3", "Q5_K", "mine", []],
        ["agents@2/small:6", "Q6_K", "agents copy", ["mine.yaml:2"]],
        ["agents@2/common.yaml:2", "Q8_0", "version 2", ["mine.yaml:2", "agents@2/small:2"]],
    ]
    assert (requires, default) == (["quantrecipe-agents>=1"], "Q4_K")


def test_a_version_can_be_named_and_a_variable_set(site: Path) -> None:
    rules, _, _ = load(site, settings={"values": "Q8_0"}, mine="extends: [agents@1/small]")
    assert [(rule[0], rule[1], rule[2]) for rule in rules[:2]] == [
        ("agents@1/small:6", "Q8_0", "agents copy"),
        ("agents@1/common.yaml:2", "Q8_0", "version 1"),
    ]


def test_a_version_that_isnt_installed(site: Path) -> None:
    assert load(site, mine="extends: agents@3/small") == [
        "mine.yaml:2: this version of agents isn't installed: agents@3; "
        "installed is agents@1, agents@2; without @VERSION the newest counts"
    ]
    (problem,) = load(site, mine="extends: llama.cpp@b9999/Q4_K_M")
    assert problem.startswith(
        "mine.yaml:2: this version of llama.cpp isn't installed: llama.cpp@b9999; installed is llama.cpp@b"
    )


def test_a_recipe_that_the_plugin_doesnt_have(site: Path) -> None:
    assert load(site, mine="extends: agents/smal") == [
        "mine.yaml:2: there is no recipe 'agents/smal'; did you mean 'agents/small'?"
    ]


def test_a_plugin_that_isnt_there_is_off_or_failed(site: Path) -> None:
    (problem,) = load(site, mine="extends: others/small")
    assert problem.startswith(
        "mine.yaml:2: no installed plugin ships recipes under 'others'; known are agents@1/…, agents@2/…"
    )
    assert load(site, plugins=False, mine="extends: agents/small") == [
        "mine.yaml:2: no installed plugin ships recipes under 'agents', and plugins are switched off; "
        "leave out --no-plugins if one has it"
    ]
    install(site, "quantrecipe-broken", "raise RuntimeError('no such luck')")
    assert load(site, mine="extends: others/small") == [
        "mine.yaml:2: no installed plugin ships recipes under 'others'; it may belong to a plugin that failed to "
        "load; plugin 'it' of quantrecipe-broken 1.0: RuntimeError: no such luck"
    ]


def test_a_cycle_through_a_plugin(site: Path) -> None:
    (site / "agents/2/common.yaml").write_text("quantrecipe: 1\nextends: agents/small\n")
    assert load(site, mine="extends: agents/small") == [
        "agents@2/common.yaml:2: 'agents/small' extends this recipe, so each would come before the other; "
        "leave out one `extends`"
    ]
