"""What travels is the same there, wherever it is read from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from quantrecipe.errors import QuantrecipeError
from quantrecipe.output.shares.travelling import dumped, loaded
from quantrecipe.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


def test_formats_and_encoders_are_those_of_the_place(registry: Registry) -> None:
    sent = {
        "format": registry.format("Q4_K"),
        "encoder": registry.encoder("feedback").with_options({"damping": 0.5}),
    }
    found = loaded(dumped(sent), registry)
    assert found["format"] is registry.format("Q4_K")
    assert found["encoder"].options["damping"] == 0.5
    empty = replace(registry, formats=MappingProxyType({}))
    with pytest.raises(QuantrecipeError):
        loaded(dumped(registry.format("Q4_K")), empty)


def test_paths_are_absolute(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may have another current folder."""
    monkeypatch.chdir(tmp_path)
    data = dumped(MappingProxyType({"path": Path("model.gguf")}))
    monkeypatch.chdir("/")
    assert loaded(data, registry)["path"] == tmp_path / "model.gguf"


def test_what_is_there_isn_t_sent(registry: Registry) -> None:
    class Large:
        def __reduce__(self) -> Any:
            raise AssertionError("it was sent")

    large, other = Large(), object()
    found = loaded(dumped([large, large, None], [None, large]), registry, [None, other])
    assert found == [other, other, None]
