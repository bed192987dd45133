"""The options that say how large the result may be: for `choose` rules, instead of the recipe's own budget."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from quantrecipe.cli.byte_size import FileSize, MemorySize, Tokens

if TYPE_CHECKING:
    from quantrecipe.recipe.budget import Budget

__all__ = ["COMMAND_LINE", "KV_TYPES", "budget_options"]

F = TypeVar("F", bound=Callable[..., Any])

COMMAND_LINE = "command line"
"""What errors name as the place of a budget that was given here."""

_LIMITS = ("size", "bpw", "vram", "ram", "active")
_RUNNING = ("context", "kv", "gpu_layers", "cpu_moe", "ubatch")

# Spelt out, so that help and shell completion need not import the recipe language; a test compares.
KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")


def budget_options(command: F) -> F:
    """Add the options, which give the command `budget`: a Budget, or None where no limit was given."""

    @functools.wraps(command)
    def with_budget(*args: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in (*_LIMITS, *_RUNNING)}
        return command(*args, budget=_budget(given), **options)

    decorators = (
        click.option(
            "--size",
            type=FileSize(),
            metavar="SIZE",
            help="Let the file have at most SIZE: 5.2GB (thousands), 5.2GiB.",
        ),
        click.option(
            "--bpw",
            type=click.FloatRange(0.0, 64.0, min_open=True),
            metavar="BITS",
            help="At most so many bits per weight, over all tensors: 4.5.",
        ),
        click.option(
            "--vram",
            type=MemorySize(),
            metavar="SIZE",
            help="Fit into SIZE of the GPU's memory: 8GiB; 8GB and 8 mean the same.",
        ),
        click.option(
            "--ram",
            type=MemorySize(),
            metavar="SIZE",
            help="Leave at most SIZE of weights to main memory: 32GiB; 32GB and 32 mean the same.",
        ),
        click.option(
            "--active",
            type=FileSize(),
            metavar="SIZE",
            help="Read at most SIZE of weights for each token: 3GB (thousands), 3GiB.",
        ),
        click.option(
            "--context",
            type=Tokens(),
            metavar="TOKENS",
            help="With --vram: tokens that the KV cache holds: 8192, or 8k.  [default: 4096]",
        ),
        click.option(
            "--kv",
            type=click.Choice(KV_TYPES),
            metavar="TYPE",
            help="With --vram: type of the KV cache.  [default: f16]",
        ),
        click.option(
            "--gpu-layers",
            type=click.IntRange(min=1),
            metavar="N",
            help="With --vram: layers on the GPU, the head counted as one.  [default: all]",
        ),
        click.option("--cpu-moe", is_flag=True, help="With --vram: keep experts in main memory."),
        click.option(
            "--ubatch",
            type=click.IntRange(min=1),
            metavar="TOKENS",
            help="With --vram: tokens that are computed at once.  [default: 512]",
        ),
    )
    wrapped = cast("F", with_budget)
    for decorate in reversed(decorators):
        wrapped = decorate(wrapped)
    return wrapped


def _budget(given: Mapping[str, Any]) -> Budget | None:
    running = [name for name in _RUNNING if given[name]]
    if running and given["vram"] is None:
        raise click.UsageError(f"--{running[0].replace('_', '-')} goes with --vram.")
    if all(given[name] is None for name in _LIMITS):
        return None
    from quantrecipe.recipe.budget import Budget, VramBudget
    from quantrecipe.recipe.origin import Origin

    said = {
        "context": given["context"],
        "kv": given["kv"],
        "layers": given["gpu_layers"],
        "experts": "cpu" if given["cpu_moe"] else None,
        "ubatch": given["ubatch"],
    }
    vram = given["vram"]
    return Budget(
        origin=Origin(file=COMMAND_LINE, line=0),
        size=given["size"],
        bpw=given["bpw"],
        vram=None
        if vram is None
        else VramBudget(total=vram, **{key: value for key, value in said.items() if value is not None}),
        ram=given["ram"],
        active=given["active"],
    )
