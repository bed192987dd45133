"""compute_gram around the engine: passes, what is found again, what a killed run left, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.graph_of_products import ModelOfProducts, SessionOfProducts

from quantrecipe.calibration import CalibrationSettings, Prepared, Ran
from quantrecipe.calibration.gram import GramEntry, GramPlan, Grams, compute, compute_gram, passes, read_gram
from quantrecipe.errors import ImportanceError, OutputError
from quantrecipe.importance.provenance import Provenance
from quantrecipe.memory.machine import Machine
from quantrecipe.texts.documents import Document, Domain, Rendered

ORIGIN = Provenance(fingerprint="v1:a:b", model="hash", template="template")
SETTINGS = CalibrationSettings(contexts=(20,))
MEMORY = 1 << 30


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> SessionOfProducts:
    made = SessionOfProducts(ModelOfProducts())
    monkeypatch.setattr(compute, "Session", made)
    monkeypatch.setattr(passes, "detect_machine", lambda: Machine(gpus=(), ram_total=MEMORY, ram_free=MEMORY))
    return made


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"x" * 100)
    return path


def domain(text: str, name: str = "code", weight: float | None = None) -> tuple[Domain, list[Rendered]]:
    document = Document(place=name, text=text)
    rendered = [Rendered(text=text, special=False, answers=(), place=name)]
    return (
        Domain(name=name, weight=weight, documents=(document,), digest=f"digest of {name}", files=()),
        rendered,
    )


TEXT = "".join(chr(33 + (n * n * 31 + n) % 89) for n in range(130))  # 6 chunks


def run(model: Path, folder: Path, *texts: Any, **changes: Any) -> tuple[Grams, list[Any]]:
    told: list[Any] = []
    settings = changes.pop("settings", SETTINGS)
    grams = compute_gram(
        model, texts or [domain(TEXT)], folder, settings, origin=ORIGIN, hear=told.append, **changes
    )
    return grams, told


def plan_of(told: list[Any]) -> GramPlan:
    [plan] = [it for it in told if isinstance(it, GramPlan)]
    assert isinstance(plan, GramPlan)
    return plan


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.npy"))}


class TestPasses:
    def test_one_where_there_is_memory(self, session: SessionOfProducts, model: Path, tmp_path: Path) -> None:
        grams, told = run(model, tmp_path / "grams")
        plan = plan_of(told)
        assert len(plan.passes) == 1
        assert isinstance(told[0], Prepared)
        assert told.index(plan) < min(n for n, it in enumerate(told) if isinstance(it, Ran))
        assert (
            plan.nbytes
            == sum(it.nbytes for it in plan.inputs)
            == sum(map(len, files(tmp_path).values())) - 8 * 128
        )
        assert plan.memory == sum(it.memory for it in plan.inputs)
        assert [it.tokens for it in told if isinstance(it, Ran)] == [40, 80, 120]
        assert read_gram(tmp_path / "grams").index == grams.index

    @pytest.mark.parametrize("layers", [1, 2])
    def test_the_bytes_are_the_same_however_many_passes(
        self, session: SessionOfProducts, model: Path, tmp_path: Path, layers: int
    ) -> None:
        run(model, tmp_path / "whole")
        session.model.computed.clear()
        _, told = run(model, tmp_path / "parts", layers=layers)
        assert [{name.split(".")[1] for name in one} for one in plan_of(told).passes] == (
            [{"0"}, {"1"}] if layers == 1 else [{"0", "1"}]
        )
        assert files(tmp_path / "parts") == files(tmp_path / "whole")
        assert [it.tokens for it in told if isinstance(it, Ran)][-1] == 120 * len(plan_of(told).passes)

    def test_as_many_inputs_as_half_of_the_memory_takes(
        self, session: SessionOfProducts, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, told = run(model, tmp_path / "a")
        memory = plan_of(told).memory
        monkeypatch.setattr(
            passes, "detect_machine", lambda: Machine(gpus=(), ram_total=0, ram_free=memory + 100)
        )
        _, told = run(model, tmp_path / "b")
        plan = plan_of(told)
        assert len(plan.passes) > 1
        assert plan.memory <= memory // 2
        assert [name for one in plan.passes for name in one] == [it.name for it in plan.inputs]

    def test_the_model_s_own_memory_isn_t_free(
        self, session: SessionOfProducts, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, told = run(model, tmp_path / "a")
        memory = plan_of(told).memory
        machine = Machine(gpus=(), ram_total=0, ram_free=3 * memory)
        monkeypatch.setattr(passes, "detect_machine", lambda: machine)
        assert len(plan_of(run(model, tmp_path / "b")[1]).passes) == 1
        with model.open("r+b") as file:
            file.truncate(2 * memory)
        assert plan_of(run(model, tmp_path / "c")[1]).memory <= memory // 2

    def test_the_output_is_one_more_layer(
        self, session: SessionOfProducts, model: Path, tmp_path: Path
    ) -> None:
        settings = replace(SETTINGS, output=True)
        _, told = run(model, tmp_path / "a", settings=settings, layers=1)
        assert plan_of(told).passes[-1] == ("output.weight",)


class TestFoundAgain:
    def test_a_second_call_does_nothing(
        self, session: SessionOfProducts, model: Path, tmp_path: Path
    ) -> None:
        first, _ = run(model, tmp_path / "grams")
        session.model.computed.clear()
        again, told = run(model, tmp_path / "grams")
        assert again == first
        assert (told, session.model.computed) == ([], [])

    @pytest.mark.parametrize(
        "changes",
        [
            {"experts": "each"},
            {"settings": replace(SETTINGS, chunks=4)},
            {"settings": replace(SETTINGS, output=True)},
            {"settings": CalibrationSettings(contexts=(30,))},
        ],
        ids=["experts", "chunks", "output", "context"],
    )
    def test_what_decides_the_content_has_another_folder(
        self, session: SessionOfProducts, model: Path, tmp_path: Path, changes: dict[str, Any]
    ) -> None:
        first, _ = run(model, tmp_path / "grams")
        other, told = run(model, tmp_path / "grams", **changes)
        assert other.folder != first.folder
        assert told
        assert other.folder.parent == first.folder.parent

    @pytest.mark.parametrize("field", ["fingerprint", "model", "template"])
    def test_so_has_another_model_or_template(
        self, session: SessionOfProducts, model: Path, tmp_path: Path, field: str
    ) -> None:
        run(model, tmp_path / "grams")
        compute_gram(
            model, [domain(TEXT)], tmp_path / "grams", SETTINGS, origin=replace(ORIGIN, **{field: "other"})
        )
        assert len(list((tmp_path / "grams").iterdir())) == 2

    def test_so_have_other_texts_and_weights(
        self, session: SessionOfProducts, model: Path, tmp_path: Path
    ) -> None:
        for texts in (
            [domain(TEXT)],
            [domain(TEXT[::-1])],
            [domain(TEXT, weight=1), domain(TEXT, "prose", weight=1)],
            [domain(TEXT, weight=3), domain(TEXT, "prose", weight=1)],
        ):
            run(model, tmp_path / "grams", *texts)
        assert len(list((tmp_path / "grams").iterdir())) == 4

    def test_threads_and_layers_decide_nothing(
        self, session: SessionOfProducts, model: Path, tmp_path: Path
    ) -> None:
        run(model, tmp_path / "grams")
        _, told = run(model, tmp_path / "grams", layers=1, threads=1)
        assert told == []


class TestStopped:
    def test_what_is_finished_isn_t_computed_again(
        self, session: SessionOfProducts, model: Path, tmp_path: Path
    ) -> None:
        whole, _ = run(model, tmp_path / "whole")

        def stop(what: object) -> None:
            if isinstance(what, GramEntry) and what.name == "blk.0.attn_k_b.weight":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            compute_gram(
                model, [domain(TEXT)], tmp_path / "grams", SETTINGS, layers=1, origin=ORIGIN, hear=stop
            )
        left = tmp_path / "grams" / whole.folder.name
        (left / "blk.0.ffn_gate_inp.weight.npy.0badcafe.part").write_bytes(b"half")
        with pytest.raises(ImportanceError, match="isn't complete: 2 of 8"):
            read_gram(left)
        before = {path.name: path.stat().st_mtime_ns for path in left.glob("*.npy")}
        grams, told = run(model, tmp_path / "grams")
        plan = plan_of(told)
        assert plan.done == {"blk.0.attn_q.weight", "blk.0.attn_k_b.weight"}
        assert all(not plan.done & set(one) for one in plan.passes)
        for name in plan.done:
            assert (left / f"{name}.npy").stat().st_mtime_ns == before[f"{name}.npy"]
        assert files(left) == files(whole.folder)
        assert {it.name: it for it in grams.index.inputs} == {it.name: it for it in whole.index.inputs}
        assert not list(left.glob("*.part"))


class TestRefusals:
    def test_no_room_on_the_disk(
        self, session: SessionOfProducts, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda folder: type("", (), {"free": 10}))
        session.model.computed.clear()
        with pytest.raises(OutputError, match=r"need .* has 10 B free; .*name a folder on another disk"):
            run(model, tmp_path / "grams")
        assert files(tmp_path) == {}

    def test_no_room_for_a_single_input(
        self, session: SessionOfProducts, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(passes, "detect_machine", lambda: Machine(gpus=(), ram_total=0, ram_free=1000))
        with pytest.raises(OutputError, match=r"take .* of memory .*--gram-experts shared"):
            run(model, tmp_path / "grams", experts="each")

    def test_settings_that_can_t_be(self, session: SessionOfProducts, model: Path, tmp_path: Path) -> None:
        with pytest.raises(ImportanceError, match="0 layers at a time"):
            run(model, tmp_path / "grams", layers=0)
        with pytest.raises(ImportanceError, match="a context of 8 tokens is too short"):
            run(model, tmp_path / "grams", settings=CalibrationSettings(contexts=(8,)))
        assert session.opened == 0

    def test_a_damaged_index_isn_t_written_over(
        self, session: SessionOfProducts, model: Path, tmp_path: Path
    ) -> None:
        grams, _ = run(model, tmp_path / "grams")
        (grams.folder / "index.json").write_text("{")
        with pytest.raises(ImportanceError, match="is no index of Gram matrices"):
            run(model, tmp_path / "grams")

    def test_a_model_without_such_inputs(
        self, session: SessionOfProducts, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(session.model, "graph", lambda chunk: ())
        with pytest.raises(ImportanceError, match="there is nothing to compute"):
            run(model, tmp_path / "grams")


def test_inputs_with_more_columns_than_tokens_are_told_before(
    session: SessionOfProducts, model: Path, tmp_path: Path
) -> None:
    session.model.columns = 200
    grams, told = run(model, tmp_path / "grams")
    assert [it.name for it in plan_of(told).singular] == ["blk.0.attn_q.weight", "blk.1.attn_q.weight"]
    assert grams.entry("blk.0.attn_k.weight").singular == 1
    assert np.linalg.matrix_rank(grams["blk.0.attn_k.weight"]) == 120


def test_provenance_is_that_of_the_run(session: SessionOfProducts, model: Path, tmp_path: Path) -> None:
    grams, _ = run(model, tmp_path / "grams", domain(TEXT, weight=3), domain(TEXT[:50], "prose", weight=1))
    found = grams.index.provenance
    assert (found.fingerprint, found.model, found.template) == ("v1:a:b", "hash", "template")
    assert [(it.name, it.tokens, it.digest) for it in found.texts] == [
        ("code", 120, "digest of code"),
        ("prose", 40, "digest of prose"),
    ]
    assert found.texts[0].weight * 120 == pytest.approx(3 * found.texts[1].weight * 40)
    assert found.contexts == (20,)
