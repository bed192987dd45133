"""quantrecipe release, with an engine that invents what files lose: what is made, what is made again, what stays."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from support.fake_graph import tensors as graph_tensors
from support.imatrix_files import write_gguf_imatrix
from support.invented_engine import InventedEngine
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.cli.app import app
from quantrecipe.errors import EvaluationError
from quantrecipe.gguf.header import read_header
from quantrecipe.model.open_model import open_model
from quantrecipe.output import apply as apply_module
from quantrecipe.release.checksums import check_sums, read_sums

WORDS = "every word of this text is read by the model, one after the other. "
RELEASE = """\
release: 1
name: Tiny
base_model: owner/Tiny
quantized_by: me
license: mit
files:
  - recipe: llama.cpp/Q4_0
  - {recipe: mine.yaml, name: "{model}-CODE.gguf", note: for code}
measure: {texts: [code=code.txt, prose=prose.txt]}
"""
MINE = "quantrecipe: 1\nname: mine\ndefault: Q8_0\nrules: [{tensors: attn_v, type: Q5_0, why: so}]\n"


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> InventedEngine:
    """In a folder with a model, a recipe, texts and a release. Charts take long, and are tested by themselves."""
    for name in ("draw_losses", "draw_spending"):
        monkeypatch.setattr(f"quantrecipe.cli.release.documents.{name}", lambda *_, **__: b"a picture")
    it = InventedEngine()
    it.install(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    write_gguf(tmp_path / "model.gguf", llama_tensors(layers=2), llama_metadata())
    for name, text in {"release.yaml": RELEASE, "mine.yaml": MINE}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    for name in ("code", "prose"):
        (tmp_path / f"{name}.txt").write_text(f"{name}: {WORDS}" * 60, encoding="utf-8")
    return it


def run(*options: str, model: str = "model.gguf") -> Result:
    return CliRunner().invoke(app, ["--no-plugins", "release", model, "--to", "out", *options])


def said(result: Result) -> str:
    return " ".join(result.output.split())


def write(text: str) -> None:
    Path("release.yaml").write_text(text, encoding="utf-8")


def made_again(result: Result) -> int:
    """How many files were made."""
    match = re.search(r"making (\d+) of", said(result))
    return int(match[1]) if match else 0


def files_of(folder: str) -> dict[str, tuple[int, int]]:
    """Of everything that is published: inode and time."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in Path(folder).rglob("*")
        if path.is_file() and ".quantrecipe-release" not in path.parts
    }


def test_all_of_it(invented: InventedEngine) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert sorted(files_of("out")) == [
        "README.md",
        "SHA256SUMS",
        "Tiny-CODE.gguf",
        "Tiny-Q4_0.gguf",
        "charts/losses.png",
        "charts/spending.png",
        "locks/Tiny-CODE.lock",
        "locks/Tiny-Q4_0.lock",
        "measurements.json",
        "ollama/Modelfile.Tiny-CODE",
        "ollama/Modelfile.Tiny-Q4_0",
        "recipes/Tiny-CODE.yaml",
        "recipes/Tiny-Q4_0.yaml",
        "release.yaml",
    ]
    assert invented.runs == ["model.gguf", "Tiny-Q4_0.gguf", "Tiny-CODE.gguf"]
    assert "making 2 of 2 files, in one pass over the model" in said(result)
    assert re.search(r"Tiny-Q4_0\.gguf [\d.]+ KiB 4\.\d\d 0\.\d+ \d\d\.\d\d", said(result)), result.output
    sums = read_sums(Path("out"))
    check_sums(Path("out"), sums)
    assert set(sums) == set(files_of("out")) - {"README.md", "SHA256SUMS"}
    assert not list(Path("out").rglob("unquantized*"))


