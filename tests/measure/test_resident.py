"""The resident model: which type it gets, what a probe changes and restores, and what is done without an exchange."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.models import llama_metadata, llama_tensors, write_gguf
from support.resident_engine import REGISTRY, StandIn, read_file, values

from quantrecipe import open_model
from quantrecipe.engine import Engine, EngineFacts
from quantrecipe.engine.bindings import Device
from quantrecipe.errors import EvaluationError, NonFiniteError, OutputError, SensitivityError
from quantrecipe.evaluate import Text
from quantrecipe.measure import Passes
from quantrecipe.measure import resident as resident_module
from quantrecipe.measure.open_resident import ResidentInFile, ResidentInSession, _InPlace, open_resident
from quantrecipe.measure.passes import RESIDENT_TYPES, Part, choose_type
from quantrecipe.measure.progress import Silent
from quantrecipe.measure.resident import Resident, Setting
from quantrecipe.memory.machine import Machine
from quantrecipe.model.model import Model

PASSES = Passes(texts=(Text(name="text.txt", data=b"some words"),), tokens=1024, threads=2)
V, DOWN, OUT = "blk.0.attn_v.weight", "blk.1.ffn_down.weight", "output.weight"
FACTS = EngineFacts(
    engine=Engine(library=Path("libllama.so"), source="--engine"), version="b1", devices=(), refused=()
)


class Notes(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stages: list[str] = []

    def note(self, what: str) -> None:
        self.notes.append(what)

    def stage(self, what: str) -> None:
        self.stages.append(what)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    path = write_gguf(tmp_path / "model.gguf", llama_tensors(layers=2), llama_metadata(block_count=2))
    return open_model(path, registry=REGISTRY)


def names(model: Model) -> list[str]:
    return [tensor.name for tensor in model.tensors if len(tensor.shape) > 1]


@contextmanager
def opened(
    model: Model, resident: str | None = None, progress: Notes | None = None, **changes: Any
) -> Iterator[Resident]:
    folder = Path(tempfile.mkdtemp(dir=model.path.parent))
    setting = Setting(
        model=model,
        registry=REGISTRY,
        importance=None,
        passes=replace(PASSES, resident=resident),
        folder=folder,
        progress=progress or Notes(),
    )
    with ExitStack() as stack:
        yield open_resident(replace(setting, **changes), names(model), stack)


class TestType:
    """2 MB of weights in BF16, and twice as much in F32."""

    WEIGHTS = sum(values.size for values in llama_tensors(layers=2).values())

    def choose(self, model: Model, *, ram: int = 1 << 40, disk: int = 1 << 40, **passes: Any) -> str:
        devices = passes.pop("devices", ())
        machine = Machine(gpus=(), ram_total=ram, ram_free=ram)
        return choose_type(model, replace(PASSES, **passes), replace(FACTS, devices=devices), machine, disk)

    @pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
    def test_a_gguf_that_isn_t_quantized_is_itself(self, tmp_path: Path, dtype: str) -> None:
        path = write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1), type_=dtype)
        assert self.choose(open_model(path, registry=REGISTRY), disk=0) == dtype

    def test_else_memory_decides(self, model: Model) -> None:
        folder = replace(model, container="huggingface")
        four, two = 4 * self.WEIGHTS, 2 * self.WEIGHTS
        assert self.choose(folder, ram=2 * four) == "F32"
        assert self.choose(folder, ram=2 * four - 2) == "BF16"
        assert self.choose(folder, ram=2 * two) == "BF16"
        assert self.choose(folder, ram=2 * two - 2) == "Q8_0"
        assert self.choose(folder, disk=four - 1) == "BF16"
        assert self.choose(folder, disk=two - 1) == "Q8_0"
        assert self.choose(model, ram=two) == "Q8_0"  # its own doesn't fit either

    def test_sixteen_bits_are_those_of_the_model(self, model: Model) -> None:
        tensors = tuple(replace(tensor, dtype="F16") for tensor in model.tensors)
        folder = replace(model, container="huggingface", tensors=tensors)
        assert self.choose(folder, disk=3 * self.WEIGHTS) == "F16"

    def test_the_gpu_has_to_have_room_for_its_layers(self, model: Model) -> None:
        folder = replace(model, container="huggingface")
        four = 4 * self.WEIGHTS
        gpu = Device(name="CUDA0", description="", total=four, free=four, is_cpu=False)
        cpu = Device(name="CPU", description="", total=1, free=1, is_cpu=True)
        assert self.choose(folder, devices=(cpu, gpu)) == "BF16"
        assert self.choose(folder, devices=(cpu, gpu, gpu)) == "F32"
        assert self.choose(folder, devices=(cpu, gpu), gpu_layers=0) == "F32"
        assert self.choose(folder, devices=(cpu, gpu), gpu_layers=1) == "F32"  # a third of it
        assert self.choose(folder, devices=(cpu, gpu), gpu_layers=1, ram=four) == "BF16"

    def test_a_quantized_gguf_is_made_anew(self, model: Model) -> None:
        quantized = replace(model.tensors[0], dtype="Q4_K")
        assert self.choose(replace(model, tensors=(quantized, *model.tensors[1:])), disk=0) == "Q8_0"

    def test_who_asks_for_a_type_gets_it(self, model: Model, engine: StandIn) -> None:
        for type_ in RESIDENT_TYPES:
            with opened(model, type_) as resident:
                assert resident.type == type_
                _, types = read_file(engine.files[-1])
                assert types[V] == type_
                assert (engine.files[-1] == model.path) == (type_ == "BF16")

    def test_the_stage_says_it(self, model: Model, engine: StandIn) -> None:
        notes = Notes()
        with opened(model, progress=notes):
            assert notes.stages == ["probes in BF16"]
        assert notes.notes == []


WISHES: tuple[Mapping[str, str], ...] = (
    {V: "Q4_0"},
    {DOWN: "Q3_K", OUT: "Q4_0"},
    {V: "Q2_K", OUT: "Q4_0"},
    {},
)


@pytest.mark.parametrize("sealed", ["", "it has other structs"])
@pytest.mark.parametrize("type_", ["F32", "Q8_0"])
def test_a_probe_changes_its_tensors_and_nothing_else(
    model: Model, engine: StandIn, type_: str, sealed: str
) -> None:
    engine.sealed = sealed
    with opened(model, type_) as resident:
        assert isinstance(resident, ResidentInFile if sealed else ResidentInSession)
        exact = engine.runs[-1]
        for types in WISHES:
            resident.change(types)
            moved = resident.measure()
            assert (moved.kld > 0) == bool(types)
            said = engine.runs[-1]
            changed = {name for name in exact if not np.array_equal(said[name], exact[name])}
            assert not types or changed == set(types)


@pytest.mark.parametrize("type_", RESIDENT_TYPES)
def test_what_is_written_is_what_the_type_leaves(model: Model, engine: StandIn, type_: str) -> None:
    with opened(model, type_) as resident:
        resident.change({V: "Q4_0"})
        resident.measure()
    rows = (llama_tensors(layers=2)[V].view(np.uint32) & np.uint32(0xFFFF0000)).view(
        np.float32
    )  # as BF16 cuts
    q4, held = REGISTRY.formats["Q4_0"], REGISTRY.formats[type_]
    left = q4.decode(q4.encode(rows), rows.shape[1])
    assert np.array_equal(engine.runs[-1][V], held.encode(left).reshape(-1))


def test_no_more_is_sent_than_what_changes(model: Model, engine: StandIn) -> None:
    with opened(model, "F32") as resident:
        (held,) = engine.models
        resident.change({V: "Q4_0", OUT: "Q4_0"})
        assert set(held.written) == {V, OUT}
        held.written.clear()
        resident.change({V: "Q4_0", DOWN: "Q3_K"})
        assert set(held.written) == {OUT, DOWN}
        assert np.array_equal(held.bytes[OUT], read_file(engine.files[-1])[0][OUT])


def test_own_weights_are_never_written_to_the_file(model: Model, engine: StandIn) -> None:
    before = model.path.read_bytes()
    for engine.sealed in ("", "it has other structs"):
        with opened(model, "BF16") as resident:
            resident.change({V: "Q4_0"})
            resident.measure()
    assert model.path.read_bytes() == before


def test_what_the_engine_doesn_t_use_changes_nothing(model: Model, engine: StandIn) -> None:
    engine.unused = [V]
    with opened(model) as resident:
        runs = len(engine.runs)
        resident.change({V: "Q2_K"})
        assert resident.measure().kld == 0
        assert len(engine.runs) == runs
        resident.change({V: "Q2_K", OUT: "Q4_0"})
        assert resident.measure().kld > 0


class TestFloor:
    def test_it_is_what_shaking_does(self, model: Model, engine: StandIn) -> None:
        """In Q8_0, shaking one value in twelve by a step: a squared error like that of rounding."""
        with opened(model, "Q8_0") as resident:
            resident.change({OUT: "Q4_0"})
            moved = resident.measure()
            assert engine.partial_runs == 1
            first = engine.runs[0]
            rows = llama_tensors(layers=2)[OUT]
            held = values(first[OUT], "Q8_0").reshape(rows.shape)
            whole = sum(
                np.square(values(data, read_file(engine.files[-1])[1][it])).sum()
                for it, data in first.items()
            )
            rounding = np.square(held - (rows.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)).sum()
            assert moved.floor == pytest.approx(rounding / whole, rel=0.15)
            assert moved.standard_error == moved.floor

    def test_that_of_a_role_serves_where_it_is_small(self, model: Model, engine: StandIn) -> None:
        """Shaking more moves more, so what is known of all layers is enough; else the tensor's own is asked for."""
        other = V.replace("blk.0", "blk.1")
        with opened(model, "Q8_0") as resident:
            found = []
            for types in ({V: "Q4_0"}, {other: "Q4_0"}, {V: "Q8_0"}):
                resident.change(types)
                found.append((resident.measure(), engine.partial_runs))
        (one, _), (two, after_two), (faint, after_faint) = found
        assert one.floor == two.floor
        assert (after_two, after_faint) == (1, 2)
        assert faint.floor < 0.7 * one.floor

    def test_it_depends_on_nothing_that_was_asked_before(self, model: Model, engine: StandIn) -> None:
        """A run that was killed goes on with another probe than it began with, and has to end with the same figures."""
        floors = []
        for before in ((), ({V: "Q4_0", OUT: "Q4_0"},)):
            with opened(model, "Q8_0") as resident:
                for types in (*before, {V: "Q4_0"}):
                    resident.change(types)
                    moved = resident.measure()
                floors.append(moved.floor)
        assert floors[0] == floors[1] > 0

    def test_a_probe_may_read_a_part_of_the_text(self, model: Model, engine: StandIn) -> None:
        engine.hard = np.linspace(1, 3, 32)
        with opened(model, "F32") as resident:
            resident.change({OUT: "Q4_0"})
            whole = resident.measure()
            parts = []
            for first in range(4):
                resident.change({OUT: "Q4_0"})
                parts.append(resident.measure(Part(every=4, first=first)))
                assert range(first, 32, 4) in engine.read
        assert np.mean([part.kld for part in parts]) == pytest.approx(whole.kld)
        assert [part.kld for part in parts] == sorted({part.kld for part in parts})
        spread = np.std(np.linspace(1, 3, 32)[::4], ddof=1) / np.sqrt(8) / np.linspace(1, 3, 32)[::4].mean()
        assert parts[0].standard_error == pytest.approx(spread * parts[0].kld)

    def test_it_spoils_no_later_probe(self, model: Model, engine: StandIn) -> None:
        with opened(model, "Q8_0") as resident:
            found = []
            for types in ({V: "Q4_0"}, {V: "Q4_0"}, {OUT: "Q4_0"}, {V: "Q4_0"}):
                resident.change(types)
                found.append(resident.measure())
            assert found[0] == found[1] == found[3]
            resident.change({})
            (held,) = engine.models
            assert all(np.array_equal(data, engine.runs[0][name]) for name, data in held.bytes.items())


