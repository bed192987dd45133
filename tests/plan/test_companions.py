"""NVFP4's factors: planned as tensors, written beside their matrices, and right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from support.models import llama_metadata, llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.errors import ModelError, PlanError
from quantrecipe.gguf.header import read_header
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.open_model import open_model
from quantrecipe.model.source.layout import rows
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.verify.verify import verify_file
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import Registry, load_registry

MIX = recipe(rule("{attn_q,ffn_up,ffn_up_exps}", "NVFP4", optional=True), default="Q8_0")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.mark.parametrize("experts", [0, 3])
@pytest.mark.parametrize("sigma", [1e-4, 0.05, 30.0])
def test_weights_of_any_size_come_back(
    tmp_path: Path, registry: Registry, experts: int, sigma: float
) -> None:
    tensors = llama_tensors(layers=1, experts=experts)
    role = "ffn_up_exps" if experts else "ffn_up"
    weights = tensors[f"blk.0.{role}.weight"] * np.float32(sigma / 0.05)
    if experts:
        weights *= np.array([1, 10, 0.01], np.float32).reshape(3, 1, 1)
    tensors[f"blk.0.{role}.weight"] = weights
    source = write_gguf(tmp_path / "source.gguf", tensors, type_="F32")
    plan = make_plan(MIX, open_model(source, registry=registry), registry=registry)
    path = apply_plan(plan, tmp_path / "out.gguf", registry=registry).path
    assert path.stat().st_size == plan.nbytes
    header, raw = read_header(path), path.read_bytes()
    stored = {t.name: header.data_start + t.offset for t in header.tensors}
    count = max(experts, 1)
    factors = np.frombuffer(raw, "<f4", count, stored[f"blk.0.{role}.scale"])
    up = next(a for a in plan.assignments if a.tensor.name == f"blk.0.{role}.weight")
    data = np.frombuffer(raw, np.uint8, up.nbytes, up.offset).reshape(-1, up.format.spec.row_bytes(256))
    back = up.format.decode(data, 256).reshape(count, -1) * factors[:, None]
    for expert, original in zip(back, weights.reshape(count, -1), strict=True):
        error = np.linalg.norm(expert - original) / np.linalg.norm(original)
        assert error < up.format.spec.error_bound


def test_the_plan_sees_them(tmp_path: Path, registry: Registry) -> None:
    source = write_gguf(tmp_path / "source.gguf", llama_tensors(experts=2))
    made = make_plan(MIX, open_model(source, registry=registry), registry=registry)
    factors = {a.tensor.name: a for a in made.assignments if a.owner}
    assert set(factors) == {f"blk.{i}.{role}.scale" for i in (0, 1) for role in ("attn_q", "ffn_up_exps")}
    assert factors["blk.1.ffn_up_exps.scale"].tensor.shape == (2,)
    assert factors["blk.1.attn_q.scale"].nbytes == 4


def test_the_factors_of_a_quantized_matrix_are_copied_with_it_or_multiplied_in(
    tmp_path: Path, registry: Registry
) -> None:
    """Then they aren't written: llama.cpp would multiply by them once more."""
    tensors = llama_tensors(experts=2)
    tensors["blk.1.ffn_up_exps.weight"][1] *= 10
    source = write_gguf(tmp_path / "source.gguf", tensors)
    plan = make_plan(MIX, open_model(source, registry=registry), registry=registry)
    apply_plan(plan, tmp_path / "nvfp4.gguf", registry=registry)
    again = open_model(tmp_path / "nvfp4.gguf", registry=registry)
    copied = make_plan(recipe(), again, registry=registry)
    assert all(a.copied for a in copied.assignments)
    roles = ("attn_q", "ffn_up_exps")
    mix = load_recipe_text(
        "quantrecipe: 1\nname: decoded\nrules:\n- {tensors: '{attn_q,ffn_up_exps}', type: F32, why: a}\n",
        registry=registry,
    )
    decoded = make_plan(mix, again, registry=registry, allow_requantize=True)
    left = {tensor.name for tensor in again.tensors} - {a.tensor.name for a in decoded.assignments}
    assert left == {f"blk.{layer}.{role}.scale" for layer in (0, 1) for role in roles}
    apply_plan(decoded, tmp_path / "decoded.gguf", registry=registry)
    blocks, numbers = (
        {tensor.name: tensor.data for tensor in GGUFReader(tmp_path / name).tensors}
        for name in ("nvfp4.gguf", "decoded.gguf")
    )
    for role in roles:
        stored, factors = blocks[f"blk.1.{role}.weight"], blocks[f"blk.1.{role}.scale"].reshape(-1, 1, 1)
        assert len(set(factors.flat)) == (1 if role == "attn_q" else 2)
        plain = registry.format("NVFP4").decode(stored.reshape(-1, stored.shape[-1]), 256)
        expected = plain.reshape(len(factors), -1, 256) * factors
        assert np.array_equal(numbers[f"blk.1.{role}.weight"].reshape(expected.shape), expected)
    verification = verify_file(tmp_path / "decoded.gguf", source=again, registry=registry, sample=None)
    assert verification.ok
    assert {"blk.1.attn_q.weight", "blk.0.ffn_up_exps.weight"} <= set(verification.requantized)


