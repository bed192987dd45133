"""The projector and the draft head of a release: when they are made, what they are called, and where they stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.models import llama_metadata, llama_tensors, write_gguf
from support.recorded_architectures import edit_config, write_recorded

from quantrecipe.cli import main
from quantrecipe.cli.app import app
from quantrecipe.cli.release.card import senses_of
from quantrecipe.gguf.header import read_header
from quantrecipe.model.open_model import open_model
from quantrecipe.release.checksums import check_sums, read_sums

RELEASE = "release: 1\nname: Tiny\nquantized_by: me\nlicense: mit\nrepo: me/Tiny-GGUF\nfiles: [Q8_0]\n"
PROJECTOR, HEAD = "mmproj-Tiny-F16.gguf", "mtp-Tiny-Q8_0.gguf"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("quantrecipe.cli.release.documents.draw_spending", lambda *_, **__: b"a picture")


def run(model: Path | str, *options: str, release: str = RELEASE) -> Result:
    Path("release.yaml").write_text(release, encoding="utf-8")
    return CliRunner().invoke(app, ["--no-plugins", "release", str(model), "--to", "out", *options])


def said(result: Result) -> str:
    return " ".join(result.output.split())


def card() -> str:
    return Path("out/README.md").read_text(encoding="utf-8")


def test_a_model_that_sees_has_its_projector(tmp_path: Path) -> None:
    folder = write_recorded("qwen3vl", tmp_path)
    result = run(folder, "--lm-studio", "studio")
    assert result.exit_code == 0, result.output
    sums = read_sums(Path("out"))
    check_sums(Path("out"), sums)
    made = {PROJECTOR, "recipes/mmproj-Tiny-F16.yaml", "locks/mmproj-Tiny-F16.lock"}
    assert made <= set(sums)
    assert not any("Modelfile.mmproj" in path for path in sums)
    assert read_header(Path("out", PROJECTOR)).metadata["general.type"].decode() == "mmproj"
    modelfile = Path("out/ollama/Modelfile.Tiny-Q8_0").read_text(encoding="utf-8")
    assert modelfile.splitlines()[:2] == ["FROM ../Tiny-Q8_0.gguf", f"FROM ../{PROJECTOR}"]
    assert Path("studio/me/Tiny-GGUF", PROJECTOR).samefile(Path("out", PROJECTOR))
    assert "For pictures, the model needs this file beside it." in card()
    assert f"| [{PROJECTOR}]({PROJECTOR}) |" in card()
    assert f"llama-server -m Tiny-Q8_0.gguf --mmproj {PROJECTOR} -c" in card()
    assert f"hf download me/Tiny-GGUF Tiny-Q8_0.gguf {PROJECTOR} --local-dir ." in card()
    assert "`quantrecipe apply` makes the projector with `--mmproj`." in card()
    before = Path("out", PROJECTOR).stat()
    result = run(folder)
    assert f"{PROJECTOR} is there" in said(result)
    assert Path("out", PROJECTOR).stat().st_ino == before.st_ino


def test_it_has_the_bytes_of_apply_and_is_made_again_from_its_lock(tmp_path: Path) -> None:
    folder = write_recorded("qwen3vl", tmp_path)
    assert run(folder).exit_code == 0
    assert main(["apply", "llama.cpp/F16", str(folder), "--mmproj", "-o", "plain.gguf"]) == 0
    locked = ["--locked", "out/locks/mmproj-Tiny-F16.lock", "-o", "again.gguf"]
    assert main(["apply", "out/recipes/mmproj-Tiny-F16.yaml", str(folder), "--mmproj", *locked]) == 0
    hashes = [
        read_header(Path(path)).metadata["quantrecipe.data.xxh3_128"].decode()
        for path in (f"out/{PROJECTOR}", "plain.gguf", "again.gguf")
    ]
    assert hashes[0] == hashes[1] == hashes[2]


def test_it_is_of_the_types_that_are_asked_for_or_there_is_none(tmp_path: Path) -> None:
    folder = write_recorded("qwen3vl", tmp_path)
    result = run(folder, "--json", release=RELEASE + "mmproj: [BF16, Q8_0]\nsplit: 50k\n")
    parts = {it["name"]: it["part"] for it in json.loads(result.stdout)["files"]}
    assert parts == {"Tiny-Q8_0": "model", "mmproj-Tiny-BF16": "mmproj", "mmproj-Tiny-Q8_0": "mmproj"}
    assert Path("out/mmproj-Tiny-Q8_0.gguf").exists()  # never split
    assert "the model needs one of these files beside it" in card()
    result = run(folder, "--force", release=RELEASE + "mmproj: none\n")
    assert result.exit_code == 0, result.output
    assert "mmproj-Tiny-Q8_0.gguf isn't part of the release" in said(result)
    assert "mmproj" not in card()
    dry = run(folder, "--dry-run", "--json").stdout
    assert [(it["file"], it["part"]) for it in json.loads(dry)["files"]][1] == (PROJECTOR, "mmproj")


@pytest.mark.parametrize(
    ("name", "senses"),
    [("ultravox-hear", "sound"), ("qwen3vl", "pictures"), ("qwen3omni-hear", "pictures and sound")],
)
def test_what_a_projector_is_for(tmp_path: Path, name: str, senses: str) -> None:
    assert senses_of(open_model(write_recorded(name, tmp_path), part="mmproj").metadata) == senses


def test_a_draft_head_is_made_where_it_is_asked_for(tmp_path: Path) -> None:
    folder = write_recorded("glm4moe", tmp_path)
    assert run(folder).exit_code == 0
    assert not list(Path("out").glob("mtp-*"))
    result = run(folder, "--lm-studio", "studio", release=RELEASE + "mtp: Q8_0\n")
    assert result.exit_code == 0, result.output
    assert "making 1 of 2 files" in said(result)
    assert HEAD in read_sums(Path("out"))
    assert f"llama-server -m MODEL.gguf --model-draft {HEAD} --spec-type draft-mtp" in card()
    assert sorted(path.name for path in Path("studio").rglob("*.gguf")) == ["Tiny-Q8_0.gguf"]
    assert HEAD not in Path("out/ollama/Modelfile.Tiny-Q8_0").read_text(encoding="utf-8")


def test_what_a_model_does_not_have_is_told_with_its_line(tmp_path: Path) -> None:
    folder = write_recorded("llama3", tmp_path)
    result = run(folder, release=RELEASE + "mmproj: F16\nmtp: Q8_0\n")
    assert result.exit_code == 1
    assert "release.yaml:7:" in said(result)
    assert "release.yaml:8:" in said(result)
    assert "leave `mmproj` and `mtp` out" in said(result)
    assert "--mmproj" not in said(result)
    write_gguf(tmp_path / "model.gguf", llama_tensors(layers=1), llama_metadata())
    result = run("model.gguf", release=RELEASE + "mmproj: F16\n")
    assert "release.yaml:7: model.gguf: is no Hugging Face folder" in said(result)
    assert "give the folder, or leave `mmproj` out" in said(result)


def test_a_tower_whose_projector_cannot_be_made_is_a_warning(tmp_path: Path) -> None:
    folder = edit_config(write_recorded("llama3", tmp_path), vision_config={"hidden_size": 64})
    result = run(folder)
    assert result.exit_code == 0, result.output
    assert "warning: config.json describes a tower for pictures or sound, and no projector is made" in said(
        result
    )
    assert "write `mmproj: none` if the release is to be without one" in said(result)
    assert "warning" not in said(run(folder, release=RELEASE + "mmproj: none\n"))


@pytest.mark.parametrize(
    ("name", "line"), [("qwen3vl", "mmproj: llama.cpp/F16"), ("glm4moe", "# mtp: llama.cpp/Q8_0")]
)
def test_a_first_release_has_what_the_model_has(tmp_path: Path, name: str, line: str) -> None:
    folder = write_recorded(name, tmp_path)
    result = CliRunner().invoke(app, ["--no-plugins", "release", "--init", str(folder)])
    assert [it for it in result.stdout.splitlines() if it.lstrip("# ").startswith(("mmproj:", "mtp:"))] == [
        line
    ]
    assert all(len(it) <= 80 for it in result.stdout.splitlines() if it.startswith("#"))
    assert run(folder, "--dry-run", release=result.stdout).exit_code == 0


def test_how_the_model_was_read_stands_in_the_card(tmp_path: Path) -> None:
    """--pre is for a vocabulary whose rules aren't known."""
    assert run(write_recorded("llama3", tmp_path), "--pre", "llama-bpe", "--allow-pickle").exit_code == 0
    assert "release.yaml --to . --pre llama-bpe --allow-pickle\n" in card()
