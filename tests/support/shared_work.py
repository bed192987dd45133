"""Plans of which each is difficult to share in another way, and processes that share one: python shared_work.py."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from quantrecipe.api import Executor, Order, Outcome, Workers
from quantrecipe.executors.local import Threads
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import Result
from quantrecipe.output.row_units import split
from quantrecipe.output.shares.folder import open_pieces, pieces_path
from quantrecipe.output.shares.make import Maker
from quantrecipe.output.shares.part import Part, make_part
from quantrecipe.plan.layout import SplitLimits
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import Registry, load_registry
from support.gram_statistics import write_statistics
from support.imatrix_files import write_gguf_imatrix
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

__all__ = ["KINDS", "SMALL", "Changing", "HeldProcess", "plan_of_kind", "same_files", "small_row_units"]

SMALL = 60_000
"""Bytes of a unit with which these models are cut in the middle of matrices, and between experts."""

MIX = recipe(rule("attn_v", "Q8_0"), rule("attn_output", "keep"), rule("ffn_down*", "F32"), default="Q4_K")
FACTORS = recipe(rule("ffn_up*", "NVFP4"), rule("attn_q", "NVFP4"), default="Q5_0")
WITH_IMPORTANCE = recipe(rule("ffn_*", "IQ4_XS"), default="Q4_K")
FEEDBACK = "quantrecipe: 1\ndefault: Q4_0\nencoder: {name: feedback, damping: 0.01}\n"

KINDS = (
    *("dense", "shards", "experts", "factors", "factors of experts", "tied", "importance"),
    *("feedback", "feedback of experts"),
)
"""Names of the plans. All copy tensors, too: norms, or attn_output."""


def plan_of_kind(kind: str, folder: Path, registry: Registry) -> Plan:
    """The plan, whose model is in a file of the folder: always the same."""
    experts = 3 if kind.endswith("experts") or kind == "importance" else 0
    weights = llama_tensors(layers=2, experts=experts, tied=kind == "tied")
    path = folder / "source.gguf"
    if not path.exists():
        write_gguf(path, weights)
    model = open_model(path, registry=registry)
    match kind:
        case "shards":
            return make_plan(MIX, model, registry=registry, split=SplitLimits(max_bytes=600_000))
        case "factors" | "factors of experts":
            return make_plan(FACTORS, model, registry=registry)
        case "importance":
            rng = np.random.default_rng(1)
            matrix = folder / "imatrix.gguf"
            if not matrix.exists():
                entries = {
                    name: (
                        tuple(9 for _ in range(n)),
                        rng.uniform(0.1, 2, (n, it.shape[-1])).astype(np.float32),
                    )
                    for name, it in weights.items()
                    if it.ndim > 1
                    for n in [it.shape[0] if it.ndim == 3 else 1]
                }
                write_gguf_imatrix(matrix, {name: (sums, counts) for name, (counts, sums) in entries.items()})
            return make_plan(WITH_IMPORTANCE, model, registry=registry, importance=read_importance(matrix))
        case "feedback of experts":
            up = "blk.0.ffn_up_exps.weight"
            grams = write_statistics(folder, {up: (256, (700, 800, 900))}, indefinite=(up,))
            mix = load_recipe_text(FEEDBACK, registry=registry)
            return make_plan(mix, model, registry=registry, statistics=grams)
        case "feedback":
            query, key = "blk.0.attn_q.weight", "blk.0.attn_k.weight"
            grams = write_statistics(
                folder, {query: (256, (700,))}, shared={query: (key,)}, indefinite=(query,)
            )
            mix = load_recipe_text(FEEDBACK, registry=registry)
            return make_plan(mix, model, registry=registry, statistics=grams)
    return make_plan(MIX, model, registry=registry)


def small_row_units() -> None:
    """In this process, units of rows are so small that each unit of work has several."""
    split.__defaults__ = (1, 8_000)


def same_files(result: Result, other: Result) -> bool:
    """Whether two runs wrote the same bytes, and report the same of them."""
    pairs = zip(result.paths, other.paths, strict=True)
    said = [
        (it.nbytes, it.hashes, it.nonfinite, {name: set(text) for name, text in it.remarks.items()})
        for it in (result, other)
    ]
    return said[0] == said[1] and all(one.read_bytes() == two.read_bytes() for one, two in pairs)


class HeldProcess:
    """A part in a process of its own, which stops before the unit of a number is finished until it is let go."""

    def __init__(self, kind: str, folder: Path, part: str, held: int, lease_seconds: float) -> None:
        self.mark = folder / f"held-{part.replace('/', '-')}"
        paths = [path for path in sys.path if path]
        self.process = subprocess.Popen(
            [sys.executable, __file__, kind, str(folder), part, str(held), str(lease_seconds)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )

    def wait_until_held(self, seconds: float = 60) -> None:
        """Until its unit is half made."""
        end = time.monotonic() + seconds
        while not self.mark.exists():
            assert self.process.poll() is None, "the process has ended before its time"
            assert time.monotonic() < end, "the process doesn't come to its unit"
            time.sleep(0.01)

    def let_go(self) -> None:
        """Have it go on."""
        self.mark.unlink(missing_ok=True)


class Changing(Executor):
    """A thread whose results go through `change`, each with its number, counted from 1."""

    name, summary = "changing", "for tests"

    def __init__(self, change: Callable[[Outcome, int], Outcome]) -> None:
        super().__init__()
        self.change = change

    def open(self, order: Order) -> Workers:
        return _ChangingWorkers(Threads({"workers": 1}).open(order), self.change)


class _ChangingWorkers(Workers):
    def __init__(self, inner: Workers, change: Callable[[Outcome, int], Outcome]) -> None:
        self._inner, self._change, self._count = inner, change, 0

    @property
    def width(self) -> int:
        return self._inner.width

    def begin(self, task: Any) -> None:
        self._inner.begin(task)

    def ended(self, seconds: float) -> Outcome | None:
        found = self._inner.ended(seconds)
        if found is None:
            return None
        self._count += 1
        return self._change(found, self._count)

    def close(self) -> None:
        self._inner.close()


def _main() -> None:
    kind, folder, number, held, lease_seconds = sys.argv[1:]
    registry = load_registry(plugins=False)
    plan = plan_of_kind(kind, Path(folder), registry)
    out = Path(folder) / "shared.gguf"
    open_pieces(pieces_path(out), plan, nan="error", nbytes=SMALL, lease_seconds=float(lease_seconds))
    mark = Path(folder) / f"held-{number.replace('/', '-')}"
    make, count = Maker.make, 0

    def holding(self: Maker, unit: object, sink: object) -> object:
        nonlocal count
        made = make(self, unit, sink)  # type: ignore[arg-type]  # as it is given
        count += 1
        if count == int(held):
            mark.touch()
            while mark.exists():
                time.sleep(0.01)
        return made

    Maker.make = holding  # type: ignore[method-assign,assignment]  # in this process alone
    first, _, of = number.partition("/")
    make_part(plan, out, Part(number=int(first), count=int(of)), registry=registry, threads=1)


if __name__ == "__main__":
    _main()
