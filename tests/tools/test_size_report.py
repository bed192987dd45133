"""The size report counts code, not layout or explanations, and compares with the right commit."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "tools/size_report.py"
SOURCE = '''"""A docstring
of two lines."""

# A comment.
import os  # another


class A:
    """Another docstring."""

    text = """a text
    of two lines"""


def f(
    x: int,
) -> str:
    return os.name  # the third
'''


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("size_report", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_layout_and_explanations_are_free(tool: ModuleType) -> None:
    size = tool.size_of(SOURCE)
    assert size.code == 8  # import, class, text (2), def (3), return
    assert size.explained == 6


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("quantrecipe/api.py", "quantrecipe"),
        ("quantrecipe/model/architectures/llama.py", "quantrecipe/model"),
        ("plugins/quantrecipe-ik/src/quantrecipe_ik/formats/q6_0.py", "plugins/quantrecipe-ik/src"),
    ],
)
def test_folders(tool: ModuleType, path: str, folder: str) -> None:
    assert set(tool.sizes([(path, "x = 1")])) == {folder}


def test_a_branch_against_where_it_left_main(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def git(*arguments: str) -> None:
        who = (
            "-c",
            "user.name=Somebody",
            "-c",
            "user.email=somebody@example.org",
            "-c",
            "commit.gpgsign=false",
        )
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    file = tmp_path / "quantrecipe/errors.py"
    file.parent.mkdir()
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["size_report.py"])
    monkeypatch.delenv("GITHUB_BASE_REF", raising=False)
    git("init", "-b", "main")

    def shown(source: str, message: str) -> list[str]:
        file.write_text(source, encoding="utf-8")
        git("add", ".")
        git("commit", "-m", message)
        tool.main()
        return capsys.readouterr().out.splitlines()

    first = shown("a = 1\nb = 2\n", "the first")
    assert first[0] == "against nothing: there is no earlier commit here"
    assert "quantrecipe          1     2         0%" in first
    assert "the first" in shown("a = 1\nb = 2\nc = 3\n", "the second")[0]
    git("checkout", "-b", "change")
    shown("a = 1\nb = 2\nc = 3\nd = 4\n", "the third")
    lines = shown("a = 1\n# Why.\n", "the fourth")
    assert lines[0].endswith("the second")
    assert "quantrecipe          1     1       100%      -2" in lines
