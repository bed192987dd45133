"""GGUFs as models: types, sizes, splits, and what doesn't fit together."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from quantrecipe.api import FormatSpec
from quantrecipe.errors import ModelError
from quantrecipe.gguf.header import TensorEntry
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header
from quantrecipe.model.gguf_file import open_gguf, type_name
from quantrecipe.model.tensor_reader import TensorReader

F32 = FormatSpec(name="F32", ggml_type=0, block=1, block_bytes=4)
Q8_0 = FormatSpec(name="Q8_0", ggml_type=8, block=32, block_bytes=34)
SPECS = {0: F32, 8: Q8_0}


def number(value: int, type_: ValueType = ValueType.UINT16) -> GGUFValue:
    return GGUFValue.of(type_, value)


def entry(name: str, shape: tuple[int, ...] = (1, 32), ggml_type: int = 0, offset: int = 0) -> TensorEntry:
    return TensorEntry(name=name, shape=shape, ggml_type=ggml_type, offset=offset)


def write(path: Path, *tensors: TensorEntry, data: int = 128, **metadata: GGUFValue) -> Path:
    keys = {"general.architecture": GGUFValue.of(ValueType.STRING, "llama")}
    keys |= {key.replace("__", "."): value for key, value in metadata.items()}
    path.write_bytes(encode_header(keys, tensors) + bytes(data))
    return path


def test_tensors_metadata_and_sources_are_those_of_the_file(tmp_path):
    tensors = entry("token_embd.weight", (4, 32)), entry("blk.7.ffn_down_exps.weight", (2, 3, 32), 8, 512)
    path = write(tmp_path / "a.gguf", *tensors, data=716, llama__block_count=number(8))
    model = open_gguf(path, SPECS)
    assert (model.container, model.arch, model.alignment, model.files) == ("gguf", "llama", 32, (path,))
    assert list(model.metadata) == ["general.architecture", "llama.block_count"]
    assert [(t.name, t.shape, t.dtype, t.layer, t.role) for t in model.tensors] == [
        ("token_embd.weight", (4, 32), "F32", None, "token_embd"),
        ("blk.7.ffn_down_exps.weight", (2, 3, 32), "Q8_0", 7, "ffn_down_exps"),
    ]
    source = model.sources["blk.7.ffn_down_exps.weight"]
    size = path.stat().st_size
    assert (source.dtype, source.shape, source.row_bytes) == ("Q8_0", (2, 3, 32), 34)
    assert [(e.offset, e.nbytes, e.file_size) for e in source.extents] == [(size - 204, 204, size)]
    assert pickle.loads(pickle.dumps(model)) == model


def test_a_type_without_a_spec_is_listed_with_the_room_that_it_has(tmp_path):
    path = write(tmp_path / "a.gguf", entry("a", (7, 32), 139), entry("b", offset=256), data=384)
    model = open_gguf(path, SPECS)
    assert [tensor.dtype for tensor in model.tensors] == ["type 139", "F32"]
    assert model.sources["a"].extents[0].nbytes == 256


@pytest.mark.parametrize(
    ("ggml_type", "name"),
    [(0, "F32"), (9, "type 9 (Q8_1)"), (15, "type 15 (Q8_K)"), (33, "type 33 (Q4_0_8_8)"), (139, "type 139")],
)
def test_types_that_no_format_has_go_by_number_and_by_ggmls_name(ggml_type, name):
    assert type_name(ggml_type, SPECS) == name


@pytest.mark.parametrize(("name", "fits"), [("b" * 63, True), ("b" * 64, False), ("é" * 32, False)])
def test_names_that_ggml_has_no_room_for_are_an_error(tmp_path, name, fits):
    path = write(tmp_path / "a.gguf", entry(name))
    if fits:
        assert open_gguf(path, SPECS).tensors[0].name == name
        return
    with pytest.raises(
        ModelError, match=rf"a\.gguf: the name of tensor '{name}' has 64 bytes; .* at most 63"
    ):
        open_gguf(path, SPECS)


@pytest.mark.parametrize(
    ("tensors", "data", "says"),
    [
        ([entry("a", (2, 32))], 128, r"'a' has 256 bytes, but only 128 up to the end of the file"),
        ([entry("a"), entry("b", offset=96)], 224, r"'a' has 128 bytes, but only 96 up to the next tensor"),
        ([entry("b", offset=96), entry("a")], 224, r"'a' has 128 bytes, but only 96 up to the next tensor"),
        ([entry("a", (2**30, 2**30))], 128, r"'a' has 4,611,686,018,427,387,904 bytes"),
        ([entry("a", (1, 33), 8)], 128, r"'a': Q8_0 stores blocks of 32 weights, and 33 don't divide"),
    ],
    ids=["beyond the file", "overlap", "overlap in reverse", "2^62 bytes", "half a block"],
)
def test_a_tensor_that_does_not_fit_its_room_is_an_error(tmp_path, tensors, data, says):
    with pytest.raises(ModelError, match=says) as caught:
        open_gguf(write(tmp_path / "a.gguf", *tensors, data=data), SPECS)
    assert str(caught.value).startswith(f"{tmp_path / 'a.gguf'}: ")


def test_an_importance_matrix_is_no_model(tmp_path):
    path = write(tmp_path / "a.gguf", entry("a"), general__type=GGUFValue.of(ValueType.STRING, "imatrix"))
    with pytest.raises(ModelError, match="is an importance matrix, not a model"):
        open_gguf(path, SPECS)


def test_an_architecture_that_is_not_said_is_empty(tmp_path):
    path = write(tmp_path / "a.gguf", entry("a"), general__architecture=number(7))
    assert open_gguf(path, SPECS).arch == ""


@pytest.fixture(scope="module")
def split_by_gguf_py(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("split")
    writer = GGUFWriter(folder / "model.gguf", "llama", split_max_tensors=2)
    writer.add_block_count(5)
    for i in range(5):
        writer.add_tensor(f"blk.{i}.attn_q.weight", np.full((i + 1, 32), i, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder


NAMES = [f"model-0000{i}-of-00003.gguf" for i in (1, 2, 3)]


@pytest.mark.parametrize("name", NAMES)
def test_any_shard_stands_for_the_whole_model(split_by_gguf_py, name):
    model = open_gguf(split_by_gguf_py / name, SPECS)
    assert [file.name for file in model.files] == NAMES
    assert list(model.metadata) == ["general.architecture", "llama.block_count"]
    assert [(tensor.name, tensor.rows) for tensor in model.tensors] == [
        (f"blk.{i}.attn_q.weight", i + 1) for i in range(5)
    ]
    with TensorReader() as reader:
        for i, tensor in enumerate(model.tensors):
            out = np.empty((i + 1, 128), np.uint8)
            reader.read(model.sources[tensor.name].extents, 0, out)
            assert (out.view(np.float32) == i).all()


def shard(folder: Path, number_: int, *names: str, count: int = 2, tensors: int = 2, said: int = -1) -> Path:
    """Shard `number_` (from 1) that says that it is shard `said` (from 0)."""
    return write(
        folder / f"m-{number_:05}-of-{count:05}.gguf",
        *(entry(name, offset=128 * i) for i, name in enumerate(names)),
        data=128 * len(names),
        split__no=number(number_ - 1 if said < 0 else said),
        split__count=number(count),
        split__tensors__count=number(tensors, ValueType.INT32),
    )


def test_a_missing_shard_is_named(tmp_path):
    path = shard(tmp_path, 2, "b")
    with pytest.raises(ModelError, match=r"m-00002-of-00002\.gguf: m-00001-of-00002\.gguf is missing"):
        open_gguf(path, SPECS)


def test_a_renamed_shard_is_told_its_name(tmp_path):
    path = shard(tmp_path, 2, "b").rename(tmp_path / "mine.gguf")
    with pytest.raises(ModelError, match=r"is shard 2 of 2, .*; name it NAME-00002-of-00002\.gguf"):
        open_gguf(path, SPECS)


def test_shards_in_each_others_places_are_an_error(tmp_path):
    first = shard(tmp_path, 1, "a")
    shard(tmp_path, 2, "b", said=0)
    with pytest.raises(ModelError, match=r"m-00002-of-00002\.gguf: is not shard 2 of 2, as its name says"):
        open_gguf(first, SPECS)


def test_a_shard_of_another_model_is_noticed(tmp_path):
    first = shard(tmp_path, 1, "a", tensors=3)
    shard(tmp_path, 2, "b", tensors=3)
    with pytest.raises(ModelError, match="says that its 2 shards hold 3 tensors, but they hold 2"):
        open_gguf(first, SPECS)


def test_a_tensor_in_two_shards_is_an_error(tmp_path):
    first = shard(tmp_path, 1, "a")
    shard(tmp_path, 2, "a")
    with pytest.raises(ModelError, match="tensor 'a' is in another shard, too"):
        open_gguf(first, SPECS)


def test_a_split_count_that_is_no_number_is_an_error(tmp_path):
    path = write(tmp_path / "a.gguf", entry("a"), split__count=GGUFValue.of(ValueType.STRING, "two"))
    with pytest.raises(ModelError, match=r"split\.count is 'two' \(expected: a number\)"):
        open_gguf(path, SPECS)


def test_a_split_of_one_is_whole(tmp_path):
    path = write(tmp_path / "a.gguf", entry("a"), split__count=number(1), split__no=number(0))
    assert open_gguf(path, SPECS).files == (path,)
