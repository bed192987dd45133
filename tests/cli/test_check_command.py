"""quantrecipe check: every problem of every recipe, before any model is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantrecipe.cli import main

Output = pytest.CaptureFixture[str]

GOOD = """\
quantrecipe: 1
name: good
default: BF16
keep: []
rules:
  - tensors: output
    type: F32
    why: small
  - tensors: attn_v
    type: F16
"""

BAD = """\
quantrecipe: 1
name: bad
defautl: BF16
rules:
  - tensors: output
    type: BF61
    why: small
"""


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "bad.yaml").write_text(BAD, encoding="utf-8")
    return tmp_path


def test_good(recipes: Path, capsys: Output) -> None:
    path = str(recipes / "good.yaml")
    assert main(["check", path]) == 0
    assert capsys.readouterr().out == f"{path}: ok, 2 rules\n"


def test_all_problems_of_all_files(recipes: Path, capsys: Output) -> None:
    good, bad, none = (str(recipes / f"{name}.yaml") for name in ("good", "bad", "none"))
    assert main(["check", bad, good, none]) == 1
    output = capsys.readouterr()
    assert output.out == f"{good}: ok, 2 rules\n"
    assert f"error: {bad}:3: " in output.err
    assert "defautl" in output.err
    assert f"error: {bad}:6: " in output.err
    assert "BF16" in output.err  # did you mean
    assert "none.yaml" in output.err


def test_strict_demands_reasons(recipes: Path, capsys: Output) -> None:
    path = str(recipes / "good.yaml")
    assert main(["check", "--strict", path]) == 1
    output = capsys.readouterr()
    assert f"error: {path}:9: the rule gives no reason" in output.err
    assert output.err.count("error:") == 1
    assert output.out == ""


def test_json(recipes: Path, capsys: Output) -> None:
    assert main(["check", "--json", str(recipes / "good.yaml"), str(recipes / "bad.yaml")]) == 1
    good, bad = json.loads(capsys.readouterr().out)
    assert good["ok"] is True
    assert good["rules"] == 2
    assert good["problems"] == []
    assert bad["ok"] is False
    assert {3, 6} <= {problem["line"] for problem in bad["problems"]}
