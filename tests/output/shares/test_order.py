"""An order travels, and is a plan again where it is opened; what isn't the same there is told."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.shared_work import KINDS, SMALL, plan_of_kind

from quantrecipe import __version__
from quantrecipe.api import Order, Outcome, Task
from quantrecipe.errors import ModelError, PluginError
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.shares import order as module
from quantrecipe.output.shares.folder import open_pieces
from quantrecipe.output.shares.into import Into, IntoFiles, IntoPieces
from quantrecipe.output.shares.order import order_of
from quantrecipe.output.shares.piece import read_piece
from quantrecipe.output.shares.travelling import loaded
from quantrecipe.output.shares.units import WorkUnit, cut
from quantrecipe.plan.plan import Plan
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def sent(order: Order) -> Order:
    return pickle.loads(pickle.dumps(order))


UNSEEN = IntoFiles(paths=[Path("no-such-folder/out.gguf")], token=b"", system=("", []), part_bytes=1)


def outcomes(plan: Plan, registry: Registry, units: tuple[WorkUnit, ...], into: Into) -> list[Outcome]:
    do = sent(order_of(plan, registry, nan="error", into=into)).open()
    return [do(Task(number=unit.number, given=unit)) for unit in units]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_made_is_what_the_file_has(kind: str, tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind(kind, tmp_path, registry)
    result = apply_plan(plan, tmp_path / "whole.gguf", registry=registry)
    files = [path.read_bytes() for path in result.paths]
    units, layout = cut(plan, SMALL), UNSEEN.layout(plan, placed=False)
    for unit, outcome in zip(units, outcomes(plan, registry, units, UNSEEN), strict=True):
        assert outcome.error is None
        assert outcome.result.sound
        assert not outcome.result.placed
        data = outcome.result.edges.tobytes()
        for segment in layout.of(unit).edges:
            begin, data = data[: segment.nbytes], data[segment.nbytes :]
            assert begin == files[segment.file][segment.begin : segment.end]
        assert data == b""


def test_the_vocabulary_stays_at_home(tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind("dense", tmp_path, registry)
    assert b"general.architecture" not in order_of(plan, registry, nan="error", into=UNSEEN).given["plan"]


def test_pieces_may_go_to_a_folder(tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind("dense", tmp_path, registry)
    pieces = open_pieces(tmp_path / "pieces", plan, nan="error", nbytes=SMALL)
    unit = pieces.units[2]
    (outcome,) = outcomes(plan, registry, (unit,), IntoPieces(folder=pieces.folder, run=pieces.run))
    assert read_piece(pieces.path(2), pieces.run) == outcome.result


def test_a_file_that_is_another_there_is_named(tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind("importance", tmp_path, registry)
    order = order_of(plan, registry, nan="error", into=UNSEEN)
    assert plan.importance is not None
    data = bytearray(plan.importance.path.read_bytes())
    data[-1] ^= 1
    plan.importance.path.write_bytes(data)
    with pytest.raises(
        ModelError, match=r"imatrix.gguf: isn't the same file on .* as where the command runs"
    ):
        order.open()
    plan.importance.path.unlink()
    with pytest.raises(ModelError, match=r"imatrix.gguf: can't be read"):
        order.open()


def test_it_needs_this_version_and_the_plugins_that_are_used(tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind("dense", tmp_path, registry)
    ours = registry.plugins[0]
    used, unused = (
        replace(
            ours, source=replace(ours.source, distribution=name, version="1.5"), formats=formats, encoders=()
        )
        for name, formats in (("used", ("Q8_0",)), ("unused", ("Q2_0",)))
    )
    more = replace(registry, plugins=(ours, used, unused))
    order = order_of(plan, more, nan="error", into=UNSEEN)
    assert order.packages == (("quantrecipe", __version__), ("used", "1.5"))
    with pytest.raises(PluginError, match=r"the worker on .* has no used; install used 1.5 there"):
        order.open()


def test_a_format_that_isn_t_there_is_named(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = order_of(plan_of_kind("dense", tmp_path, registry), registry, nan="error", into=UNSEEN)
    less = replace(registry, formats={name: it for name, it in registry.formats.items() if name != "Q4_K"})
    monkeypatch.setattr(module, "load_registry", lambda plugins: less)
    with pytest.raises(PluginError, match="'Q4_K'"):
        order.open()


def test_options_go_along(tmp_path: Path, registry: Registry) -> None:
    plan = plan_of_kind("feedback", tmp_path, registry)
    query = next(a for a in plan.assignments if a.tensor.name == "blk.0.attn_q.weight")
    assert query.encoder is not None
    assert query.encoder.options["damping"] == 0.01
    found = loaded(module._dumped(plan), registry)
    again = next(a for a in found.assignments if a.tensor.name == "blk.0.attn_q.weight")
    assert (again.encoder.name, dict(again.encoder.options)) == ("feedback", dict(query.encoder.options))
    assert again.format is query.format


def test_what_only_this_process_can_bring_is_refused(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "remote_file", lambda path: SimpleNamespace(identity=""))
    with pytest.raises(ModelError, match=r"llama.cpp's converter makes it for this process alone"):
        order_of(plan_of_kind("dense", tmp_path, registry), registry, nan="error", into=UNSEEN)
