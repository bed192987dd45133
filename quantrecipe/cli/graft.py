"""quantrecipe graft: tensors of one GGUF in another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.errors import print_warning, printable
from quantrecipe.cli.options.amounts import count_option
from quantrecipe.cli.options.paths import MODEL, file_option
from quantrecipe.cli.options.shared import force_option, json_option
from quantrecipe.cli.output_files import check_output, default_name
from quantrecipe.cli.planned.planning import plan_document_of
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.cli.units import counted
from quantrecipe.errors import ModelError
from quantrecipe.wording import shortened, some_of

if TYPE_CHECKING:
    from quantrecipe.model.model import Model
    from quantrecipe.plan.grafting import Graft
    from quantrecipe.plan.plan import Plan
    from quantrecipe.recipe.recipe import Recipe
    from quantrecipe.registry import Registry

__all__ = ["command"]

_SHOWN = 6
"""Tensors or keys of each kind that are named; the plan of --dry-run has all."""


@subcommand(
    "graft",
    "quantrecipe graft model-Q4_K_M.gguf model-BF16.gguf --tensors head --type Q8_0 -o model-Q4_K_M-head.gguf",
    "quantrecipe graft model-IQ2_M.gguf with-mtp-Q8_0.gguf --mtp -o model-IQ2_M-mtp.gguf",
    "quantrecipe graft base.gguf finetune.gguf --tensors 'attn_{q,v}' --layers 'last 4' --dry-run",
)
@click.argument("base", type=MODEL)
@click.argument("donor", type=MODEL)
@click.option(
    "--tensors",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="What is taken from DONOR, as a rule of a recipe says it: head, 'ffn_*', blk.3.attn_v. May be repeated.",
)
@click.option("--layers", metavar="LAYERS", help="Only in these layers, as in a recipe: 7, 0-3, 'last 4'.")
@click.option("--mtp", is_flag=True, help="Take DONOR's layers for next-token prediction.")
@click.option(
    "--type",
    "wanted",
    metavar="TYPE",
    help="Quantize what is taken; DONOR's tensors are BF16, F16 or F32 then. [default: as they are]",
)
@file_option("-o", "--output", help="Where to write. [default: BASE-graft.gguf in the current folder]")
@force_option
@click.option(
    "--keep-part", is_flag=True, help="After Ctrl-C, keep what is done, for the same command to go on."
)
@count_option("--threads", help="Threads. [default: all cores]")
@click.option("--dry-run", is_flag=True, help="Show the plan, and write nothing.")
@json_option
@pass_context
def command(
    ctx: Context,
    /,
    base: Path,
    donor: Path,
    patterns: tuple[str, ...],
    layers: str | None,
    mtp: bool,
    wanted: str | None,
    output: Path | None,
    force: bool,
    keep_part: bool,
    threads: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write BASE with some tensors of DONOR: a head in more bits, a draft head, a fine-tune's matrices.

    BASE and DONOR are GGUFs of one architecture; any shard stands for the whole. Tensors that both have need the same
    shape. All that isn't taken is copied byte for byte. The metadata is BASE's; where layers are added, what it says
    layer by layer is DONOR's. The file records a recipe that says what was taken.
    """
    from quantrecipe.cli.apply_progress import apply_progress, keep_asked
    from quantrecipe.output.apply import apply_plans
    from quantrecipe.plan.grafting import graft
    from quantrecipe.planning import make_plan
    from quantrecipe.recipe.terms.layers import LayerSet
    from quantrecipe.recipe.terms.pattern import Pattern

    if not patterns and not mtp:
        raise click.UsageError("say what is taken: --tensors PATTERN, or --mtp.")
    if layers is not None and not patterns:
        raise click.UsageError("--layers says in which layers --tensors are taken, and there are none.")
    path = output or Path(default_name(base, "graft"))
    registry = ctx.load_registry()
    into, of = _opened(base, registry), _opened(donor, registry)
    if not dry_run:
        check_output(path, force=force, gguf=True)
    made = graft(
        into,
        of,
        [Pattern.parse(it) for it in patterns],
        layers=None if layers is None else LayerSet.parse(layers),
        draft_head=mtp,
    )
    recipe = _recipe(made, into, of, patterns, layers, wanted, mtp=mtp, registry=registry)
    plan = make_plan(recipe, made.model, registry=registry)
    for note in made.notes:
        print_warning(ctx.err, note)
    if dry_run:
        _show_plan(ctx, plan, made, path, as_json=as_json)
        return
    with apply_progress(ctx.err) as progress:
        (result,) = apply_plans(
            [(plan, path)],
            registry=registry,
            threads=threads,
            force=force,
            progress=progress,
            resume=True,
            keep=keep_asked(ctx.err, progress, keep_part=keep_part),
        )
    if as_json:
        ctx.print_json(
            _document(made)
            | {"output": result.path, "nbytes": result.nbytes, "seconds": round(result.seconds, 3)}
        )
        return
    from quantrecipe.cli.planned.plan_table import render_summary

    _tell(ctx, made)
    ctx.console.print(render_summary([plan], [result]))


