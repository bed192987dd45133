"""Options that mean the same wherever they stand, in the same words. Each is a decorator for a command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from quantrecipe.cli.options.amounts import count_option
from quantrecipe.cli.options.paths import file_option, folder_option

__all__ = [
    "another_model_option",
    "arch_option",
    "engine_option",
    "fail_on_option",
    "force_option",
    "json_option",
    "llama_options",
    "part_option",
    "pickle_option",
    "pre_option",
    "reasons_option",
    "requantize_option",
    "statistics_option",
    "strict_option",
    "threads_option",
    "together",
    "write_option",
]

F = TypeVar("F", bound=Callable[..., Any])


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in the order in which the help lists them."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


another_model_option = click.option(
    "--imatrix-of-another-model",
    "another_model",
    is_flag=True,
    help="Take an importance matrix that says it is of another model, such as the base of a fine-tune.",
)
arch_option = click.option(
    "--arch", metavar="NAME", help="Architecture of a safetensors file without config.json."
)
part_option = together(
    click.option(
        "--mmproj",
        "part",
        flag_value="mmproj",
        default="model",
        help="Make the model's projector (what sees or hears), a GGUF of its own.",
    ),
    click.option(
        "--mtp",
        "part",
        flag_value="mtp",
        default="model",
        help="Make the model's draft head alone (multi-token prediction), a GGUF of its own.",
    ),
)
"""Gives the command `part`: what of a Hugging Face folder is meant, one of `architectures.PARTS`."""

pickle_option = click.option(
    "--allow-pickle",
    is_flag=True,
    help="Read weights that are pickles (pytorch_model.bin) by PyTorch's weights-only loader.",
)
pre_option = click.option(
    "--pre",
    metavar="NAME",
    help="Pre-tokenizer (tokenizer.ggml.pre), where its rules aren't recognised.",
)
converter_option = folder_option(
    "--converter",
    metavar="FOLDER",
    help="A checkout of llama.cpp, whose own converter reads MODEL, a Hugging Face folder: for what isn't known here.",
)
engine_option = file_option(
    "--engine",
    metavar="PATH",
    help="The llama.cpp that runs models: the folder with libllama, or a program beside it. "
    "[default: $QUANTRECIPE_ENGINE, else llama-cpp-python]",
)
"""Gives the command `engine`: a Path or None, for `find_engine` and `require_engine`."""


def llama_options(*, threads: str) -> Callable[[F], F]:
    """--threads, --gpu-layers and --engine. threads: what does something in them"""
    return together(
        count_option("--threads", help=f"{threads} [default: all cores]"),
        count_option(
            "--gpu-layers", help="Layers that the GPU takes, if llama.cpp has one. [default: all]", least=0
        ),
        engine_option,
    )


fail_on_option = click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "advice"]),
    default="error",
    show_default=True,
    help="The least serious finding for which the exit status is 1.",
)
force_option = click.option("--force", is_flag=True, help="Replace FILE if it exists.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
reasons_option = click.option("--strict", is_flag=True, help="Demand a reason (why:) of every rule.")
requantize_option = click.option(
    "--allow-requantize", is_flag=True, help="Let sources that are quantized be quantized again."
)
statistics_option = folder_option(
    "--statistics",
    help="Gram matrices of the model's inputs (`imatrix compute --gram`), for recipes with `encoder: feedback`.",
)
strict_option = click.option("--strict", is_flag=True, help="Refuse every fallback to another type.")
threads_option = count_option("--threads", help="Threads. [default: all cores]")
write_option = file_option("-o", "--output", help="Write FILE, not stdout.")
