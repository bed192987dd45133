"""Sources that are computed, through the whole stream: the file is that of a model which stores what they compute.

A tensor of several units is transposed, regrouped, joined and added to; FP8 folders are applied, verified, measured.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from numpy.typing import NDArray
from support.huggingface import write_model
from support.models import llama_metadata, llama_tensors, write_gguf
from support.quantized_checkpoints import content, stored_dtype
from support.sources import stored, whole

from quantrecipe.errors import NonFiniteError
from quantrecipe.model.checkpoint import open_checkpoint
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.model.safetensors import read_safetensors_header
from quantrecipe.model.source import layout
from quantrecipe.model.source.arithmetic import Add
from quantrecipe.model.source.dequantize import Fp8
from quantrecipe.model.source.layout import Regroup, Rows, Transpose, concat, reshape, rows, stack
from quantrecipe.model.source.source import TensorSource
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output import row_units, stream
from quantrecipe.output.apply import Result, apply_plan
from quantrecipe.output.progress import Silent
from quantrecipe.output.verify.verify import verify_file
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import Registry, load_registry

HALVES = NDArray[np.uint16]
COLS = 64
MATRIX = "blk.0.ffn_up.weight"
EXPERTS = "blk.0.ffn_up_exps.weight"
BESIDE = ("blk.0.attn_q.weight", "output_norm.weight")
"""What is stored as it is, before and after it: a matrix and a vector."""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each matrix is several units, and each unit several parts."""
    real = row_units.split
    monkeypatch.setattr(
        stream, "split", lambda tensor, together=1, rows=None: real(tensor, together, 9 * COLS, rows=rows)
    )


