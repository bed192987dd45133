"""quantrecipe check: are these recipes right, as far as that can be said without a model?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import print_problems, printable
from quantrecipe.cli.help import SETTINGS, examples
from quantrecipe.errors import Problem, QuantrecipeError, RecipeError

if TYPE_CHECKING:
    from quantrecipe.recipe.recipe import Recipe
    from quantrecipe.registry import Registry

__all__ = ["command"]


@click.command(
    "check",
    context_settings=SETTINGS,
    epilog=examples("quantrecipe check recipes/code-model.yaml", "quantrecipe check --strict recipes/*.yaml"),
)
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@click.option("--strict", is_flag=True, help="Demand a reason (why:) of every rule.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_context
def command(ctx: Context, recipes: tuple[str, ...], strict: bool, as_json: bool) -> None:
    """Check recipes without a model: every problem of every file is shown at once.

    RECIPE is a path, or a name as in extends: llama.cpp/Q4_K_M. Which tensors the rules meet, only a model can tell:
    see quantrecipe plan. The exit status is 1 if anything is wrong.
    """
    registry = ctx.load_registry()
    results = [_check(name, registry, strict=strict) for name in recipes]
    if as_json:
        click.echo(json.dumps([_plain(*result) for result in results], indent=2))
    else:
        for name, recipe, error in results:
            if error is not None:
                print_problems(ctx.err, error)
            if error is None and recipe is not None:
                ctx.console.print(_line(name, recipe))
    if any(error is not None for _, _, error in results):
        raise click.exceptions.Exit(1)


def _check(
    name: str, registry: Registry, *, strict: bool
) -> tuple[str, Recipe | None, QuantrecipeError | None]:
    from quantrecipe.recipe.load import load_recipe

    try:
        recipe = load_recipe(name, registry=registry)
    except QuantrecipeError as error:
        return name, None, error
    problems = _without_reason(recipe) if strict else []
    return name, recipe, RecipeError(problems) if problems else None


def _without_reason(recipe: Recipe) -> list[Problem]:
    return [
        Problem(
            what="the rule gives no reason",
            remedy="say why: the next reader has to decide whether it still holds",
            file=rule.origin.file,
            line=rule.origin.line,
        )
        for rule in recipe.rules
        if rule.own and not rule.why
    ]


def _line(name: str, recipe: Recipe) -> Any:
    from rich.text import Text

    own = sum(rule.own for rule in recipe.rules)
    inherited = len(recipe.rules) - own
    text = Text(printable(name), "bold")
    text.append(": ok", "green")
    text.append(f", {own} rule{'' if own == 1 else 's'}")
    return text.append(f" and {inherited} inherited" if inherited else "")


def _plain(name: str, recipe: Recipe | None, error: QuantrecipeError | None) -> dict[str, Any]:
    problems = error.problems if error is not None else ()
    return {
        "recipe": name,
        "ok": error is None,
        "rules": len(recipe.rules) if recipe is not None else None,
        "digest": recipe.digest if recipe is not None else None,
        "problems": [
            {
                "file": str(problem.file) if problem.file is not None else None,
                "line": problem.line,
                "column": problem.column,
                "what": problem.what,
                "remedy": problem.remedy,
            }
            for problem in problems
        ],
    }
