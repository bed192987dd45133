"""The file of the pieces is the file of one run, to the byte; damage is named and made again."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.shared_work import KINDS, SMALL, plan_of_kind, same_files

from quantrecipe.errors import OutputError
from quantrecipe.output.apply import Result, apply_plan
from quantrecipe.output.partfile import part_path
from quantrecipe.output.shares.assemble import assemble
from quantrecipe.output.shares.folder import open_pieces, pieces_path
from quantrecipe.output.shares.leases import Leases
from quantrecipe.output.shares.part import Part, make_part
from quantrecipe.plan.plan import Plan
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "shared.gguf"


def made(plan: Plan, out: Path, registry: Registry, nbytes: int = SMALL, **more) -> Path:
    """All pieces."""
    part = Part(number=1, count=1)
    return make_part(plan, out, part, registry=registry, nbytes=nbytes, threads=1, **more).folder


def peace_of(plan: Plan, out: Path, registry: Registry, **more) -> Result:
    return apply_plan(plan, out.with_name("peace.gguf"), registry=registry, **more)


@pytest.mark.parametrize("nbytes", [SMALL, 10**9], ids=["in parts", "whole"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_file_of_one_run(
    kind: str, nbytes: int, out: Path, tmp_path: Path, registry: Registry
) -> None:
    plan = plan_of_kind(kind, tmp_path, registry)
    folder = made(plan, out, registry, nbytes)
    result = assemble(plan, out, make=False, registry=registry, threads=2)
    assert same_files(result, peace_of(plan, out, registry))
    assert (result.differing, result.read) == ((), 0)
    assert not folder.exists()
    assert not part_path(out).exists()
    assert bool(result.remarks) == kind.startswith("feedback")


def test_what_is_missing_is_made(out: Path, tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind("factors of experts", tmp_path, registry)
    folder = made(plan, out, registry)
    for path in sorted(folder.glob("*.piece"))[::3]:
        path.unlink()
    with pytest.raises(OutputError, match=r"units are missing in .*; run parts that make them, or leave out"):
        assemble(plan, out, make=False, registry=registry)
    assert not out.exists()
    result = assemble(plan, out, registry=registry)
    assert same_files(result, peace_of(plan, out, registry))
    assert result.read > 0


def test_what_somebody_is_at_is_told(out: Path, tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind("dense", tmp_path, registry)
    folder = made(plan, out, registry)
    (folder / "000002.piece").unlink()
    with (
        Leases(folder, "part 2/4 on node7").take(2),
        pytest.raises(OutputError, match=r"1 of \d+ units are missing .*; part 2/4 on node7 still at work"),
    ):
        assemble(plan, out, make=False, registry=registry)


def test_what_somebody_is_at_is_waited_for(out: Path, tmp_path: Path, registry: Registry) -> None:
    """Until it is made, or its lease is over."""
    plan = plan_of_kind("dense", tmp_path, registry)
    open_pieces(pieces_path(out), plan, nan="error", nbytes=SMALL, lease_seconds=0.5)
    folder = made(plan, out, registry)
    (folder / "000002.piece").unlink()
    (folder / "000002.lease").write_text('{"who": "lost", "token": "t"}')
    assert same_files(assemble(plan, out, registry=registry), peace_of(plan, out, registry))


@pytest.mark.parametrize("place", ["first byte", "last byte", "footer", "cut"])
def test_a_damaged_piece_is_named_and_made_again(
    place: str, out: Path, tmp_path: Path, registry: Registry
) -> None:
    plan = plan_of_kind("dense", tmp_path, registry)
    folder = made(plan, out, registry)
    unit = next(it for it in open_pieces(folder, plan, nan="error").units if it.ranges[:1] and it.number > 3)
    path = folder / f"{unit.number:06d}.piece"
    data = bytearray(path.read_bytes())
    at = {"first byte": 0, "last byte": unit.made_bytes - 1, "footer": len(data) - 9, "cut": 0}[place]
    data[at] ^= 1
    path.write_bytes(data[: unit.made_bytes // 2] if place == "cut" else data)
    with pytest.raises(OutputError, match=rf"{path.name} (has other bytes of|isn't as it was written)"):
        assemble(plan, out, make=False, registry=registry)
    assert path.exists()
    result = assemble(plan, out, registry=registry)
    assert result.differing == (unit.what,)
    assert same_files(result, peace_of(plan, out, registry))


def test_pieces_of_another_unit_or_run_are_not_used(out: Path, tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind("dense", tmp_path, registry)
    folder = made(plan, out, registry)
    (folder / "000001.piece").write_bytes((folder / "000002.piece").read_bytes())
    (tmp_path / "other").mkdir()
    other = plan_of_kind("factors", tmp_path / "other", registry)
    elsewhere = made(other, tmp_path / "other/x.gguf", registry)
    (folder / "000003.piece").write_bytes((elsewhere / "000003.piece").read_bytes())
    result = assemble(plan, out, registry=registry)
    assert len(result.differing) == 2
    assert same_files(result, peace_of(plan, out, registry))


def test_pieces_of_another_plan_are_refused(out: Path, tmp_path: Path, registry: Registry) -> None:
    made(plan_of_kind("dense", tmp_path, registry), out, registry)
    other = plan_of_kind("factors", tmp_path, registry)
    with pytest.raises(OutputError, match=r"has pieces of another plan"):
        assemble(other, out, registry=registry)
    with pytest.raises(OutputError, match=r"has pieces of another plan"):
        make_part(other, out, Part(number=1, count=2), registry=registry)


def test_without_pieces_there_is_nothing_to_assemble(out: Path, tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(OutputError, match="has no pieces; make them first"):
        assemble(plan_of_kind("dense", tmp_path, registry), out, registry=registry)
    assert not part_path(out).exists()


def test_a_file_that_exists_is_kept_and_so_are_the_pieces(
    out: Path, tmp_path: Path, registry: Registry
) -> None:
    plan = plan_of_kind("dense", tmp_path, registry)
    folder = made(plan, out, registry)
    out.write_text("precious")
    with pytest.raises(OutputError, match="exists"):
        assemble(plan, out, registry=registry)
    assert out.read_text() == "precious"
    assert same_files(assemble(plan, out, force=True, registry=registry), peace_of(plan, out, registry))
    assert not folder.exists()


def test_weights_that_lost_their_value_are_counted(out: Path, tmp_path: Path, registry: Registry) -> None:
    from support.models import llama_tensors, write_gguf
    from support.shared_work import MIX

    from quantrecipe.model.open_model import open_model
    from quantrecipe.planning import make_plan

    weights = llama_tensors(layers=1)
    for row in (3, 200, 500):
        weights["blk.0.ffn_up.weight"][row, 7] = float("nan")
    model = open_model(write_gguf(tmp_path / "nan.gguf", weights), registry=registry)
    plan = make_plan(MIX, model, registry=registry)
    made(plan, out, registry, nan="allow")
    result = assemble(plan, out, nan="allow", registry=registry)
    assert result.nonfinite == {"blk.0.ffn_up.weight": 3}
    assert same_files(result, peace_of(plan, out, registry, nan="allow"))


def test_pieces_may_lie_elsewhere(out: Path, tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind("dense", tmp_path, registry)
    made(plan, out, registry, pieces=tmp_path / "elsewhere")
    assert not pieces_path(out).exists()
    result = assemble(plan, out, pieces=tmp_path / "elsewhere", registry=registry)
    assert same_files(result, peace_of(plan, out, registry))
