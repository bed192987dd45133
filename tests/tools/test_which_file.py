"""docs/which-file.md and its translations have the tables that the program computes, and show what commands print."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_pages_are_what_the_tool_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("which_file", ROOT / "tools/which_file.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # its dataclasses look their module up
    spec.loader.exec_module(module)
    made = module.pages()
    assert sorted(made) == sorted(
        path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("which-file.md")
    )
    for name, text in made.items():
        page = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert len(module.EXAMPLE.findall(page)) >= 2
        assert text == page, "python tools/which_file.py --write makes it anew"
