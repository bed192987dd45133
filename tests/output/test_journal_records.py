"""Lines of a journal: read as they were written, or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from quantrecipe.output.journal_records import MadeTensor, line_of, record_of, torn_at_once

DONE = {"source": "aa", "data": "bb", "lost": 1, "remarked": 2, "remarks": ["few tokens"], "reused": True}
RECORDS: list[tuple[list[Any], list[Any]]] = [
    (["key", {"plan": "cc"}], [{"plan": "cc"}]),
    (["rows", 3, 0, 8, "aa", "bb", 0], [3, 0, 8, "aa", "bb", 0]),
    (["rows", 3, 0, 8, "aa", "bb", 0, 1, "few tokens"], [3, 0, 8, "aa", "bb", 0, 1, "few tokens"]),
    (["first", 3, 8, "aa", "bb", 0], [3, 8, "aa", "bb", 0]),
    (
        ["done", 3, DONE],
        [3, MadeTensor(source="aa", data="bb", lost=1, remarked=2, remarks=("few tokens",), reused=True)],
    ),
    (["cut", 4096], [4096]),
    (["share", 3, 0, 8, "aa", 0, [[1, "few tokens"]]], [3, 0, 8, "aa", 0, ((1, "few tokens"),)]),
    (["source", 3, "aa"], [3, "aa"]),
    (["disk", 4096], [4096]),
]


def line(record: object) -> bytes:
    return line_of(json.dumps(record).encode())


@pytest.mark.parametrize(("record", "values"), RECORDS, ids=lambda it: str(it[0]))
def test_what_was_written_is_read(record: list[Any], values: list[Any]) -> None:
    assert record_of(line(record)) == [record[0], *values]


@pytest.mark.parametrize("record", [record for record, _ in RECORDS], ids=lambda it: str(it[0]))
def test_what_no_run_writes_is_not_read(record: list[Any]) -> None:
    """Not even with its right hash."""
    others = [[*record[:at], 0.5, *record[at + 1 :]] for at in range(len(record))]
    for wrong in (*others, [*record, 1], record[:-1], [f"{record[0]}s", *record[1:]], record[0], {}):
        assert record_of(line(wrong)) is None


def test_any_changed_bit_is_seen() -> None:
    whole = line(["disk", 7])
    for at in range(8 * len(whole)):
        data = bytearray(whole)
        data[at // 8] ^= 1 << at % 8
        assert record_of(bytes(data)) is None
    assert all(record_of(whole[:n]) is None for n in range(len(whole)))


def test_what_a_crash_leaves_of_the_first_line() -> None:
    whole = line(["key", {"plan": "cc"}])
    for n in range(len(whole)):
        assert torn_at_once(whole[:n])
        assert torn_at_once(whole[:n] + bytes(len(whole) - n))
    for other in (whole, b"GGUF", b"# a text", b"0123456789abcdef [1]", b"0123456789abcdef0", whole[1:]):
        assert not torn_at_once(other)
