"""quantrecipe advise: which mixes of a model run on this machine, and which to take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quantrecipe.cli.budget_options import KV_TYPES
from quantrecipe.cli.byte_size import MemorySize, Tokens
from quantrecipe.cli.context import Context, pass_context
from quantrecipe.cli.help import SETTINGS, examples

if TYPE_CHECKING:
    from quantrecipe.fit.advise import Room
    from quantrecipe.memory.machine import Machine

__all__ = ["command"]


@click.command(
    "advise",
    context_settings=SETTINGS,
    epilog=examples(
        "quantrecipe advise model-BF16.gguf",
        "quantrecipe advise shapes/qwen3-30b-a3b --vram 12GiB --ram 48GiB --context 32768 --kv q8_0",
        "quantrecipe advise ./Qwen3-14B --json",
    ),
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--vram",
    type=MemorySize(),
    metavar="SIZE",
    help="Memory of the GPU. [default: of the one here; of several, all together]",
)
@click.option("--no-gpu", is_flag=True, help="As if there were no GPU.")
@click.option("--ram", type=MemorySize(), metavar="SIZE", help="Main memory. [default: what is free here]")
@click.option(
    "--context",
    type=Tokens(),
    default=8192,
    show_default=True,
    metavar="TOKENS",
    help="Tokens that the KV cache holds.",
)
@click.option(
    "--kv",
    type=click.Choice(KV_TYPES),
    default="f16",
    show_default=True,
    metavar="TYPE",
    help="Type of the KV cache.",
)
@click.option(
    "--ubatch",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    metavar="TOKENS",
    help="Tokens that are computed at once.",
)
@click.option(
    "--imatrix",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Importance matrix: without one, some of the smallest mixes can't be made.",
)
@click.option(
    "--sensitivity",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What `quantrecipe measure` found. [default: what is usual]",
)
@click.option("--arch", metavar="NAME", help="Architecture of a safetensors file without config.json.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_context
def command(
    ctx: Context,
    /,
    model: Path,
    vram: int | None,
    no_gpu: bool,
    ram: int | None,
    context: int,
    kv: str,
    ubatch: int,
    imatrix: Path | None,
    sensitivity: Path | None,
    arch: str | None,
    as_json: bool,
) -> None:
    """Show which mixes of MODEL run on this machine, what they lose, and which to take for code, chat or long texts.

    Only shapes are needed: MODEL may be a Hugging Face folder, a GGUF, a shape file or a reference model. GPUs are
    asked for by nvidia-smi, rocm-smi or sysctl.
    """
    from quantrecipe.fit.advise import advise
    from quantrecipe.importance import read_importance
    from quantrecipe.memory.device import Settings
    from quantrecipe.memory.machine import detect_machine
    from quantrecipe.model.open import open_model
    from quantrecipe.sensitivity.file import read_sensitivity

    if no_gpu and vram is not None:
        raise click.UsageError("--no-gpu and --vram exclude each other.")
    registry = ctx.load_registry()
    opened = open_model(model, arch=arch, registry=registry)
    machine = detect_machine()
    room = _room(machine, vram=0 if no_gpu else vram, ram=ram)
    settings = Settings(context=context, kv=kv, ubatch=ubatch)
    advice = advise(
        opened,
        registry,
        room,
        settings,
        importance=None if imatrix is None else read_importance(imatrix),
        sensitivity=None if sensitivity is None else read_sensitivity(sensitivity),
    )
    from quantrecipe.cli.advise_table import plain_advice, render_advice

    if as_json:
        click.echo(json.dumps(plain_advice(advice, machine, room, settings), indent=2))
        return
    ctx.console.print(
        render_advice(advice, machine, room, settings, str(model), given=vram is not None or no_gpu)
    )


def _room(machine: Machine, *, vram: int | None, ram: int | None) -> Room:
    from quantrecipe.fit.advise import Room

    gpu = sum(it.total for it in machine.gpus) if vram is None else vram
    return Room(
        gpu=gpu,
        ram=machine.ram_free if ram is None else ram,
        unified=machine.unified and vram is None and gpu > 0,
    )
