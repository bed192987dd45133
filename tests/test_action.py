"""action.yml and the pre-commit hooks: their own steps, run in a real repository."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.repositories import Repository
from support.shells import needs_bash

from quantrecipe.cli.app import app

ROOT = Path(__file__).parents[1]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
HOOKS: list[dict[str, Any]] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
DOCS = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
STEPS = {step.get("id") or step.get("name"): step for step in ACTION["runs"]["steps"]}

BASE = "rules:\n  - tensors: head\n    type: {type}\n    why: logits\n"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A pull request that changes one recipe, which another extends."""
    made = Repository(tmp_path / "repository")
    made.write(base=BASE.format(type="Q6_K"), child="extends: base.yaml\n", other="default: Q8_0\n")
    made.commit()
    made.git("switch", "--quiet", "--create", "work")
    made.write(base=BASE.format(type="Q8_0"))
    made.commit()
    return made


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """That of a step, with `quantrecipe` on the path."""
    binaries = tmp_path / "bin"
    binaries.mkdir(exist_ok=True)
    script = binaries / "quantrecipe"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m quantrecipe "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        **more,
    }


def run_check(
    repository: Repository, tmp_path: Path, **inputs: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    """The step that checks, as GitHub runs it: the script in a file, and its outputs."""
    values = {
        "BASE": "main",
        "MODELS": "shapes/qwen3-0.6b\n",
        "STRICT": "false",
        "FAIL_ON": "error",
        **inputs,
    }
    script = tmp_path / "step.sh"
    script.write_text(STEPS["check"]["run"], encoding="utf-8")
    result = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
        cwd=repository.folder,
        env=environment(tmp_path, **values),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = (tmp_path / "output").read_text(encoding="utf-8").splitlines()
    return result, dict(line.split("=", 1) for line in lines)


@needs_bash
def test_a_pull_request(repository: Repository, tmp_path: Path) -> None:
    result, outputs = run_check(repository, tmp_path)
    assert result.returncode == 0, result.stderr
    assert outputs["status"] == "0"
    text = Path(outputs["comment"]).read_text(encoding="utf-8")
    assert "### `recipes/base.yaml`: changed" in text
    assert "### `recipes/child.yaml`: through `recipes/base.yaml`" in text
    assert "other.yaml" not in text
    assert (tmp_path / "summary").read_text(encoding="utf-8") == text


@needs_bash
def test_an_error_is_annotated_and_ends_the_job_after_the_comment(
    repository: Repository, tmp_path: Path
) -> None:
    repository.write(other="defautl: Q8_0\n")
    repository.commit()
    result, outputs = run_check(repository, tmp_path)
    assert result.returncode == 0, "the comment comes first"
    assert "::error file=recipes/other.yaml,line=3,col=1,title=QR002::" in result.stdout
    assert outputs["status"] == "1"
    end = subprocess.run(
        ["bash", "-c", STEPS["Result"]["run"]], env={"STATUS": outputs["status"]}, check=False
    )
    assert end.returncode == 1


@needs_bash
@pytest.mark.slow
def test_strict_and_fail_on(repository: Repository, tmp_path: Path) -> None:
    repository.write(other="rules:\n  - tensors: head\n    type: Q8_0\n")
    repository.commit()
    assert run_check(repository, tmp_path)[1]["status"] == "0"
    assert run_check(repository, tmp_path, STRICT="true")[1]["status"] == "1"
    assert run_check(repository, tmp_path, FAIL_ON="warning")[1]["status"] == "1"


@needs_bash
def test_inputs_are_never_shell(repository: Repository, tmp_path: Path) -> None:
    evil = '$(touch pwned) `touch pwned` "; touch pwned; "'
    _, outputs = run_check(repository, tmp_path, MODELS=evil)
    assert outputs["status"] == "1"
    _, outputs = run_check(repository, tmp_path, BASE=evil)
    assert outputs["status"] == "1"
    assert not (repository.folder / "pwned").exists()
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", ""), "texts go through the environment"
        assert "${{" not in step.get("with", {}).get("script", "")


@needs_bash
def test_a_base_that_is_missing_is_told(repository: Repository, tmp_path: Path) -> None:
    result, outputs = run_check(repository, tmp_path, BASE="0" * 40)
    assert outputs["status"] == "1"
    assert "fetch-depth: 0" in result.stderr


def test_inputs_and_outputs_are_documented() -> None:
    table = dict(re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", DOCS, re.MULTILINE))
    assert table.keys() == ACTION["inputs"].keys()
    for name in ACTION["outputs"]:
        assert f"`{name}`" in DOCS
    for spec in (*ACTION["inputs"].values(), *ACTION["outputs"].values()):
        assert spec["description"]


def test_the_workflows_in_the_documentation_are_yaml_and_use_what_there_is() -> None:
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)]
    workflow, sarif, pre_commit = blocks
    (step,) = (step for step in workflow["jobs"]["recipes"]["steps"] if "quantrecipe" in step["uses"])
    assert step["with"].keys() <= ACTION["inputs"].keys()
    assert workflow["permissions"]["pull-requests"] == "write"
    assert "--format sarif" in sarif[0]["run"]
    assert pre_commit["repos"][0]["hooks"][0]["id"] in {hook["id"] for hook in HOOKS}


@needs_bash
@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_hooks(hook: dict[str, Any], repository: Repository, tmp_path: Path) -> None:
    """As pre-commit runs them: on the files that match, in the repository."""
    repository.write(other="defautl: Q8_0\n")
    assert hook["language"] == "python"
    files = [
        path
        for path in ("recipes/base.yaml", "recipes/other.yaml", "README.md")
        if re.search(hook["files"], path)
    ]
    assert files == ["recipes/base.yaml", "recipes/other.yaml"]
    arguments = files if hook.get("pass_filenames", True) else []
    result = subprocess.run(
        [*shlex.split(hook["entry"]), *arguments],
        cwd=repository.folder,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "error: recipes/other.yaml:3: unknown key 'defautl'" in result.stderr


def test_hooks_name_commands() -> None:
    for hook in HOOKS:
        program, command, *_ = shlex.split(hook["entry"])
        assert program == "quantrecipe"
        assert command in app.list_commands(None)  # type: ignore[attr-defined, arg-type]  # a group, which needs no context
