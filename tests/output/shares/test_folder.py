"""A folder of pieces is of one run, and says how its work is cut; what isn't one is left alone."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.shared_work import SMALL, plan_of_kind

from quantrecipe.errors import OutputError
from quantrecipe.output.shares.folder import _check_of, open_pieces, pieces_path
from quantrecipe.output.shares.units import cut, unit_bytes
from quantrecipe.plan.plan import Plan
from quantrecipe.registry import load_registry


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of_kind("dense", tmp_path, load_registry(plugins=False))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pieces_path(tmp_path / "out.gguf")


def test_it_lies_beside_the_output() -> None:
    assert pieces_path(Path("a/out.gguf")) == Path("a/out.gguf.quantrecipe-pieces")


def test_who_comes_first_decides_how_the_work_is_cut(plan: Plan, folder: Path) -> None:
    first = open_pieces(folder, plan, nan="error", nbytes=SMALL, lease_seconds=5)
    second = open_pieces(folder, plan, nan="error", workers=7, lease_seconds=6, nbytes=1)
    assert first.units == second.units == cut(plan, SMALL)
    assert (first.run, second.lease_seconds) == (second.run, 5)
    assert [it.name for it in folder.iterdir()] == ["pieces.json"]


def test_without_more_said_the_number_of_workers_decides(plan: Plan, folder: Path) -> None:
    assert open_pieces(folder, plan, nan="error", workers=3).units == cut(plan, unit_bytes(plan, 3))


def test_several_that_come_at_once_agree(plan: Plan, folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: open_pieces(folder, plan, nan="error", nbytes=SMALL + n), range(8)))
    assert len({it.run for it in found}) == 1
    assert [it.name for it in folder.iterdir()] == ["pieces.json"]


def test_another_cut_is_another_run(plan: Plan, tmp_path: Path) -> None:
    runs = {open_pieces(tmp_path / f"p{n}", plan, nan="error", nbytes=n).run for n in (SMALL, SMALL + 1)}
    assert len(runs) == 2


def test_a_copy_of_the_model_from_another_day_is_the_same_run(plan: Plan, folder: Path) -> None:
    import os

    run = open_pieces(folder, plan, nan="error").run
    os.utime(plan.model.path, (1, 1))
    assert open_pieces(folder, plan, nan="error").run == run


@pytest.mark.parametrize("place", [0, 0.3, 0.5, 0.99])
def test_another_model_is_refused(plan: Plan, folder: Path, place: float) -> None:
    open_pieces(folder, plan, nan="error")
    data = bytearray(plan.model.path.read_bytes())
    begin = int(len(data) * place)
    for at in range(begin, min(len(data), begin + len(data) // 8)):  # as a file whose weights were trained on
        data[at] ^= 1
    plan.model.path.write_bytes(data)
    with pytest.raises(OutputError, match=r"has pieces of another model.*name another folder with --pieces"):
        open_pieces(folder, plan, nan="error")


def test_another_handling_of_nan_is_refused(plan: Plan, folder: Path) -> None:
    open_pieces(folder, plan, nan="error")
    with pytest.raises(OutputError, match="pieces of another --nan"):
        open_pieces(folder, plan, nan="allow")


def test_another_version_is_refused(plan: Plan, folder: Path) -> None:
    open_pieces(folder, plan, nan="error")
    said = json.loads((folder / "pieces.json").read_text())
    del said["check"]
    said["key"]["version"] = "0"
    (folder / "pieces.json").write_text(json.dumps(said | {"check": _check_of(said)}))
    with pytest.raises(OutputError, match="pieces of another version of quantrecipe"):
        open_pieces(folder, plan, nan="error")
    (folder / "pieces.json").write_text('{"quantrecipe-pieces": 1}')
    with pytest.raises(OutputError, match="pieces of another version of quantrecipe"):
        open_pieces(folder, plan, nan="error")


def test_a_damaged_marker_is_named(plan: Plan, folder: Path) -> None:
    open_pieces(folder, plan, nan="error")
    (folder / "pieces.json").write_text("{")
    with pytest.raises(OutputError, match=r"pieces.json is damaged"):
        open_pieces(folder, plan, nan="error")


def test_every_bit_of_the_marker_that_changes_is_named(plan: Plan, folder: Path) -> None:
    path, run = folder / "pieces.json", open_pieces(folder, plan, nan="error").run
    data, named = path.read_bytes(), 0
    for bit in range(0, 8 * len(data), 29):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            assert open_pieces(folder, plan, nan="error").run == run
        except OutputError as error:
            assert "pieces.json is damaged" in str(error)
            named += 1
    assert named > 0.9 * len(data) * 8 / 29


def test_a_folder_of_something_else_is_left_alone(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="isn't a folder of pieces, and isn't empty"):
        open_pieces(tmp_path, plan, nan="error")
    assert [it.name for it in tmp_path.iterdir()] == ["source.gguf"]


def test_there_has_to_be_one_to_assemble(plan: Plan, folder: Path) -> None:
    with pytest.raises(OutputError, match=r"has no pieces; make them first"):
        open_pieces(folder, plan, nan="error", create=False)
    assert not folder.exists()


def test_a_folder_that_can_t_be_made_is_named(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"can't write .*gone"):
        open_pieces(tmp_path / "gone/pieces", plan, nan="error")


def test_only_what_belongs_to_it_is_removed(plan: Plan, folder: Path) -> None:
    pieces = open_pieces(folder, plan, nan="error")
    for name in ("000001.piece", "old.piece", "000002.lease", "new-1", "here-1", "notes.txt"):
        (folder / name).touch()
    assert pieces.made() == {1}
    pieces.remove()
    assert [it.name for it in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    pieces.remove()
    assert not folder.exists()
