"""Folders of Gram matrices: what is written is what is read, and what is damaged is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quantrecipe.calibration.gram import read_gram
from quantrecipe.calibration.gram.folder import GramEntry, GramIndex, Grams, write_array, write_index
from quantrecipe.errors import ImportanceError, OutputError
from quantrecipe.importance.provenance import CalibrationText, Provenance

PROVENANCE = Provenance(
    texts=(CalibrationText(name="code", digest="d", tokens=9, weight=2.5),),
    contexts=(512, 4096),
    fingerprint="v1:a:b",
    skip=3,
)


def gram(columns: int, seed: int = 0) -> NDArray[np.float32]:
    x = np.random.default_rng(seed).standard_normal((columns + 9, columns)).astype(np.float32)
    return x.T @ x


def rows(*matrices: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [row[number:] for matrix in matrices for number, row in enumerate(matrix)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An input of q and k, of 600 columns, and one by expert."""
    made = tmp_path / "grams" / "digest"
    made.mkdir(parents=True)
    facts: list[tuple[str, tuple[str, ...], tuple[NDArray[np.float32], ...], tuple[int, ...]]] = [
        ("blk.0.attn_q.weight", ("blk.0.attn_q.weight", "blk.0.attn_k.weight"), (gram(600),), (999,)),
        ("blk.0.ffn_down_exps.weight", ("blk.0.ffn_down_exps.weight",), (gram(3, 1), gram(3, 2)), (7, 2)),
    ]
    index = GramIndex(digest="digest", experts="each", provenance=PROVENANCE, inputs=(), of=2)
    for name, weights, matrices, tokens in facts:
        columns = matrices[0].shape[0]
        digest = write_array(made, name, columns, len(matrices), rows(*matrices))
        entry = GramEntry(
            name=name,
            weights=weights,
            columns=columns,
            matrices=len(matrices),
            tokens=tokens,
            weighed=tuple(map(float, tokens)),
            digest=digest,
        )
        index = index.with_input(entry, [it[0] for it in facts])
        write_index(made, index)
    return made.parent


def change(folder: Path, **fields: Any) -> None:
    """Change an index as one that has no checksum: those of earlier versions had none."""
    path = folder / "digest" / "index.json"
    said = json.loads(path.read_text()) | fields
    del said["check"]
    path.write_text(json.dumps(said))


def test_every_bit_of_an_index_that_changes_is_named(folder: Path) -> None:
    """But for one in a space, or in the case of a digit's letter in \\u00e9: the same is said then."""
    path, index = folder / "digest" / "index.json", read_gram(folder).index
    data, named = path.read_bytes(), 0
    for bit in range(0, 8 * len(data), 29):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            assert read_gram(folder).index == index
        except ImportanceError as error:
            assert "index.json" in str(error)
            named += 1
    assert named > 0.8 * len(data) * 8 / 29


def test_an_index_without_a_checksum_is_read(folder: Path) -> None:
    index = read_gram(folder).index
    change(folder)
    assert read_gram(folder).index == index


