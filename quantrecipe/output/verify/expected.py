"""What a recipe makes of the tensors of a model, to be held against what a file has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from quantrecipe.errors import QuantrecipeError
from quantrecipe.model.model import Model
from quantrecipe.output.verify.produced import Produced
from quantrecipe.output.verify.verification import Check, Finding
from quantrecipe.plan.assign import Choice, choose_format
from quantrecipe.plan.metadata import IMPORTANCE_DIGEST, RECIPE, RECIPE_DIGEST
from quantrecipe.plan.resolve import Decision, resolve
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

__all__ = ["check_types", "choices_of", "embedded_recipe", "type_findings"]


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


def choices_of(
    recipe: Recipe,
    model: Model,
    registry: Registry,
    *,
    has_importance: bool,
    covered: Callable[[TensorInfo], bool],
    stored: Mapping[str, TensorInfo],
) -> dict[str, Choice]:
    """By tensor of the model. PlanError where the recipe doesn't go with it.

    stored: what the file has, in its order, which is that in which tensors are ranked. Where the recipe leaves the
            choice among types, the file says which it was
    """
    places = {name: place for place, name in enumerate(stored)}
    order = sorted(model.tensors, key=lambda tensor: places.get(tensor.name, len(places)))
    decisions = resolve(recipe, model, has_importance=has_importance, covered=covered, order=order)
    return {
        decision.tensor.name: _choice(decision, recipe, model, registry, stored.get(decision.tensor.name))
        for decision in decisions
    }


def _choice(
    decision: Decision, recipe: Recipe, model: Model, registry: Registry, stored: TensorInfo | None
) -> Choice:
    """What the decision comes to; of several open types the one that comes to what is stored, else the first."""
    rule = decision.rule
    types = rule.choose if rule is not None and rule.choose else (decision.type,)
    choices = [
        choose_format(
            replace(decision, type=type_), recipe, model, registry, strict=False, allow_requantize=True
        )
        for type_ in types
    ]
    fitting = (choice for choice in choices if stored and choice.format.spec.name == stored.dtype)
    return next(fitting, choices[0])


def check_types(produced: Produced, recipe: Recipe | None, registry: Registry) -> Check:
    """The types in the file against the recipe, from the file alone."""
    if recipe is None:
        return Check.skipped("types", "there is no recipe to hold the types against")
    if recipe.prune is not None:
        return Check.skipped(
            "types", "layers were pruned, so only the source can tell what the recipe makes of it"
        )
    conditions = [*(rule.when for rule in recipe.rules), *(entry.when for entry in recipe.keep)]
    if any("covered" in when.names for when in conditions if when is not None):
        why = "the recipe asks which tensors importance covers: give --source and --imatrix"
        return Check.skipped("types", why)
    tensors = {tensor.name: tensor for tensor in produced.model.tensors}
    try:
        choices = choices_of(
            recipe,
            produced.model,
            registry,
            has_importance=IMPORTANCE_DIGEST in produced.metadata,
            covered=lambda tensor: False,
            stored=tensors,
        )
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
