"""The hooks that a plugin may implement. Each takes no arguments and returns data.

A plugin names its module in its pyproject.toml:

    [project.entry-points.quantrecipe]
    mine = "quantrecipe_mine"

The module should import quickly; kernels are compiled on first use.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

from quantrecipe.api import Analysis, Encoder, Executor, QuantFormat, RecipeFolder

if TYPE_CHECKING:
    from quantrecipe.model.architectures import Architecture

__all__ = [
    "quantrecipe_analyses",
    "quantrecipe_architectures",
    "quantrecipe_encoders",
    "quantrecipe_executors",
    "quantrecipe_formats",
    "quantrecipe_recipes",
]

hookspec = pluggy.HookspecMarker("quantrecipe")


@hookspec
def quantrecipe_formats() -> Iterable[QuantFormat]:  # type: ignore[empty-body]  # pluggy never runs a spec
    """Formats to add: instances of QuantFormat, with default options.

    from quantrecipe.api import hookimpl
    from quantrecipe_mine.q3_x import Q3X

    @hookimpl
    def quantrecipe_formats():
        return [Q3X()]
    """


@hookspec
def quantrecipe_analyses() -> Iterable[Analysis]:  # type: ignore[empty-body]  # pluggy never runs a spec
    """Sensitivity analyses to add: instances of TensorAnalysis or ModelAnalysis.

    from quantrecipe.api import hookimpl
    from quantrecipe_mine.outliers import Outliers

    @hookimpl
    def quantrecipe_analyses():
        return [Outliers()]
    """


@hookspec
def quantrecipe_architectures() -> Iterable[Architecture]:  # type: ignore[empty-body]  # pluggy never runs a spec
    """Architectures of Hugging Face folders to add. It is called when the first such folder is opened.

    from quantrecipe.api import hookimpl

    @hookimpl
    def quantrecipe_architectures():
        from quantrecipe_mine.marvin import MARVIN

        return [MARVIN]
    """


@hookspec
def quantrecipe_encoders() -> Iterable[Encoder]:  # type: ignore[empty-body]  # pluggy never runs a spec
    """Encoders to add, other ways from weights to the bytes of formats: instances of Encoder, with default options.

    from quantrecipe.api import hookimpl
    from quantrecipe_mine.halves_up import HalvesUp

    @hookimpl
    def quantrecipe_encoders():
        return [HalvesUp()]
    """


@hookspec
def quantrecipe_executors() -> Iterable[Executor]:  # type: ignore[empty-body]  # pluggy never runs a spec
    """Executors to add, which run work on other processes or machines: instances of Executor, with default options.

    from quantrecipe.api import hookimpl
    from quantrecipe_mine.queue import Queue

    @hookimpl
    def quantrecipe_executors():
        return [Queue()]
    """


@hookspec
def quantrecipe_recipes() -> Iterable[RecipeFolder]:  # type: ignore[empty-body]  # pluggy never runs a spec
    """Folders of recipes to add: `extends: mine/agents` then finds `recipes/agents.yaml` in the package.

    from pathlib import Path
    from quantrecipe.api import RecipeFolder, hookimpl

    @hookimpl
    def quantrecipe_recipes():
        return [RecipeFolder(prefix="mine", folder=Path(__file__).parent / "recipes")]
    """
