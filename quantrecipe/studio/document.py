"""What the page shows of a plan: numbers, types, groups, the map, and what changed against a base. Plain data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantrecipe.fit.reasons import reason, reason_text
from quantrecipe.fit.stock import estimated_loss
from quantrecipe.layer_ranges import layer_ranges
from quantrecipe.memory.device import Settings
from quantrecipe.memory.footprint import Room, Runs
from quantrecipe.pictures.layer_map import LayerMap, folded_role, layer_map
from quantrecipe.pictures.shades import shade_class, type_shade
from quantrecipe.plain_data import significant
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.plan.review.sides import fates_of
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.speed.here import pace_here
from quantrecipe.studio.moves import Goal, Moved
from quantrecipe.studio.opened import UNKNOWN, Base, Opened, Stored, tensors_of

__all__ = ["Shown", "model_document", "plan_document"]

_MOST_NAMED = 2
"""Types of one field that are named; of more it says how many there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A plan that is to be shown, and what it is shown beside.

    recipe: the recipe of the text, None while the slider moves
    goal:   how the model is run, and the memory that there is
    moved:  of the slider's mix, what became of the goal
    """

    plan: Plan
    recipe: Recipe | None = None
    goal: Goal | None = None
    moved: Moved | None = None
    base: Base | None = None


def model_document(opened: Opened) -> dict[str, Any]:
    """What the page has to know of a model."""
    model, smallest, best = opened.model, opened.smallest, opened.best
    roles: dict[str, list[int]] = {}
    for tensor in model.tensors:
        roles.setdefault(folded_role(tensor), []).append(tensor.size)
    memory = [_memory(opened, plan, None)["total"] for plan in (smallest, best)]
    return {
        "name": str(model.path),
        "architecture": model.arch,
        "tensors": len(model.tensors),
        "parameters": sum(tensor.size for tensor in model.tensors),
        "bytes": sum(source.nbytes for source in model.sources.values()) or _stored(opened),
        "layers": model.n_layers,
        "roles": [
            {"name": name, "tensors": len(sizes), "parameters": sum(sizes)} for name, sizes in roles.items()
        ],
        "range": {
            "bytes": [smallest.nbytes + opened.room, best.nbytes + opened.room],
            "bits": [smallest.bits_per_weight, best.bits_per_weight],
            "vram": memory,
        },
        "stock": [
            {"name": mix.name, "bytes": mix.plan.nbytes, "bits": mix.bits_per_weight}
            for mix in opened.presets
        ],
        "knows": {
            "loss": "prior" if opened.sensitivity is None else "measured",
            "speed": "measured" if opened.speeds else None,
        },
        "notes": list(opened.notes),
    }


def _stored(opened: Opened) -> int:
    """Bytes that the tensors of a shape file would have."""
    formats = opened.knows.registry.formats
    return sum(
        formats[tensor.dtype].spec.tensor_bytes(tensor.shape)
        for tensor in opened.model.tensors
        if tensor.dtype in formats
    )


def plan_document(opened: Opened, shown: Shown) -> dict[str, Any]:
    """PLAN: what the page shows of a plan."""
    plan, base, moved = shown.plan, shown.base, shown.moved
    rival = None if moved is None else moved.rival
    now = tensors_of(plan)
    before = {} if base is None else base.tensors
    loss = estimated_loss(plan, opened.losses)
    layers = layer_map(fates_of(plan).values())
    first, *more = _maps(layers, now, before)
    return {
        "bytes": plan.nbytes,
        "bits": plan.bits_per_weight,
        "loss": {
            "value": significant(loss),
            "kind": "prior" if opened.sensitivity is None else "measured",
            "base": None if base is None else significant(base.loss),
        },
        "speed": _speed(opened, plan, base),
        "memory": _memory(opened, plan, shown.goal),
        "limit": (moved.limit or None) if moved is not None else None,
        "rival": None
        if rival is None
        else {"name": rival.name, "bytes": rival.plan.nbytes, "loss": significant(rival.loss)},
        "types": _types(now.values()),
        "groups": _groups(opened, shown, now, before),
        "map": first,
        "more": more,
        "outside": [
            {"role": role, **_cell(names, now, before, role)} for role, names in layers.outside.items()
        ],
        "changes": None if base is None else _changes(plan, base, loss, now),
        "warnings": list(plan.warnings),
    }


def _speed(opened: Opened, plan: Plan, base: Base | None) -> dict[str, Any] | None:
    if not opened.speeds or (speed := _tokens(opened, plan)) is None:
        return None
    beside = None if base is None else _tokens(opened, base.plan)
    return {"tokens_per_second": speed, "kind": "measured", "base": beside}


def _tokens(opened: Opened, plan: Plan) -> float | None:
    """Tokens per second of an answer; None where a type wasn't measured."""
    mix = [(a.tensor, a.nbytes, a.type) for a in plan.assignments]
    pace = pace_here(plan.model, mix, opened.speeds)
    return None if pace is None or pace.token is None else significant(pace.token, 4)


