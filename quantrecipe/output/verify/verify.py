"""verify_file: is a file what it says it is?

Of the file alone: its header and every byte of its data against their hashes, the recorded recipe against its digest,
the types against the recipe. With the source: its content against the hashes that the file has of it, the plan and the
metadata, and tensors quantized again and compared byte by byte. With a lock: the plan that was frozen.

Hashes find damage. They don't show who made a file: whoever changes data can change its hashes, and only the source
gives that away.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from quantrecipe.core.processors import usable_processors
from quantrecipe.errors import ModelError
from quantrecipe.importance.matrix import Importance
from quantrecipe.model.model import Model
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.output.progress import Progress, Silent
from quantrecipe.output.verify.against_lock import check_lock
from quantrecipe.output.verify.expected import check_types, embedded_recipe
from quantrecipe.output.verify.findings import change, damage, difference
from quantrecipe.output.verify.hashing import hash_tensors
from quantrecipe.output.verify.header import check_header
from quantrecipe.output.verify.payload import damaged_tensors, gap_findings
from quantrecipe.output.verify.produced import Produced, read_produced
from quantrecipe.output.verify.remake import Mismatch, remake, sample
from quantrecipe.output.verify.source import Origin, find_origin
from quantrecipe.output.verify.verification import Check, Finding, Verification
from quantrecipe.output.warm import compile_kernels
from quantrecipe.plan.metadata import STATISTICS_DIGEST
from quantrecipe.plan.plan import Assignment
from quantrecipe.plan.review.lock import Lock
from quantrecipe.plan.review.recorded import recorded_recipe
from quantrecipe.plan.statistics import Statistics
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry, load_registry

__all__ = ["SAMPLE", "verify_file"]

SAMPLE = 16
"""Tensors that are quantized again, unless the caller wants more or fewer."""


def verify_file(
    path: str | Path,
    *,
    registry: Registry | None = None,
    source: Model | None = None,
    importance: Importance | None = None,
    statistics: Statistics | None = None,
    recipe: Recipe | None = None,
    lock: Lock | None = None,
    sample: int | None = SAMPLE,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Check a GGUF, or all shards of one.

    `source` is the model that it was made from, `importance` the matrix and `statistics` those of inputs that were
    used. `recipe` is for files that record none; of others it has to be the recorded one. `sample` is how many tensors
    are quantized again (None: all). Damaged tensors always are. ModelError where a file can't be read at all, PlanError
    where recipe and source don't go together.
    """
    run = _Run(
        read_produced(Path(path), registry := registry or load_registry()),
        registry,
        threads=threads or usable_processors(),
        progress=progress or Silent(),
    )
    return run.verify(source, importance, recipe, lock, sample, statistics)


