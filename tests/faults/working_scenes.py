"""Scenes of what takes hours besides `apply`: measuring, trying mixes, importance matrices, answers of a model.

Where llama.cpp runs, a stand-in does, in the same process, so that its files fail like all others.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scene import Scene
from support.byte_model import ByteModel, SessionOfBytes
from support.fake_graph import FakeSession
from support.graph_of_products import ModelOfProducts, SessionOfProducts
from support.models import llama_metadata, llama_tensors, write_gguf
from support.resident_engine import StandIn

from quantrecipe.calibration import CalibrationSettings, compute, compute_importance, self_written, sums_path
from quantrecipe.calibration.gram import Grams, compute_gram, read_gram
from quantrecipe.calibration.gram import compute as compute_grams
from quantrecipe.calibration.self_written import WritingSettings, prompts_for, write_texts
from quantrecipe.cli.output_files import write_file, write_text
from quantrecipe.errors import OutputError
from quantrecipe.evaluate import Text
from quantrecipe.fit import Request, fit
from quantrecipe.fit.measured_choice import measured_choice
from quantrecipe.fit.stock import recipe_like
from quantrecipe.fit.tried import Effort
from quantrecipe.importance.provenance import Provenance
from quantrecipe.importance.to_gguf import encode_gguf
from quantrecipe.measure import Measurement, Passes, Subject, measure
from quantrecipe.measure.progress import Silent
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.output.locks import held
from quantrecipe.recipe.budget import Budget
from quantrecipe.recipe.origin import Origin
from quantrecipe.registry import Registry
from quantrecipe.texts import read_domain, render
from quantrecipe.texts.documents import Document

__all__ = ["working_scenes"]

_TEXT = Text(name="search.txt", data=b"words " * 2000)
_PASSES = Passes(texts=(_TEXT,), tokens=16384, threads=1, resident="F32")
_TYPES = ("Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0")

Run = Callable[[Path, bool], object]


def working_scenes(folder: Path, registry: Registry) -> dict[str, Scene]:
    """All of them; each is run once in peace."""
    engine = StandIn()
    engine.hard = np.random.default_rng(3).uniform(0.5, 1.5, engine.chunks)
    engine.install(pytest.MonkeyPatch())  # for good: these processes end soon
    source = write_gguf(folder / "small.gguf", llama_tensors(layers=1), llama_metadata(block_count=1))
    model = open_model(source, registry=registry)
    return {
        **_scene(folder, "sensitivity", "s.jsonl", _measuring(model, registry), noted="s.jsonl.journal"),
        **_scene(folder, "probes", "s.jsonl", _probing(model, registry, engine, ""), noted="s.jsonl.journal"),
        **_scene(
            folder, "files", "s.jsonl", _probing(model, registry, engine, "sealed"), noted="s.jsonl.journal"
        ),
        **_scene(
            folder,
            "fit",
            "found.yaml",
            _fitting(folder, model, registry, engine),
            noted="m.evaluations.jsonl",
        ),
        **_scene(folder, "imatrix", "m.gguf", _calibrating(folder)),
        **_grams(folder),
        **_scene(folder, "answers", "a.jsonl", _answering(), noted="a.jsonl.answers"),
    }


def _scene(folder: Path, name: str, output: str, run: Run, *, noted: str = "") -> dict[str, Scene]:
    """One file, made into an empty folder."""
    place = folder / name
    place.mkdir()
    out = place / output
    run(out, False)
    stays = (noted,) if noted.endswith(".evaluations.jsonl") else ()
    scene = Scene(
        name=name,
        folder=place,
        run=lambda force: run(out, force),
        peace={out: out.read_bytes()},
        noted=noted,
        stays=stays,
    )
    return {name: scene}


def _measuring(model: Model, registry: Registry) -> Run:
    what = Measurement(types=_TYPES, analysis=registry.tensor_analysis("error"), threads=2)
    return lambda out, force: measure(model, out, what, registry=registry)


def _probing(model: Model, registry: Registry, engine: StandIn, sealed: str) -> Run:
    """sealed: why weights can't be exchanged in the engine, so that probes go through files; "" where they can."""
    analysis, weighing = registry.tensor_analysis("error"), registry.model_analysis("probe")

    def run(out: Path, force: bool) -> object:
        engine.sealed = sealed
        what = Measurement(
            types=("Q4_K", "Q8_0"),
            analysis=analysis,
            weighing=weighing,
            probes=20,
            passes=_PASSES,
            threads=1,
            work=out.parent,
        )
        return measure(model, out, what, registry=registry)

    return run


