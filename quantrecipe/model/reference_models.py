"""Reference models: shape files of well-known models that ship with quantrecipe, to plan with and without weights.

    shapes/qwen3-14b        wherever a model can stand: plan, check, explain, diff

They are the files in the folder `reference`, made by tools/make_shapes.py of the models' public configurations. One
file each of the kinds of models that recipes are written for: dense, mixtures of experts, latent attention, hybrids.
A file or folder of the same name on the disk goes first.
"""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from quantrecipe.errors import ModelError
from quantrecipe.model.model import Model

__all__ = ["REFERENCE", "is_reference", "open_reference", "reference_models"]

REFERENCE = "shapes"
"""What stands before the name of a reference model: shapes/qwen3-14b."""

_FOLDER = Path(__file__).with_name("reference")


def reference_models() -> tuple[str, ...]:
    """Return the names of all reference models in alphabetical order: "shapes/deepseek-v3.1", …"""
    return tuple(f"{REFERENCE}/{path.stem}" for path in sorted(_FOLDER.glob("*.json")))


def is_reference(path: Path) -> bool:
    """True for `shapes/NAME`, if there is no such file."""
    parts = path.parts
    return len(parts) == 2 and parts[0] == REFERENCE and path.suffix != ".json" and not path.exists()


def open_reference(path: Path) -> Model:
    """The reference model of a name. ModelError, with the names that there are, if there is none."""
    name = path.as_posix()
    known = reference_models()
    if name not in known:
        close = get_close_matches(name.lower(), known, n=1, cutoff=0.7)
        remedy = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        raise ModelError(f"there is no reference model {name!r}", remedy)
    from quantrecipe.model.shapes import open_shapes  # for those who open one: most models are no reference

    return replace(open_shapes(_FOLDER / f"{path.name}.json"), path=path)
