"""Several plans in one pass, shards, and reuse of an older output: the same bytes as one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import xxhash
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.errors import ModelError, NonFiniteError, OutputError, PlanError
from quantrecipe.gguf.header import read_header
from quantrecipe.model.open_model import open_model
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output.apply import Result, apply_plan, apply_plans, output_paths
from quantrecipe.output.transform import Rows
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry, load_registry

MIXES = {
    "a": recipe(rule("attn_v", "Q8_0"), default="Q4_K"),
    "b": recipe(rule("attn_v", "Q6_K"), default="Q4_K"),
    "c": recipe(default="BF16"),
}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "source.gguf", llama_tensors(experts=2))


def plan(mix: Recipe, source: Path, registry: Registry, split: SplitLimits | None = None) -> Plan:
    return make_plan(mix, open_model(source, registry=registry), registry=registry, split=split)


class TestSeveralOutputs:
    def test_each_is_what_it_would_be_alone(self, source: Path, tmp_path: Path, registry: Registry) -> None:
        plans = {name: plan(mix, source, registry) for name, mix in MIXES.items()}
        together = apply_plans([(made, tmp_path / name) for name, made in plans.items()], registry=registry)
        for (name, made), result in zip(plans.items(), together, strict=True):
            alone = apply_plan(made, tmp_path / f"{name}-alone", registry=registry)
            assert result.path.read_bytes() == alone.path.read_bytes()
            assert result.hashes == alone.hashes

    def test_the_model_is_read_once_and_alike_tensors_are_quantized_once(
        self, source: Path, tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read: list[int] = []
        encoded: list[str] = []
        reads = TensorReader.read
        encode = Rows.encode
        monkeypatch.setattr(
            TensorReader,
            "read",
            lambda self, extents, begin, out, **more: (
                read.append(out.nbytes),
                reads(self, extents, begin, out, **more),
            )[1],
        )
        monkeypatch.setattr(
            Rows,
            "encode",
            lambda self, fmt, *rest, **more: (
                encoded.append(fmt.spec.name),
                encode(self, fmt, *rest, **more),
            )[1],
        )
        apply_plans(
            [(plan(MIXES[name], source, registry), tmp_path / name) for name in MIXES],
            registry=registry,
            threads=1,
        )
        model = open_model(source, registry=registry)
        assert sum(read) == sum(e.nbytes for s in model.sources.values() for e in s.extents)
        assert encoded.count("Q8_0") == encoded.count("Q6_K") == 2
        assert encoded.count("Q4_K") == 2 * (3 + 3 * 2) + 2  # once for a and b: attention, experts; both ends

    def test_one_name_can_t_be_written_twice(self, source: Path, tmp_path: Path, registry: Registry) -> None:
        made = plan(MIXES["a"], source, registry)
        with pytest.raises(OutputError, match="would be written twice"):
            apply_plans([(made, tmp_path / "x"), (made, tmp_path / "x")], registry=registry)

    def test_all_appear_or_none(self, source: Path, tmp_path: Path, registry: Registry) -> None:
        (tmp_path / "b").write_bytes(b"precious")
        with pytest.raises(OutputError, match="b exists"):
            apply_plans([(plan(MIXES[n], source, registry), tmp_path / n) for n in MIXES], registry=registry)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "source.gguf"]
        assert (tmp_path / "b").read_bytes() == b"precious"


def contents(result: Result) -> dict[str, bytes]:
    """Each tensor's data, by name, from all shards."""
    found = {}
    for path in result.paths:
        header, raw = read_header(path), path.read_bytes()
        rooms = header.rooms()
        for t in header.tensors:
            start = header.data_start + t.offset
            found[t.name] = raw[start : start + rooms[t.name]]
    return found


