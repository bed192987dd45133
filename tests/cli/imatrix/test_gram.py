"""imatrix compute --gram and imatrix show FOLDER: what they say, with a graph of ours in llama.cpp's place."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.fake_workers import install
from support.graph_of_products import ModelOfProducts, SessionOfProducts
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.calibration.gram import read_gram
from quantrecipe.cli.app import app
from quantrecipe.importance.read_importance import read_importance

WORDS = "every word of this text is read by the model, one after the other. "


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SessionOfProducts:
    monkeypatch.chdir(tmp_path)
    made = SessionOfProducts(ModelOfProducts())
    for module in ("calibration.compute", "calibration.gram.compute"):
        monkeypatch.setattr(import_module(f"quantrecipe.{module}"), "Session", made)
    monkeypatch.setattr("quantrecipe.engine.require_engine", lambda engine: engine)
    write_gguf(tmp_path / "model.gguf", llama_tensors(layers=2), llama_metadata())
    (tmp_path / "text.txt").write_text(WORDS * 40, encoding="utf-8")
    return made


def compute(*arguments: str) -> Result:
    common = ("imatrix", "compute", "model.gguf", "--text", "text.txt", "--context", "128", "--gram", "grams")
    return CliRunner().invoke(app, ["--no-plugins", *common, *arguments])


def said(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_what_it_takes_is_said_before_and_what_came_of_it_after() -> None:
    told = said(compute("--gram-layers", "1"))
    before = told.index("Gram matrices of 8 inputs: 840 B on the disk, ")
    assert "2 passes over the texts, about " in told
    folder = read_gram("grams").folder
    assert before < told.index(f"{folder}: 8 inputs, 840 B")
    assert read_importance("model.imatrix.gguf").entries


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Executors' workers with the same graph."""
    install(monkeypatch, tmp_path / "startup", products=True)


@pytest.mark.usefixtures("workers")
def test_an_executor_s_workers_write_the_same_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said(compute("--gram-layers", "1"))
    files = {it.name: it.read_bytes() for it in read_gram("grams").folder.iterdir()}
    matrix = Path("model.imatrix.gguf").read_bytes()
    Path("grams").rename("before")
    monkeypatch.setenv("FAKE_LOSES", str(tmp_path / "lost"))
    by = ("--executor", "threads", "--executor-option", "workers=2")
    told = said(compute(*by, "--gram-layers", "1", "-o", "again.gguf"))
    assert {it.name: it.read_bytes() for it in read_gram("grams").folder.iterdir()} == files
    assert Path("again.gguf").read_bytes() == matrix
    assert (
        "of memory besides the model's for each worker, 2 passes over the texts by 2 workers, about " in told
    )
    assert "note: " in told and "llama.cpp was killed while it ran it" in told


@pytest.mark.usefixtures("workers")
def test_what_becomes_of_workers_is_noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said(compute())
    Path("grams").rename("before")
    monkeypatch.setenv("FAKE_LOSES", str(tmp_path / "lost"))
    told = said(compute("--executor", "threads"))
    assert "stays as it is" in told
    assert "llama.cpp was killed while it ran it" in told


def test_a_second_call_leaves_all_as_it_is(session: SessionOfProducts) -> None:
    said(compute())
    before = Path("model.imatrix.gguf").read_bytes()
    session.model.computed.clear()
    told = said(compute())
    assert "model.imatrix.gguf exists, and stays as it is; --force replaces it" in told
    assert "all is there already, of this model and these texts" in told
    assert session.model.computed == []
    assert Path("model.imatrix.gguf").read_bytes() == before
    assert "stays as it is" not in said(compute("--force"))


def test_experts_are_told_how_large_and_which_lack_tokens(session: SessionOfProducts) -> None:
    session.model.columns = 5000
    told = said(compute("--gram-experts", "each", "--chunks", "1"))
    assert "of which experts have 1008 B" in told
    assert (
        "the Gram matrices of 2 inputs will be singular: 128 tokens, and up to 5,000 columns "
        "(blk.0.attn_q.weight, blk.1.attn_q.weight); give at least 5,000 tokens"
    ) in told
    assert "experts are singular" not in told


def test_experts_with_fewer_tokens_than_columns(
    session: SessionOfProducts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("support.graph_of_products.COLUMNS", 90)
    told = said(compute("--gram-experts", "each", "--chunks", "1"))
    assert "experts are singular, as fewer tokens than columns reached them (from " in told
    assert "more text, or more damping where they are used" in told


def test_json_is_one_document() -> None:
    document = json.loads(compute("--json").stdout)
    assert document["file"] == "model.imatrix.gguf"
    assert document["entries"]
    gram = document["gram"]
    assert gram["folder"] == str(read_gram("grams").folder)
    assert gram["inputs"][0] == {
        "name": "blk.0.attn_q.weight",
        "weights": ["blk.0.attn_q.weight", "blk.0.attn_k.weight"],
        "columns": 6,
        "matrices": 1,
        "tokens": [2560],
        "rank_at_most": 6,
        "singular": 0,
    }
    assert gram["provenance"]["texts"][0]["name"] == "text.txt"
    again = json.loads(compute("--json").stdout)
    assert again == {"file": "model.imatrix.gguf", "gram": gram}


def test_a_folder_that_can_t_be_is_refused_before_anything_is_read(session: SessionOfProducts) -> None:
    result = CliRunner().invoke(
        app,
        ["--no-plugins", "imatrix", "compute", "model.gguf", "--text", "text.txt", "--gram", "no/such/place"],
    )
    assert result.exit_code == 1
    assert "--gram FOLDER" in " ".join(result.output.split())
    assert session.opened == 0


class TestShow:
    def show(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["--no-plugins", "imatrix", "show", "grams", *arguments])

    def test_a_line_for_each_kind_of_input(self) -> None:
        said(compute())
        told = said(self.show())
        assert "Gram matrices of 8 inputs · 840 B · one for all experts of a tensor" in told
        assert "attn_q, attn_k 0-1 6 1 2,560" in told
        assert "ffn_gate_inp, ffn_gate_exps, ffn_up_exps 0-1 6 1 2,560" in told
        assert "ffn_down_exps 0-1 6 1 5,120" in told
        assert "text.txt 2,560 1" in told

    def test_a_line_for_each_input(self) -> None:
        said(compute("--gram-experts", "each"))
        told = said(self.show("--all"))
        assert told.count("attn_q, attn_k") == 2
        assert "one for each expert" in told

    def test_json_and_no_picture(self) -> None:
        gram = json.loads(compute("--json").stdout)["gram"]
        assert json.loads(self.show("--json").stdout) == gram
        assert self.show("--picture", "x.svg").exit_code == 2

    def test_what_isn_t_one(self) -> None:
        Path("grams").mkdir()
        result = self.show()
        assert result.exit_code == 1
        assert "is no folder of Gram matrices" in " ".join(result.output.split())
