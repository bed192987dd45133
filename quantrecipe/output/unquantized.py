"""unquantized: a model as a GGUF that llama.cpp runs, in BF16 or whatever its weights are stored in.

What is a GGUF already is run as it lies. A folder of Hugging Face is written once, streamed, below a folder that the
caller names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from quantrecipe.errors import OutputError
from quantrecipe.model.fingerprint import fingerprint
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.progress import Progress
from quantrecipe.output.work_folder import work_folder
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
    plan = plan_of(resolve(load_recipe(RECIPE, registry=registry), model, registry, settings=PlanSettings()))
    with nullcontext(folder) if keep else work_folder(folder, "bf16") as place:
        path = place / kept.name
        yield apply_plan(plan, path, registry=registry, threads=threads, force=keep, progress=progress).path