class _Run:
    def __init__(self, produced: Produced, registry: Registry, *, threads: int, progress: Progress) -> None:
        self._produced = produced
        self._registry = registry
        self._threads = threads
        self._progress = progress
        self._rewritten = False

    def verify(
        self,
        source: Model | None,
        importance: Importance | None,
        given: Recipe | None,
        lock: Lock | None,
        count: int | None,
        statistics: Statistics | None,
    ) -> Verification:
        started = time.perf_counter()
        produced = self._produced
        self._require_something(source, given, lock)
        recorded = recorded_recipe(produced.model, self._registry)
        self._rewritten = recorded is not None and recorded.rewritten
        if recorded is not None and (recorded.wrong or recorded.removed) and recorded.rewritten:
            # Whatever else the file says of itself is about what it was before: that needs no sentence for each tensor.
            finding = Finding(what=recorded.sentence, file=produced.path)
            skipped = Check.skipped("payload", "what it records is about the file that it was")
            checks = [Check.of("recipe", "against the types in the file", [finding]), skipped]
            if lock is not None:
                checks.append(check_lock(produced, lock))
            return self._verification(checks, (), 0, started)
        recipe, recipe_check = embedded_recipe(produced, self._registry)
        checks = [check_header(produced), recipe_check]
        if recipe is not None and given is not None and recipe.digest != given.digest:
            what = f"{given.file} isn't the recipe that the file was made with"
            checks.append(Check.of("recipe", f"against {given.file}", [Finding(what=what)]))
        recipe = recipe or given
        origin = None
        if source is not None and recipe is not None:
            origin = find_origin(produced, source, recipe, importance, self._registry, statistics)
            checks += origin.checks
        else:
            checks.append(check_types(produced, recipe, self._registry))
        if lock is not None:
            checks.append(check_lock(produced, lock))
        self._start(origin, count)
        with TensorReader() as reader:
            damaged = self._damaged(reader)
            changed = self._changed(origin, reader)
            remade, mismatches, read = self._remake(origin, reader, {*damaged, *changed}, count)
            checks.insert(1, self._payload(damaged, mismatches, reader))
        if source is not None:
            checks += self._source_checks(origin, changed, damaged, remade, mismatches)
        read += self._hashed_bytes(origin)
        return self._verification(checks, remade, read, started)

    def _verification(
        self, checks: list[Check], remade: tuple[str, ...], read: int, started: float
    ) -> Verification:
        return Verification(
            path=self._produced.path,
            files=tuple(shard.path for shard in self._produced.shards),
            claims=self._produced.has_provenance,
            checks=tuple(checks),
            requantized=remade,
            read=read,
            seconds=time.perf_counter() - started,
        )

    def _require_something(self, source: Model | None, recipe: Recipe | None, lock: Lock | None) -> None:
        produced = self._produced
        if source is not None:
            source.require_weights("name the model itself with --source")
        if produced.has_provenance or lock is not None or (source is not None and recipe is not None):
            return
        raise ModelError(
            "doesn't say how it was made: no hashes and no recipe are recorded in it",
            "with --source MODEL and --recipe RECIPE (and --imatrix FILE, if one was used) its tensors can be made"
            " again and compared",
            file=produced.path,
        )

    def _start(self, origin: Origin | None, count: int | None) -> None:
        """Compile, and say how much there is to do, as far as that is known before."""
        work = [self._produced.model.tensors] if self._produced.data else []
        if origin is not None:
            again = self._made_again(origin, set(), count)
            compile_kernels(again, self._registry, self._progress.compiling)
            work.append(tuple(a.tensor for a in again))
            if self._produced.sources:
                work.append(origin.resolution.model.tensors)
        self._progress.start(sum(tensor.size for tensors in work for tensor in tensors))

    def _made_again(self, origin: Origin, suspects: set[str], count: int | None) -> list[Assignment]:
        """What is made again: a sample, and the tensors that are suspected, themselves or their factors."""
        owners = {name for name, its in origin.companions.items() if its.tensor.name in suspects}
        chosen = sample(origin.assignments, count, suspects | owners)
        companions = [origin.companions[a.tensor.name] for a in chosen if a.tensor.name in origin.companions]
        return [*chosen, *companions]

    def _damaged(self, reader: TensorReader) -> dict[str, str]:
        if not self._produced.data:
            return {}
        return damaged_tensors(self._produced, reader, threads=self._threads, progress=self._progress)

    def _changed(self, origin: Origin | None, reader: TensorReader) -> dict[str, str]:
        """Tensors of the source that aren't what the file was made from, with their digests now."""
        recorded = self._produced.sources
        if origin is None or not recorded:
            return {}
        model = origin.resolution.model
        tensors = [tensor for tensor in model.tensors if tensor.name in recorded]
        found = hash_tensors(tensors, model.sources, reader, threads=self._threads, progress=self._progress)
        return {t.name: found[t.name] for t in tensors if found[t.name] != recorded[t.name]}

    def _remake(
        self, origin: Origin | None, reader: TensorReader, suspects: set[str], count: int | None
    ) -> tuple[tuple[str, ...], dict[str, Mismatch], int]:
        if origin is None:
            return (), {}, 0
        again = self._made_again(origin, suspects, count)
        mismatches, read = remake(
            self._produced,
            origin,
            again,
            self._registry,
            reader,
            threads=self._threads,
            progress=self._progress,
        )
        return tuple(a.tensor.name for a in again), mismatches, read

    def _payload(
        self, damaged: Mapping[str, str], mismatches: Mapping[str, Mismatch], reader: TensorReader
    ) -> Check:
        produced = self._produced
        if not produced.data:
            return Check.skipped("payload", "it records no hashes of its data")
        registry = self._registry
        findings = [
            damage(produced, registry, name, digest, mismatches.get(name), reader)
            for name, digest in damaged.items()
        ]
        if self._rewritten and len(findings) > 1:
            what = (
                f"the data of {len(findings)} of {len(produced.data)} tensors isn't what was written, e.g. of "
                f"{next(iter(damaged))}: another program has changed it since"
            )
            findings = [Finding(what=what, file=produced.path)]
        findings += gap_findings(produced, reader)
        nbytes = sum(shard.file_size - shard.data_start for shard in produced.shards)
        return Check.of("payload", f"{nbytes:,} bytes of data in {len(produced.data)} tensors", findings)

    def _source_checks(
        self,
        origin: Origin | None,
        changed: Mapping[str, str],
        damaged: Mapping[str, str],
        remade: tuple[str, ...],
        mismatches: Mapping[str, Mismatch],
    ) -> Iterator[Check]:
        if origin is None:
            yield Check.skipped("source", "without a recipe, how the source became the file isn't known")
            return
        if self._produced.sources:
            findings = [
                change(self._produced, self._registry, origin, name, digest, mismatches.get(name))
                for name, digest in changed.items()
            ]
            yield Check.of("source", f"the content of {len(self._produced.sources)} tensors", findings)
        else:
            yield Check.skipped("source", "it records no hashes of what it was made from")
        others = [
            difference(self._produced, self._registry, name, mismatch, "isn't what the source gives")
            for name, mismatch in mismatches.items()
            if name not in damaged and name not in changed
        ]
        if not remade and origin.unknown:
            why = f"all {len(origin.unknown)} tensors were made with {self._lacking(origin)}: give it"
            yield Check.skipped("bytes", why)
            return
        said = f"{len(remade)} of {len(self._produced.model.tensors)} tensors, quantized again"
        if origin.unknown:
            said += f"; {len(origin.unknown)} can't be without {self._lacking(origin)}"
        yield Check.of("bytes", said, others) if remade else Check.skipped("bytes", "no tensor was asked for")

    def _lacking(self, origin: Origin) -> str:
        """What tensors were made with that wasn't given."""
        used = self._produced.text(STATISTICS_DIGEST) is not None
        if used and origin.resolution.statistics is None:
            return "the statistics of inputs (--statistics)"
        return "the importance matrix (--imatrix)"

    def _hashed_bytes(self, origin: Origin | None) -> int:
        """How many bytes were read to hash them."""
        produced = self._produced
        read = sum(produced.extent(name).nbytes for name in produced.data)
        if origin is not None and produced.sources:
            read += sum(
                e.nbytes for source in origin.resolution.model.sources.values() for e in source.extents
            )
        return read
