"""A new plugin: what is written passes its own tests untouched, beside the example that it was made from."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.distributions import install_package

from quantrecipe.errors import OutputError, PluginError
from quantrecipe.scaffold import example_plugin, write_plugin


def run(site: Path, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(site), "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, "-m", *args],
        capture_output=True,
        text=True,
        env=env,
        check=False,
        cwd=cwd,
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A new plugin, installed beside the example; and where both are installed."""
    site = tmp_path_factory.mktemp("site")
    plugin = write_plugin("acme-ternary", tmp_path_factory.mktemp("new"), author="Ada Acme")
    install_package(site, plugin)
    install_package(site, example_plugin())
    return plugin, site


@pytest.mark.slow
def test_it_passes_its_own_tests(made: tuple[Path, Path]) -> None:
    plugin, site = made
    result = run(site, "pytest", "-q", "-p", "no:cacheprovider", cwd=plugin)
    assert result.returncode == 0, result.stdout
    assert "34 passed" in result.stdout


@pytest.mark.slow
def test_both_pass_check_plugin(made: tuple[Path, Path]) -> None:
    plugin, site = made
    for name in (plugin.name, "quantrecipe_example"):
        result = run(site, "quantrecipe", "check-plugin", name, "--json")
        assert result.returncode == 0, result.stdout + result.stderr
        subjects = {item["subject"] for item in json.loads(result.stdout)}
        assert len(subjects) == 4, "the plugin, a format, an analysis, a recipe"


def test_nothing_of_the_example_is_left_in_it(made: tuple[Path, Path]) -> None:
    plugin, _ = made
    for path in plugin.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            text = path.read_text(encoding="utf-8").lower()
            assert "example" not in text, path
            assert "q4_96" not in text.replace("acme_ternary4_96", ""), path
            if path.suffix == ".py":
                ast.parse(text)


def test_names_licence_and_workflow_are_its_own(made: tuple[Path, Path]) -> None:
    plugin, _ = made
    assert plugin.name == "quantrecipe-acme-ternary"
    project = tomllib.loads((plugin / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["quantrecipe"] == {"acme-ternary": "quantrecipe_acme_ternary"}
    assert "Copyright (c) Ada Acme" in (plugin / "LICENSE").read_text(encoding="utf-8")
    assert "check-plugin quantrecipe-acme-ternary" in (plugin / ".github/workflows/test.yml").read_text(
        encoding="utf-8"
    )


def test_only_the_example_s_own_files_are_copied(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=example_plugin(), capture_output=True, text=True, check=False
    ).stdout.split()
    if not listed:
        pytest.skip("not a git checkout: nothing tells which files belong to the example")
    plugin = write_plugin("acme", tmp_path)
    assert sum(path.is_file() for path in plugin.rglob("*")) == len(listed)


@pytest.mark.parametrize(
    "name", ["", "Acme", "acme_x", "-acme", "acme-", "a--b", "../acme", "a" * 41, "1", "a b"]
)
def test_names_that_can_not_be_a_package_s_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="can't be the name of a plugin"):
        write_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_prefix_may_be_given(tmp_path: Path) -> None:
    assert write_plugin("quantrecipe-acme", tmp_path).name == "quantrecipe-acme"


def test_what_exists_is_left_alone(tmp_path: Path) -> None:
    made = write_plugin("acme", tmp_path)
    (made / "README.md").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="exists already"):
        write_plugin("acme", tmp_path)
    assert (made / "README.md").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("folder", ["notes", "notes/below", "notes/far/below"])
def test_a_file_in_the_way_is_named(folder: str, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("kept", encoding="utf-8")
    with pytest.raises(OutputError, match=r"notes is a file, and no folder can be made in it"):
        write_plugin("acme", tmp_path / folder)
    assert (tmp_path / "notes").read_text(encoding="utf-8") == "kept"
    (tmp_path / "quantrecipe-acme").write_text("kept", encoding="utf-8")
    with pytest.raises(OutputError, match="quantrecipe-acme exists already"):
        write_plugin("acme", tmp_path)
