"""Scenes: what a run makes, what has to be there in the end, and what may be there before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.model.open_model import open_model
from quantrecipe.output import row_units, sync_often
from quantrecipe.output.apply import apply_plans, output_paths
from quantrecipe.output.journal import journal_path
from quantrecipe.output.partfile import part_path
from quantrecipe.output.store import shelf
from quantrecipe.output.store.store import Store
from quantrecipe.output.store.upkeep import damage_of, entries_of
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.registry import load_registry

__all__ = ["SCENES", "Scene", "make_scenes"]

SCENES = ("plain", "store", "shards", "replaced", "several")
_MIX = recipe(rule("attn_v", "Q8_0"), rule("ffn_down", "F16"), rule("ffn_up", "NVFP4"), default="Q4_K")
_OTHER = recipe(rule("attn_v", "Q6_K"), rule("attn_q", "BF16"), default="Q4_K")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A run into `folder`, which is empty but for what `before` has put there.

    run:   (force): the run; what it raises is what the user sees
    peace: what each file has to be
    older: what a file may be besides, before
    store: whether there is one, in folder/store
    """

    name: str
    folder: Path
    run: Callable[[bool], None]
    peace: dict[Path, bytes]
    older: dict[Path, bytes]
    store: bool

    def begin(self) -> None:
        """Make it as it is before."""
        for path in sorted(self.folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        for path, data in self.older.items():
            path.write_bytes(data)

    def wrong(self) -> str:
        """What is wrong under a final name, "" if nothing is."""
        for path, data in self.peace.items():
            if path.exists() and path.read_bytes() not in (data, self.older.get(path)):
                return f"{path.name} is neither whole nor what it was"
        if self.store and (self.folder / "store").exists():
            for found in entries_of(Store(self.folder / "store")):
                if damage := damage_of(found):
                    return f"{found.path} {damage}"
        return ""

    def done(self) -> bool:
        """Whether all files are what they have to be."""
        return all(path.exists() and path.read_bytes() == data for path, data in self.peace.items())

    def left(self) -> list[str]:
        """Parts and journals that are still there."""
        names = [name(path) for path in self.peace for name in (part_path, journal_path)]
        return [path.name for path in names if path.exists()]


def make_scenes(folder: Path) -> dict[str, Scene]:
    """All of them, of one small model of many units; each is run once in peace."""
    row_units.split.__defaults__ = (1, 20_000)
    sync_often.SYNC_SECONDS = 0.003
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

        run(False)
        paths = [path for plan, out in outs for path in output_paths(out, len(plan.files))]
        peace = {path: path.read_bytes() for path in paths}
        older = dict.fromkeys(paths, b"an older file") if force else {}
        scenes[name] = Scene(name=name, folder=place, run=run, peace=peace, older=older, store=store)
    return scenes
