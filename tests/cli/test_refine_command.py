"""quantrecipe refine, with a graph of ours in llama.cpp's place, and memory of ours for the weights in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.exchanged import Exchanged
from support.graph_of_products import ModelOfProducts, SessionOfProducts
from support.models import llama_metadata, llama_tensors, write_gguf
from support.trial_figures import Figures

from quantrecipe.calibration.gram import compute, read_gram
from quantrecipe.cli.app import app
from quantrecipe.refine import stages
from quantrecipe.refine import trial as trial_module

WORDS = "every word of this text is read by the model, one after the other. "
RECIPE = "quantrecipe: 1\nname: mine\ndefault: Q4_0\nencoder: feedback\n"


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SessionOfProducts:
    monkeypatch.chdir(tmp_path)
    made = SessionOfProducts(ModelOfProducts(columns=256))
    monkeypatch.setattr(compute, "Session", made)
    monkeypatch.setattr(stages, "Exchange", Exchanged)
    Exchanged.clear()
    write_gguf(tmp_path / "model.gguf", llama_tensors(layers=2), llama_metadata())
    (tmp_path / "text.txt").write_text(WORDS * 40, encoding="utf-8")
    (tmp_path / "held-out.txt").write_text("held out", encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(RECIPE, encoding="utf-8")
    return made


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Figures:
    made = Figures()
    monkeypatch.setattr(trial_module, "make_reference", made.make_reference)
    monkeypatch.setattr(trial_module, "score", made.score)
    return made


def refine(*more: str) -> Result:
    common = ("refine", "mine.yaml", "model.gguf", "--text", "text.txt", "--context", "128", "--stages", "2")
    return CliRunner().invoke(app, ["--no-plugins", *common, *more])


def said(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_the_file_is_what_apply_makes_with_the_folder() -> None:
    told = said(refine())
    assert "stage 1 of 2: 1 tensor quantized before it" in told
    assert "stage 2 of 2: 7 tensors quantized before it" in told
    assert "wrote model-mine.gguf" in told
    assert read_gram("model-mine.statistics").index.behind == "mine, in 2 stages"
    line = "apply mine.yaml model.gguf --statistics model-mine.statistics -o again.gguf"
    assert CliRunner().invoke(app, ["--no-plugins", *line.split()]).exit_code == 0
    assert Path("again.gguf").read_bytes() == Path("model-mine.gguf").read_bytes()
    shown = CliRunner().invoke(app, ["--no-plugins", "imatrix", "show", "model-mine.statistics"])
    assert "behind mine, in 2 stages" in " ".join(shown.output.split())


def test_what_is_finished_isn_t_collected_again(session: SessionOfProducts) -> None:
    said(refine("-o", "out.gguf"))
    before = Path("out.gguf").read_bytes()
    assert refine("-o", "out.gguf").exit_code == 1  # the file is there
    session.model.computed.clear()
    assert "all is there already" in said(refine("-o", "out.gguf", "--force"))
    assert session.model.computed == []
    assert Path("out.gguf").read_bytes() == before


def test_other_stages_have_a_folder_of_their_own() -> None:
    said(refine("--statistics", "here"))
    told = said(refine("--statistics", "here", "--stages", "99", "--force"))
    assert "stage 8 of 8" in told  # an input in each
    assert len(list(Path("here").iterdir())) == 2


@pytest.mark.parametrize(("mean", "encoder"), [(0.5, True), (0.99, False)])
def test_plain_encoding_is_kept_where_nothing_is_gained(figures: Figures, mean: float, encoder: bool) -> None:
    figures.means["encoded.gguf"] = mean
    result = refine("--verify", "held-out.txt", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["verified"]["kept"] == ("encoder" if encoder else "plain")
    assert told["stages"] == 2
    assert told["statistics"]["behind"] == "mine, in 2 stages"
    assert (b"quantrecipe.encoders" in Path(told["output"]).read_bytes()) is encoder


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("-o", "no/out.gguf"), "the folder no doesn't exist"),
        (("--statistics", "no/such"), "--statistics FOLDER"),
        (("--verify", "nothing.txt"), "the text can't be read"),
        (("--verify-layers",), "--verify-layers judges on the texts of --verify"),
        (("-o", "mine.yaml"), "mine.yaml exists"),
        (("--imatrix", "nothing.gguf"), "nothing.gguf: can't be read"),
    ],
)
def test_what_is_refused_before_anything_is_run(
    session: SessionOfProducts, more: tuple[str, ...], message: str
) -> None:
    result = refine(*more)
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.output.split())
    assert session.opened == 0


def test_a_recipe_without_an_encoder(session: SessionOfProducts) -> None:
    Path("mine.yaml").write_text(RECIPE.replace("encoder: feedback\n", ""), encoding="utf-8")
    result = refine()
    assert result.exit_code == 1
    told = " ".join(result.output.split())
    assert "refine collects statistics for an encoder, and recipe 'mine' has none" in told
    assert session.opened == 0


def test_without_a_text() -> None:
    result = CliRunner().invoke(app, ["refine", "mine.yaml", "model.gguf"])
    assert result.exit_code == 2
    assert "Say with --text what the model is to read" in result.output


def test_texts_that_are_too_short_for_any_matrix() -> None:
    result = refine("--chunks", "1")
    assert result.exit_code == 1
    told = " ".join(result.output.split())
    assert "every matrix has more columns than its input has tokens (256 at most)" in told
    assert not Path("model-mine.gguf").exists()
