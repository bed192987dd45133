"""quantrecipe recipes: the recipes that ship, what each needs, and how large it makes a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import printable
from quantrecipe.cli.options.paths import file_option
from quantrecipe.cli.options.shared import json_option
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.plain_data import rounded_bits

if TYPE_CHECKING:
    from rich.console import RenderableType

    from quantrecipe.cli.tables import Cell
    from quantrecipe.model.model import Model
    from quantrecipe.recipe.recipe import Recipe
    from quantrecipe.recipe.terms.fact_kinds import Value
    from quantrecipe.registry import Registry

__all__ = ["command"]

# Matrices that make up most of a mixture of experts and of a dense model, and the models' numbers of
# experts.
_COMPARED = {"blk.24.ffn_gate_exps.weight": 128, "blk.24.ffn_gate.weight": 0}
# Layers of the ordinary model that recipes are tried on.
_LAYERS = 48
# Of the bits of a dense matrix. Mixes for all models give experts at most a type less: Q3_K beside Q4_K is
# 0.76.
_MUCH_FEWER = 0.75


@dataclass(frozen=True, kw_only=True, slots=True)
class _Listed:
    """A recipe that ships.

    needs:   "imatrix", the engine that alone runs it, the plugin that it comes with
    experts: True where it is made for mixtures of experts: they get much fewer bits than all else
    nbytes, bits, problem: on the model that was asked for; the problem is why it can't be planned
    """

    name: str
    recipe: Recipe
    needs: tuple[str, ...]
    experts: bool
    nbytes: int | None = None
    bits: float | None = None
    problem: str = ""
    suits: bool = True

    def document(self, *, planned: bool) -> dict[str, Any]:
        """What is printed of it; `planned` adds what it makes of the model."""
        facts = {
            "name": self.name,
            "summary": self.recipe.summary,
            "needs": self.needs,
            "for_experts": self.experts,
        }
        made = {"nbytes": self.nbytes, "bits_per_weight": rounded_bits(self.bits), "suits": self.suits}
        return facts | made | {"problem": self.problem or None} if planned else facts


@subcommand(
    "recipes",
    "quantrecipe recipes",
    "quantrecipe recipes code",
    "quantrecipe recipes --for shapes/qwen3-30b-a3b",
    "quantrecipe recipes ud --for model-BF16.gguf --json",
)
@click.argument("words", nargs=-1, metavar="[WORD]...")
@file_option(
    "--for",
    "model",
    metavar="MODEL",
    help="Show how large each makes this model: a file, a Hugging Face folder, or shapes/NAME. Smallest first.",
)
@json_option
@pass_context
def command(ctx: Context, words: tuple[str, ...], model: Path | None, as_json: bool) -> None:
    """List the recipes that quantrecipe and installed plugins ship; with WORDs, those about all of them.

    Their names stand wherever RECIPE does, and in extends. Where only one is called so, the part behind the / is
    enough: Q4_K_M. Sizes are planned as if there were an importance matrix.
    """
    registry = ctx.load_registry()
    found = [it for it in _listed(registry) if all(_about(it, word) for word in words)]
    if model is not None:
        from quantrecipe.model.not_a_model import require_model
        from quantrecipe.model.open_model import open_model

        opened = open_model(model, registry=registry)
        require_model(opened)
        found = sorted((_on(it, opened, registry) for it in found), key=_size)
    if as_json:
        ctx.print_json([it.document(planned=model is not None) for it in found])
    elif not found:
        ctx.say(f"no recipe that ships is about {' and '.join(map(printable, words))}")
    else:
        ctx.console.print(_table(found, planned=model is not None))


def _listed(registry: Registry) -> Iterator[_Listed]:
    """All of them, curated ones first; parts that only others are made of are left out."""
    from quantrecipe.recipe.load import load_recipe
    from quantrecipe.recipe.shipped_recipes import shipped_recipes

    for name in shipped_recipes(registry):
        recipe = load_recipe(name, registry=registry)
        if recipe.stands_alone:
            yield _Listed(
                name=name,
                recipe=recipe,
                needs=tuple(_needs(recipe, registry)),
                experts=_for_experts(recipe, registry),
            )


def _needs(recipe: Recipe, registry: Registry) -> Iterator[str]:
    importance = recipe.importance
    if importance.required or importance.required_for:
        yield "imatrix"
    types = {recipe.default or "", *(it for rule in recipe.rules for it in (rule.type, *rule.choose))}
    specs = [registry.formats[it].spec for it in types if it in registry.formats]
    engines = {"ik_llama.cpp" if spec.dialect == "ik" else spec.dialect for spec in specs} - {"ggml"}
    yield from sorted(engines | ({recipe.target.engine} if recipe.target else set()))
    prefix = recipe.file.partition("/")[0]
    plugin = next((it for it in registry.plugins if prefix in it.recipes), None)
    if plugin is not None and plugin.distribution != "quantrecipe":
        yield plugin.distribution


def _for_experts(recipe: Recipe, registry: Registry) -> bool:
    """True where routed experts get much fewer bits than the dense matrix of the same place would."""
    experts, dense = (_bits(recipe, registry, name, count) for name, count in _COMPARED.items())
    return experts is not None and dense is not None and experts < _MUCH_FEWER * dense


def _bits(recipe: Recipe, registry: Registry, name: str, n_expert: int) -> float | None:
    """Bits per weight of a tensor in the middle of an ordinary model; None where it is kept, or left to `choose`."""
    from quantrecipe.tensor import TensorInfo

    experts = max(n_expert, 1)
    tensor = TensorInfo.from_name(name, (experts, 2048, 2048) if n_expert else (2048, 2048), "BF16")
    model: dict[str, Value] = {
        "n_layers": _LAYERS,
        "n_blocks": _LAYERS,
        "n_expert": n_expert,
        "n_gqa": 4,
        "arch": "qwen3moe",
    }
    model |= {"tied_embeddings": False, "has_importance": True, "covered": True, "dims": len(tensor.shape)}
    facts = model | {"layer": tensor.layer, "rank": tensor.layer, "count": _LAYERS, "experts": experts}
    facts |= {"rows": tensor.rows, "cols": tensor.cols, "source_type": tensor.dtype}
    deciding = (
        rule.type
        for rule in recipe.rules
        if any(pattern.matches(tensor, None) for pattern in rule.tensors)
        and (rule.layers is None or rule.layers.contains(tensor.layer, _LAYERS))
        and (rule.when is None or rule.when.evaluate(facts))
    )
    format_ = registry.formats.get(next(deciding, recipe.default) or "")
    return None if format_ is None else format_.spec.bits_per_weight


def _about(it: _Listed, word: str) -> bool:
    """True if the word stands in the name, the summary or the needs; case doesn't count, nor do `_` and `-`."""
    text = " ".join((it.name, it.recipe.summary, *it.needs, "experts moe" if it.experts else ""))
    return word.lower().replace("_", "-") in text.lower().replace("_", "-")


