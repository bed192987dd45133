"""Prober: what the model's output does when some tensors are rounded to lower types, by the real engine.

One file in Q8_0 is made, and a reference of what it says about the calibration text. A probe writes rounded weights
over the tensors that it asks about, in place, and runs the file beside the reference; the next one restores them.
So a probe costs a forward pass and the writing of the tensors that change, and its figure is a difference to the same
file: what rounding to Q8_0 does is on both sides.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import xxhash

from quantrecipe.api import Effect
from quantrecipe.core.processors import usable_processors
from quantrecipe.engine import Engine
from quantrecipe.errors import OutputError
from quantrecipe.evaluate import Positions, Reference, Text, difference, make_reference, score
from quantrecipe.importance.matrix import Importance
from quantrecipe.layer_ranges import layer_ranges
from quantrecipe.measure.progress import Progress
from quantrecipe.measure.rounding import Rounded
from quantrecipe.model.model import Model
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.jobs import Job
from quantrecipe.output.progress import Silent
from quantrecipe.output.stream import Stream
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.plan.plan_of import plan_of
from quantrecipe.plan.resolution import PlanSettings, resolve
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import Registry
from quantrecipe.sensitivity.sensitivity import Probed, rounded
from quantrecipe.tensor import split_name

__all__ = ["BASE_RECIPE", "Passes", "Prober", "describe"]

BASE_RECIPE = "pure/Q8_0"
"""What all tensors have that a probe leaves alone."""

_VERSION = 1
"""Of the way in which probes are made; part of what they are known by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Passes:
    """How a model is run for a probe.

    texts:  that it reads, the same amount of each
    tokens: of all of them, at most
    n_ctx:  tokens in a chunk
    engine: what runs it; None for what the environment names, or llama-cpp-python
    """

    texts: tuple[Text, ...]
    tokens: int
    n_ctx: int = 512
    threads: int | None = None
    gpu_layers: int | None = None
    engine: Engine | None = None

    @property
    def chunks(self) -> int:
        """How many chunks of each text are read, if it has as many."""
        return max(1, self.tokens // (self.n_ctx * len(self.texts)))


class Prober:
    """Evaluates; a context manager, which removes its files when it is left."""

    def __init__(
        self,
        model: Model,
        registry: Registry,
        importance: Importance | None,
        passes: Passes,
        *,
        digests: Mapping[str, str],
        folder: Path,
        known: Mapping[str, Probed],
        save: Callable[[Probed], None],
        progress: Progress,
    ) -> None:
        """digests: of the content of the tensors; known: probes of earlier runs, by key; save: hears of new ones."""
        self._model, self._registry, self._importance, self._passes = model, registry, importance, passes
        self._digests = digests
        self._folder = folder
        self._known = dict(known)
        self._save = save
        self._progress = progress
        self._stack = ExitStack()
        self._base: _Base | None = None
        self.probes: list[Probed] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def evaluate(self, types: Mapping[str, str]) -> Effect:
        """What these tensors' rounding to these types does to the output."""
        key = self._key(types)
        if key not in self._known:
            what = describe(types)
            self._progress.say(what)
            if self._base is None:
                self._base = self._make_base()
            kld, error = self._base.run(types)
            self._known[key] = Probed(key=key, what=what, kld=rounded(kld), standard_error=rounded(error))
            self._save(self._known[key])
        probed = replace(self._known[key], used=True)
        if probed not in self.probes:
            self.probes.append(probed)
        return Effect(kld=probed.kld, standard_error=probed.standard_error)

    def _key(self, types: Mapping[str, str]) -> str:
        # All that the figure depends on: a probe is known again by this, also in the file of another run.
        matrix = self._importance
        content: list[Any] = [_VERSION, BASE_RECIPE, [text.digest for text in self._passes.texts]]
        content += [self._passes.chunks, self._passes.n_ctx, sorted(self._digests.items())]
        for name, type_ in sorted(types.items()):
            entry = None if matrix is None else matrix.entries.get(name)
            version = self._registry.format(type_).spec.version
            content.append([name, type_, version, None if entry is None else entry.digest])
        return xxhash.xxh3_128_hexdigest(json.dumps(content, separators=(",", ":")).encode())

    def _make_base(self) -> _Base:
        try:
            folder = tempfile.TemporaryDirectory(prefix=".quantrecipe-probes-", dir=self._folder)
        except OSError as error:
            what = f"can't make a folder for probes in {self._folder}: {error.strerror or error}"
            raise OutputError(what, "name another with --work-dir") from error
        place = Path(self._stack.enter_context(folder))
        base = _Base(self._model, self._registry, self._importance, self._passes, place, self._progress)
        self._stack.callback(base.close)
        return base


class _Base:
    """The file that probes write into, and what it says when nothing is rounded."""

    def __init__(
        self,
        model: Model,
        registry: Registry,
        importance: Importance | None,
        passes: Passes,
        folder: Path,
        progress: Progress,
    ) -> None:
        self._registry, self._importance, self._passes = registry, importance, passes
        self._progress = progress
        self._path = folder / "base.gguf"
        recipe = load_recipe(BASE_RECIPE, registry=registry)
        wanted = PlanSettings(allow_requantize=True, provenance=False)
        self._plan: Plan = plan_of(resolve(recipe, model, registry, settings=wanted))
        progress.say("the model in Q8_0, to probe")
        apply_plan(self._plan, self._path, registry=registry, threads=passes.threads)
        progress.say("what it says of the text")
        self._reference: Reference = make_reference(
            self._path,
            passes.texts,
            folder / "base.reference",
            n_ctx=passes.n_ctx,
            chunks=passes.chunks,
            threads=passes.threads,
            gpu_layers=passes.gpu_layers,
            engine=passes.engine,
        )
        self._rounded: set[str] = set()
        self._file = _InPlace(self._path)
        self._itself: Positions = self._score()

    def close(self) -> None:
        """Close the file, before its folder is removed."""
        self._file.close()

    def run(self, types: Mapping[str, str]) -> tuple[float, float]:
        """Mean divergence and its standard error, beside the file with nothing rounded."""
        self._write(types)
        return difference(self._score(), self._itself)

    def _score(self) -> Positions:
        return score(
            self._path,
            self._reference,
            threads=self._passes.threads,
            gpu_layers=self._passes.gpu_layers,
            engine=self._passes.engine,
            progress=lambda done, total: self._progress.share(done / total),
        )

    def _write(self, types: Mapping[str, str]) -> None:
        """Round what is asked for, and restore what was rounded before."""
        wanted = [
            self._assignment(a, types.get(a.tensor.name))
            for a in self._plan.assignments
            if a.tensor.name in types or a.tensor.name in self._rounded
        ]
        self._rounded |= types.keys()  # from now on, even if it fails halfway
        Stream(
            self._plan.model,
            [Job(assignment=a, sink=self._file, importance=self._importance) for a in wanted],
            self._registry,
            threads=self._passes.threads or usable_processors(),
            nan="error",
            progress=Silent(),
        ).run()
        self._rounded = set(types)

    def _assignment(self, base: Assignment, type_: str | None) -> Assignment:
        if type_ is None:
            return base
        inner = self._registry.format(type_)
        covered = self._importance is not None and self._importance.covers(base.tensor)
        used = covered and inner.spec.importance != "ignored"
        return replace(base, format=Rounded(base.format, inner), importance=used, copied=False)


class _InPlace:
    """A finished file, written at any offset from any thread."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b", buffering=0)
        self._lock = threading.Lock()

    def write(self, data: memoryview, offset: int) -> None:
        with self._lock:  # Windows has no positional writes, so seeking and writing belong together
            self._file.seek(offset)
            data = data.cast("B")
            while data:
                data = data[self._file.write(data) :]

    def close(self) -> None:
        self._file.close()


def describe(types: Mapping[str, str]) -> str:
    """Tensors and their types in a few words: "attn_v, layers 0-3 → Q3_K"."""
    layers: dict[str, list[int]] = defaultdict(list)
    for name in types:
        layer, role = split_name(name)
        layers[role] += [] if layer is None else [layer]
    groups: dict[str, list[str]] = defaultdict(list)
    for role, numbers in layers.items():
        groups[_layers_text(numbers)].append(role)
    parts = [", ".join(roles) + (f", {text}" if text else "") for text, roles in groups.items()]
    return f"{'; '.join(parts)} → {', '.join(sorted(set(types.values())))}"


def _layers_text(numbers: Sequence[int]) -> str:
    """ "layers 0-2, 5"; "" for none."""
    if not numbers:
        return ""
    return f"{'layer' if len(set(numbers)) == 1 else 'layers'} {layer_ranges(numbers)}"
