"""quantrecipe advise: which mixes of models run on this machine, and which to take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.options.amounts import MemorySize, Tokens, count_option
from quantrecipe.cli.options.limits import KV_TYPES
from quantrecipe.cli.options.paths import file_option
from quantrecipe.cli.options.shared import another_model_option, arch_option, json_option
from quantrecipe.cli.options.target import target_option
from quantrecipe.cli.planned.inputs import importance_in, sensitivity_in
from quantrecipe.cli.subcommand import subcommand
from quantrecipe.errors import ModelError, RecipeError
from quantrecipe.remote_files import is_elsewhere
from quantrecipe.speed.here import speeds_here

if TYPE_CHECKING:
    from quantrecipe.fit.advise import Room, Where
    from quantrecipe.fit.candidates import Candidate
    from quantrecipe.memory.machine import Machine
    from quantrecipe.model.model import Model
    from quantrecipe.recipe.target import Target
    from quantrecipe.registry import Registry

__all__ = ["command"]


@subcommand(
    "advise",
    "quantrecipe advise model-BF16.gguf",
    "quantrecipe advise shapes/meta-llama-3.1-8b-instruct Q3_K_M ud-q3-k-xl --vram 8 --context 16k",
    "quantrecipe advise shapes/mistral-7b-instruct-v0.3 shapes/qwen3-14b Q6_K Q2_K --vram 8",
    "quantrecipe advise shapes/qwen3-30b-a3b --vram 8 --ram 32 --context 32k --kv q8_0",
    "quantrecipe advise ./Qwen3-14B --recipe mine.yaml --json",
)
@click.argument("what", nargs=-1, required=True, metavar="MODEL... [RECIPE]...")
@click.option(
    "--recipe",
    "recipes",
    multiple=True,
    metavar="RECIPE",
    help="A recipe to lay out, the same as RECIPE. [default: the presets, and the curated recipes]",
)
@click.option(
    "--vram",
    type=MemorySize(),
    metavar="SIZE",
    help="Memory of the GPU: 8GiB; 8GB and 8 mean the same. [default: of the one here; of several, all together]",
)
@click.option("--no-gpu", is_flag=True, help="As if there were no GPU.")
@click.option(
    "--ram",
    type=MemorySize(),
    metavar="SIZE",
    help="Main memory: 32GiB; 32GB and 32 mean the same. [default: what is free here]",
)
@click.option(
    "--context",
    type=Tokens(),
    default=8192,
    show_default=True,
    metavar="TOKENS",
    help="Tokens that the KV cache holds: 8192, or 8k.",
)
@click.option(
    "--kv",
    type=click.Choice(KV_TYPES),
    default="f16",
    show_default=True,
    metavar="TYPE",
    help="Type of the KV cache.",
)
@count_option("--ubatch", default=512, metavar="TOKENS", help="Tokens that are computed at once.")
@file_option("--imatrix", help="Importance matrix: without one, those that need it are marked.")
@another_model_option
@file_option("--sensitivity", help="What `quantrecipe sensitivity` found. [default: what is usual]")
@target_option
@arch_option
@json_option
@pass_context
def command(
    ctx: Context,
    /,
    what: tuple[str, ...],
    recipes: tuple[str, ...],
    vram: int | None,
    no_gpu: bool,
    ram: int | None,
    context: int,
    kv: str,
    ubatch: int,
    imatrix: Path | None,
    another_model: bool,
    sensitivity: Path | None,
    target: Target | None,
    arch: str | None,
    as_json: bool,
) -> None:
    """Show what recipes of each MODEL take on this machine, what they lose, and which to take.

    Without a RECIPE, the presets and the curated recipes are laid out, and what is best for code, chat and long
    contexts is said; with some, which of these. Only shapes are needed: MODEL may be a Hugging Face folder, a GGUF,
    a shape file or a reference model (shapes/NAME). GPUs are asked for by nvidia-smi, rocm-smi or sysctl. After
    `quantrecipe speed`, it also says how many tokens per second each gives.
    """
    from quantrecipe.cli.advise.advice_table import Advised, advice_document, render_advice
    from quantrecipe.fit.advise import advise
    from quantrecipe.fit.candidates import named_candidate
    from quantrecipe.memory.device import Settings
    from quantrecipe.memory.machine import detect_machine

    if no_gpu and vram is not None:
        raise click.UsageError("--no-gpu and --vram exclude each other.")
    registry = ctx.load_registry()
    models, candidates = _sorted_out(what, registry, arch)
    candidates += [named_candidate(text, registry) for text in recipes]
    if len(models) > 1 and (imatrix is not None or sensitivity is not None):
        raise click.UsageError("--imatrix and --sensitivity are of one model: name one.")
    machine = detect_machine()
    room = _room(machine, vram=0 if no_gpu else vram, ram=ram)
    settings = Settings(context=context, kv=kv, ubatch=ubatch)
    matrix = importance_in(imatrix)
    measured = sensitivity_in(sensitivity)
    where = _where(machine, target, given=vram is not None)
    advised = [
        Advised(
            name=name,
            model=model,
            advice=advise(
                model,
                registry,
                room,
                settings,
                candidates=candidates,
                importance=matrix,
                importance_of_another_model=another_model,
                sensitivity=measured,
                where=where,
                speeds=speeds_here(model, other_gpu=vram is not None),
            ),
        )
        for name, model in models.items()
    ]
    if as_json:
        ctx.print_json(advice_document(advised, machine, room, settings, registry))
        return
    given = vram is not None or no_gpu
    ctx.console.print(render_advice(advised, machine, room, settings, registry, given=given))


def _sorted_out(
    what: tuple[str, ...], registry: Registry, arch: str | None
) -> tuple[dict[str, Model], list[Candidate]]:
    """Models by name, and recipes: what ends like a recipe's file is one, and what isn't there as a model may be."""
    from quantrecipe.fit.candidates import named_candidate
    from quantrecipe.model.open_model import open_model
    from quantrecipe.recipe.reading.recipe_place import SUFFIXES

    models: dict[str, Model] = {}
    candidates: list[Candidate] = []
    for text in what:
        if text.endswith(SUFFIXES):
            candidates.append(named_candidate(text, registry))
        elif text.startswith("shapes/") or is_elsewhere(text) or Path(text).exists():
            models[text] = open_model(text, arch=arch, registry=registry)
        else:
            try:
                candidates.append(named_candidate(text, registry))
            except RecipeError as error:
                raise ModelError(
                    f"{text!r} is neither a model nor a recipe: there is no such file or folder, and "
                    f"{error.problems[0].what}",
                    "`quantrecipe shapes` lists the reference models; a preset is Q4_K_M, a curated recipe chat",
                ) from error
    if not models:
        raise click.UsageError(
            "name a model: a folder, a file, or shapes/NAME (`quantrecipe shapes` lists them)."
        )
    return models, candidates


def _room(machine: Machine, *, vram: int | None, ram: int | None) -> Room:
    from quantrecipe.fit.advise import Room

    gpu = sum(it.total for it in machine.gpus) if vram is None else vram
    return Room(
        gpu=gpu,
        ram=machine.ram_free if ram is None else ram,
        unified=machine.unified and vram is None and gpu > 0,
    )


def _where(machine: Machine, target: Target | None, *, given: bool) -> Where:
    """Whose facts count: the target's; else llama.cpp on the GPUs that were found, or on any."""
    from quantrecipe.fit.advise import Where

    engine, build, device = (
        ("llama.cpp", None, None) if target is None else (target.engine, target.build, target.device)
    )
    found = () if given else tuple(dict.fromkeys(gpu.device for gpu in machine.gpus))
    devices = (device,) if device is not None else found
    return (
        Where(engine=engine, build=build, devices=devices) if devices else Where(engine=engine, build=build)
    )
