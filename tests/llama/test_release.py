"""A release of the example model by the real llama.cpp: importance, figures, and the same files by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from quantrecipe.cli.app import app
from quantrecipe.release.checksums import check_sums, read_sums

pytestmark = pytest.mark.llama

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny-code"
RELEASE = """\
release: 1
name: Tiny
license: mit
files: [llama.cpp/Q4_K_M, Q2_K]
imatrix: {texts: [code=calibration.py], chunks: 20}
measure: {texts: [code=held-out.py], chunks: 4}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["--no-plugins", *arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of a Hugging Face folder, from modules of the standard library."""
    path = tmp_path_factory.mktemp("release")
    (path / "release.yaml").write_text(RELEASE, encoding="utf-8")
    shutil.copy(argparse_file(), path / "calibration.py")
    shutil.copy(shutil.__file__, path / "held-out.py")
    result = run("release", str(EXAMPLE), str(path / "release.yaml"), "--to", str(path / "out"))
    assert result.exit_code == 0, result.output
    return path


def argparse_file() -> str:
    import argparse

    return argparse.__file__


def test_what_it_measures_is_what_eval_measures(folder: Path) -> None:
    figures = json.loads((folder / "out/measurements.json").read_text(encoding="utf-8"))
    files = [str(folder / f"out/Tiny-{name}.gguf") for name in ("Q4_K_M", "Q2_K")]
    text = f"code={folder / 'held-out.py'}"
    found = run("eval", *files, "--reference", str(EXAMPLE), "--text", text, "--chunks", "4", "--json")
    assert found.exit_code == 0, found.output
    for name, it in zip(("Q4_K_M", "Q2_K"), json.loads(found.stdout)["files"], strict=True):
        ours = figures["files"][f"Tiny-{name}"]["all"]
        assert ours["kld"] == pytest.approx(it["all"]["kld_mean"], rel=1e-6)
        assert ours["top1"] == pytest.approx(it["all"]["top1"])
        assert 0 < ours["kld"] < 0.2
    assert figures["files"]["Tiny-Q4_K_M"]["all"]["kld"] < figures["files"]["Tiny-Q2_K"]["all"]["kld"]


def test_it_is_whole_and_made_with_its_matrix(folder: Path) -> None:
    out = folder / "out"
    check_sums(out, read_sums(out))
    assert not list((out / ".quantrecipe-release").glob("*.gguf"))
    made = run(
        *(
            "apply",
            str(out / "recipes/Tiny-Q2_K.yaml"),
            str(EXAMPLE),
            "--imatrix",
            str(out / "Tiny.imatrix.gguf"),
        ),
        *("--locked", str(out / "locks/Tiny-Q2_K.lock"), "-o", str(folder / "again.gguf")),
    )
    assert made.exit_code == 0, made.output
    compared = run("verify", str(out / "Tiny-Q2_K.gguf"), "--source", str(EXAMPLE))
    assert compared.exit_code == 0, compared.output


def test_a_second_run_does_nothing(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*") if path.is_file()}
    result = run("release", str(EXAMPLE), str(folder / "release.yaml"), "--to", str(folder / "out"))
    assert result.exit_code == 0, result.output
    assert {path: path.stat().st_mtime_ns for path in before} == before
