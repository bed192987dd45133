"""What a run keeps beside the parts that it has sent: read again by the same run, and by no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xxhash
from support import object_server
from support.elsewhere import example_in_store
from support.object_server import ObjectServer
from support.shared_work import SMALL, plan_of_kind

from quantrecipe.errors import OutputError
from quantrecipe.model.objects import ObjectAddress
from quantrecipe.output.shares.layout import Layout
from quantrecipe.output.shares.make import MadeRange, MadeUnit
from quantrecipe.output.shares.units import WorkUnit, cut
from quantrecipe.output.uploads.into_upload import UploadedUnit
from quantrecipe.output.uploads.kept_parts import JOURNAL, KeptParts
from quantrecipe.registry import load_registry

REGISTRY = load_registry(plugins=False)
KEY = {
    name: f"a {name}"
    for name in (
        "version",
        "model",
        "importance",
        "statistics",
        "encoders",
        "recipe",
        "plan",
        "nan",
        "addresses",
    )
}
store = pytest.fixture(example_in_store)


@pytest.fixture(autouse=True)
def small_parts(store: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_server, "LEAST_PART", 0)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(plan_of_kind("dense", tmp_path, REGISTRY), 10_000)


@pytest.fixture
def units(tmp_path: Path) -> tuple[WorkUnit, ...]:
    return cut(plan_of_kind("dense", tmp_path, REGISTRY), SMALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "out.gguf.quantrecipe-upload"
    found.mkdir()
    return found


def begun(folder: Path, layout: Layout) -> KeptParts:
    kept = KeptParts(folder, KEY, layout)
    kept.begin([ObjectAddress.parse("s3://bucket/made/out.gguf")])
    kept.add_cut(SMALL)
    return kept


def uploaded(kept: KeptParts, layout: Layout, unit: WorkUnit) -> UploadedUnit:
    """A unit whose bytes are its number."""
    found = layout.of(unit)
    edges = np.full(found.edge_bytes, unit.number, np.uint8)
    parts = tuple(
        (0, kept.uploads[0].send(layout.place(piece)[1], bytes([unit.number]) * piece.nbytes))
        for own in found.own
        for piece in layout.by_part(own)
    )
    name = unit.ranges[0].tensor
    told = MadeRange(
        tensor=name, start=0, stop=2, offset=0, nbytes=9, data="ab", remarks=("odd",), said=((1, "odd"),)
    )
    made = MadeUnit(
        number=unit.number, nbytes=9, ranges=(told,), sources=((name, "cd"),), problems=("a problem",)
    )
    return UploadedUnit(
        made=made, edges=edges, digest=xxhash.xxh3_128_hexdigest(edges.data), placed=True, parts=parts
    )


def test_the_next_run_finds_what_was_kept(folder: Path, layout: Layout, units: tuple[WorkUnit, ...]) -> None:
    kept = begun(folder, layout)
    done = [uploaded(kept, layout, unit) for unit in units[:3]]
    for it in done:
        kept.add_unit(it)
    kept.keep()
    again = KeptParts(folder, KEY, layout)
    again.settle(units)
    assert (again.cut, again.other, again.empty) == (SMALL, "", False)
    assert again.uploads == kept.uploads
    assert again.made == {it.made.number: it.made for it in done}
    assert again.parts == kept.parts
    assert again.edges(2) == done[2].edges.tobytes()
    again.keep()


@pytest.mark.parametrize("shared", [False, True], ids=["edges", "sent"])
def test_a_unit_without_its_edges_is_done_if_they_are_sent(
    shared: bool, folder: Path, layout: Layout, units: tuple[WorkUnit, ...]
) -> None:
    kept = begun(folder, layout)
    done = uploaded(kept, layout, units[2])
    kept.add_unit(done)
    edges = layout.of(units[2]).edges
    assert edges
    for edge in edges if shared else edges[1:]:
        number = layout.place(edge)[1]
        kept.add_part(0, kept.uploads[0].send(number, bytes(layout.part(0, number).nbytes)))
    kept.remove_edges(2)
    kept.keep()
    again = KeptParts(folder, KEY, layout)
    again.settle(units)
    assert (2 in again.made) == shared
    again.keep()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recipe": "another"}, "another recipe"),
        ({"plan": "another"}, "another plan"),
        ({"addresses": ["s3://bucket/elsewhere"]}, "another run"),
    ],
    ids=lambda it: next(iter(it)) if isinstance(it, dict) else "",
)
def test_what_is_of_another_run_is_given_up(
    change: dict[str, object],
    said: str,
    store: ObjectServer,
    folder: Path,
    layout: Layout,
    units: tuple[WorkUnit, ...],
) -> None:
    kept = begun(folder, layout)
    kept.add_unit(uploaded(kept, layout, units[1]))
    kept.keep()
    again = KeptParts(folder, KEY | change, layout)
    assert (again.other, again.empty, again.uploads, again.parts, again.cut) == (said, True, [], {}, 0)
    assert store.uploads == {}
    assert [it.name for it in folder.iterdir()] == [JOURNAL]
    again.keep()


@pytest.mark.parametrize(
    ("line", "old", "new"),
    [
        (0, '"key": {', '"other": {'),
        (0, '"uploads": [[', '"uploads": [7, ['),
        (0, '"quantrecipe-parts": 1', '"quantrecipe-parts": 2'),
        (2, '"ranges": [', '"ranges": [5, '),
        (2, '"edges"', '"corners"'),
        (2, '"parts": [[0, ', '"parts": [['),
    ],
)
def test_lines_that_we_don_t_write_are_another_version_s(
    line: int, old: str, new: str, folder: Path, layout: Layout, units: tuple[WorkUnit, ...]
) -> None:
    """Each has its check, so no disk has done this."""
    kept = begun(folder, layout)
    kept.add_unit(uploaded(kept, layout, units[2]))
    kept.keep()
    lines = (folder / JOURNAL).read_text(encoding="utf-8").splitlines()
    text = lines[line][: lines[line].rindex(', "check"')]
    assert old in text
    text = text.replace(old, new, 1)
    lines[line] = f'{text}, "check": "{xxhash.xxh3_64_hexdigest(text.encode())}"}}'
    (folder / JOURNAL).write_text("\n".join(lines) + "\n", encoding="utf-8")
    again = KeptParts(folder, KEY, layout)
    assert again.other == "another version of quantrecipe"
    assert (again.empty, again.parts, again.cut) == (True, {}, 0)
    again.keep()


def test_parts_of_another_size_are_given_up(
    store: ObjectServer, tmp_path: Path, folder: Path, layout: Layout
) -> None:
    begun(folder, layout).keep()
    other = KeptParts(folder, KEY, Layout(plan_of_kind("dense", tmp_path, REGISTRY), 20_000))
    assert (other.other, store.uploads) == ("parts of another size", {})
    other.keep()


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data[:-1] + b"!", None], ids=["short", "other", "gone"]
)
def test_a_unit_of_which_the_store_has_another_part_isn_t_done(
    change: Callable[[bytes], bytes] | None,
    store: ObjectServer,
    folder: Path,
    layout: Layout,
    units: tuple[WorkUnit, ...],
) -> None:
    kept = begun(folder, layout)
    done = [uploaded(kept, layout, unit) for unit in units[:3]]
    for it in done:
        kept.add_unit(it)
    kept.keep()
    (upload,) = store.uploads.values()
    number = done[2].parts[0][1].number + 1
    if change is None:
        del upload.parts[number]
    else:
        upload.parts[number] = change(upload.parts[number])
    again = KeptParts(folder, KEY, layout)
    again.settle(units)
    assert sorted(again.made) == [0, 1]
    assert not (folder / "000002.edges").exists()
    again.keep()


def test_a_torn_journal_is_gone_on_with(folder: Path, layout: Layout, units: tuple[WorkUnit, ...]) -> None:
    kept = begun(folder, layout)
    for unit in units[:3]:
        kept.add_unit(uploaded(kept, layout, unit))
    kept.keep()
    path = folder / JOURNAL
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b'{"unit": {"number": 2') + 50])
    again = KeptParts(folder, KEY, layout)
    again.settle(units)
    assert sorted(again.made) == [0, 1]
    again.keep()


def test_edges_that_change_while_they_lie_here_are_named(
    folder: Path, layout: Layout, units: tuple[WorkUnit, ...]
) -> None:
    kept = begun(folder, layout)
    kept.add_unit(uploaded(kept, layout, units[2]))
    (folder / "000002.edges").write_bytes(b"another")
    with pytest.raises(OutputError, match=r"000002.edges is damaged: it isn't as it was written"):
        kept.edges(2)
    kept.keep()


def test_nothing_is_left_of_what_is_removed(
    store: ObjectServer, folder: Path, layout: Layout, units: tuple[WorkUnit, ...]
) -> None:
    for give_up in (False, True):
        kept = begun(folder, layout)
        kept.add_unit(uploaded(kept, layout, units[2]))
        kept.remove(give_up=give_up)
        assert list(folder.iterdir()) == []
        assert (store.uploads == {}) == give_up
        store.uploads.clear()


def test_one_process_has_it(folder: Path, layout: Layout) -> None:
    kept = begun(folder, layout)
    with pytest.raises(OutputError, match=r"another process is writing to .*-upload"):
        KeptParts(folder, KEY, layout)
    kept.keep()
