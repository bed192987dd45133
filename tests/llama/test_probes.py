"""Probes by the real llama.cpp: alphas of the example model are those that were measured tensor by tensor.

Exchanged weights give the figures that a file gives that is loaded for each probe, and the floor tells what the type of
the resident model does to them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantrecipe import load_registry, open_model
from quantrecipe.analyses.error import Error
from quantrecipe.analyses.probe import Probe
from quantrecipe.api import ModelAnalysis, Study
from quantrecipe.engine import EngineFacts, engine_facts, find_engine
from quantrecipe.evaluate import read_text
from quantrecipe.executors.local import Processes
from quantrecipe.measure import Measurement, Passes, measure, open_resident
from quantrecipe.measure.passes import Part
from quantrecipe.measure.progress import Silent
from quantrecipe.measure.resident import Moved, Resident, Setting
from quantrecipe.sensitivity import Sensitivity

pytestmark = pytest.mark.llama

ROOT = Path(__file__).parents[2]


def known_alphas() -> dict[str, float]:
    with (ROOT / "tools/prior/tiny-code.csv").open(encoding="utf-8") as file:
        file.readline()
        return {row["tensor"]: float(row["kld"]) / float(row["d"]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Sensitivity:
    folder = tmp_path_factory.mktemp("probes")
    registry = load_registry(plugins=False)
    passes = Passes(texts=(read_text(ROOT / "tests/data/texts/code.val.txt"),), tokens=4096)
    what = Measurement(
        types=("Q2_K", "Q3_K", "Q4_K"),
        analysis=Error(),
        weighing=Probe(),
        probes=12,
        passes=passes,
        work=folder,
    )
    model = open_model(ROOT / "examples/tiny-code", registry=registry)
    first = measure(model, folder / "s.jsonl", what, registry=registry)
    again = measure(model, folder / "s.jsonl", what, registry=registry)  # from the file: no engine is started
    assert again == first
    assert [path.name for path in folder.iterdir()] == ["s.jsonl"]
    return first


def test_alphas_are_those_that_were_measured(found: Sensitivity) -> None:
    off = {name: float(np.log(found.tensors[name].alpha / alpha)) for name, alpha in known_alphas().items()}
    assert abs(off["token_embd.weight"]) < 0.25
    assert np.sqrt(np.mean(np.square(list(off.values())))) < 0.6  # the prior alone: 0.8


def test_probes_say_what_they_did(found: Sensitivity) -> None:
    assert len(found.probes) == 24  # two for each pass: of 8 chunks, a part has four
    assert {probe.part for probe in found.probes} == {"1/2", "2/2"}
    assert {probe.what.split(",")[0].split(" →")[0] for probe in found.probes[:8]} == {
        *("token_embd", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    }
    assert all(probe.kld > 3 * probe.standard_error > 0 for probe in found.probes)
    assert found.provenance.engine.startswith("llama-cpp-python ")
    assert found.provenance.text.startswith("code.val.txt ")


REGISTRY = load_registry(plugins=False)
PROBES: tuple[Mapping[str, str], ...] = (
    {f"blk.{layer}.ffn_down.weight": "Q3_K" for layer in range(4)},
    {"blk.1.attn_k.weight": "Q2_K"},
    {"token_embd.weight": "Q4_K"},  # which is the head, too
    {"blk.2.attn_v.weight": "Q6_K"},
)


@contextmanager
def opened(folder: Path, type_: str, *, tokens: int = 4096) -> Iterator[Resident]:
    passes = Passes(texts=(read_text(ROOT / "tests/data/texts/code.val.txt"),), tokens=tokens, resident=type_)
    setting = Setting(
        model=open_model(ROOT / "examples/tiny-code", registry=REGISTRY),
        registry=REGISTRY,
        importance=None,
        passes=passes,
        folder=folder,
        progress=Silent(),
    )
    with ExitStack() as stack:
        yield open_resident.open_resident(setting, [name for types in PROBES for name in types], stack)


def probed(
    folder: Path, type_: str, *, kind: type[Resident] = open_resident.ResidentInSession
) -> list[Moved]:
    folder.mkdir()
    found = []
    with opened(folder, type_) as model:
        assert type(model) is kind
        for types in PROBES:
            model.change(types)
            found.append(model.measure())
    return found


@pytest.fixture(scope="module")
def by_type(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Moved]]:
    folder = tmp_path_factory.mktemp("types")
    return {type_: probed(folder / type_, type_) for type_ in ("F32", "BF16", "Q8_0")}


def test_exchanged_weights_are_those_of_a_file(
    by_type: dict[str, list[Moved]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = find_engine()
    facts = engine_facts(engine)

    def sealed(_: object) -> EngineFacts:
        return EngineFacts(
            engine=engine, version=facts.version, devices=facts.devices, refused=(), sealed="for the test"
        )

    monkeypatch.setattr(open_resident, "engine_facts", sealed)
    for ours, files in zip(
        by_type["Q8_0"], probed(tmp_path / "files", "Q8_0", kind=open_resident.ResidentInFile), strict=True
    ):
        assert abs(ours.kld - files.kld) < min(ours.standard_error, files.standard_error)
        assert ours.standard_error == pytest.approx(files.standard_error, rel=0.3)


def test_the_floor_tells_what_the_resident_type_does(by_type: dict[str, list[Moved]]) -> None:
    for exact, sixteen_bits, eight_bits in zip(*by_type.values(), strict=True):
        assert exact.floor < 1e-3 * exact.standard_error
        assert exact.floor < sixteen_bits.floor < eight_bits.floor
        for moved in (sixteen_bits, eight_bits):
            assert abs(moved.kld - exact.kld) < 3 * moved.standard_error
            assert moved.standard_error >= moved.floor


def test_parts_of_a_text_are_the_whole(by_type: dict[str, list[Moved]], tmp_path: Path) -> None:
    with opened(tmp_path, "F32") as model:
        parts = []
        for first in range(2):
            model.change(PROBES[0])
            parts.append(model.measure(Part(every=2, first=first)).kld)
    assert np.mean(parts) == pytest.approx(by_type["F32"][0].kld, rel=1e-4)
    assert parts[0] != pytest.approx(parts[1], rel=1e-3)


def test_other_weights_that_are_a_rounding_are_that_rounding(
    by_type: dict[str, list[Moved]], tmp_path: Path
) -> None:
    ((name, type_),) = PROBES[1].items()
    fmt = REGISTRY.format(type_)
    with opened(tmp_path, "F32") as model:
        model.change({name: lambda rows, start: fmt.decode(fmt.encode(rows), rows.shape[1])})
        assert model.measure() == by_type["F32"][1]
        model.change({name: lambda rows, start: rows})
        assert model.measure().kld == 0


class Lengths(ModelAnalysis):
    """Looks at inputs, and takes the first row of two tensors away."""

    name = "lengths"
    summary = "for this test"

    def __init__(self) -> None:
        self.seen: Mapping[str, Any] = {}
        self.sums: Mapping[str, Any] = {}

    def weigh(self, study: Study) -> Mapping[str, float]:
        assert study.look is not None
        assert study.swap is not None
        names = [tensor.name for tensor in study.tensors]
        self.seen = study.look(np.shape, names)
        self.sums = study.look(partial(np.sum, axis=0, dtype=np.float64), names)
        return {name: study.swap({name: without_the_first}).kld for name in names[:2]}


def without_the_first(rows: Any, start: int) -> Any:
    made = rows.copy()
    if start == 0:
        made[0] = 0
    return made


def test_a_plugin_looks_and_swaps(tmp_path: Path) -> None:
    analysis = Lengths()
    passes = Passes(texts=(read_text(ROOT / "tests/data/texts/code.val.txt"),), tokens=2048)
    what = Measurement(
        types=("Q4_K",), analysis=Error(), weighing=analysis, probes=2, passes=passes, work=tmp_path
    )
    model = open_model(ROOT / "examples/tiny-code", registry=REGISTRY)
    found = measure(model, tmp_path / "s.jsonl", what, registry=REGISTRY)
    columns = {tensor.name: tensor.cols for tensor in model.tensors}
    assert set(analysis.seen) == set(found.tensors)
    for name, (tokens, each) in analysis.seen.items():
        batches = each / columns[name]  # np.shape is summed over these, too
        assert batches == int(batches)
        assert tokens == 2048, name
    assert np.array_equal(analysis.sums["blk.2.attn_q.weight"], analysis.sums["blk.2.attn_v.weight"])
    assert not np.array_equal(analysis.sums["blk.2.attn_q.weight"], analysis.sums["blk.2.ffn_up.weight"])
    assert [probe.what.split(" → ")[1] for probe in found.probes] == ["other weights"] * 2
    assert all(probe.kld > 0 for probe in found.probes)


def test_an_executor_s_probes_are_the_same(found: Sensitivity, tmp_path: Path) -> None:
    """Whoever has made which: the journal's lines, and the file that they end in."""
    passes = Passes(
        texts=(read_text(ROOT / "tests/data/texts/code.val.txt"),),
        tokens=4096,
        executor=Processes({"workers": 2}),
    )
    what = Measurement(
        types=("Q2_K", "Q3_K", "Q4_K"),
        analysis=Error(),
        weighing=Probe(),
        probes=12,
        passes=passes,
        work=tmp_path,
    )
    model = open_model(ROOT / "examples/tiny-code", registry=REGISTRY)
    assert measure(model, tmp_path / "s.jsonl", what, registry=REGISTRY) == found
    assert [path.name for path in tmp_path.iterdir()] == ["s.jsonl"]
