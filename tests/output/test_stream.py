"""Tensors of several units of rows: the bytes, the counts and the errors are those of the whole."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.models import write_gguf
from support.recipes import recipe
from support.several_units import (
    COLS,
    LONG,
    METADATA,
    ROWS,
    expected,
    importance_file,
    importances,
    weights,
    written,
)

from quantrecipe.errors import NonFiniteError
from quantrecipe.importance.matrix import Importance
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.open_model import open_model
from quantrecipe.output import row_units
from quantrecipe.output.apply import apply_plan, apply_plans
from quantrecipe.output.partfile import part_path
from quantrecipe.output.row_units import split
from quantrecipe.output.verify.verify import verify_file
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import Registry, load_registry

MIX = """\
quantrecipe: 1
name: mix
default: Q4_K
rules:
  - {tensors: "{ffn_up_exps,head}", type: NVFP4, why: factors}
  - {tensors: ffn_down_exps, type: Q5_0, why: another type with importance}
"""
PRUNED = "quantrecipe: 1\nname: pruned\ndefault: Q4_K\nprune: 1\n"
UP = "blk.2.ffn_up_exps.weight"


@dataclass(frozen=True)
class Made:
    """A file, what it was made from, and by which plan."""

    source: Path
    importance: Importance
    values: dict[str, NDArray[np.float32]]
    plan: Plan
    path: Path


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Made:
    folder = tmp_path_factory.mktemp("several_units")
    source = write_gguf(folder / "source.gguf", weights(), METADATA)
    matrix = importance_file(folder / "imatrix.gguf")
    importance = read_importance(matrix)
    plan = plan_of(source, importance, registry)
    path = apply_plan(plan, folder / "made.gguf", registry=registry, threads=2).path
    return Made(source, importance, importances(matrix), plan, path)


def plan_of(source: Path, importance: Importance, registry: Registry, text: str = MIX) -> Plan:
    recipe = load_recipe_text(text, registry=registry)
    return make_plan(recipe, open_model(source), registry=registry, importance=importance)


def test_the_model_is_what_the_tests_are_about(made: Made) -> None:
    several = {a.tensor.name: len(list(split(a.tensor))) // a.tensor.experts for a in made.plan.assignments}
    assert {name for name, count in several.items() if count > 1} == {f"{name}.weight" for name in LONG}
    assert {a.type for a in made.plan.assignments if a.importance} == {"Q4_K", "Q5_0"}
    companions = {a.tensor.name: a.tensor.shape for a in made.plan.assignments if a.owner}
    assert companions["blk.2.ffn_up_exps.scale"] == (2,)
    assert companions["output.scale"] == (1,)


def test_the_bytes_are_those_of_whole_matrices(made: Made) -> None:
    assert written(made.plan, made.path) == expected(made.plan, weights(), made.values)


@pytest.mark.parametrize(("threads", "chunk"), [(1, COLS * 7), (3, 9999), (2, COLS * 100), (5, 1 << 24)])
def test_they_depend_on_neither_threads_nor_chunks(
    made: Made, tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, threads: int, chunk: int
) -> None:
    monkeypatch.setattr(row_units.split, "__defaults__", (1, chunk))
    result = apply_plan(made.plan, tmp_path / "out.gguf", registry=registry, threads=threads)
    assert result.path.read_bytes() == made.path.read_bytes()
    assert result.nonfinite == {}


def test_importance_follows_its_layer_where_others_are_pruned(
    made: Made, tmp_path: Path, registry: Registry
) -> None:
    plan = plan_of(made.source, made.importance, registry, PRUNED)
    assert {a.tensor.layer for a in plan.assignments} == {0, 1, None}
    result = apply_plan(plan, tmp_path / "pruned.gguf", registry=registry)

    def kept(all_of: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        others = {name: it for name, it in all_of.items() if not name.startswith("blk.1.")}
        return {name.replace("blk.2.", "blk.1."): it for name, it in others.items()}

    assert written(plan, result.path) == expected(plan, kept(weights()), kept(made.values))
    model = open_model(made.source)
    verification = verify_file(
        result.path, registry=registry, source=model, importance=made.importance, sample=None
    )
    assert verification.ok


def test_several_outputs_at_once(made: Made, tmp_path: Path, registry: Registry) -> None:
    other = make_plan(recipe(default="Q8_0"), open_model(made.source), registry=registry)  # no importance
    first, second = apply_plans(
        [(made.plan, tmp_path / "a.gguf"), (other, tmp_path / "b.gguf")], registry=registry, threads=2
    )
    assert first.path.read_bytes() == made.path.read_bytes()
    assert written(other, second.path) == expected(other, weights(), {})


class TestAPartThatAStoppedRunLeft:
    """It has the size of what is written now, so only its bytes could give it away."""

    def test_none_of_its_bytes_stay(self, made: Made, tmp_path: Path, registry: Registry) -> None:
        path = tmp_path / "out.gguf"
        part_path(path).write_bytes(b"\xa5" * made.plan.nbytes)
        assert apply_plan(made.plan, path, registry=registry).path.read_bytes() == made.path.read_bytes()
        assert not part_path(path).exists()

    def test_what_is_between_tensors_is_zero(self, made: Made) -> None:
        raw = made.path.read_bytes()
        ends = [*((a.offset, a.offset + a.nbytes) for a in made.plan.assignments), (len(raw), 0)]
        gaps = [raw[end:start] for (_, end), (start, _) in pairwise(ends)]
        assert b"".join(gaps).strip(b"\0") == b""
        assert any(gaps)  # companions of two floats are padded


class TestReuse:
    def test_all_is_copied(self, made: Made, tmp_path: Path, registry: Registry) -> None:
        result = apply_plan(made.plan, tmp_path / "out.gguf", registry=registry, reuse=made.path)
        assert result.path.read_bytes() == made.path.read_bytes()
        names = {a.tensor.name for a in made.plan.assignments if not a.copied and a.owner is None}
        # formats with factors are made again: the factors have to be known
        factors = {a.owner for a in made.plan.assignments if a.owner}
        assert set(result.reused) == names - factors
        assert len(result.reused) == len(set(result.reused))

    @pytest.mark.parametrize("row", [0, ROWS - 1])
    def test_a_source_that_changed_in_any_unit_is_quantized_again(
        self, made: Made, tmp_path: Path, registry: Registry, row: int
    ) -> None:
        tensors = weights()
        gate = "blk.2.ffn_gate_exps.weight"
        tensors[gate][1, row, 5] += 1
        source = write_gguf(tmp_path / "source.gguf", tensors, METADATA)
        plan = plan_of(source, made.importance, registry)
        result = apply_plan(plan, tmp_path / "out.gguf", registry=registry, reuse=made.path)
        assert written(plan, result.path) == expected(plan, tensors, made.values)
        assert gate not in result.reused
        assert "blk.2.ffn_down_exps.weight" in result.reused

    @pytest.mark.parametrize("last", [False, True])
    def test_a_copy_that_is_damaged_in_any_unit_is_made_again(
        self, made: Made, tmp_path: Path, registry: Registry, last: bool
    ) -> None:
        gate = next(a for a in made.plan.assignments if a.tensor.name == "blk.2.ffn_gate_exps.weight")
        raw = bytearray(made.path.read_bytes())
        raw[gate.offset + (gate.nbytes - 1 if last else 20)] ^= 1
        (tmp_path / "old.gguf").write_bytes(raw)
        result = apply_plan(made.plan, tmp_path / "out.gguf", registry=registry, reuse=tmp_path / "old.gguf")
        assert result.path.read_bytes() == made.path.read_bytes()
        assert gate.tensor.name not in result.reused


class TestVerify:
    def findings(
        self, path: Path, made: Made, registry: Registry, source: Path | None = None
    ) -> list[tuple[str, str | None, str]]:
        """Check, tensor and sentence of all that is wrong; every tensor is made again."""
        found = verify_file(
            path,
            registry=registry,
            source=open_model(source or made.source),
            importance=made.importance,
            sample=None,
        )
        assert len(found.requantized) == len(made.plan.assignments)
        return [(check.name, it.tensor, it.what) for check in found.checks for it in check.findings]

    def test_the_whole_file_is_made_again(self, made: Made, registry: Registry) -> None:
        assert self.findings(made.path, made, registry) == []

    @pytest.mark.parametrize("last", [False, True])
    @pytest.mark.parametrize("name", [UP, "blk.2.ffn_up_exps.scale", "output.weight"])
    def test_a_wrong_byte_of_any_unit_is_found(
        self, made: Made, tmp_path: Path, registry: Registry, name: str, last: bool
    ) -> None:
        it = next(a for a in made.plan.assignments if a.tensor.name == name)
        at = it.offset + (it.nbytes - 1 if last else 0)
        raw = bytearray(made.path.read_bytes())
        raw[at] ^= 1
        (tmp_path / "damaged.gguf").write_bytes(raw)
        ((check, tensor, said),) = self.findings(tmp_path / "damaged.gguf", made, registry)
        assert (check, tensor) == ("payload", name)
        assert f"1 byte differs, the first at byte {at:,} (" in said

    @pytest.mark.parametrize("row", [0, ROWS - 1])
    def test_another_source_is_found(self, made: Made, tmp_path: Path, registry: Registry, row: int) -> None:
        tensors = weights()
        tensors[UP][0, row, 9] += 1
        source = write_gguf(tmp_path / "source.gguf", tensors, METADATA)
        ((check, tensor, said),) = self.findings(made.path, made, registry, source)
        assert (check, tensor) == ("source", UP)
        assert f"it shows in the result from expert 0, row {row}, block 0 on" in said


class TestNotFinite:
    """One weight in the first unit of an expert, and one in the last unit of the other."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        tensors = weights()
        for name in (UP, "blk.2.ffn_gate_exps.weight"):
            tensors[name][0, 2, 30] = np.nan
            tensors[name][1, ROWS - 1, 31] = np.inf
        return write_gguf(tmp_path / "source.gguf", tensors, METADATA)

    @pytest.mark.parametrize("reuse", [False, True])
    def test_all_units_are_counted(
        self, source: Path, made: Made, tmp_path: Path, registry: Registry, reuse: bool
    ) -> None:
        plan = plan_of(source, made.importance, registry)
        old = made.path if reuse else None
        result = apply_plan(plan, tmp_path / "out.gguf", registry=registry, nan="allow", reuse=old)
        assert result.nonfinite == {"blk.2.ffn_gate_exps.weight": 2, UP: 2}
        zeroed = weights()
        for name in (UP, "blk.2.ffn_gate_exps.weight"):
            zeroed[name][0, 2, 30] = zeroed[name][1, ROWS - 1, 31] = 0
        assert written(plan, result.path) == expected(plan, zeroed, made.values)

    @pytest.mark.parametrize("threads", [1, 4])
    def test_the_first_one_is_named(
        self, source: Path, made: Made, tmp_path: Path, registry: Registry, threads: int
    ) -> None:
        plan = plan_of(source, made.importance, registry)
        with pytest.raises(NonFiniteError, match=r"exps\.weight: nan at expert 0, row 2, column 30"):
            apply_plan(plan, tmp_path / "out.gguf", registry=registry, threads=threads)
        assert [path.name for path in tmp_path.iterdir()] == ["source.gguf"]

    def test_one_in_the_last_unit_is_named(self, made: Made, tmp_path: Path, registry: Registry) -> None:
        tensors = weights()
        tensors["output.weight"][ROWS - 1, 4] = np.nan
        source = write_gguf(tmp_path / "source.gguf", tensors, METADATA)
        with pytest.raises(NonFiniteError, match=rf"output\.weight: nan at row {ROWS - 1}, column 4"):
            apply_plan(plan_of(source, made.importance, registry), tmp_path / "out.gguf", registry=registry)