def _memory(opened: Opened, plan: Plan, goal: Goal | None) -> dict[str, Any]:
    """What the GPU holds, where all layers are on it."""
    asked = goal is not None and goal.kind == "vram"
    there = int(goal.value) if goal is not None and asked else UNKNOWN
    settings = Settings() if goal is None else goal.settings
    runs = opened.runs if plan.model is opened.model else Runs(plan.model, opened.runs.room)
    tensors = [(a.tensor, a.nbytes) for a in plan.assignments]
    found = runs.elsewhere(Room(gpu=there, ram=UNKNOWN)).footprint(tensors, settings)
    return {
        "total": found.gpu.total,
        "weights": found.gpu.weights,
        "cache": found.gpu.cache,
        "compute": found.gpu.compute + found.gpu.copies,
        "fits": found.gpu_left >= 0 if asked else None,
        "context": settings.context,
        "kv": settings.kv.upper(),
    }


def _types(tensors: Iterable[Stored]) -> list[dict[str, Any]]:
    """What each type takes, the one with most bytes first."""
    by_type: dict[str, list[Stored]] = {}
    for it in tensors:
        by_type.setdefault(it.type, []).append(it)
    found = [
        {
            "type": name,
            "bits": (bits := _bits(members)),
            "bytes": sum(it.nbytes for it in members),
            "tensors": len(members),
            "shade": _shade(bits),
        }
        for name, members in by_type.items()
    ]
    return sorted(found, key=lambda it: (-it["bytes"], it["type"]))


def _groups(
    opened: Opened, shown: Shown, now: Mapping[str, Stored], before: Mapping[str, Stored]
) -> list[dict[str, Any]]:
    """Tensors of one role with one type that one rule decided, in the order of the roles' first tensors."""
    groups: dict[tuple[str, str, int | None], list[Assignment]] = {}
    order: dict[str, int] = {}
    for a in shown.plan.assignments:
        role = now[a.tensor.name].role
        order.setdefault(role, len(order))
        groups.setdefault((role, a.type, _line_of(a, shown.recipe)), []).append(a)
    found = []
    for (role, type_, line), members in groups.items():
        layers = layer_ranges(a.tensor.layer for a in members if a.tensor.layer is not None)
        stored = [now[a.tensor.name] for a in members]
        document = {
            "name": f"{role} {layers}".strip(),
            "role": role,
            "layers": layers,
            "type": type_,
            "bytes": sum(it.nbytes for it in stored),
            "bits": _bits(stored),
            "tensors": len(members),
            "line": line,
            "why": _why(opened, members, told=shown.recipe is not None),
            "base_type": _type_text([a.tensor.name for a in members], before),
        }
        found.append((order[role], members[0].tensor.layer or 0, document))
    return [document for *_, document in sorted(found, key=lambda it: it[:2])]


