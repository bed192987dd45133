"""The presets that `fit` compares with, read once in a process: that takes a third of a small fit."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import pytest

from quantrecipe.fit import fit
from quantrecipe.fit.stock import stock_recipes
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry

__all__ = ["read_stock_once"]

_READ: dict[Any, Mapping[str, Recipe]] = {}


def read_stock_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """`fit` gets what was read before, of a registry with the same formats and folders."""
    monkeypatch.setattr(sys.modules[fit.__module__], "stock_recipes", _read)


def _read(registry: Registry) -> Mapping[str, Recipe]:
    key = (*registry.formats, *registry.recipe_folders.items(), registry.plugins_on)
    if key not in _READ:
        _READ[key] = stock_recipes(registry)
    return _READ[key]
