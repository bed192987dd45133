"""quantrecipe import and export, as one types them."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.examples import sampled
from support.shells import needs_bash
from support.zoo import write_importance, write_model

from quantrecipe.cli.app import app
from quantrecipe.model.open_model import open_model
from quantrecipe.model.shapes import open_shapes
from quantrecipe.output.apply import apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe

ZOO = Path(__file__).parents[1] / "data/shapes/zoo"


def run(*args: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [*map(str, args)], input=stdin)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.gguf, and ours.gguf and theirs.gguf: Q4_K_M with and without the recipe in it."""
    folder = tmp_path_factory.mktemp("files")
    write_model(ZOO / "llama-8-small.json", folder / "model.gguf")
    model = open_model(folder / "model.gguf")
    for name, provenance in (("ours", True), ("theirs", False)):
        plan = make_plan(load_recipe("llama.cpp/Q4_K_M"), model, provenance=provenance)
        apply_plan(plan, folder / f"{name}.gguf")
    return folder


def test_a_file_of_others_is_looked_at(files: Path) -> None:
    result = run("import", files / "theirs.gguf")
    assert result.exit_code == 0, result.output
    assert "name: theirs\n" in result.stdout
    assert "extends: llama.cpp/Q4_K_M\n" in result.stdout
    assert result.stderr == ""


def test_a_file_of_ours_gives_what_is_in_it(files: Path) -> None:
    assert run("import", files / "ours.gguf").stdout.startswith("# Q4_K_M, with its parents merged in\n")
    assert (
        run("import", files / "ours.gguf", "--embedded").stdout == run("import", files / "ours.gguf").stdout
    )
    assert "extends: llama.cpp/Q4_K_M\n" in run("import", files / "ours.gguf", "--infer").stdout
    result = run("import", files / "theirs.gguf", "--embedded")
    assert result.exit_code == 1
    assert "has no recipe in it; leave --embedded out" in " ".join(result.stderr.split())


def test_a_file_is_written_and_kept(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "mix.yaml"
    result = run("import", files / "theirs.gguf", "-o", out, "--no-presets", "--name", "mine")
    assert result.exit_code == 0, result.output
    assert "name: mine\n" in out.read_text()
    assert "default: Q4_K\n" in out.read_text()
    assert result.stdout.startswith(f"{out}: ")
    assert run("check", out).exit_code == 0
    assert run("import", files / "theirs.gguf", "-o", out).exit_code == 1
    assert run("import", files / "theirs.gguf", "-o", out, "--force").exit_code == 0


def test_a_shard_stands_for_all(files: Path, tmp_path: Path) -> None:
    made = run(
        "apply",
        "llama.cpp/Q4_K_M",
        files / "model.gguf",
        "-o",
        tmp_path / "x.gguf",
        "--split-max-tensors",
        20,
    )
    assert made.exit_code == 0, made.output
    shard = sorted(tmp_path.glob("x-0000*.gguf"))[2]
    assert "extends: llama.cpp/Q4_K_M\n" in run("import", shard, "--infer").stdout


def test_a_command_comes_from_stdin() -> None:
    result = run(
        "import",
        "-",
        "--from",
        "llama-quantize",
        stdin="llama-quantize --tensor-type attn_v=q8_0 in.gguf out.gguf q4_k_s\n",
    )
    assert result.exit_code == 0, result.output
    assert "extends: llama.cpp/Q4_K_S\n" in result.stdout
    assert "name: imported\n" in result.stdout
    assert result.stderr.startswith("warning: llama-quantize doesn't count the tensors")


@pytest.mark.slow
def test_export_and_back(tmp_path: Path) -> None:
    model = ZOO / "qwen3moe-48.json"
    recipe = tmp_path / "mix.yaml"
    recipe.write_text(
        "quantrecipe: 1\ndefault: Q4_K\nrules: [{tensors: attn_v, layers: first 3, type: Q8_0}]\n"
    )
    for language in ("llama-quantize", "tensor-type-file", "custom-q", "tool-suite", "ik_llama.cpp"):
        out = tmp_path / f"{language}.txt"
        result = run("export", recipe, "--model", model, "--to", language, "-o", out)
        assert result.exit_code == 0, result.output
        assert "[0-2]" in out.read_text(), language
    back = run("import", tmp_path / "tool-suite.txt", "--from", "tool-suite", "--model", model)
    assert "- tensors: attn_v\n    layers: first 3\n    type: Q8_0\n" in back.stdout
    back = run(
        "import",
        tmp_path / "tensor-type-file.txt",
        "--from",
        "tensor-type-file",
        "--base",
        "Q4_K_S",
        "--pure",
    )
    assert 'tensors: attn_v\n    layers: "0-2"\n    type: Q8_0\n' in back.stdout


def test_what_cannot_be_said_names_the_tensors(tmp_path: Path) -> None:
    recipe = tmp_path / "mix.yaml"
    recipe.write_text("quantrecipe: 1\ndefault: Q4_K\nrules: [{tensors: output_norm, type: F16}]\n")
    result = run("export", recipe, "--model", ZOO / "llama-8-small.json", "--to", "llama-quantize")
    assert result.exit_code == 1
    assert "llama-quantize never quantizes output_norm.weight, which the plan makes F16" in result.stderr


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (("x.gguf", "--base", "Q4_K"), "--model and --base are for texts"),
        (("x.txt", "--from", "custom-q", "--infer"), "--infer, --embedded and --no-presets are for models"),
        (("x.gguf", "--infer", "--embedded"), "exclude each other"),
        (("x.recipe", "--from", "tool-suite", "--base", "Q4_K"), "--base is no option of tool-suite"),
        (("x.txt", "--from", "custom-q", "--pure"), "--pure is for --from tensor-type-file"),
    ],
)
def test_options_that_make_no_sense_together(args: tuple[str, ...], what: str) -> None:
    result = run("import", *args)
    assert result.exit_code == 2
    assert what in " ".join(result.stderr.split())


