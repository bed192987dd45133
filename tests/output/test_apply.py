"""A plan becomes a file: its size, its bytes, its record; whatever goes wrong, nothing is lost."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import xxhash
from gguf import GGUFReader
from gguf.quants import dequantize
from support.imatrix_files import write_gguf_imatrix
from support.models import llama_tensors, stored, write_gguf
from support.recipes import recipe, rule

from quantrecipe.errors import ModelError, NonFiniteError, OutputError
from quantrecipe.gguf.header import read_header
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.open_model import open_model
from quantrecipe.output import row_units
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.progress import Silent
from quantrecipe.output.transform import Nan
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.registry import Registry, load_registry
from quantrecipe.tensor import TensorInfo

MIX = recipe(rule("attn_v", "Q8_0"), rule("ffn_down*", "Q6_K"), rule("head", "F16"), default="Q4_K")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "source.gguf", llama_tensors(layers=2))


def plan_for(path: Path, registry: Registry, mix: object = MIX) -> Plan:
    return make_plan(mix, open_model(path, registry=registry), registry=registry)  # type: ignore[arg-type]  # a Recipe


def test_the_file_has_the_size_and_the_layout_of_the_plan(
    source: Path, tmp_path: Path, registry: Registry
) -> None:
    plan = plan_for(source, registry)
    result = apply_plan(plan, tmp_path / "out.gguf", registry=registry)
    assert result.path.stat().st_size == result.nbytes == plan.nbytes
    header = read_header(result.path)
    assert header.data_start == plan.files[0].header
    assert [(t.name, t.offset + header.data_start) for t in header.tensors] == [
        (a.tensor.name, a.offset) for a in plan.assignments
    ]
    assert not list(tmp_path.glob("*-part"))


def test_gguf_py_reads_back_what_went_in(source: Path, tmp_path: Path, registry: Registry) -> None:
    apply_plan(plan_for(source, registry), tmp_path / "out.gguf", registry=registry)
    weights = llama_tensors(layers=2)
    bounds = {"Q4_K": 0.09, "Q6_K": 0.03, "Q8_0": 0.01, "F16": 0.005, "F32": 0.0}
    seen = set()
    for tensor in GGUFReader(tmp_path / "out.gguf").tensors:
        before = weights[tensor.name].reshape(-1).astype(np.float64)
        after = dequantize(tensor.data, tensor.tensor_type).reshape(-1)
        error = np.linalg.norm(after - before) / np.linalg.norm(before)
        assert error <= bounds[tensor.tensor_type.name], tensor.name
        seen.add(tensor.tensor_type.name)
    assert seen == set(bounds)


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("chunk", [256, 5000, 1 << 19])
def test_bytes_depend_on_neither_threads_nor_chunks(
    tmp_path: Path,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    chunk: int,
) -> None:
    plan = plan_for(write_gguf(tmp_path / "source.gguf", llama_tensors(layers=1, hidden=256)), registry)
    apply_plan(plan, tmp_path / "reference.gguf", registry=registry, threads=1)
    monkeypatch.setattr(row_units.split, "__defaults__", (1, chunk))
    apply_plan(plan, tmp_path / "out.gguf", registry=registry, threads=threads)
    assert (tmp_path / "out.gguf").read_bytes() == (tmp_path / "reference.gguf").read_bytes()


def test_source_hashes_are_those_of_the_stored_bytes(
    source: Path, tmp_path: Path, registry: Registry
) -> None:
    plan = plan_for(source, registry)
    result = apply_plan(plan, tmp_path / "out.gguf", registry=registry)
    recorded = read_header(result.path).metadata["quantrecipe.source.xxh3_128"].decode()
    expected = [
        xxhash.xxh3_128_hexdigest(stored(weights, "BF16" if weights.ndim > 1 else "F32"))
        for weights in (llama_tensors(layers=2)[a.tensor.name] for a in plan.assignments)
    ]
    assert recorded == expected == [result.hashes[a.tensor.name] for a in plan.assignments]


def test_experts_are_quantized_one_by_one(tmp_path: Path, registry: Registry) -> None:
    source = write_gguf(tmp_path / "moe.gguf", llama_tensors(layers=1, experts=3))
    result = apply_plan(plan_for(source, registry), tmp_path / "out.gguf", registry=registry)
    (down,) = [t for t in GGUFReader(result.path).tensors if t.name == "blk.0.ffn_down_exps.weight"]
    assert down.tensor_type.name == "Q6_K"
    weights = llama_tensors(layers=1, experts=3)[down.name]
    stored_again = dequantize(down.data, down.tensor_type).reshape(weights.shape)
    assert np.abs(stored_again - weights).max() < 0.02


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("type_", ["Q4_K", "F16", "BF16"])
def test_what_is_not_finite_is_named(tmp_path: Path, registry: Registry, value: float, type_: str) -> None:
    tensors = llama_tensors(layers=1, experts=2)
    tensors["blk.0.ffn_up_exps.weight"][1, 7, 200] = value
    source = write_gguf(tmp_path / "bad.gguf", tensors)
    with pytest.raises(
        NonFiniteError, match=r"ffn_up_exps.weight: -?(nan|inf) at expert 1, row 7, column 200"
    ):
        apply_plan(
            plan_for(source, registry, recipe(default=type_)), tmp_path / "out.gguf", registry=registry
        )
    assert [p.name for p in tmp_path.iterdir()] == ["bad.gguf"]


@pytest.mark.parametrize(
    ("value", "type_", "fine"),
    [
        (60000.0, "F16", True),
        (66000.0, "F16", False),
        (1e6, "Q4_0", False),
        (1e30, "Q8_0", False),
        (1e30, "Q4_K", False),
        (1e30, "BF16", True),
        (1e6, "Q8_0", True),
    ],
)
def test_weights_that_a_type_can_t_hold_are_named(
    tmp_path: Path, registry: Registry, value: float, type_: str, fine: bool
) -> None:
    tensors = llama_tensors(layers=1)
    tensors["blk.0.ffn_up.weight"][3, 5] = value
    source = write_gguf(tmp_path / "large.gguf", tensors)
    plan = plan_for(source, registry, recipe(default=type_))
    if fine:
        apply_plan(plan, tmp_path / "out.gguf", registry=registry)
        return
    with pytest.raises(NonFiniteError, match=rf"at row 3, column 5 is too large for {type_}"):
        apply_plan(plan, tmp_path / "out.gguf", registry=registry)


@pytest.mark.parametrize(
    ("type_", "value", "says"),
    [
        (
            "Q4_K",
            1e30,
            r"too large for Q4_K: the scale d of row 3, block 0 becomes (infinite|NaN); give this tensor BF16",
        ),
        ("Q4_0", 3e38, r"the scale d of row 3, block 0 becomes infinite; give this tensor BF16 or F32"),
        ("Q6_K", 1e10, r"the scale d of row 3, block 0 becomes infinite"),
        ("F16", 7e4, r"70000 at row 3, column 5 is too large for F16, which would give Inf back"),
        ("BF16", 3.4e38, r"too large for BF16, which would give Inf back; give this tensor F32"),
    ],
)
@pytest.mark.parametrize("nan", ["error", "allow"])
def test_what_becomes_infinite_on_the_way_is_refused_whatever_is_kept(
    tmp_path: Path, registry: Registry, type_: str, value: float, says: str, nan: Nan
) -> None:
    tensors = llama_tensors(layers=1)
    tensors["blk.0.ffn_up.weight"][3, 5] = value
    source = write_gguf(tmp_path / "large.gguf", tensors, type_="F32")
    with pytest.raises(NonFiniteError, match=says) as caught:
        apply_plan(
            plan_for(source, registry, recipe(default=type_)),
            tmp_path / "out.gguf",
            registry=registry,
            nan=nan,
        )
    assert str(caught.value).startswith("blk.0.ffn_up.weight: ")
    assert not (tmp_path / "out.gguf").exists()


def test_importance_that_spoils_scales_is_named(tmp_path: Path, registry: Registry) -> None:
    tensors = llama_tensors(layers=1)
    source = write_gguf(tmp_path / "model.gguf", tensors)
    sums = {n: (np.full((1, x.shape[1]), 3e38, np.float32), [1]) for n, x in tensors.items() if x.ndim == 2}
    importance = read_importance(write_gguf_imatrix(tmp_path / "i.gguf", sums))
    plan = make_plan(recipe(default="Q4_K"), open_model(source), registry=registry, importance=importance)
    with pytest.raises(
        NonFiniteError, match=r"becomes NaN in Q4_K, although .*: the importance goes from 3e\+38 to"
    ):
        apply_plan(plan, tmp_path / "out.gguf", registry=registry)


@pytest.mark.parametrize(("type_", "at"), [("Q8_0", 0), ("Q4_K", 2), ("Q6_K", 208)])
def test_a_damaged_scale_in_the_model_isn_t_copied_unless_kept(
    tmp_path: Path, registry: Registry, type_: str, at: int
) -> None:
    made = apply_plan(
        plan_for(write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1)), registry, recipe(default=type_)),
        tmp_path / "made.gguf",
        registry=registry,
    ).path
    header = read_header(made)
    entry = next(t for t in header.tensors if t.name == "blk.0.ffn_up.weight")
    spec = registry.formats[type_].spec
    raw = bytearray(made.read_bytes())
    place = header.data_start + entry.offset + 2 * spec.row_bytes(entry.shape[-1]) + at
    raw[place : place + 2] = b"\xff\x7f"  # a NaN
    made.write_bytes(raw)
    plan = plan_for(made, registry, recipe(default="keep"))
    with pytest.raises(
        NonFiniteError,
        match=r"blk\.0\.ffn_up\.weight: the scale d(min)? of row 2, block 0 is NaN in the model",
    ):
        apply_plan(plan, tmp_path / "out.gguf", registry=registry)
    kept = apply_plan(plan, tmp_path / "out.gguf", registry=registry, nan="allow").path
    assert raw[place - 64 : place + 64] in kept.read_bytes()


@pytest.mark.parametrize(
    ("type_", "stored_as"), [("F16", "value"), ("BF16", "value"), ("F32", "value"), ("Q8_0", "zero")]
)
def test_nan_that_is_allowed_stays_where_the_type_can_hold_it(
    tmp_path: Path, registry: Registry, type_: str, stored_as: str
) -> None:
    tensors = llama_tensors(layers=1)
    weights = tensors["blk.0.ffn_up.weight"]
    weights[3, 5], weights[3, 6] = np.nan, -np.inf
    source = write_gguf(tmp_path / "bad.gguf", tensors)
    plan = plan_for(source, registry, recipe(default=type_))
    result = apply_plan(plan, tmp_path / "out.gguf", registry=registry, nan="allow")
    (up,) = [t for t in GGUFReader(result.path).tensors if t.name == "blk.0.ffn_up.weight"]
    after = dequantize(up.data, up.tensor_type)
    if stored_as == "value":
        assert np.isnan(after[3, 5])
        assert after[3, 6] == -np.inf
    else:
        assert (after[3, 5], after[3, 6]) == (0, 0)
        assert result.nonfinite == {"blk.0.ffn_up.weight": 2}
    former = apply_plan(plan, tmp_path / "former.gguf", registry=registry, nan="keep")
    assert former.path.read_bytes() == result.path.read_bytes()
    assert np.isfinite(after).sum() >= after.size - 2


def test_a_source_that_shrinks_meanwhile_is_an_error(
    source: Path, tmp_path: Path, registry: Registry
) -> None:
    plan = plan_for(source, registry)
    source.write_bytes(source.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"source\.gguf"):
        apply_plan(plan, tmp_path / "out.gguf", registry=registry)
    assert [p.name for p in tmp_path.iterdir()] == ["source.gguf"]


def test_the_model_is_never_written_over(source: Path, registry: Registry) -> None:
    before = source.read_bytes()
    with pytest.raises(OutputError, match="is a file of the model"):
        apply_plan(plan_for(source, registry), source, registry=registry, force=True)
    assert source.read_bytes() == before


class _Interrupt(Silent):
    """Ctrl-C in the middle."""

    def tensor(self, tensor: TensorInfo, types: tuple[str, ...]) -> None:
        if tensor.layer == 1:
            raise KeyboardInterrupt


def test_an_interrupt_leaves_nothing_behind(source: Path, tmp_path: Path, registry: Registry) -> None:
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        apply_plan(
            plan_for(source, registry), tmp_path / "out.gguf", registry=registry, progress=_Interrupt()
        )
    assert [p.name for p in tmp_path.iterdir()] == ["source.gguf"]
    assert threading.active_count() == before


class _Count(Silent):
    def __init__(self) -> None:
        self.weights = self.read = self.written = 0

    def advance(self, weights: int, read: int, written: int) -> None:
        self.weights, self.read, self.written = (
            self.weights + weights,
            self.read + read,
            self.written + written,
        )


def test_progress_adds_up(source: Path, tmp_path: Path, registry: Registry) -> None:
    plan, count = plan_for(source, registry), _Count()
    apply_plan(plan, tmp_path / "out.gguf", registry=registry, progress=count)
    assert count.weights == plan.size
    assert count.written == sum(a.nbytes for a in plan.assignments)
    assert count.read == sum(e.nbytes for s in plan.model.sources.values() for e in s.extents)


def test_a_larger_alignment_is_kept(tmp_path: Path, registry: Registry) -> None:
    source = write_gguf(tmp_path / "aligned.gguf", llama_tensors(layers=1), alignment=256)
    result = apply_plan(plan_for(source, registry), tmp_path / "out.gguf", registry=registry)
    header = read_header(result.path)
    assert header.alignment == 256
    assert all((header.data_start + t.offset) % 256 == 0 for t in header.tensors)