class TestOtherWeights:
    @pytest.mark.parametrize("sealed", ["", "it has other structs"])
    def test_rows_are_handed_out_with_their_numbers(
        self, tmp_path: Path, engine: StandIn, sealed: str
    ) -> None:
        engine.sealed = sealed
        tensors = llama_tensors(layers=1, experts=3)
        path = write_gguf(
            tmp_path / "m.gguf", tensors, llama_metadata(block_count=1, expert_count=3), type_="F32"
        )
        name = "blk.0.ffn_down_exps.weight"
        stack = tensors[name].reshape(-1, tensors[name].shape[-1])

        def change(rows: Any, start: int) -> Any:
            assert np.array_equal(rows, stack[start : start + len(rows)])
            assert not rows.flags.writeable
            return rows + np.arange(start, start + len(rows), dtype=np.float32)[:, None]

        with opened(open_model(path, registry=REGISTRY), "F32") as resident:
            digests = resident.change({name: change})
            resident.measure()
            assert digests.keys() == {name}
            wanted = stack + np.arange(len(stack), dtype=np.float32)[:, None]
            assert np.array_equal(engine.runs[-1][name].view(np.float32).reshape(stack.shape), wanted)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (lambda rows, start: rows[1:], SensitivityError, r"attn_v.weight, rows from 0: .* not float32"),
            (lambda rows, start: rows.astype(np.float64), SensitivityError, "float64"),
            (lambda rows, start: None, SensitivityError, "NoneType"),
            (lambda rows, start: rows * np.float32(np.nan), NonFiniteError, "attn_v.weight, rows from 0"),
        ],
    )
    def test_what_is_no_weights_is_refused(
        self, model: Model, engine: StandIn, change: Any, error: type[Exception], message: str
    ) -> None:
        with opened(model, "F32") as resident:
            with pytest.raises(error, match=message):
                resident.change({V: change})
            resident.change({OUT: "Q4_0"})  # and what was begun is restored
            resident.measure()
            changed = {
                n for n, data in engine.runs[-1].items() if not np.array_equal(data, engine.runs[0][n])
            }
            assert changed == {OUT}

    def test_what_was_written_before_an_error_is_restored(self, model: Model, engine: StandIn) -> None:
        one_thread = replace(PASSES, threads=1, resident="F32")
        with opened(model, passes=one_thread) as resident:
            with pytest.raises(SensitivityError):
                resident.change({V: "Q4_0", DOWN: lambda rows, start: None})  # layer 0 comes first
            (held,) = engine.models
            assert V in held.written
            resident.change({})
            assert all(np.array_equal(data, engine.runs[0][name]) for name, data in held.bytes.items())

    def test_a_digest_is_of_the_rows_whatever_their_order(self, model: Model) -> None:
        tensor = next(tensor for tensor in model.tensors if tensor.name == V)
        rows = llama_tensors(layers=2)[V]
        digests = []
        for starts in ((0, 64), (64, 0)):
            sink = resident_module._Changed(
                change=lambda rows, start: rows,
                tensor=tensor,
                resident=REGISTRY.format("F32"),
                sink=Nowhere(),
            )
            for start in starts:
                piece = rows[start : start + 64]
                sink.write(piece.data, start * piece.shape[1] * 4)
            digests.append(sink.digest)
        assert digests[0] == digests[1]


