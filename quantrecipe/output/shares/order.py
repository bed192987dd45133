"""What a worker of an executor is opened from, and what it does: order_of, here; open_worker, wherever the worker is.

The plan itself travels, and isn't made again: a recipe may leave types to a budget, and its parents lie in files that a
worker's machine doesn't have. `travelling` says what of a plan is taken along.

The model, the matrix and the statistics are read there under the same paths, and have to be the same files. Of a model
on the hub, or in an object store, the order has only where each file is and what it is: a worker reads the bytes of its
own units from there, with the token or the keys of its own environment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from quantrecipe.api import Order
from quantrecipe.errors import ModelError
from quantrecipe.model.remote import open_places
from quantrecipe.output.progress import Silent
from quantrecipe.output.shares.into import Delivered, Into
from quantrecipe.output.shares.make import MadeUnit, Maker
from quantrecipe.output.shares.same_there import keys_of, packages_of, require_same
from quantrecipe.output.shares.travelling import dumped, loaded
from quantrecipe.output.shares.units import WorkUnit
from quantrecipe.output.store.store import open_store
from quantrecipe.output.transform import Handling
from quantrecipe.output.warm import compile_kernels
from quantrecipe.plan.plan import Plan
from quantrecipe.registry import Registry, load_registry
from quantrecipe.remote_files import Place, place_of, remote_file

__all__ = ["open_worker", "order_of"]

_STATISTICS = "index.json"


def order_of(
    plan: Plan,
    registry: Registry,
    *,
    nan: Handling,
    into: Into,
    store: Path | None = None,
) -> Order:
    """The order for workers that make units of a plan.

    into: where these go
    ModelError where the model can't be read on another machine.
    """
    here, elsewhere = _files(plan)
    given = {
        "plan": _dumped(plan),
        "files": keys_of(here),
        "places": elsewhere,
        "plugins": registry.plugins_on,
        "nan": nan,
        "store": None if store is None else store.resolve(),
        "into": into,
    }
    names = {a.type for a in plan.assignments} | {a.tensor.dtype for a in plan.assignments}
    encoders = {a.encoder.name for a in plan.assignments if a.encoder is not None}
    packages = packages_of(registry, names, encoders)
    return Order(function=f"{__name__}:open_worker", given=given, packages=packages)


def open_worker(given: Any, threads: int) -> Callable[[WorkUnit], MadeUnit | Delivered]:
    """What makes units where it is called, and returns what `given["into"]` says.

    ModelError where the model's files aren't the same there, PluginError where a format is missing.
    """
    open_places(given["places"])
    require_same(given["files"])
    registry = load_registry(plugins=given["plugins"])
    plan: Plan = loaded(given["plan"], registry)
    compile_kernels(plan.assignments, registry, Silent().compiling)
    store = None if given["store"] is None else open_store(given["store"], create=True)
    maker = Maker(plan, registry, threads=threads, nan=given["nan"], progress=Silent(), store=store)
    into: Into = given["into"]
    make = into.open(plan)
    return lambda unit: make(unit, maker)


def _files(plan: Plan) -> tuple[list[Path], list[tuple[Path, Place]]]:
    """The files that workers read under the same paths, and those that they read elsewhere.

    ModelError for what only this process can bring.
    """
    here: list[Path] = []
    elsewhere: list[tuple[Path, Place]] = []
    weights = {extent.path for source in plan.model.sources.values() for extent in source.extents}
    for path in plan.model.files:
        place = place_of(path)
        if place is not None:
            elsewhere += [(path, place)] if path in weights else []
        elif remote_file(path) is not None:
            raise ModelError(*_only_here(path), file=plan.model.path)
        else:
            here.append(path)
    if plan.importance is not None:
        here.append(plan.importance.path)
    if plan.statistics is not None:
        here.append(plan.statistics.folder / _STATISTICS)
    return here, elsewhere


def _only_here(path: Path) -> tuple[str, str]:
    file = remote_file(path)
    if file is not None and file.identity:
        return (
            "has an address with a signature in it, which isn't sent to workers",
            "name it in a way that workers have keys for (s3://…), or leave out --executor",
        )
    return (
        "can't be read by workers: llama.cpp's converter makes it for this process alone",
        "write it first: quantrecipe apply llama.cpp/BF16 with --converter; or leave out --executor",
    )


def _dumped(plan: Plan) -> bytes:
    """What of a plan a worker needs; the vocabulary in the metadata would be most of it."""
    bare = replace(
        plan,
        model=replace(plan.model, metadata={}),
        files=tuple(replace(file, metadata={}) for file in plan.files),
        coverage=None,
        spending=None,
    )
    return dumped(bare)
