"""What a recipe makes of the tensors of a model, to be held against what a file has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from quantrecipe.errors import QuantrecipeError
from quantrecipe.output.verify.produced import Produced
from quantrecipe.output.verify.verification import Check, Finding
from quantrecipe.plan.assign import Choice
from quantrecipe.plan.metadata import RECIPE, RECIPE_DIGEST
from quantrecipe.plan.review.recorded import choices_of_file, why_unknown
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

__all__ = ["check_types", "embedded_recipe", "type_findings"]


def embedded_recipe(produced: Produced, registry: Registry) -> tuple[Recipe | None, Check]:
    """The recipe that is recorded in the file, and whether it is the one that its digest names."""
    text, digest = produced.text(RECIPE), produced.text(RECIPE_DIGEST)
    if text is None or digest is None:
        return None, Check.skipped("recipe", "no recipe is recorded in it")
    file = f"{produced.path.name}:recipe"
    try:
        recipe = load_recipe_text(text, file=file, registry=registry)
    except QuantrecipeError as error:
        findings = [
            Finding(what=f"the recorded recipe doesn't load: {problem}") for problem in error.problems
        ]
        return None, Check.of("recipe", "the recipe that is recorded", findings)
    findings = []
    if recipe.digest != digest:
        what = f"the recorded recipe has the digest {recipe.digest}, but the file says {digest}"
        findings.append(Finding(what=what, file=produced.path))
    return recipe, Check.of("recipe", f"{recipe.name!r}, {len(recipe.rules)} rules", findings)


def check_types(produced: Produced, recipe: Recipe | None, registry: Registry) -> Check:
    """The types in the file against the recipe, from the file alone."""
    if recipe is None:
        return Check.skipped("types", "there is no recipe to hold the types against")
    if why := why_unknown(recipe):
        return Check.skipped("types", why)
    tensors = {tensor.name: tensor for tensor in produced.model.tensors}
    try:
        choices = choices_of_file(recipe, produced.model, registry)
    except QuantrecipeError as error:
        findings = [Finding(what=str(problem)) for problem in error.problems]
        return Check.of("types", "the types that the recipe gives", findings)
    return Check.of("types", f"{len(tensors)} tensors", type_findings(tensors, choices))


def type_findings(tensors: Mapping[str, TensorInfo], choices: Mapping[str, Choice]) -> Iterator[Finding]:
    """Tensors whose type isn't the one that was chosen."""
    for name, choice in choices.items():
        if name not in tensors:
            yield Finding(what=f"the file doesn't have it (expected: {choice.format.spec.name})", tensor=name)
        elif tensors[name].dtype != choice.format.spec.name:
            what = f"is {tensors[name].dtype}, and the recipe makes it {choice.format.spec.name} ({choice.because})"
            yield Finding(what=what, tensor=name)