class TestShards:
    @pytest.mark.parametrize(
        "limits", [SplitLimits(max_tensors=5), SplitLimits(max_bytes=300_000), SplitLimits(max_tensors=1000)]
    )
    def test_together_they_hold_what_one_file_does(
        self, source: Path, tmp_path: Path, registry: Registry, limits: SplitLimits
    ) -> None:
        whole = apply_plan(plan(MIXES["a"], source, registry), tmp_path / "whole.gguf", registry=registry)
        made = plan(MIXES["a"], source, registry, limits)
        result = apply_plan(made, tmp_path / "out.gguf", registry=registry)
        assert contents(result) == contents(whole)
        assert [path.stat().st_size for path in result.paths] == [file.nbytes for file in made.files]
        if limits.max_bytes:
            assert max(file.nbytes for file in made.files) <= limits.max_bytes
            assert len(made.files) > 3
        else:
            assert max(len(file.assignments) for file in made.files) <= (limits.max_tensors or 0)
        again = open_model(result.path, registry=registry)
        assert {t.name for t in again.tensors} == {a.tensor.name for a in made.assignments}
        assert not [key for key in again.metadata if key.startswith("split.")]

    def test_names_and_marks_are_gguf_split_s(self, source: Path, tmp_path: Path, registry: Registry) -> None:
        made = plan(MIXES["a"], source, registry, SplitLimits(max_tensors=12))
        result = apply_plan(made, tmp_path / "out.gguf", registry=registry)
        assert [path.name for path in result.paths] == [
            f"out-{i:05d}-of-{len(result.paths):05d}.gguf" for i in range(1, len(result.paths) + 1)
        ]
        for number, path in enumerate(result.paths):
            marks = {k: v.decode() for k, v in read_header(path).metadata.items() if k.startswith("split.")}
            assert marks == {
                "split.no": number,
                "split.count": len(result.paths),
                "split.tensors.count": len(made.assignments),
            }
        assert "general.architecture" not in read_header(result.paths[1]).metadata

    def test_shards_of_the_model_can_be_kept(self, source: Path, tmp_path: Path, registry: Registry) -> None:
        split = plan(MIXES["c"], source, registry, SplitLimits(max_tensors=9))
        apply_plan(split, tmp_path / "split.gguf", registry=registry)
        first = output_paths(tmp_path / "split.gguf", len(split.files))[0]
        model = open_model(first, registry=registry)
        shards = {n: model.files.index(s.extents[0].path) for n, s in model.sources.items()}
        kept = make_plan(MIXES["a"], model, registry=registry, split=SplitLimits(shards=shards))
        assert [len(file.assignments) for file in kept.files] == [
            len(file.assignments) for file in split.files
        ]

    def test_a_tensor_that_fits_nowhere_is_named_with_the_least_limit(
        self, source: Path, registry: Registry
    ) -> None:
        with pytest.raises(PlanError, match=r"blk\.0\.ffn_\w+\.weight alone has .* bytes.*allow at least 1M"):
            plan(MIXES["a"], source, registry, SplitLimits(max_bytes=60_000))


