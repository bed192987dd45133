"""The files of a release: planned, and made in one pass over the model, but for those that are there already.

A projector and a draft head are models of their own, so each takes a pass over its tensors.

What is about to be made is noted before, so that a run that was killed, even between a file's last byte and its hash,
goes on: what has its name by then, and is no older file, is whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from quantrecipe.cli.apply_progress import apply_progress, keep_asked
from quantrecipe.cli.errors import print_warning
from quantrecipe.cli.planned.inputs import PlanInputs
from quantrecipe.cli.planned.plan_table import render_shared_warnings, render_warnings
from quantrecipe.cli.progress import HashBar
from quantrecipe.cli.release.fitting import fitted_recipe, imatrix_of
from quantrecipe.cli.release.job import Item, Job, Made, MatrixMade, Wanted
from quantrecipe.cli.release.wording import at_line, in_file_words
from quantrecipe.errors import OutputError, Problem, QuantrecipeError, RecipeError
from quantrecipe.gguf.write_header import encode_header
from quantrecipe.output.apply import apply_plans, output_paths
from quantrecipe.plan.layout import SplitLimits, entries
from quantrecipe.plan.plan import Plan
from quantrecipe.release.record import key_of, state_of
from quantrecipe.sha256sums import hash_file
from quantrecipe.wording import some_of

__all__ = ["made_files", "planned_items", "step_of"]

_SHOWN = 3
"""Files that a warning names."""


def planned_items(job: Job, wanted: Sequence[Wanted], matrix: MatrixMade | None) -> list[Item]:
    """A plan for each file. RecipeError, with the line of the release, for all that can't be planned."""
    problems: list[Problem] = []
    items: list[Item] = []
    for it in wanted:
        try:
            items.append(_planned(job, it, matrix))
        except QuantrecipeError as error:
            problems += at_line(error, job.release, it.wish.line)
    if problems:
        raise RecipeError(problems)
    return items


def _planned(job: Job, it: Wanted, matrix: MatrixMade | None) -> Item:
    recipe = it.recipe or fitted_recipe(job, it, matrix)
    inputs = PlanInputs(
        registry=job.registry,
        imatrix=imatrix_of(job, it, matrix),
        sensitivity=job.release.sensitivity,
        statistics=job.release.statistics,
        allow_requantize=job.allow_requantize,
    )
    most = it.wish.split or job.release.split
    split = None if most is None or it.part != "model" else SplitLimits(max_bytes=most)
    plan = inputs.plan(recipe, job.parts.get(it.part, job.model), split)
    plan = replace(plan, warnings=tuple(map(in_file_words, plan.warnings)))
    return Item(wish=it.wish, label=it.label, name=it.name, part=it.part, recipe=recipe, plan=plan)


def step_of(item: Item | Wanted) -> str:
    """The step of the record that makes a file."""
    return f"file:{item.name}"


def made_files(job: Job, items: Sequence[Item]) -> dict[str, Made]:
    """Make what isn't there: by the item's name, its files with their hashes.

    OutputError, before anything is made, where something else has the name of one.
    """
    paths = {it.name: output_paths(job.folder / f"{it.name}.gguf", len(it.plan.files)) for it in items}
    keys = {it.name: _key(job, it) for it in items}
    missing = [it for it in items if not _is_made(job, it, keys[it.name], paths[it.name])]
    _require_free(job, missing, paths)
    for it in items:
        if it not in missing:
            job.say(f"{it.name}.gguf is there")
    if missing:
        plans = [it.plan for it in missing]
        if any(plan.warnings for plan in plans):
            job.ctx.err.print(render_warnings(plans[0]) if len(plans) == 1 else render_shared_warnings(plans))
        job.say(f"making {len(missing)} of {len(items)} files, in one pass over the model")
        for it in missing:
            before = [_state(path) for path in paths[it.name]]
            job.record.put(step_of(it), keys[it.name], {"before": before})
        checked: dict[
            Path, bool
        ] = {}  # as the last pass over them found it: what one leaves, another may read
        for _, those in groupby(missing, lambda it: it.part):
            checked |= _make(job, list(those))
        if unchecked := [path.name for path, right in checked.items() if not right]:
            named = some_of(unchecked, _SHOWN)
            what = f"{named}: not held against the hub's hash, since only a part of it was read"
            print_warning(job.ctx.err, what)
    return {it.name: _hashed(job, it, keys[it.name], paths[it.name]) for it in items}


def _make(job: Job, items: Sequence[Item]) -> dict[Path, bool]:
    """Make files of one part of the model. By the model's files, False for those on the hub that were read in part."""
    with apply_progress(job.ctx.err) as progress:
        results = apply_plans(
            [(it.plan, job.folder / f"{it.name}.gguf") for it in items],
            registry=job.registry,
            threads=job.threads,
            force=True,
            progress=progress,
            resume=True,
            keep=keep_asked(job.ctx.err, progress, keep_part=True),
        )
    return {path: path not in results[0].unchecked for path in items[0].plan.model.files}


def _key(job: Job, item: Item) -> str:
    """What the file's bytes depend on: its header as it is planned, the encodings, and the model's weights."""
    return key_of(
        model=job.model_key,
        plan=item.plan.digest,
        headers=[_header_hash(item.plan, n) for n in range(len(item.plan.files))],
    )


def _header_hash(plan: Plan, number: int) -> str:
    file = plan.files[number]
    header = encode_header(file.metadata, entries(file.assignments, header=file.header), plan.alignment)
    return hashlib.sha256(header).hexdigest()


def _is_made(job: Job, item: Item, key: str, paths: Sequence[Path]) -> bool:
    done = job.record.result(step_of(item), key)
    if done is None:
        return False
    now = [_state(path) for path in paths]
    if "sums" in done:
        return bool(now == done["states"])
    sizes = [file.nbytes for file in item.plan.files]
    return all(
        state is not None and state != before and state[0] == size
        for state, before, size in zip(now, done["before"], sizes, strict=True)
    )


def _require_free(job: Job, missing: Sequence[Item], paths: dict[str, list[Path]]) -> None:
    if job.force:
        return
    foreign = [
        path
        for it in missing
        if not job.record.knows(step_of(it))
        for path in paths[it.name]
        if path.exists() or path.is_symlink()
    ]
    if foreign:
        remedy = "move it away, give the file another `name`, or say --force"
        raise OutputError(
            [Problem(what=f"{it} exists, and isn't of this release", remedy=remedy) for it in foreign]
        )


def _hashed(job: Job, item: Item, key: str, paths: Sequence[Path]) -> Made:
    done: dict[str, Any] | None = job.record.result(step_of(item), key)
    if done is not None and "sums" in done:
        return Made(sums=done["sums"])
    job.say(f"hashing {item.name}.gguf")
    with HashBar(job.ctx.err) as bar:
        bar.start(item.plan.nbytes)
        sums = {path.name: hash_file(path, bar.read) for path in paths}
    job.record.put(step_of(item), key, {"sums": sums, "states": [_state(path) for path in paths]})
    return Made(sums=sums)


def _state(path: Path) -> list[int] | None:
    found = state_of(path)
    return None if found is None else [found.nbytes, found.mtime_ns]
