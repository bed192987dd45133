"""Targets: what a model's file or folder says of itself, and what the hub says of a repository."""

from __future__ import annotations

import json
import shutil
import struct
from contextlib import suppress
from functools import cache
from pathlib import Path
from unittest.mock import patch

from fuzz.answers import Target, answered, folder, registry, written
from huggingface_hub.hf_api import HfApi, ModelInfo
from support.huggingface import DATA, write_model
from support.recorded_architectures import NAMES, write_recorded

from quantrecipe.exchange.from_files.recover import recover
from quantrecipe.gguf.header import read_header
from quantrecipe.misplaced import kind_of
from quantrecipe.model.checkpoint import open_checkpoint
from quantrecipe.model.hub.address import HubAddress
from quantrecipe.model.hub.listing import list_repository
from quantrecipe.model.model import Model
from quantrecipe.model.model_card import general_pairs
from quantrecipe.model.open_model import open_model
from quantrecipe.model.safetensors import read_safetensors_header
from quantrecipe.model.shapes import open_shapes
from quantrecipe.model.tokenizer import Vocabulary, tokenizer_pairs

__all__ = ["OF_JSON", "OTHERS", "TARGETS"]

_TOKENIZERS = Path(__file__).parents[1] / "data/tokenizers"
_MOST_DATA = 1 << 16
OF_JSON = ("bpe", "wordpiece", "llama-hf", "gemma4", "whitespace", "unigram")
OTHERS = {
    "tokenizer.model": "sentencepiece", "spiece.model": "unigram", "tiktoken.model": "tiktoken",
    "tekken.json": "mistral", "tokenizer.jsonl": "plamo", "rwkv_vocab_v20230424.txt": "rwkv",
}  # fmt: skip
_COMMIT = "0123456789" * 4


def _writable(model: Model) -> None:
    """What is read of a model becomes a file one day."""
    for tensor in model.tensors:
        tensor.name.encode()
    for key, value in model.metadata.items():
        key.encode()
        value.decode()


def gguf(data: bytes) -> None:
    """The header of a GGUF, and the mix that is recovered from it."""
    path = written("fuzz.gguf", data)
    with answered():
        read_header(path)
        model = open_model(path, registry=registry())
        _writable(model)
        recover(model, registry(), name="fuzz", presets=False)


def shapes(data: bytes) -> None:
    """A shape file."""
    with answered():
        model = open_shapes(written("fuzz.json", data))
        _writable(model)
        recover(model, registry(), name="fuzz", presets=False)


def safetensors(data: bytes) -> None:
    """The header of a safetensors file: as it stands, or, if it begins with {, behind its length, before its data."""
    if data[:1] == b"{":
        data = struct.pack("<Q", len(data)) + data + bytes(_claimed(data))
    path = written("fuzz.safetensors", data)
    with answered():
        read_safetensors_header(path)
        _writable(open_model(path, arch="flux", registry=registry()))