def test_sources_that_are_none(tmp_path: Path) -> None:
    assert "there is no such file" in run("import", tmp_path / "none.gguf").stderr
    assert "there is no such file" in run("import", tmp_path / "none", "--from", "custom-q").stderr
    assert "there is no such file" in run("import", "/dev/zero", "--from", "custom-q").stderr
    if hasattr(os, "mkfifo"):  # not on Windows
        os.mkfifo(tmp_path / "pipe")
        assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
        assert "there is no such file" in run("import", tmp_path / "pipe", "--from", "tool-suite").stderr
    (tmp_path / "large").write_bytes(b"a=q8_0\n" * 200_000)
    assert "larger than 1 MiB" in run("import", tmp_path / "large", "--from", "custom-q").stderr
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "is it a model?" in run("import", tmp_path / "binary", "--from", "custom-q").stderr
    assert run("import", Path(__file__).parents[2] / "examples/tiny-code").stderr.startswith("error: ")
    need = run("import", ZOO / "llama-32.json", "--from", "tensor-type-file")
    assert "Say with --base what llama-quantize is called with" in need.stderr


def test_what_a_source_is_is_seen(files: Path, tmp_path: Path) -> None:
    """Without --from: scripts, also of model cards and of Windows, files of the GGUF-Tool-Suite, models."""
    card = (ZOO.parents[1] / "scripts/card.sh").read_text()
    (tmp_path / "README.md").write_text(f"# A model\n\n```bash\n{card}```\n")
    assert "default: IQ2_KL\n" in run("import", tmp_path / "README.md").stdout
    assert "default: IQ2_KL\n" in run("import", tmp_path / "README.md", "--from", "custom-q").stdout
    (tmp_path / "q.ps1").write_bytes("llama-quantize.exe `\r\n in.gguf Q4_0\r\n".encode("utf-16"))
    made = run("import", tmp_path / "q.ps1")
    assert "extends: llama.cpp/Q4_0\n" in made.stdout
    assert "it was read as a command of PowerShell" in made.stderr
    (tmp_path / "x.recipe").write_text("^output\\.weight$=q8_0\n")
    assert "# Imported from GGUF-Tool-Suite.\n" in run("import", tmp_path / "x.recipe").stdout
    assert "extends: llama.cpp/Q4_K_M\n" in run("import", files / "theirs.gguf").stdout
    (tmp_path / "t.txt").write_text("attn_v=q8_0\n")
    listed = run("import", tmp_path / "t.txt")
    assert listed.exit_code == 2
    assert "is a list of types: say whose, with --from tensor-type-file" in " ".join(listed.stderr.split())


