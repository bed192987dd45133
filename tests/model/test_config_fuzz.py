"""Whatever config.json and its neighbours say, opening a folder ends in a model or in a ModelError."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from support.huggingface import write_model
from support.recorded_architectures import NAMES, PROJECTORS, edit_config, write_recorded

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures.families import ALL, by_class
from quantrecipe.model.checkpoint import open_checkpoint
from quantrecipe.model.huggingface import open_huggingface

KNOWN = by_class(ALL)
NONSENSE: tuple[Any, ...] = (
    [], [1, 2], [[]], {}, {"a": 1}, "x", "\ud800", 10**300, 10**40, 2**31, -1, 0, 0.5, 1e300, float("nan"), None, True,
)  # fmt: skip
KEYS = {
    "architectures", "quantization_config", "_name_or_path", "is_causal", "draft_vocab_size", "tie_word_embeddings",
    "vocab_size", "hidden_size", "n_embd", "intermediate_size", "n_inner", "head_dim", "max_position_embeddings",
    "num_hidden_layers", "n_layers", "num_attention_heads", "num_key_value_heads", "rms_norm_eps", "layer_norm_eps",
    "num_experts", "num_local_experts", "num_experts_per_tok", "n_group", "topk_group", "moe_intermediate_size",
    "shared_expert_intermediate_size", "bos_token_id", "eos_token_id", "unk_token_id",
    "rope_theta", "rope_scaling", "rope_parameters", "original_max_position_embeddings",
}  # fmt: skip
ROPE = {
    "rope_type", "type", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings",
    "attention_factor", "beta_fast", "rope_theta",
}  # fmt: skip


def only_model_errors(folder: Path, file: str, variants: list[Any]) -> None:
    checkpoint = open_checkpoint(folder)
    refused = 0
    for values in variants:
        (folder / file).write_text(json.dumps(values), encoding="utf-8")
        try:
            open_huggingface(folder, checkpoint, KNOWN)
        except ModelError:
            refused += 1
    assert refused, "nothing was refused: the file isn't read"


def places(values: Any, outer: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all values within objects, and to the first in lists."""
    inner = (
        values.items()
        if isinstance(values, dict)
        else enumerate(values[:1])
        if isinstance(values, list)
        else ()
    )
    for key, value in inner:
        yield (*outer, key)
        yield from places(value, (*outer, key))


def put(values: Any, keys: Sequence[Any], value: Any) -> None:
    """Set a value within objects and lists."""
    *outer, last = keys
    for key in outer:
        values = values[key]
    values[last] = value


@pytest.mark.parametrize("name", ["Acme-Fable-3-1B-Instruct-v1.2", "qwen2moe", "llama-sentencepiece"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.slow
def test_any_value_of_any_key(name: str, file: str, tmp_path: Path) -> None:
    folder = write_model(name, tmp_path)
    values = json.loads((folder / file).read_text(encoding="utf-8"))
    keys = values.keys() | (KEYS if file == "config.json" else {"added_tokens_decoder", "add_prefix_space"})
    only_model_errors(folder, file, [{**values, key: bad} for key in sorted(keys) for bad in NONSENSE])


@pytest.mark.parametrize("part", ["model", "mmproj"])
@pytest.mark.slow
def test_any_key_of_any_architecture(part: str, tmp_path: Path) -> None:
    """Two values for each key, however deep it lies; the next key gets the next two."""
    values, refused = cycle(NONSENSE), 0
    for name in NAMES if part == "model" else PROJECTORS:
        folder = write_recorded(name, tmp_path / name)
        checkpoint, config = open_checkpoint(folder), json.loads((folder / "config.json").read_text())
        for keys, bad in [(keys, next(values)) for keys in places(config) for _ in range(2)]:
            edit_config(folder, lambda it, keys=keys, bad=bad: put(it, keys, bad))  # type: ignore[misc]  # bound by default
            try:
                open_huggingface(folder, checkpoint, KNOWN, part=part)
            except ModelError:
                refused += 1
            (folder / "config.json").write_text(json.dumps(config))
    assert refused > 100, "nothing was refused: the files aren't read"


@pytest.mark.parametrize(
    ("name", "keys", "value"),
    [
        ("bailingmoe2", ["score_function"], []),
        ("gemma4", ["text_config", "global_head_dim"], 2**31),
        ("glm4v", ["text_config", "num_attention_heads"], 2**31),
        ("museglimmer", ["text_config", "head_dim"], 2**31),
        ("gemma3n", ["text_config", "vocab_size"], 2**31),
        ("jamba-dense", ["num_hidden_layers"], 2**31),
        ("laguna", ["num_hidden_layers"], 2**31),
        ("lfm2", ["block_ffn_dim_multiplier"], float("nan")),
        ("lfm2-moe", ["num_dense_layers"], 2**31),
        ("glm4moe", ["num_nextn_predict_layers"], 2**31),
        ("llama3", ["architectures"], [[]]),
    ],
)
def test_what_took_all_memory_or_was_no_error(name: str, keys: list[str], value: Any, tmp_path: Path) -> None:
    folder = edit_config(write_recorded(name, tmp_path), lambda it: put(it, keys, value))
    with pytest.raises(ModelError, match=r"config\.json|is missing"):
        open_huggingface(folder, open_checkpoint(folder), KNOWN)


@pytest.mark.parametrize("kind", ["yarn", "llama3", "longrope"])
def test_any_value_of_the_rotary_embedding(kind: str, tmp_path: Path) -> None:
    folder = write_model("llama-tied", tmp_path)
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    scaling = {"rope_type": kind, "factor": 2.0}
    variants = [
        {**values, "rope_parameters": scaling | {key: bad}} for key in sorted(ROPE) for bad in NONSENSE
    ]
    only_model_errors(folder, "config.json", variants)


@pytest.mark.parametrize("file", ["generation_config.json", "tokenizer.json"])
def test_any_value_of_other_files(file: str, tmp_path: Path) -> None:
    folder = write_model("Acme-Fable-3-1B-Instruct-v1.2", tmp_path)
    values = json.loads((folder / file).read_text(encoding="utf-8"))
    only_model_errors(folder, file, [{**values, key: bad} for key in sorted(values) for bad in NONSENSE])


def test_any_list_of_modules(tmp_path: Path) -> None:
    folder = write_model("Qwen3-Embedding-0.1B", tmp_path)
    modules = [[{"type": bad, "path": bad}] for bad in NONSENSE]
    modules += [[{"type": "x.Pooling", "path": bad}] for bad in NONSENSE]
    only_model_errors(folder, "modules.json", [*NONSENSE, *modules])