def _claimed(header: bytes) -> int:
    """The bytes that a header's tensors reach to, up to a few, so that it isn't refused for their lack alone."""
    with suppress(ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
        ends = [entry["data_offsets"][1] for entry in json.loads(header).values() if "data_offsets" in entry]
        return int(min(_MOST_DATA, max(0, 0, *ends)))
    return 0


@cache
def _sharded() -> Path:
    return write_model("mistral-sharded", folder())


def index(data: bytes) -> None:
    """The index of a checkpoint, beside its two shards."""
    (_sharded() / "model.safetensors.index.json").write_bytes(data)
    with answered():
        open_checkpoint(_sharded())


@cache
def _model(name: str) -> Path:
    (folder() / name).mkdir()
    return write_recorded(name, folder() / name)


def config(data: bytes) -> None:
    """A config.json, beside the tensors and the vocabulary of the architecture that the first line names."""
    line, _, rest = data.partition(b"\n")
    name = line.decode(errors="replace")
    model = _model(name if name in NAMES else NAMES[sum(line) % len(NAMES)])
    (model / "config.json").write_bytes(rest)
    with answered():
        _writable(open_model(model, registry=registry()))


def companion(data: bytes) -> None:
    """Another JSON file of such a folder, which the second word of the first line names."""
    line, _, rest = data.partition(b"\n")
    words = line.decode(errors="replace").split(" ")
    name = words[0] if words[0] in NAMES else NAMES[sum(line) % len(NAMES)]
    model = _model(name)
    known = _companions(name)
    path = next((it for it in known if it.relative_to(model).as_posix() == words[-1]), None)
    if path is None:
        if not known:
            return
        path = known[sum(line) % len(known)]
    before = path.read_bytes()
    path.write_bytes(rest)
    try:
        with answered():
            _writable(open_model(model, registry=registry()))
    finally:
        path.write_bytes(before)


@cache
def _companions(name: str) -> list[Path]:
    files = sorted(_model(name).rglob("*.json"))
    return [path for path in files if path.name != "tokenizer.json" and path != _model(name) / "config.json"]


def card(data: bytes) -> None:
    """A README.md, or with { at its beginning a generation_config.json."""
    where = _empty("card")
    path = where / ("generation_config.json" if data[:1] == b"{" else "README.md")
    path.write_bytes(data)
    try:
        with answered():
            for value in general_pairs(where, "llama", (10**6, 0, 0, 0)).values():
                value.decode()
    finally:
        path.unlink()


@cache
def _empty(name: str) -> Path:
    made = folder() / name
    made.mkdir()
    return made


def _pairs(where: Path, kind: str) -> None:
    vocabulary = Vocabulary(kinds=(kind, "bpe"), pre=("llama-bpe",) if kind == "tiktoken" else ())
    with answered():
        for value in tokenizer_pairs(where, None, {"vocab_size": 300}, vocabulary=vocabulary).values():
            value.decode()


def tokenizer(data: bytes) -> None:
    """A tokenizer.json; the first byte says which kind its vocabulary should be."""
    where = _empty("of-json")
    (where / "tokenizer.json").write_bytes(data[1:])
    _pairs(where, OF_JSON[data[0] % len(OF_JSON)] if data else "bpe")


def tokenizer_config(data: bytes) -> None:
    """A tokenizer_config.json beside a tokenizer.json, or, if the first byte is odd, beside a tokenizer.model."""
    odd = bool(data) and data[0] % 2 == 1
    where = _empty("configured-model" if odd else "configured")
    name, source = (
        ("tokenizer.model", DATA / "llama-sentencepiece/tokenizer.model")
        if odd
        else ("tokenizer.json", DATA / "qwen2/tokenizer.json")
    )
    if not (where / name).exists():
        shutil.copy(source, where / name)
    (where / "tokenizer_config.json").write_bytes(data[1:])
    _pairs(where, "sentencepiece" if odd else "bpe")


def vocabulary(data: bytes) -> None:
    """The files of other vocabularies; the first byte says which: a tokenizer.model, tiktoken's, tekken's, …"""
    name = list(OTHERS)[data[0] % len(OTHERS) if data else 0]
    where = _empty(f"of-{name}")
    (where / name).write_bytes(data[1:])
    if name == "tiktoken.model" and not (where / "tokenizer_config.json").exists():
        shutil.copy(_TOKENIZERS / "kimi-k2/tokenizer_config.json", where)
    _pairs(where, OTHERS[name])


def misplaced(data: bytes) -> None:
    """A file that stands where another kind was expected."""
    with answered():
        kind_of(written("fuzz.any", data))


def hub(data: bytes) -> None:
    """What the hub says of a repository."""
    try:
        said = {"id": "owner/name", "sha": _COMMIT} | json.loads(data)
    except (ValueError, TypeError, RecursionError):  # what fetches it reads JSON
        return

    def answer(*_: object, **__: object) -> ModelInfo:
        return ModelInfo(**said)

    with patch.object(HfApi, "model_info", answer), answered():
        for entry in list_repository(HubAddress(repo="owner/name")).entries:
            entry.path.encode()


TARGETS: tuple[Target, ...] = (
    *(gguf, shapes, safetensors, index, config, companion, card),
    *(tokenizer, tokenizer_config, vocabulary, misplaced, hub),
)
