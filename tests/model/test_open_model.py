"""open_model: what a path is decides how it is read; what holds no model says so, and what to give instead."""

import json
import shutil
import struct
from math import prod
from pathlib import Path

import pytest

from quantrecipe.errors import ModelError
from quantrecipe.gguf.header import TensorEntry
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header
from quantrecipe.model.open_model import open_model

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny-code"


def safetensors(path: Path, **tensors: tuple[str, tuple[int, ...], int]) -> Path:
    """name=(dtype, shape, bytes), one behind the other."""
    entries, at = {}, 0
    for name, (dtype, shape, nbytes) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + nbytes]}
        at += nbytes
    raw = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(at))
    return path


def gguf(path: Path, arch: str = "llama") -> Path:
    tensor = TensorEntry(name="output.weight", shape=(1, 32), ggml_type=0, offset=0)
    metadata = {"general.architecture": GGUFValue.of(ValueType.STRING, arch)}
    path.write_bytes(encode_header(metadata, [tensor]) + bytes(128))
    return path


@pytest.mark.parametrize("name", ["model.gguf", "blob-without-a-suffix", "misnamed.safetensors"])
def test_a_gguf_is_known_by_its_first_bytes(tmp_path, name):
    model = open_model(gguf(tmp_path / name))
    assert (model.container, model.arch, model.tensors[0].dtype) == ("gguf", "llama", "F32")


def test_a_file_that_is_called_gguf_and_is_none_says_so(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"<!DOCTYPE html><html>not found</html>")
    with pytest.raises(ModelError, match=r"is not a GGUF file: it begins with b'<!DO'"):
        open_model(tmp_path / "a.gguf")


@pytest.mark.parametrize("name", ["", "model.safetensors"])
def test_a_hugging_face_folder_is_opened_by_itself_and_by_its_weights(name):
    model = open_model(EXAMPLE / name)
    assert (model.container, model.arch) == ("huggingface", "llama")
    assert {tensor.name for tensor in model.tensors} >= {"token_embd.weight", "blk.3.ffn_down.weight"}


def test_bare_safetensors_keep_their_names(tmp_path):
    path = safetensors(
        tmp_path / "flux.safetensors",
        **{
            "double_blocks.0.img_attn.qkv.weight": ("BF16", (4, 8), 64),
            "position_ids": ("I64", (3,), 24),
            "logit_scale": ("F32", (), 4),
        },
    )
    model = open_model(path, arch="flux")
    assert (model.container, model.arch, model.files) == ("safetensors", "flux", (path,))
    assert {key: value.decode() for key, value in model.metadata.items()} == {"general.architecture": "flux"}
    assert [(tensor.name, tensor.shape, tensor.dtype) for tensor in model.tensors] == [
        ("double_blocks.0.img_attn.qkv.weight", (4, 8), "BF16"),
        ("position_ids", (3,), "I64"),
        ("logit_scale", (1,), "F32"),
    ]
    assert model.sources["position_ids"].extents[0].nbytes == 24
    assert open_model(tmp_path, arch="flux").tensors == model.tensors


def test_bare_safetensors_need_the_name_of_an_architecture(tmp_path):
    path = safetensors(tmp_path / "a.safetensors", a=("F32", (1,), 4))
    with pytest.raises(ModelError, match=r"has no config\.json beside it.*--arch NAME"):
        open_model(path)


def test_an_architecture_that_contradicts_the_files_is_an_error(tmp_path):
    path = gguf(tmp_path / "a.gguf")
    assert open_model(path, arch="llama").arch == "llama"
    with pytest.raises(ModelError, match=r"its architecture is 'llama', not 'qwen2'; leave --arch out"):
        open_model(path, arch="qwen2")


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (("F8_E4M3", (4,), 4), "tensor 'a' has the dtype F8_E4M3, which can't be converted"),
        (("BOOL", (4,), 4), "tensor 'a' has the dtype BOOL"),
    ],
    ids=["F8", "BOOL"],
)
def test_what_a_gguf_can_not_hold_is_named(tmp_path, tensor, says):
    path = safetensors(tmp_path / "a.safetensors", a=tensor)
    with pytest.raises(ModelError, match=says):
        open_model(path, arch="flux")


def test_shapes_that_only_other_programs_load_are_kept(tmp_path):
    shapes = {"five": (2, 1, 1, 1, 2), "empty": (0, 7), "scalar": ()}
    tensors = {name: ("F32", shape, 4 * prod(shape)) for name, shape in shapes.items()}
    found = open_model(safetensors(tmp_path / "a.safetensors", **tensors), arch="wan")
    assert {t.name: t.shape for t in found.tensors} == {**shapes, "scalar": (1,)}


def test_names_that_ggml_has_no_room_for_are_an_error(tmp_path):
    path = safetensors(tmp_path / "a.safetensors", **{"a" * 63: ("F32", (1,), 4), "b" * 64: ("F32", (1,), 4)})
    with pytest.raises(ModelError, match=rf"a\.safetensors: the name of tensor '{'b' * 64}' has 64 bytes"):
        open_model(path, arch="flux")


def test_a_file_without_tensors_is_no_model(tmp_path):
    path = safetensors(tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=r"a\.safetensors: holds no tensors"):
        open_model(path, arch="flux")


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match=r"there is no such file or folder; give a \.gguf file"):
        open_model(tmp_path / "none")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_pickles_are_never_opened(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\3\4")
    with pytest.raises(ModelError, match="PyTorch pickle, which can run any code"):
        open_model(tmp_path / name)
    with pytest.raises(ModelError, match=rf"pickles .{name}., (which can run any code|which are programs)"):
        open_model(tmp_path)


def test_other_files_and_folders_are_no_models(tmp_path):
    with pytest.raises(ModelError, match=r"holds no \.safetensors files"):
        open_model(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ModelError, match="is not a model; give"):
        open_model(tmp_path / "notes.txt")


def test_a_folder_with_an_index_alone_names_the_missing_shards(tmp_path):
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"model-00001-of-00001\.safetensors is missing"):
        open_model(tmp_path, arch="flux")


def test_a_folder_of_ggufs_asks_for_the_file(tmp_path):
    gguf(tmp_path / "b.gguf")
    gguf(tmp_path / "a.gguf")
    with pytest.raises(
        ModelError, match=r"but a folder of GGUF files; give the file: .*a\.gguf \(or another of its 2\)"
    ):
        open_model(tmp_path)


def test_half_a_download_is_an_error_that_names_the_file(tmp_path):
    folder = shutil.copytree(EXAMPLE, tmp_path / "model")
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(2_000_000)
    with pytest.raises(
        ModelError, match=r"model\.safetensors: tensor .* beyond the end of the file \(2,000,000"
    ):
        open_model(folder)
