"""quantrecipe: GGUF quantization from declarative, reviewable recipes.

    plan = quantrecipe.make_plan("recipes/code-model.yaml", "model.safetensors")
    quantrecipe.apply_plan(plan, "model.gguf")

and, where several plans share their parts:

    registry = quantrecipe.load_registry()
    recipe = quantrecipe.load_recipe("recipes/code-model.yaml", registry=registry)
    model = quantrecipe.open_model("model.safetensors", registry=registry)
    plan = quantrecipe.make_plan(recipe, model, registry=registry)

Importing the package loads none of its parts; each is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantrecipe.calibration.gram import read_gram
    from quantrecipe.importance.read_importance import read_importance
    from quantrecipe.model.open_model import open_model
    from quantrecipe.output.apply import apply_plan
    from quantrecipe.planning import make_plan
    from quantrecipe.recipe.load import load_recipe
    from quantrecipe.registry import load_registry
    from quantrecipe.sensitivity.file import read_sensitivity

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "apply_plan",
    "load_recipe",
    "load_registry",
    "make_plan",
    "open_model",
    "read_gram",
    "read_importance",
    "read_sensitivity",
]

_HOMES = {
    "apply_plan": "quantrecipe.output.apply",
    "load_recipe": "quantrecipe.recipe.load",
    "load_registry": "quantrecipe.registry",
    "make_plan": "quantrecipe.planning",
    "open_model": "quantrecipe.model.open_model",
    "read_gram": "quantrecipe.calibration.gram",
    "read_importance": "quantrecipe.importance.read_importance",
    "read_sensitivity": "quantrecipe.sensitivity.file",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'quantrecipe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