def test_too_few_factors(tmp_path: Path, registry: Registry) -> None:
    """A file of somebody else's, with one for a stack of two."""
    source = write_gguf(tmp_path / "source.gguf", llama_tensors(layers=1, experts=2))
    plan = make_plan(MIX, open_model(source, registry=registry), registry=registry)
    again = open_model(apply_plan(plan, tmp_path / "nvfp4.gguf", registry=registry).path, registry=registry)
    name = "blk.0.ffn_up_exps.scale"
    sources = {**again.sources, name: rows(again.sources[name], 0, 1)}
    wrong = replace(again, sources=sources)
    decoded = make_plan(recipe(rule("ffn_up_exps", "Q8_0")), wrong, registry=registry, allow_requantize=True)
    with pytest.raises(ModelError, match=rf"{name} has 1 factors \(expected: 2, one for each matrix"):
        apply_plan(decoded, tmp_path / "decoded.gguf", registry=registry)


def test_architectures_that_ignore_the_factors_are_refused(tmp_path: Path, registry: Registry) -> None:
    metadata = llama_metadata() | {"general.architecture": GGUFValue.of(ValueType.STRING, "gemma3")}
    source = write_gguf(tmp_path / "source.gguf", llama_tensors(), metadata)
    with pytest.raises(PlanError, match=r"llama\.cpp doesn't multiply the feed-forward matrices of 'gemma3'"):
        make_plan(recipe(rule("ffn_up", "NVFP4")), open_model(source, registry=registry), registry=registry)


def test_a_bias_is_refused(tmp_path: Path, registry: Registry) -> None:
    tensors = llama_tensors() | {"blk.0.ffn_up.bias": np.zeros(512, np.float32)}
    source = write_gguf(tmp_path / "source.gguf", tensors)
    with pytest.raises(PlanError, match="refuses its factors where there is a bias"):
        make_plan(recipe(rule("ffn_up", "NVFP4")), open_model(source, registry=registry), registry=registry)


@pytest.mark.parametrize("name", ["blk.0.attn_q.scale", "blk.1.ffn_up.scale"])
def test_a_tensor_that_has_a_companion_s_name_is_refused(
    tmp_path: Path, registry: Registry, name: str
) -> None:
    tensors = llama_tensors() | {name: np.ones(1, np.float32)}
    source = write_gguf(tmp_path / "source.gguf", tensors)
    owner = name.replace(".scale", ".weight")
    with pytest.raises(
        PlanError,
        match=rf"the model has a tensor {name} already, where {owner} would keep its factors",
    ):
        make_plan(MIX, open_model(source), registry=registry)
    mix = recipe(default="Q8_0")
    assert name in {a.tensor.name for a in make_plan(mix, open_model(source), registry=registry).assignments}


def test_companions_stand_beside_their_matrices(tmp_path: Path, registry: Registry) -> None:
    source = write_gguf(tmp_path / "source.gguf", llama_tensors(layers=1))
    plan = make_plan(MIX, open_model(source), registry=registry)
    names = [a.tensor.name for a in plan.assignments]
    for a in plan.assignments:
        if a.owner is not None:
            assert names.index(a.tensor.name) == names.index(a.owner) - 1  # "scale" comes before "weight"
    assert len(names) == len(set(names))


def test_where_the_shards_are_kept_they_go_with_their_owners(tmp_path: Path, registry: Registry) -> None:
    """Shards in another order than that of the names, as nobody promises it."""
    source = open_model(write_gguf(tmp_path / "source.gguf", llama_tensors(layers=4)), registry=registry)
    shards = {t.name: 0 if t.layer in (2, 3) else 1 for t in source.tensors}
    text = "quantrecipe: 1\ndefault: Q8_0\nrules: [{tensors: attn_q, type: NVFP4}]"
    mix = load_recipe_text(text, registry=registry)
    made = make_plan(mix, source, registry=registry, split=SplitLimits(shards=shards))
    for number, file in enumerate(made.files):
        assert {shards[a.owner or a.tensor.name] for a in file.assignments} == {number}
    path = apply_plan(made, tmp_path / "out.gguf", registry=registry).path
    found = verify_file(path, registry=registry, source=source)
    assert found.ok, found.findings


def test_an_older_file_knows_nothing_of_the_factors(tmp_path: Path, registry: Registry) -> None:
    """The blocks are the same, and a factor isn't: what was made of both is made again."""
    source = write_gguf(tmp_path / "source.gguf", llama_tensors(layers=1))
    plan = make_plan(MIX, open_model(source, registry=registry), registry=registry)
    path = apply_plan(plan, tmp_path / "nvfp4.gguf", registry=registry).path

    def decoded(name: str, **how: Path) -> bytes:
        again = open_model(path, registry=registry)
        made = make_plan(recipe(rule("attn_q", "Q8_0")), again, registry=registry, allow_requantize=True)
        return apply_plan(made, tmp_path / name, registry=registry, **how).path.read_bytes()

    before = decoded("old.gguf")
    header = read_header(path)
    (place,) = (header.data_start + t.offset for t in header.tensors if t.name == "blk.0.attn_q.scale")
    with path.open("r+b") as file:
        file.seek(place)
        file.write(np.float32(3).tobytes())
    after = decoded("new.gguf")
    assert after != before
    assert decoded("reused.gguf", reuse=tmp_path / "old.gguf") == after
