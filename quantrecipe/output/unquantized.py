"""unquantized: a model as a GGUF that llama.cpp runs, in BF16 or whatever its weights are stored in.

What is a GGUF already is run as it lies. A folder of Hugging Face is written once, streamed, into a folder that the
caller names.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from quantrecipe.model.model import Model
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.progress import Progress
from quantrecipe.plan.plan_of import plan_of
from quantrecipe.plan.resolution import PlanSettings, resolve
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import Registry

__all__ = ["RECIPE", "unquantized"]

RECIPE = "llama.cpp/BF16"


@contextmanager
def unquantized(
    model: Model,
    registry: Registry,
    folder: Path,
    *,
    keep: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Path]:
    """The path of a GGUF of the model: its own, or a file in `folder` that is removed when the block ends.

    keep: leave that file, under the name of the model, and take it if it is there already and not older than the model
    OutputError where it can't be written.
    """
    if model.container == "gguf":
        yield model.path
        return
    kept = folder / f"{model.path.resolve().name}.bf16.gguf"
    if keep and kept.exists() and all(kept.stat().st_mtime >= it.stat().st_mtime for it in model.files):
        yield kept
        return
    path = kept if keep else folder / f".quantrecipe-{secrets.token_hex(4)}.bf16.gguf"
    plan = plan_of(resolve(load_recipe(RECIPE, registry=registry), model, registry, settings=PlanSettings()))
    try:
        yield apply_plan(plan, path, registry=registry, threads=threads, force=keep, progress=progress).path
    finally:
        if not keep:
            with suppress(OSError):
                path.unlink()