def _fitting(folder: Path, model: Model, registry: Registry, engine: StandIn) -> Run:
    what = Measurement(types=_TYPES, analysis=registry.tensor_analysis("error"), threads=1)
    known = measure(model, folder / "known.jsonl", what, registry=registry)
    budget = Budget(origin=Origin(file="a scene", line=0), bpw=4.8)
    stock = {name: recipe_like(name, registry) for name in ("Q3_K_M", "Q4_K_S")}
    request = Request(name="found", budget=budget, types=_TYPES)
    fitted = fit(model, request, registry, sensitivity=known, stock=stock)

    def run(out: Path, force: bool) -> None:
        engine.sealed = ""
        found = measured_choice(
            fitted,
            Subject(model=model, registry=registry, importance=None),
            _PASSES,
            Effort(evaluations=8),
            sensitivity=known,
            out=out.with_name("m.evaluations.jsonl"),
            work=out.parent,
            progress=Silent(),
        )
        write_text(out, found.text, force=force)

    return run


def _calibrating(folder: Path) -> Run:
    compute.Session = FakeSession  # type: ignore[misc,assignment]  # for good
    (folder / "text").write_bytes(bytes(range(1, 100)) * 12)
    domain = read_domain(str(folder / "text"))
    domains = [(domain, render(domain, None))]
    settings = CalibrationSettings(contexts=(32,), save_every=0.0)

    def run(out: Path, force: bool) -> None:
        sums = sums_path(out)
        busy = OutputError("another run computes it")
        with held(sums.with_name(f"{sums.name}.quantrecipe-lock"), busy):
            found = compute_importance("model.gguf", domains, out, settings)
            encoded = encode_gguf(found.measurement)
            write_file(out, encoded.nbytes, encoded.pieces(), force=force)
            found.done()

    return run


def _grams(folder: Path) -> dict[str, Scene]:
    """Gram matrices, a pass for each layer: the files that are finished, and an index that grows with them."""
    compute_grams.Session = SessionOfProducts(ModelOfProducts())  # type: ignore[misc,assignment]  # for good
    (folder / "model.gguf").write_bytes(b"x" * 100)
    domain = read_domain(str(folder / "text"))
    domains = [(domain, render(domain, None))]
    origin, settings = Provenance(fingerprint="v1:a:b", model="hash"), CalibrationSettings(contexts=(20,))
    place = folder / "grams"
    place.mkdir()

    def compute() -> Grams:
        return compute_gram(folder / "model.gguf", domains, place, settings, origin=origin, layers=1)

    index = compute().index

    def run(force: bool) -> None:
        grams = compute()
        grams.verify()
        if grams.index != index or read_gram(place).index != index:
            raise AssertionError("the index says something else")

    peace = {path: path.read_bytes() for path in place.glob("*/*.npy")}
    stays = ("*/index.json",)
    return {"grams": Scene(name="grams", folder=place, run=run, peace=peace, stays=stays)}


def _answering() -> Run:
    prompts = prompts_for([Document(place=f"p:{n}", text=f"prompt {n} ") for n in range(20)], None).prompts

    def run(out: Path, force: bool) -> None:
        session: Any = SessionOfBytes(ByteModel())
        self_written.Session = session  # type: ignore[misc]  # for good
        journal, settings = (
            out.with_name(f"{out.name}.answers"),
            WritingSettings(tokens=1500, answer_tokens=60),
        )
        written = write_texts("model.gguf", prompts, journal, settings)
        write_text(out, "".join(f"{it.text}\n" for it in written.documents), force=force)
        with suppress(OSError):
            journal.unlink()

    return run
