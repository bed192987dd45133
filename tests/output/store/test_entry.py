"""A file of the store says what it is, or isn't one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import xxhash

from quantrecipe.output.store.entry import EntryFacts, footer, read_facts

FACTS = EntryFacts(
    data="d" * 32, nbytes=11, tensor="blk.0.ü", shape=(2, 32), type="Q8_0", remarked=1, remarks=("damped",)
)
DATA = b"\nhello\nyou\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "entry"
    path.write_bytes(DATA + footer(FACTS))
    return path


def test_what_was_written_is_read(path: Path) -> None:
    assert read_facts(path) == FACTS
    made = FACTS.made("s")
    assert (made.source, made.data, made.remarked, made.remarks) == ("s", FACTS.data, 1, ("damped",))


def test_a_flipped_bit_or_a_lost_end_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    for place in range(len(DATA), len(whole)):
        path.write_bytes(whole[:place])
        assert read_facts(path) is None
        data = bytearray(whole)
        data[place] ^= 4
        path.write_bytes(data)
        assert read_facts(path) is None


@pytest.mark.parametrize("content", [b"", b"\n", b"\n\n", b"x", DATA, DATA * 200_000, b"\0" * 5000])
def test_another_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert read_facts(path) is None


def test_bytes_that_are_more_or_less_than_it_says(path: Path) -> None:
    for data in (DATA + b"x", DATA[:-1], b""):
        path.write_bytes(data + footer(FACTS))
        assert read_facts(path) is None


@pytest.mark.parametrize("said", [{}, [], 3, {"data": "x"}, {"shape": 3, "remarks": []}, {"unknown": 1}])
def test_a_line_of_somebody_else(path: Path, said: Any) -> None:
    text = json.dumps(said).encode()
    path.write_bytes(DATA + b"\n" + xxhash.xxh3_64_hexdigest(text).encode() + b" " + text + b"\n")
    assert read_facts(path) is None