def _on(it: _Listed, model: Model, registry: Registry) -> _Listed:
    """The same recipe, with what it makes of the model."""
    from dataclasses import replace

    from quantrecipe.cli.planned.inputs import PlanInputs
    from quantrecipe.errors import QuantrecipeError
    from quantrecipe.plan.condition_facts import model_facts

    inputs = PlanInputs(registry=registry, assume_imatrix=True, allow_requantize=True)
    has_experts = bool(model_facts(model, has_importance=False)["n_expert"])
    try:
        plan = inputs.plan(it.recipe, model)
    except QuantrecipeError as error:
        return replace(it, problem=error.problems[0].what, suits=False)
    suits = has_experts or not it.experts
    return replace(it, nbytes=plan.nbytes, bits=plan.bits_per_weight, suits=suits)


def _size(it: _Listed) -> tuple[bool, int, str]:
    return it.nbytes is None, it.nbytes or 0, it.name


def _table(found: Sequence[_Listed], *, planned: bool) -> RenderableType:
    """A line for each, its summary behind it, or below it where a terminal is too narrow."""
    from quantrecipe.cli.tables import Kind, Table

    sizes: dict[str, Kind] = {"size": "number", "bits/weight": "number"} if planned else {}
    rows = [_cells(it, planned=planned) for it in found]
    return Table({"recipe": "word", **sizes, "needs": "list", "summary": "text"}, rows)


def _cells(it: _Listed, *, planned: bool) -> tuple[Cell, ...]:
    from quantrecipe.cli.units import bytes_text

    name, summary = (it.name, "bold"), (it.recipe.summary, "dim")
    if not planned:
        return (
            name,
            "; ".join([", ".join(it.needs)] * bool(it.needs) + ["mixtures of experts"] * it.experts),
            summary,
        )
    if it.nbytes is None or it.bits is None:
        return name, "", "", f"not for this model: {it.problem}", summary
    strange = ["made for mixtures of experts, which this isn't"] * (not it.suits)
    needs = "; ".join([", ".join(it.needs)] * bool(it.needs) + strange)
    return name, bytes_text(it.nbytes), f"{it.bits:.2f}", needs, summary
