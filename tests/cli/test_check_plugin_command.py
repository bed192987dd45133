"""quantrecipe check-plugin and new-plugin, with packages that are really installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.distributions import FORMAT, install

from quantrecipe.cli import main

HOOK = "@hookimpl\ndef quantrecipe_formats():\n    return [Half()]\n"


def check(site: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(site), "COLUMNS": "200"}
    command = [sys.executable, "-m", "quantrecipe", "check-plugin", *args]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, encoding="utf-8")


def test_what_fails_is_named_with_row_block_and_bits(tmp_path: Path) -> None:
    install(tmp_path, "quantrecipe-half", FORMAT + HOOK)
    result = check(tmp_path, "quantrecipe-half")
    assert result.returncode == 1
    assert "HALF: " in result.stdout
    assert "non_finite" in result.stdout
    assert "nan in row 0, column 0 is encoded; it should be a NonFiniteError" in result.stdout


def test_one_subject_alone_and_json(tmp_path: Path) -> None:
    install(tmp_path, "quantrecipe-half", FORMAT + HOOK)
    found = json.loads(check(tmp_path, "quantrecipe_half", "--only", "HALF", "--json").stdout)
    assert {item["subject"] for item in found} == {"HALF"}
    failed = {item["check"]: item["failure"] for item in found if not item["ok"]}
    assert "non_finite" in failed
    assert "NonFiniteError" in failed["non_finite"]


def test_a_plugin_that_does_not_load_fails_its_first_check(tmp_path: Path) -> None:
    install(tmp_path, "quantrecipe-wreck", "import numba\nraise RuntimeError('no GPU')\n")
    result = check(tmp_path, "quantrecipe-wreck")
    assert result.returncode == 1
    assert "RuntimeError: no GPU" in result.stdout


def test_a_heavy_module_is_told(tmp_path: Path) -> None:
    install(tmp_path, "quantrecipe-heavy", "import scipy\n" + FORMAT + HOOK)
    assert "imports scipy" in check(tmp_path, "quantrecipe-heavy", "--only", "it").stdout


def test_a_collision_is_told(tmp_path: Path) -> None:
    install(tmp_path, "quantrecipe-one", FORMAT + HOOK)
    install(tmp_path, "quantrecipe-two", FORMAT + HOOK)
    said = check(tmp_path, "quantrecipe-two", "--only", "it").stdout
    assert "format 'HALF' is claimed by plugin 'it' of quantrecipe-one 1.0" in said


def test_a_broken_recipe_is_told(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "bad.yaml").write_text("quantrecipe: 1\ndefault: Q4K\n", encoding="utf-8")
    install(
        tmp_path,
        "quantrecipe-cook",
        "from pathlib import Path\nfrom quantrecipe.api import RecipeFolder, hookimpl\n@hookimpl\n"
        "def quantrecipe_recipes():\n"
        "    return [RecipeFolder(prefix='cook', folder=Path(__file__).parent / 'recipes')]\n",
    )
    said = check(tmp_path, "quantrecipe-cook").stdout
    assert "cook/bad:2: there is no format 'Q4K'; did you mean Q4_K" in said


def test_what_is_not_installed_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-plugin", "quantrecipe-nowhere"]) == 1
    said = capsys.readouterr().err
    assert "no installed package 'quantrecipe-nowhere'" in said
    assert main(["check-plugin", "quantrecipe", "--only", "Q4_X"]) == 1
    assert "has no 'Q4_X' to check; it has builtin, F32" in capsys.readouterr().err


def test_the_built_in_plugin_is_checked_like_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-plugin", "quantrecipe", "--only", "Q4_K"]) == 0
    assert "Q4_K: 24 checks passed" in capsys.readouterr().out


def test_new_plugin_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-plugin", "acme", "-o", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "quantrecipe-acme is written" in said
    assert "quantrecipe check-plugin quantrecipe-acme" in said
    assert main(["new-plugin", "acme", "-o", str(tmp_path)]) == 1
    assert "exists already" in capsys.readouterr().err
