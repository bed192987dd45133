"""quantrecipe: GGUF quantization from declarative, reviewable recipes.

    registry = quantrecipe.load_registry()
    recipe = quantrecipe.load_recipe("recipes/code-model.yaml", registry=registry)
    model = quantrecipe.open_model("model.safetensors")
    plan = quantrecipe.make_plan(recipe, model, registry=registry)
    quantrecipe.apply_plan(plan, "model.gguf", registry=registry)

Importing the package loads none of its parts; each is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantrecipe.model.open_model import open_model
    from quantrecipe.output.apply import apply_plan
    from quantrecipe.planning import make_plan
    from quantrecipe.recipe.load import load_recipe
    from quantrecipe.registry import load_registry

__version__ = "0.1.0"

__all__ = ["__version__", "apply_plan", "load_recipe", "load_registry", "make_plan", "open_model"]

_HOMES = {
    "apply_plan": "quantrecipe.output.apply",
    "load_recipe": "quantrecipe.recipe.load",
    "load_registry": "quantrecipe.registry",
    "make_plan": "quantrecipe.planning",
    "open_model": "quantrecipe.model.open_model",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'quantrecipe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
