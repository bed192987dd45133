"""Where tensors lie in files: what is laid out is what is written, to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.models import llama_metadata, llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.errors import PlanError
from quantrecipe.gguf.header import read_header
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.registry import Registry, load_registry

MIX = recipe(rule("attn_v", "Q8_0"), rule("ffn_up_exps", "NVFP4"), default="Q4_K")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module", params=[32, 256])
def model(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("layout") / "m.gguf"
    metadata = llama_metadata(block_count=1) | {"x.tokens": GGUFValue.array(ValueType.STRING, ["word"] * 500)}
    tensors = llama_tensors(layers=1, experts=2)
    return open_model(write_gguf(path, tensors, metadata, alignment=request.param))


def plan_of(model: Model, registry: Registry, split: SplitLimits | None = None, **how: Any) -> Plan:
    return make_plan(MIX, model, registry=registry, split=split, **how)


def check(plan: Plan, alignment: int) -> None:
    """Every tensor begins at the next multiple of the alignment, and the file ends there."""
    for file in plan.files:
        end = file.header
        for a in file.assignments:
            assert a.offset == end
            assert a.offset % alignment == 0
            end = -(-(a.offset + a.nbytes) // alignment) * alignment
        assert file.nbytes == end


def test_one_file(model: Model, registry: Registry, tmp_path: Path) -> None:
    plan = plan_of(model, registry)
    check(plan, model.alignment)
    result = apply_plan(plan, tmp_path / "out.gguf", registry=registry)
    header = read_header(result.path)
    assert header.data_start == plan.files[0].header
    assert header.alignment == model.alignment
    assert result.path.stat().st_size == plan.nbytes


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(most=st.integers(170_000, 500_000), provenance=st.booleans())
def test_no_shard_is_larger_than_allowed_and_none_is_cut_early(
    model: Model, registry: Registry, most: int, provenance: bool
) -> None:
    plan = plan_of(model, registry, SplitLimits(max_bytes=most), provenance=provenance)
    check(plan, model.alignment)
    whole = plan_of(model, registry)
    assert [a.tensor.name for a in plan.assignments] == [a.tensor.name for a in whole.assignments]
    assert all(file.nbytes <= most for file in plan.files)
    for file, following in zip(plan.files, plan.files[1:], strict=False):
        room = most - file.nbytes
        assert following.assignments[0].nbytes + 400 + model.alignment > room, "it would have had room"


def test_a_limit_that_a_shard_just_keeps(model: Model, registry: Registry) -> None:
    """To the byte: a file that is as long as allowed is allowed."""
    plan = plan_of(model, registry, SplitLimits(max_bytes=300_000))
    longest = max(file.nbytes for file in plan.files)
    again = plan_of(model, registry, SplitLimits(max_bytes=longest))
    assert max(file.nbytes for file in again.files) == longest
    less = plan_of(model, registry, SplitLimits(max_bytes=longest - 1))
    assert max(file.nbytes for file in less.files) < longest


@pytest.mark.parametrize("provenance", [True, False])
@pytest.mark.parametrize("shard", [0, 1])
def test_a_shard_takes_every_tensor_that_fits_to_the_byte(
    model: Model, registry: Registry, provenance: bool, shard: int
) -> None:
    """The limit is what so many tensors take, or a byte less; the second shard's header is another one."""
    tried = 0
    for count in range(3, 12):
        file = plan_of(model, registry, SplitLimits(max_tensors=count), provenance=provenance).files[shard]
        names = [a.tensor.name for a in file.assignments]
        for most, fits in ((file.nbytes, True), (file.nbytes - 1, False)):
            try:
                files = plan_of(model, registry, SplitLimits(max_bytes=most), provenance=provenance).files
            except PlanError:
                continue  # another tensor alone is larger
            groups = [[a.tensor.name for a in it.assignments] for it in files]
            for group in groups:
                if group[0] == names[0] and (group is groups[0]) == (shard == 0):
                    tried += 1
                    assert (group[: len(names)] == names) is fits
    assert tried >= 2


@pytest.mark.parametrize("most", [1, 4, 16, 17, 100])
def test_how_many_tensors_a_shard_has(model: Model, registry: Registry, most: int) -> None:
    plan = plan_of(model, registry, SplitLimits(max_tensors=most))
    check(plan, model.alignment)
    counts = [len(file.assignments) for file in plan.files]
    assert all(count == most for count in counts[:-1])
    assert 0 < counts[-1] <= most
    assert sum(counts) == len(plan.assignments) == 14


def test_the_stricter_of_two_limits_counts(model: Model, registry: Registry) -> None:
    plan = plan_of(model, registry, SplitLimits(max_bytes=200_000, max_tensors=3))
    assert max(len(file.assignments) for file in plan.files) == 3
    assert max(file.nbytes for file in plan.files) <= 200_000
    assert min(len(file.assignments) for file in plan.files[:-1]) < 3


def test_marks(model: Model, registry: Registry) -> None:
    plan = plan_of(model, registry, SplitLimits(max_tensors=5))
    for number, file in enumerate(plan.files):
        marks = {key: value for key, value in file.metadata.items() if key.startswith("split.")}
        assert list(marks) == ["split.no", "split.tensors.count", "split.count"]
        assert marks["split.no"] == GGUFValue.of(ValueType.UINT16, number)
        assert marks["split.count"] == GGUFValue.of(ValueType.UINT16, 3)
        assert marks["split.tensors.count"] == GGUFValue.of(ValueType.INT32, 14)
    first, *others = plan.files
    assert "x.tokens" in first.metadata
    for file in others:
        keys = {key for key in file.metadata if not key.startswith("split.")}
        aligned = {"general.alignment"} if model.alignment != 32 else set()
        assert keys == {"quantrecipe.header.xxh3_64"} | aligned
        assert len(file.metadata["quantrecipe.header.xxh3_64"]) == len(file.metadata) - 1 + len(
            file.assignments
        )


def test_shards_of_the_source(model: Model, registry: Registry) -> None:
    """Tensors stay in their shards, and the order of the marks is llama-quantize's."""
    shards = {t.name: 2 if t.role.startswith("ffn") else 0 for t in model.tensors}
    mix = recipe(rule("attn_v", "Q8_0"), default="Q4_K")
    plan = make_plan(mix, model, registry=registry, split=SplitLimits(shards=shards))
    check(plan, model.alignment)
    first, second = plan.files
    assert {shards[a.tensor.name] for a in first.assignments} == {0}
    assert {shards[a.tensor.name] for a in second.assignments} == {2}
    keys = [key for key in second.metadata if key.startswith("split.")]
    assert keys == ["split.no", "split.count", "split.tensors.count"]
    assert second.metadata["split.count"].decode() == 2
    assert second.metadata["split.no"].decode() == 1


def test_the_least_limit_that_is_named_is_enough(model: Model, registry: Registry) -> None:
    with pytest.raises(PlanError, match=r"allow at least 1M") as error:
        plan_of(model, registry, SplitLimits(max_bytes=20_000))
    assert "more than the 20,000 that --split-max-size allows" in str(error.value)
    assert plan_of(model, registry, SplitLimits(max_bytes=1_000_000)).files
