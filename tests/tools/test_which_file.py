"""docs/which-file.md has the tables that the program computes, and shows what the commands print."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest

from quantrecipe.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/which-file.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"    quantrecipe (advise [^\n]+)\n\n```text\n(.*?)\n```", PAGE, re.DOTALL)


def test_the_tables_are_what_the_tool_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("which_file", ROOT / "tools/which_file.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # its dataclasses look their module up
    spec.loader.exec_module(module)
    assert module.page() == PAGE, "python tools/which_file.py --write makes them anew"


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize(("command", "shown"), EXAMPLES)
def test_the_examples_are_what_the_commands_print(
    command: str, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The legend left out, which the page explains."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main(shlex.split(command)) == 0
    assert capsys.readouterr().out.startswith(f"{shown}\n\nweights, KV cache")
