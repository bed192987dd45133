"""Rerankers: how they are known, and folders without what they answer with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.recorded_architectures import edit_config, write_recorded

from quantrecipe.errors import ModelError
from quantrecipe.model.open_model import open_model


def is_reranker(folder: Path) -> bool:
    return "cls.output.weight" in {tensor.name for tensor in open_model(folder).tensors}


@pytest.mark.parametrize(
    ("readme", "named", "expected"),
    [
        ("# Qwen3-Reranker-8B\n", "", True),
        ("intro\n# Qwen3-VL-Reranker-2B", "", True),
        ("It is as good as Qwen3-Reranker.", "", False),
        ("", "Qwen/Qwen3-Reranker-4B", True),
        ("", "Qwen/Qwen3-4B", False),
    ],
)
def test_how_it_is_known(readme: str, named: str, expected: bool, tmp_path: Path) -> None:
    folder = write_recorded("qwen3-reranker", tmp_path).rename(tmp_path / "snapshot")
    (folder / "README.md").write_text(readme)
    assert is_reranker(edit_config(folder, _name_or_path=named)) is expected


def test_the_rows_of_yes_and_no(tmp_path: Path) -> None:
    folder = write_recorded("qwen3-reranker", tmp_path)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    added = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    found = tokenizer["model"]["vocab"] | added
    model = open_model(folder)
    rows = [extent.offset for extent in model.sources["cls.output.weight"].extents]
    start = model.sources["token_embd.weight"].extents[0].offset
    assert [(row - start) // (2 * 64) for row in rows] == [found["yes"], found["no"]]


@pytest.mark.parametrize("number", [None, -1, "7", 1_000_000])
def test_no_answer(number: object, tmp_path: Path) -> None:
    folder = write_recorded("qwen3-reranker", tmp_path)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["added_tokens"] = [it for it in tokenizer["added_tokens"] if it["content"] not in ("yes", "no")]
    tokenizer["model"]["vocab"] |= {"yes": number, "no": 1}
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match=r"has no token 'yes'|there is a token 1000000"):
        open_model(folder)
