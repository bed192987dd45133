"""Digest: the same hash, however the rows were read, and whether their bytes came in order or not."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from support.sources import stored

from quantrecipe.model.source.arithmetic import Add
from quantrecipe.model.source.digest import Digest, combined, hash_bytes
from quantrecipe.model.source.layout import PadRows, Transpose, concat, reshape, rope_order, rows, stack
from quantrecipe.model.source.reading import Reading
from quantrecipe.model.source.source import Constant, TensorSource
from quantrecipe.model.tensor_reader import TensorReader

A = np.arange(96, dtype=np.uint16).reshape(8, 12)
B = A + 1000


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TensorSource]:
    folder = tmp_path_factory.mktemp("digest")
    a, b = stored(folder / "a", A, "BF16"), stored(folder / "b", B, "BF16", "b")
    plus = [Add(source=it, number=1) for it in (a, b)]
    return {
        "stored": a,
        "stacked": stack([a, b]),
        "rope": rope_order(a, 2),
        "padded": PadRows(source=a, count=11),
        "every third row": rows(a, 1, 8, 3),
        "rows of an outcome": rows(plus[0], 2, 5),
        "transposed": Transpose(source=a),
        "reshaped": reshape(rope_order(a, 2), (96,)),
        "two leaves": stack([*plus]),
        "one leaf twice": concat([plus[1], plus[1]]),
        "constant": Constant(shape=(2, 2), dtype="F32", data=bytes(range(16))),
    }


def of(*contents: bytes) -> str:
    if len(contents) == 1:
        return xxhash.xxh3_128_hexdigest(contents[0])
    return xxhash.xxh3_128_hexdigest(b"".join(xxhash.xxh3_128_digest(it) for it in contents))


EXPECTED = {
    "stacked": of(A.tobytes() + B.tobytes()),
    "two leaves": of(A.tobytes(), B.tobytes()),
    "one leaf twice": of(B.tobytes()),
    "constant": of(bytes(range(16))),
}
IN_ORDER = EXPECTED.keys() | {"stored", "rope", "padded", "every third row", "reshaped"}


@given(st.lists(st.integers(0, 40), max_size=5))
def test_of_runs(sources: dict[str, TensorSource], cuts: list[int]) -> None:
    for name, source in sources.items():
        together = source.together
        edges = sorted(
            {0, source.total_rows, *(cut * together for cut in cuts if cut * together < source.total_rows)}
        )
        digest = Digest(source)
        with TensorReader() as reader:
            for first, last in pairwise(edges):
                reading = Reading(reader)
                source.read(first, last, reading)
                digest.update(reading.pieces)
            again = digest.finish(reader)
            assert digest.finish(reader) == 0
        assert digest.hexdigest() == EXPECTED.get(name, of(A.tobytes())), name
        if name in IN_ORDER:
            assert again == 0, f"{name} was read twice"


def test_what_is_read_out_of_order_is_read_again(sources: dict[str, TensorSource]) -> None:
    digest = Digest(sources["stored"])
    with TensorReader() as reader:
        for first in (4, 0):
            reading = Reading(reader)
            sources["stored"].read(first, first + 2, reading)
            digest.update(reading.pieces)
        assert digest.finish(reader) == 6 * 24
    assert digest.hexdigest() == of(A.tobytes())


def test_bytes_that_are_read_twice_count_once(sources: dict[str, TensorSource]) -> None:
    digest = Digest(sources["stored"])
    with TensorReader() as reader:
        for first, last in ((0, 4), (2, 3), (2, 6), (6, 8)):
            reading = Reading(reader)
            sources["stored"].read(first, last, reading)
            digest.update(reading.pieces)
        assert digest.finish(reader) == 0
    assert digest.hexdigest() == of(A.tobytes())


def test_of_nothing_that_was_read(sources: dict[str, TensorSource]) -> None:
    for name, source in sources.items():
        digest = Digest(source)
        with TensorReader() as reader:
            assert digest.finish(reader) == sum(extent.nbytes for extent in source.extents)
        assert digest.hexdigest() == EXPECTED.get(name, of(A.tobytes())), name


def test_hashing_that_is_stopped(sources: dict[str, TensorSource], tmp_path: Path) -> None:
    (leaf,) = sources["stored"].leaves
    steps = iter([True, True, False])
    digest = xxhash.xxh3_128()
    with TensorReader() as reader:
        assert hash_bytes(leaf, digest, reader, chunk=10, go_on=lambda: next(steps)) == 20
    assert combined([digest]) == of(A.tobytes()[:20])
