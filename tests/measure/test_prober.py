"""Probes: what they are known by, nothing is run twice, nothing is left behind. The engine is a stand-in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.resident_engine import REGISTRY, StandIn

from quantrecipe import open_model
from quantrecipe.api import Effect
from quantrecipe.evaluate import Text
from quantrecipe.measure import Passes
from quantrecipe.measure.mixed import Mixed
from quantrecipe.measure.prober import Prober, describe
from quantrecipe.measure.progress import Silent
from quantrecipe.output.locks import lock
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.sensitivity import Probed

TEXT = Text(name="text.txt", data=b"some words")
NAME = "blk.0.attn_v.weight"


@pytest.fixture
def make(tmp_path: Path, engine: StandIn) -> Callable[..., Prober]:
    path = write_gguf(tmp_path / "model.gguf", llama_tensors(layers=2), llama_metadata(block_count=2))
    model = open_model(path, registry=REGISTRY)

    def build(resident: str | None = None, tokens: int = 1024, **changes: Any) -> Prober:
        settings: dict[str, Any] = {
            "digests": {NAME: "1", "output.weight": "2"},
            "folder": tmp_path,
            "known": {},
            "save": lambda probed: None,
            "progress": Silent(),
        }
        passes = Passes(texts=(TEXT,), tokens=tokens, threads=1, resident=resident)
        return Prober(model, REGISTRY, None, passes, **settings | changes)

    return build


def test_nothing_is_run_twice(make: Callable[..., Prober], engine: StandIn) -> None:
    saved: list[Probed] = []
    types = {NAME: "Q4_0"}
    with make(save=saved.append) as prober:
        first = prober.evaluate(types)
        assert prober.evaluate(types) == first
    assert len(engine.runs) == 2  # the model itself, and one probe
    assert [(probed.what, probed.resident) for probed in saved] == [("attn_v, layer 0 → Q4_0", "BF16")]
    with make(known={probed.key: probed for probed in saved}) as prober:
        assert prober.evaluate(types) == Effect(kld=saved[0].kld, standard_error=saved[0].standard_error)
        assert [probed.key for probed in prober.probes] == [saved[0].key]
    assert len(engine.runs) == 2


@pytest.mark.skipif(os.name != "posix", reason="locks")
def test_what_a_killed_run_left_is_removed_even_if_nothing_is_asked(
    make: Callable[..., Prober], tmp_path: Path
) -> None:
    """The run may have been killed after its last answer."""
    for name in ("dead", "alive"):
        (tmp_path / f".quantrecipe-probes-{name}").mkdir()
        (tmp_path / f".quantrecipe-probes-{name}/held").touch()
        (tmp_path / f".quantrecipe-probes-{name}/F32.gguf").touch()
    fd = os.open(tmp_path / ".quantrecipe-probes-alive/held", os.O_RDWR)
    lock(fd)
    with make():
        pass
    assert [it.name for it in tmp_path.glob(".quantrecipe-*")] == [".quantrecipe-probes-alive"]
    os.close(fd)


def test_each_part_of_a_text_is_a_probe_of_its_own(make: Callable[..., Prober], engine: StandIn) -> None:
    engine.hard = np.arange(1.0, 33.0)
    saved: list[Probed] = []
    types = {NAME: "Q4_0"}
    with make(tokens=16384, save=saved.append) as prober:
        assert prober.parts == 4
        parts = [prober.evaluate_part(types, number).kld for number in range(4)]
        whole = prober.evaluate(types).kld
        assert prober.evaluate_part(types, 1).kld == parts[1]
    assert np.mean(parts) == pytest.approx(whole, rel=1e-4)
    assert len({*parts, whole}) == 5
    assert [probed.part for probed in saved] == ["1/4", "2/4", "3/4", "4/4", ""]
    known = {probed.key: probed for probed in saved}
    runs = len(engine.read)
    with make(tokens=16384, known=known) as prober:
        assert prober.evaluate_part(types, 2).kld == parts[2]
    assert len(engine.read) == runs


@pytest.mark.parametrize(
    ("tokens", "parts"), [(512, 1), (4 * 512, 1), (8 * 512, 2), (16384, 4), (1 << 20, 4)]
)
def test_a_part_has_chunks_enough_to_be_sure(tokens: int, parts: int) -> None:
    passes = Passes(texts=(TEXT,), tokens=tokens)
    assert passes.parts == parts
    chunks = [number for part in range(parts) for number in passes.part(part).of(range(passes.chunks))]
    assert sorted(chunks) == list(range(passes.chunks))


def test_a_text_that_is_shorter_than_was_asked_for(make: Callable[..., Prober], engine: StandIn) -> None:
    engine.chunks = 2
    with make(tokens=16384) as prober:
        assert prober.evaluate_part({NAME: "Q4_0"}, 3).kld == prober.evaluate({NAME: "Q4_0"}).kld


def test_a_probe_of_another_resident_type_is_another_but_isn_t_made_again(
    make: Callable[..., Prober], engine: StandIn
) -> None:
    saved: list[Probed] = []
    with make("Q8_0", save=saved.append) as prober:
        prober.evaluate({NAME: "Q4_0"})
    with make("F32", save=saved.append) as prober:
        prober.evaluate({"output.weight": "Q4_0"})
        prober.evaluate({NAME: "Q4_0"})
    eight_bits, _, exact = saved
    assert (eight_bits.what, eight_bits.resident) == (exact.what, "Q8_0")
    assert eight_bits.key != exact.key
    runs = len(engine.runs)
    with make(
        "F32", known={eight_bits.key: eight_bits}
    ) as prober:  # a run that was stopped, with less memory
        assert prober.evaluate({NAME: "Q4_0"}).kld == eight_bits.kld
    both = {probed.key: probed for probed in (eight_bits, exact)}
    with make("Q8_0", known=both) as prober:
        assert prober.evaluate({NAME: "Q4_0"}).kld == exact.kld  # the more exact one
    assert len(engine.runs) == runs


def test_what_differs_by_less_than_the_floor_is_not_told_apart(make: Callable[..., Prober]) -> None:
    saved: list[Probed] = []
    with make("Q8_0", save=saved.append) as prober:
        effect = prober.evaluate({NAME: "Q4_0"})
    assert 0 < saved[0].floor < saved[0].kld / 20
    assert effect.standard_error == saved[0].floor  # every chunk of the stand-in says the same


def half(rows: Any, start: int) -> Any:
    return rows * np.float32(0.5)


def test_other_weights_are_known_by_what_they_are(make: Callable[..., Prober], engine: StandIn) -> None:
    saved: list[Probed] = []
    with make("F32", save=saved.append) as prober:
        first = prober.swap({NAME: half})
        assert prober.swap({NAME: lambda rows, start: rows / np.float32(2)}) == first
        assert len(engine.runs) == 2
        assert prober.swap({NAME: lambda rows, start: rows / np.float32(4)}).kld > first.kld
    assert [probed.what for probed in saved] == ["attn_v, layer 0 → other weights"] * 2
    runs = len(engine.runs)
    with make("F32", known={probed.key: probed for probed in saved}) as prober:
        assert prober.swap({NAME: half}) == first
    assert len(engine.runs) == runs + 1  # the model itself, which has to be open for that


@pytest.mark.parametrize(
    "changes",
    [{"digests": {"a": "2"}}, {"digests": {"a": "1", "b": "3"}}],
)
def test_another_content_is_another_probe(make: Callable[..., Prober], changes: dict[str, Any]) -> None:
    types = {NAME: "Q4_0"}
    saved: list[Probed] = []
    for settings in ({}, changes, {}):
        with make("F32", save=saved.append, **settings) as prober:
            prober.evaluate(types)
    with make("F32", save=saved.append) as prober:
        prober.evaluate({NAME: "Q4_1"})
    first, other_content, again, other_type = (probed.key for probed in saved)
    assert first == again
    assert len({first, other_content, other_type}) == 3


@pytest.mark.parametrize("sealed", ["", "the structs are other ones"])
def test_leaves_nothing_behind(
    make: Callable[..., Prober], engine: StandIn, tmp_path: Path, sealed: str
) -> None:
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    engine.sealed = sealed
    with make() as prober:
        prober.evaluate({"output.weight": "Q4_0"})
        assert set(tmp_path.iterdir()) != set(before)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before  # the model, too, is as it was


def test_probes_are_told_in_few_words() -> None:
    names = [f"blk.{layer}.{role}.weight" for role in ("attn_q", "attn_k") for layer in (0, 1, 2, 7)]
    assert describe(dict.fromkeys(names, "Q3_K")) == "attn_q, attn_k, layers 0-2, 7 → Q3_K"
    assert (
        describe({"output.weight": "Q4_K", "blk.3.ffn_up.weight": "Q3_K"})
        == "output; ffn_up, layer 3 → Q3_K, Q4_K"
    )
    assert describe({"output.weight": "Q4_K"}) == "output → Q4_K"


def planned(path: Path, type_: str) -> Plan:
    recipe = load_recipe_text(f"quantrecipe: 1\nname: mix\ndefault: {type_}\n", registry=REGISTRY)
    return make_plan(recipe, open_model(path / "model.gguf", registry=REGISTRY), registry=REGISTRY)


class TestMixes:
    def test_all_that_a_plan_quantizes_is_in_the_model(
        self, make: Callable[..., Prober], engine: StandIn, tmp_path: Path
    ) -> None:
        plan = planned(tmp_path, "Q4_0")
        with make("F32") as prober:
            found = prober.mix(plan, "the mix")
            one = prober.evaluate({NAME: "Q4_0"})
        whole, probe = engine.runs[1:3]
        quantized = [a.tensor.name for a in plan.assignments if a.format.spec.block > 1]
        exact = engine.runs[0]
        assert {name for name in exact if not np.array_equal(whole[name], exact[name])} == set(quantized)
        q4 = REGISTRY.formats["Q4_0"]
        rows = exact[NAME].view(np.float32).reshape(-1, 256)
        assert np.array_equal(whole[NAME].view(np.float32).reshape(-1, 256), q4.decode(q4.encode(rows), 256))
        assert np.array_equal(probe[NAME], whole[NAME])
        assert found.kld > one.kld
        assert (found.what, found.resident, found.counts) == ("the mix", "F32", (1,) * 32)

    def test_no_mix_is_run_twice_and_all_are_of_one_resident_type(
        self, make: Callable[..., Prober], engine: StandIn, tmp_path: Path
    ) -> None:
        saved: list[Mixed] = []
        low, high = planned(tmp_path, "Q4_0"), planned(tmp_path, "Q8_0")
        with make("Q8_0", save_mix=saved.append) as prober:
            first = prober.mix(low, "low")
            assert prober.mix(low, "again") == first
        assert len(engine.runs) == 2
        with make("F32", known_mixes={it.key: it for it in saved}, save_mix=saved.append) as prober:
            assert prober.mix(low, "low") == first
            assert prober.mix(high, "high").resident == "Q8_0"
        assert [it.what for it in saved] == ["low", "high"]
        with make("F32", save_mix=saved.append) as prober:
            assert prober.mix(low, "low").key != first.key

    def test_what_was_run_in_another_resident_type_is_run_again(
        self, make: Callable[..., Prober], engine: StandIn, tmp_path: Path
    ) -> None:
        saved: list[Mixed] = []
        low, high = planned(tmp_path, "Q4_0"), planned(tmp_path, "Q8_0")
        with make("Q8_0", save_mix=saved.append) as prober:
            prober.mix(low, "low")
        with make("F32", known_mixes={it.key: it for it in saved}, save_mix=saved.append) as prober:
            assert prober.mix(high, "high").resident == "F32"
            assert prober.mix(low, "low").resident == "F32"

    def test_another_text_is_another_mix(
        self, make: Callable[..., Prober], engine: StandIn, tmp_path: Path
    ) -> None:
        saved: list[Mixed] = []
        plan = planned(tmp_path, "Q4_0")
        for digests in ({NAME: "1"}, {NAME: "2"}):
            with make("F32", digests=digests, save_mix=saved.append) as prober:
                prober.mix(plan, "mix")
        assert len({it.key for it in saved}) == 2
