"""recover: the mix of a quantized model as a recipe: a shipped recipe and what differs, or roles and layer ranges.

The recipe is held against the file before it is given back: planned for the model that the file was made from, it
gives every tensor the type that it has there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from quantrecipe.errors import ModelError, RecipeError
from quantrecipe.exchange.assemble import Imported, wrapped
from quantrecipe.exchange.from_files.claims import Claims, read_claims
from quantrecipe.exchange.from_files.intent import intended_types
from quantrecipe.exchange.from_files.presets import Guess, guesses, labelled
from quantrecipe.exchange.ik_types import explain_unknown_types
from quantrecipe.exchange.source import Source
from quantrecipe.gguf.file_types import FILE_TYPES
from quantrecipe.model.model import Model
from quantrecipe.plan.label import untrue
from quantrecipe.recipe.load import load_part
from quantrecipe.recipe.reading.recipe_part import RecipePart
from quantrecipe.recipe.reading.rule_items import Inclusion
from quantrecipe.recipe.recipe import Recipe, Rule
from quantrecipe.recipe.writing.new_recipe import write_recipe
from quantrecipe.recipe.writing.summarise import common_type, summarise
from quantrecipe.registry import Registry

__all__ = ["Draft", "recover", "shortest_draft"]

_NEAREST = 6
"""Shipped recipes for which the rules that are missing are written out, to take the shortest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """The rules of a mix, over a shipped recipe or a default."""

    rules: list[Rule]
    guess: Guess | None = None
    default: str | None = None


def recover(model: Model, registry: Registry, *, name: str, presets: bool = True) -> Imported:
    """Make the recipe that gives the model its types.

    `presets`: may be a shipped recipe, extended. ModelError where a type isn't known, or no recipe can say it.
    """
    explain_unknown_types(model, registry)
    claims = read_claims(model, registry)
    source = Source.of(model, registry, importance=bool(claims.importance))
    stored = {tensor.name: tensor.dtype for tensor in model.tensors}
    types = {tensor.name: stored[tensor.name] for tensor in source.tensors}
    if claims.label not in (None, *FILE_TYPES):  # one of ik_llama.cpp's own, which no recipe can say
        claims = replace(claims, label=None)
    named = labelled(types, source, claims.label)
    likely = _intents(types, source, named)
    notes = _mislabelled(claims, named, {**types, **likely}, source)
    for intents in (likely, {}):
        try:
            draft = shortest_draft(types, intents, source, claims.label, presets=presets)
            recipe = load_part(_part(draft, registry, claims, name), registry=registry)
        except RecipeError:
            continue
        given = replace(source, importance=draft.guess is not None and draft.guess.importance)
        planned = given.planned(recipe)
        if planned is not None and {name: it.type for name, it in planned.items()} == types:
            asked = intents if draft.guess is None else {}
            text, _ = write_recipe(
                _part(draft, registry, claims, name, _shares(recipe, given)),
                wrapped(claims.comments(asked, types, model, notes)),
            )
            return Imported(text=text, notes=notes, rules=len(draft.rules))
    raise ModelError(
        "no recipe can say which types its tensors have: names that patterns don't reach",
        "please report this, with `quantrecipe inspect --shapes`",
        file=model.path,
    )


def _intents(types: Mapping[str, str], source: Source, named: Guess | None) -> dict[str, str]:
    """Return the types that were asked for where fallbacks took their place, by the file's label or by likeness."""
    hint = named.recipe.default if named is not None else None
    found = intended_types(types, source, hint)
    if named is not None:
        found |= {
            name: it.wanted
            for name, it in named.planned.items()
            if it.wanted != it.type and types.get(name) == it.type and name in source.reached
        }
    return found


def _mislabelled(
    claims: Claims, named: Guess | None, wanted: Mapping[str, str], source: Source
) -> tuple[str, ...]:
    """Return a line if the file's label isn't true of its types, unless the mix of that name makes just these types."""
    if named is not None and not named.wrong:
        return ()
    pairs = [(tensor, wanted[tensor.name]) for tensor in source.tensors]
    share = untrue(claims.label, pairs, source.model, source.registry)
    if share is None:
        return ()
    return (f"The file says that it is mostly {claims.label}, but most of its weights are {share.type}.",)


def _shares(recipe: Recipe, source: Source) -> list[str]:
    """Say of each of the recipe's own rules how many of the weights it decides."""
    sizes = {tensor.name: tensor.size for tensor in source.tensors}
    total = sum(sizes.values())
    shares = (100 * sum(sizes[name] for name in names) / total for names in source.decided(recipe))
    return [f"as found; {share:.1f} % of the weights" if share >= 0.05 else "as found" for share in shares]


def shortest_draft(
    types: Mapping[str, str],
    intents: Mapping[str, str],
    source: Source,
    label: str | None,
    *,
    presets: bool,
) -> Draft:
    """Return the fewest rules that give these types.

    intents: by name, the type that was asked for where a tensor has a fallback
    label:   what the file says it mostly is
    presets: may be a shipped recipe, extended
    """
    n_layers, reached = source.model.n_layers, source.reached
    wanted = {**types, **intents}
    default = common_type(wanted, source.tensors, n_layers, reached=reached)
    without = {tensor.name: tensor.dtype for tensor in source.tensors if tensor.name not in reached}
    base = {**without, **(dict.fromkeys(reached, default) if default else {})}
    best = Draft(rules=summarise(wanted, source.tensors, n_layers, base=base), default=default)
    if not presets:
        return best
    near = guesses(types, source, label)
    for guess in near[:_NEAREST]:
        if 2 * guess.wrong > len(reached):
            break  # it has little to do with it
        given = {name: planned.wanted for name, planned in guess.planned.items()}
        right = {name: given[name] for name, type_ in types.items() if guess.planned[name].type == type_}
        rules = summarise({**wanted, **right}, source.tensors, n_layers, base=given)
        same = guess.recipe.file_type == label
        shorter = len(rules) < len(best.rules)
        if not rules or shorter or (best.guess is None and same and len(rules) == len(best.rules)):
            best = Draft(rules=rules, guess=guess)
        if not rules:
            break
    return best


def _part(
    draft: Draft, registry: Registry, claims: Claims, name: str, reasons: Sequence[str] = ()
) -> RecipePart:
    rules = tuple(draft.rules)
    if reasons:
        rules = tuple(replace(rule, why=why) for rule, why in zip(rules, reasons, strict=True))
    guess = draft.guess
    says = guess.recipe.file_type if guess is not None else None
    used = {*(rule.type for rule in rules), draft.default or ""}
    providers = {registry.provider(type_).distribution for type_ in used if type_ in registry.formats}
    needs_importance = bool(claims.importance) or (guess is not None and guess.importance)
    return RecipePart(
        file="recipe.yaml",
        name=name,
        summary=claims.summary,
        extends=(Inclusion(ref=guess.ref),) if guess is not None else (),
        requires=tuple(sorted(providers - {"quantrecipe"})),
        file_type=claims.label if claims.label != says else None,
        default=draft.default,
        importance={"required": True} if needs_importance else {},
        rules=rules,
    )
