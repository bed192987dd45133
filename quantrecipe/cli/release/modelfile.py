"""Files for programs that run GGUFs: ollama's Modelfile, and LM Studio's folders.

ollama has templates of its own, and finds the one of a model by what the GGUF says; so a Modelfile says where the file
is, and how the model's makers sample. LM Studio shows what lies in PUBLISHER/MODEL/ below its folder of models.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from quantrecipe.cli.release.job import Item, Made
from quantrecipe.errors import OutputError
from quantrecipe.model.model import Model
from quantrecipe.release.release import Release
from quantrecipe.targets.targets import load_targets

__all__ = ["link_for_lm_studio", "modelfile_text", "why_not_ollama"]

_SAMPLING = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repeat_penalty",
}
"""GGUF's keys, and ollama's names for the same."""


def why_not_ollama(item: Item, made: Made) -> str:
    """Why ollama can't run a file; "" where it can."""
    if len(made.sums) > 1:
        return "it is split, and ollama takes one file"
    targets = load_targets()
    types = sorted({a.type for a in item.plan.assignments})
    refused = [name for name in types if targets.runs("ollama", None, "cpu", name).speed == "no"]
    return f"ollama doesn't know {', '.join(refused)}" if refused else ""


def modelfile_text(file: str, model: Model, projector: str | None = None, *, context: int) -> str:
    """The Modelfile of a file that lies in the folder above it, with its projector if it has one."""
    lines = [f"FROM ../{name}" for name in (file, projector) if name is not None]
    lines.append(f"PARAMETER num_ctx {context}")
    for key, name in _SAMPLING.items():
        value = model.metadata.get(key)
        number = None if value is None else value.decode()
        if isinstance(number, int | float):
            lines.append(f"PARAMETER {name} {number:g}")
    return "\n".join(lines) + "\n"


def link_for_lm_studio(
    root: Path, release: Release, name: str, paths: Sequence[Path], *, force: bool
) -> Path:
    """Link files into ROOT/PUBLISHER/MODEL/, and return that folder. OutputError where it can't be, or where another
    file has the name of one, unless `force`.

    Links to the same bytes where both are on one disk, else links to the path: nothing is copied.
    """
    owner, _, model = release.repo.partition("/")
    publisher = owner or release.quantized_by
    if not publisher or "/" in publisher or publisher.startswith("."):
        what = "LM Studio's folders are named after who publishes, and the release doesn't say who"
        raise OutputError(what, "write quantized_by: NAME, or repo: OWNER/NAME", file=release.file)
    folder = root / publisher / (model or f"{name}-GGUF")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            _link(path, folder / path.name, force=force)
    except OSError as error:
        what = f"can't be linked into {folder}: {error.strerror or error}"
        raise OutputError(what, "name another folder with --lm-studio") from error
    return folder


def _link(path: Path, link: Path, *, force: bool) -> None:
    if link.is_symlink() or link.exists():
        with suppress(OSError):
            if os.path.samestat(path.stat(), link.stat()):
                return
        if not (force or link.is_symlink()):
            raise OutputError(f"{link} exists, and is another file", "move it away, or say --force")
        link.unlink()
    try:
        os.link(path, link)
    except OSError:  # another disk, or a file system without such links
        link.symlink_to(path.resolve())
