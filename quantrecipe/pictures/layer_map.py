"""The map of a model: its layers down, its roles across, so that one sees what each layer's tensors become.

A model has one stack of layers, or several: an encoder and a decoder, a tower that sees. Columns are roles; numbers
in them, such as those of experts that are tensors of their own, are folded, and a field then stands for all of them.
Vectors, and small matrices that stay floats everywhere, share one column: no recipe is about them. What is in no layer
stands apart. Every tensor is in one field, so what fields say adds up to the model.

The map is a value: `cli/pictures/map_table.py` makes a table of it, and the studio's page another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from quantrecipe.plan.assign import FLOATS
from quantrecipe.plan.review.sides import Fate
from quantrecipe.tensor import TensorInfo

__all__ = ["REST", "Field", "LayerMap", "Stack", "folded_role", "layer_map"]

REST = "all else"
"""The column of vectors and of small matrices that stay floats."""

_IN_STACK = re.compile(r"((?:[\w-]+\.)*(?:[\w-]*(?:blk|block|blocks|layer|layers|h)))\.([0-9]{1,9})\.(.+)")
_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")
_SMALL = 0.005
"""Share of the model's weights below which a role that stays a float everywhere gets no column of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """Layers that follow each other.

    name:   "" for the model's own; "v.blk", "enc.blk"
    layers: their numbers, ascending
    roles:  the columns
    fields: by layer and role, the names of the tensors that are there
    """

    name: str
    layers: tuple[int, ...]
    roles: tuple[str, ...]
    fields: Mapping[tuple[int, str], tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerMap:
    """All stacks, and by role the names of the tensors that are in none."""

    stacks: tuple[Stack, ...]
    outside: Mapping[str, tuple[str, ...]]


Field = Sequence[str]
"""Names of the tensors of one field."""


def layer_map(fates: Iterable[Fate]) -> LayerMap:
    """The map of a plan's, a file's or two sides' tensors (`plan.review.sides`); of one that is there twice, the first.

    Roles come in the order of their first tensors.
    """
    by_name: dict[str, list[Fate]] = {}
    for fate in fates:
        by_name.setdefault(fate.tensor.name, []).append(fate)
    places = {name: _place(its[0].tensor) for name, its in by_name.items()}
    rest = _rest(by_name, places)
    stacks: dict[str, dict[tuple[int, str], list[str]]] = {}
    outside: dict[str, list[str]] = {}
    for name, (stack, layer, role) in places.items():
        if layer is None:
            outside.setdefault(role, []).append(name)
        else:
            column = REST if (stack, role) in rest else role
            stacks.setdefault(stack, {}).setdefault((layer, column), []).append(name)
    return LayerMap(
        stacks=tuple(
            _stack(name, fields) for name, fields in sorted(stacks.items(), key=lambda it: it[0] != "")
        ),
        outside={role: tuple(names) for role, names in outside.items()},
    )


def _place(tensor: TensorInfo) -> tuple[str, int | None, str]:
    """The stack, the layer and the column of a tensor; "" is the model's own stack."""
    if tensor.layer is not None:
        return "", tensor.layer, _NUMBER.sub("*", tensor.role)
    if (match := _IN_STACK.fullmatch(tensor.name)) is None:
        return "", None, _NUMBER.sub("*", tensor.role)
    return match[1], int(match[2]), _NUMBER.sub("*", match[3].removesuffix(".weight"))


def folded_role(tensor: TensorInfo) -> str:
    """The column of a tensor, with the name of its stack where that isn't the model's own: "v.blk.*.attn_q"."""
    stack, layer, role = _place(tensor)
    return f"{stack}.*.{role}" if stack and layer is not None else role


def _rest(
    by_name: Mapping[str, Sequence[Fate]], places: Mapping[str, tuple[str, int | None, str]]
) -> set[tuple[str, str]]:
    """The roles that share one column: of vectors alone, or small and floats on every side."""
    roles: dict[tuple[str, str], list[Fate]] = {}
    for name, (stack, _, role) in places.items():
        roles.setdefault((stack, role), []).extend(by_name[name])
    total = sum(its[0].tensor.size for its in by_name.values())
    return {
        key
        for key, its in roles.items()
        if all(len(it.tensor.shape) < 2 for it in its)
        or (all(it.type in FLOATS for it in its) and sum(it.tensor.size for it in its) < _SMALL * total)
    }


def _stack(name: str, fields: Mapping[tuple[int, str], list[str]]) -> Stack:
    roles = list(dict.fromkeys(role for _, role in sorted(fields, key=lambda it: it[0])))
    roles.sort(key=lambda role: role == REST)
    return Stack(
        name=name,
        layers=tuple(sorted({layer for layer, _ in fields})),
        roles=tuple(roles),
        fields={key: tuple(names) for key, names in fields.items()},
    )
