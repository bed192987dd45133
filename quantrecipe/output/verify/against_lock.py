"""A finished file is held against the lock of a plan."""

from __future__ import annotations

from collections.abc import Iterator

from quantrecipe.output.verify.produced import Produced
from quantrecipe.output.verify.verification import Check, Finding
from quantrecipe.plan.metadata import IMPORTANCE_DIGEST, PLAN_DIGEST, RECIPE_DIGEST, VERSION
from quantrecipe.plan.review.lock import Lock

__all__ = ["check_lock"]


def check_lock(produced: Produced, lock: Lock) -> Check:
    """The check whether the file is what the locked plan makes."""
    return Check.of("lock", f"{len(lock.tensors)} tensors, digests and versions", _findings(produced, lock))


def _findings(produced: Produced, lock: Lock) -> Iterator[Finding]:
    tensors = {tensor.name: tensor for tensor in produced.model.tensors}
    for name, locked in lock.tensors.items():
        if name not in tensors:
            yield Finding(what=f"the file doesn't have it (locked: {locked.label})", tensor=name)
            continue
        found = tensors[name]
        if found.dtype != locked.type:
            yield Finding(what=f"is {found.dtype} (locked: {locked.label})", tensor=name)
        if found.shape != locked.shape:
            yield Finding(what=f"has the shape {found.shape} (locked: {locked.shape})", tensor=name)
    for name in sorted(tensors.keys() - lock.tensors.keys()):
        yield Finding(what="the lock doesn't have it", tensor=name)
    pairs = (
        (RECIPE_DIGEST, "digest of the recipe", lock.recipe_digest),
        (PLAN_DIGEST, "digest of the plan", lock.plan_digest),
        (IMPORTANCE_DIGEST, "digest of the importance matrix", lock.importance),
        (VERSION, "version of quantrecipe", lock.distributions.get("quantrecipe")),
    )
    for key, what, locked_value in pairs if lock.provenance else ():
        said = produced.text(key)
        if said != locked_value:
            words = f"the {what} is {said or 'not there'} (locked: {locked_value or 'none'})"
            yield Finding(what=words, file=produced.path)
    sizes = tuple((shard.file_size - shard.data_start, len(shard.tensors)) for shard in produced.shards)
    if sizes != lock.files:
        found_sizes = ", ".join(f"{nbytes:,} bytes of data with {count} tensors" for nbytes, count in sizes)
        locked_sizes = ", ".join(
            f"{nbytes:,} bytes of data with {count} tensors" for nbytes, count in lock.files
        )
        yield Finding(what=f"the files have {found_sizes} (locked: {locked_sizes})", file=produced.path)
