"""`requires`: the packages that a recipe needs, tried with packages that are really installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.distributions import FORMAT, install, run_python

from quantrecipe import __version__
from quantrecipe.errors import RecipeError
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import Registry

GOOD = (
    FORMAT
    + """
@hookimpl
def quantrecipe_formats():
    return [Half()]
"""
)


def problems_with(site: Path, text: str, *, plugins: bool = True) -> list[str]:
    """What is said of a recipe where the packages of `site` are installed."""
    code = f"""
    import json
    from quantrecipe.errors import RecipeError
    from quantrecipe.recipe.load import load_recipe_text
    from quantrecipe.registry import load_registry
    try:
        registry = load_registry(plugins={plugins})
        load_recipe_text("quantrecipe: 1\\n" + {text!r}, file="r.yaml", registry=registry)
        print("[]")
    except RecipeError as error:
        print(json.dumps([str(problem) for problem in error.problems]))
    """
    found: list[str] = run_python(code, site=site)
    return found


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install(tmp_path, "quantrecipe-half", GOOD, version="1.2")
    install(tmp_path, "quantrecipe-broken", "raise RuntimeError('no such luck')", version="0.3")
    return tmp_path


@pytest.mark.parametrize(
    "requirement",
    ["quantrecipe-half", "quantrecipe-half>=1", "Quantrecipe_Half >=1.0, <2", "quantrecipe-half==1.*"],
)
def test_what_is_installed_meets_the_requirement(site: Path, requirement: str) -> None:
    assert problems_with(site, f'requires: ["{requirement}"]\ndefault: HALF') == []


def test_every_unmet_requirement_is_told_with_the_line_for_pip(site: Path) -> None:
    text = """\
requires:
  - quantrecipe-half>=2
  - quantrecipe-missing
  - quantrecipe-missing>=0.1
  - quantrecipe-broken
  - numpy>=1
"""
    import numpy

    assert problems_with(site, text) == [
        "r.yaml:3: this recipe needs quantrecipe-half>=2; 1.2 is installed; "
        "pip install --upgrade 'quantrecipe-half>=2'",
        "r.yaml:4: this recipe needs quantrecipe-missing, which isn't installed; "
        "pip install quantrecipe-missing",
        "r.yaml:5: this recipe needs quantrecipe-missing>=0.1, which isn't installed; "
        "pip install 'quantrecipe-missing>=0.1'",
        "r.yaml:6: this recipe needs quantrecipe-broken; 0.3 is installed, but failed to load: "
        "RuntimeError: no such luck; mend or reinstall it: pip install --force-reinstall quantrecipe-broken",
        f"r.yaml:7: this recipe needs numpy>=1; numpy {numpy.__version__} is installed, and is no plugin of "
        "quantrecipe; name the plugin's package",
    ]


def test_plugins_that_are_switched_off(site: Path) -> None:
    assert problems_with(site, "requires: quantrecipe-half", plugins=False) == [
        "r.yaml:2: this recipe needs quantrecipe-half, and plugins are switched off; leave out --no-plugins"
    ]


def test_requirements_of_parents_count(site: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text("quantrecipe: 1\nrequires: quantrecipe-half>=9\n")
    code = f"""
    import json
    from quantrecipe.errors import RecipeError
    from quantrecipe.recipe.load import load_recipe_text
    from pathlib import Path
    try:
        load_recipe_text("quantrecipe: 1\\nextends: base.yaml", folder=Path({str(tmp_path)!r}))
    except RecipeError as error:
        print(json.dumps(str(error)))
    """
    assert run_python(code, site=site) == (
        "base.yaml:2: this recipe needs quantrecipe-half>=9; 1.2 is installed; "
        "pip install --upgrade 'quantrecipe-half>=9'"
    )


def test_a_recipe_may_need_a_version_of_quantrecipe(registry: Registry) -> None:
    recipe = load_recipe_text(
        f"quantrecipe: 1\nrequires: [quantrecipe>=0.0.1, quantrecipe=={__version__}]", registry=registry
    )
    assert recipe.requires == ("quantrecipe>=0.0.1", f"quantrecipe=={__version__}")
    with pytest.raises(RecipeError, match=rf"needs quantrecipe>=99; {__version__} is installed; pip install"):
        load_recipe_text("quantrecipe: 1\nrequires: quantrecipe>=99", registry=registry)


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        (">=1", "'>=1' can't be required; write a package and its versions: quantrecipe-ik>=0.1"),
        (
            "quantrecipe-ik @ https://x.org/ik.whl",
            "'quantrecipe-ik @ https://x.org/ik.whl' can't be required: it names a URL, and recipes name none; "
            "write quantrecipe-ik>=0.1",
        ),
        (
            "quantrecipe-ik; python_version < '3'",
            "\"quantrecipe-ik; python_version < '3'\" can't be required: it has a marker; "
            "write name and versions alone: quantrecipe-ik>=0.1",
        ),
        (
            "quantrecipe[llama]",
            "'quantrecipe[llama]' can't be required: it has extras; "
            "write name and versions alone: quantrecipe-ik>=0.1",
        ),
    ],
)
def test_requirements_that_a_recipe_cant_have(requirement: str, expected: str, registry: Registry) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe_text(f'quantrecipe: 1\nrequires: ["{requirement}"]', file="r.yaml", registry=registry)
    assert str(caught.value) == f"r.yaml:2: {expected}"