def test_the_card(invented: InventedEngine) -> None:
    assert run().exit_code == 0
    card = Path("out/README.md").read_text(encoding="utf-8")
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "base_model": "owner/Tiny",
        "base_model_relation": "quantized",
        "quantized_by": "me",
        "license": "mit",
        "tags": ["gguf", "quantized", "quantrecipe"],
    }
    assert "# Tiny GGUF" in body
    assert "| graphics card | code | chat | long contexts |" in body
    assert re.search(r"\| 4 GiB or more \| `CODE` \| `\w+` \| `\w+` \|", body), body
    row = next(line for line in body.splitlines() if line.startswith("| [Tiny-CODE.gguf](Tiny-CODE.gguf)"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert re.fullmatch(r"[\d.]+ MiB", cells[1])
    assert re.fullmatch(r"0\.\d+ ± 0\.\d+", cells[3])
    assert re.fullmatch(r"\d\d\.\d %", cells[4])
    assert cells[6:] == ["4 GiB", "for code"]
    figures = json.loads(Path("out/measurements.json").read_text(encoding="utf-8"))
    assert figures["texts"] == {"code": 12, "prose": 12}
    assert f"{figures['files']['Tiny-CODE']['texts']['code']['kld']:.3g}" in body
    assert "Measured on code (12 chunks), prose (12 chunks) of 64 tokens, by invented 1.0." in body
    assert "No importance matrix." in body
    assert "quantrecipe release hf://owner/Tiny release.yaml --to ." in body
    links = re.findall(r"\]\(([^)h][^)]*)\)", body)
    assert all(Path("out", link).is_file() for link in links)
    assert {"charts/losses.png", "charts/spending.png"} <= set(links)


def test_a_second_run_does_nothing(invented: InventedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run().exit_code == 0
    before = files_of("out")
    invented.runs.clear()
    monkeypatch.setattr("quantrecipe.cli.release.files.hash_file", lambda *_: pytest.fail("hashed again"))
    result = run()
    assert result.exit_code == 0, result.output
    assert files_of("out") == before
    assert invented.runs == []
    assert "Tiny-CODE.gguf is there" in said(result)
    assert "Tiny-CODE.gguf is measured" in said(result)


def changed_recipe() -> None:
    Path("mine.yaml").write_text(MINE.replace("Q5_0", "Q5_1"), encoding="utf-8")


def another_reason() -> None:
    """Which is recorded in the file."""
    Path("mine.yaml").write_text(MINE.replace("why: so", "why: for another reason"), encoding="utf-8")


def added_file() -> None:
    write(RELEASE.replace("measure:", "  - Q8_0\nmeasure:"))


def other_text() -> None:
    Path("prose.txt").write_text(WORDS * 70, encoding="utf-8")


def another_note() -> None:
    write(RELEASE.replace("for code", "for programs"))


def removed_file() -> None:
    Path("out/Tiny-CODE.gguf").unlink()


def another_model() -> None:
    write_gguf(Path("model.gguf"), llama_tensors(layers=2, seed=3), llama_metadata())


@pytest.mark.parametrize(
    ("change", "files", "runs"),
    [
        (changed_recipe, 1, ["Tiny-CODE.gguf"]),
        (another_reason, 1, ["Tiny-CODE.gguf"]),
        (added_file, 1, ["Tiny-Q8_0.gguf"]),
        (other_text, 0, ["model.gguf", "Tiny-Q4_0.gguf", "Tiny-CODE.gguf"]),
        (another_note, 0, []),
        (removed_file, 1, []),
        (another_model, 2, ["model.gguf", "Tiny-Q4_0.gguf", "Tiny-CODE.gguf"]),
    ],
)
def test_a_second_run_does_only_what_changed(
    invented: InventedEngine, change: Callable[[], None], files: int, runs: list[str]
) -> None:
    assert run().exit_code == 0
    invented.runs.clear()
    change()
    result = run()
    assert result.exit_code == 0, result.output
    assert (made_again(result), invented.runs) == (files, runs)
    check_sums(Path("out"), read_sums(Path("out")))
    invented.runs.clear()
    assert made_again(run()) == 0
    assert invented.runs == []


def test_a_run_that_was_killed_while_it_measured_goes_on(invented: InventedEngine) -> None:
    invented.dies_at = 2
    assert run().exit_code != 0
    assert invented.runs == ["model.gguf", "Tiny-Q4_0.gguf"]
    invented.dies_at = None
    invented.runs.clear()
    result = run()
    assert result.exit_code == 0, result.output
    assert (made_again(result), invented.runs) == (0, ["Tiny-CODE.gguf"])


def test_a_run_that_was_killed_before_it_hashed_goes_on(
    invented: InventedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("quantrecipe.cli.release.files.hash_file", killed)
        assert run().exit_code != 0
    assert sorted(files_of("out")) == ["Tiny-CODE.gguf", "Tiny-Q4_0.gguf"]
    before = files_of("out")
    result = run()
    assert result.exit_code == 0, result.output
    assert made_again(result) == 0
    assert {name: files_of("out")[name] for name in before} == before


def test_a_run_that_was_killed_before_it_made_anything_does_not_take_old_files(
    invented: InventedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older file of the same size isn't the new one."""
    assert run().exit_code == 0
    Path("mine.yaml").write_text(MINE.replace("why: so", "why: no"), encoding="utf-8")
    before = Path("out/Tiny-CODE.gguf").stat()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("quantrecipe.cli.release.files.apply_plans", killed)
        assert run().exit_code != 0
    result = run()
    assert result.exit_code == 0, result.output
    assert made_again(result) == 1
    assert Path("out/Tiny-CODE.gguf").stat().st_size == before.st_size
    assert Path("out/Tiny-CODE.gguf").stat().st_ino != before.st_ino


def test_files_of_somebody_else_stay(invented: InventedEngine) -> None:
    Path("out").mkdir()
    Path("out/Tiny-Q4_0.gguf").write_bytes(b"mine")
    result = run()
    assert result.exit_code == 1
    assert "out/Tiny-Q4_0.gguf exists, and isn't of this release; move it away" in said(result)
    assert Path("out/Tiny-Q4_0.gguf").read_bytes() == b"mine"
    assert not Path("out/Tiny-CODE.gguf").exists()
    assert run("--force").exit_code == 0
    assert Path("out/Tiny-Q4_0.gguf").read_bytes()[:4] == b"GGUF"


def test_what_is_no_longer_part_of_it_stays_and_is_told(invented: InventedEngine) -> None:
    assert run().exit_code == 0
    write(RELEASE.replace("  - recipe: llama.cpp/Q4_0\n", ""))
    result = run()
    assert "Tiny-Q4_0.gguf isn't part of the release, and won't be published" in said(result)
    assert Path("out/Tiny-Q4_0.gguf").exists()
    assert "Tiny-Q4_0.gguf" not in read_sums(Path("out"))
    assert "Tiny-Q4_0" not in Path("out/README.md").read_text(encoding="utf-8")


def test_a_card_that_was_edited_stays_and_the_difference_is_shown(invented: InventedEngine) -> None:
    assert run().exit_code == 0
    card = Path("out/README.md")
    edited = card.read_text(encoding="utf-8").replace("# Tiny GGUF", "# Tiny, by me")
    card.write_text(edited, encoding="utf-8")
    another_note()
    result = run()
    assert result.exit_code == 0, result.output
    assert "warning: README.md was edited, and stays as it is; --force" in said(result)
    assert "-# Tiny, by me" in result.output
    assert card.read_text(encoding="utf-8") == edited
    assert run("--force").exit_code == 0
    assert "for programs" in card.read_text(encoding="utf-8")


def test_what_is_written_around_our_part_stays(invented: InventedEngine) -> None:
    assert run().exit_code == 0
    card = Path("out/README.md")
    card.write_text(card.read_text(encoding="utf-8") + "\n## Thanks\n", encoding="utf-8")
    another_note()
    assert run().exit_code == 0
    text = card.read_text(encoding="utf-8")
    assert "for programs" in text
    assert text.endswith("\n## Thanks\n")


def test_without_measuring(invented: InventedEngine) -> None:
    result = run("--no-measure")
    assert result.exit_code == 0, result.output
    assert invented.runs == []
    card = Path("out/README.md").read_text(encoding="utf-8")
    assert "Nothing was measured of these files." in card
    assert "an estimate: nothing was measured" in card
    assert "KL divergence |" not in card
    assert not Path("out/measurements.json").exists()
    assert not Path("out/charts/losses.png").exists()


def test_what_was_measured_stays_without_measuring(invented: InventedEngine) -> None:
    assert run().exit_code == 0
    card = Path("out/README.md").read_text(encoding="utf-8")
    assert run("--no-measure").exit_code == 0
    assert Path("out/README.md").read_text(encoding="utf-8") == card
    changed_recipe()
    assert run("--no-measure").exit_code == 0
    figures = json.loads(Path("out/measurements.json").read_text(encoding="utf-8"))
    assert list(figures["files"]) == ["Tiny-Q4_0"]


def test_without_an_engine_nothing_is_measured_and_it_is_said(
    invented: InventedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(path: object = None) -> None:
        raise EvaluationError("llama.cpp isn't here", "pip install 'quantrecipe[llama]'")

    monkeypatch.setattr("quantrecipe.engine.require_engine", missing)
    result = run()
    assert result.exit_code == 0, result.output
    assert "warning: nothing is measured: llama.cpp isn't here; pip install" in said(result)
    write(RELEASE + "imatrix: {texts: code.txt}\n")
    result = run()
    assert result.exit_code == 1
    assert "error: llama.cpp isn't here" in said(result)


def test_a_file_that_llama_cpp_cannot_run_has_no_figures(invented: InventedEngine) -> None:
    invented.broken.add("Tiny-CODE.gguf")
    result = run()
    assert result.exit_code == 0, result.output
    assert "warning: Tiny-CODE.gguf isn't measured: llama.cpp can't load it; update llama.cpp" in said(result)
    card = Path("out/README.md").read_text(encoding="utf-8")
    assert re.search(r"\[Tiny-CODE\.gguf\]\(Tiny-CODE\.gguf\) \| [\d.]+ MiB \| [\d.]+ \| – \| – \|", card)


def test_importance_is_computed_once(invented: InventedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a graph whose tensors are those of the model."""
    write_gguf(Path("graph.gguf"), graph_tensors(), llama_metadata())
    text = RELEASE.replace("llama.cpp/Q4_0", "llama.cpp/F16").replace("mine.yaml", "llama.cpp/BF16")
    write(text + "imatrix: {texts: [code=long.txt], context: 16}\n")
    Path("long.txt").write_text("other words are read here, " * 200, encoding="utf-8")
    result = run(model="graph.gguf")
    assert result.exit_code == 0, result.output
    assert "importance matrix: computing Tiny.imatrix.gguf" in said(result)
    card = Path("out/README.md").read_text(encoding="utf-8")
    assert "[Tiny.imatrix.gguf](Tiny.imatrix.gguf), computed on code (" in card
    assert "The importance matrix was computed on other texts." in card
    assert "These files use none: `CODE`, `F16`." in card
    assert "- imatrix" in card
    assert "Tiny.imatrix.gguf" in read_sums(Path("out"))
    with monkeypatch.context() as patch:  # what is there needs no engine

        def missing(path: object = None) -> None:
            raise EvaluationError("llama.cpp isn't here")

        patch.setattr("quantrecipe.engine.require_engine", missing)
        result = run(model="graph.gguf")
        assert result.exit_code == 0, result.output
        assert "Tiny.imatrix.gguf is there" in said(result)
        assert "Measured on" in Path("out/README.md").read_text(encoding="utf-8")
    Path("long.txt").write_text(WORDS * 60, encoding="utf-8")
    result = run(model="graph.gguf")
    assert "computing Tiny.imatrix.gguf" in said(result)
    Path("prose.txt").write_text(WORDS * 60, encoding="utf-8")
    assert run(model="graph.gguf").exit_code == 0
    assert "% of the passages of prose, too: these look better than they are" in Path(
        "out/README.md"
    ).read_text(encoding="utf-8")


def test_json_is_all_that_stdout_has(invented: InventedEngine) -> None:
    write(RELEASE + "split: 200k\n")
    document = json.loads(run("--json").stdout)
    assert [it["name"] for it in document["files"]] == ["Tiny-Q4_0", "Tiny-CODE"]
    first = document["files"][0]
    assert len(first["files"]) > 1
    assert all(re.fullmatch(r"Tiny-Q4_0-\d{5}-of-\d{5}\.gguf", name) for name in first["files"])
    assert first["figures"]["kld"] > 0
    assert (document["card_kept"], document["measured"]["context"]) == (False, 64)
    card = Path("out/README.md").read_text(encoding="utf-8")
    assert "A file that is split is loaded by the name of its first part." in card
    assert not Path("out/ollama").exists()


def test_links_for_lm_studio(invented: InventedEngine) -> None:
    assert run("--lm-studio", "studio").exit_code == 0
    for name in ("Tiny-Q4_0.gguf", "Tiny-CODE.gguf"):
        assert Path(f"studio/me/Tiny-GGUF/{name}").samefile(f"out/{name}")
    write(RELEASE + "repo: you/Tiny-7B\n")
    assert run("--lm-studio", "studio").exit_code == 0
    assert Path("studio/you/Tiny-7B/Tiny-CODE.gguf").exists()
    Path("studio/you/Tiny-7B/Tiny-CODE.gguf").unlink()
    Path("studio/you/Tiny-7B/Tiny-CODE.gguf").write_bytes(b"mine")
    result = run("--lm-studio", "studio")
    assert result.exit_code == 1
    assert "exists, and is another file" in said(result)
    write(RELEASE.replace("quantized_by: me\n", ""))
    result = run("--lm-studio", "studio")
    assert "write quantized_by: NAME, or repo: OWNER/NAME" in said(result)


def test_modelfiles_have_how_its_makers_sample(invented: InventedEngine) -> None:
    from quantrecipe.gguf.values import GGUFValue, ValueType

    sampling = {
        "general.sampling.temp": GGUFValue.of(ValueType.FLOAT32, 0.5),
        "general.sampling.top_k": GGUFValue.of(ValueType.INT32, 20),
    }
    write_gguf(Path("model.gguf"), llama_tensors(layers=2), {**llama_metadata(), **sampling})
    assert run("--no-measure").exit_code == 0
    assert Path("out/ollama/Modelfile.Tiny-CODE").read_text(encoding="utf-8") == (
        "FROM ../Tiny-CODE.gguf\nPARAMETER num_ctx 8192\nPARAMETER temperature 0.5\nPARAMETER top_k 20\n"
    )


def test_the_recipes_and_locks_make_the_files_again(invented: InventedEngine) -> None:
    assert run("--no-measure").exit_code == 0
    again = CliRunner().invoke(
        app,
        [
            "--no-plugins",
            "apply",
            "out/recipes/Tiny-CODE.yaml",
            "model.gguf",
            "--locked",
            "out/locks/Tiny-CODE.lock",
            "-o",
            "again.gguf",
        ],
    )
    assert again.exit_code == 0, again.output
    one, other = (list(read_header(Path(path)).tensors) for path in ("again.gguf", "out/Tiny-CODE.gguf"))
    assert [(it.name, it.shape, it.ggml_type) for it in one] == [
        (it.name, it.shape, it.ggml_type) for it in other
    ]
    hashes = [
        read_header(Path(path)).metadata["quantrecipe.data.xxh3_128"].decode()
        for path in ("again.gguf", "out/Tiny-CODE.gguf")
    ]
    assert hashes[0] == hashes[1]


def test_a_mix_that_is_found(invented: InventedEngine) -> None:
    write(RELEASE.replace("  - recipe: llama.cpp/Q4_0\n", "  - fit: {bpw: 6, prior: true}\n"))
    result = run("--no-measure")
    assert result.exit_code == 0, result.output
    assert "Tiny-fit-6bpw: looking for the best mix" in said(result)
    assert Path("out/Tiny-fit-6bpw.gguf").exists()
    assert "fit-6bpw" in Path("out/recipes/Tiny-fit-6bpw.yaml").read_text(encoding="utf-8")
    again = run("--no-measure")
    assert "looking for" not in said(again)
    assert made_again(again) == 0
    write(RELEASE.replace("  - recipe: llama.cpp/Q4_0\n", "  - fit: {bpw: 5, prior: true}\n"))
    assert made_again(run("--no-measure")) == 1


def test_everything_that_is_wrong_is_told_at_once(invented: InventedEngine) -> None:
    write(
        "release: 1\nfiles:\n  - nothing/like-it\n  - {recipe: Q8_0, name: a.gguf}\n  - {recipe: Q4_0, name: A.gguf}\n"
        "  - {recipe: mine.yaml, imatrix: gone.gguf, set: {nothing: 1}}\n"
        "imatrix: {texts: [gone.txt]}\nmeasure: {texts: [code.txt, other/code.txt]}\nstatistics: no-grams\n"
    )
    result = run()
    assert result.exit_code == 1
    errors = [line for line in result.output.split("error: ") if line.strip()]
    told = " ".join(" ".join(errors).split())
    for expected in (
        "release.yaml:3: no installed plugin ships recipes under 'nothing'",
        "release.yaml:5: A.gguf would be written twice: the entry of line 4 has this name, too",
        "release.yaml:6: there is no gone.gguf; paths are relative to this file",
        "release.yaml:6: `set: nothing`: the recipe has no such variable",
        "release.yaml:7: gone.txt:",
        "release.yaml:8: other/code.txt:",
        "release.yaml: there is no no-grams",
    ):
        assert expected in told, (expected, told)
    assert not Path("out").exists()


def test_what_cannot_be_planned_is_told_with_its_line(invented: InventedEngine) -> None:
    write("release: 1\nfiles: [Q8_0,\n  llama.cpp/IQ2_XXS]\n")
    result = run()
    assert result.exit_code == 1
    assert "release.yaml:3: llama.cpp@b11312/IQ2_XXS: recipe 'IQ2_XXS' needs an importance matrix" in said(
        result
    )
    assert "with `imatrix:`" in said(result)
    assert not list(Path("out").glob("*.gguf"))


def test_a_dry_run_writes_nothing(invented: InventedEngine) -> None:
    write(
        RELEASE.replace(
            "measure:", "  - fit: {bpw: 4}\n  - llama.cpp/Q4_K*\nimatrix: {texts: code.txt}\nmeasure:"
        )
    )
    result = run("--dry-run")
    assert result.exit_code == 0, result.output
    assert "Tiny-fit-4bpw.gguf is found by fit" in said(result)
    assert "Tiny-Q4_K_S.gguf" in said(result)
    assert "would be made in out; nothing was written" in said(result)
    assert not Path("out").exists()
    document = json.loads(run("--dry-run", "--json").stdout)
    assert document["files"][0]["nbytes"] > 0


def test_two_runs_at_once(invented: InventedEngine) -> None:
    from quantrecipe.errors import OutputError
    from quantrecipe.output.locks import held

    Path("out/.quantrecipe-release").mkdir(parents=True)
    with held(Path("out/.quantrecipe-release/lock"), OutputError("busy")):
        result = run()
    assert result.exit_code == 1
    assert "another run makes the release in out" in said(result)


def test_a_first_release_can_be_used_as_it_is(invented: InventedEngine) -> None:
    result = CliRunner().invoke(app, ["--no-plugins", "release", "--init", "model.gguf"])
    assert result.exit_code == 0, result.output
    assert "name: model\n" in result.stdout
    write(result.stdout)
    result = run("--dry-run")
    assert result.exit_code == 0, result.output
    commented = Path("release.yaml").read_text(encoding="utf-8").replace("# imatrix:", "imatrix:")
    write(commented.replace("calibration/code.txt", "code.txt").replace("calibration/prose.txt", "prose.txt"))
    assert run("--dry-run").exit_code == 0


def test_a_matrix_that_is_there_and_one_for_a_single_file(invented: InventedEngine) -> None:
    """Both are in the folder, so that the files can be made again."""
    for name in ("shared", "single"):
        matrix_of("model.gguf", f"{name}.gguf", scale=len(name))
    write(
        RELEASE.replace("for code}", "for code, imatrix: single.gguf}").replace("Q4_0", "Q4_K_M")
        + "imatrix: shared.gguf\n"
    )
    Path("mine.yaml").write_text(MINE.replace("Q8_0", "Q4_K"), encoding="utf-8")
    result = run("--no-measure")
    assert result.exit_code == 0, result.output
    assert Path("out/Tiny.imatrix.gguf").read_bytes() == Path("shared.gguf").read_bytes()
    assert Path("out/Tiny-CODE.imatrix.gguf").read_bytes() == Path("single.gguf").read_bytes()
    card = Path("out/README.md").read_text(encoding="utf-8")
    assert "Importance matrix: [Tiny.imatrix.gguf](Tiny.imatrix.gguf)." in card
    assert "That of `CODE`: [Tiny-CODE.imatrix.gguf](Tiny-CODE.imatrix.gguf)." in card
    assert {"Tiny.imatrix.gguf", "Tiny-CODE.imatrix.gguf"} <= set(read_sums(Path("out")))
    again = run("--no-measure")
    assert made_again(again) == 0
    assert "importance matrix: Tiny.imatrix.gguf is there" in said(again)
    matrix_of("model.gguf", "single.gguf", scale=9)
    assert made_again(run("--no-measure")) == 1


def matrix_of(model: str, path: str, *, scale: int) -> None:
    """A matrix that covers a model's matrices."""
    write_gguf_imatrix(
        Path(path),
        {
            it.name: (np.arange(1, it.cols + 1, dtype=np.float32)[None] ** (1 / scale), [1.0])
            for it in open_model(model).tensors
            if len(it.shape) > 1
        },
    )


def test_the_model_s_own_folder_is_refused(invented: InventedEngine) -> None:
    """Its card is somebody else's."""
    result = CliRunner().invoke(app, ["--no-plugins", "release", "model.gguf", "--to", ".", "--force"])
    assert result.exit_code == 1
    assert "is the folder of the model; name another with --to" in said(result)
    assert not Path("README.md").exists()


def test_without_a_folder_or_weights(invented: InventedEngine) -> None:
    result = CliRunner().invoke(app, ["--no-plugins", "release", "model.gguf"])
    assert result.exit_code == 2
    assert "Say with --to in which folder the release is made." in said(result)
    result = run(model="shapes/qwen3-0.6b")
    assert result.exit_code == 1
    assert "no weights" in said(result)


def test_the_model_is_read_once(invented: InventedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    make = apply_module.apply_plans

    def counted(plans: list[object], **options: object) -> list[apply_module.Result]:
        results = make(plans, **options)  # type: ignore[arg-type]
        read.append(results[0].read)
        return results

    monkeypatch.setattr("quantrecipe.cli.release.files.apply_plans", counted)
    assert run("--no-measure").exit_code == 0
    (nbytes,) = read
    assert nbytes <= Path("model.gguf").stat().st_size