class Nowhere:
    """A sink that keeps what it got."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def write(self, data: memoryview, offset: int) -> None:
        self.got.append(bytes(data))


def test_tensors_and_parts_are_shaken_each_in_its_own_way() -> None:
    data = np.zeros(4096, np.uint8).data
    sink = Nowhere()
    for name, offset in (("a", 0), ("b", 0), ("a", 4096), ("a", 0)):
        resident_module._Shaking(sink, name, "F32").write(data, offset)
    first, *others, again = sink.got
    assert again == first
    assert first not in others


class TestWithoutAnExchange:
    def test_which_version_it_is_stands_in_a_note(self, model: Model, engine: StandIn) -> None:
        engine.sealed = "this llama.cpp (b9999) has other structs than those that are known"
        notes = Notes()
        with opened(model, progress=notes) as resident:
            assert isinstance(resident, ResidentInFile)
            assert resident.type == "Q8_0"
        assert notes.notes == [f"each probe writes and loads a file, which takes longer: {engine.sealed}"]
        assert notes.stages[-1] == "probes in Q8_0, in files"
        assert model.path not in engine.files

    def test_a_weight_that_can_t_be_written(self, model: Model, engine: StandIn) -> None:
        engine.unwritable = V
        notes = Notes()
        with opened(replace(model, container="safetensors"), progress=notes) as resident:
            assert isinstance(resident, ResidentInFile)
            work = resident._setting.folder
            assert [path.name for path in work.glob("*.gguf")] == ["Q8_0.gguf"]  # and no F32 beside it
        assert len(notes.notes) == 1
        assert "has blk.0.attn_v.weight in a buffer that can't be written (Split)" in notes.notes[0]

    def test_figures_are_the_same(self, model: Model, engine: StandIn) -> None:
        found = []
        for engine.sealed in ("", "it has other structs"):
            with opened(model, "Q8_0") as resident:
                for types in WISHES:
                    resident.change(types)
                    found.append(resident.measure())
        assert found[: len(WISHES)] == found[len(WISHES) :]

    def test_inputs_can_t_be_seen(self, model: Model, engine: StandIn) -> None:
        engine.sealed = "it has other structs"
        with (
            opened(model) as resident,
            pytest.raises(EvaluationError, match="inputs of matrices can't be seen"),
        ):
            resident.inputs([V], np.sum)


def test_a_disk_that_is_full_under_the_file_of_probes(tmp_path: Path) -> None:
    (tmp_path / "Q8_0.gguf").write_bytes(bytes(100))
    file = _InPlace(tmp_path / "Q8_0.gguf")
    file.write(memoryview(b"abc"), 7)
    assert (tmp_path / "Q8_0.gguf").read_bytes()[6:11] == b"\0abc\0"

    class Full:
        def seek(self, offset: int) -> None: ...
        def write(self, data: memoryview) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file.close()
    file._file = Full()  # type: ignore[assignment]  # as far as one is written
    with pytest.raises(OutputError, match=r"is full while writing Q8_0\.gguf"):
        file.write(memoryview(b"abc"), 7)
    with pytest.raises(OutputError, match="can't write"):
        _InPlace(tmp_path / "none")