def _opened(path: Path, registry: Registry) -> Model:
    from quantrecipe.model.not_a_model import require_model
    from quantrecipe.model.open_model import open_model

    model = open_model(path, registry=registry)
    if model.container != "gguf":
        raise ModelError(
            "isn't a GGUF, and only tensors of GGUFs are grafted",
            "make one first: quantrecipe apply llama.cpp/BF16 MODEL",
            file=path,
        )
    require_model(model)
    return model


def _recipe(
    made: Graft,
    base: Model,
    donor: Model,
    patterns: tuple[str, ...],
    layers: str | None,
    wanted: str | None,
    *,
    mtp: bool,
    registry: Registry,
) -> Recipe:
    """Everything stays as it is, but for what is quantized with --type; its text is what the file records."""
    import yaml

    from quantrecipe.recipe.load import load_recipe_text

    count = counted(len(made.taken), "tensor")
    what = ", ".join([*patterns, *(["layers for next-token prediction"] if mtp else [])])
    of_layers = f" in layers {layers}" if layers else ""
    recipe: dict[str, object] = {
        "quantrecipe": 1,
        "name": "graft",
        "summary": shortened(f"{_name(base)} with {count} of {_name(donor)}: {what}{of_layers}", 300),
        "file_type": "keep",
        "fallback": "error",
    }
    if wanted is not None:
        rule: dict[str, object] = {"type": wanted, "why": "asked for with --type"}
        rules = []
        if patterns:
            rules.append({"tensors": list(patterns), **({"layers": layers} if layers else {}), **rule})
        if mtp:
            rules.append({"tensors": "regex:.*", "when": "layer >= n_layers", **rule})
        recipe["rules"] = rules
    return load_recipe_text(yaml.safe_dump(recipe, sort_keys=False), file="graft.yaml", registry=registry)


def _name(model: Model) -> str:
    value = model.metadata.get("general.name")
    name = value.decode() if value is not None else ""
    return shortened(name if isinstance(name, str) and name.isprintable() and name else model.arch)


def _show_plan(ctx: Context, plan: Plan, made: Graft, path: Path, *, as_json: bool) -> None:
    if as_json:
        ctx.print_json(plan_document_of(plan) | _document(made) | {"output": str(path)})
        return
    from quantrecipe.cli.planned.plan_table import render_plan

    ctx.console.print(render_plan(plan))
    _tell(ctx, made)
    ctx.console.print(printable(f"would write {path}"))


def _document(made: Graft) -> dict[str, object]:
    return {"replaced": made.replaced, "added": made.added, "metadata": made.metadata, "notes": made.notes}


def _tell(ctx: Context, made: Graft) -> None:
    for names, what in (
        (made.replaced, "replaced"),
        (made.added, "added"),
        (made.metadata, "metadata of DONOR"),
    ):
        if names:
            ctx.say(printable(f"{what} ({len(names)}): {some_of(names, _SHOWN)}"))
