"""A worker sends the parts that its unit fills, whoever writes to them in which order, and holds few at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.shared_work import SMALL, plan_of_kind

from quantrecipe.errors import OutputError
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.progress import Silent
from quantrecipe.output.shares.layout import Layout, Segment
from quantrecipe.output.shares.make import Maker
from quantrecipe.output.shares.units import WorkUnit, cut
from quantrecipe.output.uploads import into_upload as module
from quantrecipe.output.uploads.into_upload import IntoUpload
from quantrecipe.output.uploads.multipart import SentPart
from quantrecipe.plan.plan import Plan
from quantrecipe.registry import load_registry

REGISTRY = load_registry(plugins=False)
PART = 10_000


class Heard:
    """Stands for an upload. before: called with the number of each part that is sent"""

    def __init__(self, before: Callable[[int], object] = lambda number: None) -> None:
        self.parts: dict[int, bytes] = {}
        self.before = before

    def send(self, number: int, data: bytearray) -> SentPart:
        self.before(number)
        self.parts[number] = bytes(data)
        return SentPart(number=number, nbytes=len(data), md5="", etag="")


def parts_of(plan: Plan, unit: WorkUnit, uploads: list[Any]) -> module._Parts:
    layout = Layout(plan, PART)
    return module._Parts(uploads, layout, layout.of(unit))


def largest(plan: Plan) -> WorkUnit:
    return max(cut(plan, SMALL), key=lambda it: it.made_bytes)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of_kind("dense", tmp_path, REGISTRY)


def test_parts_and_edges_are_those_of_the_file(plan: Plan, tmp_path: Path) -> None:
    data = apply_plan(plan, tmp_path / "peace.gguf", registry=REGISTRY).path.read_bytes()
    maker = Maker(plan, REGISTRY, threads=2, nan="error", progress=Silent())
    upload, layout = Heard(), Layout(plan, PART)
    make = IntoUpload(uploads=[upload], part_bytes=PART).open(plan)  # type: ignore[list-item]  # stands for one
    for unit in cut(plan, 4 * SMALL):
        done = make(unit, maker)
        assert isinstance(done, module.UploadedUnit)
        assert done.sound
        own = {layout.place(it) for own in layout.of(unit).own for it in layout.by_part(own)}
        assert {(file, part.number) for file, part in done.parts} == own
    assert upload.parts
    for number, part in upload.parts.items():
        assert part == data[number * PART : (number + 1) * PART]


def test_a_part_that_is_written_twice_is_told(plan: Plan) -> None:
    """Before it is sent, and afterwards: both would have bytes of either time."""
    unit = largest(plan)
    begin = Layout(plan, PART).of(unit).own[0].begin
    with parts_of(plan, unit, [Heard()]) as parts:
        parts.put(Segment(file=0, begin=begin, end=begin + PART), memoryview(bytes(PART)))
        with pytest.raises(module._WrittenTwiceError):
            parts.put(Segment(file=0, begin=begin, end=begin + 32), memoryview(bytes(32)))
    with parts_of(plan, unit, [Heard()]) as parts:
        half = Segment(file=0, begin=begin, end=begin + PART - 32)
        parts.put(half, memoryview(bytes(half.nbytes)))
        with pytest.raises(module._WrittenTwiceError):
            parts.put(half, memoryview(bytes(half.nbytes)))


def test_what_can_t_be_sent_is_told(plan: Plan) -> None:
    def refuse(number: int) -> None:
        raise OutputError("the store is gone")

    own = Layout(plan, PART).of(largest(plan)).own[0]
    with parts_of(plan, largest(plan), [Heard(refuse)]) as parts:
        parts.put(Segment(file=0, begin=own.begin, end=own.begin + PART), memoryview(bytes(PART)))
        with pytest.raises(OutputError, match="the store is gone"):
            parts.settle()


def test_who_makes_more_than_can_be_sent_waits(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    monkeypatch.setattr(module, "_WAITING", 1)
    may_go, third, written = threading.Event(), threading.Event(), list[int]()
    upload = Heard(lambda number: may_go.wait(60))
    own = Layout(plan, PART).of(largest(plan)).own[0]
    assert own.nbytes >= 3 * PART
    with parts_of(plan, largest(plan), [upload]) as parts:
        # The semaphore says when somebody has to wait for it.
        acquire = parts._room.acquire

        def acquiring() -> None:
            if not acquire(blocking=False):
                third.set()
                acquire()

        monkeypatch.setattr(parts._room, "acquire", acquiring)

        def write() -> None:
            for number in range(3):
                begin = own.begin + number * PART
                parts.put(Segment(file=0, begin=begin, end=begin + PART), memoryview(bytes(PART)))
                written.append(number)

        thread = threading.Thread(target=write)
        thread.start()
        assert third.wait(60)
        assert written == [0, 1]
        assert upload.parts == {}
        may_go.set()
        thread.join(60)
        assert written == [0, 1, 2]


def test_all_threads_are_told_what_can_t_be_sent(plan: Plan) -> None:
    """However many they are: none waits for room that another, which was told before, has taken."""

    def refuse(number: int) -> None:
        raise OutputError("the store is gone")

    (unit,) = cut(plan, 1 << 40)
    own = Layout(plan, PART).of(unit).own[0]
    told, count_told = list[OutputError](), threading.Semaphore(0)

    def write(begin: int) -> None:
        try:
            parts.put(Segment(file=0, begin=begin, end=begin + PART), memoryview(bytes(PART)))
        except OutputError as error:
            told.append(error)
            count_told.release()

    with parts_of(plan, unit, [Heard(refuse)]) as parts:
        write(own.begin)
        with pytest.raises(OutputError):
            parts._sent[0][1].result()
        count = 2 * (module._AT_ONCE + module._WAITING)
        assert own.nbytes > (count + 1) * PART
        threads = [
            threading.Thread(target=write, args=(own.begin + number * PART,), daemon=True)
            for number in range(1, count + 1)
        ]
        for thread in threads:
            thread.start()
        assert all(count_told.acquire(timeout=60) for _ in threads)
        assert {str(error) for error in told} == {"the store is gone"}


def test_parts_between_tensors_are_sent(plan: Plan) -> None:
    """Of a file whose tensors lie far from each other, some parts have nothing that anybody makes."""
    (file,) = plan.files
    last = max(file.assignments, key=lambda it: it.offset)
    moved = replace(last, offset=last.offset + 4 * PART)
    assignments = tuple(moved if it is last else it for it in file.assignments)
    far = replace(file, assignments=assignments, nbytes=file.nbytes + 4 * PART)
    upload = Heard()
    (unit,) = cut(plan, 1 << 40)
    with parts_of(replace(plan, files=(far,)), unit, [upload]) as parts:
        parts.settle()
    assert len(upload.parts) in (3, 4)
    first = min(upload.parts)
    assert first * PART >= last.offset - 4 * PART
    assert (max(upload.parts) + 1) * PART <= moved.offset
    assert set(upload.parts.values()) == {bytes(PART)}


def test_nothing_is_sent_any_more_when_the_unit_has_ended(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on its way is waited for, and what waits isn't sent: a second try of the unit would be overtaken."""
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    begun, ended = threading.Event(), threading.Event()

    def slow(number: int) -> None:
        begun.set()
        ended.wait(1)  # nobody sets it: so long it takes

    upload = Heard(slow)
    own = Layout(plan, PART).of(largest(plan)).own[0]
    with pytest.raises(KeyError), parts_of(plan, largest(plan), [upload]) as parts:
        for begin in (own.begin, own.begin + PART):
            parts.put(Segment(file=0, begin=begin, end=begin + PART), memoryview(bytes(PART)))
        assert begun.wait(60)
        raise KeyError
    assert not any(it.is_alive() for it in parts._pool._threads)
    assert [*upload.parts] == [own.begin // PART]
