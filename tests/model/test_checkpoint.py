"""Checkpoints: folders, single files, shards with and without an index, and indexes that lie."""

import json
import struct
from pathlib import Path

import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model.checkpoint import open_checkpoint, read_index

INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def write(path: Path, *names: str, **metadata: str) -> Path:
    """A safetensors file with a byte for each of these tensors."""
    entries = {n: {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i, n in enumerate(names)}
    raw = json.dumps({"__metadata__": metadata, **entries}).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(range(len(names))))
    return path


def index(folder: Path, weight_map: object) -> Path:
    path = folder / INDEX
    path.write_text(json.dumps({"metadata": {"total_size": 3}, "weight_map": weight_map}))
    return path


@pytest.fixture
def sharded(tmp_path) -> Path:
    write(tmp_path / SHARDS[0], "a", "b", format="pt")
    write(tmp_path / SHARDS[1], "c", format="other", more="yes")
    index(tmp_path, {"a": SHARDS[0], "b": SHARDS[0], "c": SHARDS[1]})
    return tmp_path


@pytest.mark.parametrize("name", ["", INDEX, *SHARDS])
def test_a_folder_its_index_and_each_shard_are_the_whole_checkpoint(sharded, name):
    checkpoint = open_checkpoint(sharded / name)
    where = {name: stored.extent.path.name for name, stored in checkpoint.tensors.items()}
    assert where == {"a": SHARDS[0], "b": SHARDS[0], "c": SHARDS[1]}
    assert [file.name for file in checkpoint.files] == list(SHARDS)
    assert checkpoint.metadata == {"format": "pt", "more": "yes"}


@pytest.mark.parametrize("name", ["", *SHARDS])
def test_shards_without_an_index_are_joined_by_their_names(sharded, name):
    (sharded / INDEX).unlink()
    assert list(open_checkpoint(sharded / name).tensors) == ["a", "b", "c"]


def test_a_file_that_is_no_shard_stands_for_itself_whatever_an_index_says(tmp_path):
    write(tmp_path / "a.safetensors", "a")
    write(tmp_path / "b.safetensors", "b")
    index(tmp_path, {"a": "a.safetensors", "b": "b.safetensors"})
    assert list(open_checkpoint(tmp_path / "a.safetensors").tensors) == ["a"]
    assert list(open_checkpoint(tmp_path).tensors) == ["a", "b"]


def test_a_single_file_stands_for_itself_and_its_folder(tmp_path):
    path = write(tmp_path / "weights.safetensors", "a")
    assert open_checkpoint(path) == open_checkpoint(tmp_path)
    assert open_checkpoint(str(path)).files == (path,)


def test_a_folder_with_a_whole_file_and_an_index_is_the_whole_file_as_for_transformers(sharded):
    path = write(sharded / "model.safetensors", "z")
    assert open_checkpoint(sharded).files == (path,)


def test_an_index_of_another_name_counts_where_it_is_the_only_one(sharded):
    (sharded / INDEX).rename(sharded / "diffusion.safetensors.index.json")
    assert len(open_checkpoint(sharded).files) == 2


def test_links_in_the_folder_are_followed(sharded, tmp_path_factory):
    # Hugging Face's cache is a folder of links into a folder of blobs
    blob = tmp_path_factory.mktemp("blobs") / "0123abcd"
    (sharded / SHARDS[1]).rename(blob)
    (sharded / SHARDS[1]).symlink_to(blob)
    assert list(open_checkpoint(sharded).tensors) == ["a", "b", "c"]


def test_a_folder_of_several_models_asks_which(tmp_path):
    write(tmp_path / "a.safetensors", "a")
    write(tmp_path / "b.safetensors", "b")
    with pytest.raises(ModelError, match=r"holds several models \(a\.safetensors, b\.safetensors\)"):
        open_checkpoint(tmp_path)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ModelError, match=r"holds no \.safetensors file"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("with_index", [True, False])
def test_a_missing_shard_is_named(sharded, with_index):
    (sharded / SHARDS[1]).unlink()
    if not with_index:
        (sharded / INDEX).unlink()
    with pytest.raises(ModelError, match=f"{SHARDS[1]} is missing") as caught:
        open_checkpoint(sharded)
    assert str(sharded) in str(caught.value)


def test_of_many_missing_shards_a_few_are_named(tmp_path):
    index(tmp_path, {f"t{i}": f"m-{i:05}.safetensors" for i in range(30)})
    with pytest.raises(ModelError) as caught:
        open_checkpoint(tmp_path)
    assert len(caught.value.problems) == 6
    assert "and 25 more" in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "../other.safetensors",
        "..",
        ".",
        "",
        "/etc/passwd",
        "/etc/a.safetensors",
        "sub/a.safetensors",
        "sub\\a.safetensors",
        "C:a.safetensors",
        "a\0.safetensors",
        "a\n.safetensors",
        "weights.bin",
        7,
        None,
        ["a.safetensors"],
    ],
)
def test_an_index_names_files_of_its_own_folder_only(tmp_path, name):
    write(tmp_path / "other.safetensors", "a")
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(ModelError, match=r"says that tensor 'a' is in .*without a folder"):
        read_index(index(folder, {"a": name}))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not valid JSON"),
        ("[]", "not a JSON object"),
        ("{}", "no weight_map"),
        ('{"weight_map": {}}', "no weight_map"),
        ('{"weight_map": ["a"]}', "no weight_map"),
        ('{"weight_map": {"a": "b.safetensors", "a": "c.safetensors"}}', "'a' is there twice"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_broken_index_is_an_error_that_names_it(tmp_path, text, says):
    path = tmp_path / INDEX
    path.write_text(text)
    with pytest.raises(ModelError, match=says) as caught:
        open_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_an_index_and_its_shards_must_agree(sharded):
    index(sharded, {"a": SHARDS[0], "c": SHARDS[0], "d": SHARDS[1]})
    with pytest.raises(ModelError) as caught:
        open_checkpoint(sharded)
    assert [problem.what for problem in caught.value.problems] == [
        f"tensor 'c' is not in {SHARDS[0]}",
        f"tensor 'd' is not in {SHARDS[1]}",
        f"tensor 'b' of {SHARDS[0]} is missing in the index",
    ]


def test_a_tensor_in_two_shards_is_an_error(sharded):
    write(sharded / SHARDS[1], "c", "a")
    with pytest.raises(ModelError, match=f"tensor 'a' is also in {SHARDS[0]}"):
        open_checkpoint(sharded)


def test_a_shard_number_beyond_the_count_is_an_error(tmp_path):
    path = write(tmp_path / "model-00003-of-00002.safetensors", "a")
    with pytest.raises(ModelError, match="shard 00003 of 00002"):
        open_checkpoint(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="there is no such file"):
        open_checkpoint(tmp_path / "none.safetensors")