def halves(values: NDArray[np.float32]) -> HALVES:
    """float32 that BF16 holds exactly, as its bits."""
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def expressions(folder: Path, bits: HALVES) -> dict[str, TensorSource]:
    """The same matrix, or stack of them, out of others."""
    count = [0]

    def of(values: HALVES) -> TensorSource:
        count[0] += 1
        return stored(folder / f"stored{count[0]}", np.ascontiguousarray(values), "BF16")

    *_, height, cols = bits.shape
    flat = bits.reshape(-1, cols)
    turned = np.ascontiguousarray(bits.swapaxes(-1, -2))
    grid = flat.reshape(2, -1, 4, cols).transpose(1, 2, 0, 3).reshape(flat.shape)
    doubled = np.stack([bits, np.zeros_like(bits)], axis=-2).reshape(*bits.shape[:-2], 2 * height, cols)
    found = {
        "transposed": Transpose(source=of(turned)),
        "regrouped": Regroup(
            source=of(grid), grid=(len(flat) // 8, 4, 2), order=(2, 0, 1), becomes=bits.shape
        ),
        "every other row": Rows(source=of(doubled), start=0, stop=2 * height, step=2),
        "reshaped": reshape(Add(source=of(flat.reshape(-1, 2 * cols)), number=0, gives="BF16"), bits.shape),
        "joined": reshape(concat([rows(of(flat), 0, 8), rows(of(flat), 8, len(flat))]), bits.shape),
    }
    if bits.ndim == 3:
        found["stacked"] = stack([Transpose(source=of(it)) for it in turned])
    return found


@dataclass(frozen=True)
class Plain:
    """A model that stores everything, and what becomes of it."""

    model: Model
    bits: dict[str, HALVES]
    path: Path
    result: Result
    plan: Plan


def plan_of(model: Model, registry: Registry, type_: str = "Q8_0") -> Plan:
    text = f"quantrecipe: 1\nname: plain\ndefault: {type_}\n"
    return make_plan(load_recipe_text(text, registry=registry), model, registry=registry)


@pytest.fixture(scope="module", params=[MATRIX, EXPERTS])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def plain(name: str, tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Plain:
    folder = tmp_path_factory.mktemp("plain")
    tensors = llama_tensors(layers=1, cols=COLS, hidden=96, experts=3 if name == EXPERTS else 0)
    metadata = llama_metadata(block_count=1)
    model = open_model(write_gguf(folder / "model.gguf", tensors, metadata), registry=registry)
    model = replace(model, tensors=tuple(it for it in model.tensors if it.name in (name, *BESIDE)))
    raw = whole(model.sources[name])
    bits = {name: raw.view(np.uint16).reshape(model.sources[name].shape)}
    plan = plan_of(model, registry)
    result = apply_plan(plan, folder / "plain.gguf", registry=registry)
    return Plain(model, bits, result.path, result, plan)


def data(plan: Plan, path: Path) -> dict[str, bytes]:
    raw = path.read_bytes()
    return {a.tensor.name: raw[a.offset : a.offset + a.nbytes] for a in plan.assignments}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("type_", ["Q8_0", "keep", "NVFP4"])
def test_the_file_is_that_of_a_model_that_stores_it(
    plain: Plain, name: str, threads: int, type_: str, tmp_path: Path, registry: Registry, monkeypatch: Any
) -> None:
    """Copied, encoded, and divided by factors for which a pass goes before."""
    monkeypatch.setattr(layout, "SLAB", 5000)
    monkeypatch.setattr(layout, "_BLOCK", 1000)
    expected_plan = plan_of(plain.model, registry, type_)
    expected = apply_plan(expected_plan, tmp_path / "expected.gguf", registry=registry)
    for how, source in expressions(tmp_path, plain.bits[name]).items():
        model = replace(plain.model, sources={**plain.model.sources, name: source})
        plan = plan_of(model, registry, type_)
        result = apply_plan(plan, tmp_path / "made.gguf", registry=registry, threads=threads, force=True)
        assert data(plan, result.path) == data(expected_plan, expected.path), how
        (leaf, *others) = source.leaves
        if not others:
            stored_bytes = b"".join(e.path.read_bytes()[e.offset : e.offset + e.nbytes] for e in leaf.extents)
            assert result.hashes[name] == xxhash.xxh3_128_hexdigest(stored_bytes), how
        verification = verify_file(result.path, registry=registry, source=model, sample=None)
        assert verification.ok, (how, verification.findings)


def test_an_older_file_is_copied_from(plain: Plain, name: str, tmp_path: Path, registry: Registry) -> None:
    for how, source in expressions(tmp_path, plain.bits[name]).items():
        model = replace(plain.model, sources={**plain.model.sources, name: source})
        plan = plan_of(model, registry)
        first = apply_plan(plan, tmp_path / "first.gguf", registry=registry, force=True)
        again = apply_plan(plan, tmp_path / "again.gguf", registry=registry, reuse=first.path, force=True)
        assert name in again.reused, how
        assert again.path.read_bytes() == first.path.read_bytes()


def test_what_isn_t_finite_is_named_by_its_place_in_the_outcome(
    plain: Plain, name: str, tmp_path: Path, registry: Registry
) -> None:
    bits = plain.bits[name].copy()
    bits[..., 21, 5] = 0x7FC0
    where = "expert 0, row 21, column 5" if bits.ndim == 3 else "row 21, column 5"
    for how, source in expressions(tmp_path, bits).items():
        model = replace(plain.model, sources={**plain.model.sources, name: source})
        with pytest.raises(NonFiniteError, match=f"nan at {where}") as error:
            apply_plan(plan_of(model, registry), tmp_path / "made.gguf", registry=registry)
        assert name in str(error.value), how


def fp8_folder(name: str, parent: Path, block: list[int] | None) -> Path:
    """A recorded folder with its projections in FP8."""
    folder = write_model(name, parent)
    file = folder / "model.safetensors"
    dtypes: dict[str, tuple[str, tuple[int, ...]]] = {}
    for tensor in read_safetensors_header(file).tensors.values():
        projection = tensor.name.endswith("proj.weight")
        dtypes[tensor.name] = ("F8_E4M3" if projection else "BF16", tensor.shape)
        if projection:
            height, cols = tensor.shape
            scales = () if block is None else (-(-height // block[0]), -(-cols // block[1]))
            dtypes[f"{tensor.name}_scale_inv"] = ("F32+", scales)
    write_tensors(file, dtypes, content)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8", "weight_block_size": block}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_tensors(
    path: Path, dtypes: dict[str, tuple[str, tuple[int, ...]]], make: Callable[[str, str, Any], bytes]
) -> None:
    header, blobs, offset = {}, [], 0
    for name, (dtype, shape) in dtypes.items():
        blobs.append(make(name, dtype, shape))
        span = [offset, offset + len(blobs[-1])]
        header[name] = {"dtype": stored_dtype(dtype), "shape": shape, "data_offsets": span}
        offset = span[1]
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"".join(blobs))


def numbers_folder(folder: Path, parent: Path) -> Path:
    """The same folder with BF16 in place of FP8, multiplied out by hand."""
    plain = write_model(folder.name, parent)
    tensors = open_checkpoint(folder).tensors
    raw = folder.joinpath("model.safetensors").read_bytes()

    def of(name: str) -> bytes:
        extent = tensors[name].extent
        return raw[extent.offset : extent.offset + extent.nbytes]

    def value(bits: int) -> float:
        sign, exponent, mantissa = bits >> 7, bits >> 3 & 15, bits & 7
        number = (8 + mantissa) * 2.0 ** (exponent - 10) if exponent else mantissa * 2.0**-9
        return -number if sign else number

    table = np.array([value(bits) for bits in range(256)], np.float32)
    config = json.loads((folder / "config.json").read_text())
    block = config["quantization_config"]["weight_block_size"]

    def make(name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
        if f"{name}_scale_inv" not in tensors:
            return of(name)
        values = table[np.frombuffer(of(name), np.uint8)].reshape(shape)
        scales = np.frombuffer(of(f"{name}_scale_inv"), "<f4").reshape(tensors[f"{name}_scale_inv"].shape)
        if block is not None:
            scales = scales.repeat(block[0], 0)[: shape[0]].repeat(block[1], 1)[:, : shape[1]]
        product = (values * scales).view(np.uint32).astype(np.uint64)
        return ((product + 0x7FFF + (product >> 16 & 1)) >> 16).astype("<u2").tobytes()

    dtypes = {name: ("BF16", it.shape) for name, it in tensors.items() if not name.endswith("_scale_inv")}
    write_tensors(plain / "model.safetensors", dtypes, make)
    return plain


class Counted(Silent):
    def __init__(self) -> None:
        self.read = self.weights = 0

    def advance(self, weights: int, read: int, written: int) -> None:
        self.weights += weights
        self.read += read


@pytest.mark.parametrize("name", ["llama-tied", "qwen2moe"])
@pytest.mark.parametrize("block", [[16, 32], [7, 5], None], ids=str)
def test_a_folder_in_fp8(name: str, block: list[int] | None, tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "fp8").mkdir()
    (tmp_path / "bf16").mkdir()
    folder = fp8_folder(name, tmp_path / "fp8", block)
    model = open_model(folder, registry=registry)
    other = open_model(numbers_folder(folder, tmp_path / "bf16"), registry=registry)
    assert model.tensors == other.tensors
    assert model.metadata == other.metadata
    assert any(isinstance(it, Fp8) and it.total_rows > it.rows for it in model.sources.values()) == (
        name == "qwen2moe"
    )
    for type_ in ("keep", "Q8_0"):
        plan, expected = plan_of(model, registry, type_), plan_of(other, registry, type_)
        made = apply_plan(expected, tmp_path / "expected.gguf", registry=registry, force=True)
        for threads in (1, 3):
            progress = Counted()
            result = apply_plan(
                plan,
                tmp_path / "made.gguf",
                registry=registry,
                threads=threads,
                force=True,
                progress=progress,
            )
            assert data(plan, result.path) == data(expected, made.path)
            assert progress.weights == sum(prod(tensor.shape) for tensor in model.tensors)
        verification = verify_file(result.path, registry=registry, source=model, sample=None)
        assert verification.ok, verification.findings
    if block == [16, 32]:  # blocks that divide the rows: nothing is read twice
        assert progress.read == sum(source.nbytes for source in model.sources.values())


def test_experts_are_never_in_memory_whole(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads are as long as a unit, or a row of blocks: of a stack of experts they are a small part."""
    sizes: list[int] = []
    real = TensorReader.read

    def read(self: TensorReader, extents: Any, begin: int, out: NDArray[np.uint8], **more: Any) -> None:
        sizes.append(out.nbytes)
        real(self, extents, begin, out, **more)

    monkeypatch.setattr(TensorReader, "read", read)
    model = open_model(fp8_folder("qwen2moe", tmp_path, [4, 32]), registry=registry)
    name = "blk.0.ffn_up_exps.weight"
    stream_of_one = replace(model, tensors=tuple(it for it in model.tensors if it.name == name))
    apply_plan(plan_of(stream_of_one, registry), tmp_path / "made.gguf", registry=registry)
    source = model.sources[name]
    assert sum(sizes) == source.nbytes
    assert max(sizes) <= 9 * COLS < source.total_rows * source.cols / 8


def test_a_scale_that_changed_is_found(tmp_path: Path, registry: Registry) -> None:
    """The hash of the source covers weights and scales."""
    folder = fp8_folder("llama-tied", tmp_path, [16, 32])
    model = open_model(folder, registry=registry)
    made = apply_plan(plan_of(model, registry), tmp_path / "made.gguf", registry=registry)
    scale = open_checkpoint(folder).tensors["model.layers.0.mlp.up_proj.weight_scale_inv"].extent
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(scale.offset)
        file.write(struct.pack("<f", 3.0))
    findings = verify_file(made.path, registry=registry, source=model, sample=None).findings
    assert [it.tensor for it in findings] == ["blk.0.ffn_up.weight"]
    assert "isn't what the file was made from" in findings[0].what
    assert "it shows in the result from row 0, block 0 on" in findings[0].what