class TestReuse:
    def test_what_is_unchanged_is_copied(self, source: Path, tmp_path: Path, registry: Registry) -> None:
        apply_plan(plan(MIXES["a"], source, registry), tmp_path / "old.gguf", registry=registry)
        made = plan(MIXES["b"], source, registry)
        fresh = apply_plan(made, tmp_path / "fresh.gguf", registry=registry)
        reused = apply_plan(made, tmp_path / "new.gguf", registry=registry, reuse=tmp_path / "old.gguf")
        assert reused.path.read_bytes() == fresh.path.read_bytes()
        again = {a.tensor.name for a in made.assignments if not a.copied} - set(reused.reused)
        assert again == {"blk.0.attn_v.weight", "blk.1.attn_v.weight"}

    def test_a_changed_source_is_quantized_again(self, tmp_path: Path, registry: Registry) -> None:
        tensors = llama_tensors()
        source = write_gguf(tmp_path / "source.gguf", tensors)
        apply_plan(plan(MIXES["a"], source, registry), tmp_path / "old.gguf", registry=registry)
        tensors["blk.1.ffn_up.weight"][7, 7] += 1
        write_gguf(source, tensors)
        made = plan(MIXES["a"], source, registry)
        reused = apply_plan(made, tmp_path / "new.gguf", registry=registry, reuse=tmp_path / "old.gguf")
        fresh = apply_plan(made, tmp_path / "fresh.gguf", registry=registry)
        assert reused.path.read_bytes() == fresh.path.read_bytes()
        assert "blk.1.ffn_up.weight" not in reused.reused
        assert "blk.0.ffn_up.weight" in reused.reused

    def test_from_shards_into_shards(self, source: Path, tmp_path: Path, registry: Registry) -> None:
        limits = SplitLimits(max_tensors=6)
        old = apply_plan(plan(MIXES["a"], source, registry, limits), tmp_path / "old.gguf", registry=registry)
        made = plan(MIXES["a"], source, registry)
        reused = apply_plan(made, tmp_path / "new.gguf", registry=registry, reuse=old.path)
        assert contents(reused) == contents(old)
        assert len(reused.reused) == sum(not a.copied for a in made.assignments)

    def test_data_that_isn_t_what_was_recorded_is_made_again(
        self, source: Path, tmp_path: Path, registry: Registry
    ) -> None:
        made = plan(MIXES["a"], source, registry)
        fresh = apply_plan(made, tmp_path / "old.gguf", registry=registry)
        damaged = bytearray(fresh.path.read_bytes())
        up = next(a for a in made.assignments if a.tensor.name == "blk.1.ffn_up_exps.weight")
        damaged[up.offset + 1000] ^= 1
        (tmp_path / "damaged.gguf").write_bytes(damaged)
        reused = apply_plan(made, tmp_path / "new.gguf", registry=registry, reuse=tmp_path / "damaged.gguf")
        assert reused.path.read_bytes() == fresh.path.read_bytes()
        assert "blk.1.ffn_up_exps.weight" not in reused.reused

    def test_the_record_says_what_was_written(self, source: Path, tmp_path: Path, registry: Registry) -> None:
        made = plan(MIXES["a"], source, registry)
        apply_plan(made, tmp_path / "out.gguf", registry=registry)
        raw = (tmp_path / "out.gguf").read_bytes()
        recorded = read_header(tmp_path / "out.gguf").metadata["quantrecipe.data.xxh3_128"].decode()
        assert recorded == [
            xxhash.xxh3_128_hexdigest(raw[a.offset : a.offset + a.nbytes]) for a in made.assignments
        ]

    def test_nan_is_found_in_what_would_be_copied(self, tmp_path: Path, registry: Registry) -> None:
        tensors = llama_tensors()
        tensors["blk.1.ffn_up.weight"][7, 7] = np.nan
        source = write_gguf(tmp_path / "source.gguf", tensors)
        made = plan(MIXES["a"], source, registry)
        apply_plan(made, tmp_path / "old.gguf", registry=registry, nan="allow")
        with pytest.raises(NonFiniteError, match="row 7, column 7"):
            apply_plan(made, tmp_path / "new.gguf", registry=registry, reuse=tmp_path / "old.gguf")

    def test_a_file_without_record_is_refused(self, source: Path, tmp_path: Path, registry: Registry) -> None:
        with pytest.raises(ModelError, match="doesn't say what its tensors were made from"):
            apply_plan(
                plan(MIXES["a"], source, registry), tmp_path / "new.gguf", registry=registry, reuse=source
            )


def names(paths: Sequence[Path]) -> list[str]:
    return [path.name for path in paths]


def test_output_paths() -> None:
    assert names(output_paths(Path("a.gguf"), 1)) == ["a.gguf"]
    assert names(output_paths(Path("a"), 2)) == ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"]
