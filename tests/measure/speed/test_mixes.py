"""Measuring a machine whose speed is known: the rates come out, and mixes that weren't timed are foretold."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.timed_machine import TOKEN, seconds_of, use_timed_machine

from quantrecipe.engine import Engine, EngineFacts
from quantrecipe.engine.bindings import Device
from quantrecipe.errors import EvaluationError
from quantrecipe.measure.speed import Measured, Way, measure_speed
from quantrecipe.measure.speed.few_layers import whole_model
from quantrecipe.measure.speed.mixes import mix_plan
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.registry import Registry, load_registry
from quantrecipe.speed.clock import Clock
from quantrecipe.speed.profile import shapes_digest

ENGINE = Engine(library=Path("libllama.so"), source="--engine")
GPU = Device(name="GPU0", description="a GPU", total=1, free=1, is_cpu=False)
CPU = Device(name="CPU", description="a processor", total=1, free=1, is_cpu=True)
TYPES = ("Q4_K", "Q6_K", "IQ3_S", "Q8_0")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module", params=[0, 4], ids=["dense", "experts"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    metadata = llama_metadata(
        block_count=4, expert_count=request.param, expert_used_count=request.param // 2, embedding_length=256
    )
    tensors = llama_tensors(layers=4, hidden=768, vocab=3000, experts=request.param)
    return open_model(write_gguf(tmp_path_factory.mktemp("mixes") / "m.gguf", tensors, metadata))


def way(*devices: Device, gpu: bool = False) -> Way:
    facts = EngineFacts(engine=ENGINE, version="b7000", devices=devices, refused=())
    return Way(engine=ENGINE, facts=facts, processor="a processor", gpu=gpu, threads=4)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The machine whose speed is known. Its clock goes on by a second whenever somebody looks at it."""
    use_timed_machine(monkeypatch)
    clock = count()
    monkeypatch.setattr("quantrecipe.measure.speed.mixes.monotonic", lambda: next(clock))
    return monkeypatch


def measured(
    model: Model, registry: Registry, types: tuple[str, ...] = TYPES, seconds: float = 14
) -> Measured:
    """As many seconds as it takes to time each mix of `TYPES` once."""
    return measure_speed(model, types, registry, way(CPU), name="m", seconds=seconds)


class Told:
    """What a bar would show."""

    def __init__(self) -> None:
        self.said: list[tuple[int, int, str]] = []

    def timing(self, number: int, total: int, what: str) -> None:
        self.said.append((number, total, what))


@pytest.mark.usefixtures("machine")
def test_mixes_that_were_not_timed_are_foretold(model: Model, registry: Registry) -> None:
    found = measured(model, registry)
    whole = whole_model(model)
    clock = Clock(whole, {"cpu": found.profile})
    for types in (
        {"attention": "Q6_K", "feed-forward": "Q4_K", "experts": "Q4_K", "head": "Q6_K"},
        {"attention": "IQ3_S", "feed-forward": "Q4_K", "experts": "IQ3_S", "head": "Q8_0"},
    ):
        plan = mix_plan(whole, types, registry)  # type: ignore[arg-type]  # the roles that there are
        pace = clock.pace([(a.tensor, a.nbytes, a.type) for a in plan.assignments])
        mix = {a.tensor.name: (a.nbytes, a.type) for a in plan.assignments}
        assert pace.token is not None and pace.prompt is not None
        assert 1 / pace.token == pytest.approx(seconds_of(whole, mix), rel=0.05)
        assert 1 / pace.prompt == pytest.approx(seconds_of(whole, mix, prompt=4096) / 4096, rel=0.05)


@pytest.mark.usefixtures("machine")
def test_what_is_kept_of_it(model: Model, registry: Registry) -> None:
    found = measured(model, registry, ("Q4_K",))
    profile = found.profile
    assert (profile.processor, profile.device, profile.threads) == ("a processor", "", 4)
    assert (profile.engine, profile.model, profile.shapes) == ("b7000", "m", shapes_digest(model))
    assert set(profile.types) == {"Q8_0", "Q4_K"}
    assert profile.misfit < 0.02
    assert found.turns >= 4
    biggest = max(profile.token.by["Q4_K"], key=lambda role: 0 if role == "head" else 1)
    assert profile.token.by["Q4_K"][biggest] == pytest.approx(TOKEN["Q4_K"], rel=0.2)


def test_a_type_that_the_engine_refuses_is_left_out(
    model: Model, registry: Registry, machine: pytest.MonkeyPatch
) -> None:
    use_timed_machine(machine, refuses=("IQ3_S",))
    found = measured(model, registry, ("IQ3_S", "Q4_K"))
    assert "it has no IQ3_S" in found.left_out["IQ3_S"]
    assert set(found.profile.types) == {"Q8_0", "Q4_K"}


def test_an_engine_that_runs_none_of_it(
    model: Model, registry: Registry, machine: pytest.MonkeyPatch
) -> None:
    use_timed_machine(machine, refuses=("Q8_0",))
    with pytest.raises(EvaluationError, match="it has no Q8_0"):
        measured(model, registry)
    use_timed_machine(machine, refuses=("Q4_K",))
    with pytest.raises(EvaluationError, match="it has no Q4_K"):
        measured(model, registry, ("Q4_K",))


@pytest.mark.usefixtures("machine")
def test_time_that_is_not_enough(model: Model, registry: Registry) -> None:
    with pytest.raises(EvaluationError, match=r"3 seconds aren't enough .*--minutes"):
        measured(model, registry, seconds=3)


@pytest.mark.usefixtures("machine")
def test_types_for_which_the_time_is_too_short_are_left_out(model: Model, registry: Registry) -> None:
    found = measured(model, registry, seconds=8)
    assert found.left_out["IQ3_S"] == "the time was over before"
    assert "Q4_K" in found.profile.types


@pytest.mark.usefixtures("machine")
def test_it_tells_what_it_times(model: Model, registry: Registry) -> None:
    told = Told()
    measure_speed(model, ("Q4_K",), registry, way(CPU), name="m", seconds=8, progress=told)
    total = told.said[0][1]
    assert [number for number, _, _ in told.said[:total]] == list(range(1, total + 1))
    names = [what for _, _, what in told.said[:total]]
    assert names[:3] == ["Q8_0", "Q8_0", "Q4_K"]
    assert all(what.startswith("Q4_K, ") for what in names[3:])


def test_a_gpu_that_the_engine_does_not_know(model: Model, registry: Registry) -> None:
    assert way(CPU, GPU, gpu=True).device == "a GPU"
    assert way(CPU, GPU).device == ""
    with pytest.raises(EvaluationError, match=r"can use no GPU here.*--gpu-layers 0"):
        measure_speed(model, TYPES, registry, way(CPU, gpu=True), name="m", seconds=1)


@pytest.mark.usefixtures("machine")
def test_an_embedding_that_makes_the_logits_is_measured_as_the_head(
    tmp_path: Path, registry: Registry
) -> None:
    tensors = llama_tensors(layers=2, vocab=3000, tied=True)
    tied = open_model(write_gguf(tmp_path / "m.gguf", tensors, llama_metadata()))
    assert "head" in measured(tied, registry, ("Q4_K",)).profile.token.by["Q4_K"]


@pytest.mark.usefixtures("machine")
def test_a_type_that_needs_importance_is_measured_in_all_roles_but_the_head(
    model: Model, registry: Registry
) -> None:
    rates = measured(model, registry, ("IQ2_XXS",)).profile.token.by["IQ2_XXS"]
    assert "attention" in rates
    assert "head" not in rates
