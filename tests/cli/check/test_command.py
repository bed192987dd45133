"""quantrecipe check: every problem of every recipe, for people and for machines."""

from __future__ import annotations

import json
import shutil
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
  - tensors: head
    type: F32
    why: small
  - tensors: attn_output
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

FEW = """\
quantrecipe: 1
name: few
rules:
  - tensors: head
    type: Q4_K
    why: small
"""

VARIABLE = """\
quantrecipe: 1
name: variable
variables:
  kind: {type: format, default: Q6_K}
rules:
  - tensors: ffn_down
    type: $kind
    why: as asked
"""


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {"good": GOOD, "bad": BAD, "few": FEW, "variable": VARIABLE}.items():
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_good(recipes: Path, capsys: Output) -> None:
    assert main(["check", "good.yaml"]) == 0
    output = capsys.readouterr()
    assert output.out == "good.yaml: ok, 2 rules\n"
    assert output.err.startswith("warning: good.yaml:9: the rule gives no reason; say why")
    assert output.err.endswith(" [QR101]\n")


def test_all_problems_of_all_files(recipes: Path, capsys: Output) -> None:
    assert main(["check", "bad.yaml", "good.yaml", "none.yaml"]) == 1
    output = capsys.readouterr()
    assert output.out == "good.yaml: ok, 2 rules\n3 recipes: 3 errors, 1 warning\n"
    assert (
        "error: bad.yaml:3: unknown key 'defautl' in a recipe; did you mean 'default'? [QR002]" in output.err
    )
    assert "error: bad.yaml:6: there is no format 'BF61'; did you mean BF16? [QR003]" in output.err
    assert "error: none.yaml: there is no such recipe; check the path [QR001]" in output.err


def test_strict_demands_reasons(recipes: Path, capsys: Output) -> None:
    assert main(["check", "--strict", "good.yaml"]) == 1
    output = capsys.readouterr()
    assert "error: good.yaml:9: the rule gives no reason" in output.err
    assert output.err.count("error:") == 1
    assert output.out == ""


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["few.yaml"], 0),
        (["few.yaml", "--fail-on", "warning"], 0),
        (["few.yaml", "--fail-on", "advice"], 1),
        (["few.yaml", "--fail-on", "advice", "--no-advice"], 0),
        (["good.yaml", "--fail-on", "warning"], 1),
        (["good.yaml", "--fail-on", "nothing"], 2),
        ([], 2),
    ],
)
def test_exit_status(recipes: Path, arguments: list[str], status: int) -> None:
    assert main(["check", *arguments]) == status


def test_the_help_tells_the_exit_status(capsys: Output) -> None:
    assert main(["check", "--help"]) == 0
    help_ = capsys.readouterr().out
    assert "Exit status: 0 nothing as serious as --fail-on was found" in help_


def test_a_folder_stands_for_its_recipes(recipes: Path, capsys: Output) -> None:
    (recipes / "sub").mkdir()
    shutil.move("few.yaml", "sub/few.yml")
    (recipes / "docker-compose.yaml").write_text("services: {}\n", encoding="utf-8")
    (recipes / ".hidden").mkdir()
    (recipes / ".hidden/x.yaml").write_text(BAD, encoding="utf-8")
    assert main(["check", ".", "--json", "--no-reference"]) == 1
    reports = json.loads(capsys.readouterr().out)
    assert [report["recipe"] for report in reports] == [
        "bad.yaml",
        "good.yaml",
        "sub/few.yml",
        "variable.yaml",
    ]


def test_an_empty_folder_is_an_error(tmp_path: Path, capsys: Output) -> None:
    assert main(["check", str(tmp_path)]) == 1
    assert "there is no recipe in the folder" in capsys.readouterr().err


def test_json(recipes: Path, capsys: Output) -> None:
    assert main(["check", "--json", "good.yaml", "bad.yaml"]) == 1
    good, bad = json.loads(capsys.readouterr().out)
    assert good["ok"] is True
    assert good["rules"] == 2
    assert [(it["code"], it["severity"], it["line"]) for it in good["problems"]] == [("QR101", "warning", 9)]
    assert len(good["models"]) == len(good["fits"]) == 16
    assert bad["ok"] is False
    assert {3, 6} <= {problem["line"] for problem in bad["problems"]}


