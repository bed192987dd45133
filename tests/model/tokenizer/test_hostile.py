"""Files of a tokenizer with one value replaced by nonsense are read, or refused by a ModelError."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.vocabularies import DATA, KINDS

from quantrecipe.errors import ModelError
from quantrecipe.model.tokenizer import tokenizer_pairs

NONSENSE: tuple[Any, ...] = (None, True, -1, 2**40, 0.5, "x", "\ud800", [], [3], [[]], {}, {"x": 3})
FILES = ("tokenizer.json", "tokenizer_config.json")
FEW = 3
"""Of a long list or object, this many items are replaced: the others are like these."""
CASES = [(kind, name) for kind in KINDS for name in FILES if (DATA / kind / name).is_file()]


def spoiled(value: Any) -> Iterator[Any]:
    """The document, each time with another value replaced."""
    yield from NONSENSE
    if isinstance(value, dict):
        for key in list(value)[:FEW] if len(value) > 12 else list(value):
            yield {other: item for other, item in value.items() if other != key}
            for item in spoiled(value[key]):
                yield value | {key: item}
    elif isinstance(value, list):
        for at in range(min(FEW, len(value))):
            for item in spoiled(value[at]):
                yield [*value[:at], item, *value[at + 1 :]]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_one_value(kind: str, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(DATA / kind, folder)
    document = json.loads((folder / name).read_text(encoding="utf-8"))
    converted = json.loads((DATA / kind / "converted.json").read_text(encoding="utf-8"))
    rows = next(value["count"] for key, _, value in converted if key == "tokenizer.ggml.tokens")
    read = 0
    for changed in spoiled(document):
        (folder / name).write_text(json.dumps(changed))
        try:
            tokenizer_pairs(folder, rows, {"eos_token_id": 3}, vocabulary=KINDS[kind])
            read += 1
        except ModelError as error:
            assert str(folder) in str(error)
    assert read > 0
