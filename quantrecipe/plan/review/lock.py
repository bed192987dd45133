"""Lock: a plan frozen, so that a later run either does the same or says what is different.

A lock has what a plan depends on and what it comes to: the model's headers, recipe, importance, versions, and the type
of every tensor. It is compared with the lock of a plan made now; `lock_file` has the text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash

from quantrecipe import __version__
from quantrecipe.errors import ModelError, PlanError, Problem
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.layer_ranges import layer_ranges
from quantrecipe.model.model import Model
from quantrecipe.plan.plan import Plan
from quantrecipe.plan.review.sides import Fate, Side
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

__all__ = [
    "Lock",
    "LockedTensor",
    "compare_locks",
    "make_lock",
    "require_lock",
    "require_same_tensors",
    "side_of_lock",
]

_LONGEST_TEXT = 80
"""Characters of a value of metadata that a lock shows as it is; chat templates and vocabularies stand as hashes."""
_OWN = "quantrecipe"


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedTensor:
    """What a plan makes of one tensor; `source` is its type in the model, `wanted` the type that it fell back from."""

    shape: tuple[int, ...]
    source: str
    type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    wanted: str | None = None

    @property
    def label(self) -> str:
        """The type as messages show it, with its options and with the type that it stands for."""
        options = f" {json.dumps(dict(self.options), sort_keys=True)}" if self.options else ""
        return f"{self.type}{options}" + (f" instead of {self.wanted}" if self.wanted else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Lock:
    """A frozen plan: what it depends on, and what it comes to.

    recipe, recipe_digest: name, and digest of what the recipe means
    arch:        of the model
    headers:     XXH3-128 of the model's names, shapes, types and metadata
    metadata:    the model's metadata: numbers and short texts as they are, of all else a digest
    importance:  digest of the importance matrix, None without
    distributions: versions of quantrecipe and of the plugins that the plan's formats come from
    formats:     versions of the formats' encoders
    provenance:  whether the output records recipe and hashes
    nbytes:      of the output; it isn't compared, since reasons and comments are part of the files' headers
    files:       bytes of data and number of tensors of each file of the output
    plan_digest: Plan.digest
    tensors:     by name, in the order in which they are written
    """

    recipe: str
    recipe_digest: str
    arch: str
    headers: str
    metadata: Mapping[str, Any]
    importance: str | None
    importance_file: str | None
    distributions: Mapping[str, str]
    formats: Mapping[str, int]
    provenance: bool
    nbytes: int
    files: tuple[tuple[int, int], ...]
    bits_per_weight: float
    plan_digest: str
    tensors: Mapping[str, LockedTensor]


def make_lock(plan: Plan, registry: Registry) -> Lock:
    """The lock of a plan that was made with this registry."""
    used = sorted({a.type for a in plan.assignments if not a.copied})
    providers = [registry.provider(name) for name in used]
    versions = {provider.distribution: provider.version for provider in providers}
    importance = plan.importance
    return Lock(
        recipe=plan.recipe,
        recipe_digest=plan.recipe_digest,
        arch=plan.model.arch,
        headers=_headers_digest(plan.model),
        metadata={key: _readable(value) for key, value in sorted(plan.model.metadata.items())},
        importance=None if importance is None else importance.digest,
        importance_file=None if importance is None else importance.label,
        distributions={_OWN: __version__} | dict(sorted(versions.items())),
        formats={name: registry.formats[name].spec.version for name in used},
        provenance="quantrecipe.recipe" in plan.metadata,
        nbytes=plan.nbytes,
        files=tuple((file.nbytes - file.header, len(file.assignments)) for file in plan.files),
        bits_per_weight=round(plan.bits_per_weight, 4),
        plan_digest=plan.digest,
        tensors={
            a.tensor.name: LockedTensor(
                shape=a.tensor.shape,
                source=a.tensor.dtype,
                type=a.type,
                options=dict(a.format.options),
                wanted=a.wanted,
            )
            for a in plan.assignments
        },
    )


def require_lock(lock: Lock, plan: Plan, registry: Registry, *, file: str) -> None:
    """PlanError, with everything that differs, where the plan isn't the one that was locked."""
    differences = compare_locks(lock, make_lock(plan, registry))
    if differences:
        last = differences[-1]
        remedy = "undo the change, or accept it: `quantrecipe lock RECIPE MODEL -o FILE` writes the lock anew"
        problems = [Problem(what=what, file=file) for what in differences[:-1]]
        raise PlanError([*problems, Problem(what=last, remedy=remedy, file=file)])


