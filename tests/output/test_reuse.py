"""What an older output offers, and what keeps it from being taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import xxhash
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.errors import ModelError
from quantrecipe.gguf.header import GGUFHeader, TensorEntry, read_header
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import Result, apply_plan
from quantrecipe.output.reuse import read_old_tensors
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.registry import Registry, load_registry

MIX = recipe(rule("attn_v", "Q8_0"), default="Q4_K")
RECORDS = ("encoding", "source", "data")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture
def plan(tmp_path: Path, registry: Registry) -> Plan:
    source = write_gguf(tmp_path / "source.gguf", llama_tensors(layers=1))
    return make_plan(MIX, open_model(source), registry=registry)


def sizes(plan: Plan) -> dict[str, int]:
    return {a.tensor.name: a.nbytes for a in plan.assignments}


def made(plan: Plan, folder: Path, registry: Registry) -> Result:
    return apply_plan(plan, folder / "old.gguf", registry=registry)


def rewritten(
    path: Path, header: GGUFHeader, metadata: dict[str, GGUFValue], tensors: list[TensorEntry]
) -> Path:
    """The same data behind another header."""
    data = path.read_bytes()[header.data_start :]
    other = path.with_name("other.gguf")
    other.write_bytes(encode_header(metadata, tensors) + data)
    return other


def test_each_tensor_with_its_place_and_its_digests(plan: Plan, tmp_path: Path, registry: Registry) -> None:
    result = made(plan, tmp_path, registry)
    found = read_old_tensors(result.path, sizes(plan))
    raw = result.path.read_bytes()
    assert list(found) == [a.tensor.name for a in plan.assignments]
    for a in plan.assignments:
        old = found[a.tensor.name]
        assert (old.extent.path, old.extent.offset, old.extent.nbytes) == (result.path, a.offset, a.nbytes)
        assert old.extent.file_size == len(raw)
        assert old.encoding == a.encoding
        assert old.source == result.hashes[a.tensor.name]
        assert old.data == xxhash.xxh3_128_hexdigest(raw[a.offset : a.offset + a.nbytes])


def test_of_shards(plan: Plan, tmp_path: Path, registry: Registry) -> None:
    split = make_plan(MIX, plan.model, registry=registry, split=SplitLimits(max_tensors=5))
    result = made(split, tmp_path, registry)
    found = read_old_tensors(result.path, sizes(plan))
    for file, path in zip(split.files, result.paths, strict=True):
        for a in file.assignments:
            assert (found[a.tensor.name].extent.path, found[a.tensor.name].extent.offset) == (path, a.offset)
            assert found[a.tensor.name].encoding == a.encoding


def test_what_nobody_wants_or_is_too_short_is_left_out(
    plan: Plan, tmp_path: Path, registry: Registry
) -> None:
    path = made(plan, tmp_path, registry).path
    wanted = sizes(plan)
    a = next(a for a in plan.assignments if a.nbytes % 32 == 0 and not a.copied)
    del wanted["output_norm.weight"]
    wanted[a.tensor.name] += 1
    assert set(read_old_tensors(path, wanted)) == set(sizes(plan)) - {"output_norm.weight", a.tensor.name}
    wanted[a.tensor.name] -= 1
    assert a.tensor.name in read_old_tensors(path, wanted)


@pytest.mark.parametrize("missing", RECORDS)
def test_a_file_without_one_of_the_records(
    plan: Plan, tmp_path: Path, registry: Registry, missing: str
) -> None:
    path = made(plan, tmp_path, registry).path
    header = read_header(path)
    metadata = {key: value for key, value in header.metadata.items() if missing not in key.split(".")}
    assert len(metadata) == len(header.metadata) - 1
    with pytest.raises(ModelError, match="doesn't say what its tensors were made from; --reuse takes files"):
        read_old_tensors(rewritten(path, header, metadata, list(header.tensors)), sizes(plan))


def test_a_file_that_another_program_has_taken_a_tensor_from(
    plan: Plan, tmp_path: Path, registry: Registry
) -> None:
    path = made(plan, tmp_path, registry).path
    header = read_header(path)
    count = len(header.tensors)
    other = rewritten(path, header, dict(header.metadata), list(header.tensors[:-1]))
    with pytest.raises(
        ModelError, match=rf"what {count} tensors were made from, and has {count - 1}: another program"
    ):
        read_old_tensors(other, sizes(plan))


@pytest.mark.parametrize("damaged", RECORDS)
def test_records_of_different_lengths(plan: Plan, tmp_path: Path, registry: Registry, damaged: str) -> None:
    path = made(plan, tmp_path, registry).path
    header = read_header(path)
    key = f"quantrecipe.{damaged}.xxh3_128"
    short = GGUFValue.array(ValueType.STRING, header.metadata[key].decode()[:-1])
    other = rewritten(path, header, {**header.metadata, key: short}, list(header.tensors))
    with pytest.raises(ModelError, match="doesn't say what its tensors were made from"):
        read_old_tensors(other, sizes(plan))


class TestWhatIsTaken:
    """Type, options, importance, source and data all have to be the same."""

    def reused(self, plan: Plan, old: Path, folder: Path, registry: Registry) -> set[str]:
        fresh = apply_plan(plan, folder / "fresh.gguf", registry=registry, force=True)
        result = apply_plan(plan, folder / "new.gguf", registry=registry, reuse=old, force=True)
        assert result.path.read_bytes() == fresh.path.read_bytes()
        return set(result.reused)

    def test_all_but_what_is_copied_from_the_source(
        self, plan: Plan, tmp_path: Path, registry: Registry
    ) -> None:
        old = made(plan, tmp_path, registry).path
        names = {a.tensor.name for a in plan.assignments if not a.copied}
        assert self.reused(plan, old, tmp_path, registry) == names

    def test_a_type_of_the_same_size_is_another_one(
        self, plan: Plan, tmp_path: Path, registry: Registry
    ) -> None:
        old = made(plan, tmp_path, registry).path
        other = make_plan(
            recipe(rule("attn_q", "Q4_0"), rule("attn_v", "Q8_0"), default="Q4_K"),
            plan.model,
            registry=registry,
        )
        found = self.reused(other, old, tmp_path, registry)
        assert "blk.0.attn_q.weight" not in found
        assert "blk.0.attn_k.weight" in found

    def test_of_what_was_read(self, plan: Plan, tmp_path: Path, registry: Registry) -> None:
        """The source once, since its hashes decide, and the older file's data."""
        old = made(plan, tmp_path, registry).path
        result = apply_plan(plan, tmp_path / "new.gguf", registry=registry, reuse=old)
        source = sum(e.nbytes for s in plan.model.sources.values() for e in s.extents)
        assert result.read == source + sum(a.nbytes for a in plan.assignments if not a.copied)
