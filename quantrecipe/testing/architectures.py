"""What an architecture promises: names that llama.cpp loads, rules that match names, and a folder that becomes a model.

`check_folder` takes a small folder of the architecture, since an Architecture alone has no tensors. The plugin's own
test makes it, with random weights: a hundred kilobytes are enough.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import gguf
import numpy as np

from quantrecipe.errors import ModelError, PluginError
from quantrecipe.model.architectures import Architecture, Gather
from quantrecipe.model.architectures.known import check_architecture as refuse_architecture
from quantrecipe.model.architectures.layout import Shapes
from quantrecipe.model.architectures.rules import template
from quantrecipe.model.checkpoint import open_checkpoint
from quantrecipe.model.huggingface import open_huggingface
from quantrecipe.model.source.reading import Reading
from quantrecipe.model.storable import check_name
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.testing.failure import require

__all__ = ["ARCHITECTURE_CHECKS", "check_architecture", "check_folder", "check_layout", "check_rules"]

_LAST = 999
"""A layer's number with as many digits as any has: names have to be short enough with it."""
_RUNS = 5


def check_architecture(architecture: Architecture, seed: int = 0) -> None:
    """Its names are names, and gguf has a map of tensor names for it."""
    try:
        refuse_architecture(architecture)
    except PluginError as error:
        require(False, str(error))
    source = architecture.names_of or architecture.name
    require(
        source in gguf.MODEL_ARCH_NAMES.values(),
        f"gguf has no architecture {source!r}: name one in `names_of` whose tensors are called alike",
    )


def check_layout(architecture: Architecture, seed: int = 0) -> None:
    """Every tensor of its layout has a name that ggml has room for, and stands there once."""
    seen: set[str] = set()
    for shapes in _shapes(architecture):
        for name in shapes:
            try:
                check_name(name.format(layer=_LAST), Path())
            except (ModelError, KeyError, IndexError) as error:
                require(False, f"{name!r} in the layout: {error}")
            if shapes in (architecture.layout.required, architecture.layout.optional):
                require(name not in seen, f"{name!r} stands in the layout twice")
                seen.add(name)
    require(bool(seen) or bool(architecture.layout.parts), "its layout has no tensors")


def check_rules(architecture: Architecture, seed: int = 0) -> None:
    """Every rule's templates can be read, and those of tensors that belong together name the same layer."""
    for rule in architecture.rules:
        names = rule.names if isinstance(rule, Gather) else (rule.names,)
        holes = []
        for name in names:
            try:
                holes.append("layer" in template(name).groupindex)
            except Exception as error:  # noqa: BLE001  # whatever a template is made of
                require(False, f"{name!r} is no template of names: {error}")
        require(len(set(holes)) == 1, f"{names} belong together, and only some have {{layer}}")


def check_folder(architecture: Architecture, folder: Path) -> None:
    """A folder of it becomes a model, and each tensor's rows are the same in whatever runs they are read."""
    known = dict.fromkeys(architecture.classes, (architecture,))
    model = open_huggingface(folder, open_checkpoint(folder), known, part=architecture.part)
    require(model.arch == architecture.name, f"the folder became a {model.arch!r}")
    with TensorReader() as reader:
        for tensor in model.tensors:
            source = pickle.loads(pickle.dumps(model.sources[tensor.name]))
            whole = source.read(0, source.total_rows, Reading(reader))
            edges = np.linspace(0, source.total_rows, _RUNS + 1).astype(int).tolist()
            runs = [
                source.read(start, stop, Reading(reader)) for start, stop in pairwise(edges) if stop > start
            ]
            require(
                np.array_equal(np.concatenate(runs), whole),
                f"{tensor.name} has other rows where it is read in {len(runs)} runs",
            )


def _shapes(architecture: Architecture) -> Iterator[Shapes]:
    layout = architecture.layout
    yield layout.required
    yield layout.optional
    for part in layout.parts:
        yield part.required
        yield part.optional


ARCHITECTURE_CHECKS = (check_architecture, check_layout, check_rules)
"""What every architecture is held to, without a folder."""