def compare_locks(locked: Lock, now: Lock) -> list[str]:
    """Everything that differs between two locks, a sentence for each; empty where nothing does."""
    found = [
        f"{what}: locked {_said(before)}, now {_said(after)}"
        for what, before, after in (
            ("architecture", locked.arch, now.arch),
            ("importance matrix (digest)", locked.importance, now.importance),
            ("provenance recorded", locked.provenance, now.provenance),
        )
        if before != after
    ]
    found += _versions("version of", locked.distributions, now.distributions)
    found += _versions("encoder version of", locked.formats, now.formats)
    tensors = _tensors(locked.tensors, now.tensors)
    found += tensors
    metadata = _metadata(locked.metadata, now.metadata)
    found += metadata
    # Digests come last, and only where nothing above says what they would only hint at.
    if locked.headers != now.headers and not tensors and not metadata:
        found.append(f"model's headers (digest): locked {locked.headers}, now {now.headers}")
    if locked.recipe_digest != now.recipe_digest:
        same = "" if tensors else ", though every tensor gets the same type"
        found.append(
            f"what the recipe means (digest): locked {locked.recipe_digest}, now {now.recipe_digest}{same}"
        )
    if locked.files != now.files and not tensors:
        found.append(f"files of the output: locked {_files(locked)}, now {_files(now)}")
    if locked.plan_digest != now.plan_digest and not found:
        found.append(f"plan (digest): locked {locked.plan_digest}, now {now.plan_digest}")
    return found


def side_of_lock(label: str, lock: Lock, registry: Registry) -> Side:
    """A lock as one side of a comparison; it doesn't say which rules decided."""
    return Side(
        label=label,
        tensors={
            name: Fate(
                tensor=TensorInfo.from_name(name, locked.shape, locked.source),
                type=locked.type,
                nbytes=registry.format(locked.type).spec.tensor_bytes(locked.shape),
                options=locked.options,
                wanted=locked.wanted,
            )
            for name, locked in lock.tensors.items()
        },
        nbytes=lock.nbytes,
    )


def require_same_tensors(lock: Lock, model: Model, *, file: str) -> None:
    """ModelError where the lock is of another model, as far as names and shapes tell."""
    shapes = {tensor.name: tensor.shape for tensor in model.tensors}
    wrong = [name for name, locked in lock.tensors.items() if shapes.get(name, locked.shape) != locked.shape]
    if wrong or not shapes.keys() & lock.tensors.keys():
        what = (
            f"is the lock of another model: {wrong[0]} has another shape" if wrong else "is of another model"
        )
        raise ModelError(what, f"lock the recipe with {model.path}", file=file)


def _headers_digest(model: Model) -> str:
    digest = xxhash.xxh3_128(model.arch.encode())
    for tensor in sorted(model.tensors, key=lambda tensor: tensor.name):
        digest.update(json.dumps([tensor.name, tensor.shape, tensor.dtype]).encode())
    for key, value in sorted(model.metadata.items()):
        digest.update(json.dumps([key, int(value.type), len(value.payload)]).encode() + value.payload)
    return digest.hexdigest()


def _readable(value: GGUFValue) -> Any:
    """A value of metadata as locks show it: a number, a short text, or a digest of what is too long to read."""
    if value.type is not ValueType.ARRAY:
        decoded = value.decode()
        if isinstance(decoded, float):  # the shortest text that is this number in its own width
            return str(np.float32(decoded)) if value.type is ValueType.FLOAT32 else repr(decoded)
        if not isinstance(decoded, str) or (len(decoded) <= _LONGEST_TEXT and decoded.isprintable()):
            return decoded
    return f"xxh3:{xxhash.xxh3_64_hexdigest(bytes([value.type]) + value.payload)}"


def _versions(what: str, locked: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{what} {name}: locked {_said(locked.get(name))}, now {_said(now.get(name))}"
        for name in sorted({*locked, *now})
        if name in locked and name in now and locked[name] != now[name]
    ]


def _metadata(locked: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"the model's {key}: locked {_said(locked.get(key))}, now {_said(now.get(key))}"
        for key in sorted({*locked, *now})
        if locked.get(key) != now.get(key)
    ]


def _tensors(locked: Mapping[str, LockedTensor], now: Mapping[str, LockedTensor]) -> list[str]:
    """One line for the tensors of a role that differ in the same way."""
    lines: dict[tuple[str, str], list[TensorInfo]] = {}
    for name in dict.fromkeys([*locked, *now]):
        tensor = TensorInfo.from_name(name, (), "")
        for what in _differences(locked.get(name), now.get(name)):
            lines.setdefault((tensor.role, what), []).append(tensor)
    return [f"{_names(tensors)}: {what}" for (_, what), tensors in lines.items()]


def _differences(locked: LockedTensor | None, now: LockedTensor | None) -> list[str]:
    if locked is None:
        return ["not in the lock"]
    if now is None:
        return ["in the lock, but not in the plan"]
    pairs = (
        ("shape", locked.shape, now.shape),
        ("type in the model", locked.source, now.source),
        ("type", locked.label, now.label),
    )
    return [
        f"{what} locked {_said(before)}, now {_said(after)}"
        for what, before, after in pairs
        if before != after
    ]


def _names(tensors: Iterable[TensorInfo]) -> str:
    """ "blk.{0-3, 7}.attn_v.weight"."""
    tensors = list(tensors)
    if len(tensors) == 1:
        return tensors[0].name
    first = tensors[0]
    layers = layer_ranges(t.layer for t in tensors if t.layer is not None)
    return first.name.replace(f"blk.{first.layer}.", f"blk.{{{layers}}}.", 1)


def _files(lock: Lock) -> str:
    return ", ".join(f"{nbytes:,} bytes of data with {tensors} tensors" for nbytes, tensors in lock.files)


def _said(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, tuple):
        return "×".join(map(str, value)) or "scalar"
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
