"""Tests mirror the source: who changes a module finds its tests under the same name.

Each module of these folders has a test file. When a module moves, its test moves with it; a module that joins another
takes its tests along. Tests of several modules together may have files of their own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import quantrecipe

PACKAGE = Path(quantrecipe.__file__).parent
TESTS = Path(__file__).parent
FOLDERS = ("plan", "output")

MODULES = sorted(
    path.relative_to(PACKAGE)
    for folder in FOLDERS
    for path in (PACKAGE / folder).rglob("*.py")
    if path.name != "__init__.py"
)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_has_its_test_file(module: Path) -> None:
    own = Path("tests", module.parent, f"test_{module.name}")
    assert (TESTS.parent / own).exists(), f"quantrecipe/{module.as_posix()} has no {own.as_posix()}"
