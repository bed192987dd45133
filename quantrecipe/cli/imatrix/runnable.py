"""runnable: a model as a file that llama.cpp runs, for commands that run it over texts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from quantrecipe.cli.apply_progress import apply_progress
from quantrecipe.cli.context import Context
from quantrecipe.model.model import Model
from quantrecipe.output.unquantized import unquantized
from quantrecipe.registry import Registry

__all__ = ["runnable"]


@contextmanager
def runnable(
    ctx: Context, model: Model, registry: Registry, folder: Path, *, keep: bool, threads: int | None
) -> Iterator[Path]:
    """A GGUF: the model itself, or a file that is made in `folder`; see `unquantized`."""
    with ExitStack() as stack:
        with apply_progress(ctx.err) as progress:  # gone before anything else draws
            made = unquantized(model, registry, folder, keep=keep, threads=threads, progress=progress)
            path = stack.enter_context(made)
        yield path
