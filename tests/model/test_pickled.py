"""Weights that are pickles: refused with advice, or read where PyTorch's weights-only loader says that they lie."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.recorded_architectures import write_recorded

from quantrecipe.errors import ModelError
from quantrecipe.model import pickled
from quantrecipe.model.open_model import open_model
from quantrecipe.model.pickled import is_pickled, open_pickled
from quantrecipe.model.safetensors import read_safetensors_header
from quantrecipe.model.source.reading import read_whole
from quantrecipe.model.tensor_reader import TensorReader

Told = list[tuple[str, str, list[int], bool, int]]


def folder_of(tmp_path: Path, content: bytes = bytes(100), name: str = "pytorch_model.bin") -> Path:
    (tmp_path / name).write_bytes(content)
    return tmp_path


def saying(monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    """The loader's place is taken by one that says this of every file."""
    monkeypatch.setattr(pickled, "_told", lambda path: told)


def test_refused_with_advice(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "config.json").write_text("{}")
    assert is_pickled(folder)
    with pytest.raises(ModelError, match=r"pickles \(pytorch_model.bin\).*save_pretrained.*--allow-pickle"):
        open_model(folder)


def test_safetensors_come_first(tmp_path: Path) -> None:
    folder = write_recorded("llama3", tmp_path)
    folder_of(folder)
    assert open_model(folder).arch == "llama"


def test_where_the_numbers_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.arange(6, dtype="<f4")
    folder = folder_of(tmp_path, bytes(16) + numbers.tobytes() + bytes(3))
    saying(monkeypatch, [("a", "float32", [2, 3], True, 16), ("b", "float32", [], True, 20)])
    checkpoint = open_pickled(folder, allow=True)
    with TensorReader() as reader:
        assert np.array_equal(read_whole(checkpoint.tensors["a"].source, reader), numbers.reshape(2, 3))
        assert read_whole(checkpoint.tensors["b"].source, reader).tolist() == [1]
    assert checkpoint.files == (folder / "pytorch_model.bin",)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ([("a", "complex64", [2], True, 0)], "'a' is complex64"),
        ([("a", "float32", [2, 2], False, 0)], "in another order than its rows"),
        ([("a", "float32", [26], True, 0)], "beyond the end of the file"),
        ([("a", "float32", [25], True, 1)], "beyond the end of the file"),
        ([("a", "float32", [1], True, -1)], "beyond the end of the file"),
        ([], "holds no tensors"),
    ],
)
def test_what_cannot_be(told: Told, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, told)
    with pytest.raises(ModelError, match=message):
        open_pickled(folder_of(tmp_path), allow=True)


def test_shards_and_their_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["pytorch_model-00002-of-00002.bin", "pytorch_model-00001-of-00002.bin"]
    for name in names:
        folder_of(tmp_path, name=name)
    monkeypatch.setattr(pickled, "_told", lambda path: [(path.name, "uint8", [4], True, 0)])
    assert list(open_pickled(tmp_path, allow=True).tensors) == sorted(names)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"a": names[0]}}))
    checkpoint = open_pickled(tmp_path, allow=True)
    assert (list(checkpoint.tensors), checkpoint.index) == ([names[0]], index)
    saying(monkeypatch, [("twice", "uint8", [4], True, 0)])
    index.unlink()
    with pytest.raises(ModelError, match=f"'twice' is also in {names[1]}"):
        open_pickled(tmp_path, allow=True)


@pytest.mark.parametrize("weight_map", [None, [], {}, {"a": 1}, {"a": "../elsewhere.bin"}, {"a": "x/y.bin"}])
def test_an_index_is_not_believed(weight_map: Any, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelError, match="no weight_map of file names"):
        open_pickled(tmp_path, allow=True)


def test_a_shard_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "pytorch_model-1.bin"}}')
    with pytest.raises(ModelError, match=r"pytorch_model-1\.bin is missing"):
        open_pickled(tmp_path, allow=True)


def test_without_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nothing" / "torch").mkdir(parents=True)
    (tmp_path / "nothing" / "torch" / "__init__.py").write_text("raise ImportError('none here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "nothing"))
    with pytest.raises(ModelError, match=r"PyTorch, which isn't installed; pip install torch"):
        open_pickled(folder_of(tmp_path), allow=True)


class TestWithPyTorch:
    @pytest.fixture
    def torch(self) -> Any:
        return pytest.importorskip("torch")

    def test_a_model_is_the_one_of_its_safetensors(self, torch: Any, tmp_path: Path) -> None:
        folder = write_recorded("llama3", tmp_path)
        expected = open_model(folder)
        path = folder / "model.safetensors"
        stored = read_safetensors_header(path).tensors
        with TensorReader() as reader:
            tensors = {
                name: torch.from_numpy(read_whole(it.source, reader).copy())
                .to(torch.bfloat16)
                .reshape(it.shape)
                for name, it in stored.items()
            }
            torch.save(tensors, folder / "pytorch_model.bin")
            path.rename(tmp_path / "kept.safetensors")
            model = open_model(folder, allow_pickle=True)
            assert model.metadata == expected.metadata
            kept = tmp_path / "kept.safetensors"
            for name, it in read_safetensors_header(kept).tensors.items():
                found = open_pickled(folder, allow=True).tensors[name].source
                assert np.array_equal(read_whole(found, reader), read_whole(it.source, reader))

    def test_a_view_that_is_transposed(self, torch: Any, tmp_path: Path) -> None:
        torch.save({"a": torch.zeros(3, 4).T}, tmp_path / "pytorch_model.bin")
        with pytest.raises(ModelError, match="in another order than its rows"):
            open_pickled(tmp_path, allow=True)

    def test_a_program(self, torch: Any, tmp_path: Path) -> None:
        class Program:
            def __reduce__(self) -> Any:
                return (Path.write_text, (tmp_path / "ran", "x"))

        raw = io.BytesIO()
        with zipfile.ZipFile(raw, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({"a": Program()}, protocol=2))
            archive.writestr("archive/version", "3\n")
        folder_of(tmp_path, raw.getvalue())
        with pytest.raises(ModelError, match="holds more than weights"):
            open_pickled(tmp_path, allow=True)
        assert not (tmp_path / "ran").exists()

    def test_an_old_kind(self, torch: Any, tmp_path: Path) -> None:
        torch.save(
            {"a": torch.zeros(3)}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False
        )
        with pytest.raises(ModelError, match="old kind"):
            open_pickled(tmp_path, allow=True)