def test_sarif(recipes: Path, capsys: Output) -> None:
    assert main(["check", "--format", "sarif", "bad.yaml"]) == 1
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert {result["ruleId"] for result in run["results"]} == {"QR002", "QR003"}


def test_github(recipes: Path, capsys: Output) -> None:
    assert main(["check", "--format", "github", "bad.yaml"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("::error file=bad.yaml,line=3,col=1,title=QR002::unknown key")


def test_on_a_given_model(recipes: Path, capsys: Output) -> None:
    assert main(["check", "good.yaml", "--model", "shapes/qwen3-14b", "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["models"] == ["shapes/qwen3-14b"]
    (recipes / "untied.yaml").write_text(FEW.replace("head", "output"), encoding="utf-8")
    assert main(["check", "untied.yaml", "--model", "shapes/gemma-3-4b-it"]) == 1  # its head is tied
    assert "no tensor of this model is named by 'output' (on shapes/gemma-3-4b-it)" in capsys.readouterr().err


def test_reference_models_on_top_of_a_given_one(recipes: Path, capsys: Output) -> None:
    assert main(["check", "good.yaml", "--model", "shapes/qwen3-14b", "--reference", "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert len(report["models"]) == 16


def test_a_model_that_can_t_be_read(recipes: Path, capsys: Output) -> None:
    assert main(["check", "good.yaml", "--model", "nowhere.gguf"]) == 1
    assert "nowhere.gguf: there is no such file" in capsys.readouterr().err


def test_variables_can_be_set(recipes: Path, capsys: Output) -> None:
    arguments = ["check", "variable.yaml", "--no-reference", "--json"]
    assert main([*arguments, "--set", "kind=IQ2_XXS"]) == 1
    (report,) = json.loads(capsys.readouterr().out)
    assert [it["code"] for it in report["problems"]] == ["QR301"]
    assert main(["check", "variable.yaml", "few.yaml", "--set", "kind=Q5_K"]) == 0
    assert main(["check", "variable.yaml", "few.yaml", "--set", "kin=Q5_K"]) == 1
    assert "kin" in capsys.readouterr().err


def test_which_reference_models_a_recipe_fits(recipes: Path, capsys: Output) -> None:
    (recipes / "moe.yaml").write_text(
        FEW.replace("head", "ffn_up_exps").replace("Q4_K", "Q6_K"), encoding="utf-8"
    )
    assert main(["check", "moe.yaml"]) == 0
    assert capsys.readouterr().out == "moe.yaml: ok, 1 rule; fits 9 of 16 reference models\n"


def test_what_is_said_of_several_recipes_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    """With every place; what is said of one recipe several times is about its rules, and stays."""
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    rule = "  - {tensors: attn_v, type: Q6_K}\n"
    for name, rules in {"a": rule, "b": rule, "c": rule.replace("attn_v", "attn_k") + rule}.items():
        Path(f"recipes/{name}.yaml").write_text(f"quantrecipe: 1\ndefault: Q4_K\nrules:\n{rules}")
    assert main(["check", "recipes", "--no-reference", "--no-advice"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "QR101" in line]
    assert [line.split(": ")[1] for line in lines] == [
        "recipes/a.yaml:4",
        "recipes/c.yaml:4",
        "recipes/c.yaml:5",
    ]
    assert lines[0].endswith("[QR101] (also recipes/b.yaml:4)")


def test_an_error_in_what_all_extend_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base.yml").write_text("quantrecipe: 1\ndefault: Q4K\n")
    for name in "ab":
        Path(f"{name}.yaml").write_text("quantrecipe: 1\nextends: base.yml\n")
    assert main(["check", "a.yaml", "b.yaml"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: base.yml:2: there is no format 'Q4K'")
    assert line.endswith("(2 recipes)")
