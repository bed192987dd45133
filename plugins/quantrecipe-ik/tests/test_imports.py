"""The plugin uses what quantrecipe offers to plugins, and nothing else; and it imports quickly."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import quantrecipe_ik

SOURCE = Path(quantrecipe_ik.__file__).parent
OFFERED = ("quantrecipe.api", "quantrecipe.core", "quantrecipe.errors", "quantrecipe.testing")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are written out"
            names.add(node.module or "")
    return names


def test_only_what_plugins_may_use_is_imported() -> None:
    for path in SOURCE.rglob("*.py"):
        for name in imported(path):
            if name == "quantrecipe" or name.startswith("quantrecipe."):
                assert any(name == part or name.startswith(f"{part}.") for part in OFFERED), (
                    f"{path.name}: {name}"
                )
            assert name.split(".")[0] not in ("numba", "llvmlite", "scipy"), f"{path.name}: {name}"


def test_the_core_knows_no_formats() -> None:
    for path in (SOURCE / "core").glob("*.py"):
        assert not any(name.startswith("quantrecipe_ik.formats") for name in imported(path)), path.name


def test_importing_the_plugin_compiles_nothing() -> None:
    code = "import sys, quantrecipe_ik; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
