"""A folder that any number of runs read and add to: whole entries, or none; what goes wrong is told."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash

from quantrecipe.errors import OutputError
from quantrecipe.output.store.entry import EntryFacts
from quantrecipe.output.store.store import Store, open_store

GROUP, ROWS = "ab" + "0" * 30, "1" * 32
DATA = b"0123456789"
FACTS = EntryFacts(data=xxhash.xxh3_128_hexdigest(DATA), nbytes=10, tensor="t", shape=(1, 32), type="Q8_0")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store", create=True)


def add(store: Store, data: bytes = DATA) -> None:
    addition = store.add()
    assert addition is not None
    addition.write(memoryview(data[4:]), 4)
    addition.write(memoryview(data[:4]), 0)
    addition.finish(GROUP, ROWS, FACTS)


def read(store: Store) -> bytes | None:
    stored = store.find(GROUP, ROWS, 10)
    if stored is None:
        return None
    with stored:
        out = np.zeros(10, np.uint8)
        assert stored.read(0, out[:3])
        assert stored.read(3, out[3:])
        return out.tobytes()


def files(store: Store) -> list[str]:
    return sorted(str(it.relative_to(store.folder)) for it in store.folder.rglob("*") if it.is_file())


@pytest.mark.skipif(os.name != "posix", reason="there are no modes")
@pytest.mark.parametrize(("mask", "final"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_an_entry_is_its_owner_s_alone_until_it_is_whole(store: Store, mask: int, final: int) -> None:
    before = os.umask(mask)
    try:
        addition = store.add()
        assert addition is not None
        (new,) = (store.folder / "new").iterdir()
        assert stat.S_IMODE(new.stat().st_mode) == 0o600
        addition.write(memoryview(DATA), 0)
        addition.finish(GROUP, ROWS, FACTS)
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.path(GROUP, ROWS).stat().st_mode) == final
    assert list((store.folder / "new").iterdir()) == []


def test_what_was_added_is_found(store: Store) -> None:
    assert not store.may_have(GROUP)
    assert read(store) is None
    add(store)
    assert store.may_have(GROUP)
    assert read(store) == DATA
    assert store.added == 1
    assert files(store) == [f"ab/{GROUP}/{ROWS}", "quantrecipe-store.json"]
    again = open_store(store.folder, create=False)
    assert read(again) == DATA
    assert not store.problems
    assert not again.problems


def test_what_is_used_counts_as_used_now(store: Store) -> None:
    add(store)
    path = store.path(GROUP, ROWS)
    os.utime(path, (1, 1))
    read(store)
    assert path.stat().st_mtime > 1e9


def test_the_last_of_two_that_add_the_same_wins(store: Store) -> None:
    first, second = store.add(), open_store(store.folder, create=True).add()
    assert first is not None
    assert second is not None
    for addition in (first, second):
        addition.write(memoryview(DATA), 0)
    for addition in (second, first):
        addition.finish(GROUP, ROWS, FACTS)
        assert read(store) == DATA
    assert len(files(store)) == 2


def test_many_at_the_same_time(tmp_path: Path) -> None:
    """They make the store, add the same entry, and read it."""
    found: list[bytes | None] = []
    begin = threading.Barrier(8)

    def run() -> None:
        begin.wait()
        store = open_store(tmp_path / "store", create=True)
        for _ in range(5):
            add(store)
            found.append(read(store))
        assert not store.problems

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [DATA] * 40
    assert len(files(Store(tmp_path / "store"))) == 2


def test_an_open_entry_may_be_removed(store: Store) -> None:
    add(store)
    stored = store.find(GROUP, ROWS, 10)
    assert stored is not None
    with stored:
        if os.name == "posix":
            stored.path.unlink()
        out = np.zeros(10, np.uint8)
        assert stored.read(0, out)
        assert out.tobytes() == DATA
        assert not stored.read(5, np.zeros(10_000, np.uint8))


def test_what_is_not_finished_leaves_nothing(store: Store) -> None:
    addition = store.add()
    assert addition is not None
    addition.write(memoryview(DATA), 0)
    assert len(files(store)) == 2
    store.discard_unfinished()
    assert files(store) == ["quantrecipe-store.json"]
    add(store)
    store.discard_unfinished()
    assert read(store) == DATA


@pytest.mark.parametrize("damage", [b"", b"short", DATA + b"\nno line"])
def test_an_entry_that_isn_t_whole_is_told(store: Store, damage: bytes) -> None:
    add(store)
    store.path(GROUP, ROWS).write_bytes(damage)
    assert read(store) is None
    assert store.problems == [f"{store.path(GROUP, ROWS)} is damaged"]


def test_one_of_another_size_is_told(store: Store) -> None:
    add(store)
    assert store.find(GROUP, ROWS, 11) is None
    assert "is damaged" in store.problems[0]


@pytest.mark.parametrize("call", ["pwrite", "fsync", "open", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_is_told_once_and_nothing_has_the_name(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    where: Any = Path if call == "replace" else os
    original = getattr(where, call)

    def failing(*given: Any, **more: Any) -> Any:
        if call != "open" or str(store.folder / "new") in str(given[0]):
            raise OSError(code, os.strerror(code))
        return original(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(where, call, failing)
        for _ in range(2):
            addition = store.add()
            if addition is not None:
                addition.write(memoryview(DATA), 0)
                addition.finish(GROUP, ROWS, FACTS)
    assert store.problems == [f"nothing more is added to the store {store.folder}: {os.strerror(code)}"]
    assert files(store) == ["quantrecipe-store.json"]
    assert store.add() is None


def test_short_writes_go_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: write(fd, data[:3], offset))
    add(store)
    assert read(store) == DATA


class TestWhichFolder:
    def test_it_is_made(self, tmp_path: Path) -> None:
        folder = tmp_path / "a/b"
        with pytest.raises(OutputError, match="isn't a store; `quantrecipe apply --store FOLDER` makes one"):
            open_store(folder, create=False)
        open_store(folder, create=True)
        assert [it.name for it in folder.iterdir()] == ["quantrecipe-store.json"]

    def test_one_with_other_files_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "model.gguf").touch()
        with pytest.raises(OutputError, match="isn't a store, and isn't empty"):
            open_store(tmp_path, create=True)
        with pytest.raises(OutputError, match="isn't a store"):
            open_store(tmp_path, create=False)
        assert [it.name for it in tmp_path.iterdir()] == ["model.gguf"]

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for create in (True, False):
            with pytest.raises(OutputError):
                open_store(tmp_path / "file", create=create)

    def test_one_of_another_version(self, store: Store) -> None:
        (store.folder / "quantrecipe-store.json").write_text('{"quantrecipe-store": 2}')
        with pytest.raises(
            OutputError, match=r"quantrecipe-store\.json is of another version of quantrecipe, or damaged"
        ):
            open_store(store.folder, create=True)

    @pytest.mark.parametrize("said", ['{"quantrecipe-store": 2}', "{", '{"quan4recipe-store": 1}'])
    def test_a_marker_that_is_removed_as_the_remedy_says_is_made_again(self, store: Store, said: str) -> None:
        add(store)
        marker = store.folder / "quantrecipe-store.json"
        before = marker.read_bytes()
        marker.write_text(said)
        with pytest.raises(OutputError, match="remove that file: the next `apply --store` makes it again"):
            open_store(store.folder, create=True)
        marker.unlink()
        assert read(open_store(store.folder, create=True)) == DATA
        assert marker.read_bytes() == before

    @pytest.mark.parametrize("name", ["ab/notes", "ab/0123", "AB", "abc", "ab"])
    def test_what_only_resembles_a_store_is_left_alone(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        with pytest.raises(OutputError, match="isn't a store, and isn't empty"):
            open_store(tmp_path, create=True)

    def test_one_whose_marker_is_damaged(self, store: Store) -> None:
        (store.folder / "quantrecipe-store.json").write_text("{")
        with pytest.raises(OutputError, match="is damaged"):
            open_store(store.folder, create=True)
