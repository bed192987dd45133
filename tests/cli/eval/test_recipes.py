"""eval of recipes: files that are made of them, and go again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.evaluated import REFERENCE, run
from support.gram_statistics import write_statistics
from support.imatrix_files import with_provenance

from quantrecipe.errors import EvaluationError
from quantrecipe.importance.provenance import Provenance
from quantrecipe.model.open_model import open_model

EXAMPLE = str(Path(__file__).parents[3] / "examples/tiny-code")
CODE, PROSE = (
    str(Path(__file__).parents[2] / f"data/imatrix/imatrix.{text}.gguf") for text in ("code", "prose")
)
OF_EXAMPLE = ["--reference", EXAMPLE, "--text", "code.txt"]


class TestRecipes:
    def test_the_matrix_of_another_model_is_refused_unless_somebody_insists(
        self, calls: list[dict[str, object]], tmp_path: Path
    ) -> None:
        stated = Provenance(fingerprint=f"v1:{'0' * 16}:{'0' * 32}")
        with_provenance(Path(CODE), stated, tmp_path / "other.gguf")
        arguments = ["Q4_0", *OF_EXAMPLE, "--imatrix", "other.gguf"]
        refused = run(arguments)
        assert refused.exit_code == 1
        assert "other.gguf: is the importance matrix of another model" in " ".join(refused.output.split())
        assert calls == []
        assert run([*arguments, "--imatrix-of-another-model"]).exit_code == 0

    def test_files_are_made_and_removed(self, calls: list[dict[str, object]], tmp_path: Path) -> None:
        before = sorted(tmp_path.rglob("*"))
        result = run(["Q8_0", "llama.cpp/F16", *OF_EXAMPLE, "--json"])
        assert result.exit_code == 0, result.output
        assert (
            "making 3 files, 17.95 MiB, in the current folder; they are removed afterwards" in result.stderr
        )
        told = json.loads(result.stdout)["files"]
        assert [(it["name"], it["file"], it["recipe"]) for it in told] == [
            *(("Q8_0", None, "Q8_0"), ("llama.cpp/F16", None, "llama.cpp/F16")),
        ]
        # They were there, each of the size that was told, while they were run.
        assert [call["nbytes"] for call in calls[1:]] == [it["nbytes"] for it in told]
        assert [it["bits_per_weight"] for it in told] == pytest.approx([8.5083, 16.0065], abs=0.01)
        names = [Path(str(call["model"])).name for call in calls]
        assert names == ["tiny-code-unquantized.gguf", "tiny-code-Q8_0.gguf", "tiny-code-F16.gguf"]
        cached = [path for path in tmp_path.rglob("*") if path not in before]
        assert [path.parent.name for path in cached if path.is_file()] == ["references"]

    def test_the_reference_of_a_folder_is_kept(self, calls: list[dict[str, object]], tmp_path: Path) -> None:
        """Neither it nor the GGUF that it would take is made again, until prompts need that."""
        run(["Q8_0", *OF_EXAMPLE])
        assert "making 1 file, " in run(["Q8_0", *OF_EXAMPLE]).stderr
        assert [Path(str(call["model"])).name for call in calls[2:]] == ["tiny-code-Q8_0.gguf"]
        (tmp_path / "prompts.txt").write_text("Hi", encoding="utf-8")
        for count in (2, 1):
            result = run(["Q8_0", *OF_EXAMPLE, "--prompts", "prompts.txt"])
            assert result.exit_code == 0, result.output
            assert f"making {count} file" in result.stderr

    def test_a_file_of_a_gguf(self, calls: list[dict[str, object]]) -> None:
        result = run(["q4.gguf", "Q8_0", *REFERENCE])
        assert result.exit_code == 0, result.output
        assert "making 1 file, " in result.stderr
        assert "it is removed afterwards (--keep keeps it)" in result.stderr
        assert "Q8_0 against q4.gguf: " in result.output

    def test_kept_where_one_says(self, calls: list[dict[str, object]], tmp_path: Path) -> None:
        (tmp_path / "made").mkdir()
        args = ["Q8_0", *REFERENCE, "--work-dir", "made", "--keep", "--json"]
        result = run(args)
        assert json.loads(result.stdout)["files"][0]["file"] == "made/bf16-Q8_0.gguf"
        assert [path.name for path in (tmp_path / "made").iterdir()] == ["bf16-Q8_0.gguf"]
        again = run(args)
        assert again.exit_code == 1
        assert "bf16-Q8_0.gguf" in again.output
        assert run([*args, "--force"]).exit_code == 0

    def test_nothing_is_left_of_a_failure(
        self, calls: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def fail(*arguments: object, **more: object) -> None:
            raise EvaluationError("stopped")

        monkeypatch.setattr("quantrecipe.cli.eval.run.evaluate_files", fail)
        before = set(tmp_path.iterdir())
        assert "stopped" in run(["Q8_0", *REFERENCE]).output
        assert set(tmp_path.iterdir()) == before

    def test_with_each_importance_matrix(self, calls: list[dict[str, object]]) -> None:
        result = run(["Q4_0", "Q8_0", *OF_EXAMPLE, *matrices("none", CODE, PROSE), "--json"])
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)["files"]
        assert [(it["name"], it["imatrix"]) for it in told] == [
            ("Q4_0@none", None),
            ("Q4_0@imatrix.code.gguf", CODE),
            ("Q4_0@imatrix.prose.gguf", PROSE),
            ("Q8_0", None),  # takes none, and is made once
        ]
        names = [Path(str(call["model"])).name for call in calls[1:]]
        assert len(set(names)) == 4

    def test_an_argument_s_own_matrix(self, calls: list[dict[str, object]], tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a/imatrix.code.gguf").write_bytes(Path(PROSE).read_bytes())
        args = [f"Q4_0@{CODE}", "Q4_0@a/imatrix.code.gguf", "Q4_0@none", "Q4_0", f"Q8_0@{CODE}"]
        result = run([*args, *OF_EXAMPLE, *matrices(PROSE), "--json"])
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)["files"]
        assert [(it["name"], it["imatrix"]) for it in told] == [
            (f"Q4_0@{CODE}", CODE),  # the whole path, since another has the same name
            ("Q4_0@a/imatrix.code.gguf", "a/imatrix.code.gguf"),
            ("Q4_0@none", None),
            ("Q4_0", PROSE),
            (f"Q8_0@{CODE}", None),
        ]
        assert "no type of this recipe uses importance" in result.stderr
        names = [Path(str(call["model"])).name for call in calls[1:]]
        assert len(set(names)) == 5

    def test_a_recipe_s_own_matrix(self, calls: list[dict[str, object]], tmp_path: Path) -> None:
        """It counts where nothing else is said; `none` means none."""
        text = f"quantrecipe: 1\nname: mine\nextends: llama.cpp/Q4_0\nimportance: {{file: '{CODE}'}}\n"
        (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
        args = ["mine.yaml", "mine.yaml@none", "Q4_0", f"Q4_0@{CODE}", "--work-dir", ".", "--keep"]
        result = run([*args, *OF_EXAMPLE, "--json"])
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)["files"]
        assert [it["imatrix"] for it in told] == [CODE, None, None, CODE]
        names = ("mine", "mine-none", "Q4_0", "Q4_0-imatrix.code")
        own, none, plain, given = (_data(tmp_path / f"tiny-code-{name}.gguf") for name in names)
        assert own == given
        assert none == plain
        assert own != none

    def test_a_recipe_with_an_encoder(self, calls: list[dict[str, object]], tmp_path: Path) -> None:
        """Both files have the same size; the one that statistics made has other bytes."""
        statistics = write_statistics(tmp_path / "grams", {"blk.0.ffn_down.weight": (768, (1000,))})
        text = "quantrecipe: 1\nname: mine\ndefault: Q4_0\nencoder: feedback\n"
        (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
        (tmp_path / "plain.yaml").write_text(
            text.replace("encoder: feedback\n", "").replace("mine", "plain"), encoding="utf-8"
        )
        args = [
            "plain.yaml",
            "mine.yaml",
            "--statistics",
            str(statistics.folder),
            "--work-dir",
            ".",
            "--keep",
        ]
        result = run([*args, *OF_EXAMPLE, "--json"])
        assert result.exit_code == 0, result.output
        plain, mine = (read_tensors(tmp_path / f"tiny-code-{name}.gguf") for name in ("plain", "mine"))
        assert [name for name in plain if plain[name] != mine[name]] == ["blk.0.ffn_down.weight"]

    def test_an_encoder_without_statistics(self, calls: list[dict[str, object]], tmp_path: Path) -> None:
        (tmp_path / "mine.yaml").write_text("quantrecipe: 1\ndefault: Q4_0\nencoder: feedback\n", "utf-8")
        result = run(["mine.yaml", *OF_EXAMPLE])
        assert result.exit_code == 1
        assert "give them with --statistics FOLDER" in " ".join(result.output.split())
        assert calls == []

    def test_a_recipe_that_can_t_be_planned(self, calls: list[dict[str, object]]) -> None:
        result = run(["IQ2_XS", *OF_EXAMPLE])
        assert result.exit_code == 1
        assert "needs an importance matrix" in result.output
        assert calls == []

    def test_a_saved_reference_can_t_be_quantized(self, calls: list[dict[str, object]]) -> None:
        run([*REFERENCE, "--save-reference", "mine.reference"])
        result = run(["Q8_0", "--reference", "mine.reference"])
        assert result.exit_code == 2
        assert "has only what a model said about texts" in " ".join(result.output.split())
        result = run(["q4.gguf", "--reference", "mine.reference", "--prompts", "code.txt"])
        assert "it is to answer the --prompts" in " ".join(result.output.split())


def read_tensors(path: Path) -> dict[str, bytes]:
    model, data = open_model(path), path.read_bytes()
    return {
        name: data[extent.offset : extent.offset + extent.nbytes]
        for name, source in model.sources.items()
        for extent in source.extents
    }


def _data(path: Path) -> bytes:
    """The tensors of a file, without its header."""
    return path.read_bytes()[-1_000_000:]


def matrices(*paths: str) -> list[str]:
    return [word for path in paths for word in ("--imatrix", path)]
