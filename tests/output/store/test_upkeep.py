"""A store is looked through, compared with its hashes, and kept small."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import xxhash

from quantrecipe.output.store.entry import EntryFacts
from quantrecipe.output.store.store import Store, open_store
from quantrecipe.output.store.upkeep import damage_of, entries_of, shrink


def add(store: Store, number: int, used: float) -> Path:
    """An entry of 1000 bytes and its line."""
    data = bytes([number]) * 1000
    group, rows = f"{number:02x}" + "0" * 30, f"{number:032x}"
    addition = store.add()
    assert addition is not None
    addition.write(memoryview(data), 0)
    addition.finish(
        group,
        rows,
        EntryFacts(
            data=xxhash.xxh3_128_hexdigest(data), nbytes=1000, tensor=f"t{number}", shape=(2, 32), type="Q8_0"
        ),
    )
    path = store.path(group, rows)
    os.utime(path, (used, used))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(tmp_path / "store", create=True)
    for number, used in ((1, 300.0), (2, 100.0), (3, 200.0)):
        add(store, number, used)
    return store


def names(store: Store) -> list[str]:
    return ["" if it.facts is None else it.facts.tensor for it in entries_of(store)]


def test_all_entries_with_what_they_say(store: Store) -> None:
    found = list(entries_of(store))
    assert names(store) == ["t1", "t2", "t3"]
    assert [it.used for it in found] == [300, 100, 200]
    assert found[0].to_json() == {
        "path": str(found[0].path),
        "tensor": "t1",
        "shape": (2, 32),
        "type": "Q8_0",
        "size": found[0].path.stat().st_size,
        "used": 300,
    }


def test_damage_is_found(store: Store) -> None:
    assert [damage_of(it) for it in entries_of(store)] == ["", "", ""]
    first, second, third = (it.path for it in entries_of(store))
    data = bytearray(first.read_bytes())
    data[500] ^= 1
    first.write_bytes(data)
    second.write_bytes(second.read_bytes()[:-1])
    assert [damage_of(it) for it in entries_of(store)] == [
        "has other bytes than were written",
        "isn't a whole entry",
        "",
    ]
    found = list(entries_of(store))[2]
    third.unlink()
    assert damage_of(found) == ""


@pytest.mark.parametrize(("most", "left"), [(10_000, 3), (3000, 2), (2200, 1), (1000, 0), (0, 0)])
def test_what_was_used_longest_ago_goes_first(store: Store, most: int, left: int) -> None:
    size = next(entries_of(store)).size
    assert 1100 < size < 1200
    would = shrink(store, most, dry_run=True)
    assert len(names(store)) == 3
    removed = shrink(store, most)
    assert removed == would
    assert names(store) == sorted(["t1", "t3", "t2"][:left])
    assert (removed.entries, removed.nbytes) == (3 - left, (3 - left) * size)
    assert (removed.kept, removed.kept_bytes) == (left, left * size)


def test_what_killed_runs_left_goes_after_a_day(store: Store) -> None:
    new = store.folder / "new"
    (new / "old").write_bytes(b"12345")
    (new / "now").write_bytes(b"1")
    os.utime(new / "old", (0, time.time() - 90_000))
    removed = shrink(store, 10_000)
    assert (removed.entries, removed.unfinished, removed.nbytes) == (0, 1, 5)
    assert [it.name for it in new.iterdir()] == ["now"]


@pytest.mark.skipif(os.name != "posix", reason="Windows removes no open file in any case")
def test_what_a_run_is_at_stays_whatever_the_clock_says(store: Store) -> None:
    addition = store.add()
    assert addition is not None
    (path,) = (store.folder / "new").iterdir()
    tomorrow = time.time() + 90_000
    assert shrink(store, 10_000, now=tomorrow).unfinished == 0
    assert path.exists()
    addition._close()  # as the system does for a process that is killed
    assert shrink(store, 10_000, now=tomorrow).unfinished == 1
    assert not path.exists()


def test_nothing_else_is_ever_removed(store: Store) -> None:
    others = [store.folder / "notes.txt", store.folder / "zz" / "x" / "y", store.folder / "ab" / "file"]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
    shrink(store, 0)
    assert all(path.read_bytes() == b"mine" for path in others)
    assert json.loads((store.folder / "quantrecipe-store.json").read_bytes())


def test_a_store_goes_on_where_its_folders_are_removed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between making a folder and moving the entry there."""
    replace, calls = Path.replace, 0

    def tidied(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == 1:
            target.parent.rmdir()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", tidied)
    path = add(store, 9, 1)
    assert path.exists()
    assert not store.problems
