"""The hashes of a header: one for each pair and each tensor, and a change of any part changes that one alone."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import xxhash

from quantrecipe.gguf.header import TensorEntry
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.plan.header_hashes import HEADER_HASHES, header_hashes, with_header_hashes, with_room

PAIRS = {
    "general.name": GGUFValue.of(ValueType.STRING, "m"),
    HEADER_HASHES: GGUFValue.array(ValueType.STRING, []),
    "llama.block_count": GGUFValue.of(ValueType.UINT32, 2),
}
TENSORS = [
    TensorEntry(name="a.weight", shape=(3, 32), ggml_type=8, offset=0),
    TensorEntry(name="b", shape=(5,), ggml_type=0, offset=128),
]


def test_they_are_of_the_bytes_that_the_documentation_says() -> None:
    contents = [
        b"general.name\0" + struct.pack("<I", 8) + struct.pack("<Q", 1) + b"m",
        b"llama.block_count\0" + struct.pack("<II", 4, 2),
        b"a.weight\0" + struct.pack("<IQQQ", 8, 0, 3, 32),
        b"b\0" + struct.pack("<IQQ", 0, 128, 5),
    ]
    assert header_hashes(PAIRS, TENSORS) == [xxhash.xxh3_64_hexdigest(content) for content in contents]


@pytest.mark.parametrize(
    ("place", "change"),
    [
        (0, lambda pairs, _: pairs | {"general.name": GGUFValue.of(ValueType.STRING, "n")}),
        (1, lambda pairs, _: pairs | {"llama.block_count": GGUFValue.of(ValueType.INT32, 2)}),
        (2, {"name": "c.weight"}),
        (2, {"shape": (32, 3)}),
        (3, {"ggml_type": 1}),
        (3, {"offset": 160}),
    ],
)
def test_a_change_shows_in_its_own_hash(place: int, change: Callable[..., Any] | dict[str, Any]) -> None:
    pairs, tensors = PAIRS, list(TENSORS)
    if isinstance(change, dict):
        tensors[place - 2] = replace(tensors[place - 2], **change)
    else:
        pairs = change(pairs, tensors)
    before, after = header_hashes(PAIRS, TENSORS), header_hashes(pairs, tensors)
    assert [n for n, (a, b) in enumerate(zip(before, after, strict=True)) if a != b] == [place]


def test_room_is_as_long_as_the_hashes() -> None:
    room, filled = with_room(PAIRS, len(TENSORS)), with_header_hashes(PAIRS, TENSORS)
    assert len(room[HEADER_HASHES].payload) == len(filled[HEADER_HASHES].payload)
    assert filled[HEADER_HASHES].decode() == header_hashes(PAIRS, TENSORS)
    assert list(room) == list(filled) == list(PAIRS)
    assert set(room[HEADER_HASHES].decode()) == {"0" * 16}


def test_who_records_none_has_none() -> None:
    pairs = {key: value for key, value in PAIRS.items() if key != HEADER_HASHES}
    assert with_room(pairs, 2) == with_header_hashes(pairs, TENSORS) == pairs
