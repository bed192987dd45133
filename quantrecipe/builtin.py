"""The built-in plugin: quantrecipe's own formats, analyses, encoders, executors and recipes, through others' door."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from quantrecipe.analyses import ALL as ANALYSES
from quantrecipe.api import Analysis, Encoder, Executor, QuantFormat, RecipeFolder, hookimpl
from quantrecipe.encoders import ALL as ENCODERS
from quantrecipe.executors import ALL as EXECUTORS
from quantrecipe.formats import ALL as FORMATS

if TYPE_CHECKING:
    from quantrecipe.model.architectures import Architecture

__all__ = [
    "quantrecipe_analyses",
    "quantrecipe_architectures",
    "quantrecipe_encoders",
    "quantrecipe_executors",
    "quantrecipe_formats",
    "quantrecipe_recipes",
    "shipped_recipes",
]

_PACKAGE = Path(__file__).parent


@hookimpl
def quantrecipe_formats() -> Iterable[QuantFormat]:
    """The formats of mainline ggml."""
    return FORMATS


@hookimpl
def quantrecipe_analyses() -> Iterable[Analysis]:
    """Ways to know what a type costs."""
    return ANALYSES


@hookimpl
def quantrecipe_architectures() -> Iterable[Architecture]:
    """The architectures of llama.cpp. A plan of a GGUF needs none of them."""
    from quantrecipe.model.architectures.families import ALL

    return ALL


@hookimpl
def quantrecipe_encoders() -> Iterable[Encoder]:
    """Ways from weights to bytes."""
    return ENCODERS


@hookimpl
def quantrecipe_executors() -> Iterable[Executor]:
    """What runs on this machine."""
    return EXECUTORS


@hookimpl
def quantrecipe_recipes() -> Iterable[RecipeFolder]:
    """`quantrecipe/NAME`: the curated recipes. `PREFIX/NAME`: the presets in `recipes/presets/PREFIX/`.

    A folder may be of one version of what it reproduces: `llama.cpp@b11312`.
    """
    recipes = shipped_recipes()
    presets = sorted(path for path in recipes.glob("presets/*") if path.is_dir())
    return [
        RecipeFolder(prefix="quantrecipe", folder=recipes),
        *(RecipeFolder(prefix=path.name, folder=path) for path in presets),
    ]


def shipped_recipes() -> Path:
    """The folder of recipes: inside the package where it was installed, beside it in a source tree."""
    installed = _PACKAGE / "shipped_recipes"
    return installed if installed.is_dir() else _PACKAGE.parent / "recipes"
