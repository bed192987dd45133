"""unquantized: a model as a GGUF that llama.cpp runs, in BF16 or whatever its weights are stored in.

What is a GGUF already is run as it lies. A folder of Hugging Face is written once, streamed, into a folder that the
caller names.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from quantrecipe.errors import OutputError
from quantrecipe.model.fingerprint import fingerprint
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
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
    OutputError where it can't be written, or another model's file has its name.
    """
    if model.container == "gguf":
        yield model.files[0]  # llama.cpp takes the first of several shards only
        return
    kept = folder / f"{model.path.resolve().name}.bf16.gguf"
    if keep and kept.exists():
        # What was copied into the folder since may be older than the file, and yet another model.
        if not fingerprint(open_model(kept, registry=registry)).agrees(fingerprint(model)):
            what = f"{kept} is of another model than {model.path}"
            raise OutputError(what, "move it away, or have the file written into another folder")
        if all(kept.stat().st_mtime >= it.stat().st_mtime for it in model.files):
            yield kept
            return
    path = kept if keep else _temporary(folder)
    plan = plan_of(resolve(load_recipe(RECIPE, registry=registry), model, registry, settings=PlanSettings()))
    try:
        yield apply_plan(plan, path, registry=registry, threads=threads, force=keep, progress=progress).path
    finally:
        if not keep:
            with suppress(OSError):
                path.unlink()


def _temporary(folder: Path) -> Path:
    """A name for a file that says whose it is; those of processes of this machine that were killed are removed."""
    machine = re.sub(r"[^\w-]", "_", platform.node()) or "here"
    for left in folder.glob(f".quantrecipe-{machine}-*.bf16.gguf*"):
        owner = re.match(r"\d+", left.name.removeprefix(f".quantrecipe-{machine}-"))
        if owner is not None and not psutil.pid_exists(int(owner[0])):
            with suppress(OSError):
                left.unlink()
    return folder / f".quantrecipe-{machine}-{os.getpid()}-{secrets.token_hex(4)}.bf16.gguf"
