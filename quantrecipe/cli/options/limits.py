"""The options that say how large the result may be: for `choose` rules, instead of the recipe's own budget."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from quantrecipe.cli.options.amounts import FileSize, MemorySize, Tokens, count_option
from quantrecipe.cli.options.shared import together

if TYPE_CHECKING:
    from quantrecipe.memory.device import Settings
    from quantrecipe.recipe.budget import Budget

__all__ = ["COMMAND_LINE", "KV_TYPES", "Running", "budget_options", "limits_text", "running_options"]

F = TypeVar("F", bound=Callable[..., Any])

COMMAND_LINE = "command line"
"""What errors name as the place of a budget that was given here."""

_LIMITS = ("size", "bpw", "vram", "ram", "active", "tables", "without_tables", "kld")
# How a file is run: not limits, but what the memory for it depends on.
_RUNNING = ("context", "kv", "gpu_layers", "cpu_moe", "ubatch")

# Spelt out, so that help and shell completion need not import the recipe language; a test compares.
KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """Where a file is to run, as far as it was said.

    vram, ram: bytes that there are; None where nobody said
    said:      fields of memory.device.Settings that were given
    """

    vram: int | None
    ram: int | None
    said: Mapping[str, Any]

    @property
    def settings(self) -> Settings:
        """The settings that were said, with defaults for the others."""
        from quantrecipe.memory.device import Settings

        return Settings(**self.said)


_OPTIONS = together(
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
        help="Take at most SIZE of the GPU's memory: 8GiB; 8GB and 8 mean the same.",
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
        "--tables",
        type=FileSize(),
        metavar="SIZE",
        help="Let tables of which a token reads a row, such as embeddings, have at most SIZE.",
    ),
    click.option(
        "--without-tables",
        type=FileSize(),
        metavar="SIZE",
        help="Let all tensors but those tables have at most SIZE.",
    ),
    click.option(
        "--kld",
        type=click.FloatRange(0.0, min_open=True),
        metavar="NATS",
        help="Lose at most so much (mean KL divergence), in the smallest file that does: 0.01.",
    ),
    click.option(
        "--context",
        type=Tokens(),
        metavar="TOKENS",
        help="Tokens that the KV cache holds: 8192, or 8k.  [default: 4096]",
    ),
    click.option(
        "--kv",
        type=click.Choice(KV_TYPES),
        metavar="TYPE",
        help="Type of the KV cache.  [default: f16]",
    ),
    count_option("--gpu-layers", help="Layers on the GPU, the head counted as one.  [default: all]"),
    click.option("--cpu-moe", is_flag=True, help="Keep experts in main memory."),
    count_option("--ubatch", metavar="TOKENS", help="Tokens that are computed at once.  [default: 512]"),
)


def budget_options(command: F) -> F:
    """Add the options, which give the command `budget`: a Budget, or None where no limit was given."""

    @functools.wraps(command)
    def with_budget(*args: Any, **options: Any) -> Any:
        given = _taken(options)
        running = [name for name in _RUNNING if given[name]]
        if running and given["vram"] is None:
            raise click.UsageError(f"--{running[0].replace('_', '-')} goes with --vram.")
        return command(*args, budget=_budget(given), **options)

    return _OPTIONS(cast("F", with_budget))


def running_options(command: F) -> F:
    """The same options for files that may be planned already: `budget`, and `running`: a Running, or None.

    How a file is run may be asked without a limit: --context alone shows what it takes.
    """

    @functools.wraps(command)
    def with_running(*args: Any, **options: Any) -> Any:
        given = _taken(options)
        asked = given["vram"] is not None or any(given[name] for name in _RUNNING)
        running = Running(vram=given["vram"], ram=given["ram"], said=_said(given)) if asked else None
        return command(*args, budget=_budget(given), running=running, **options)

    return _OPTIONS(cast("F", with_running))


def _taken(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options.pop(name) for name in (*_LIMITS, *_RUNNING)}


def limits_text(budget: Budget | None, split_max_size: int | None = None) -> str:
    """What was understood: "VRAM 8 GiB, context 8,192 tokens, KV cache f16"; "" where no limit was given."""
    from quantrecipe.units import file_text, memory_text, tokens_text

    said = []
    if budget is not None:
        vram = budget.vram
        said = [
            *([f"a file of at most {file_text(budget.size)}"] if budget.size is not None else []),
            *([f"{budget.bpw:g} bits per weight"] if budget.bpw is not None else []),
            *([f"VRAM {memory_text(vram.total)}"] if vram is not None else []),
            *([f"RAM {memory_text(budget.ram)}"] if budget.ram is not None else []),
            *([f"context {tokens_text(vram.context)}, KV cache {vram.kv}"] if vram is not None else []),
            *([f"{file_text(budget.active)} read for each token"] if budget.active is not None else []),
            *([f"tables of at most {file_text(budget.tables)}"] if budget.tables is not None else []),
            *(
                [f"all but tables at most {file_text(budget.without_tables)}"]
                if budget.without_tables is not None
                else []
            ),
            *([f"at least {budget.speed.least:g} tokens/s"] if budget.speed is not None else []),
            *([f"a mean KL divergence of at most {budget.kld:g}"] if budget.kld is not None else []),
        ]
    if split_max_size is not None:
        said.append(f"split into files of at most {file_text(split_max_size)}")
    return ", ".join(said)


def _said(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of VramBudget and of memory.device.Settings that were given."""
    said = {
        "context": given["context"],
        "kv": given["kv"],
        "layers": given["gpu_layers"],
        "experts": "cpu" if given["cpu_moe"] else None,
        "ubatch": given["ubatch"],
    }
    return {key: value for key, value in said.items() if value is not None}


def _budget(given: Mapping[str, Any]) -> Budget | None:
    if all(given[name] is None for name in _LIMITS):
        return None
    from quantrecipe.recipe.budget import Budget, VramBudget
    from quantrecipe.recipe.origin import Origin

    vram = given["vram"]
    return Budget(
        origin=Origin(file=COMMAND_LINE, line=0),
        size=given["size"],
        bpw=given["bpw"],
        vram=None if vram is None else VramBudget(total=vram, **_said(given)),
        ram=given["ram"],
        active=given["active"],
        tables=given["tables"],
        without_tables=given["without_tables"],
        kld=given["kld"],
    )
