"""Scenes of `apply`, alone and shared, and its store; those of other commands are in `working_scenes.py`."""

from __future__ import annotations

import os
import random
import time
from functools import partial
from pathlib import Path

from folder_upload import FolderUpload
from scene import Scene, nobody
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule
from working_scenes import working_scenes

from quantrecipe.executors.local import Threads
from quantrecipe.model.objects import ObjectAddress
from quantrecipe.model.open_model import open_model
from quantrecipe.output import first_rows, kept_lines, row_units, sync_often
from quantrecipe.output.apply import apply_plans, output_paths
from quantrecipe.output.shares import by_executor
from quantrecipe.output.shares.assemble import assemble
from quantrecipe.output.shares.by_executor import apply_by
from quantrecipe.output.shares.folder import open_pieces, pieces_path
from quantrecipe.output.shares.part import Part, make_part
from quantrecipe.output.store import shelf
from quantrecipe.output.store.store import Store
from quantrecipe.output.store.upkeep import shrink
from quantrecipe.output.uploads import by_executor as sent
from quantrecipe.output.uploads import kept_parts
from quantrecipe.output.uploads.by_executor import upload_by
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.registry import Registry, load_registry

__all__ = ["SCENES", "make_scenes"]

_APPLY = ("plain", "store", "shards", "replaced", "several", "writers", "executor", "pieces", "parts")
SCENES = (*_APPLY, "sensitivity", "probes", "files", "fit", "imatrix", "grams", "answers")
_MIX = recipe(rule("attn_v", "Q8_0"), rule("ffn_down", "F16"), rule("ffn_up", "NVFP4"), default="Q4_K")
_OTHER = recipe(rule("attn_v", "Q6_K"), rule("attn_q", "BF16"), default="Q4_K")

_UNIT = 20_000
"""Bytes of a unit of those who share a run: tensors are cut."""

_PART = 9_000
"""Bytes of a part of an upload."""

_LEASE_SECONDS = 0.3
"""After so long, a unit of a part that was killed is made by another."""


def make_scenes(folder: Path) -> dict[str, Scene]:
    """All of them, of one small model of many units; each is run once in peace."""
    row_units.split.__defaults__ = (1, 20_000)
    first_rows.NOTE_SECONDS = 0.0005  # some units are noted by themselves, others together
    by_executor.MOST = 2 * _UNIT
    sync_often.SYNC_SECONDS = 0.003
    kept_lines._SYNC_SECONDS = 0.003
    shelf.LEAST = 1000
    registry = load_registry(plugins=False)
    source = write_gguf(folder / "source.gguf", llama_tensors(layers=1))
    model = open_model(source, registry=registry)
    mix, other = (make_plan(it, model, registry=registry) for it in (_MIX, _OTHER))
    split = make_plan(_MIX, model, registry=registry, split=SplitLimits(max_tensors=5))
    wanted: dict[str, tuple[list[Plan], bool, bool]] = {
        "plain": ([mix], False, False),
        "store": ([mix], True, False),
        "shards": ([split], False, False),
        "replaced": ([mix], False, True),
        "several": ([mix, other], True, False),
        "writers": ([mix], True, False),
    }
    scenes = {}
    for name, (plans, store, force) in wanted.items():
        place = folder / name
        place.mkdir()
        outs = [(plan, place / f"{number}.gguf") for number, plan in enumerate(plans)]

        def run(
            more: bool,
            outs: list[tuple[Plan, Path]] = outs,
            where: Path | None = place / "store" if store else None,
            force: bool = force,
        ) -> None:
            apply_plans(outs, registry=registry, threads=2, force=force or more, store=where, resume=True)

        def beside(place: Path = place) -> None:
            """Another writer of the store, and one that tidies it up at the same time."""
            draw = random.Random(os.getpid())
            for _ in range(3):
                out = [(mix, place / "beside.gguf")]
                apply_plans(out, registry=registry, threads=1, force=True, store=place / "store")
                far = time.time() + draw.choice([0, 0, 400 * 24 * 3600])  # a clock that is wrong
                shrink(Store(place / "store"), draw.randrange(1 << 18), now=far)

        run(False)
        paths = [path for plan, out in outs for path in output_paths(out, len(plan.files))]
        peace = {path: path.read_bytes() for path in paths}
        scenes[name] = Scene(
            name=name,
            folder=place,
            run=run,
            peace=peace,
            older=dict.fromkeys(paths, b"an older file") if force else {},
            store=store,
            beside=beside if name == "writers" else nobody,
            stays=("beside.gguf",),
        )
    return (
        scenes
        | _shared(folder, mix, registry)
        | _uploaded(folder, split, registry)
        | working_scenes(folder, registry)
    )


def _shared(folder: Path, plan: Plan, registry: Registry) -> dict[str, Scene]:
    """One file that an executor's workers make, or that two parts make and a third process assembles."""

    def by_workers(out: Path, force: bool) -> None:
        workers = Threads({"workers": 2, "threads": 1})
        apply_by(workers, plan, out, registry=registry, force=force, nbytes=_UNIT)

    def in_pieces(out: Path, force: bool) -> None:
        open_pieces(pieces_path(out), plan, nan="error", nbytes=_UNIT, lease_seconds=_LEASE_SECONDS)
        for number in (1, 2):
            make_part(plan, out, Part(number=number, count=2), registry=registry, threads=2, force=force)
        assemble(plan, out, registry=registry, threads=2, force=force)

    scenes = {}
    for name, run in (("executor", by_workers), ("pieces", in_pieces)):
        place = folder / name
        place.mkdir()
        out = place / "0.gguf"
        run(out, False)
        scenes[name] = Scene(name=name, folder=place, run=partial(run, out), peace={out: out.read_bytes()})
    return scenes


def _uploaded(folder: Path, plan: Plan, registry: Registry) -> dict[str, Scene]:
    """Shards that an executor's workers send in parts, to a store that is a folder."""
    kept_parts.Multipart = FolderUpload  # type: ignore[misc]  # for good: these processes end soon
    sent.block_bytes = lambda nbytes: _PART
    sent.require_free = lambda address, *, force: None
    place = folder / "parts"
    store, here = place / "store", place / "here"
    paths = output_paths(store / "0.gguf", len(plan.files))
    addresses = [ObjectAddress(scheme="s3", path=str(path).lstrip("/")) for path in paths]

    def run(force: bool) -> None:
        here.mkdir(parents=True, exist_ok=True)
        workers = Threads({"workers": 2, "threads": 1})
        upload_by(workers, plan, addresses, here, registry=registry, force=force, nbytes=_UNIT)

    run(False)
    peace = {path: path.read_bytes() for path in paths}
    return {
        "parts": Scene(name="parts", folder=place, run=run, peace=peace, stays=("store/*/*", "store/new-*"))
    }
