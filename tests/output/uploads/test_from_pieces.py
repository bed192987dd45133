"""A file that goes from pieces to a store is the one of a single run; what is damaged or missing is made, or told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.shared_work import KINDS, SMALL, plan_of_kind

from quantrecipe.errors import OutputError
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.shares.folder import open_pieces
from quantrecipe.output.shares.part import Part, make_part
from quantrecipe.output.uploads.from_pieces import Content, assemble_to
from quantrecipe.output.uploads.upload import Sent
from quantrecipe.plan.plan import Plan
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


class Store:
    """What was sent, each time."""

    def __init__(self) -> None:
        self.sent: list[list[bytes]] = []

    def send(self, contents: Sequence[Content]) -> tuple[Sent, ...]:
        self.sent.append([b"".join(it()) for it in contents])
        return ()


def made(plan: Plan, folder: Path, registry: Registry) -> Path:
    pieces = folder / "pieces"
    open_pieces(pieces, plan, nan="error", nbytes=SMALL)
    make_part(plan, folder / "out.gguf", Part(number=1, count=1), registry=registry, pieces=pieces)
    return pieces


def in_peace(plan: Plan, folder: Path, registry: Registry) -> tuple[list[bytes], Any]:
    result = apply_plan(plan, folder / "peace.gguf", registry=registry)
    return [path.read_bytes() for path in result.paths], result


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_are_those_of_one_run(kind: str, tmp_path: Path, registry: Registry) -> None:
    plan, store = plan_of_kind(kind, tmp_path, registry), Store()
    pieces = made(plan, tmp_path, registry)
    result, _ = assemble_to(plan, store.send, pieces, make=False, registry=registry)
    expected, peace = in_peace(plan, tmp_path, registry)
    assert store.sent == [expected]
    assert (result.hashes, result.nonfinite) == (peace.hashes, peace.nonfinite)
    assert not pieces.exists()
    assert result.paths == ()


def test_what_is_missing_is_made_or_told(tmp_path: Path, registry: Registry) -> None:
    plan, store = plan_of_kind("dense", tmp_path, registry), Store()
    pieces = made(plan, tmp_path, registry)
    (pieces / "000002.piece").unlink()
    with pytest.raises(OutputError, match=r"1 of .* units are missing"):
        assemble_to(plan, store.send, pieces, make=False, registry=registry)
    assert store.sent == []
    assemble_to(plan, store.send, pieces, registry=registry)
    assert store.sent == [in_peace(plan, tmp_path, registry)[0]]


@pytest.mark.parametrize("number", [0, 2, 5])
def test_a_piece_with_other_bytes_is_made_again_and_told(
    number: int, tmp_path: Path, registry: Registry
) -> None:
    """The first tries end in the middle of a file; the upload gives it up."""
    plan, store = plan_of_kind("dense", tmp_path, registry), Store()
    pieces = made(plan, tmp_path, registry)
    path = pieces / f"{number:06d}.piece"
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(OutputError, match=r"has other bytes of .* than were written"):
        assemble_to(plan, store.send, pieces, make=False, registry=registry)
    assert store.sent == []
    result, _ = assemble_to(plan, store.send, pieces, registry=registry)
    assert store.sent == [in_peace(plan, tmp_path, registry)[0]]
    assert len(result.differing) == 1


def test_pieces_stay_where_they_can_t_be_sent(tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind("dense", tmp_path, registry)
    pieces = made(plan, tmp_path, registry)

    def broken(contents: Sequence[Content]) -> tuple[Sent, ...]:
        next(contents[0]())
        raise OutputError("the store is away", "try later")

    with pytest.raises(OutputError, match="the store is away"):
        assemble_to(plan, broken, pieces, registry=registry)
    store = Store()
    assemble_to(plan, store.send, pieces, make=False, registry=registry)
    assert store.sent == [in_peace(plan, tmp_path, registry)[0]]