class TestReading:
    def test_what_is_written_is_read(self, folder: Path) -> None:
        grams = read_gram(folder)
        assert grams.folder == folder / "digest"
        assert list(grams) == ["blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.ffn_down_exps.weight"]
        assert np.array_equal(grams["blk.0.attn_k.weight"], gram(600))
        assert np.array_equal(grams["blk.0.ffn_down_exps.weight"], np.stack([gram(3, 1), gram(3, 2)]))
        assert np.array_equal(grams.matrix("blk.0.ffn_down_exps.weight", 1), gram(3, 2))
        assert grams.index.provenance == PROVENANCE
        grams.verify()

    def test_numpy_reads_the_files(self, folder: Path) -> None:
        found = np.load(folder / "digest" / "blk.0.attn_q.weight.npy")
        assert found.shape == (1, 600 * 601 // 2)
        assert np.array_equal(found[0], gram(600)[np.triu_indices(600)])

    def test_rank_and_what_is_singular(self, folder: Path) -> None:
        q, down = read_gram(folder).index.inputs
        assert (q.rank_at_most, q.singular) == (600, 0)
        assert (down.rank_at_most, down.singular) == (2, 1)

    def test_what_isn_t_there(self, folder: Path) -> None:
        grams = read_gram(folder)
        with pytest.raises(KeyError):
            grams["blk.9.attn_q.weight"]
        with pytest.raises(IndexError, match="has 2 Gram matrices, and no number 2"):
            grams.matrix("blk.0.ffn_down_exps.weight", 2)


class TestRefusals:
    def test_no_folder_of_matrices(self, tmp_path: Path) -> None:
        with pytest.raises(ImportanceError, match="is no folder of Gram matrices"):
            read_gram(tmp_path)
        with pytest.raises(ImportanceError, match="is no folder of Gram matrices"):
            read_gram(tmp_path / "nothing")

    def test_several(self, folder: Path) -> None:
        (folder / "other").mkdir()
        (folder / "other" / "index.json").write_bytes((folder / "digest" / "index.json").read_bytes())
        with pytest.raises(ImportanceError, match="of 2 models or texts: digest, other"):
            read_gram(folder)
        assert len(read_gram(folder / "digest")) == 3

    def test_incomplete(self, folder: Path) -> None:
        change(folder, of=5)
        with pytest.raises(ImportanceError, match="isn't complete: 2 of 5"):
            read_gram(folder)

    @pytest.mark.parametrize(
        ("fields", "what"),
        [
            ({"version": 2}, "is of version 2, and this quantrecipe reads version 1"),
            ({"of": -1}, "is no index of Gram matrices: of: expected `int` >= 0"),
            ({"of": 1}, "says what can't be"),
            ({"more": 1}, "is no index of Gram matrices"),
        ],
    )
    def test_a_damaged_index(self, folder: Path, fields: dict[str, Any], what: str) -> None:
        change(folder, **fields)
        with pytest.raises(ImportanceError, match=what):
            read_gram(folder)

    @pytest.mark.parametrize(
        "fields",
        [
            {"name": "../../etc/passwd"},
            {"weights": []},
            {"weights": ["blk.0.ffn_down_exps.weight"]},
            {"tokens": [1, 2]},
            {"columns": 0},
        ],
        ids=str,
    )
    def test_an_input_that_can_t_be(self, folder: Path, fields: dict[str, Any]) -> None:
        inputs = json.loads((folder / "digest" / "index.json").read_text())["inputs"]
        change(folder, inputs=[inputs[0] | fields, inputs[1]])
        with pytest.raises(ImportanceError, match=r"index\.json"):
            read_gram(folder)

    def test_a_file_that_is_missing_short_or_of_another_shape(self, folder: Path) -> None:
        file = folder / "digest" / "blk.0.attn_q.weight.npy"
        whole = file.read_bytes()
        file.write_bytes(whole[:-4])
        with pytest.raises(ImportanceError, match=r"attn_q.*has 721,324 bytes \(expected: 721,328\)"):
            read_gram(folder)
        file.write_bytes(whole.replace(b"<f4", b"<i4", 1))
        with pytest.raises(ImportanceError, match=r"isn't float32 \(1, 180,300\)"):
            read_gram(folder)
        file.unlink()
        with pytest.raises(ImportanceError, match="can't be read"):
            read_gram(folder)

    def test_numbers_that_changed(self, folder: Path) -> None:
        file = folder / "digest" / "blk.0.attn_q.weight.npy"
        data = bytearray(file.read_bytes())
        data[-2] ^= 1
        file.write_bytes(data)
        with pytest.raises(ImportanceError, match="its digest is another one"):
            read_gram(folder).verify()
        file.write_bytes(data[:-4] + np.float32("nan").tobytes())
        with pytest.raises(ImportanceError, match="is damaged"):
            read_gram(folder)["blk.0.attn_q.weight"]


def test_a_name_that_leads_elsewhere_isn_t_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="can't be called"):
        write_array(tmp_path, "../x", 1, 1, [np.ones(1, np.float32)])


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    def broken() -> Any:
        yield np.ones(2, np.float32)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_array(tmp_path, "x", 2, 1, broken())
    assert list(tmp_path.iterdir()) == []


def test_grams_are_a_mapping(folder: Path) -> None:
    grams = read_gram(folder)
    assert isinstance(grams, Grams)
    assert "blk.0.attn_k.weight" in grams
    assert len(dict(grams)) == len(grams) == 3
