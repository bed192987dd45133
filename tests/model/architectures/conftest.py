"""What tests of architectures share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.recorded_architectures import write_variant

from quantrecipe.model import huggingface
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Model]:
    """Opens a variant (`write_variant`) as if it had a vocabulary."""
    monkeypatch.setattr(huggingface, "tokenizer_pairs", lambda *_, **__: {})
    return lambda name, part="model", **changes: open_model(
        write_variant(name, tmp_path, **changes), part=part
    )
