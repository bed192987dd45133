"""Reference files: what is written is read, and what is damaged is found when the file is opened."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from quantrecipe.errors import EvaluationError, OutputError
from quantrecipe.evaluate import (
    Noise,
    Positions,
    Reference,
    Text,
    is_reference,
    read_reference,
    reference_key,
)
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
    for ours, theirs in zip(again.records(), records(3), strict=True):
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


def test_what_counts_what_belongs_together_and_the_noise(reference: Reference) -> None:
    counted = np.random.default_rng(2).random((3, SCORED)) < 0.5
    assert counted.any(axis=1).all()
    some = dataclasses.replace(reference, counted=counted, blocks=np.array([0, 0, 7], np.int32))
    rows = [
        CompactRows(
            mask=rows.mask[its],
            values=np.concatenate(
                [part.values for part, has in zip(parts_of(rows), its, strict=True) if has]
            ),
            tail=rows.tail[its],
            cost=rows.cost[its],
            best=rows.best[its],
        )
        for rows, its in zip(records(3), counted, strict=True)
    ]
    write_reference(some, rows, lambda: Noise(positions=5, mean=1e-8, largest=3e-8))
    again = read_reference(reference.path)
    assert again.noise == Noise(positions=5, mean=1e-8, largest=3e-8)
    assert np.array_equal(again.mask, counted)
    assert again.blocks is not None
    assert again.blocks.tolist() == [0, 0, 7]
    assert again.positions == counted.sum()
    assert [len(its.cost) for its in again.records()] == counted.sum(axis=1).tolist()
    numbers = np.arange(counted.sum(), dtype=np.float64)
    parts = again.split(Positions(cost=numbers, reference_cost=numbers, divergence=numbers, agrees=numbers))
    assert len(parts["code"]) == counted[:2].sum()
    assert parts["prose"].cost.tolist() == numbers[counted[:2].sum() :].tolist()
    chunks, context = again.places
    assert chunks.tolist() == np.repeat(range(3), counted.sum(axis=1)).tolist()
    assert context.tolist() == [11 + place for row in counted for place in np.flatnonzero(row)]


def parts_of(rows: CompactRows) -> list[CompactRows]:
    return list(rows.parts([slice(n, n + 1) for n in range(SCORED)]))


def test_a_file_of_the_first_version_is_read(reference: Reference) -> None:
    """It had neither which chunks belong together, nor what counts, nor the noise."""
    data = reference.path.read_bytes().replace(b"quantrecipe reference 3", b"quantrecipe reference 1", 1)
    more = 3 * 4 + 3 * 2  # blocks, and nine bits for each chunk
    start = data.index(b"\n", 30) + 1 + reference.tokens.size * 4
    reference.path.write_bytes(data[:start] + data[start + more : -20])
    old = read_reference(reference.path)
    assert old == reference
    assert (old.version, old.noise, old.counted, old.blocks) == (1, None, None, None)
    assert old.positions == 3 * SCORED
    assert [rows.cost.tolist() for rows in old.records(2, 1)] == [records(3)[1].cost.tolist()]
    assert [rows.cost.tolist() for rows in old.records(2)] == [records(3)[n].cost.tolist() for n in (0, 2)]
    assert [rows.cost.tolist() for rows in old.records()] == [rows.cost.tolist() for rows in records(3)]
    assert is_reference(reference.path)


def test_a_file_of_a_newer_version(reference: Reference) -> None:
    data = reference.path.read_bytes()
    reference.path.write_bytes(data.replace(b"reference 3", b"reference 4", 1))
    with pytest.raises(EvaluationError, match="is a reference of a newer quantrecipe"):
        read_reference(reference.path)


@pytest.mark.parametrize("noise", [(-1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_noise_that_is_none(reference: Reference, noise: tuple[float, float]) -> None:
    write_reference(reference, records(3), lambda: Noise(positions=1, mean=noise[0], largest=noise[1]))
    with pytest.raises(EvaluationError, match="damaged"):
        read_reference(reference.path)


def test_a_chunk_in_which_nothing_counts(reference: Reference) -> None:
    data = bytearray(reference.path.read_bytes())
    start = data.index(b"\n", 30) + 1 + reference.tokens.size * 4 + 3 * 4
    data[start : start + 2] = b"\0\0"
    reference.path.write_bytes(data)
    with pytest.raises(EvaluationError, match="chunks in which nothing counts"):
        read_reference(reference.path)


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
        list(read_reference(reference.path).records())


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
        reference_key([model], [text], n_ctx=512, chunks=None, noise_chunks=2),
        reference_key([model, model], [text], n_ctx=512, chunks=None),
    ]
    assert keys[0] == reference_key([model], [text], n_ctx=512, chunks=None)
    model.write_bytes(b"GGUF" + bytes(2_990_000) + b"x" * 10_000)
    keys.append(reference_key([model], [text], n_ctx=512, chunks=None))
    assert len(set(keys)) == len(keys)