def test_one_of_several_commands(tmp_path: Path) -> None:
    script = tmp_path / "release.sh"
    script.write_text("for q in Q4_0 Q5_0; do llama-quantize in.gguf $q.gguf $q; done\n")
    refused = run("import", script)
    assert refused.exit_code == 1
    assert (
        "has 2 commands of llama-quantize, and a recipe is one mix; choose one with --command N"
        in refused.stderr
    )
    assert "extends: llama.cpp/Q5_0\n" in run("import", script, "--command", "2").stdout
    assert run("import", "x.gguf", "--command", "2").exit_code == 2


RECORDER = """#!/bin/sh
for word in "$@"; do printf '%s\\0' "$word"; done > "$RECORDED"
for word in "$@"; do case "$word" in *.gguf) [ -e "$word" ] || echo "$word" >> "$MISSING";; esac; done
"""


@needs_bash
@pytest.mark.parametrize(
    "folder", sampled(["it's $HOME", "my models", '"quoted"', "-pure", "a;b&c|d", "ünï (1)"], 3)
)
def test_an_exported_command_runs_where_it_was_written(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Path
) -> None:
    """By a real shell, with a program that records its arguments in llama-quantize's place."""
    (tmp_path / folder).mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/llama-quantize").write_text(RECORDER)
    (tmp_path / "bin/llama-quantize").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    model = Path(folder) / "a model-BF16.gguf"
    model.write_bytes((files / "model.gguf").read_bytes())
    matrix = write_importance(open_shapes(ZOO / "llama-8-small.json"), Path(folder) / "im 1.gguf")
    Path("mix.yaml").write_text(
        "quantrecipe: 1\nname: mix\nextends: llama.cpp/Q4_K_M\nmetadata: {general.author: \"Ann $1 'A' %\"}\n"
        "rules: [{tensors: attn_v, layers: first 2, type: Q8_0, why: x}]\n"
    )
    made = run(
        "export", "mix.yaml", "--model", model, "--imatrix", matrix, "--to", "llama-quantize", "-o", "e.sh"
    )
    assert made.exit_code == 0, made.output
    assert f"its paths start from this folder, so run it here: {tmp_path}" in " ".join(made.stderr.split())
    env = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "RECORDED": str(tmp_path / "args"),
        "MISSING": str(tmp_path / "missing"),
    }
    subprocess.run(["sh", "e.sh"], env=env, check=True)
    words = (tmp_path / "args").read_bytes().decode().split("\0")[:-1]
    assert words[:2] == ["--imatrix", str(matrix)]
    assert "general.author=str:Ann $1 'A' %" in words
    assert words[-1] == "Q4_K_M"
    assert [Path(word).name for word in words[-3:-1]] == ["a model-BF16.gguf", "a model-mix.gguf"]
    assert Path(words[-3]) == model
    assert not words[-3].startswith("-")
    assert (tmp_path / "missing").read_text() == f"{words[-2]}\n", "all but the output are there"


@pytest.mark.parametrize("shell", ["cmd", "powershell"])
@pytest.mark.slow
def test_exported_for_windows_and_back(shell: str, tmp_path: Path) -> None:
    """The dialect is told by how the command is written, also where its name doesn't show it."""
    recipe = tmp_path / "mix.yaml"
    recipe.write_text(
        "quantrecipe: 1\nname: mix\nextends: llama.cpp/Q4_K_M\nmetadata: {general.author: 'Ann \"A\" O''Hara'}\n"
        "rules: [{tensors: 'attn_{k,v}', layers: first 3, type: Q8_0, why: x}]\n"
    )
    out = tmp_path / "command.txt"
    model = ZOO / "qwen3moe-48.json"
    made = run("export", recipe, "--model", model, "--to", "llama-quantize", "--shell", shell, "-o", out)
    assert made.exit_code == 0, made.output
    assert {"cmd": " ^\n", "powershell": " `\n"}[shell] in out.read_text()
    back = run("import", out, "--model", model)
    assert back.exit_code == 0, back.output
    assert 'metadata: {general.author: Ann "A" O\'Hara}\n' in back.stdout
    assert "tensors: attn_{k,v}\n    layers: first 3\n    type: Q8_0\n" in back.stdout
    refused = run("export", recipe, "--model", model, "--to", "tool-suite", "--shell", shell)
    assert "--shell is for commands" in refused.stderr
