"""What `diff` compares: from a text on the command line to what it makes of a model.

recipes/mine.yaml, llama.cpp/Q4_K_M, main:recipes/mine.yaml     a recipe, planned
mine.lock, main:mine.lock                                       a plan that was frozen
model.gguf                                                      what is in the file
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from quantrecipe.errors import QuantrecipeError, RecipeError

if TYPE_CHECKING:
    from quantrecipe.cli.planned.inputs import PlanInputs
    from quantrecipe.errors import Problem
    from quantrecipe.model.model import Model
    from quantrecipe.plan.review.lock import Lock
    from quantrecipe.plan.review.sides import Side
    from quantrecipe.recipe.recipe import Recipe

__all__ = ["Operand", "require_variables"]


@dataclass(frozen=True)
class Operand:
    """One side as the user named it.

    inputs:    what holds for both sides
    variables: values for the variables of the recipes, by name
    """

    text: str
    inputs: PlanInputs
    variables: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def is_gguf(self) -> bool:
        """True for a GGUF file."""
        from quantrecipe.model.gguf_file import is_gguf

        path = Path(self.text)
        return path.is_file() and is_gguf(path)

    @cached_property
    def lock(self) -> Lock | None:
        """The lock, where the text names one."""
        from quantrecipe.plan.review.lock_file import is_lock, read_lock

        return read_lock(self.text) if not self.is_gguf and is_lock(self.text) else None

    @cached_property
    def model(self) -> Model:
        """The GGUF as a model."""
        from quantrecipe.model.open_model import open_model

        return open_model(self.text, registry=self.inputs.registry)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that the text names, with the values of its variables."""
        from quantrecipe.recipe.load import load_recipe

        loaded = load_recipe(self.text, registry=self.inputs.registry)
        chosen = {name: value for name, value in self.variables.items() if name in loaded.variables}
        return load_recipe(self.text, registry=self.inputs.registry, settings=chosen) if chosen else loaded

    @property
    def notes(self) -> tuple[Problem, ...]:
        """What names were taken for, where that isn't plain."""
        try:
            return self.recipe.notes if self.is_recipe else ()
        except QuantrecipeError:
            return ()  # told where the side is asked for

    @property
    def is_recipe(self) -> bool:
        """True where there is something to plan."""
        return not self.is_gguf and self.lock is None

    def side(self, model: Model | None) -> Side:
        """What it makes of the model. QuantrecipeError where it can't make anything of it."""
        from quantrecipe.plan.review.lock import require_same_tensors, side_of_lock
        from quantrecipe.plan.review.sides import side_of_model, side_of_plan

        if self.is_gguf:
            return side_of_model(self.text, self.model)
        if self.lock is not None:
            if model is not None:
                require_same_tensors(self.lock, model, file=self.text)
            return side_of_lock(self.text, self.lock, self.inputs.registry)
        if model is None:
            raise TypeError("what a recipe makes is asked of a model")
        return side_of_plan(self.text, self.inputs.plan(self.recipe, model), self.recipe)


def require_variables(old: Operand, new: Operand) -> None:
    """RecipeError where neither side has a variable that was given a value."""
    wanted = dict(old.variables)
    known: set[str] = set()
    try:
        for operand in (old, new) if wanted else ():
            if operand.is_recipe:
                known |= operand.recipe.variables.keys()
    except QuantrecipeError:
        return  # told where the side is asked for
    if unknown := sorted(wanted.keys() - known):
        names = ", ".join(sorted(known)) or "none"
        raise RecipeError(f"neither recipe has a variable {unknown[0]!r}", f"their variables: {names}")
