"""Hugging Face folders, against what llama.cpp's converter made of the same ones (tests/data/huggingface/README.md)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from support.huggingface import DATA, MODELS, write_model

from quantrecipe.errors import ModelError
from quantrecipe.gguf.values import GGUFValue
from quantrecipe.model.architectures.families import ALL, by_class
from quantrecipe.model.checkpoint import open_checkpoint
from quantrecipe.model.huggingface import open_huggingface
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.model.source.reading import Reading
from quantrecipe.model.storable import as_ggml_writes
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.tensor import TensorInfo

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny-code"
KNOWN = by_class(ALL)
LONG = 16  # longer arrays are recorded as count and hash


@pytest.mark.parametrize("name", MODELS)
class TestAgainstTheConverter:
    def test_metadata(self, name: str, tmp_path: Path) -> None:
        model = open_model(write_model(name, tmp_path))
        assert metadata(model) == recorded(f"{name}/converted.json")["metadata"]

    def test_tensors(self, name: str, tmp_path: Path) -> None:
        model = open_model(write_model(name, tmp_path))
        answer = recorded(f"{name}/converted.json")["tensors"]
        assert tensors(model) == [
            [tensor, list(as_ggml_writes(tuple(shape))), *rest] for tensor, shape, *rest in answer
        ]


def test_the_example() -> None:
    model = open_model(EXAMPLE)
    assert {"metadata": metadata(model), "tensors": tensors(model)} == recorded("tiny-code.json")


class TestFolders:
    def test_name_is_the_folder_s_even_from_inside(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(write_model("llama-tied", tmp_path))
        assert open_model("model.safetensors").metadata["general.name"].decode() == "Llama Tied"

    def test_repetition_penalty_by_either_name(self, tmp_path: Path) -> None:
        folder = write_model("llama-tied", tmp_path)
        (folder / "generation_config.json").write_text('{"penalty_repeat": 1.5, "repetition_penalty": 1.25}')
        assert open_model(folder).metadata["general.sampling.penalty_repeat"].decode() == 1.5

    def test_a_model_card_of_odd_types_is_text(self, tmp_path: Path) -> None:
        folder = write_model("llama-tied", tmp_path)
        (folder / "README.md").write_text("---\nlicense: 2.0\ntags: [1, yes]\n---\n")
        pairs = open_model(folder).metadata
        assert (pairs["general.license"].decode(), pairs["general.tags"].decode()) == ("2.0", ["1", "True"])

    def test_pre_tokenizer_by_name(self, tmp_path: Path) -> None:
        folder = write_model("llama-tied", tmp_path)
        model = open_huggingface(folder, open_checkpoint(folder), KNOWN, pre="smollm")
        assert model.metadata["tokenizer.ggml.pre"].decode() == "smollm"
        with pytest.raises(ModelError, match="did you mean smollm"):
            open_huggingface(folder, open_checkpoint(folder), KNOWN, pre="smolm")


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"architectures": ["NoSuchModel"]}, "'NoSuchModel' is not supported .*help architectures"),
            ({"architectures": ["LlamoForCausalLM"]}, r"closest of \d\d\d: LlamaForCausalLM"),
            ({"architectures": ["x" * 10_000]}, "'x{57}…' is not supported"),
            ({"architectures": None}, "names no architecture"),
            ({"architectures": [["LlamaForCausalLM"]]}, "names no architecture"),
            ({"quantization_config": {"quant_method": "awq"}}, "weights are quantized by awq"),
            ({"num_hidden_layers": 1}, "'model.layers.1.* is none that a llama of 1 layers has"),
            ({"num_hidden_layers": "two"}, "num_hidden_layers: 'two'"),
            ({"num_hidden_layers": 2**31}, "num_hidden_layers: 2147483648, but there are only 22 tensors"),
            ({"num_attention_heads": 5}, "q_proj.* 64 rows, which don't divide among 5 heads"),
            ({"vocab_size": 200}, r"embed_tokens.* \(300, 64\) \(expected: \(200, 64\), by vocab_size"),
            ({"rope_theta": "high"}, "rope_theta: 'high'"),
            ({"draft_vocab_size": 8, "num_hidden_layers": 1}, "EAGLE-3"),
            ({"max_position_embeddings": 2**40}, "max_position_embeddings: 1099511627776"),
        ],
    )
    def test_config(self, change: dict[str, Any], message: str, tmp_path: Path) -> None:
        folder = write_model("llama-tied", tmp_path)
        edit(folder / "config.json", change)
        with pytest.raises(ModelError, match=message) as caught:
            open_model(folder)
        assert str(folder) in str(caught.value)

    @pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
    @pytest.mark.parametrize("raw", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000])
    def test_broken_json(self, file: str, raw: bytes, tmp_path: Path) -> None:
        folder = write_model("llama-tied", tmp_path)
        (folder / file).write_bytes(raw)
        with pytest.raises(ModelError, match=file):
            open_model(folder)

    def test_a_model_card_that_is_no_yaml(self, tmp_path: Path) -> None:
        folder = write_model("llama-tied", tmp_path)
        (folder / "README.md").write_text("---\ntags: [a\n---\n")
        with pytest.raises(ModelError, match=r"README.md: its front matter is not valid YAML"):
            open_model(folder)

    def test_a_reranker_without_its_answers(self, tmp_path: Path) -> None:
        folder = write_model("Qwen3-Embedding-0.1B", tmp_path).rename(tmp_path / "Qwen3-Reranker-0.6B")
        with pytest.raises(ModelError, match="has no token 'yes', with which a reranker answers"):
            open_model(folder)

    def test_pooling_outside_the_folder(self, tmp_path: Path) -> None:
        folder = write_model("Qwen3-Embedding-0.1B", tmp_path)
        (folder / "modules.json").write_text('[{"type": "x.Pooling", "path": "../elsewhere"}]')
        with pytest.raises(ModelError, match="points outside its folder"):
            open_model(folder)

    def test_no_tokenizer(self, tmp_path: Path) -> None:
        folder = write_model("llama-tied", tmp_path)
        (folder / "tokenizer.json").unlink()
        with pytest.raises(ModelError, match=r"has no tokenizer\.json"):
            open_model(folder)


def edit(path: Path, change: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def metadata(model: Model) -> list[list[Any]]:
    return [[key, described(value), content(value)] for key, value in model.metadata.items()]


def tensors(model: Model) -> list[list[Any]]:
    found = []
    with TensorReader() as reader:
        for tensor in model.tensors:
            type_ = converted_type(tensor)
            digest = hashlib.sha256(converted_bytes(model, tensor, type_, reader)).hexdigest()[:32]
            found.append([tensor.name, list(tensor.shape), type_, digest])
    return found


def recorded(name: str) -> dict[str, Any]:
    return json.loads((DATA / name).read_text(encoding="utf-8"))


def described(value: GGUFValue) -> str:
    return value.type.name + (f"[{value.item_type.name}]" if value.item_type is not None else "")


def content(value: GGUFValue) -> Any:
    decoded = value.decode()
    if isinstance(decoded, list) and len(decoded) > LONG:
        return {"count": len(decoded), "sha256": hashlib.sha256(value.payload).hexdigest()}
    return decoded


def converted_type(tensor: TensorInfo) -> str:
    """What the converter stores a tensor as: matrices in BF16, but for norms and routers."""
    routers = {"ffn_gate_inp", "ffn_gate_inp_shexp"}
    return "F32" if len(tensor.shape) == 1 or tensor.role in routers else "BF16"


def converted_bytes(model: Model, tensor: TensorInfo, type_: str, reader: TensorReader) -> bytes:
    """The content in the output's order, widened where the converter does."""
    source = model.sources[tensor.name]
    assert (source.shape, source.dtype) == (tensor.shape, tensor.dtype)
    rows = source.read(0, source.total_rows, Reading(reader))
    if type_ == source.dtype:
        return rows.tobytes()
    assert (source.dtype, type_) == ("BF16", "F32")
    return (rows.view("<u2").astype("<u4") << 16).tobytes()


@pytest.mark.parametrize("name", MODELS)
def test_every_file_that_was_read_is_told(name: str, tmp_path: Path) -> None:
    """So that none of them is written over; what isn't about the model isn't among them."""
    folder = write_model(name, tmp_path)
    (folder / "notes.txt").write_text("mine")
    there = {path.name for path in folder.iterdir() if path.is_file()} - {"notes.txt"}
    assert {path.name for path in open_model(folder).files} == there
