"""Session: models that are open, requests that take each other's place, files that vanish, names of strangers."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from support.imatrix_files import with_provenance, write_gguf_imatrix
from support.models import llama_metadata, llama_tensors, write_gguf
from support.studio import SMALL, Page, page_of, size_goal

from quantrecipe.importance.provenance import Provenance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.fingerprint import fingerprint
from quantrecipe.model.open_model import open_model
from quantrecipe.registry import load_registry
from quantrecipe.sensitivity.prior import estimate
from quantrecipe.studio.opened import Knowledge
from quantrecipe.studio.session import Session

EXAMPLE = Path(__file__).parents[2] / "examples/tiny-code"
PATIENCE = 30


def llama(path: Path, renamed: dict[str, str] | None = None) -> Path:
    """A small GGUF whose matrices can be quantized. renamed: other names of its tensors"""
    tensors = llama_tensors(layers=2)
    return write_gguf(
        path,
        {(renamed or {}).get(name, name): values for name, values in tensors.items()},
        llama_metadata(block_count=2),
    )


def matrix(folder: Path) -> Path:
    """An importance matrix of that model, which states nothing."""
    sums = {
        name: (np.ones((1, values.shape[1]), np.float32), [8.0])
        for name, values in llama_tensors(layers=2).items()
        if values.ndim > 1 and name != "token_embd.weight"
    }
    return write_gguf_imatrix(folder / "imatrix.gguf", sums)


def test_a_model_that_is_opened_again_has_another_name(page: Page, tmp_path: Path) -> None:
    path = str(llama(tmp_path / "model.gguf"))
    first, second = page.open(path), page.open(path)
    assert first["model"] != second["model"]
    assert {**first, "model": ""} == {**second, "model": ""}


def test_only_some_models_stay_open(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantrecipe.studio.session._MOST_MODELS", 2)
    path = str(llama(tmp_path / "model.gguf"))
    first, second = page.open(path), page.open(path)
    goal = size_goal(first, 0.5)
    page.answer("move", {"model": first["model"], "goal": goal})  # the last one that was used
    third = page.open(path)
    assert page.error("move", {"model": second["model"], "goal": goal})[0] == 404
    for model in (first, third):
        page.answer("move", {"model": model["model"], "goal": goal})


def test_a_newer_request_takes_the_place_of_an_older_one(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = page.open(str(llama(tmp_path / "model.gguf")))
    begun, end = Event(), Event()

    def slow(*args: Any) -> Any:
        begun.set()
        assert end.wait(PATIENCE)
        raise AssertionError("nobody waits for this")

    monkeypatch.setattr("quantrecipe.studio.session.made_file", slow)
    page.session.download(model["model"], "", "lock")
    assert begun.wait(PATIENCE)
    goal = size_goal(model, 0.5)
    asked = {"model": model["model"], "goal": goal}

    with ThreadPoolExecutor() as pool:
        older = pool.submit(page.ask, "move", asked)
        while "mix" not in page.session._desks[model["model"]].thread._waiting:
            assert not older.done()
        newer = pool.submit(page.ask, "freeze", asked)
        response = older.result(PATIENCE)
        end.set()
        assert newer.result(PATIENCE).status_code == 200
    assert response.status_code == 409
    assert response.json() == {"error": {"message": "a newer request took its place", "remedy": None}}


def test_a_folder_that_vanishes(page: Page, tmp_path: Path) -> None:
    """It is said which file is gone; other models go on, and so does this one when the folder is back."""
    folder = tmp_path / "tiny"
    shutil.copytree(EXAMPLE, folder)
    gone, other = page.open(str(folder)), page.open(str(llama(tmp_path / "model.gguf")))
    asked = {"model": gone["model"], "goal": size_goal(gone, 0.5)}
    text = {"model": gone["model"], "text": "quantrecipe: 1\ndefault: Q4_K\n"}
    page.answer("move", asked)
    folder.rename(tmp_path / "elsewhere")
    for name, document in (
        ("move", asked),
        ("freeze", asked),
        ("recipe", text),
        ("download", text | {"what": "lock"}),
    ):
        status, message = page.error(name, document)
        assert status == 410
        assert str(folder) in message and "isn't there any more" in message
    page.answer("move", {"model": other["model"], "goal": size_goal(other, 0.5)})
    (tmp_path / "elsewhere").rename(folder)
    page.answer("move", asked)


def test_names_of_strangers_are_text(page: Page, tmp_path: Path) -> None:
    hostile = 'blk.0.<script>alert("1")</script>.weight'
    path = llama(tmp_path / "<b>model.gguf", {"blk.0.attn_q.weight": hostile})
    model = page.open(str(path))
    response = page.ask("move", {"model": model["model"], "goal": size_goal(model, 0.5)})
    assert response.headers["content-type"] == "application/json"
    role = '<script>alert("1")</script>'
    found = response.json()
    assert role in {it["role"] for it in found["groups"]}
    assert role in found["map"]["columns"]
    assert model["name"].endswith("<b>model.gguf")
    frozen = page.answer("freeze", {"model": model["model"], "goal": size_goal(model, 0.5)})
    assert frozen["plan"]["types"] == found["types"]


def test_what_has_nothing_to_choose(page: Page, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", {"a.weight": np.ones(32, np.float32)}, llama_metadata())
    status, message = page.error("model", {"model": str(path)})
    assert (status, "there is nothing to choose" in message) == (400, True)


def test_a_model_of_no_architecture(page: Page, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", {"a.weight": np.ones((256, 256), np.float32)}, {})
    status, message = page.error("model", {"model": str(path)})
    assert (status, "doesn't say which architecture" in message) == (400, True)


class TestWhatTheCommandLineSays:
    def test_a_matrix(self, tmp_path: Path) -> None:
        knows = Knowledge(registry=load_registry(plugins=False), importance=read_importance(matrix(tmp_path)))
        page = page_of(Session(knows=knows))
        assert page.get("/api/start").json()["imatrix"] is True
        model = page.open(str(llama(tmp_path / "model.gguf")))
        assert "IQ2_XS" in {mix["name"] for mix in model["stock"]}
        frozen = page.answer("freeze", {"model": model["model"], "goal": size_goal(model, 0.5)})
        assert "importance: required" in frozen["text"] or "required: true" in frozen["text"]

    def test_a_matrix_of_another_model_is_left_out(self, tmp_path: Path) -> None:
        model = llama(tmp_path / "model.gguf")
        structure = fingerprint(open_model(model)).structure
        stated = Provenance(fingerprint=f"v1:{structure}:{'0' * 32}")
        path = tmp_path / "other.gguf"
        with_provenance(matrix(tmp_path), stated, path)
        other = read_importance(path)
        knows = Knowledge(registry=load_registry(plugins=False), importance=other)
        found = page_of(Session(knows=knows)).open(str(model))
        assert (
            found["notes"][0] == "The importance matrix is of another model, so this one is planned without."
        )
        insisting = Knowledge(registry=knows.registry, importance=other, another_model=True)
        assert "another model" not in page_of(Session(knows=insisting)).open(str(model))["notes"][0]

    def test_losses_that_were_measured(self, tmp_path: Path) -> None:
        registry = load_registry(plugins=False)
        path = llama(tmp_path / "model.gguf")
        knows = Knowledge(
            registry=registry, sensitivity=estimate(open_model(path, registry=registry), registry)
        )
        page = page_of(Session(knows=knows))
        model = page.open(str(path))
        assert model["knows"]["loss"] == "measured"
        mix = page.answer("move", {"model": model["model"], "goal": size_goal(model, 0.5)})
        assert mix["loss"]["kind"] == "measured"
        other = page.open(SMALL)
        assert other["knows"]["loss"] == "prior"
        assert other["notes"][0].startswith("The sensitivity file is of another model")


def test_a_text_names_files_beside_the_recipe_that_was_named(page: Page, tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text("quantrecipe: 1\ndefault: Q8_0\n")
    model = page.open(str(llama(tmp_path / "model.gguf")))
    asked = {"model": model["model"], "text": "quantrecipe: 1\nextends: parent.yaml\n"}
    assert page.answer("recipe", asked)["problems"][0]["message"] == "there is no recipe file 'parent.yaml'"
    page.session.folder = tmp_path
    found = page.answer("recipe", asked)
    assert found["problems"] == []
    assert "Q8_0" in {it["type"] for it in found["plan"]["types"]}
