"""Reference files: what is written is read, and what is damaged is found when the file is opened."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from quantrecipe.errors import EvaluationError, OutputError
from quantrecipe.evaluate import Positions, Reference, Text, is_reference, read_reference, reference_key
from quantrecipe.evaluate.compact import CompactRows, compact
from quantrecipe.evaluate.reference import ScoredText, write_reference

N_CTX, VOCABULARY = 20, 50
SCORED = 9


def records(count: int) -> list[CompactRows]:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, VOCABULARY, (count, SCORED)).astype(np.int32)
    logits = (rng.standard_normal((count, SCORED, VOCABULARY)) * 3).astype(np.float32)
    return [compact(some, next_) for some, next_ in zip(logits, targets, strict=True)]


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    made = Reference(
        path=tmp_path / "a.reference",
        model="model.gguf",
        key="k",
        n_ctx=N_CTX,
        n_vocab=VOCABULARY,
        vocabulary="v",
        tail=0.003,
        texts=(
            ScoredText(name="code", digest="d1", chunks=2),
            ScoredText(name="prose", digest="d2", chunks=1),
        ),
        tokens=np.random.default_rng(1).integers(0, VOCABULARY, (3, N_CTX)).astype(np.int32),
    )
    write_reference(made, records(3))
    return made


def test_what_is_written_is_read(reference: Reference) -> None:
    again = read_reference(reference.path)
    assert again == reference
    assert np.array_equal(again.tokens, reference.tokens)
    assert (again.chunks, again.scored) == (3, SCORED)
    for ours, theirs in zip(again.rows(), records(3), strict=True):
        assert np.array_equal(ours.mask, theirs.mask)
        assert ours.values == pytest.approx(theirs.values, rel=1e-3, abs=1e-4)
        assert np.array_equal(ours.cost, theirs.cost)
    assert is_reference(reference.path)


def test_the_second_half_is_scored(reference: Reference) -> None:
    """Position 10 is the first that has half a chunk before it; it predicts token 11."""
    assert np.array_equal(reference.targets, reference.tokens[:, 11:])


def test_positions_by_text(reference: Reference) -> None:
    numbers = np.arange(3 * SCORED, dtype=np.float64)
    positions = Positions(cost=numbers, reference_cost=numbers, divergence=numbers, agrees=numbers)
    parts = reference.split(positions)
    assert parts["code"].cost.tolist() == list(range(18))
    assert parts["prose"].cost.tolist() == list(range(18, 27))


def test_the_same_content_gives_the_same_bytes(reference: Reference, tmp_path: Path) -> None:
    other = dataclasses.replace(reference, path=tmp_path / "b.reference")
    write_reference(other, records(3))
    assert other.path.read_bytes() == reference.path.read_bytes()


def test_cut_short_anywhere(reference: Reference, tmp_path: Path) -> None:
    data = reference.path.read_bytes()
    for size in (10, 24, 60, 300, len(data) // 2, len(data) - 1):
        path = tmp_path / "cut"
        path.write_bytes(data[:size])
        with pytest.raises(EvaluationError, match=r"cut: (isn't a reference|the reference)"):
            read_reference(path)


def test_longer_than_it_says(reference: Reference) -> None:
    with reference.path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(EvaluationError, match=r"bytes and says that it has .*; make it again"):
        read_reference(reference.path)


def test_a_record_damaged(reference: Reference) -> None:
    data = bytearray(reference.path.read_bytes())
    data[-40:-20] = b"\0" * 20  # before the noise
    reference.path.write_bytes(data)
    with pytest.raises(EvaluationError, match=r"chunk 3: a record is damaged .*; make the reference again"):
        list(read_reference(reference.path).rows())


@pytest.mark.parametrize(
    "change",
    [{"n_ctx": 1}, {"n_ctx": 10**9}, {"texts": []}, {"n_vocab": 3}, {"what": 1}, {"texts": [{"name": "x"}]}],
    ids=json.dumps,
)
def test_a_header_that_lies(reference: Reference, change: dict[str, object]) -> None:
    magic, header, rest = reference.path.read_bytes().split(b"\n", 2)
    changed = json.dumps(json.loads(header) | change).encode()
    reference.path.write_bytes(b"\n".join([magic, changed, rest]))
    with pytest.raises(EvaluationError, match=r"the reference"):
        read_reference(reference.path)


def test_nothing_is_left_of_a_failure(reference: Reference) -> None:
    def fail() -> object:
        yield records(1)[0]
        raise EvaluationError("stopped")

    before = reference.path.read_bytes()
    with pytest.raises(EvaluationError, match="stopped"):
        write_reference(reference, fail())  # type: ignore[arg-type]  # a generator
    assert reference.path.read_bytes() == before
    assert [path.name for path in reference.path.parent.iterdir()] == ["a.reference"]


def test_a_folder_that_isn_t_there(reference: Reference, tmp_path: Path) -> None:
    other = dataclasses.replace(reference, path=tmp_path / "none" / "b.reference")
    with pytest.raises(OutputError, match="the reference can't be written"):
        write_reference(other, records(3))


def test_the_key_depends_on_everything(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF" + bytes(3_000_000))
    text, other = Text(name="t", data=b"a"), Text(name="t", data=b"b")
    keys = [
        reference_key([model], [text], n_ctx=512, chunks=None),
        reference_key([model], [other], n_ctx=512, chunks=None),
        reference_key([model], [text], n_ctx=256, chunks=None),
        reference_key([model], [text], n_ctx=512, chunks=3),
        reference_key([model], [text], n_ctx=512, chunks=None, tail=0.1),
    ]
    assert keys[0] == reference_key([model], [text], n_ctx=512, chunks=None)
    model.write_bytes(b"GGUF" + bytes(2_990_000) + b"x" * 10_000)
    keys.append(reference_key([model], [text], n_ctx=512, chunks=None))
    assert len(set(keys)) == len(keys)