def _why(opened: Opened, members: Sequence[Assignment], *, told: bool) -> str:
    """Why tensors have their type: the rule's reason, the fallback's, what decided where that is no rule, or what other
    types would change. told: False leaves the last one out, which takes time
    """
    first = members[0]
    if first.wanted is not None:
        return f"{first.wanted} isn't possible here: {first.misfit}"
    if first.why:
        return first.why
    if first.tensor.name not in opened.open_.open_to:
        return "" if re.search(r":\d", first.because) else first.because
    if not told or first.copied or not first.format.spec.codec:
        return ""
    return reason_text(reason(members, opened.types, opened.losses, opened.knows.registry))


def _line_of(a: Assignment, recipe: Recipe | None) -> int | None:
    """The line of the text that decided a tensor; None where another file did, or nothing."""
    if recipe is None or not a.because.startswith(f"{recipe.file}:"):
        return None
    match = re.match(r"\d+", a.because[len(recipe.file) + 1 :])
    return None if match is None else int(match[0])


def _maps(layers: LayerMap, now: Mapping[str, Stored], before: Mapping[str, Stored]) -> list[dict[str, Any]]:
    """Layers down and roles across, for each stack of layers; at least one, which may be empty."""
    maps = [
        {
            "name": stack.name,
            "columns": list(stack.roles),
            "rows": [
                {
                    "layer": layer,
                    "cells": [
                        _cell(names, now, before, f"layer {layer}, {role}")
                        if (names := stack.fields.get((layer, role)))
                        else None
                        for role in stack.roles
                    ],
                }
                for layer in stack.layers
            ],
        }
        for stack in layers.stacks
    ]
    return maps or [{"name": "", "columns": [], "rows": []}]


def _cell(
    names: Sequence[str], now: Mapping[str, Stored], before: Mapping[str, Stored], where: str
) -> dict[str, Any]:
    members = [now[name] for name in names]
    bits, type_ = _bits(members), _type_text(names, now)
    base = _type_text(names, before)
    was = f", {base} in the base" if base is not None and base != type_ else ""
    return {
        "type": type_,
        "bits": bits,
        "shade": _shade(bits),
        "label": f"{where}: {type_}, {bits:.2f} bits per weight{was}",
        "base_type": base,
        "base_bits": _bits([before[name] for name in names if name in before]) if base else None,
        "bytes": sum(it.nbytes for it in members),
        "tensors": len(members),
    }


def _changes(plan: Plan, base: Base, loss: float, now: Mapping[str, Stored]) -> dict[str, Any]:
    """What differs from the base."""
    before = base.tensors
    changed = [
        (it.role, before[name].label if name in before else "", it.label)
        for name, it in now.items()
        if name not in before or before[name].label != it.label
    ]
    changed += [(it.role, it.label, "") for name, it in before.items() if name not in now]
    return {
        "tensors": len(changed),
        "groups": len(set(changed)),
        "bytes": plan.nbytes - base.plan.nbytes,
        "bits": plan.bits_per_weight - base.plan.bits_per_weight,
        "loss": significant(loss / base.loss) if base.loss > 0 else None,
    }


def _type_text(names: Sequence[str], tensors: Mapping[str, Stored]) -> str | None:
    """The types of some tensors, the one of most weights first; None where none of them is there."""
    if len(names) == 1:
        return tensors[names[0]].label if names[0] in tensors else None
    weights: dict[str, int] = {}
    for name in names:
        if (it := tensors.get(name)) is not None:
            weights[it.label] = weights.get(it.label, 0) + it.size
    if not weights:
        return None
    labels = sorted(weights, key=lambda label: (-weights[label], label))
    return ", ".join(labels) if len(labels) <= _MOST_NAMED else f"{len(labels)} types"


def _bits(members: Sequence[Stored]) -> float:
    weights = sum(it.size for it in members)
    return 8 * sum(it.nbytes for it in members) / weights if weights else 0.0


def _shade(bits: float) -> str:
    return shade_class("bits", type_shade(bits))
